//! What the process is given: options, and the files they name.

use std::path::{Path, PathBuf};

use model::{LinkConfig, RepairConfig};

use crate::error::RepairError;

/// Compares the target of a link with its source, and mends what differs.
#[derive(Debug, clap::Parser)]
#[command(name = "repair", version)]
pub struct RepairOptions {
    /// The link's settings, a JSON file.
    #[arg(long, env = "MULTIACTIVE_LINK", value_name = "FILE")]
    pub link: PathBuf,
    /// What to verify and how, a JSON file.
    #[arg(long, env = "MULTIACTIVE_REPAIR", value_name = "FILE")]
    pub repair: PathBuf,
    /// A directory with the source's account: the files username, password and perhaps ca.crt.
    #[arg(long, env = "MULTIACTIVE_SOURCE_CREDENTIALS", value_name = "DIR")]
    pub source_credentials: PathBuf,
    /// The same for the target's account.
    #[arg(long, env = "MULTIACTIVE_TARGET_CREDENTIALS", value_name = "DIR")]
    pub target_credentials: PathBuf,
    /// Ends when the run is over, with 1 if it did not get through. Otherwise it goes on telling
    /// what it has come to.
    #[arg(long, env = "MULTIACTIVE_EXIT_WHEN_DONE")]
    pub exit_when_done: bool,
    /// What every process has.
    #[command(flatten)]
    pub process: process::Options,
}

/// Reads the link's settings and refuses what a link must not have.
///
/// # Errors
/// The file and what is wrong with it.
pub fn read_link(path: &Path) -> Result<LinkConfig, RepairError> {
    Ok(writer::options::read_link(path)?)
}

/// Reads what to verify.
///
/// # Errors
/// The file and what is wrong with it.
pub fn read_repair(path: &Path) -> Result<RepairConfig, RepairError> {
    let unreadable = |reason: String| RepairError::File {
        path: path.display().to_string(),
        reason,
    };
    let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let config: RepairConfig =
        serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    check(&config).map_err(RepairError::Refused)?;
    Ok(config)
}

fn check(config: &RepairConfig) -> Result<(), String> {
    let refuse = |what: &str| Err(format!("run {:?}: {what}", config.run));
    if config.run.is_empty() || config.run.len() > 127 || !config.run.is_ascii() {
        return refuse("a run's name has 1 to 127 ASCII characters");
    }
    if config.row_quota == 0 {
        return refuse("rowQuota is 0; give at least 1");
    }
    if config.max_batch_bytes < 1024 {
        return refuse("maxBatchBytes is below 1024; give more");
    }
    let share = config.throttle.share;
    if !(0.01..=1.0).contains(&share) {
        return refuse(&format!("throttle.share is {share}; give 0.01 to 1"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut serde_json::Value)) -> Result<(), String> {
        let mut json = serde_json::json!({
            "run": "shop/nightly", "mode": "Verify", "maxBatchBytes": 1_048_576,
            "consistencyTimeoutMillis": 30_000, "rowQuota": 10_000,
        });
        change(&mut json);
        check(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn the_options_are_sound() {
        use clap::CommandFactory as _;
        RepairOptions::command().debug_assert();
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        assert_eq!(config(|_| {}), Ok(()));
        let refused = |change: fn(&mut serde_json::Value)| config(change).unwrap_err();
        assert!(refused(|json| json["run"] = "".into()).contains("1 to 127"));
        assert!(refused(|json| json["rowQuota"] = 0.into()).contains("rowQuota is 0"));
        assert!(refused(|json| json["maxBatchBytes"] = 5.into()).contains("maxBatchBytes"));
        let share = |json: &mut serde_json::Value| {
            json["throttle"] = serde_json::json!({"share": 0.0});
        };
        assert!(refused(share).contains("throttle.share is 0"));
    }
}
