//! What `information_schema` says of tables: columns, keys, sizes.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use change::{BINARY_COLLATION, Column, ColumnKind, TableSchema};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as DriverError, Row};

/// A table as `information_schema` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
    /// Storage engine; empty for what has none.
    pub engine: String,
    /// How many rows the server thinks it has.
    pub rows_estimate: u64,
    /// How many bytes the server thinks a row takes.
    pub row_bytes_estimate: u64,
    /// Columns in the table's order, generated and invisible ones included.
    pub columns: Vec<ColumnInfo>,
    /// Columns that tell each row from every other, as indexes into `columns`: the primary key, or
    /// else the first unique key without a nullable or prefixed part. Empty: there is none.
    pub key: Vec<usize>,
    /// Whether `key` is the primary key.
    pub key_is_primary: bool,
}

/// A column as `information_schema` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnInfo {
    /// The column so far as its values depend on it; `Err` holds a type that links do not carry.
    pub column: Result<Column, String>,
    /// Name.
    pub name: String,
    /// Character set; empty for columns without characters.
    pub character_set: String,
    /// Type as SQL, for example `decimal(10,2) unsigned`.
    pub declared: String,
    /// Its value is computed by the server, so it cannot be written.
    pub generated: bool,
}

impl TableInfo {
    /// `database.table`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }

    /// The schema that row images of the table have, or the first column that links do not carry
    /// with its type.
    pub fn schema(&self) -> Result<TableSchema, (&str, &str)> {
        let columns = self
            .columns
            .iter()
            .map(|info| {
                info.column
                    .clone()
                    .map_err(|_| (info.name.as_str(), info.declared.as_str()))
            })
            .collect::<Result<_, _>>()?;
        Ok(TableSchema {
            database: self.database.clone(),
            table: self.table.clone(),
            columns,
            primary_key: self.key.clone(),
        })
    }
}

/// The base tables of some databases, by database and name. What is not a base table (a view, a
/// sequence, a table with versions) is left out.
pub async fn tables(conn: &mut Conn, databases: &[String]) -> Result<Vec<TableInfo>, DriverError> {
    read(conn, databases, None).await
}

/// The sequences of some databases (MariaDB), as database and name.
pub async fn sequences(
    conn: &mut Conn,
    databases: &[String],
) -> Result<Vec<(String, String)>, DriverError> {
    if databases.is_empty() {
        return Ok(Vec::new());
    }
    let rows = of_databases(conn, SEQUENCES, databases, None).await?;
    Ok(rows
        .iter()
        .map(|row| (text(row, 0), text(row, 1)))
        .collect())
}

/// The tables of some databases that keep former rows (MariaDB's `WITH SYSTEM VERSIONING`), as
/// database and name.
pub async fn versioned(
    conn: &mut Conn,
    databases: &[String],
) -> Result<Vec<(String, String)>, DriverError> {
    if databases.is_empty() {
        return Ok(Vec::new());
    }
    let rows = of_databases(conn, VERSIONED, databases, None).await?;
    Ok(rows
        .iter()
        .map(|row| (text(row, 0), text(row, 1)))
        .collect())
}

/// One base table, if it is there.
pub async fn table(
    conn: &mut Conn,
    database: &str,
    table: &str,
) -> Result<Option<TableInfo>, DriverError> {
    let found = read(conn, &[database.to_owned()], Some(table)).await?;
    Ok(found.into_iter().find(|info| info.table == table))
}

async fn read(
    conn: &mut Conn,
    databases: &[String],
    table: Option<&str>,
) -> Result<Vec<TableInfo>, DriverError> {
    if databases.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = BTreeMap::new();
    for row in of_databases(conn, TABLES, databases, table).await? {
        let (database, table) = (text(&row, 0), text(&row, 1));
        let info = TableInfo {
            database: database.clone(),
            table: table.clone(),
            engine: text(&row, 2),
            rows_estimate: number(&row, 3),
            row_bytes_estimate: number(&row, 4),
            columns: Vec::new(),
            key: Vec::new(),
            key_is_primary: false,
        };
        found.insert((database, table), info);
    }
    let collations = collations(conn).await?;
    for row in of_databases(conn, COLUMNS, databases, table).await? {
        if let Some(info) = found.get_mut(&(text(&row, 0), text(&row, 1))) {
            info.columns.push(column(&row, &collations));
        }
    }
    let mut keys: BTreeMap<(String, String), BTreeMap<String, Vec<KeyPart>>> = BTreeMap::new();
    for row in of_databases(conn, KEYS, databases, table).await? {
        let table = (text(&row, 0), text(&row, 1));
        let part = KeyPart {
            column: text(&row, 3),
            nullable: text(&row, 4) == "YES",
            prefixed: number(&row, 5) > 0,
        };
        keys.entry(table)
            .or_default()
            .entry(text(&row, 2))
            .or_default()
            .push(part);
    }
    for (table, keys) in keys {
        if let Some(info) = found.get_mut(&table) {
            choose_key(info, &keys);
        }
    }
    Ok(found.into_values().collect())
}

