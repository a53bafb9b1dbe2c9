//! The one session that changes the target, and how statements run in it.

use model::{IdcName, LinkKey};
use mysql::foreign_keys::{self, ActingKey};
use mysql::session::{Engine, ServerVersion, Session, SessionError, SessionOptions};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use sha2::{Digest as _, Sha256};

use crate::checkpoint;
use crate::claim::AppliedRow;
use crate::error::WriterError;
use crate::sql::literal;
use crate::sql::plan::{Expect, Request, Subject};

/// Every value that a source can hold can be stored, anything else is an error: nothing is cut,
/// rounded into range or replaced. Zero dates and the 31st of February are values here.
pub(crate) const STRICT_MODE: &str =
    "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION";
/// For statements with an ENUM's error value, which strict mode refuses; the warnings are counted.
pub(crate) const LAX_MODE: &str =
    "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION";

/// The server drops a session that is silent for so many seconds, and with it the lock and an open
/// transaction of a writer whose machine has vanished.
pub(crate) const SERVER_WAIT_SECONDS: u32 = 60;

/// How long the end of a session in good order may take.
const CLOSING: std::time::Duration = std::time::Duration::from_secs(5);

/// Warnings that do not speak of values: something is deprecated.
const HARMLESS_WARNINGS: [u16; 4] = [1287, 1681, 3719, 3778];

/// A statement that did not do what it must.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Its number in the request.
    pub index: usize,
    pub cause: Cause,
}

/// What it did instead.
#[derive(Debug)]
pub(crate) enum Cause {
    /// An error of the server, or the connection broke.
    Driver(mysql_async::Error),
    /// Another number of rows.
    Rows { expected: u64, found: u64 },
    /// Another answer.
    Answer,
    /// Warnings that may mean another value was stored. The text is read by
    /// [`Target::warnings`].
    Warnings,
}

/// The session.
#[derive(Debug)]
pub(crate) struct Target {
    session: Session,
    /// The server's `max_allowed_packet`, as it was when the session began.
    max_packet: usize,
}

impl Target {
    /// Opens the session, marks what it does with the origin and brings it into its usual state.
    /// It takes no lock yet.
    pub(crate) async fn connect(
        options: &SessionOptions,
        origin: &IdcName,
    ) -> Result<Self, WriterError> {
        let session = options.connect().await?;
        let version = session.version();
        if !version.has_native_origin_marks() {
            return Err(WriterError::NoOriginMarks {
                version: version.to_string(),
            });
        }
        let mut target = Self {
            session,
            max_packet: usize::MAX,
        };
        target.usual_state().await?;
        target.learn_max_packet().await?;
        target.mark(origin).await?;
        Ok(target)
    }

    /// Opens a session whose writes are the target's own, checked as an application's are.
    pub(crate) async fn connect_local(options: &SessionOptions) -> Result<Self, WriterError> {
        let mut target = Self {
            session: options.connect().await?,
            max_packet: usize::MAX,
        };
        target.usual_state().await?;
        target.learn_max_packet().await?;
        if target.engine() == Engine::MariaDb {
            target
                .execute("preparing the session", b"SET check_constraint_checks=1")
                .await?;
        }
        Ok(target)
    }

    async fn learn_max_packet(&mut self) -> Result<(), WriterError> {
        let told: Option<u64> = self
            .first(
                "asking for max_allowed_packet",
                "SELECT @@SESSION.max_allowed_packet",
            )
            .await?;
        if let Some(told) = told.and_then(|bytes| usize::try_from(bytes).ok()) {
            self.max_packet = told;
        }
        Ok(())
    }

    pub(crate) fn engine(&self) -> Engine {
        self.session.engine()
    }

    pub(crate) fn version(&self) -> ServerVersion {
        self.session.version()
    }

    pub(crate) fn conn(&mut self) -> &mut Conn {
        &mut self.session.conn
    }

