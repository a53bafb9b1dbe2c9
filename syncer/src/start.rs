//! Where a connection starts: at the writer's checkpoint, or at a new one with a snapshot.

mod describe;

use std::time::Duration;

use change::{
    Flavor, Halt, Position, SnapshotBegin, SnapshotState, SnapshotTable, TargetTable,
    sync::{Last, PullRequest},
};
use model::{LinkConfig, Routes, SnapshotMode};
use mysql::select::Selection;
use mysql::tables::TableInfo;

use crate::error::PullError;
use crate::source::{Place, Source};
use describe::{how_made, same};

/// What a writer asked for, read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The checkpoint and its epoch; `None` where the target has none.
    pub checkpoint: Option<(Position, u64)>,
    /// The last transaction of the checkpoint, if the target knows it.
    pub last: Option<Last>,
    /// Tables at the target.
    pub tables: Vec<TargetTable>,
    /// The writer can be told what it must not run.
    pub reads_refused: bool,
}

/// Where a connection starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Where the stream starts.
    pub position: Position,
    /// The source's epoch there.
    pub epoch: u64,
    /// What the writer is told first, if it is told anything.
    pub begin: Option<SnapshotBegin>,
    /// Tables to copy, with the cursor and count of those that were begun.
    pub copies: Vec<CopyStart>,
    /// What the source had executed at the start.
    pub executed: Position,
}

/// A table to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyStart {
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
    /// Where the copy goes on; `None`: at the beginning.
    pub cursor: Option<bytes::Bytes>,
    /// Rows copied so far.
    pub rows: u64,
    /// The source has no such table any more; that it was dropped is still in the stream.
    pub gone: bool,
}

/// Reads a request.
pub fn read_wish(request: PullRequest, config: &LinkConfig) -> Result<Wish, String> {
    if request.protocol == 0 || request.protocol > change::PROTOCOL {
        return Err(format!(
            "the writer speaks protocol {} of the link and this syncer up to {}; run the same \
             release of both",
            request.protocol,
            change::PROTOCOL
        ));
    }
    if request.link != config.link.to_string() {
        return Err(format!(
            "the writer asks for the link {} and this syncer serves {}; check the writer's --syncer",
            request.link, config.link
        ));
    }
    if request.relay != config.relay {
        return Err(format!(
            "the writer's settings say relay: {} and this syncer's relay: {}; one of the two has not \
             got the newest ones yet",
            request.relay, config.relay
        ));
    }
    let checkpoint = match &request.checkpoint {
        None => None,
        Some(position) => Some((
            position
                .try_into()
                .map_err(|e: change::WireError| e.to_string())?,
            request.epoch,
        )),
    };
    let tables = request
        .tables
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<_, _>>();
    Ok(Wish {
        checkpoint,
        last: request.last,
        tables: tables.map_err(|e: change::WireError| e.to_string())?,
        reads_refused: request.reads_refused,
    })
}

/// How tables are emptied: what a person does in the binlog, links that begin there carry on.
pub const UNLOGGED: &str = "after SET SESSION sql_log_bin = 0";

/// Decides where to start, and checks that the source can serve it.
pub async fn resolve(
    source: &mut Source,
    config: &LinkConfig,
    selection: &Selection,
    wish: Wish,
) -> Result<Start, PullError> {
    source
        .check_routed_keys(selection, &Routes::of(config))
        .await?;
    source.check_outer_keys(selection).await?;
    match wish.checkpoint {
        Some((position, epoch)) => {
            let executed = source.executed().await?;
            check_reach(source, &position, &executed).await?;
            let start = Start {
                position,
                epoch,
                begin: None,
                copies: wish.tables.iter().filter_map(unfinished).collect(),
                executed,
            };
            resume(source, config, selection, start).await
        }
        None => fresh(source, config, selection, &wish.tables).await,
    }
}

/// The source must hold all that was applied from it, and still have all that follows.
async fn check_reach(
    source: &mut Source,
    checkpoint: &Position,
    executed: &Position,
) -> Result<(), PullError> {
    let flavor = source.flavor();
    if checkpoint.flavor() != flavor {
        return Err(PullError::halt(
            "OtherEngine",
            format!(
                "the target has applied a {} position and the source is {flavor} now. Empty the \
                 target's tables ({UNLOGGED}) and let the link copy them anew",
                checkpoint.flavor()
            ),
        ));
    }
    if !executed.contains(checkpoint) && !has_soon(source, checkpoint).await? {
        return Err(went_back(&format!(
            "the target has applied transactions that the source does not have: applied {checkpoint}, \
             the source has {executed}"
        )));
    }
    let purged = source.purged().await?;
    if !checkpoint.contains(&purged) {
        return Err(PullError::halt(
            "Purged",
            format!(
                "the source has purged binlogs that the target has not applied: applied \
                 {checkpoint}, purged {purged}. Empty the target's tables ({UNLOGGED}) and let the \
                 link copy them anew; keep binlogs for longer than a link may be down \
                 (binlog_expire_logs_seconds)"
            ),
        ));
    }
    Ok(())
}

