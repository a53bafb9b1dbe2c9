//! Questions to the source: where it is, whose epoch it is, which tables it has.

use std::time::Duration;

use change::{Flavor, Position, ServerUuid, SnapshotTable};
use model::{Epoch, IdcName, Routes};
use mysql::foreign_keys::{self, ActingKey};
use mysql::lifeline::Lifeline;
use mysql::select::Selection;
use mysql::session::{Engine, Session, SessionOptions};
use mysql::tables::TableInfo;
use mysql_async::Row;
use mysql_async::prelude::Queryable;

use crate::error::PullError;

/// `ER_NO_SUCH_TABLE` and `ER_BAD_DB_ERROR`.
const MISSING: [u16; 2] = [1146, 1049];

/// How long a table that looks wrong is left alone before it is looked at again.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// A session for questions.
pub struct Source {
    session: Session,
}

/// A place in the source's binlog and the epochs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub position: Position,
    /// The source's own epoch: the highest one that was given to it.
    pub own_epoch: Epoch,
    /// The highest epoch and whose it is.
    pub latest: Option<(Epoch, IdcName)>,
}

impl Source {
    /// Opens a session whose settings make answers comparable.
    pub async fn connect(options: &SessionOptions) -> Result<Self, PullError> {
        let mut session = options.connect().await?;
        session
            .conn
            .query_drop(
                "SET SESSION sql_mode = '', time_zone = '+00:00', lock_wait_timeout = 10, \
                 transaction_isolation = 'REPEATABLE-READ'"
                    .replace(
                        "transaction_isolation",
                        match session.version().engine {
                            Engine::MySql => "transaction_isolation",
                            Engine::MariaDb => "tx_isolation",
                        },
                    ),
            )
            .await
            .map_err(PullError::query("setting up a session"))?;
        Ok(Self { session })
    }

    /// What tells whether the session is still there.
    pub fn lifeline(&self) -> &Lifeline {
        self.session.lifeline()
    }

    /// The form of the source's positions.
    pub fn flavor(&self) -> Flavor {
        match self.session.engine() {
            Engine::MySql => Flavor::MySql,
            Engine::MariaDb => Flavor::MariaDb,
        }
    }

    async fn texts(&mut self, what: &str, query: &str) -> Result<Vec<String>, PullError> {
        let row: Option<Row> = self
            .session
            .conn
            .query_first(query)
            .await
            .map_err(PullError::query(what))?;
        let Some(row) = row else {
            return Ok(Vec::new());
        };
        Ok(row
            .unwrap()
            .into_iter()
            .map(|value| match value {
                mysql_async::Value::NULL => String::new(),
                mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                other => other.as_sql(true).trim_matches('\'').to_owned(),
            })
            .collect())
    }

    async fn position_of(&mut self, what: &str, query: &str) -> Result<Position, PullError> {
        let flavor = self.flavor();
        let text = self
            .texts(what, query)
            .await?
            .into_iter()
            .next()
            .unwrap_or_default();
        Position::parse(flavor, &text).map_err(|error| {
            PullError::halt(
                "Position",
                format!("{what} gave a position that cannot be read: {error}"),
            )
        })
    }

    /// What the source has executed.
    pub async fn executed(&mut self) -> Result<Position, PullError> {
        let query = match self.flavor() {
            Flavor::MySql => "SELECT @@GLOBAL.gtid_executed",
            Flavor::MariaDb => "SELECT @@GLOBAL.gtid_binlog_pos",
        };
        self.position_of("asking for the position", query).await
    }

    /// What of it is not in the binlog any more; empty where the server tells only on reading.
    pub async fn purged(&mut self) -> Result<Position, PullError> {
        match self.flavor() {
            Flavor::MySql => {
                self.position_of("asking for what was purged", "SELECT @@GLOBAL.gtid_purged")
                    .await
            }
            Flavor::MariaDb => Ok(Position::empty(Flavor::MariaDb)),
        }
    }

    /// MariaDB's name of itself in GTIDs.
    pub async fn server_id(&mut self) -> Result<u32, PullError> {
        let what = "asking for the server's number";
        let id: Option<u32> = self
            .session
            .conn
            .query_first("SELECT @@GLOBAL.server_id")
            .await
            .map_err(PullError::query(what))?;
        Ok(id.unwrap_or_default())
    }

    /// MySQL's name of itself in GTIDs.
    pub async fn server_uuid(&mut self) -> Result<Option<ServerUuid>, PullError> {
        if self.flavor() == Flavor::MariaDb {
            return Ok(None);
        }
        let what = "asking for the server's UUID";
        let query = "SELECT CONCAT(@@GLOBAL.server_uuid, ':1')";
        let one = self.position_of(what, query).await?;
        Ok(match one {
            Position::MySql(set) => set.iter().map(|(uuid, ..)| uuid).next(),
            Position::MariaDb(_) => None,
        })
    }

