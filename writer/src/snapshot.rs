//! The copy of rows that exist before the stream: making tables, putting chunks, keeping cursors.

mod made;

use change::{SnapshotBegin, SnapshotChunk, SnapshotTable};
use model::SnapshotMode;

use crate::apply::{Applier, LOCK_EPOCH, READ_EPOCH, clash};
use crate::checkpoint::{Anew, Checkpoint, Newest, SourceEngine};
use crate::epoch::{self, Seen, Verdict};
use crate::error::WriterError;
use crate::explain;
use crate::failpoint::{self, Point};
use crate::sql::dialect;
use crate::sql::literal;
use crate::sql::plan::{Expect, Plan, Request, Statement, Subject};
use crate::status::Done;
use crate::target::lookup::{look_up, quote};
use crate::target::session::{Cause, Failure, STRICT_MODE};

impl Applier {
    /// A snapshot begins or goes on: makes what is missing, then writes down what will be copied
    /// and where the stream starts.
    ///
    /// Tables are made before the checkpoint says so. If the process ends in between, the next one
    /// finds them there and empty, and the syncer plans the same copy again.
    pub(crate) async fn snapshot_begin(
        &mut self,
        begin: &SnapshotBegin,
    ) -> Result<(), WriterError> {
        if !begin.resumed {
            self.check_beginning(begin).await?;
            self.forget_routed().await?;
        }
        self.described.clear();
        for table in &begin.tables {
            let snapshot = &self.settled.snapshot;
            if snapshot.anew(&table.database, &table.table) == Some(Anew::Missing) {
                let name = (table.database.clone(), table.table.clone());
                self.described.insert(name, table.clone());
            } else {
                self.make_table(table).await?;
            }
        }
        self.mappings.clear();
        failpoint::pass(Point::AfterCreate);
        if !begin.resumed {
            self.settled.arrive(&begin.position, begin.epoch, None);
        }
        self.settled.snapshot.begin(begin);
        self.put_source_epoch(begin.epoch).await?;
        self.forget_epochs();
        self.store(true).await?;
        self.status.settled(&self.stored, Done::default());
        tracing::info!(
            tables = begin.tables.len(),
            resumed = begin.resumed,
            position = %begin.position,
            "snapshot begins"
        );
        Ok(())
    }

    /// What the source wrote under its own epoch lies before the beginning of the stream. Where nothing
    /// is copied it has to be here by way of a later primary; a target that knows of epochs, and only
    /// of earlier ones, would lack it without a word. `Never` says that both sides are equal.
    async fn check_beginning(&mut self, begin: &SnapshotBegin) -> Result<(), WriterError> {
        self.forget_epochs();
        let newest = self.epochs().await?.newest();
        let copies = !begin.tables.is_empty() || self.config.snapshot.mode == SnapshotMode::Never;
        if copies || newest == 0 || begin.epoch <= newest {
            return Ok(());
        }
        let (source, target) = (&self.config.source.idc, &self.config.target.idc);
        Err(self.waits(
            begin.epoch,
            format!(
                "this link begins behind what {source} has written under it and copies nothing, and \
                 {target} knows of epoch {newest} only, so it would never get that; the copy from a \
                 later primary brings it, and if it is known to be there all the same, \
                 snapshot.mode: Never on the SyncLink lets it begin"
            ),
        ))
    }

    /// Writes down whose epoch the source's own one is. Its row lies before the beginning of the
    /// stream and so would never cross. Without it the target would know of no primary, and the
    /// opposite link, which waits for one, would begin only after the target has been promoted: too
    /// late for what was written there meanwhile.
    async fn put_source_epoch(&mut self, epoch: u64) -> Result<(), WriterError> {
        if epoch == 0 {
            return Ok(());
        }
        let idc = quote(self.config.source.idc.as_str());
        let put = format!(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at) \
             VALUES ({epoch}, {idc}, NULL, UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE epoch={epoch}"
        );
        self.target
            .execute("writing to multiactive.epoch", put.as_bytes())
            .await?;
        let check = format!("SELECT idc={idc} FROM multiactive.epoch WHERE epoch={epoch}");
        let same: Option<u8> = self
            .target
            .first("reading multiactive.epoch", &check)
            .await?;
        if same == Some(1) {
            return Ok(());
        }
        Err(explain::epoch_of_two("the beginning of the snapshot"))
    }

