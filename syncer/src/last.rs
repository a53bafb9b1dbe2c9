//! Whether the source still has the last transaction that the target applied from it.
//!
//! A source that was restored from a backup, or lost the end of its binlog in a crash
//! (`sync_binlog` other than 1), gives out the numbers of the lost transactions again. Once it has
//! passed the checkpoint, the numbers alone show nothing, and what it gave them to would never be
//! read. What is lost is always the end of a binlog; so the last transaction of the checkpoint is
//! lost if anything before it is, and it alone is compared: by the time of its commit, which a copy
//! of the server and a restore from its binlogs keep. MariaDB's is in whole seconds. A server that
//! loses what it has already sent has been down in between, and was for a second.

use std::time::Duration;

use binlog::{
    BinlogError, Birth, Filter, Output, QueryEvent, ReadOptions, Reader, Refusal, StatementUse,
    TableUse,
};
use change::sync::Last;
use change::{DateTime, Gtid, Position};

use crate::error::PullError;
use crate::start::went_back;

/// How long the source may look for the transaction in a long binlog.
const SEARCH: Duration = Duration::from_secs(60);

/// Compares the last transaction of a checkpoint with the one that the source has now.
///
/// # Errors
/// The source went back, or cannot be read.
pub async fn check(
    options: &ReadOptions,
    checkpoint: &Position,
    last: &Last,
) -> Result<(), PullError> {
    let gtid: Option<Gtid> = last.gtid.parse().ok();
    let Some(start) = gtid.as_ref().and_then(|gtid| checkpoint.before(gtid)) else {
        tracing::warn!(gtid = last.gtid, %checkpoint, "the last transaction is not of the checkpoint");
        return Ok(());
    };
    let found = match tokio::time::timeout(SEARCH, first(options, start)).await {
        Ok(Ok(found)) => found,
        Ok(Err(BinlogError::Purged { .. } | BinlogError::NotSent { .. })) => {
            tracing::info!(
                gtid = last.gtid,
                "the source has purged the last transaction"
            );
            return Ok(());
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => {
            tracing::warn!(
                gtid = last.gtid,
                "the source does not find the last transaction"
            );
            return Ok(());
        }
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

/// The first transaction behind a position.
async fn first(options: &ReadOptions, start: Position) -> Result<Last, BinlogError> {
    let mut reader = Reader::open(options, start, 0, Box::new(Nothing)).await?;
    loop {
        if let Output::Passed(passed) = reader.next().await? {
            return Ok(Last {
                gtid: passed.gtid.to_string(),
                committed_micros: passed.committed_micros,
            });
        }
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
