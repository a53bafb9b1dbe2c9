//! Fences that something stands in the way of. What holds the lock is another session; then the
//! primary's IDC is isolated, or its arbiter loses etcd, so that it has to fence.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use harness::{Account, Engine, shell};

use super::Scene;
use crate::parts::{ARBITER_ACCOUNT, ETCD_PORT};

/// An account of the people who run the servers: backups, schema changes. It does not pass
/// `read_only` by.
const OPERATIONS: &str = "operations";

/// Creates the account on every server.
fn create_account(scene: &Scene<'_>) -> Result<()> {
    for idc in scene.rig.data() {
        let database = scene.rig.database(idc)?;
        let grants = match database.engine {
            Engine::MySql => "BACKUP_ADMIN, RELOAD, PROCESS, SESSION_VARIABLES_ADMIN",
            Engine::MariaDb => "RELOAD, PROCESS, BINLOG ADMIN",
        };
        database.root(&format!(
            "SET sql_log_bin = 0; \
             CREATE USER IF NOT EXISTS '{OPERATIONS}'@'%' IDENTIFIED BY '{OPERATIONS}'; \
             GRANT {grants} ON *.* TO '{OPERATIONS}'@'%'; \
             GRANT ALL ON orders.* TO '{OPERATIONS}'@'%'"
        ))?;
    }
    Ok(())
}

/// A session that stays open with what it has locked. Ends when dropped.
struct Holder {
    child: Child,
    input: ChildStdin,
}