    /// The epochs of the table `multiactive.epoch`: the source's own, and the latest.
    async fn epochs(
        &mut self,
        idc: &IdcName,
    ) -> Result<(Epoch, Option<(Epoch, IdcName)>), PullError> {
        let query = "SELECT epoch, idc FROM multiactive.epoch ORDER BY epoch";
        let rows: Vec<(u64, String)> = match self.session.conn.query(query).await {
            Ok(rows) => rows,
            Err(mysql_async::Error::Server(error)) if MISSING.contains(&error.code) => {
                return Err(PullError::NotYet(format!(
                    "the source {} has no schema `multiactive` yet; the arbiter of {idc} makes it",
                    self.session.endpoint()
                )));
            }
            Err(error) => return Err(PullError::query("reading multiactive.epoch")(error)),
        };
        let own = rows
            .iter()
            .filter(|(_, owner)| owner == idc.as_str())
            .map(|(epoch, _)| *epoch);
        let latest = match rows.last() {
            None => None,
            Some((epoch, owner)) => {
                let owner = IdcName::new(owner.clone()).map_err(|error| {
                    PullError::halt("Epoch", format!("multiactive.epoch of the source: {error}"))
                })?;
                Some((Epoch(*epoch), owner))
            }
        };
        Ok((Epoch(own.max().unwrap_or(0)), latest))
    }

    /// The position now and the epochs at exactly that position.
    ///
    /// MySQL: a transaction is in `gtid_executed` only after it is visible (with
    /// `binlog_order_commits`), and epochs only grow. So if the epochs are the same before and
    /// after the position was read, no epoch row that is in the position was missed, and none that
    /// is not in it was seen. MariaDB adds to `gtid_binlog_pos` before a transaction is visible, so
    /// that does not hold; there a consistent snapshot knows its own place in the binlog.
    pub async fn place(&mut self, idc: &IdcName) -> Result<Place, PullError> {
        match self.flavor() {
            Flavor::MySql => loop {
                let before = self.epochs(idc).await?;
                let position = self.executed().await?;
                let (own_epoch, latest) = self.epochs(idc).await?;
                if before == (own_epoch, latest.clone()) {
                    return Ok(Place {
                        position,
                        own_epoch,
                        latest,
                    });
                }
            },
            Flavor::MariaDb => {
                let begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
                let what = "opening a consistent snapshot";
                self.session
                    .conn
                    .query_drop(begin)
                    .await
                    .map_err(PullError::query(what))?;
                let place = self.mariadb_place(idc).await;
                self.session
                    .conn
                    .query_drop("COMMIT")
                    .await
                    .map_err(PullError::query(what))?;
                place
            }
        }
    }

    /// The newest epoch that the source knows of, and whose it is; `None` where there is none.
    pub async fn latest_epoch(
        &mut self,
        idc: &IdcName,
    ) -> Result<Option<(Epoch, IdcName)>, PullError> {
        self.epochs(idc).await.map(|(_, latest)| latest)
    }

