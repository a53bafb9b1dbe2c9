//! The beginning of a session: the lock, the checkpoint, and what the syncer is told.

use std::collections::{BTreeMap, BTreeSet};

use change::{Flavor, Position, SnapshotState, TargetTable};
use model::{ConflictResolution, LinkConfig, Routes, SnapshotMode};

use crate::checkpoint::{Anew, Checkpoint, Record, Snapshot, TableCopy, unreadable};
use crate::error::WriterError;
use crate::rebuild::wishes;
use crate::selection::Selection;
use crate::sql::literal;
use crate::sql::plan::{Expect, Request, Subject};
use crate::target::lookup::quote;
use crate::target::session::{Cause, Failure, Target};

type Names = (String, String);

/// So many tables are looked into with one query.
const TABLES_A_QUERY: usize = 100;

/// Takes the lock, reads the link's row and puts this writer's name into it.
pub(crate) async fn claim(
    target: &mut Target,
    config: &LinkConfig,
    writer: &str,
) -> Result<Checkpoint, WriterError> {
    target.lock(&config.link).await?;
    let found = if let Some(row) = target.checkpoint(&config.link).await? {
        read(row, config)?
    } else {
        wishes::forget(target, &config.link).await?;
        insert(target, config).await?;
        Checkpoint {
            position: None,
            snapshot: Snapshot::default(),
            record: Record::default(),
        }
    };
    if let Some(message) = &found.record.went_back {
        return Err(WriterError::SourceWentBack {
            message: message.clone(),
            link: config.link.to_string(),
        });
    }
    if let Some(before) = found
        .record
        .target
        .as_ref()
        .filter(|it| **it != config.target.idc)
    {
        // What was born there, and is on its way, bears the mark of the former name.
        return Err(WriterError::CheckpointUnreadable {
            reason: format!(
                "its target is {before}, the link's is {}; a link under another name has a row of its own",
                config.target.idc
            ),
        });
    }
    let selection = Selection::of(config);
    if let (Some(_), Some(before)) = (&found.position, &found.record.selection)
        && !selection.is_within(before)
    {
        return Err(WriterError::SelectionWidened {
            before: before.to_string(),
            now: selection.to_string(),
            link: config.link.to_string(),
        });
    }
    let mut mine = found.clone();
    mine.record.selection = Some(selection);
    mine.record.ddl = Some(config.ddl);
    mine.record.counters = counted(config);
    mine.record.copies = config.snapshot.mode != SnapshotMode::Never;
    mine.record.target = Some(config.target.idc.clone());
    writer.clone_into(&mut mine.record.writer);
    mine.record.serial += 1;
    let sql =
        crate::checkpoint::update(&config.link, &found.record, &mine, false).map_err(unreadable)?;
    let mut request = Request::default();
    request.push(Subject::Checkpoint, Expect::Rows(1), &sql);
    match target.run(&request).await {
        Ok(_) => Ok(mine),
        Err(Failure {
            cause: Cause::Driver(source),
            ..
        }) => Err(crate::target::session::failed(
            "writing to multiactive.applied",
            source,
        )),
        Err(_) => Err(WriterError::CheckpointMoved),
    }
}

/// What a link adds up, in order; `None` where it adds up nothing.
pub(crate) fn counted(config: &LinkConfig) -> Option<Vec<String>> {
    match &config.conflicts.resolve {
        ConflictResolution::Delta { counters } => {
            let counters: BTreeSet<&String> = counters.iter().collect();
            Some(counters.into_iter().cloned().collect())
        }
        _ => None,
    }
}

async fn insert(target: &mut Target, config: &LinkConfig) -> Result<(), WriterError> {
    let ledger = Record::default().text()?;
    let mut sql =
        b"INSERT INTO multiactive.applied (link, source, position, snapshot, ledger, at) VALUES ("
            .to_vec();
    literal::text(&mut sql, &config.link.to_string());
    sql.push(b',');
    literal::text(&mut sql, config.source.idc.as_str());
    sql.extend_from_slice(b",NULL,'{}',");
    literal::text(&mut sql, &ledger);
    sql.extend_from_slice(b",UTC_TIMESTAMP(6))");
    target.execute("writing to multiactive.applied", &sql).await
}

/// Source, position, snapshot and ledger as texts.
pub(crate) type AppliedRow = (String, Option<String>, Option<String>, Option<String>);

fn read(row: AppliedRow, config: &LinkConfig) -> Result<Checkpoint, WriterError> {
    let (source, position, snapshot, ledger) = row;
    if source != config.source.idc.as_str() {
        return Err(WriterError::CheckpointUnreadable {
            reason: format!(
                "its source is {source}, the link's is {}; a link under another name has a row of its \
                 own",
                config.source.idc
            ),
        });
    }
    let record: Record = match ledger {
        Some(text) => Record::parse(&text)?,
        None => return Err(unreadable("its ledger is NULL")),
    };
    let snapshot = Snapshot::parse(snapshot.as_deref())?;
    let position = match (position, record.engine) {
        (None, None) => None,
        (Some(text), Some(engine)) => {
            Some(Position::parse(Flavor::from(engine), &text).map_err(unreadable)?)
        }
        (Some(_), None) => return Err(unreadable("it has a position and its ledger no engine")),
        (None, Some(_)) => {
            return Err(unreadable(
                "its position is NULL and its ledger has an engine",
            ));
        }
    };
    Ok(Checkpoint {
        position,
        snapshot,
        record,
    })
}

