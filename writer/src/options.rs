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
    if config.relay && config.unit.is_some() {
        return refuse("relay: true is for links without a Unit; leave it out");
    }
    if let Some(problem) = model::routes_problem(config) {
        return refuse(&problem);
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
    }

    #[test]
    fn routes_that_cannot_be_carried_out_are_refused() {
        let told = |routes: &[(&str, &str)], change: fn(&mut LinkConfig)| {
            let told = link(|config| {
                for (from, to) in routes {
                    let (from, to) = ((*from).to_owned(), (*to).to_owned());
                    config.tables.routes.push(model::Route { from, to });
                }
                change(config);
            });
            told.err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        let compared = |config: &mut LinkConfig| {
            config.conflicts.detect = model::ConflictDetection::BeforeImage;
        };
        let merged = [("shop.log_*", "shop.log")];
        assert_eq!(told(&merged, compared), "");
        assert_eq!(told(&[("shop.a", "other.b")], |_| {}), "");
        let by_key = told(&merged, |_| {});
        assert!(by_key.contains("(from shop.log_* to shop.log)"), "{by_key}");
        assert!(by_key.contains("detect: BeforeImage"), "{by_key}");
        let over = told(&merged, |config| {
            config.conflicts.detect = model::ConflictDetection::BeforeImage;
            config.snapshot.mode = model::SnapshotMode::Always;
        });
        assert!(over.contains("snapshot.mode: IfEmpty"), "{over}");
        // The source's own table of that name would go there too, until it is excluded.
        assert!(told(&[("shop.a", "shop.b")], |_| {}).contains("exclude shop.b"));
        let excluded = |config: &mut LinkConfig| config.tables.exclude = vec!["shop.b".into()];
        assert_eq!(told(&[("shop.a", "shop.b")], excluded), "");
        for (routes, word) in [
            (vec![("shop.a", "Multiactive.b")], "Multiactive"),
            (vec![("shop.a", "mysql.user")], "schema mysql"),
            (vec![("shop.a", "shop.b*")], "name one table"),
            (vec![("shop.a", "b")], "database.table"),
            (
                vec![("shop.a", "shop.b"), ("shop.b", "shop.c")],
                "goes on to shop.c",
            ),
            (
                vec![("shop.a", "other.b"), ("shop.c", "other.B")],
                "in case only",
            ),
        ] {
            let told = told(&routes, |_| {});
            assert!(told.contains(word), "{word} is missing in: {told}");
        }
    }
}
