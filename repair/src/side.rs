//! Reading one end.

use change::{Column, Row, Value};
use futures::TryStreamExt as _;
use mysql::control::identifier;
use mysql::keyset;
use mysql::session::{Session, SessionOptions};
use mysql::tables::TableInfo;
use mysql::values;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use crate::digest::{self, Digest};
use crate::error::RepairError;
use crate::pair::{End, Key, Pair};

/// A session that reads one end.
pub(crate) struct Side {
    pub session: Session,
    pub end: End,
}

/// The rows behind `after` up to `until`; without them, from the first and to the last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub after: Option<Key>,
    pub until: Option<Key>,
}

/// Rows that were read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// In the order of the key, in the form that is compared.
    pub rows: Vec<Row>,
    /// There may be more in the range.
    pub more: bool,
    /// What they take.
    pub bytes: u64,
}

impl Side {
    /// Opens a session that reads as the snapshot of a link does.
    pub(crate) async fn connect(options: &SessionOptions, end: End) -> Result<Self, RepairError> {
        let mut session = options.connect().await?;
        for setting in [
            "SET NAMES utf8mb4",
            "SET SESSION sql_mode = '', time_zone = '+00:00', lock_wait_timeout = 10, \
             innodb_lock_wait_timeout = 1, autocommit = 1, net_write_timeout = 600",
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        ] {
            let doing = format!("preparing a session with the {}", end.name());
            let set = session.conn.query_drop(setting).await;
            set.map_err(|error| RepairError::driver(doing, None, error))?;
        }
        Ok(Self { session, end })
    }

    /// Every base table of some databases.
    pub(crate) async fn tables(
        &mut self,
        databases: &[String],
    ) -> Result<Vec<TableInfo>, RepairError> {
        let doing = format!("listing the tables of the {}", self.end.name());
        mysql::tables::tables(&mut self.session.conn, databases)
            .await
            .map_err(|error| RepairError::driver(doing, None, error))
    }

    /// One base table.
    pub(crate) async fn describe(
        &mut self,
        database: &str,
        table: &str,
    ) -> Result<Option<TableInfo>, RepairError> {
        let doing = format!("describing {database}.{table} at the {}", self.end.name());
        mysql::tables::table(&mut self.session.conn, database, table)
            .await
            .map_err(|error| RepairError::driver(doing, None, error))
    }

    /// Threads that run.
    pub(crate) async fn threads_running(&mut self) -> Result<u64, RepairError> {
        let doing = format!("asking what the {} is busy with", self.end.name());
        let sql = "SHOW GLOBAL STATUS LIKE 'Threads_running'";
        let row: Option<(String, String)> = self
            .session
            .conn
            .query_first(sql)
            .await
            .map_err(|error| RepairError::driver(doing, None, error))?;
        Ok(row
            .and_then(|(_, number)| number.parse().ok())
            .unwrap_or_default())
    }

    /// At most so many rows of a range; those that go beyond so many bytes are left.
    pub(crate) async fn rows(
        &mut self,
        pair: &Pair,
        range: &Range,
        limit: u64,
        most_bytes: usize,
    ) -> Result<Read, RepairError> {
        let sql = format!(
            "SELECT {} FROM {}{}{} LIMIT {limit}",
            columns(pair, self.end),
            table(pair),
            condition(pair, self.end, range)?,
            order(pair, self.end)
        );
        let (doing, end) = (self.doing(pair), self.end);
        raw(&mut self.session.conn, &doing, async |conn: &mut Conn| {
            let failed = |error| RepairError::driver(&doing, Some(&pair.name), error);
            let mut read = Read::default();
            // A statement with parameters, even without any, is answered in the binary protocol.
            let mut stream = conn
                .exec_stream::<mysql_async::Row, _, _>(sql.as_str(), ())
                .await
                .map_err(failed)?;
            let mut seen = 0;
            while let Some(row) = stream.try_next().await.map_err(failed)? {
                seen += 1;
                read.more |= read.bytes > most_bytes as u64;
                if read.more {
                    continue;
                }
                let row = decode(pair, end, row)?;
                read.bytes += row.iter().map(|value| value.weight() as u64).sum::<u64>();
                read.rows.push(row);
            }
            read.more |= seen >= limit;
            Ok(read)
        })
        .await
    }