    /// Makes the table that a source table goes to, if it is not there: by the definition of the first
    /// that goes there. Whether the rows of the others fit is looked at with their rows.
    pub(crate) async fn make_table(&mut self, table: &SnapshotTable) -> Result<(), WriterError> {
        let routes = self.mappings.routes().clone();
        let (database, name) = routes.target(&table.database, &table.table);
        if look_up(&mut self.target, database, name).await?.is_some() {
            return Ok(());
        }
        let by_hand = |statement: &str, answer: String| WriterError::DdlFailed {
            statement: change::shown(statement.as_bytes(), change::SHOWN),
            gtid: "snapshot".to_owned(),
            answer,
            fix: format!(
                "make the empty table {database}.{name} at the target by hand, with everything that \
                 the engine there calls otherwise replaced; the link then goes on by itself"
            ),
        };
        let engine = self.target.engine();
        let statement = &table.create_statement;
        let create = made::check_keys(statement, (&table.database, &table.table), &routes)
            .and_then(|()| made::renamed(statement, &table.table, name))
            .map_err(|error| by_hand(statement, error.to_string()))?;
        let create = dialect::translate_printed(create.as_bytes(), engine);
        self.make_database(table, database).await?;
        let mut sql = b"USE ".to_vec();
        literal::identifier(&mut sql, database);
        // The tables that it refers to may come later; its statement was printed by the source, so
        // it says what the source's table is whatever the mode.
        sql.extend_from_slice(b"; SET foreign_key_checks=0, sql_mode='NO_ENGINE_SUBSTITUTION'; ");
        sql.extend_from_slice(&create);
        let made = self.target.execute("making a table", &sql).await;
        let reset = format!("SET foreign_key_checks=1, sql_mode='{STRICT_MODE}'");
        self.target
            .execute("resetting the session", reset.as_bytes())
            .await?;
        made.map_err(|error| by_hand(&String::from_utf8_lossy(&create), error.to_string()))?;
        tracing::info!(%database, table = %name, "table made at the target");
        Ok(())
    }

    /// Makes a database as that of a source table is made, if it is not there.
    async fn make_database(
        &mut self,
        table: &SnapshotTable,
        database: &str,
    ) -> Result<(), WriterError> {
        let look = format!(
            "SELECT 1 FROM information_schema.schemata WHERE schema_name={}",
            quote(database)
        );
        let known: Option<u8> = self.target.first("looking for a database", &look).await?;
        if known.is_some() {
            return Ok(());
        }
        let failed = |answer: String| WriterError::DdlFailed {
            statement: change::shown(table.create_database.as_bytes(), change::SHOWN),
            gtid: "snapshot".to_owned(),
            answer,
            fix: format!(
                "make the database {database} at the target by hand, with everything that the engine \
                 there calls otherwise replaced; the link then goes on by itself"
            ),
        };
        let create = made::renamed(&table.create_database, &table.database, database)
            .map_err(|error| failed(error.to_string()))?;
        let create = dialect::translate_printed(create.as_bytes(), self.target.engine());
        let made = self.target.execute("making a database", &create).await;
        made.map_err(|error| failed(error.to_string()))?;
        tracing::info!(%database, "database made at the target");
        Ok(())
    }

    /// Puts the rows of a chunk and moves the table's cursor, in one transaction.
    pub(crate) async fn snapshot_chunk(
        &mut self,
        chunk: &SnapshotChunk,
    ) -> Result<(), WriterError> {
        let made = self.make_missing(chunk).await?;
        let mapping = self.mappings.get(&mut self.target, &chunk.table).await?;
        let from_mariadb = self.settled.record.engine == Some(SourceEngine::MariaDb);
        if mapping.foreign.cascades_here && from_mariadb {
            return Err(WriterError::Unsupported(format!(
                "table {} has a foreign key with CASCADE or SET NULL. MariaDB leaves what such a key \
                 does out of its binlog, so rows could be copied that are gone meanwhile. Copy the \
                 table by hand while nothing is written, and set snapshot.mode: Never on the SyncLink; \
                 or exclude it",
                chunk.table
            )));
        }
        let mut next: Checkpoint = self.settled.clone();
        next.record.serial = self.stored.record.serial + 1;
        let copy = next
            .snapshot
            .table(&chunk.table.database, &chunk.table.table);
        copy.anew = if made { Some(Anew::Copying) } else { copy.anew };
        copy.advance(&chunk.cursor, chunk.rows_so_far, chunk.done);
        let mut plan = Plan::new(self.careful);
        plan.housekeeping(Expect::Success, b"START TRANSACTION");
        let update = self.update_statement(&next, true)?;
        plan.checkpoint(Expect::Rows(1), &update);
        if self.is_copied_anew(chunk) {
            plan.housekeeping(Expect::Success, &self.copied_statement(chunk));
        }
        plan.epoch(LOCK_EPOCH);
        plan.epoch(READ_EPOCH);
        plan.not_held_by(self.config.target.idc.as_str());
        explain::losses(chunk.rows.iter(), &mapping, "snapshot")?;
        if mapping.shared {
            // Nobody but this writer changes which rows are there, or the checkpoint tells.
            let here = self.here(&chunk.table, &mapping, chunk.rows.iter()).await?;
            self.plan_shared_chunk(&mut plan, (&chunk.table, &chunk.rows), &mapping, &here);
        } else {
            plan.put_rows(&chunk.rows, &mapping);
        }
        if let Err(error) = self.run_chunk(plan, chunk).await {
            let _gone_otherwise = self.target.roll_back().await;
            return Err(if mapping.shared {
                clash(error, &mapping)
            } else {
                error
            });
        }
        self.stored = next;
        self.settled = self.stored.clone();
        self.status.settled(&self.stored, Done::default());
        if chunk.done {
            tracing::info!(table = %chunk.table, rows = chunk.rows_so_far, "table copied");
        }
        Ok(())
    }

