//! The table `multiactive.rebuilds` of the target: which tables are to be copied anew, and how far
//! that is.

use model::LinkKey;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use crate::error::WriterError;
use crate::skip::or_none;
use crate::target::lookup::quote;
use crate::target::session::Target;

pub(crate) const WRITING: &str = "writing to multiactive.rebuilds";

/// Whoever asks for a table goes on asking: for so many seconds a wish counts without that. A process
/// that waits for a server to come back says nothing for half of it.
const LIVES: u64 = 60;

/// How far a wish is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The link's writer has not begun with it. Only so far it can be taken back.
    Asked,
    /// The table is being emptied.
    Emptying,
    /// It is being copied.
    Copying,
    /// It was copied whole.
    Done,
    /// It was not; the reason says why.
    Refused,
}

/// A wish, as the table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which run asked for it last.
    pub run: String,
    /// How far it is.
    pub state: State,
    /// Why it was refused.
    pub reason: String,
    /// Rows copied so far.
    pub copied: u64,
}

/// A wish that nobody has begun with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub database: String,
    pub table: String,
    pub run: String,
}

/// Asks for a table to be copied anew. Another run's wish for it is replaced, however far it is; of
/// the same run it stays as it is.
///
/// # Errors
/// The server's.
pub async fn ask(
    conn: &mut Conn,
    link: &LinkKey,
    run: &str,
    (database, table): (&str, &str),
) -> Result<(), mysql_async::Error> {
    // Assignments are made from left to right, so `run` comes last.
    conn.exec_drop(
        "INSERT INTO multiactive.rebuilds (link, `database`, `table`, run, state, reason, asked) \
         VALUES (?, ?, ?, ?, 'Asked', '', UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE \
         state = IF(run = VALUES(run), state, 'Asked'), \
         reason = IF(run = VALUES(run), reason, ''), \
         copied = IF(run = VALUES(run), copied, 0), \
         asked = IF(run = VALUES(run), asked, VALUES(asked)), \
         ended = IF(run = VALUES(run), ended, NULL), run = VALUES(run)",
        (link.to_string(), database, table, run),
    )
    .await
}

/// What became of a wish.
///
/// # Errors
/// The server's.
pub async fn look(
    conn: &mut Conn,
    link: &LinkKey,
    (database, table): (&str, &str),
) -> Result<Option<Wish>, mysql_async::Error> {
    let row: Option<(String, String, String, u64)> = conn
        .exec_first(
            "SELECT CAST(run AS CHAR), CAST(state AS CHAR), reason, copied \
             FROM multiactive.rebuilds WHERE link = ? AND `database` = ? AND `table` = ?",
            (link.to_string(), database, table),
        )
        .await?;
    Ok(row.map(|(run, state, reason, copied)| Wish {
        run,
        state: match state.as_str() {
            "Asked" => State::Asked,
            "Emptying" => State::Emptying,
            "Copying" => State::Copying,
            "Done" => State::Done,
            _ => State::Refused,
        },
        reason,
        copied,
    }))
}

/// Takes back what a run asked for and nobody has begun with; says how many tables that was.
///
/// # Errors
/// The server's.
pub async fn take_back(
    conn: &mut Conn,
    link: &LinkKey,
    run: &str,
) -> Result<u64, mysql_async::Error> {
    conn.exec_drop(
        "DELETE FROM multiactive.rebuilds WHERE link = ? AND run = ? AND state = 'Asked'",
        (link.to_string(), run),
    )
    .await?;
    Ok(conn.affected_rows())
}

/// The names of the tables, as `database.table`, that were begun for a run and have not ended.
///
/// # Errors
/// The server's.
pub async fn begun_for(
    conn: &mut Conn,
    link: &LinkKey,
    run: &str,
) -> Result<Vec<String>, mysql_async::Error> {
    conn.exec(
        "SELECT CAST(CONCAT(`database`, '.', `table`) AS CHAR) FROM multiactive.rebuilds \
         WHERE link = ? AND run = ? AND state IN ('Emptying', 'Copying') ORDER BY 1",
        (link.to_string(), run),
    )
    .await
}