    /// The row with each key. `lock` is what the statement ends with.
    pub(crate) async fn points(
        &mut self,
        pair: &Pair,
        keys: &[Key],
        lock: &str,
    ) -> Result<Vec<Option<Row>>, RepairError> {
        let (doing, end) = (self.doing(pair), self.end);
        raw(&mut self.session.conn, &doing, async |conn: &mut Conn| {
            let mut rows = Vec::with_capacity(keys.len());
            for key in keys {
                rows.push(point(conn, pair, end, key, lock).await?);
            }
            Ok(rows)
        })
        .await
    }

    /// The rows that meet a condition of its columns.
    pub(crate) async fn meeting(
        &mut self,
        pair: &Pair,
        condition: &str,
    ) -> Result<Vec<Row>, RepairError> {
        let (columns, table) = (columns(pair, self.end), table(pair));
        let sql = format!("SELECT {columns} FROM {table} WHERE {condition}");
        let (doing, end) = (self.doing(pair), self.end);
        raw(&mut self.session.conn, &doing, async |conn: &mut Conn| {
            let rows: Vec<mysql_async::Row> = conn
                .exec(sql.as_str(), ())
                .await
                .map_err(|error| RepairError::driver(&doing, Some(&pair.name), error))?;
            rows.into_iter().map(|row| decode(pair, end, row)).collect()
        })
        .await
    }

    /// The digest of a range; `None` if the table is not one for digests.
    pub(crate) async fn digest(
        &mut self,
        pair: &Pair,
        range: &Range,
    ) -> Result<Option<Digest>, RepairError> {
        let Some((head, tail)) = digest::query(pair, self.end) else {
            return Ok(None);
        };
        let sql = format!("{head}{}{tail}", condition(pair, self.end, range)?);
        let doing = self.doing(pair);
        let row: Option<(u64, u64, u64, u64, u64, u64)> = self
            .session
            .conn
            .exec_first(sql, ())
            .await
            .map_err(|error| RepairError::driver(doing, Some(&pair.name), error))?;
        Ok(row.map(|(rows, digested, one, two, three, four)| Digest {
            rows,
            digested,
            bits: [one, two, three, four],
        }))
    }

    /// The key that ends a chunk of so many rows; `None` if there are not so many.
    pub(crate) async fn chunk_end(
        &mut self,
        pair: &Pair,
        after: Option<&Key>,
        rows: u64,
    ) -> Result<Option<Key>, RepairError> {
        let range = Range {
            after: after.cloned(),
            until: None,
        };
        let names: Vec<String> = pair
            .key
            .iter()
            .map(|&index| values::expression(pair.column(index, self.end)))
            .collect();
        let sql = format!(
            "SELECT {} FROM {}{}{} LIMIT 1 OFFSET {}",
            names.join(", "),
            table(pair),
            condition(pair, self.end, &range)?,
            order(pair, self.end),
            rows.saturating_sub(1)
        );
        let (doing, end) = (self.doing(pair), self.end);
        raw(&mut self.session.conn, &doing, async |conn: &mut Conn| {
            let row: Option<mysql_async::Row> = conn
                .exec_first(sql.as_str(), ())
                .await
                .map_err(|error| RepairError::driver(&doing, Some(&pair.name), error))?;
            let Some(row) = row else { return Ok(None) };
            let columns = pair.key.iter().zip(row.unwrap());
            columns
                .map(|(&index, sql)| value(pair, end, index, sql))
                .collect::<Result<Key, _>>()
                .map(Some)
        })
        .await
    }

    fn doing(&self, pair: &Pair) -> String {
        format!("reading {} at the {}", pair.name, self.end.name())
    }
}

/// Reads with strings as they are stored.
async fn raw<T>(
    conn: &mut Conn,
    doing: &str,
    read: impl AsyncFnOnce(&mut Conn) -> Result<T, RepairError>,
) -> Result<T, RepairError> {
    let set = async |conn: &mut Conn, sql: &str| {
        conn.query_drop(sql)
            .await
            .map_err(|error| RepairError::driver(doing, None, error))
    };
    set(conn, "SET character_set_results = NULL").await?;
    let answer = read(conn).await;
    set(conn, "SET character_set_results = utf8mb4").await?;
    answer
}

