//! Handing a third member's transactions on to the target, out of what the source has applied of them:
//! the third member is gone, and the target lacks what the source's epoch builds upon (rule 8).
//!
//! In the source's binlog a transaction that was applied there bears the mark of where it was born
//! and a number of its own, which tells nothing of the origin's position; the row of
//! `multiactive.applied` that changes in it does ([`Stretch`]). So the place to begin at is found by
//! reading: further and further back, until the first transaction that goes beyond what the target
//! has begins within it. Heartbeats are applied once a second, so there is always one nearby.
//!
//! On MySQL statements that were applied bear a number of the origin's, or one that was made for them,
//! and are not read here: the change of the checkpoint after one stands for it, and the writer stops
//! there.

use std::time::Duration;

use binlog::{
    BinlogError, Birth, Filter, Output, QueryEvent, ReadOptions, Reader, Refusal, StatementUse,
    TableUse,
};
use change::sync::RelayRequest;
use change::{Frame, Gtid, OriginMark, PacketEncoder, Position, ServerUuid, Stretch, Transaction};
use model::IdcName;
use mysql::origin::{origin_domain, origin_tag};
use mysql::select::OWN_SCHEMA;
use mysql_async::prelude::Queryable;

use crate::error::PullError;
use crate::filter::LinkFilter;
use crate::pull::{PACKET_BYTES, Sender, Shared, read_options};
use crate::source::Source;

/// So many transactions back is looked for the beginning first, and each time four times as many.
const BACK: u64 = 32;
/// On MariaDB a server does not begin behind a number that another server gave out, as those of
/// statements are: the next one is tried.
const BESIDE: u64 = 3;
/// Nothing that is asked of the source takes longer.
const ANSWER: Duration = Duration::from_secs(15);
/// A transaction is handed on whole, if it is not larger than this in memory.
const WHOLE_BYTES: usize = 16 << 20;

/// What a writer asked for, read and checked.
pub struct Wish {
    of: IdcName,
    after: Position,
    through: Position,
    at: Position,
}

/// Reads a request.
pub fn read_wish(request: &RelayRequest, shared: &Shared) -> Result<Wish, String> {
    let position = |position: &Option<change::sync::Position>| {
        let position = position.as_ref().map(Position::try_from).transpose();
        position.map_err(|error| error.to_string())
    };
    let missing = || "the request lacks a position; run the same release of both".to_owned();
    let of = IdcName::new(request.of.as_str()).map_err(|error| error.to_string())?;
    if of == shared.config.source.idc || of == shared.config.target.idc {
        return Err(format!("{of} is an end of this link"));
    }
    Ok(Wish {
        of,
        after: position(&request.after)?.ok_or_else(missing)?,
        through: position(&request.through)?.ok_or_else(missing)?,
        at: position(&request.at)?.ok_or_else(missing)?,
    })
}

/// Sends what the target lacks, up to where it is wanted or to the end of what the source has.
///
/// # Errors
/// [`PullError::Halted`] where the source cannot hand it on.
pub async fn serve(shared: &Shared, wish: &Wish, sender: &Sender) -> Result<(), PullError> {
    let looked = tokio::time::timeout(ANSWER, look(shared, wish)).await;
    let looked = looked.map_err(|_| PullError::NotYet("the source does not answer".to_owned()));
    let end = looked??;
    let mut back = BACK;
    let mut start = None;
    loop {
        let from = end.start(wish, back);
        if start.as_ref() == Some(&from) {
            // It is not further back than the time before.
            break;
        }
        start = Some(from);
        let Some(mut reading) = Reading::open(shared, wish, back, &end).await? else {
            break;
        };
        if let Some((first, holds)) = reading.first(wish).await?
            && holds.joins(&wish.after)
        {
            return send(reading, first, wish, sender).await;
        }
        back = back.saturating_mul(4);
    }
    Err(PullError::halt(
        "Relay",
        format!(
            "its binlogs do not go back to where the target is with what was born in {}",
            wish.of
        ),
    ))
}

/// What the source has now.
struct End {
    executed: Position,
    purged: Position,
    /// MySQL: who gives numbers to what is applied there.
    server: Option<ServerUuid>,
}

impl End {
    /// Where reading begins so many transactions back.
    fn start(&self, wish: &Wish, back: u64) -> Position {
        let (tag, domain) = (origin_tag(&wish.of), origin_domain(&wish.of));
        let start = wish.at.without_last(back, |mark| match mark {
            OriginMark::MySql { uuid, tag: other } => tag == other && Some(uuid) == self.server,
            OriginMark::MariaDb { domain: other } => domain == other,
        });
        let mut all = self.purged.clone();
        // Of another engine nothing was purged.
        match all.union(&start) {
            Ok(()) => all,
            Err(_) => start,
        }
    }
}

async fn look(shared: &Shared, wish: &Wish) -> Result<End, PullError> {
    check_kept(shared, wish).await?;
    let mut source = Source::connect(&shared.source).await?;
    Ok(End {
        executed: source.executed().await?,
        purged: source.purged().await?,
        server: source.server_uuid().await?,
    })
}