    async fn mariadb_place(&mut self, idc: &IdcName) -> Result<Place, PullError> {
        let what = "asking for the snapshot's place in the binlog";
        let status: Vec<(String, String)> = self
            .session
            .conn
            .query("SHOW STATUS LIKE 'binlog_snapshot_%'")
            .await
            .map_err(PullError::query(what))?;
        let of = |name: &str| {
            status
                .iter()
                .find(|(variable, _)| variable.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
                .unwrap_or_default()
        };
        let (file, offset) = (of("binlog_snapshot_file"), of("binlog_snapshot_position"));
        let offset: u64 = offset.parse().unwrap_or(0);
        let query = format!(
            "SELECT BINLOG_GTID_POS('{}', {offset})",
            file.replace('\'', "''")
        );
        let position = self.position_of(what, &query).await?;
        let (own_epoch, latest) = self.epochs(idc).await?;
        Ok(Place {
            position,
            own_epoch,
            latest,
        })
    }

    /// Settings without which a snapshot of these tables can lose changes.
    pub async fn check_for_snapshot(
        &mut self,
        selection: &Selection,
        is_copied: &(dyn Fn(&str, &str) -> bool + Sync),
    ) -> Result<(), PullError> {
        if self.flavor() == Flavor::MySql {
            self.check_cascades(selection, is_copied).await?;
            let order = self
                .texts(
                    "asking for binlog_order_commits",
                    "SELECT @@GLOBAL.binlog_order_commits",
                )
                .await?;
            if order.first().map(String::as_str) != Some("1") {
                return Err(PullError::halt(
                    "BinlogOrderCommits",
                    "binlog_order_commits is OFF at the source, so a row may become visible after \
                     its place in the binlog and a copy could miss it. SET PERSIST \
                     binlog_order_commits = ON",
                ));
            }
        }
        Ok(())
    }

    /// What foreign keys do must be in the binlog. (Of MariaDB, which never does that, the writer
    /// refuses such tables.)
    async fn check_cascades(
        &mut self,
        selection: &Selection,
        is_copied: &(dyn Fn(&str, &str) -> bool + Sync),
    ) -> Result<(), PullError> {
        if self.logs_cascades().await? {
            return Ok(());
        }
        let keys = self.acting_keys(selection).await?;
        let meets = |key: &&ActingKey| {
            let ((db, table), (to_db, to_table)) = (&key.from, &key.to);
            selection.has_table(db, table) && (is_copied(db, table) || is_copied(to_db, to_table))
        };
        match keys.iter().find(meets).map(|key| &key.from) {
            None => Ok(()),
            Some((database, table)) => Err(PullError::halt(
                "CascadesNotLogged",
                format!(
                    "table {database}.{table} has a foreign key with CASCADE, SET NULL or SET DEFAULT, \
                     and this server leaves what such a key does out of its binlog, so rows could be \
                     copied that are gone meanwhile. Copy the table by hand while nothing is written, \
                     and set snapshot.mode: Never on the SyncLink; or exclude it; or use MySQL 9.6 or \
                     later with innodb_native_foreign_keys = OFF"
                ),
            )),
        }
    }

    /// The names of the link's tables.
    pub async fn table_names(
        &mut self,
        selection: &Selection,
    ) -> Result<Vec<(String, String)>, PullError> {
        let mut names = Vec::new();
        for database in selection.databases() {
            let tables: Vec<String> = self
                .session
                .conn
                .exec(
                    "SELECT CAST(table_name AS CHAR) FROM information_schema.tables \
                     WHERE table_schema = ?",
                    (database,),
                )
                .await
                .map_err(PullError::query("reading the names of the tables"))?;
            let carried = |table: &String| selection.has_table(database, table);
            let tables = tables.into_iter().filter(carried);
            names.extend(tables.map(|table| (database.clone(), table)));
        }
        Ok(names)
    }

    /// Whether what they do is in the binlog.
    pub async fn logs_cascades(&mut self) -> Result<bool, PullError> {
        let engine = self.session.engine();
        foreign_keys::are_logged(&mut self.session.conn, engine)
            .await
            .map_err(PullError::query("asking for innodb_native_foreign_keys"))
    }

    /// The foreign keys of the link's databases that change rows by themselves.
    pub async fn acting_keys(
        &mut self,
        selection: &Selection,
    ) -> Result<Vec<ActingKey>, PullError> {
        foreign_keys::acting(&mut self.session.conn, selection.databases())
            .await
            .map_err(PullError::query(
                "reading the foreign keys from information_schema",
            ))
    }

    /// A key that acts at the target in the source's place does so when the row that it refers to is
    /// changed there, so the link has to carry both tables.
    pub async fn check_outer_keys(&mut self, selection: &Selection) -> Result<(), PullError> {
        if self.logs_cascades().await? {
            return Ok(());
        }
        let has = |(database, table): &(String, String)| selection.has_table(database, table);
        let keys = self.acting_keys(selection).await?;
        match keys.iter().find(|key| has(&key.from) && !has(&key.to)) {
            None => Ok(()),
            Some(key) => Err(PullError::halt(
                "CascadesFromOutside",
                format!(
                    "the foreign key of {key} changes rows of a table that the link carries when rows \
                     of one change that it does not carry, and this server leaves that out of its \
                     binlog. Make the key RESTRICT at the source, or carry both tables, or neither"
                ),
            )),
        }
    }

    /// Between tables of which a route gives one another name there is no key that would do the same.
    pub async fn check_routed_keys(
        &mut self,
        selection: &Selection,
        routes: &Routes,
    ) -> Result<(), PullError> {
        if routes.all().is_empty() {
            return Ok(());
        }
        let keys = self.acting_keys(selection).await?;
        let copied = keys
            .into_iter()
            .filter(|key| selection.has_table(&key.from.0, &key.from.1));
        for key in copied {
            let ((database, table), (to_database, to_table)) = (key.from, key.to);
            let route = routes
                .met_by(&database, Some(&table))
                .or_else(|| routes.met_by(&to_database, Some(&to_table)));
            if let Some(route) = route {
                return Err(PullError::halt(
                    "CascadesOfRoutedTable",
                    format!(
                        "the foreign key of {database}.{table} to {to_database}.{to_table} has \
                         CASCADE, SET NULL or SET DEFAULT, and tables.routes (from {} to {}) gives \
                         one of the two another name or brings several tables together, so at the \
                         target it would not do the same. Make the key RESTRICT at the source, or \
                         exclude one of the tables, or remove the route",
                        route.from, route.to
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The tables of the link, each checked: a link cannot carry tables without a key, without
    /// transactions, or with types that it does not know.
    pub async fn tables(&mut self, selection: &Selection) -> Result<Vec<TableInfo>, PullError> {
        let all = mysql::tables::tables(&mut self.session.conn, selection.databases())
            .await
            .map_err(PullError::query(
                "reading the tables from information_schema",
            ))?;
        let selected = |info: &TableInfo| selection.has_table(&info.database, &info.table);
        let tables: Vec<TableInfo> = all.into_iter().filter(selected).collect();
        let mut problems = Vec::new();
        for table in &tables {
            if problem(table).is_some() {
                problems.extend(self.lasting_problem(table).await?);
            }
        }
        let sequences = mysql::tables::sequences(&mut self.session.conn, selection.databases())
            .await
            .map_err(PullError::query(
                "reading the sequences from information_schema",
            ))?;
        for (database, name) in sequences {
            if selection.has_table(&database, &name) {
                problems.push(format!(
                    "Links do not carry sequences yet, and {database}.{name} is one: exclude it \
                     from the link, or use AUTO_INCREMENT instead"
                ));
            }
        }
        let versioned = mysql::tables::versioned(&mut self.session.conn, selection.databases())
            .await
            .map_err(PullError::query(
                "reading the tables from information_schema",
            ))?;
        for (database, name) in versioned {
            if selection.has_table(&database, &name) {
                problems.push(format!(
                    "Table {database}.{name} is made WITH SYSTEM VERSIONING, and links do not carry \
                     former rows: ALTER TABLE {}.{} DROP SYSTEM VERSIONING, or exclude the table \
                     from the link",
                    identifier(&database),
                    identifier(&name)
                ));
            }
        }
        if problems.is_empty() {
            Ok(tables)
        } else {
            Err(PullError::halt("Tables", problems.join(". ")))
        }
    }

    /// What is wrong with a table, if it stays wrong: `information_schema` is read by several
    /// queries, and a table that is dropped or altered between them looks as if it had no columns
    /// or no key.
    async fn lasting_problem(&mut self, table: &TableInfo) -> Result<Option<String>, PullError> {
        const LOOKS: u32 = 3;
        let mut found = None;
        for _ in 0..LOOKS {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            let info = mysql::tables::table(&mut self.session.conn, &table.database, &table.table)
                .await
                .map_err(PullError::query(format!(
                    "describing {}",
                    table.full_name()
                )))?;
            found = info.as_ref().and_then(problem);
            if found.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// How a table and its database are made; `None` if the table is not there any more.
    pub async fn how_made(
        &mut self,
        table: &TableInfo,
    ) -> Result<Option<SnapshotTable>, PullError> {
        let name = format!(
            "{}.{}",
            identifier(&table.database),
            identifier(&table.table)
        );
        let row: Result<Option<Row>, _> = self
            .session
            .conn
            .query_first(format!("SHOW CREATE TABLE {name}"))
            .await;
        let create_statement = match row {
            Ok(Some(mut row)) => row.take::<String, _>(1).unwrap_or_default(),
            Ok(None) => return Ok(None),
            Err(mysql_async::Error::Server(error)) if MISSING.contains(&error.code) => {
                return Ok(None);
            }
            Err(error) => return Err(PullError::query(format!("SHOW CREATE TABLE {name}"))(error)),
        };
        let database = identifier(&table.database);
        let query = format!("SHOW CREATE DATABASE IF NOT EXISTS {database}");
        let mut row: Vec<String> = self.texts("SHOW CREATE DATABASE", &query).await?;
        Ok(Some(SnapshotTable {
            database: table.database.clone(),
            table: table.table.clone(),
            create_database: row.pop().unwrap_or_default(),
            create_statement,
            rows_estimate: table.rows_estimate,
        }))
    }
}

/// A name in quotes.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Why a link cannot carry a table, with the fix.
fn problem(table: &TableInfo) -> Option<String> {
    let name = table.full_name();
    if let Some((column, declared)) = table.schema().err() {
        return Some(format!(
            "Column {column} of table {name} has the type {declared}, which links do not carry: \
             change its type or exclude the table from the link"
        ));
    }
    if table.key.is_empty() {
        return Some(format!(
            "Table {name} has neither a primary key nor a unique key without NULL: ALTER TABLE \
             {}.{} ADD PRIMARY KEY (...), or exclude the table from the link",
            identifier(&table.database),
            identifier(&table.table)
        ));
    }
    if !table.engine.eq_ignore_ascii_case("InnoDB") {
        return Some(format!(
            "Table {name} has the engine {}, which has no transactions: ALTER TABLE {}.{} ENGINE = \
             InnoDB, or exclude the table from the link",
            table.engine,
            identifier(&table.database),
            identifier(&table.table)
        ));
    }
    None
}
