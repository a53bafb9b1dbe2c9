//! A session with one database server of either engine.

use std::fmt;
use std::time::Duration;

use model::{Credentials, Endpoint, TlsMode};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, SslOpts};
use serde::{Deserialize, Serialize};

use crate::lifeline::Lifeline;

/// The largest packet of the protocol's commands and answers (`MAX_MAX_ALLOWED_PACKET` in the sources
/// of both engines). A server sends events of its binlog up to this size whatever its
/// `max_allowed_packet` is, from which the driver would take a limit of its own otherwise. Whoever
/// changes rows keeps that one: what is larger would have the server end the connection.
const LARGEST_PACKET: usize = 1 << 30;

/// Which of our processes a session belongs to. It is sent as the connection attribute
/// `program_name`, so that a fence can tell its own sessions from the writer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The arbiter: probes, fences, promotes.
    Arbiter,
    /// The reading end of a link.
    Syncer,
    /// The applying end of a link.
    Writer,
    /// Verification and repair of a link.
    Repair,
    /// The command line, for preflight.
    Mactl,
}

impl Program {
    /// The attribute's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arbiter => "multiactive-arbiter",
            Self::Syncer => "multiactive-syncer",
            Self::Writer => "multiactive-writer",
            Self::Repair => "multiactive-repair",
            Self::Mactl => "multiactive-mactl",
        }
    }
}

/// The two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Engine {
    /// Oracle's MySQL and builds that report themselves like it.
    MySql,
    /// MariaDB.
    MariaDb,
}

/// A server's engine and version, as `SELECT VERSION()` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerVersion {
    /// The engine.
    pub engine: Engine,
    /// For example `(9, 7, 4)`.
    pub number: (u16, u16, u16),
}

impl ServerVersion {
    /// Reads `9.7.4`, `8.0.36-28`, `10.11.19-MariaDB-0+deb12u1` and the like.
    pub fn parse(text: &str) -> Option<Self> {
        let engine = if text.to_ascii_lowercase().contains("mariadb") {
            Engine::MariaDb
        } else {
            Engine::MySql
        };
        // Old MariaDB builds put a "5.5.5-" in front, for replicas that refuse a first digit of 10.
        let text = text.strip_prefix("5.5.5-").unwrap_or(text);
        let mut parts = text
            .split(|c: char| !c.is_ascii_digit())
            .map(str::parse::<u16>);
        let mut next = || parts.next()?.ok();
        let number = (next()?, next()?, next().unwrap_or(0));
        Some(Self { engine, number })
    }

    /// Whether the server can tag the transactions of a session with an origin: tagged GTIDs
    /// (MySQL 8.3 and later) or a GTID domain (every supported MariaDB).
    pub fn has_native_origin_marks(self) -> bool {
        match self.engine {
            Engine::MySql => self.number >= (8, 3, 0),
            Engine::MariaDb => true,
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = match self.engine {
            Engine::MySql => "MySQL",
            Engine::MariaDb => "MariaDB",
        };
        let (major, minor, patch) = self.number;
        write!(f, "{engine} {major}.{minor}.{patch}")
    }
}

/// How to open sessions with one server: everything but the wish to do it.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    endpoint: Endpoint,
    program: Program,
    connect_timeout: Duration,
    opts: Opts,
}