    async fn run_chunk(&mut self, plan: Plan, chunk: &SnapshotChunk) -> Result<(), WriterError> {
        let mut epochs = Vec::new();
        for request in plan.finish() {
            let Failure { index, cause } = match self.target.run(&request).await {
                Ok(answers) => {
                    epochs.extend(epochs_read(&request, &answers));
                    continue;
                }
                Err(failure) => failure,
            };
            let statement = &request.statements[index];
            return Err(match cause {
                Cause::Answer if statement.subject == Subject::Epoch => {
                    WriterError::CopyIntoPrimary {
                        table: chunk.table.to_string(),
                        source_idc: self.config.source.idc.to_string(),
                        target_idc: self.config.target.idc.to_string(),
                    }
                }
                Cause::Rows { .. } | Cause::Answer if statement.subject == Subject::Checkpoint => {
                    WriterError::CheckpointMoved
                }
                Cause::Driver(error) => explain::driver(error, statement, "snapshot"),
                Cause::Warnings => match self.target.warnings(statement.warnings).await? {
                    Some(text) if self.careful => explain::warning(statement, "snapshot", &text),
                    _ if self.careful => continue,
                    _ => explain::mismatch(&cause, statement, "snapshot"),
                },
                cause => explain::mismatch(&cause, statement, "snapshot"),
            });
        }
        self.judge_chunk(chunk, &epochs)?;
        self.commit().await
    }

    /// Rows that were read under an epoch that has ended here are applied as little as changes
    /// are: what the new primary made of them may have arrived from there.
    fn judge_chunk(&self, chunk: &SnapshotChunk, epochs: &[u64]) -> Result<(), WriterError> {
        let [locked, read] = *epochs else {
            return Err(WriterError::EpochMoved);
        };
        let epoch = self.settled.record.epoch;
        match epoch::judge(epoch, Seen { locked, read }) {
            Verdict::Current => Ok(()),
            Verdict::LookAgain => Err(WriterError::EpochMoved),
            Verdict::Ended { newest } => Err(WriterError::CopyOfEndedEpoch {
                table: chunk.table.to_string(),
                source_idc: self.config.source.idc.to_string(),
                epoch,
                newest,
            }),
        }
    }

    /// Every table was copied.
    pub(crate) async fn snapshot_end(&mut self) -> Result<(), WriterError> {
        self.forget_routed().await?;
        let dropped = self.settled.snapshot.end();
        // Chunks may hold what was committed until the last of them was read, which lies before here.
        let record = &mut self.settled.record;
        record.newest = self.settled.position.as_ref().map(|position| Newest {
            epoch: record.epoch,
            within: position.to_string(),
        });
        let told = self.dropped_statements(&dropped);
        self.store_with(true, &told).await?;
        failpoint::pass(Point::AfterCopies);
        self.status.settled(&self.stored, Done::default());
        let progress = self.stored.snapshot.progress();
        tracing::info!(
            tables = progress.tables,
            rows = progress.rows,
            "snapshot ends"
        );
        Ok(())
    }
}

/// The answers of the two reads of the newest epoch, 0 where there is no row.
pub(crate) fn epochs_read<'a>(
    request: &'a Request,
    answers: &'a [Option<u64>],
) -> impl Iterator<Item = u64> + 'a {
    let of_epoch = |(statement, _): &(&Statement, &Option<u64>)| {
        statement.subject == Subject::Epoch && statement.expect == Expect::Success
    };
    request
        .statements
        .iter()
        .zip(answers)
        .filter(of_epoch)
        .map(|(_, answer)| answer.unwrap_or(0))
}