/// The wishes that nobody has begun with, the oldest first. A run keeps how far it is every second:
/// what is left of one that has not for [`LIVES`] seconds, since its pod and its object are gone,
/// counts for nothing.
pub(crate) async fn asked(target: &mut Target, link: &LinkKey) -> Result<Vec<Asked>, WriterError> {
    let sql = format!(
        "SELECT CAST(`database` AS CHAR), CAST(`table` AS CHAR), CAST(run AS CHAR) \
         FROM multiactive.rebuilds WHERE link={} AND state='Asked' \
         AND run IN (SELECT run FROM multiactive.repair_runs \
         WHERE at > UTC_TIMESTAMP(6) - INTERVAL {LIVES} SECOND) ORDER BY asked",
        quote(&link.to_string())
    );
    // The arbiter of an earlier release has not made the table; nobody can wish anything there.
    let read = target.all("reading multiactive.rebuilds", &sql).await;
    let found: Vec<(String, String, String)> = or_none(read.map(Some))?.unwrap_or_default();
    let asked = |(database, table, run)| Asked {
        database,
        table,
        run,
    };
    Ok(found.into_iter().map(asked).collect())
}

/// Forgets what was wished of a link: one that begins has nothing to do with an earlier one of its
/// name.
pub(crate) async fn forget(target: &mut Target, link: &LinkKey) -> Result<(), WriterError> {
    let sql = format!(
        "DELETE FROM multiactive.rebuilds WHERE link={}",
        quote(&link.to_string())
    );
    let forgotten = target.execute(WRITING, sql.as_bytes()).await;
    or_none(forgotten.map(Some)).map(|_| ())
}

/// The statement that says that it was begun; it must find one row.
pub(crate) fn begun(link: &LinkKey, asked: &Asked, there: bool, position: &str) -> String {
    format!(
        "UPDATE multiactive.rebuilds SET state='{}', reason='', copied=0, position={}, ended=NULL \
         WHERE {} AND state='Asked' AND run={}",
        if there { "Emptying" } else { "Copying" },
        quote(position),
        named(link, &asked.database, &asked.table),
        quote(&asked.run)
    )
}

pub(crate) fn refused(link: &LinkKey, asked: &Asked, reason: &str) -> String {
    format!(
        "UPDATE multiactive.rebuilds SET state='Refused', reason={}, ended=UTC_TIMESTAMP(6) \
         WHERE {} AND state='Asked' AND run={}",
        quote(reason),
        named(link, &asked.database, &asked.table),
        quote(&asked.run)
    )
}

/// What says that a table which was not there is, and so is emptied first.
pub(crate) fn found(link: &LinkKey, database: &str, table: &str) -> String {
    format!(
        "UPDATE multiactive.rebuilds SET state='Emptying' WHERE {} AND state='Copying'",
        named(link, database, table)
    )
}

/// Whoever asked again meanwhile has what is wanted.
pub(crate) fn emptied(link: &LinkKey, database: &str, table: &str) -> String {
    format!(
        "UPDATE multiactive.rebuilds SET state='Copying' WHERE {} AND state IN ('Asked', 'Emptying')",
        named(link, database, table)
    )
}

pub(crate) fn copied(
    link: &LinkKey,
    (database, table): (&str, &str),
    rows: u64,
    done: bool,
) -> String {
    let done = if done {
        ", state='Done', ended=UTC_TIMESTAMP(6)"
    } else {
        ""
    };
    format!(
        "UPDATE multiactive.rebuilds SET copied={rows}{done} WHERE {} AND state='Copying'",
        named(link, database, table)
    )
}

pub(crate) fn dropped(link: &LinkKey, database: &str, table: &str) -> String {
    let reason = format!("{database}.{table} is not at the source any more");
    format!(
        "UPDATE multiactive.rebuilds SET state='Refused', reason={}, ended=UTC_TIMESTAMP(6) \
         WHERE {} AND state='Copying'",
        quote(&reason),
        named(link, database, table)
    )
}

fn named(link: &LinkKey, database: &str, table: &str) -> String {
    format!(
        "link={} AND `database`={} AND `table`={}",
        quote(&link.to_string()),
        quote(database),
        quote(table)
    )
}
