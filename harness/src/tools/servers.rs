//! Database servers that Debian's stable suite does not package: MySQL comes from its unstable
//! suite, into a root directory of its own.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::Stamp;
use crate::{paths, report, shell};

const PACKAGES: &str = "mysql-server-core,mysql-client-core";
/// Unstable's release file may be past its date on a mirror that lags. Its signature still counts.
const LATE_IS_FINE: &str = "Acquire::Check-Valid-Until \"false\"";

/// The root directory in which MySQL runs.
pub fn mysql_root() -> PathBuf {
    paths::tools().join("mysql")
}

pub(super) fn install() -> Result<()> {
    let root = mysql_root();
    let stamp = Stamp::new("mysql", format!("sid {PACKAGES}"));
    if stamp.fits() && root.join("usr/sbin/mysqld").is_file() {
        return Ok(());
    }
    report::long_step(
        "MySQL from Debian's unstable suite",
        "about a minute",
        || {
            drop(fs::remove_dir_all(&root));
            let mut make = shell::command("mmdebstrap", ["--variant=minbase", "--mode=root"]);
            make.arg(format!("--aptopt={LATE_IS_FINE}"))
                .arg(format!("--include={PACKAGES}"));
            make.arg("sid").arg(&root);
            shell::run_logged(
                &mut make,
                &paths::tools().join("logs").join("mmdebstrap.log"),
            )?;
            // Where a world's directory is mounted while a server runs.
            fs::create_dir_all(root.join("world"))?;
            Ok(())
        },
    )?;
    stamp.set()
}
