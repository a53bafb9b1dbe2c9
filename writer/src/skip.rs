//! Leaving out the one transaction that a person named: whole, once, and never another one.
//!
//! The wish stands in `multiactive.skips` of the target, where `mactl link skip` puts it: at most
//! one for each link. It takes effect only if all of this holds:
//! - the link has just halted at exactly this transaction, in a session that went through it row by
//!   row, and the halt is about this transaction ([`halted_at`]);
//! - its epoch goes on (what a person wants does not change what becomes of an ended one);
//! - it is a statement, or changes rows of the link's tables only, so that no epoch is left out.
//!
//! Then it is not applied but filed in `multiactive.held`, and that, the checkpoint past it, the
//! count in the ledger and the removal of the wish are one transaction of the target. A writer that
//! dies before it is committed finds all as before, and must fail at the transaction once more
//! before it looks for the wish; one that dies after it finds the checkpoint past the transaction.

use change::{Body, Gtid, Position, Transaction};
use model::{HaltedAt, LinkKey};

use crate::apply::Applier;
use crate::bookkeeping;
use crate::error::{Class, WriterError};
use crate::sql::literal;
use crate::sql::plan::{Expect, Plan};
use crate::stranded;
use crate::target::lookup::quote;
use crate::target::session::Target;

/// That a person wants a transaction left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The transaction.
    pub gtid: String,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when, UTC.
    pub at: String,
}

/// The wish that stands for this transaction of the link.
pub(crate) async fn find(
    target: &mut Target,
    link: &LinkKey,
    gtid: &str,
) -> Result<Option<Wish>, WriterError> {
    let sql = format!(
        "SELECT CAST(gtid AS CHAR), CAST(`by` AS CHAR), CAST(reason AS CHAR), CAST(at AS CHAR) \
         FROM multiactive.skips WHERE link={} AND gtid={}",
        quote(&link.to_string()),
        quote(gtid)
    );
    let found: Option<(String, String, String, String)> =
        or_none(target.first("reading multiactive.skips", &sql).await)?;
    Ok(found.map(|(gtid, by, reason, at)| Wish {
        gtid,
        by,
        reason,
        at,
    }))
}

/// The arbiter of an earlier release has not made the table; nobody can wish anything there.
pub(crate) fn or_none<T>(read: Result<Option<T>, WriterError>) -> Result<Option<T>, WriterError> {
    match read {
        Err(WriterError::Schema { .. }) => Ok(None),
        other => other,
    }
}

impl Applier {
    /// Counts what the link was made to skip and nobody has settled, for `/status`.
    pub(crate) async fn count_skipped_open(&mut self) -> Result<(), WriterError> {
        const DOING: &str = "counting in multiactive.held";
        let all = format!(
            "SELECT COUNT(DISTINCT source, gtid) FROM multiactive.held WHERE link={}",
            quote(&self.config.link.to_string())
        );
        let open = format!("{all} AND settled IS NULL");
        let mut count: Result<Option<u64>, _> = self.target.first(DOING, &open).await;
        if matches!(count, Err(WriterError::Schema { .. })) {
            // The arbiter is of a release in which nobody could settle anything.
            count = self.target.first(DOING, &all).await;
        }
        self.status.set_skipped_open(or_none(count)?.unwrap_or(0));
        Ok(())
    }

    /// Removes a wish to skip what the link has passed.
    pub(crate) async fn forget_passed_wish(&mut self) -> Result<(), WriterError> {
        let position = self.stored.position.as_ref();
        forget_passed(&mut self.target, &self.config.link, position).await
    }
}

/// Removes the link's wish if its transaction is not to come any more: the checkpoint is past it, or
/// (`None`) the link begins anew. A source that is built anew and gives out the same GTID again
/// would otherwise have another transaction left out.
pub(crate) async fn forget_passed(
    target: &mut Target,
    link: &LinkKey,
    position: Option<&Position>,
) -> Result<(), WriterError> {
    let link = quote(&link.to_string());
    let sql = format!("SELECT CAST(gtid AS CHAR) FROM multiactive.skips WHERE link={link}");
    let waiting: Option<String> = or_none(target.first("reading multiactive.skips", &sql).await)?;
    let Some(gtid) = waiting else {
        return Ok(());
    };
    let stands = match (position, gtid.parse::<Gtid>()) {
        (Some(position), Ok(named)) => !position.contains_gtid(&named),
        // It names nothing that could come.
        (Some(_), Err(_)) | (None, _) => false,
    };
    if stands {
        return Ok(());
    }
    tracing::warn!(
        gtid,
        "the link passed a transaction that it was asked to skip"
    );
    let sql = format!(
        "DELETE FROM multiactive.skips WHERE link={link} AND gtid={}",
        quote(&gtid)
    );
    target
        .execute("writing to multiactive.skips", sql.as_bytes())
        .await
}