/// The row with a key, by a session whose strings come as they are stored.
async fn point(
    conn: &mut Conn,
    pair: &Pair,
    end: End,
    key: &Key,
    lock: &str,
) -> Result<Option<Row>, RepairError> {
    let sql = format!(
        "SELECT {} FROM {} WHERE {}{lock}",
        columns(pair, end),
        table(pair),
        at(pair, end, key)?
    );
    let doing = format!("reading a row of {} at the {}", pair.name, end.name());
    let row: Option<mysql_async::Row> = conn
        .exec_first(sql, ())
        .await
        .map_err(|error| RepairError::driver(doing, Some(&pair.name), error))?;
    row.map(|row| decode(pair, end, row)).transpose()
}

/// A row of the target in all its own columns, locked, by the session that writes there.
pub(crate) async fn own_row(
    conn: &mut Conn,
    schema: &change::TableSchema,
    condition: &str,
) -> Result<Option<Row>, RepairError> {
    let doing = format!("reading a row of {schema} at the target");
    let names: Vec<String> = schema.columns.iter().map(values::expression).collect();
    let sql = format!(
        "SELECT {} FROM {}.{} WHERE {condition} FOR UPDATE",
        names.join(", "),
        identifier(&schema.database),
        identifier(&schema.table)
    );
    raw(conn, &doing, async |conn: &mut Conn| {
        let row: Option<mysql_async::Row> = conn
            .exec_first(sql.as_str(), ())
            .await
            .map_err(|error| RepairError::driver(&doing, Some(&schema.to_string()), error))?;
        let Some(row) = row else { return Ok(None) };
        let columns = schema.columns.iter().zip(row.unwrap());
        columns
            .map(|(column, sql)| exact(column, sql, &doing))
            .collect::<Result<Row, _>>()
            .map(Some)
    })
    .await
}

fn decode(pair: &Pair, end: End, row: mysql_async::Row) -> Result<Row, RepairError> {
    row.unwrap()
        .into_iter()
        .enumerate()
        .map(|(index, sql)| value(pair, end, index, sql))
        .collect()
}

fn value(
    pair: &Pair,
    end: End,
    index: usize,
    sql: mysql_async::Value,
) -> Result<Value, RepairError> {
    let read = exact(pair.column(index, end), sql, &pair.name)?;
    Ok(pair.canonical(index, read))
}

fn exact(column: &Column, sql: mysql_async::Value, what: &str) -> Result<Value, RepairError> {
    // The description was of before a DDL and the row of after it; a second look tells.
    values::value(column, sql).map_err(|misfit| RepairError::Changed(format!("{what} ({misfit})")))
}

fn table(pair: &Pair) -> String {
    format!(
        "{}.{}",
        identifier(pair.database()),
        identifier(pair.table())
    )
}

fn columns(pair: &Pair, end: End) -> String {
    let names: Vec<String> = (0..pair.columns.len())
        .map(|index| values::expression(pair.column(index, end)))
        .collect();
    names.join(", ")
}

fn order(pair: &Pair, end: End) -> String {
    let names: Vec<String> = key_names(pair, end)
        .iter()
        .map(|name| identifier(name))
        .collect();
    format!(" ORDER BY {}", names.join(", "))
}

fn key_names(pair: &Pair, end: End) -> Vec<String> {
    let key = pair.key.iter();
    key.map(|&index| pair.column(index, end).name.clone())
        .collect()
}

fn condition(pair: &Pair, end: End, range: &Range) -> Result<String, RepairError> {
    let names = key_names(pair, end);
    let mut parts = Vec::new();
    if let Some(key) = &range.after {
        parts.push(keyset::behind(&names, &literals(pair, end, key)?));
    }
    if let Some(key) = &range.until {
        parts.push(keyset::up_to(&names, &literals(pair, end, key)?));
    }
    Ok(if parts.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", parts.join(" AND "))
    })
}

/// The condition that finds the row with a key.
pub(crate) fn at(pair: &Pair, end: End, key: &Key) -> Result<String, RepairError> {
    Ok(keyset::at(
        &key_names(pair, end),
        &literals(pair, end, key)?,
    ))
}

fn literals(pair: &Pair, end: End, key: &Key) -> Result<Vec<String>, RepairError> {
    let parts = pair.key.iter().zip(key);
    parts
        .map(|(&index, value)| {
            keyset::literal(value, pair.character_set(index, end)).ok_or_else(|| {
                RepairError::Refused(format!(
                    "the key of table {} holds a value that no key can have: {value:?}",
                    pair.name
                ))
            })
        })
        .collect()
}
