//! What people have links leave out: the wish in `multiactive.skips` of the target, and what was
//! filed for it in `multiactive.held`.

use change::{Gtid, InvalidPosition, Position};
use mysql_async::prelude::Queryable;
use mysql_async::{Params, Row, Value};
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
    /// When a person settled it, UTC; empty if nobody has.
    pub settled: String,
    /// Who.
    pub settled_by: String,
    /// Why, or what was done about it.
    pub settled_reason: String,
}

impl Held {
    /// Whether the target lacks its changes as far as anybody has said.
    pub fn is_open(&self) -> bool {
        self.settled.is_empty()
    }
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

/// What a link has left out, the newest first, at most [`LISTED`]; `open`: only what nobody has
/// settled.
///
/// # Errors
/// The driver's.
pub async fn held(session: &mut Session, link: &str, open: bool) -> Result<Vec<Held>, DriverError> {
    let settles = can_settle(session).await?;
    let which = if open && settles {
        " AND settled IS NULL"
    } else {
        ""
    };
    let sql = format!("{} LIMIT {LISTED}", select(settles, which));
    let rows: Vec<Row> = session.conn.exec(sql, (link,)).await?;
    Ok(rows.into_iter().map(read).collect())
}

/// One transaction that a link has left out; empty if it has not. More than one only where a source
/// that was built anew has given out the same GTID again. It may be typed in either case.
///
/// # Errors
/// The driver's.
pub async fn find(session: &mut Session, link: &str, gtid: &str) -> Result<Vec<Held>, DriverError> {
    let settles = can_settle(session).await?;
    let sql = select(settles, " AND LOWER(gtid) = LOWER(?)");
    let rows: Vec<Row> = session.conn.exec(sql, (link, gtid.trim())).await?;
    Ok(rows.into_iter().map(read).collect())
}

/// Records that nothing waits any more for transactions that a link has left out: who says so, and
/// why. They stay readable. All of them are settled or none; what was settled before stays as it
/// was. Returns how many rows of `multiactive.held` that were.
///
/// # Errors
/// [`SettleError::TooOld`] where the table has no columns for it yet, and the driver's.
pub async fn settle(
    session: &mut Session,
    link: &str,
    gtids: &[String],
    by: &str,
    reason: &str,
) -> Result<u64, SettleError> {
    if gtids.is_empty() {
        return Ok(0);
    }
    if !can_settle(session).await? {
        return Err(SettleError::TooOld);
    }
    let marks = vec!["?"; gtids.len()].join(", ");
    let sql = format!(
        "UPDATE multiactive.held SET settled = UTC_TIMESTAMP(6), settled_by = ?, \
         settled_reason = ? WHERE link = ? AND gtid IN ({marks}) AND settled IS NULL"
    );
    let mut values: Vec<Value> = vec![by.into(), reason.into(), link.into()];
    values.extend(gtids.iter().map(Value::from));
    let params = Params::Positional(values);
    session.conn.exec_drop(sql, params).await?;
    Ok(session.conn.affected_rows())
}

/// Why nothing was settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The server answered with an error.
    #[error("{0}")]
    Driver(#[from] DriverError),
    /// The schema is of an earlier release.
    #[error(
        "multiactive.held has no columns for that yet; an arbiter of this release adds them when it \
         starts"
    )]
    TooOld,
}

/// Whether the arbiter here is of a release that keeps who settled what. Where it is not, nothing
/// was settled.
async fn can_settle(session: &mut Session) -> Result<bool, DriverError> {
    let sql = "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = 'multiactive' \
               AND table_name = 'held' AND column_name = 'settled_reason'";
    let found: Option<u64> = session.conn.query_first(sql).await?;
    Ok(found == Some(1))
}

/// The statement that reads what a link has left out, the newest first.
fn select(settles: bool, which: &str) -> String {
    let settled = if settles {
        "COALESCE(CAST(settled AS CHAR), ''), COALESCE(CAST(MIN(settled_by) AS CHAR), ''), \
         COALESCE(CAST(MIN(settled_reason) AS CHAR), '')"
    } else {
        "'', '', ''"
    };
    let group = if settles { ", settled" } else { "" };
    format!(
        "SELECT CAST(link AS CHAR), CAST(source AS CHAR), CAST(gtid AS CHAR), \
         COALESCE(CAST(MIN(committed) AS CHAR), ''), \
         LEFT(GROUP_CONCAT(`tables` ORDER BY part SEPARATOR ', '), 1000), \
         CAST(MIN(asked_by) AS CHAR), CAST(MIN(reason) AS CHAR), CAST(asked AS CHAR), \
         CAST(MIN(filed) AS CHAR), {settled}, MIN(epoch), CAST(SUM(changes) AS UNSIGNED) \
         FROM multiactive.held WHERE link = ?{which} GROUP BY link, source, gtid, asked{group} \
         ORDER BY MIN(seq) DESC"
    )
}

fn read(mut row: Row) -> Held {
    let mut text = |index: usize| row.take::<String, _>(index).unwrap_or_default();
    let (link, source, gtid) = (text(0), text(1), text(2));
    let (committed, what, asked_by) = (text(3), text(4), text(5));
    let (reason, asked, filed) = (text(6), text(7), text(8));
    let (settled, settled_by, settled_reason) = (text(9), text(10), text(11));
    let mut number = |index: usize| row.take::<u64, _>(index).unwrap_or_default();
    Held {
        link,
        source,
        gtid,
        epoch: number(12),
        committed,
        changes: number(13),
        what,
        asked_by,
        reason,
        asked,
        filed,
        settled,
        settled_by,
        settled_reason,
    }
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
