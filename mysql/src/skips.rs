//! What people have links leave out: the wish in `multiactive.skips` of the target, and what was
//! filed for it in `multiactive.held`.

use change::{Gtid, InvalidPosition, Position};
use mysql_async::Row;
use mysql_async::prelude::Queryable;
use serde::Serialize;

use crate::session::Session;
use crate::stranded::{FiledChange, StrandedError, shown_all};

/// The driver's error.
pub type DriverError = mysql_async::Error;

/// At most so many are listed at once, the newest first.
pub const LISTED: usize = 1000;

/// The server's code for a row that is there already.
const DUPLICATE: u16 = 1062;

/// That a link is to leave a transaction out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    /// The link, as `namespace/name`.
    pub link: String,
    /// The transaction's GTID at the source.
    pub gtid: String,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when, UTC.
    pub at: String,
}

/// A transaction that a link has left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The link, as `namespace/name`.
    pub link: String,
    /// Where it was committed.
    pub source: String,
    /// Its GTID there.
    pub gtid: String,
    /// The epoch that it was committed under.
    pub epoch: u64,
    /// When it was committed, UTC.
    pub committed: String,
    /// How many changes it holds.
    pub changes: u64,
    /// Which tables, with their changes.
    pub what: String,
    /// Who wanted it left out.
    pub asked_by: String,
    /// Why.
    pub reason: String,
    /// When that was asked for, UTC.
    pub asked: String,
    /// When it was filed, UTC.
    pub filed: String,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It stands; nobody had asked before.
    Stands(Wish),
    /// Another one stands, for this transaction or another one, and was left alone.
    Before(Wish),
}

/// Asks that the link leave this transaction out. There is at most one wish for each link; one that
/// stands is left as it is.
///
/// # Errors
/// The driver's, for example where the schema `multiactive` is not there.
pub async fn ask(
    session: &mut Session,
    link: &str,
    gtid: &str,
    by: &str,
    reason: &str,
) -> Result<Asked, DriverError> {
    let sql = "INSERT INTO multiactive.skips (link, gtid, `by`, reason, at) VALUES (?, ?, ?, ?, ?)";
    // The one that stands may be carried out between the two statements; then it is asked again.
    loop {
        let now = "SELECT CAST(UTC_TIMESTAMP(6) AS CHAR)";
        let at: Option<String> = session.conn.query_first(now).await?;
        let wish = Wish {
            link: link.to_owned(),
            gtid: gtid.to_owned(),
            by: by.to_owned(),
            reason: reason.to_owned(),
            at: at.unwrap_or_default(),
        };
        let row = (link, gtid, by, reason, &wish.at);
        match session.conn.exec_drop(sql, row).await {
            Ok(()) => return Ok(Asked::Stands(wish)),
            Err(DriverError::Server(error)) if error.code == DUPLICATE => {}
            Err(error) => return Err(error),
        }
        if let Some(wish) = waiting(session, link).await? {
            return Ok(Asked::Before(wish));
        }
    }
}

/// The wish that stands for a link.
///
/// # Errors
/// The driver's.
pub async fn waiting(session: &mut Session, link: &str) -> Result<Option<Wish>, DriverError> {
    let sql = "SELECT CAST(link AS CHAR), CAST(gtid AS CHAR), CAST(`by` AS CHAR), \
               CAST(reason AS CHAR), CAST(at AS CHAR) FROM multiactive.skips WHERE link = ?";
    let found: Option<(String, String, String, String, String)> =
        session.conn.exec_first(sql, (link,)).await?;
    Ok(found.map(|(link, gtid, by, reason, at)| Wish {
        link,
        gtid,
        by,
        reason,
        at,
    }))
}

/// Takes back a wish that has not been carried out. Says whether it still stood.
///
/// # Errors
/// The driver's.
pub async fn withdraw(session: &mut Session, wish: &Wish) -> Result<bool, DriverError> {
    let sql = "DELETE FROM multiactive.skips WHERE link = ? AND gtid = ? AND at = ?";
    session
        .conn
        .exec_drop(sql, (&wish.link, &wish.gtid, &wish.at))
        .await?;
    Ok(session.conn.affected_rows() > 0)
}

/// Whether the link's checkpoint is past a transaction; `None` where there is no checkpoint.
///
/// # Errors
/// The driver's, and [`PassedError::Position`] for a checkpoint or GTID that cannot be read.
pub async fn has_passed(
    session: &mut Session,
    link: &str,
    gtid: &str,
) -> Result<Option<bool>, PassedError> {
    let sql = "SELECT CAST(position AS CHAR) FROM multiactive.applied WHERE link = ?";
    let position: Option<Option<String>> = session.conn.exec_first(sql, (link,)).await?;
    let Some(position) = position.flatten() else {
        return Ok(None);
    };
    let gtid: Gtid = gtid.parse()?;
    // An empty text is a position of either engine, at which nothing has been passed.
    if position.is_empty() {
        return Ok(Some(false));
    }
    Ok(Some(position.parse::<Position>()?.contains_gtid(&gtid)))
}

/// Why it could not be told whether a link has passed a transaction.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// The server answered with an error.
    #[error("{0}")]
    Driver(#[from] DriverError),
    /// A position or GTID cannot be read.
    #[error("{0}")]
    Position(#[from] InvalidPosition),
}

/// What a link has left out, the newest first, at most [`LISTED`].
///
/// # Errors
/// The driver's.
pub async fn held(session: &mut Session, link: &str) -> Result<Vec<Held>, DriverError> {
    let sql = format!(
        "SELECT CAST(link AS CHAR), CAST(source AS CHAR), CAST(gtid AS CHAR), \
         COALESCE(CAST(MIN(committed) AS CHAR), ''), \
         LEFT(GROUP_CONCAT(`tables` ORDER BY part SEPARATOR ', '), 1000), \
         CAST(MIN(asked_by) AS CHAR), CAST(MIN(reason) AS CHAR), CAST(asked AS CHAR), \
         CAST(MIN(filed) AS CHAR), MIN(epoch), CAST(SUM(changes) AS UNSIGNED) \
         FROM multiactive.held WHERE link = ? GROUP BY link, source, gtid, asked \
         ORDER BY MIN(seq) DESC LIMIT {LISTED}"
    );
    let rows: Vec<Row> = session.conn.exec(sql, (link,)).await?;
    let held = |mut row: Row| {
        let mut text = |index: usize| row.take::<String, _>(index).unwrap_or_default();
        let (link, source, gtid) = (text(0), text(1), text(2));
        let (committed, what, asked_by) = (text(3), text(4), text(5));
        let (reason, asked, filed) = (text(6), text(7), text(8));
        let mut number = |index: usize| row.take::<u64, _>(index).unwrap_or_default();
        Held {
            link,
            source,
            gtid,
            epoch: number(9),
            committed,
            changes: number(10),
            what,
            asked_by,
            reason,
            asked,
            filed,
        }
    };
    Ok(rows.into_iter().map(held).collect())
}

/// Every change of one transaction that a link has left out, in order; empty if it has not.
///
/// # Errors
/// The driver's, and [`StrandedError::Body`] for a body of another release.
pub async fn show(
    session: &mut Session,
    link: &str,
    gtid: &str,
) -> Result<Vec<FiledChange>, StrandedError> {
    let sql = "SELECT body FROM multiactive.held WHERE link = ? AND gtid = ? ORDER BY seq";
    let bodies: Vec<Vec<u8>> = session.conn.exec(sql, (link, gtid)).await?;
    shown_all(bodies)
}
