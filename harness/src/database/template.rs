//! Data directories are initialised once an engine, with their accounts, and copied for each run.
//!
//! They are made with the binary log off, so that a copy's history starts empty.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Engine;
use crate::{paths, report, shell, tools};

/// Changed when the way templates are made changes.
const RECIPE: &str = "1";

fn accounts(engine: Engine) -> &'static str {
    match engine {
        Engine::MariaDb => include_str!("../../sql/mariadb.sql"),
        Engine::MySql => include_str!("../../sql/mysql.sql"),
    }
}

/// Copies an engine's template to `data`, which must not exist.
pub(super) fn copy(engine: Engine, data: &Path) -> Result<()> {
    let template = template(engine)?;
    let mut copy = shell::command("cp", ["-a", "--reflink=auto", "--sparse=always"]);
    shell::run(copy.arg(template.join("data")).arg(data))
}

/// The template's directory; made now if there is none that fits.
fn template(engine: Engine) -> Result<PathBuf> {
    let home = paths::tools().join("templates").join(engine.name());
    let version = match engine {
        Engine::MariaDb => shell::text(&mut shell::command("mariadbd", ["--version"]))?,
        Engine::MySql => {
            let root = tools::mysql_root();
            shell::text(shell::command("chroot", [root.as_path()]).args(["mysqld", "--version"]))?
        }
    };
    let made_from = format!("{RECIPE}\n{version}\n{}", accounts(engine));
    let stamp = home.join("made-from");
    fs::create_dir_all(home.parent().unwrap_or(&home))?;
    // Two servers of one engine start at the same time, and two worlds may.
    let lock = fs::File::create(home.with_extension("lock"))?;
    lock.lock()?;
    if fs::read_to_string(&stamp).is_ok_and(|content| content == made_from) {
        return Ok(home);
    }
    report::step(
        &format!("{} data directory with its accounts", engine.name()),
        || {
            drop(fs::remove_dir_all(&home));
            fs::create_dir_all(&home)?;
            fs::write(home.join("accounts.sql"), accounts(engine))?;
            let log = paths::tools()
                .join("logs")
                .join(format!("template-{}.log", engine.name()));
            // In namespaces of its own, so that no server and no mount stays behind.
            let mut make = shell::command(
                "unshare",
                [
                    "--net",
                    "--pid",
                    "--mount",
                    "--fork",
                    "--kill-child",
                    "--mount-proc",
                ],
            );
            make.args(["sh", "-eu", "-c", SCRIPT, engine.name()])
                .arg(&home)
                .arg(tools::mysql_root());
            shell::run_logged(&mut make, &log)
        },
    )?;
    fs::write(&stamp, made_from)?;
    Ok(home)
}

/// Arguments: $0 the engine, $1 the template's directory, $2 the root directory of MySQL.
const SCRIPT: &str = r#"
ip link set lo up
if [ "$0" = mysql ]; then
    mount --bind "$1" "$2/world"
    home=/world run="chroot $2" server=mysqld client=mysql admin=mysqladmin
    options="--mysqlx=OFF --secure-file-priv=NULL --innodb-redo-log-capacity=32M"
    $run mysqld --no-defaults $options --initialize-insecure --user=root --datadir=/world/data
else
    home=$1 run= server=mariadbd client=mariadb admin=mariadb-admin
    options="--innodb-log-file-size=32M"
    mariadb-install-db --no-defaults --user=root --datadir="$1/data" --skip-test-db \
        --auth-root-authentication-method=normal
fi
$run $server --no-defaults $options --user=root --datadir="$home/data" --skip-networking \
    --socket="$home/sock" --pid-file="$home/pid" --skip-log-bin &
server_pid=$!
tries=0
until $run $admin --no-defaults -u root --socket="$home/sock" ping; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || exit 1
    kill -0 $server_pid || exit 1
    sleep 0.1
done
$run $client --no-defaults -u root --socket="$home/sock" < "$1/accounts.sql"
$run $admin --no-defaults -u root --socket="$home/sock" shutdown
wait $server_pid
# Each copy makes an identity of its own.
rm -f "$1/data/auto.cnf"
"#;