/// The source lacks what the target has applied from it.
pub fn went_back(what: &str) -> PullError {
    PullError::halt(
        Halt::SOURCE_WENT_BACK,
        format!(
            "{what}. The source was restored from a backup, has lost the end of its binlog in a \
             crash, or is another server. Nothing more is read from it, since new transactions reuse \
             the numbers of lost ones: find out which copy is right, empty the tables of the other \
             ({UNLOGGED}) and let the link copy them anew"
        ),
    )
}

/// Whether the source has a position after all: servers send a transaction on a moment before they
/// count it among what they have executed, and a writer can be back within that moment.
async fn has_soon(source: &mut Source, checkpoint: &Position) -> Result<bool, PullError> {
    const LOOKS: u32 = 20;
    const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
    for _ in 0..LOOKS {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        if source.executed().await?.contains(checkpoint) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn resume(
    source: &mut Source,
    config: &LinkConfig,
    selection: &Selection,
    mut start: Start,
) -> Result<Start, PullError> {
    // What a link cannot carry is refused before anything is read, also where nothing is copied.
    let tables = source.tables(selection).await?;
    let copies = &mut start.copies;
    if copies.is_empty() {
        return Ok(start);
    }
    check_is_primary(source, config).await?;
    // Those that were copied before, perhaps by hand, are not asked about again.
    let is_copied = |database: &str, table: &str| {
        let is = |copy: &CopyStart| copy.database == database && copy.table == table;
        copies.iter().any(is)
    };
    source.check_for_snapshot(selection, &is_copied).await?;
    let infos: Vec<&TableInfo> = tables
        .iter()
        .filter(|info| is_copied(&info.database, &info.table))
        .collect();
    let begin = SnapshotBegin {
        position: start.position.clone(),
        epoch: start.epoch,
        tables: how_made(source, &infos).await?,
        resumed: true,
    };
    for copy in copies.iter_mut() {
        let is = |info: &TableInfo| info.database == copy.database && info.table == copy.table;
        copy.gone = !tables.iter().any(is);
    }
    copies.sort_by_key(|copy| copy.gone);
    start.begin = Some(begin);
    Ok(start)
}

/// Only the member whose epoch it is gives copies, also to those that go on: the primary may have
/// moved while nothing was copied, before a table was empty that is to be copied anew.
async fn check_is_primary(source: &mut Source, config: &LinkConfig) -> Result<(), PullError> {
    if config.unit.is_none() {
        return Ok(());
    }
    match source.latest_epoch(&config.source.idc).await? {
        Some((epoch, holder)) if holder != config.source.idc => {
            Err(PullError::primary_moved(epoch, &holder))
        }
        _ => Ok(()),
    }
}

fn unfinished(target: &TargetTable) -> Option<CopyStart> {
    let (cursor, rows) = match &target.snapshot {
        SnapshotState::None | SnapshotState::Done => return None,
        SnapshotState::Pending => (None, 0),
        SnapshotState::Running { cursor, rows } => (Some(cursor.clone()), *rows),
    };
    let (database, table) = (target.database.clone(), target.table.clone());
    Some(CopyStart {
        database,
        table,
        cursor,
        rows,
        gone: false,
    })
}

/// A new link. The tables are described before and after the position is read: if both agree, no
/// DDL lies between the description and the position, so replaying what follows the position on
/// tables made by the description is right.
async fn fresh(
    source: &mut Source,
    config: &LinkConfig,
    selection: &Selection,
    targets: &[TargetTable],
) -> Result<Start, PullError> {
    const ATTEMPTS: u32 = 10;
    let all = |database: &str, table: &str| selection.has_table(database, table);
    source.check_for_snapshot(selection, &all).await?;
    for _ in 0..ATTEMPTS {
        let tables = source.tables(selection).await?;
        let all: Vec<&TableInfo> = tables.iter().collect();
        let before = how_made(source, &all).await?;
        let place = source.place(&config.source.idc).await?;
        let after_tables = source.tables(selection).await?;
        let all: Vec<&TableInfo> = after_tables.iter().collect();
        let after = how_made(source, &all).await?;
        if !same(&before, &after) {
            continue;
        }
        if let Some(unit) = &config.unit
            && place.latest.is_none()
            && config.snapshot.mode != SnapshotMode::Never
        {
            return Err(PullError::NotYet(format!(
                "the Unit {unit} has had no primary yet (multiactive.epoch of the source is empty), so \
                 it is not known which member's rows are to be copied; the link begins with the \
                 first primary"
            )));
        }
        check_targets(config, &place, targets, &after)?;
        let begin_tables: Vec<SnapshotTable> = after
            .into_iter()
            .filter(|table| is_copied(config, &place, targets, table))
            .collect();
        return Ok(begin(place, begin_tables, source.flavor()));
    }
    Err(PullError::NotYet(
        "the tables of the source are changed by DDL faster than they can be described; the link \
         begins when that ends"
            .to_owned(),
    ))
}

/// Where the target has no checkpoint, nobody knows what its rows are a copy of: to begin beside
/// them would leave out, without a word, whatever was written here since they were made.
fn check_targets(
    config: &LinkConfig,
    place: &Place,
    targets: &[TargetTable],
    tables: &[SnapshotTable],
) -> Result<(), PullError> {
    let holds = holds(config, place);
    if !holds || config.snapshot.mode != SnapshotMode::IfEmpty {
        return Ok(());
    }
    let routes = Routes::of(config);
    let is_filled =
        |table: &&SnapshotTable| target_of(&routes, targets, table).is_some_and(|it| !it.empty);
    let mut filled: Vec<String> = tables
        .iter()
        .filter(is_filled)
        .map(|table| {
            let (database, table) = routes.target(&table.database, &table.table);
            format!("{database}.{table}")
        })
        .collect();
    filled.dedup();
    if filled.is_empty() {
        return Ok(());
    }
    Err(PullError::halt(
        "TargetHasRows",
        format!(
            "the link begins, snapshot.mode is IfEmpty, and these tables have rows at the target \
             already: {}. Whether they are the rows of {} is not known. Empty them ({UNLOGGED}), and they are \
             copied; or set snapshot.mode on the SyncLink: Never if both sides are equal now and \
             nothing is written until the link has begun, Always to put the source's rows over them",
            filled.join(", "),
            config.source.idc
        ),
    ))
}

/// Whether it is the source's epoch. Without a Unit there are none, and the link's source is what its
/// target is a copy of.
fn holds(config: &LinkConfig, place: &Place) -> bool {
    let latest = place.latest.as_ref();
    config.unit.is_none() || latest.is_some_and(|(_, holder)| *holder == config.source.idc)
}

/// The table that a source table goes to, if it is there.
fn target_of<'a>(
    routes: &Routes,
    targets: &'a [TargetTable],
    table: &SnapshotTable,
) -> Option<&'a TargetTable> {
    let name = routes.target(&table.database, &table.table);
    targets
        .iter()
        .find(|target| (target.database.as_str(), target.table.as_str()) == name)
}