/// The transaction that halts the link, if the error is about one.
pub(crate) fn halted_at(transaction: &Transaction, error: &WriterError) -> Option<HaltedAt> {
    if error.class() != Class::Halt {
        return None;
    }
    let of_it = match error {
        WriterError::Conflict(_)
        | WriterError::DdlRefused { .. }
        | WriterError::DdlFailed { .. }
        | WriterError::DdlAmbiguous { .. }
        | WriterError::NotCarried { .. } => true,
        WriterError::RowRefused { source, .. } => speaks_of_the_row(source),
        // Of a table, an epoch, the stream, the settings: not of this transaction alone.
        _ => return None,
    };
    Some(HaltedAt {
        gtid: transaction.gtid.clone(),
        skippable: of_it && may_be_left_out(transaction),
    })
}

/// Whether the server's error is about the row rather than about the table, its definition or the
/// account, which the next transaction would meet as well. Codes as in both engines' error lists.
fn speaks_of_the_row(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Server(error) => !matches!(
            error.code,
            // Access denied to a database, a table, a column, an operation, a routine.
            1044 | 1045 | 1142 | 1143 | 1227 | 1370
            // No such database, column, table; a view; a syntax error.
            | 1049 | 1054 | 1146 | 1347 | 1356 | 1064
        ),
        _ => false,
    }
}

/// Whether a transaction, or a part of one, is a statement, or changes rows of the link's own tables
/// and nothing else.
pub(crate) fn may_be_left_out(transaction: &Transaction) -> bool {
    match &transaction.body {
        Body::Ddl(_) => true,
        Body::Rows(changes) => changes
            .iter()
            .all(|change| !bookkeeping::is_ours(&change.table.database)),
    }
}

/// Adds the removal of the wish. It must still stand.
pub(crate) fn plan_removal(plan: &mut Plan, link: &LinkKey, wish: &Wish) {
    let sql = format!(
        "DELETE FROM multiactive.skips WHERE link={} AND gtid={} AND at={}",
        quote(&link.to_string()),
        quote(&wish.gtid),
        quote(&wish.at)
    );
    plan.wish(Expect::Rows(1), sql.as_bytes());
}

