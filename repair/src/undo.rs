//! Taking back what a run mended: each row by compare and set, the newest first; rows that were
//! mended together are taken back together.

use bytes::Bytes;
use change::{Body, Row, RowChange, TableChange, TableSchema, decode_stored};
use model::{RepairControl, RepairPhase};
use mysql::keyset;
use mysql::tables::TableInfo;
use mysql_async::prelude::Queryable as _;
use writer::WriterError;

use crate::error::RepairError;
use crate::mend::steps;
use crate::record;
use crate::run::Run;
use crate::side::own_row;

/// So many rows are read at a time.
const PAGE: u64 = 50;

/// What a run did with one row, or with several together: then it is recorded with the last of them,
/// and the others are those recorded right before it.
struct Done {
    number: u64,
    row: String,
    change: TableChange,
}

impl Run<'_> {
    /// Takes back every row that this run mended and that is still as it left it; `None` if the
    /// process shall end before that.
    pub(crate) async fn undo(&mut self) -> Result<Option<RepairPhase>, RepairError> {
        let mut below = u64::MAX;
        let mut kept = 0;
        loop {
            if let Some(outcome) = self.held_back().await? {
                return Ok(outcome);
            }
            let page = self.page(below).await?;
            let Some(last) = page.last() else { break };
            below = last.number;
            for done in page {
                if self.shutdown.is_cancelled() {
                    return Ok(None);
                }
                if !self.take_back(&done).await? {
                    kept += done.change.rows.len() as u64;
                }
            }
        }
        if kept == 0 {
            return Ok(Some(RepairPhase::Done));
        }
        self.state.message = format!(
            "{kept} rows are not as they were left and were let be; multiactive.repairs says which"
        );
        Ok(Some(RepairPhase::Incomplete))
    }

    /// Waits while this undo shall pause; what it ends with if it shall not go on. What was wanted
    /// of the run that it takes back, in `multiactive.repair_runs`, says nothing of it.
    async fn held_back(&mut self) -> Result<Option<Option<RepairPhase>>, RepairError> {
        match self.config.control {
            RepairControl::Run => Ok(None),
            RepairControl::Stop => {
                "a person stopped it".clone_into(&mut self.state.message);
                Ok(Some(Some(RepairPhase::Stopped)))
            }
            RepairControl::Pause => {
                self.state.phase = RepairPhase::Paused;
                "a person paused it".clone_into(&mut self.state.message);
                self.keep().await?;
                // Its settings are read once, so going on is another process.
                self.shutdown.cancelled().await;
                Ok(Some(None))
            }
        }
    }

    async fn page(&mut self, below: u64) -> Result<Vec<Done>, RepairError> {
        let rows: Vec<(u64, String, Vec<u8>)> = self
            .ends
            .writer
            .conn()
            .exec(
                format!(
                    "SELECT seq, `row`, body FROM multiactive.repairs WHERE run = ? \
                     AND state = 'Repaired' AND body IS NOT NULL AND seq < ? \
                     ORDER BY seq DESC LIMIT {PAGE}"
                ),
                (self.config.run.as_str(), below),
            )
            .await
            .map_err(|error| RepairError::driver("reading multiactive.repairs", None, error))?;
        rows.into_iter()
            .map(|(number, row, body)| {
                let change = read(body).map_err(|reason| RepairError::Unreadable {
                    what: format!("row {number} of multiactive.repairs"),
                    reason,
                })?;
                Ok(Done {
                    number,
                    row,
                    change,
                })
            })
            .collect()
    }

    /// Whether the row was as it had been left, and is as it was before now.
    async fn take_back(&mut self, done: &Done) -> Result<bool, RepairError> {
        let before = self.state.clone();
        let reason = match self.take_back_in_transaction(done).await {
            Ok(None) => {
                self.ends.writer.commit().await?;
                self.status.publish(&self.state);
                return Ok(true);
            }
            Ok(Some(reason)) => reason,
            Err(RepairError::Write(error @ (WriterError::Conflict(_) | WriterError::Unfit(_)))) => {
                error.to_string()
            }
            // One table that is another now must not keep the rows of all others as they are.
            Err(RepairError::Changed(table)) => {
                format!("table {table} was altered or dropped since the row was mended")
            }
            Err(error) => {
                self.ends.writer.roll_back().await?;
                return Err(error);
            }
        };
        self.state = before;
        self.ends.writer.roll_back().await?;
        tracing::warn!(table = %done.change.table, row = %done.row, reason, "a row was let be");
        self.note(done, "Repaired", &reason).await?;
        Ok(false)
    }

    async fn take_back_in_transaction(
        &mut self,
        done: &Done,
    ) -> Result<Option<String>, RepairError> {
        self.begin().await?;
        let table = &done.change.table;
        let changes: Vec<RowChange> = done.change.rows.iter().map(inverse).collect();
        let info = self
            .ends
            .target
            .describe(&table.database, &table.table)
            .await?
            .ok_or_else(|| RepairError::Changed(table.to_string()))?;
        // Rows that are removed and put again would lose what a column holds that is not recorded.
        if changes.len() > 1 && !has_columns_of(&info, table) {
            return Err(RepairError::Changed(table.to_string()));
        }
        for change in &changes {
            let (expected, wanted) = images(change);
            let found = self.found_at(table, &info, expected.or(wanted)).await?;
            if found.as_ref() != expected {
                return Ok(Some("the row has changed since it was mended".to_owned()));
            }
        }
        let fit = self.ends.writer.fit(table).await?;
        for change in steps(&changes) {
            self.ends.writer.change(table, &fit, &change).await?;
        }
        for change in &changes {
            let (expected, wanted) = images(change);
            let stored = self.found_at(table, &info, wanted.or(expected)).await?;
            if stored.as_ref() != wanted {
                return Ok(Some(
                    "the target stored another value than it had before".to_owned(),
                ));
            }
        }
        self.state.table(&table.to_string()).undone += changes.len() as u64;
        self.note(done, "Undone", "").await?;
        let (run, conn) = (&self.config.run, self.ends.writer.conn());
        record::save(conn, run, &self.state).await?;
        Ok(None)
    }

    async fn found_at(
        &mut self,
        table: &TableSchema,
        info: &TableInfo,
        place: Option<&Row>,
    ) -> Result<Option<Row>, RepairError> {
        let Some(place) = place else { return Ok(None) };
        let (mut names, mut literals) = (Vec::new(), Vec::new());
        for &index in &table.primary_key {
            let column = &table.columns[index];
            let set = info
                .columns
                .iter()
                .find(|info| info.name == column.name)
                .map(|info| info.character_set.clone())
                .ok_or_else(|| RepairError::Changed(table.to_string()))?;
            names.push(column.name.clone());
            literals.extend(keyset::literal(&place[index], &set));
        }
        if names.is_empty() || names.len() != literals.len() {
            return Err(RepairError::Refused(format!(
                "table {table} has no key by which a row could be found"
            )));
        }
        let condition = keyset::at(&names, &literals);
        own_row(self.ends.writer.conn(), table, &condition).await
    }

    async fn note(&mut self, done: &Done, state: &str, reason: &str) -> Result<(), RepairError> {
        let of = match done.change.rows.len() {
            1 => "seq = ?".to_owned(),
            rows => format!("seq <= ? AND state = 'Repaired' ORDER BY seq DESC LIMIT {rows}"),
        };
        let sql =
            format!("UPDATE multiactive.repairs SET state = ?, reason = ? WHERE run = ? AND {of}");
        let run = self.config.run.as_str();
        self.ends
            .writer
            .conn()
            .exec_drop(sql, (state, reason, run, done.number))
            .await
            .map_err(|error| RepairError::driver("writing to multiactive.repairs", None, error))
    }
}