impl Holder {
    /// Opens a session and sends it statements.
    fn start(scene: &Scene<'_>, sql: &str) -> Result<Self> {
        let mut client = scene.rig.database(&scene.primary)?.client(Account::App);
        // The last of two counts.
        client.arg(format!("--user={OPERATIONS}"));
        client
            .env("MYSQL_PWD", OPERATIONS)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = client.spawn().context("cannot start the mariadb client")?;
        let Some(input) = child.stdin.take() else {
            bail!("the mariadb client has no standard input");
        };
        let mut holder = Self { child, input };
        holder.input.write_all(format!("{sql};\n").as_bytes())?;
        Ok(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Both fail only for a process that is gone: a fence may have cut it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the server shows what was to be there first.
fn shown(scene: &Scene<'_>, what: &str, sql: &str) -> Result<()> {
    let database = scene.rig.database(&scene.primary)?;
    shell::poll(what, Duration::from_secs(10), || {
        let count = database.value(Account::Root, sql)?;
        anyhow::ensure!(count != "0", "not yet");
        Ok(())
    })
}

/// Something that makes the primary's arbiter fence; then it is mended.
async fn fence(scene: &mut Scene<'_>) -> Result<()> {
    let (primary, world) = (scene.primary.clone(), &scene.rig.world);
    // With failsafe a lost etcd alone makes nobody fence.
    let isolated = scene.random.coin() || scene.failsafe;
    scene.begin();
    if isolated {
        scene.note("by isolation");
        world.isolate(&primary)?;
    } else {
        scene.note("by a lost etcd");
        world.cut_account(&primary, ARBITER_ACCOUNT, ETCD_PORT)?;
    }
    scene.must_be_taken_over().await?;
    scene.hold(200, 2_000).await;
    world.heal_all()?;
    world.heal_accounts()
}

pub async fn lock_tables(scene: &mut Scene<'_>) -> Result<()> {
    // A table of its own, so that others go on writing while it is locked.
    let locked = spare_table(scene, 10)?;
    let sql = format!("LOCK TABLES orders.{locked} WRITE; SELECT SLEEP(60)");
    let _holder = Holder::start(scene, &sql)?;
    shown(scene, "LOCK TABLES is held", SLEEPING)?;
    fence(scene).await
}

pub async fn alter(scene: &mut Scene<'_>) -> Result<()> {
    let copied = spare_table(scene, 150_000)?;
    // One after the other, so that the fence meets one whenever it comes. Not in the binlog: it is
    // the lock that is tried here, not the link.
    let alters = format!("ALTER TABLE orders.{copied} FORCE, ALGORITHM=COPY;").repeat(100);
    let sql = format!("SET sql_log_bin = 0; {alters} SELECT 1");
    let _holder = Holder::start(scene, &sql)?;
    let altering = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'ALTER%'";
    shown(scene, "the ALTER runs", altering)?;
    fence(scene).await
}

/// A statement that has changed so much by the time of the fence that taking it back takes seconds.
/// `read_only` waits for that.
pub async fn rollback(scene: &mut Scene<'_>) -> Result<()> {
    let source = spare_table(scene, 10_000)?;
    let target = spare_table(scene, 10)?;
    let sql = format!(
        "SET sql_log_bin = 0; INSERT INTO orders.{target} (v) \
         SELECT a.v FROM orders.{source} AS a, orders.{source} AS b"
    );
    let _holder = Holder::start(scene, &sql)?;
    let inserting = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT%'";
    shown(scene, "the INSERT runs", inserting)?;
    fence(scene).await
}

pub async fn backup_lock(scene: &mut Scene<'_>) -> Result<()> {
    let lock = match scene.rig.database(&scene.primary)?.engine {
        Engine::MySql => "LOCK INSTANCE FOR BACKUP",
        Engine::MariaDb => {
            "BACKUP STAGE START; BACKUP STAGE FLUSH; BACKUP STAGE BLOCK_DDL; \
             BACKUP STAGE BLOCK_COMMIT"
        }
    };
    backup(scene, lock).await
}

pub async fn read_lock(scene: &mut Scene<'_>) -> Result<()> {
    backup(scene, "FLUSH TABLES WITH READ LOCK").await
}

async fn backup(scene: &mut Scene<'_>, lock: &str) -> Result<()> {
    create_account(scene)?;
    let sql = format!("{lock}; SELECT SLEEP(60)");
    let _holder = Holder::start(scene, &sql)?;
    shown(scene, "the backup's lock is held", SLEEPING)?;
    fence(scene).await
}

const SLEEPING: &str = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE \
     'SELECT SLEEP(60)%' AND id <> CONNECTION_ID()";

/// Prepared without the binlog, since links stop at XA in it; whoever prepared it is gone. A person
/// settles it when the fence has met it.
pub async fn xa(scene: &mut Scene<'_>) -> Result<()> {
    let table = spare_table(scene, 10)?;
    let database = scene.rig.database(&scene.primary)?;
    database.root(&format!(
        "SET sql_log_bin = 0; XA START 'held'; INSERT INTO orders.{table} (v) VALUES (1); \
         XA END 'held'; XA PREPARE 'held'"
    ))?;
    let fenced = fence(scene).await;
    // A fence that is tried again and again may cut the person's session: a person tries again too.
    let mut tries = 0;
    shell::poll(
        "the XA transaction is settled",
        Duration::from_secs(20),
        || {
            tries += 1;
            database.root("SET sql_log_bin = 0; XA ROLLBACK 'held'")
        },
    )?;
    scene.note(format!("settled at try {tries}"));
    fenced
}

/// A table that applications do not write, with rows, made on each member by itself.
fn spare_table(scene: &Scene<'_>, rows: u32) -> Result<String> {
    create_account(scene)?;
    let name = format!("spare_{rows}");
    for idc in scene.rig.data() {
        let database = scene.rig.database(idc)?;
        let mut sql = format!(
            "SET sql_log_bin = 0; DROP TABLE IF EXISTS orders.{name}; \
             CREATE TABLE orders.{name} (id INT AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL); \
             INSERT INTO orders.{name} (v) VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);"
        );
        let mut there = 10;
        while there < rows {
            sql.push_str(&format!(
                "INSERT INTO orders.{name} (v) SELECT v FROM orders.{name};"
            ));
            there *= 2;
        }
        database.root(&sql)?;
    }
    Ok(name)
}