    /// Sets everything that a statement's meaning depends on. That a DECIMAL loses digits, or a VARCHAR
    /// spaces, is told in notes only.
    pub(crate) async fn usual_state(&mut self) -> Result<(), WriterError> {
        let engine = match self.engine() {
            // A table made here gets no column of the server's own.
            Engine::MySql => ", sql_generate_invisible_primary_key=0",
            // What the source accepted with its checks off is accepted here.
            Engine::MariaDb => ", check_constraint_checks=0, max_statement_time=0",
        };
        let settings = format!(
            "SET NAMES utf8mb4; \
             SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
             SET SESSION sql_mode='{STRICT_MODE}', time_zone='+00:00', foreign_key_checks=1, \
             unique_checks=1, autocommit=1, sql_notes=1, sql_safe_updates=0, sql_auto_is_null=0, \
             sql_select_limit=DEFAULT, binlog_row_image=FULL, wait_timeout={SERVER_WAIT_SECONDS}, \
             innodb_lock_wait_timeout=20, lock_wait_timeout=60, timestamp=DEFAULT, \
             auto_increment_increment=DEFAULT, auto_increment_offset=DEFAULT{engine}"
        );
        self.execute("preparing the session", settings.as_bytes())
            .await
    }

    /// Marks everything that follows as born in this IDC.
    pub(crate) async fn mark(&mut self, origin: &IdcName) -> Result<(), WriterError> {
        let sql = match self.engine() {
            Engine::MySql => {
                format!(
                    "SET SESSION gtid_next='AUTOMATIC:{}'",
                    mysql::origin::origin_tag(origin)
                )
            }
            Engine::MariaDb => {
                format!(
                    "SET SESSION gtid_domain_id={}",
                    mysql::origin::origin_domain(origin)
                )
            }
        };
        self.execute("marking the session with its origin", sql.as_bytes())
            .await
    }

    /// Takes the lock that only one writer of a link holds. It ends with the session, and the
    /// session's transaction with it.
    ///
    /// A statement of a session whose client died, say a long ALTER TABLE, goes on to its end and
    /// keeps the lock so long: the next writer sees all of it or nothing.
    pub(crate) async fn lock(&mut self, link: &LinkKey) -> Result<(), WriterError> {
        let mut name = Vec::new();
        literal::text(&mut name, &lock_name(link));
        let name = String::from_utf8_lossy(&name).into_owned();
        let taken: Option<Option<u64>> = self
            .first(
                "taking the link's lock",
                &format!("SELECT GET_LOCK({name}, 1)"),
            )
            .await?;
        if taken.flatten() == Some(1) {
            return Ok(());
        }
        let holder: Option<Option<u64>> = self
            .first(
                "looking for the lock's holder",
                &format!("SELECT IS_USED_LOCK({name})"),
            )
            .await?;
        Err(WriterError::Locked {
            connection: holder.flatten().unwrap_or(0),
        })
    }

    /// Reads the link's row.
    pub(crate) async fn checkpoint(
        &mut self,
        link: &LinkKey,
    ) -> Result<Option<AppliedRow>, WriterError> {
        let sql = checkpoint::select(link);
        self.first(
            "reading multiactive.applied",
            &String::from_utf8_lossy(&sql),
        )
        .await
    }

    /// Runs statements of ours; only errors count.
    pub(crate) async fn execute(&mut self, doing: &str, sql: &[u8]) -> Result<(), WriterError> {
        let lifeline = self.session.lifeline().clone();
        let answer = lifeline.wait(self.session.conn.query_drop(sql)).await;
        answer
            .unwrap_or_else(|gone| Err(vanished(&gone)))
            .map_err(|source| failed(doing, source))
    }

    /// The first row of a query.
    pub(crate) async fn first<R>(
        &mut self,
        doing: &str,
        sql: &str,
    ) -> Result<Option<R>, WriterError>
    where
        R: mysql_async::prelude::FromRow + Send + 'static,
    {
        let lifeline = self.session.lifeline().clone();
        let answer = lifeline.wait(self.session.conn.query_first(sql)).await;
        answer
            .unwrap_or_else(|gone| Err(vanished(&gone)))
            .map_err(|source| failed(doing, source))
    }