async fn send(
    mut reading: Reading,
    first: Transaction,
    wish: &Wish,
    sender: &Sender,
) -> Result<(), PullError> {
    let mut encoder = PacketEncoder::new(change::Compression::Zstd)?;
    let mut next = Some(first);
    while let Some(transaction) = next.take() {
        // A statement, or a part of something large: the writer takes nothing of it, and says so.
        let last = match stretch(&transaction)? {
            Some(holds) => holds.after.contains(&wish.through) || !transaction.is_last(),
            None => true,
        };
        encoder.push(&Frame::Transaction(transaction))?;
        if !last {
            next = reading.next().await?;
        }
        if (next.is_none() || encoder.pending_bytes() >= PACKET_BYTES)
            && let Some(packet) = encoder.flush()?
        {
            sender.send(Ok(packet)).await.map_err(|_| PullError::Gone)?;
        }
    }
    Ok(())
}

/// What the source has taken back of a member's it holds no more, though its position says so.
async fn check_kept(shared: &Shared, wish: &Wish) -> Result<(), PullError> {
    let mut session = shared.source.connect().await?;
    let gtids: Vec<String> = session
        .conn
        .exec(
            "SELECT CAST(gtid AS CHAR) FROM multiactive.undone WHERE source = ?",
            (wish.of.as_str(),),
        )
        .await
        .map_err(PullError::query("reading multiactive.undone"))?;
    let wanted = |gtid: &String| {
        let gtid: Option<Gtid> = gtid.parse().ok();
        !gtid.is_some_and(|it| wish.after.contains_gtid(&it))
    };
    match gtids.iter().find(|gtid| wanted(gtid)) {
        None => Ok(()),
        Some(gtid) => Err(PullError::halt(
            "Relay",
            format!("it has taken transaction {gtid} of {} back", wish.of),
        )),
    }
}

/// The source's binlog, of which only what was born in one other member is looked at.
struct Reading {
    reader: Reader,
    /// What came out first.
    first: Option<Output>,
    /// What the source had when this began.
    end: Position,
    through: bool,
}

impl Reading {
    /// `None` where the source has purged that.
    async fn open(
        shared: &Shared,
        wish: &Wish,
        back: u64,
        end: &End,
    ) -> Result<Option<Self>, PullError> {
        let options = ReadOptions {
            part_bytes: WHOLE_BYTES,
            ..read_options(shared, "relay")
        };
        let mut beside = 0;
        loop {
            let filter = RelayFilter {
                link: shared.filter.clone(),
                of: wish.of.clone(),
            };
            let start = end.start(wish, back.saturating_add(beside));
            let mut reader = Reader::open(&options, start, 0, Box::new(filter)).await?;
            // A server says only now that it cannot begin there.
            match reader.next().await {
                Ok(first) => {
                    return Ok(Some(Self {
                        through: reader.position().contains(&end.executed),
                        end: end.executed.clone(),
                        first: Some(first),
                        reader,
                    }));
                }
                // MariaDB says the latter where no transaction has just this number.
                Err(BinlogError::Purged { .. } | BinlogError::NotSent { .. }) => {
                    if beside == BESIDE {
                        return Ok(None);
                    }
                    beside += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next transaction that was born there; `None` after the last that the source had.
    async fn next(&mut self) -> Result<Option<Transaction>, PullError> {
        loop {
            let output = match self.first.take() {
                Some(first) => first,
                None if self.through => return Ok(None),
                None => self.reader.next().await?,
            };
            self.through = self.reader.position().contains(&self.end);
            if let Output::Transaction(transaction) = output {
                return Ok(Some(*transaction));
            }
        }
    }

    /// The first that goes beyond what the target has. What says nothing of that before it, as
    /// statements and parts of what is too large to be handed on, the target has too if this joins.
    async fn first(&mut self, wish: &Wish) -> Result<Option<(Transaction, Stretch)>, PullError> {
        while let Some(transaction) = self.next().await? {
            let Some(holds) = stretch(&transaction)? else {
                continue;
            };
            if holds.source == wish.of.as_str() && !wish.after.contains(&holds.after) {
                return Ok(Some((transaction, holds)));
            }
        }
        Ok(None)
    }
}

fn stretch(transaction: &Transaction) -> Result<Option<Stretch>, PullError> {
    Stretch::of(transaction).map_err(|error| PullError::halt("Position", error.to_string()))
}

/// Lets through what was born in one other member, with the row that says how much of it that is.
struct RelayFilter {
    link: LinkFilter,
    of: IdcName,
}

impl Filter for RelayFilter {
    fn birth(&self, gtid: &Gtid) -> Result<Birth, Refusal> {
        let birth = self.link.birth(gtid)?;
        let local = birth.idc == self.of.as_str();
        Ok(Birth { local, ..birth })
    }

    fn table(&self, database: &str, table: &str) -> TableUse {
        match (database, table) {
            (OWN_SCHEMA, "applied") => TableUse::Send,
            (OWN_SCHEMA, "epoch") => TableUse::Epoch,
            (OWN_SCHEMA, _) => TableUse::Bookkeeping,
            _ => self.link.table(database, table),
        }
    }

    fn statement(&self, query: &QueryEvent) -> StatementUse {
        self.link.statement(query)
    }
}