/// Adds the filing of the transaction, or of a part of it. `first` is the number of its first piece;
/// returns the number after its last.
pub(crate) fn plan_filing(
    plan: &mut Plan,
    transaction: &Transaction,
    link: &LinkKey,
    wish: &Wish,
    first: u32,
) -> Result<u32, WriterError> {
    if !may_be_left_out(transaction) {
        return Err(WriterError::Unexpected {
            what: format!(
                "transaction {}, which is to be skipped and changes more than rows of the link's \
                 tables",
                transaction.gtid
            ),
            fix: format!("it cannot be skipped: mactl link skip {link} --withdraw"),
        });
    }
    let mut values = Vec::new();
    for text in [link.to_string().as_str(), &wish.by, &wish.reason, &wish.at] {
        if !values.is_empty() {
            values.push(b',');
        }
        literal::text(&mut values, text);
    }
    let mut number = first;
    for piece in stranded::pieces(transaction) {
        let columns = "link, asked_by, reason, asked";
        let sql = stranded::filing("held", columns, &values, &piece, number)?;
        plan.housekeeping(Expect::Rows(1), &sql);
        number += 1;
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use change::{Ddl, DdlSession};

    use super::*;
    use crate::error::{Conflict, ConflictKind};
    use crate::sql::plan::Subject;
    use crate::stranded::tests::transaction;

    fn conflict() -> WriterError {
        Conflict {
            kind: ConflictKind::InsertExists,
            table: "shop.t".into(),
            key: "id=1".into(),
            gtid: "0-1-7".into(),
            detail: String::new(),
        }
        .into()
    }

    fn refused(code: u16) -> WriterError {
        WriterError::RowRefused {
            doing: "applying a change".into(),
            gtid: "0-1-7".into(),
            source: mysql_async::Error::Server(mysql_async::ServerError {
                code,
                message: String::new(),
                state: String::new(),
            }),
        }
    }

    fn ours() -> Transaction {
        let mut ours = transaction(&[1, 1]);
        if let Body::Rows(changes) = &mut ours.body {
            let mut table = (*changes[1].table).clone();
            table.database = "multiactive".into();
            changes[1].table = Arc::new(table);
        }
        ours
    }

    fn statement() -> Transaction {
        let ddl = Ddl {
            database: "shop".into(),
            statement: bytes::Bytes::from_static(b"TRUNCATE t"),
            verb: "TRUNCATE".into(),
            objects: Vec::new(),
            session: DdlSession::default(),
            refused: None,
        };
        Transaction {
            body: Body::Ddl(ddl),
            ..transaction(&[1])
        }
    }

    fn at(transaction: &Transaction, error: &WriterError) -> Option<bool> {
        let at = halted_at(transaction, error)?;
        assert_eq!(at.gtid, "0-1-7");
        Some(at.skippable)
    }

    #[test]
    fn what_does_not_fit_by_itself_can_be_left_out() {
        let rows = transaction(&[2]);
        assert_eq!(at(&rows, &conflict()), Some(true));
        assert_eq!(at(&rows, &refused(1118)), Some(true));
        // Each transaction of that table would meet these.
        assert_eq!(at(&rows, &refused(1142)), Some(false));
        assert_eq!(at(&rows, &refused(1146)), Some(false));
        // A deadlock is no halt.
        assert_eq!(at(&rows, &refused(1213)), None);
        // An epoch is never left out.
        assert_eq!(at(&ours(), &conflict()), Some(false));
        let failed = WriterError::DdlFailed {
            statement: "TRUNCATE t".into(),
            gtid: "0-1-7".into(),
            answer: String::new(),
            fix: String::new(),
        };
        assert_eq!(at(&statement(), &failed), Some(true));
        // What is not about one transaction.
        let unfit = crate::target::unfit::Unfit::Missing {
            table: "shop.t".into(),
        };
        let halted = WriterError::SyncerHalted {
            reason: "BinlogPurged".into(),
            message: String::new(),
        };
        for error in [unfit.into(), halted] {
            assert_eq!(at(&rows, &error), None, "{error}");
        }
    }

    #[test]
    fn what_is_left_out_is_filed_whole_with_who_wanted_it() {
        let link: LinkKey = "shop/sh-bj".parse().unwrap();
        let wish = Wish {
            gtid: "0-1-7".into(),
            by: "ann".into(),
            reason: "it's wide".into(),
            at: "2026-01-02 03:04:05.000006".into(),
        };
        let mut plan = Plan::new(true);
        plan_removal(&mut plan, &link, &wish);
        assert_eq!(
            plan_filing(&mut plan, &transaction(&[2, 1]), &link, &wish, 4).unwrap(),
            5
        );
        let requests = plan.finish();
        let sql: Vec<u8> = requests.iter().flat_map(|it| it.sql.clone()).collect();
        let sql = String::from_utf8_lossy(&sql);
        for part in [
            "DELETE FROM multiactive.skips WHERE link='shop/sh-bj' AND gtid='0-1-7' AND \
             at='2026-01-02 03:04:05.000006'",
            "INSERT INTO multiactive.held (source, gtid, part, epoch, link, asked_by, reason, asked,",
            "VALUES ('sh','0-1-7',4,1,'shop/sh-bj','ann','it\\'s wide','2026-01-02 03:04:05.000006',",
            "FROM_UNIXTIME(1700000000.000001),3,",
        ] {
            assert!(sql.contains(part), "{part} is not in {sql}");
        }
        let statements = requests.iter().flat_map(|request| &request.statements);
        assert!(
            statements
                .filter(|statement| statement.subject != Subject::Housekeeping
                    || statement.expect != Expect::Success)
                .all(|statement| statement.expect == Expect::Rows(1))
        );
        let mut plan = Plan::new(true);
        assert!(plan_filing(&mut plan, &ours(), &link, &wish, 0).is_err());
        assert_eq!(
            plan_filing(&mut plan, &statement(), &link, &wish, 0).unwrap(),
            1
        );
    }
}