const TABLES: &str = "SELECT table_schema, table_name, engine, table_rows, avg_row_length \
     FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema IN ";
const SEQUENCES: &str = "SELECT table_schema, table_name FROM information_schema.tables \
     WHERE table_type = 'SEQUENCE' AND table_schema IN ";
const VERSIONED: &str = "SELECT table_schema, table_name FROM information_schema.tables \
     WHERE table_type = 'SYSTEM VERSIONED' AND table_schema IN ";
const COLUMNS: &str = "SELECT table_schema, table_name, column_name, data_type, column_type, \
     is_nullable, character_octet_length, numeric_precision, numeric_scale, datetime_precision, \
     collation_name, generation_expression, extra, character_set_name \
     FROM information_schema.columns WHERE table_schema IN ";
const KEYS: &str = "SELECT table_schema, table_name, index_name, column_name, nullable, sub_part \
     FROM information_schema.statistics WHERE non_unique = 0 AND table_schema IN ";

struct KeyPart {
    column: String,
    nullable: bool,
    prefixed: bool,
}

/// Runs a query on some databases. Names are compared as bytes: the server's own comparison may
/// not tell `Orders` from `orders`.
async fn of_databases(
    conn: &mut Conn,
    query: &str,
    databases: &[String],
    table: Option<&str>,
) -> Result<Vec<Row>, DriverError> {
    let list: Vec<String> = databases.iter().map(|name| quote(name)).collect();
    let only = table
        .map(|table| format!(" AND table_name = {}", quote(table)))
        .unwrap_or_default();
    let order = match query {
        COLUMNS => " ORDER BY table_schema, table_name, ordinal_position",
        KEYS => " ORDER BY table_schema, table_name, index_name, seq_in_index",
        _ => "",
    };
    let rows: Vec<Row> = conn
        .query(format!("{query}({}){only}{order}", list.join(", ")))
        .await?;
    Ok(rows
        .into_iter()
        .filter(|row| databases.contains(&text(row, 0)))
        .collect())
}

/// A string literal, whatever the session's `sql_mode` says of backslashes.
fn quote(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let mut hex = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    format!("CONVERT(0x{hex} USING utf8mb4)")
}

