//! The rows of our own schema that cross links: heartbeats and epochs.

use std::sync::Arc;

use change::{Body, RowChange, TableChange, Transaction, Value};
use model::LinkConfig;

use crate::epoch::EpochRow;
use crate::error::WriterError;
use crate::sql::plan::Plan;
use crate::target::table::Mapping;

/// The schema of ours.
pub(crate) const SCHEMA: &str = "multiactive";

/// Whether a database is ours.
pub(crate) fn is_ours(database: &str) -> bool {
    database.eq_ignore_ascii_case(SCHEMA)
}

/// Whether a transaction changes more than heartbeats and epochs, and so belongs to an epoch.
pub(crate) fn is_data(transaction: &Transaction) -> bool {
    match &transaction.body {
        Body::Ddl(_) => true,
        Body::Rows(changes) => changes
            .iter()
            .any(|change| !is_ours(&change.table.database)),
    }
}

/// The newest epoch whose row this transaction brings.
pub(crate) fn newest_epoch(transaction: &Transaction) -> Option<u64> {
    epoch_rows(transaction).map(|(epoch, _, _)| epoch).max()
}

/// The row of the newest epoch that this transaction brings, whose is the source.
///
/// # Errors
/// [`WriterError::Position`] if its position cannot be read.
pub(crate) fn epoch_row(transaction: &Transaction) -> Result<Option<EpochRow>, WriterError> {
    let newest = epoch_rows(transaction).max_by_key(|(epoch, _, _)| *epoch);
    let Some((epoch, change, row)) = newest else {
        return Ok(None);
    };
    let position = |name: &str| {
        let text = value(change, row, name).and_then(text);
        let text = text.filter(|text| !text.is_empty());
        text.map(str::parse).transpose()
    };
    Ok(Some(EpochRow {
        epoch,
        idc: transaction.origin.clone(),
        ended: position("ended")?,
        follows: value(change, row, "follows").and_then(number),
        needs: position("needs")?,
    }))
}

/// The rows of epochs that a transaction brings.
fn epoch_rows(transaction: &Transaction) -> impl Iterator<Item = (u64, &TableChange, &[Value])> {
    let changes: &[TableChange] = match &transaction.body {
        Body::Rows(changes) => changes,
        Body::Ddl(_) => &[],
    };
    changes
        .iter()
        .filter(|change| is_ours(&change.table.database) && change.table.table == "epoch")
        .flat_map(|change| change.rows.iter().map(move |row| (change, row)))
        .filter_map(|(change, row)| {
            let after = row.after()?;
            Some((
                number(value(change, after, "epoch")?)?,
                change,
                after.as_slice(),
            ))
        })
}

/// A link carries only what was born in its source; anything else would go round in circles.
pub(crate) fn check_origin(
    transaction: &Transaction,
    config: &LinkConfig,
) -> Result<(), WriterError> {
    if transaction.origin == config.source.idc.as_str() {
        return Ok(());
    }
    Err(WriterError::Unexpected {
        what: format!(
            "transaction {} that was born in {}",
            transaction.gtid, transaction.origin
        ),
        fix: format!(
            "this link carries what was born in {} only; check that both IDCs' names and the servers' \
             origin marks agree",
            config.source.idc
        ),
    })
}

/// Refuses rows of ours that must not come: other tables, removed epochs, and the target's own
/// heartbeat, which shows that changes go round in circles.
pub(crate) fn check(change: &TableChange, config: &LinkConfig) -> Result<(), WriterError> {
    let unexpected = |what: String, fix: &str| {
        Err(WriterError::Unexpected {
            what,
            fix: fix.to_owned(),
        })
    };
    match change.table.table.as_str() {
        "heartbeat" => {
            let target = config.target.idc.as_str();
            for row in &change.rows {
                let (RowChange::Insert { after: image }
                | RowChange::Update { after: image, .. }
                | RowChange::Delete { before: image }) = row;
                if value(change, image, "idc")
                    .and_then(text)
                    .is_some_and(|idc| idc == target)
                {
                    return unexpected(
                        format!("the heartbeat of {target}, which was born at the target"),
                        "changes go round in circles: some way of links, of which one has relay: true, \
                         leads from the target back to the source, or a server has the origin marks of \
                         another. Remove a link of that way and compare the tables, since changes may have \
                         been applied twice; then make this link anew under another name, with \
                         snapshot.mode: Never, and it begins behind what came round",
                    );
                }
            }
            Ok(())
        }
        "epoch" => {
            let removed = |row: &RowChange| matches!(row, RowChange::Delete { .. });
            if change.rows.iter().any(removed) {
                return unexpected(
                    "the removal of a row of multiactive.epoch".to_owned(),
                    "rows of that table are never removed; put the row back at the source",
                );
            }
            Ok(())
        }
        other => unexpected(
            format!("a row of multiactive.{other}"),
            "run the same release of syncer and writer",
        ),
    }
}

/// Adds rows that [`check`] let pass. A heartbeat replaces the one before it. An epoch's row is put
/// if it is not there, and must then be the source's: one epoch is never two IDCs'.
pub(crate) fn plan(
    plan: &mut Plan,
    change: &TableChange,
    mapping: &Arc<Mapping>,
) -> Result<(), WriterError> {
    for row in &change.rows {
        match row {
            RowChange::Insert { after } | RowChange::Update { after, .. } => {
                if change.table.table == "epoch" {
                    let (Some(epoch), Some(idc)) =
                        (value(change, after, "epoch"), value(change, after, "idc"))
                    else {
                        return Err(WriterError::Unexpected {
                            what: "a row of multiactive.epoch without epoch or idc".to_owned(),
                            fix: "run the same release of syncer and writer".to_owned(),
                        });
                    };
                    plan.put_epoch(after, epoch, idc, mapping);
                } else {
                    plan.upsert(after, mapping);
                }
            }
            RowChange::Delete { before } => plan.remove_if_there(before, mapping),
        }
    }
    Ok(())
}

/// A column's value in a row image.
pub(crate) fn value<'a>(change: &TableChange, image: &'a [Value], name: &str) -> Option<&'a Value> {
    let index = change
        .table
        .columns
        .iter()
        .position(|column| column.name == name)?;
    image.get(index)
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::UInt(number) => Some(*number),
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

pub(crate) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(bytes) | Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}