    /// All rows of a query.
    pub(crate) async fn all<R>(&mut self, doing: &str, sql: &str) -> Result<Vec<R>, WriterError>
    where
        R: mysql_async::prelude::FromRow + Send + 'static,
    {
        let lifeline = self.session.lifeline().clone();
        let answer = lifeline.wait(self.session.conn.query(sql)).await;
        answer
            .unwrap_or_else(|gone| Err(vanished(&gone)))
            .map_err(|source| failed(doing, source))
    }

    /// The foreign keys of some databases that change rows by themselves.
    pub(crate) async fn acting_keys(
        &mut self,
        databases: &[String],
    ) -> Result<Vec<ActingKey>, WriterError> {
        let lifeline = self.session.lifeline().clone();
        let keys = foreign_keys::acting(&mut self.session.conn, databases);
        let answer = lifeline.wait(keys).await;
        answer
            .unwrap_or_else(|gone| Err(vanished(&gone)))
            .map_err(|source| failed("reading the foreign keys", source))
    }

    /// Runs a request in one round trip and holds each statement to what it must report. The
    /// answers are the first values of result sets, as numbers.
    pub(crate) async fn run(&mut self, request: &Request) -> Result<Vec<Option<u64>>, Failure> {
        if let Some(error) = too_large(request.sql.len(), self.max_packet) {
            return Err(Failure {
                index: 0,
                cause: Cause::Driver(error),
            });
        }
        let lifeline = self.session.lifeline().clone();
        let answer = lifeline.wait(run(&mut self.session.conn, request)).await;
        answer.unwrap_or_else(|gone| {
            Err(Failure {
                index: 0,
                cause: Cause::Driver(vanished(&gone)),
            })
        })
    }

    /// The warnings of the last statement that may mean another value was stored, as a text;
    /// `None` if there are none beside `expected` for ENUMs' error values.
    pub(crate) async fn warnings(&mut self, expected: u16) -> Result<Option<String>, WriterError> {
        let warnings: Vec<(String, u16, String)> =
            self.all("reading warnings", "SHOW WARNINGS").await?;
        let mut telling: Vec<_> = warnings
            .into_iter()
            .filter(|(_, code, _)| !HARMLESS_WARNINGS.contains(code))
            .collect();
        // 1265 is what an ENUM's error value causes, and truncation too; so they are counted.
        let truncations = telling.iter().filter(|(_, code, _)| *code == 1265).count();
        if truncations == usize::from(expected) {
            telling.retain(|(_, code, _)| *code != 1265);
        }
        Ok(telling
            .first()
            .map(|(_, code, message)| format!("{message} (warning {code})")))
    }

    /// Rolls the open transaction back and brings the session back into its usual state.
    pub(crate) async fn roll_back(&mut self) -> Result<(), WriterError> {
        let sql = format!("ROLLBACK; SET foreign_key_checks=1, sql_mode='{STRICT_MODE}'");
        self.execute("rolling back", sql.as_bytes()).await
    }

    /// Ends the session in good order, which frees the lock at once.
    pub(crate) async fn close(self) {
        // The server ends the session all the same when this does not reach it.
        match tokio::time::timeout(CLOSING, self.session.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "the session with the target did not end in good order");
            }
            Err(_) => tracing::debug!("the target did not answer to the end of the session"),
        }
    }
}