/// What is there before a change, and after it.
fn images(change: &RowChange) -> (Option<&Row>, Option<&Row>) {
    match change {
        RowChange::Insert { after } => (None, Some(after)),
        RowChange::Update { before, after } => (Some(before), Some(after)),
        RowChange::Delete { before } => (Some(before), None),
    }
}

fn has_columns_of(info: &TableInfo, table: &TableSchema) -> bool {
    let names = info.columns.iter().map(|column| &column.name);
    names.eq(table.columns.iter().map(|column| &column.name))
}

fn read(body: Vec<u8>) -> Result<TableChange, String> {
    let transaction = decode_stored(Bytes::from(body)).map_err(|error| error.to_string())?;
    let Body::Rows(changes) = transaction.body else {
        return Err("it does not hold changes of rows".to_owned());
    };
    // What is stored has a change for each kind that follows another one.
    let mut changes = changes.into_iter();
    let mut all = changes.next().ok_or("it holds no changes")?;
    for next in changes {
        if next.table != all.table {
            return Err("it does not hold changes of one table".to_owned());
        }
        all.rows.extend(next.rows);
    }
    if all.rows.is_empty() {
        return Err("it holds no rows".to_owned());
    }
    Ok(all)
}

fn inverse(change: &RowChange) -> RowChange {
    match change.clone() {
        RowChange::Insert { after } => RowChange::Delete { before: after },
        RowChange::Update { before, after } => RowChange::Update {
            before: after,
            after: before,
        },
        RowChange::Delete { before } => RowChange::Insert { after: before },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use change::{Column, ColumnKind, Value};

    use super::*;
    use crate::mend::body;

    /// Rows that were mended together may have been missing, extra and differing.
    #[test]
    fn changes_of_every_kind_are_read_as_one() {
        let row = |number| vec![Value::Int(number)];
        let table = Arc::new(TableSchema {
            database: "shop".into(),
            table: "t".into(),
            columns: vec![Column {
                name: "id".into(),
                kind: ColumnKind::Int,
                unsigned: false,
                nullable: false,
                collation: 0,
                length: 0,
                decimals: 0,
                members: vec![],
            }],
            primary_key: vec![0],
        });
        let rows = vec![
            RowChange::Update {
                before: row(1),
                after: row(2),
            },
            RowChange::Delete { before: row(3) },
            RowChange::Insert { after: row(4) },
            RowChange::Update {
                before: row(5),
                after: row(6),
            },
        ];
        let stored = body(&table, rows.clone(), &"sh".parse().unwrap()).unwrap();
        assert_eq!(read(stored.unwrap()).unwrap().rows, rows);
    }

    #[test]
    fn the_inverse_of_the_inverse_is_the_change() {
        let row = |number| vec![Value::Int(number)];
        for change in [
            RowChange::Insert { after: row(1) },
            RowChange::Update {
                before: row(1),
                after: row(2),
            },
            RowChange::Delete { before: row(3) },
        ] {
            assert_ne!(inverse(&change), change);
            assert_eq!(inverse(&inverse(&change)), change);
        }
    }
}