/// What the syncer is to see: of each name, whether the target's table of that name is empty, and
/// how far the copy of the source's table of that name is. Where that one goes to another table, the
/// two have nothing to do with each other.
///
/// Where the target's own IDC holds the newest epoch, every table counts as copied: it is where
/// writes are made, and a copy would bring back what was changed there meanwhile.
pub(crate) async fn tables(
    target: &mut Target,
    config: &LinkConfig,
    checkpoint: &Checkpoint,
) -> Result<Vec<TargetTable>, WriterError> {
    let routes = Routes::of(config);
    let of_routes = routes.all().iter().map(|route| route.target().0);
    let databases = config.databases.iter().map(String::as_str).chain(of_routes);
    let databases: Vec<String> = databases.map(quote).collect();
    if databases.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT CAST(table_schema AS CHAR), CAST(table_name AS CHAR) FROM information_schema.tables \
         WHERE table_type='BASE TABLE' AND table_schema IN ({}) ORDER BY 1, 2",
        databases.join(",")
    );
    let names: Vec<Names> = target.all("listing the target's tables", &sql).await?;
    let holds = holds_newest_epoch(target, config).await?;
    let copied = holds || (checkpoint.position.is_some() && checkpoint.snapshot.done);
    let empty = if copied {
        vec![false; names.len()]
    } else {
        emptiness(target, &names).await?
    };
    let mut seen: BTreeMap<Names, (bool, SnapshotState)> = names
        .into_iter()
        .zip(empty)
        .map(|(name, empty)| (name, (empty, SnapshotState::None)))
        .collect();
    for (database, table) in copies(checkpoint, &routes, &seen) {
        let state = checkpoint.snapshot.state(&database, &table);
        seen.entry((database, table))
            .or_insert((true, SnapshotState::None))
            .1 = state;
    }
    Ok(seen
        .into_iter()
        .map(|((database, table), (empty, state))| TargetTable {
            database,
            table,
            empty,
            snapshot: if holds { SnapshotState::Done } else { state },
        })
        .collect())
}

/// The source tables with a copy, begun or done, whose tables are at the target. One that is not there
/// was dropped since, and whatever makes it again is in the stream; but for one that a person wants made.
fn copies(
    checkpoint: &Checkpoint,
    routes: &Routes,
    there: &BTreeMap<Names, (bool, SnapshotState)>,
) -> Vec<Names> {
    let of_database = |(database, tables): (&String, &BTreeMap<String, TableCopy>)| {
        let names = tables.keys().map(|table| (database.clone(), table.clone()));
        names.collect::<Vec<_>>()
    };
    let all = checkpoint.snapshot.tables.iter().flat_map(of_database);
    let is_there = |(database, table): &Names| {
        if checkpoint.snapshot.anew(database, table) == Some(Anew::Missing) {
            return true;
        }
        let (database, table) = routes.target(database, table);
        there.contains_key(&(database.to_owned(), table.to_owned()))
    };
    all.filter(is_there).collect()
}

async fn holds_newest_epoch(target: &mut Target, config: &LinkConfig) -> Result<bool, WriterError> {
    let holder: Option<String> = target
        .first(
            "reading multiactive.epoch",
            "SELECT CAST(idc AS CHAR) FROM multiactive.epoch ORDER BY epoch DESC LIMIT 1",
        )
        .await?;
    Ok(holder.is_some_and(|idc| idc == config.target.idc.as_str()))
}

/// Whether each table holds no row.
async fn emptiness(
    target: &mut Target,
    names: &[(String, String)],
) -> Result<Vec<bool>, WriterError> {
    let mut empty = Vec::with_capacity(names.len());
    for names in names.chunks(TABLES_A_QUERY) {
        let mut sql = Vec::new();
        for (index, (database, table)) in names.iter().enumerate() {
            if index > 0 {
                sql.extend_from_slice(b" UNION ALL ");
            }
            sql.extend_from_slice(format!("SELECT {index}, EXISTS(SELECT 1 FROM ").as_bytes());
            literal::table(&mut sql, database, table);
            sql.extend_from_slice(b" LIMIT 1)");
        }
        let sql = String::from_utf8_lossy(&sql).into_owned();
        let mut rows: Vec<(u32, u8)> = target.all("looking for rows at the target", &sql).await?;
        rows.sort_unstable();
        empty.extend(rows.into_iter().map(|(_, has_rows)| has_rows == 0));
    }
    Ok(empty)
}