async fn run(conn: &mut Conn, request: &Request) -> Result<Vec<Option<u64>>, Failure> {
    let driver = |index| {
        move |error| Failure {
            index,
            cause: Cause::Driver(error),
        }
    };
    let count = request.statements.len();
    let mut answers = Vec::with_capacity(count);
    let mut first_failure = None;
    let mut result = conn
        .query_iter(request.sql.as_slice())
        .await
        .map_err(driver(0))?;
    for (index, statement) in request.statements.iter().enumerate() {
        let (found, warnings) = (result.affected_rows(), result.warnings());
        // Reading to the end of this result reads the head of the next one, so an error is the
        // next statement's.
        let rows: Vec<Row> = result
            .collect()
            .await
            .map_err(driver((index + 1).min(count - 1)))?;
        let answer = rows.first().and_then(|row| row.get_opt::<u64, _>(0)?.ok());
        answers.push(answer);
        let cause = match statement.expect {
            Expect::Rows(expected) if found != expected => Some(Cause::Rows { expected, found }),
            Expect::Answer(expected) if answer != Some(expected) => Some(Cause::Answer),
            _ if warnings != statement.warnings
                && matches!(statement.subject, Subject::Rows { .. }) =>
            {
                Some(Cause::Warnings)
            }
            _ => None,
        };
        if let (None, Some(cause)) = (&first_failure, cause) {
            first_failure = Some(Failure { index, cause });
        }
    }
    match first_failure {
        Some(failure) => Err(failure),
        None => Ok(answers),
    }
}

/// The server's refusal of a request that is larger than it accepts, in its own words. It is not asked:
/// it would end the connection, or the driver would end it with what looks like an outage.
fn too_large(bytes: usize, max_packet: usize) -> Option<mysql_async::Error> {
    /// `ER_NET_PACKET_TOO_LARGE`.
    const CODE: u16 = 1153;
    // One more byte says that it is a query, and what is as long as the limit is refused too.
    (bytes + 1 >= max_packet).then(|| {
        mysql_async::Error::Server(mysql_async::ServerError {
            code: CODE,
            message: format!(
                "its {bytes} bytes are more than max_allowed_packet there, which is {max_packet}. SET \
                 GLOBAL max_allowed_packet to more than that, at most 1073741824, and put it into the \
                 server's configuration"
            ),
            state: "08S01".to_owned(),
        })
    })
}

/// The server has vanished, as the driver would say it.
fn vanished(gone: &SessionError) -> mysql_async::Error {
    let error = std::io::Error::new(std::io::ErrorKind::TimedOut, gone.to_string());
    mysql_async::Error::Io(mysql_async::IoError::Io(error))
}

/// Wraps an error of the driver.
pub(crate) fn failed(doing: &str, source: mysql_async::Error) -> WriterError {
    if let mysql_async::Error::Server(error) = &source {
        // No such table, column or database; no right to see it.
        if matches!(error.code, 1146 | 1054 | 1049) && doing.contains("multiactive.") {
            return WriterError::Schema {
                reason: error.message.clone(),
            };
        }
    }
    WriterError::Target {
        doing: doing.to_owned(),
        source,
    }
}

/// Lock names hold at most 64 characters, links' names may be longer.
fn lock_name(link: &LinkKey) -> String {
    let digest = Sha256::digest(link.to_string().as_bytes());
    format!("multiactive.{}", checkpoint::to_hex(&digest[..20]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_would_not_take_is_refused_as_it_would() {
        assert!(too_large(1022, 1024).is_none());
        let Some(error) = too_large(1023, 1024) else {
            panic!("1023 bytes and one more do not fit below 1024");
        };
        let error = failed("applying", error);
        assert_eq!(error.class(), crate::error::Class::Halt);
        let text = error.to_string();
        assert!(
            text.contains("1023") && text.contains("SET GLOBAL max_allowed_packet"),
            "{text}"
        );
    }

    #[test]
    fn lock_names_are_short_and_distinct() {
        let name = |text: &str| lock_name(&text.parse().unwrap());
        let long = format!("{}/{}", "a".repeat(63), "b".repeat(63));
        assert!(name(&long).len() <= 64);
        assert_ne!(name("shop/a-b"), name("shop/b-a"));
        assert_eq!(name("shop/a"), name("shop/a"));
    }
}
