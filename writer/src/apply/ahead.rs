//! Rows of a batch, planned while the server works on the batch before it.
//!
//! Only what cannot come out otherwise is planned ahead: the rows of transactions that are applied,
//! into tables whose fit is known. Head and checkpoint of the target transaction, the lock on the
//! epoch and what becomes of each transaction are decided when the batch's turn comes, as always; if
//! that leaves anything but rows to be applied, or a definition may have changed since, the batch is
//! planned anew.

use std::sync::Arc;

use change::{Body, Transaction};
use model::LinkConfig;
use mysql::session::Engine;

use super::{Applier, Attempt, plan_change};
use crate::bookkeeping;
use crate::epoch::Fate;
use crate::error::WriterError;
use crate::sql::merge::Merge;
use crate::sql::plan::{Plan, Request};
use crate::target::lookup::Known;

/// What planning rows needs, without the session.
#[derive(Debug)]
pub(crate) struct Planner {
    known: Known,
    engine: Engine,
    config: Arc<LinkConfig>,
}

/// The rows of a batch, as requests.
#[derive(Debug)]
pub(crate) struct Ahead {
    known: Known,
    requests: Vec<Request>,
}

impl Planner {
    /// The rows of a batch. `None` if a table's fit is not known, or something does not fit: the
    /// batch's own turn tells what.
    pub(crate) fn plan(self, batch: &[Transaction]) -> Option<Ahead> {
        let requests = self.requests(batch).ok().flatten()?;
        Some(Ahead {
            known: self.known,
            requests,
        })
    }

    fn requests(&self, batch: &[Transaction]) -> Result<Option<Vec<Request>>, WriterError> {
        let mut plan = Plan::new(false);
        let mut merge = Merge::new(self.engine);
        for transaction in batch {
            bookkeeping::check_origin(transaction, &self.config)?;
            let Body::Rows(changes) = &transaction.body else {
                return Ok(None);
            };
            for change in changes {
                let Some(mapping) = self.known.get(&change.table) else {
                    return Ok(None);
                };
                let merge = Some(&mut merge);
                let place = (transaction.gtid.as_str(), &*self.config);
                plan_change(&mut plan, change, mapping, place, merge)?;
            }
        }
        merge.finish(&mut plan);
        Ok(Some(plan.finish()))
    }
}

impl Ahead {
    /// The requests of a target transaction that begins with these; of one whose head has been run
    /// already, with none.
    pub(super) fn after(&self, mut head: Vec<Request>) -> Vec<Request> {
        match (head.last_mut(), self.requests.split_first()) {
            (Some(last), Some((first, rest))) => {
                last.append(first.clone());
                head.extend_from_slice(rest);
            }
            _ => head.extend_from_slice(&self.requests),
        }
        head
    }
}

impl Applier {
    /// What plans the batch after the one that is being applied; `None` where tables are being copied
    /// or emptied, as that decides how rows are written.
    pub(crate) fn planner(&self) -> Option<Planner> {
        let copies = self.settled.snapshot.is_under_way();
        (!copies && !self.careful).then(|| Planner {
            known: self.mappings.known(),
            engine: self.target.engine(),
            config: Arc::clone(&self.config),
        })
    }

    /// The requests of a target transaction that begins with this plan, and in which this becomes of
    /// the transactions.
    pub(super) async fn requests(
        &mut self,
        mut plan: Plan,
        (batch, fates): (&[Transaction], &[Fate]),
        careful: bool,
        ahead: Option<&Ahead>,
    ) -> Result<Vec<Request>, Attempt> {
        let ahead = ahead.filter(|ahead| !careful && self.still_right(ahead, fates));
        if let Some(ahead) = ahead {
            return Ok(ahead.after(plan.finish()));
        }
        self.plan_batch(&mut plan, batch, fates, careful).await?;
        Ok(plan.finish())
    }

    /// Whether what was planned ahead is what would be planned now.
    fn still_right(&self, ahead: &Ahead, fates: &[Fate]) -> bool {
        !self.settled.snapshot.is_under_way()
            && self.mappings.are_still(&ahead.known)
            && fates.iter().all(|fate| *fate == Fate::Applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::plan::{Expect, Subject};

    fn request(sql: &str) -> Request {
        let mut request = Request::default();
        request.push(Subject::Housekeeping, Expect::Success, sql.as_bytes());
        request
    }

    /// Where rows are compared before they are changed, the head has been run by then.
    #[test]
    fn every_row_is_written_whether_or_not_the_head_was_run() {
        let ahead = Ahead {
            known: Known::default(),
            requests: vec![request("one"), request("two")],
        };
        let sqls = |head: Vec<Request>| -> Vec<String> {
            let requests = ahead.after(head).into_iter();
            requests
                .map(|it| String::from_utf8(it.sql).unwrap())
                .collect()
        };
        assert_eq!(sqls(Vec::new()), ["one", "two"]);
        assert_eq!(sqls(vec![request("head")]), ["head;one", "two"]);
    }
}