fn text(row: &Row, index: usize) -> String {
    match row.as_ref(index) {
        Some(mysql_async::Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(mysql_async::Value::Int(number)) => number.to_string(),
        Some(mysql_async::Value::UInt(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn number(row: &Row, index: usize) -> u64 {
    text(row, index).parse().unwrap_or(0)
}

/// Collation ids by name.
async fn collations(conn: &mut Conn) -> Result<BTreeMap<String, u16>, DriverError> {
    // MariaDB 10.10 and later list `uca1400` collations once for several character sets, with the
    // full names and their ids in another table.
    const MARIADB: &str = "SELECT full_collation_name, id \
         FROM information_schema.collation_character_set_applicability";
    const BOTH: &str = "SELECT collation_name, id FROM information_schema.collations";
    let full: Result<Vec<Row>, _> = conn.query(MARIADB).await;
    let rows = match full {
        Ok(rows) => rows,
        // No such column.
        Err(DriverError::Server(error)) if error.code == 1054 => conn.query(BOTH).await?,
        Err(error) => return Err(error),
    };
    Ok(rows
        .iter()
        .filter_map(|row| Some((text(row, 0), text(row, 1).parse().ok()?)))
        .collect())
}

fn choose_key(info: &mut TableInfo, keys: &BTreeMap<String, Vec<KeyPart>>) {
    let indexes = |parts: &[KeyPart]| -> Option<Vec<usize>> {
        parts
            .iter()
            .map(|part| {
                info.columns
                    .iter()
                    .position(|column| column.name == part.column)
            })
            .collect()
    };
    let primary = keys.get("PRIMARY").and_then(|parts| indexes(parts));
    let unique = keys
        .values()
        .filter(|parts| parts.iter().all(|part| !part.nullable && !part.prefixed))
        .find_map(|parts| indexes(parts));
    info.key_is_primary = primary.is_some();
    info.key = primary.or(unique).unwrap_or_default();
}

fn column(row: &Row, collations: &BTreeMap<String, u16>) -> ColumnInfo {
    let (name, declared) = (text(row, 2), text(row, 4));
    let extra = text(row, 12).to_ascii_uppercase();
    ColumnInfo {
        column: typed(row, &name, &declared, collations).ok_or_else(|| declared.clone()),
        generated: !text(row, 11).is_empty()
            || extra.contains("VIRTUAL GENERATED")
            || extra.contains("STORED GENERATED"),
        character_set: text(row, 13),
        name,
        declared,
    }
}

fn typed(
    row: &Row,
    name: &str,
    declared: &str,
    collations: &BTreeMap<String, u16>,
) -> Option<Column> {
    use ColumnKind as Kind;
    let lower = declared.to_ascii_lowercase();
    if lower.contains(" compressed") || lower.contains("/*m!100301 compressed") {
        return None;
    }
    let kind = match text(row, 3).to_ascii_lowercase().as_str() {
        "tinyint" => Kind::TinyInt,
        "smallint" => Kind::SmallInt,
        "mediumint" => Kind::MediumInt,
        "int" => Kind::Int,
        "bigint" => Kind::BigInt,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "decimal" => Kind::Decimal,
        "bit" => Kind::Bit,
        "year" => Kind::Year,
        "date" => Kind::Date,
        "time" => Kind::Time,
        "datetime" => Kind::DateTime,
        "timestamp" => Kind::Timestamp,
        "char" => Kind::Char,
        "varchar" => Kind::VarChar,
        "tinytext" | "text" | "mediumtext" | "longtext" => Kind::Text,
        "binary" => Kind::Binary,
        "varbinary" => Kind::VarBinary,
        "tinyblob" | "blob" | "mediumblob" | "longblob" => Kind::Blob,
        "enum" => Kind::Enum,
        "set" => Kind::Set,
        "json" => Kind::Json,
        "vector" => Kind::Vector,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" => Kind::Geometry,
        _ => return None,
    };
    let collation = match kind {
        Kind::Binary | Kind::VarBinary | Kind::Blob => BINARY_COLLATION,
        // MySQL gives JSON no collation here and none in the binlog.
        Kind::Json => 0,
        _ => match text(row, 10).as_str() {
            "" => 0,
            name => *collations.get(name)?,
        },
    };
    // A string type with the collation `binary` is the binary type.
    let kind = match kind {
        Kind::Char if collation == BINARY_COLLATION => Kind::Binary,
        Kind::VarChar if collation == BINARY_COLLATION => Kind::VarBinary,
        Kind::Text if collation == BINARY_COLLATION => Kind::Blob,
        kind => kind,
    };
    let number_at = |index| u32::try_from(number(row, index)).unwrap_or(u32::MAX);
    let is_string = matches!(
        kind,
        Kind::Char | Kind::VarChar | Kind::Text | Kind::Binary | Kind::VarBinary | Kind::Blob
    );
    Some(Column {
        name: name.to_owned(),
        kind,
        unsigned: lower.contains(" unsigned"),
        nullable: text(row, 5) == "YES",
        collation,
        length: match kind {
            _ if is_string => number_at(6),
            Kind::Decimal | Kind::Bit => number_at(7),
            _ => 0,
        },
        decimals: match kind {
            Kind::Decimal => u8::try_from(number(row, 8)).ok()?,
            Kind::Time | Kind::DateTime | Kind::Timestamp => u8::try_from(number(row, 9)).ok()?,
            _ => 0,
        },
        members: if matches!(kind, Kind::Enum | Kind::Set) {
            members(declared)
        } else {
            vec![]
        },
    })
}

/// The members of `enum('a','it''s')`, in utf8mb4 as `information_schema` prints them.
fn members(declared: &str) -> Vec<Bytes> {
    let mut members = Vec::new();
    let mut current: Option<String> = None;
    let mut characters = declared.chars().peekable();
    while let Some(character) = characters.next() {
        match (&mut current, character) {
            (None, '\'') => current = Some(String::new()),
            (Some(member), '\'') if characters.peek() == Some(&'\'') => {
                characters.next();
                member.push('\'');
            }
            (Some(member), '\'') => {
                members.push(Bytes::from(std::mem::take(member)));
                current = None;
            }
            (Some(member), other) => member.push(other),
            (None, _) => {}
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_as_the_server_prints_them() {
        let read = |declared: &str| -> Vec<String> {
            members(declared)
                .iter()
                .map(|m| String::from_utf8_lossy(m).into_owned())
                .collect()
        };
        assert_eq!(read("enum('a','it''s','x,y')"), ["a", "it's", "x,y"]);
        assert_eq!(read("set('','日本')"), ["", "日本"]);
    }
}
