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

/// The oldest wish that nobody has begun with.
pub(crate) async fn next(
    target: &mut Target,
    link: &LinkKey,
) -> Result<Option<Asked>, WriterError> {
    let sql = format!(
        "SELECT CAST(`database` AS CHAR), CAST(`table` AS CHAR), CAST(run AS CHAR) \
         FROM multiactive.rebuilds WHERE link={} AND state='Asked' ORDER BY asked LIMIT 1",
        quote(&link.to_string())
    );
    // The arbiter of an earlier release has not made the table; nobody can wish anything there.
    let found: Option<(String, String, String)> =
        or_none(target.first("reading multiactive.rebuilds", &sql).await)?;
    Ok(found.map(|(database, table, run)| Asked {
        database,
        table,
        run,
    }))
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