impl SessionOptions {
    /// Options for a server and an account. Nothing is connected yet.
    ///
    /// # Errors
    /// [`SessionError::MissingCa`] if the endpoint's TLS mode verifies and no CA is given.
    pub fn new(
        endpoint: &Endpoint,
        credentials: &Credentials,
        program: Program,
    ) -> Result<Self, SessionError> {
        let builder = OptsBuilder::default()
            .ip_or_hostname(endpoint.host.clone())
            .tcp_port(endpoint.port)
            .user(Some(credentials.username.clone()))
            .pass(Some(credentials.password.clone()))
            .prefer_socket(false)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(10)))
            // The driver closes a statement only when another one takes its place there.
            .stmt_cache_size(1)
            .client_found_rows(true)
            .max_allowed_packet((program == Program::Syncer).then_some(LARGEST_PACKET))
            .connect_attribute("program_name", program.name())
            .ssl_opts(tls_options(endpoint, credentials)?);
        Ok(Self {
            endpoint: endpoint.clone(),
            program,
            connect_timeout: Duration::from_secs(5),
            opts: builder.into(),
        })
    }

    /// Gives up connecting after this time (5 s unless said otherwise).
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The server these options are for.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The account's name.
    pub fn username(&self) -> &str {
        self.opts.user().unwrap_or_default()
    }

    /// Opens a session and asks the server what it is.
    pub async fn connect(&self) -> Result<Session, SessionError> {
        let connecting = async {
            let mut conn = Conn::new(self.opts.clone()).await?;
            let told = conn.query_first(
                "SELECT VERSION(), CONCAT_WS(' ', @@hostname, @@port, @@datadir), CONNECTION_ID()",
            );
            let (version, server, id) = told.await?.unwrap_or_default();
            Ok::<(Conn, String, String, u64), mysql_async::Error>((conn, version, server, id))
        };
        let (conn, text, server, id) =
            match tokio::time::timeout(self.connect_timeout, connecting).await {
                Ok(Ok(connected)) => connected,
                Ok(Err(source)) => return Err(self.refused(source)),
                Err(_) => {
                    return Err(SessionError::Unreachable {
                        endpoint: self.endpoint.clone(),
                        reason: format!("no answer within {:?}", self.connect_timeout),
                    });
                }
            };
        let version = ServerVersion::parse(&text).ok_or_else(|| SessionError::Version {
            endpoint: self.endpoint.clone(),
            text,
        })?;
        let lifeline = Lifeline {
            options: self.clone(),
            id,
            server,
        };
        Ok(Session {
            conn,
            version,
            lifeline,
        })
    }

    fn refused(&self, source: mysql_async::Error) -> SessionError {
        let endpoint = self.endpoint.clone();
        match source {
            // ER_ACCESS_DENIED_ERROR, ER_DBACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR
            mysql_async::Error::Server(ref error) if matches!(error.code, 1045 | 1044 | 1698) => {
                SessionError::AccessDenied {
                    endpoint,
                    username: self.username().to_owned(),
                    answer: error.message.clone(),
                }
            }
            mysql_async::Error::Io(mysql_async::IoError::Tls(error)) => SessionError::Tls {
                endpoint,
                reason: error.to_string(),
            },
            mysql_async::Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer) => {
                SessionError::Tls {
                    endpoint,
                    reason: "the server offers no TLS".to_owned(),
                }
            }
            mysql_async::Error::Io(error) => SessionError::Unreachable {
                endpoint,
                reason: error.to_string(),
            },
            source => SessionError::Refused { endpoint, source },
        }
    }

    /// Which process these sessions belong to.
    pub fn program(&self) -> Program {
        self.program
    }

    /// The driver's own options, for what needs a connection of another kind (a binlog stream).
    pub fn driver_options(&self) -> &Opts {
        &self.opts
    }
}

fn tls_options(
    endpoint: &Endpoint,
    credentials: &Credentials,
) -> Result<Option<SslOpts>, SessionError> {
    let mode = endpoint.tls.mode;
    if mode == TlsMode::Disabled {
        return Ok(None);
    }
    let mut options = SslOpts::default().with_disable_built_in_roots(true);
    match &credentials.ca {
        Some(pem) => options = options.with_root_certs(vec![pem.clone().into_bytes().into()]),
        None if mode == TlsMode::Required => {}
        None => {
            return Err(SessionError::MissingCa {
                endpoint: endpoint.clone(),
                mode,
            });
        }
    }
    Ok(Some(match mode {
        TlsMode::Required => {
            // The verifier is built in any case and refuses an empty list of roots, so the public
            // ones stay in, unused: this mode accepts every certificate.
            options
                .with_disable_built_in_roots(false)
                .with_danger_accept_invalid_certs(true)
        }
        TlsMode::VerifyCa => options.with_danger_skip_domain_validation(true),
        TlsMode::VerifyIdentity | TlsMode::Disabled => options,
    }))
}