fn begin(place: Place, tables: Vec<SnapshotTable>, flavor: Flavor) -> Start {
    debug_assert_eq!(place.position.flavor(), flavor);
    let copies = tables
        .iter()
        .map(|table| CopyStart {
            database: table.database.clone(),
            table: table.table.clone(),
            cursor: None,
            rows: 0,
            gone: false,
        })
        .collect();
    let (position, epoch) = (place.position, place.own_epoch.0);
    let begin = SnapshotBegin {
        position: position.clone(),
        epoch,
        tables,
        resumed: false,
    };
    Start {
        executed: position.clone(),
        position,
        epoch,
        begin: Some(begin),
        copies,
    }
}

/// Whether a table is copied into the target.
///
/// Only the member whose epoch it is gives copies. What another member holds it has from that one,
/// perhaps not all of it yet, and perhaps older than what the target gets from it directly: rows
/// of a replica could overwrite newer ones.
fn is_copied(
    config: &LinkConfig,
    place: &Place,
    targets: &[TargetTable],
    table: &SnapshotTable,
) -> bool {
    let target = target_of(&Routes::of(config), targets, table);
    holds(config, place)
        && match config.snapshot.mode {
            SnapshotMode::Never => false,
            SnapshotMode::Always => true,
            SnapshotMode::IfEmpty => target.is_none_or(|target| target.empty),
        }
}
