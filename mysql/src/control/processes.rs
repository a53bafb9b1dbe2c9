//! What runs in the server, read from its process list.

use model::Generation;

use super::procedures::{GUARD_MARK, HARMLESS, OWN_USER, process_list};
use super::row::Answer;
use super::{ControlError, ControlSession, Obstacle};
use crate::session::Engine;

/// A guard that the process list shows running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningGuard {
    /// The server's number of its connection.
    pub id: u64,
    /// When it fences: UTC microseconds since 1970 on the server's clock.
    pub deadline_micros: i64,
    /// The identity that it was started for.
    pub identity: String,
    /// The generation of the arbiter that started it.
    pub generation: Generation,
}

/// The statement that lists guards.
pub(super) fn guards_statement(engine: Engine) -> String {
    format!(
        "SELECT CAST(id AS UNSIGNED), CAST(info AS CHAR) FROM {} \
         WHERE user = {OWN_USER} AND info LIKE '{GUARD_MARK}%'",
        process_list(engine)
    )
}

/// Reads what [`guards_statement`] answers.
pub(super) fn guards_of(rows: Vec<mysql_async::Row>) -> Vec<RunningGuard> {
    rows.into_iter()
        .filter_map(|row| {
            let (id, text) = mysql_async::from_row_opt::<(u64, String)>(row).ok()?;
            parse_guard(id, &text)
        })
        .collect()
}

fn parse_guard(id: u64, text: &str) -> Option<RunningGuard> {
    let mut words = text.strip_prefix(GUARD_MARK)?.split(' ');
    let deadline_micros = words.next()?.parse().ok()?;
    let identity = words.next()?.strip_prefix("identity=")?.to_owned();
    let generation = Generation(words.next()?.strip_prefix("generation=")?.parse().ok()?);
    Some(RunningGuard {
        id,
        deadline_micros,
        identity,
        generation,
    })
}

impl ControlSession {
    /// The guards that run, as the process list shows them. Between two sleeps a guard shows no
    /// text for some microseconds, so an empty answer is asked for again, twice.
    pub async fn guards_running(&mut self) -> Result<Vec<RunningGuard>, ControlError> {
        let statement = guards_statement(self.engine);
        for _ in 0..2 {
            let guards = self.guards_once(&statement).await?;
            if !guards.is_empty() {
                return Ok(guards);
            }
        }
        self.guards_once(&statement).await
    }

    async fn guards_once(&mut self, statement: &str) -> Result<Vec<RunningGuard>, ControlError> {
        let mut sets = self.query("look for guards", statement).await?;
        Ok(guards_of(if sets.is_empty() {
            Vec::new()
        } else {
            sets.swap_remove(0)
        }))
    }

    /// Ends guards of this generation and earlier ones, all but one if `except` names its
    /// connection. One that has ended by itself is no error. To be called only when a later guard
    /// was seen running, or the server is fenced.
    ///
    /// Guards of a later generation are let be: by then their process may have opened the server.
    pub async fn end_guards(
        &mut self,
        generation: Generation,
        except: Option<u64>,
    ) -> Result<(), ControlError> {
        for guard in self.guards_running().await? {
            if guard.generation <= generation && Some(guard.id) != except {
                self.kill(guard.id).await?;
            }
        }
        Ok(())
    }

    /// Kills a connection; one that is gone is no error.
    pub(super) async fn kill(&mut self, id: u64) -> Result<(), ControlError> {
        match self
            .execute("end a session", &format!("KILL CONNECTION {id}"))
            .await
        {
            // ER_NO_SUCH_THREAD
            Err(error) if error.server_code() == Some(1094) => Ok(()),
            other => other,
        }
    }

    /// The sessions of other accounts, and those of ours that run a statement: what a fence may
    /// be waiting for.
    pub(super) async fn obstacles(&mut self) -> Result<Vec<Obstacle>, ControlError> {
        let doing = "list the sessions that stand in a fence's way";
        let statement = format!(
            "SELECT CAST(id AS UNSIGNED), user, COALESCE(state, ''), \
             COALESCE(LEFT(CAST(info AS CHAR), 120), CONCAT('(', command, ')')), \
             CAST(time AS SIGNED) FROM {} WHERE id <> CONNECTION_ID() AND NOT {HARMLESS} \
             AND (user <> {OWN_USER} OR command <> 'Sleep') \
             AND COALESCE(info, '') NOT LIKE '{GUARD_MARK}%' ORDER BY time DESC LIMIT 10",
            process_list(self.engine)
        );
        let mut sets = self.query(doing, &statement).await?;
        let rows = if sets.is_empty() {
            Vec::new()
        } else {
            sets.swap_remove(0)
        };
        let answer = Answer {
            doing,
            endpoint: &self.endpoint,
        };
        rows.into_iter()
            .map(|mut row| {
                Ok(Obstacle {
                    id: answer.value(&mut row, 0, "session number")?,
                    user: answer.value(&mut row, 1, "user")?,
                    state: answer.value(&mut row, 2, "state")?,
                    statement: answer.value(&mut row, 3, "statement")?,
                    seconds: answer.value(&mut row, 4, "time")?,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_is_read_from_the_text_that_its_procedure_makes() {
        let text = format!("{GUARD_MARK}1795235427000000 identity=ab-c generation=7 */");
        let guard = parse_guard(10, &text).unwrap();
        assert_eq!(
            (guard.id, guard.deadline_micros),
            (10, 1_795_235_427_000_000)
        );
        assert_eq!(
            (guard.identity.as_str(), guard.generation),
            ("ab-c", Generation(7))
        );
        assert_eq!(
            parse_guard(10, "SELECT 'multiactive.guard deadline=1'"),
            None
        );
        assert_eq!(
            parse_guard(10, &format!("{GUARD_MARK}x identity=a generation=1 */")),
            None
        );
    }
}