/// One connection to a server whose engine and version are known.
#[derive(Debug)]
pub struct Session {
    /// The driver's connection.
    pub conn: Conn,
    version: ServerVersion,
    lifeline: Lifeline,
}

impl Session {
    /// The server's engine.
    pub fn engine(&self) -> Engine {
        self.version.engine
    }

    /// The server's engine and version.
    pub fn version(&self) -> ServerVersion {
        self.version
    }

    /// Where the server is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.lifeline.options.endpoint
    }

    /// What tells whether the session is still there; see [`crate::lifeline`].
    pub fn lifeline(&self) -> &Lifeline {
        &self.lifeline
    }

    /// The server's own number of this connection.
    pub fn id(&self) -> u32 {
        self.conn.id()
    }

    /// Ends the session in good order.
    pub async fn close(self) -> Result<(), mysql_async::Error> {
        self.conn.disconnect().await
    }
}

/// Why no session came about.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nobody answers there.
    #[error("cannot reach the database at {endpoint}: {reason}")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// What the network said.
        reason: String,
    },
    /// The account was refused.
    #[error("the database at {endpoint} refuses the account {username:?}: {answer}")]
    AccessDenied {
        /// Where.
        endpoint: Endpoint,
        /// The account.
        username: String,
        /// The server's words.
        answer: String,
    },
    /// No protected connection came about.
    #[error("no TLS connection to the database at {endpoint}: {reason}")]
    Tls {
        /// Where.
        endpoint: Endpoint,
        /// What the TLS library said.
        reason: String,
    },
    /// The TLS mode verifies against a CA that was not given.
    #[error("tls mode {mode:?} for the database at {endpoint} needs a CA, and none is given")]
    MissingCa {
        /// Where.
        endpoint: Endpoint,
        /// The mode.
        mode: TlsMode,
    },
    /// The server tells a version that cannot be read.
    #[error("the database at {endpoint} reports the version {text:?}, which cannot be read")]
    Version {
        /// Where.
        endpoint: Endpoint,
        /// Its answer.
        text: String,
    },
    /// The server or the driver refused for another reason.
    #[error("the database at {endpoint} refused the connection: {source}")]
    Refused {
        /// Where.
        endpoint: Endpoint,
        /// The driver's error.
        source: mysql_async::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_print_them() {
        let read = |text| ServerVersion::parse(text).map(|v| (v.engine, v.number));
        assert_eq!(read("9.7.4"), Some((Engine::MySql, (9, 7, 4))));
        assert_eq!(read("8.0.36-28"), Some((Engine::MySql, (8, 0, 36))));
        assert_eq!(
            read("10.11.19-MariaDB-0+deb12u1-log"),
            Some((Engine::MariaDb, (10, 11, 19)))
        );
        assert_eq!(
            read("5.5.5-10.6.4-MariaDB"),
            Some((Engine::MariaDb, (10, 6, 4)))
        );
        assert_eq!(read("nonsense"), None);
    }

    #[test]
    fn verifying_without_a_ca_is_refused() {
        let endpoint = Endpoint {
            host: "db.example".into(),
            port: 3306,
            tls: model::TlsSettings {
                mode: TlsMode::VerifyCa,
            },
        };
        let credentials = Credentials {
            username: "multiactive".into(),
            password: String::new(),
            ca: None,
        };
        let error = SessionOptions::new(&endpoint, &credentials, Program::Arbiter).unwrap_err();
        assert!(error.to_string().contains("VerifyCa"), "{error}");
    }
}
