//! What the process is given: options, and the files they name.

use std::path::{Path, PathBuf};

use model::{Credentials, LinkConfig};

use crate::error::WriterError;

/// The writer of one link: applies what the link's syncer sends to the target database.
#[derive(Debug, clap::Parser)]
#[command(name = "writer", version)]
pub struct WriterOptions {
    /// The link's settings, a JSON file.
    #[arg(long, env = "MULTIACTIVE_LINK", value_name = "FILE")]
    pub link: PathBuf,
    /// A directory with the target's account: the files username, password and perhaps ca.crt.
    #[arg(long, env = "MULTIACTIVE_CREDENTIALS", value_name = "DIR")]
    pub credentials: PathBuf,
    /// A directory with this end's certificate: the files ca.crt, tls.crt and tls.key.
    #[arg(long, env = "MULTIACTIVE_TLS", value_name = "DIR")]
    pub tls: PathBuf,
    /// Where the link's syncer serves.
    #[arg(long, env = "MULTIACTIVE_SYNCER", value_name = "HOST:PORT")]
    pub syncer: String,
    /// Ends the process without warning at this point, for tests.
    #[cfg(feature = "failpoints")]
    #[arg(
        long,
        env = "MULTIACTIVE_CRASH_AT",
        hide = true,
        value_name = "POINT[:TIME]"
    )]
    pub crash_at: Option<crate::failpoint::CrashAt>,
    /// What every process has.
    #[command(flatten)]
    pub process: process::Options,
}

/// The names that both ends' certificates must bear.
pub const TRANSPORT_NAME: &str = "transport.multiactive";

/// Reads the link's settings and refuses what this release does not do.
pub fn read_link(path: &Path) -> Result<LinkConfig, WriterError> {
    let text = read(path)?;
    let config: LinkConfig = serde_json::from_slice(&text).map_err(|error| WriterError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    })?;
    check_link(&config)?;
    Ok(config)
}

fn check_link(config: &LinkConfig) -> Result<(), WriterError> {
    let refuse = |what: &str| {
        Err(WriterError::Unsupported(format!(
            "SyncLink {}: {what}",
            config.link
        )))
    };
    if config.source.idc == config.target.idc {
        return refuse(&format!(
            "source and target are both {}; give two different IDCs",
            config.source.idc
        ));
    }
    if config.relay {
        return refuse("relay: true is not supported yet; leave it out");
    }
    if let Some(route) = config.tables.routes.first() {
        return refuse(&format!(
            "tables.routes (from {:?} to {:?}) is not supported yet; remove it, or exclude the table",
            route.from, route.to
        ));
    }
    if config.apply.max_rows == 0 {
        return refuse("apply.batch.maxRows is 0; give at least 1");
    }
    match crate::conflict::Policy::of(&config.conflicts) {
        Ok(_) => Ok(()),
        Err(reason) => refuse(&reason),
    }
}

/// Reads an account from the files of a mounted Secret.
pub fn read_credentials(directory: &Path) -> Result<Credentials, WriterError> {
    let text = |name: &str| {
        let path = directory.join(name);
        let bytes = read(&path)?;
        let text = String::from_utf8(bytes).map_err(|_| WriterError::File {
            path: path.display().to_string(),
            reason: "it is not UTF-8".to_owned(),
        })?;
        Ok::<_, WriterError>(text.trim_end_matches(['\r', '\n']).to_owned())
    };
    let ca = directory.join("ca.crt");
    Ok(Credentials {
        username: text("username")?,
        password: text("password")?,
        ca: if ca.exists() {
            Some(text("ca.crt")?)
        } else {
            None
        },
    })
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, WriterError> {
    std::fs::read(path).map_err(|error| WriterError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use model::ConflictResolution;

    use super::*;

    pub(crate) fn sample() -> LinkConfig {
        let end = |idc: &str| serde_json::json!({"idc": idc, "endpoint": {"host": "db.example", "port": 3306}});
        let json = serde_json::json!({
            "link": "shop/sh-bj", "unit": "shop/orders", "source": end("sh"), "target": end("bj"),
            "origins": ["sh", "bj"], "databases": ["shop"],
            "tables": {"include": [], "exclude": [], "routes": []},
            "snapshot": {"mode": "IfEmpty", "chunkBytes": 4_194_304}, "compression": "Zstd",
            "apply": {"consistency": "Transactional", "maxRows": 1000, "lingerMillis": 5},
            "ddl": "Apply", "relay": false,
        });
        serde_json::from_value(json).unwrap()
    }

    fn link(change: impl FnOnce(&mut LinkConfig)) -> Result<(), WriterError> {
        let mut config = sample();
        change(&mut config);
        check_link(&config)
    }

    #[test]
    fn the_options_are_sound() {
        use clap::CommandFactory as _;
        WriterOptions::command().debug_assert();
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        assert!(link(|_| {}).is_ok());
        let refused = |change: fn(&mut LinkConfig)| link(change).unwrap_err().to_string();
        assert!(refused(|config| config.relay = true).contains("relay: true"));
        assert!(
            refused(|config| config.target.idc = config.source.idc.clone()).contains("both sh")
        );
        assert!(refused(|config| config.apply.max_rows = 0).contains("maxRows is 0"));
        let by_key = refused(|config| config.conflicts.resolve = ConflictResolution::Hold);
        assert!(by_key.contains("detect BeforeImage"), "{by_key}");
        let route = |config: &mut LinkConfig| {
            let (from, to) = ("shop.log_*".to_owned(), "shop.log".to_owned());
            config.tables.routes.push(model::Route { from, to });
        };
        assert!(link(route).unwrap_err().to_string().contains("shop.log_*"));
    }
}
