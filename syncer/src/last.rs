//! Whether the source still has the last transaction that the target applied from it.
//!
//! A source that was restored from a backup, or lost the end of its binlog in a crash
//! (`sync_binlog` other than 1), gives out the numbers of the lost transactions again. Once it has
//! passed the checkpoint, the numbers alone show nothing, and what it gave them to would never be
//! read. What is lost is always the end of a binlog; so the last transaction of the checkpoint is
//! lost if anything before it is, and it alone is compared: by the time of its commit, which a copy
//! of the server and a restore from its binlogs keep. MariaDB's is in whole seconds; what was sent is
//! lost with the machine, or by somebody's hand, and neither is back within one. MariaDB's replicas do
//! not keep it in every case, so there only what the server committed itself is compared.

use std::time::Duration;

use binlog::{
    BinlogError, Birth, Filter, Output, QueryEvent, ReadOptions, Reader, Refusal, StatementUse,
    TableUse,
};
use change::sync::Last;
use change::{DateTime, Gtid, Position};

use crate::error::PullError;
use crate::source::Source;
use crate::start::went_back;

/// How long the source may look for the transaction in a long binlog.
const SEARCH: Duration = Duration::from_secs(60);

/// Compares the last transaction of a checkpoint with the one that the source has now.
///
/// # Errors
/// The source went back, or cannot be read.
pub async fn check(
    source: &mut Source,
    options: &ReadOptions,
    checkpoint: &Position,
    last: &Last,
) -> Result<(), PullError> {
    let unknown = |why: &str| {
        tracing::warn!(gtid = last.gtid, %checkpoint, "not compared with the source's: {why}");
        Ok(())
    };
    let gtid: Option<Gtid> = last.gtid.parse().ok();
    let before = gtid.and_then(|gtid| Some((checkpoint.before(&gtid)?, gtid)));
    let Some((start, gtid)) = before else {
        return unknown("it is not the last of the checkpoint");
    };
    if let Gtid::MariaDb(of) = &gtid
        && source.server_id().await? != of.server
    {
        return unknown("another server committed it first");
    }
    let found = match tokio::time::timeout(SEARCH, find(options, start, &gtid)).await {
        Ok(Ok(found)) => found,
        Ok(Err(BinlogError::Purged { .. })) => return unknown("the source has purged it"),
        Ok(Err(error @ BinlogError::NotSent { .. })) => return unknown(&error.to_string()),
        Ok(Err(BinlogError::Silent { .. })) | Err(_) => {
            return unknown("the source did not find it in time");
        }
        Ok(Err(error)) => return Err(error.into()),
    };
    if found == *last {
        return Ok(());
    }
    Err(went_back(&format!(
        "the target has applied through transaction {}, committed {} UTC, and the source has {}, \
         committed {} UTC, in its place: it gave a number out twice",
        last.gtid,
        time(last),
        found.gtid,
        time(&found),
    )))
}

/// The transaction behind a position that has the number of another one. It is the first, but where a
/// copy commits in another order.
async fn find(options: &ReadOptions, start: Position, gtid: &Gtid) -> Result<Last, BinlogError> {
    let mut reader = Reader::open(options, start, 0, Box::new(Nothing)).await?;
    loop {
        if let Output::Passed(passed) = reader.next().await?
            && has_number(&passed.gtid, gtid)
        {
            return Ok(Last {
                gtid: passed.gtid.to_string(),
                committed_micros: passed.committed_micros,
            });
        }
    }
}

fn has_number(one: &Gtid, other: &Gtid) -> bool {
    match (one, other) {
        (Gtid::MariaDb(one), Gtid::MariaDb(other)) => {
            (one.domain, one.sequence) == (other.domain, other.sequence)
        }
        _ => one == other,
    }
}

fn time(of: &Last) -> DateTime {
    mysql::values::utc(i64::try_from(of.committed_micros).unwrap_or_default())
}

/// Looks into no transaction.
struct Nothing;

impl Filter for Nothing {
    fn birth(&self, _: &Gtid) -> Result<Birth, Refusal> {
        Ok(Birth {
            idc: String::new(),
            local: false,
            relayed: false,
        })
    }

    fn table(&self, _: &str, _: &str) -> TableUse {
        TableUse::Skip
    }

    fn statement(&self, _: &QueryEvent) -> StatementUse {
        StatementUse::Skip
    }
}
