//! Whether two servers hold the same, told by their own SQL: nothing of the product takes part.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use harness::database::Database;

/// A column as `information_schema` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    data_type: String,
    nullable: String,
    key: String,
    invisible: bool,
    generated: bool,
    increments: bool,
    charset: String,
}

/// The tables of some databases, `database.table`, each with its columns in order.
type Tables = BTreeMap<String, Vec<Column>>;

fn tables(side: &Database, databases: &[&str]) -> Result<Tables> {
    let list: Vec<String> = databases.iter().map(|name| format!("'{name}'")).collect();
    let rows = side.root(&format!(
        "SELECT CONCAT(HEX(c.table_schema), '.', HEX(c.table_name)), HEX(c.column_name), \
         LOWER(c.data_type), c.is_nullable, c.column_key, UPPER(c.extra), \
         COALESCE(c.character_set_name, '') FROM information_schema.columns c \
         JOIN information_schema.tables t USING (table_schema, table_name) \
         WHERE t.table_type LIKE '%BASE%' AND c.table_schema IN ({}) \
         ORDER BY 1, c.ordinal_position",
        list.join(", ")
    ))?;
    let mut tables = Tables::new();
    for row in rows {
        let [table, name, data_type, nullable, key, extra, charset] = row.as_slice() else {
            anyhow::bail!("a row of another width: {row:?}");
        };
        let table: Vec<String> = table.split('.').map(unhex).collect();
        tables.entry(table.join(".")).or_default().push(Column {
            name: unhex(name),
            data_type: data_type.clone(),
            nullable: nullable.clone(),
            key: key.clone(),
            invisible: extra.contains("INVISIBLE"),
            generated: extra.contains("VIRTUAL GENERATED") || extra.contains("STORED GENERATED"),
            increments: extra.contains("AUTO_INCREMENT"),
            charset: charset.clone(),
        });
    }
    Ok(tables)
}

fn unhex(text: &str) -> String {
    let bytes: Vec<u8> = (0..text.len() / 2)
        .filter_map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// An expression that shows a value exactly, and the same on both engines.
fn shown(column: &Column) -> String {
    let name = quoted(&column.name);
    let bytes = |text: &str| {
        format!(
            "IF(LENGTH({text}) > 200, CONCAT(LENGTH({text}), '#', SHA2({text}, 256)), HEX({text}))"
        )
    };
    match column.data_type.as_str() {
        // As a DOUBLE, whose text has all digits. MariaDB has no zero below zero.
        "float" | "double" => format!("{name} * 1e0 + 0e0"),
        "bit" => format!("{name} + 0"),
        "enum" | "set" => format!("CONCAT(CAST({name} AS UNSIGNED), '#', HEX({name}))"),
        "json" => bytes(&format!("CAST({name} AS CHAR CHARACTER SET utf8mb4)")),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "binary"
        | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => bytes(&name),
        // GEOMETRY and VECTOR are bytes as well.
        kind if kind.contains("geo")
            || kind.contains("point")
            || kind.contains("line")
            || kind.contains("poly")
            || kind == "vector" =>
        {
            bytes(&name)
        }
        _ => name,
    }
}

fn rows(side: &Database, table: &str, columns: &[Column]) -> Result<Vec<Vec<String>>> {
    let (database, name) = table.split_once('.').unwrap_or_default();
    let list: Vec<String> = columns.iter().map(shown).collect();
    let mut rows = side.root(&format!(
        "SET time_zone = '+00:00'; SELECT {} FROM {}.{}",
        list.join(", "),
        quoted(database),
        quoted(name)
    ))?;
    rows.sort();
    Ok(rows)
}

/// A text of JSON that two engines keep each in its own way: a column with JSON at one side and
/// text at the other. Its text is looked at by tests of its own.
fn keeps_otherwise(one: &Column, other: &Column) -> bool {
    (one.data_type == "json") != (other.data_type == "json") && other.data_type == "json"
}

/// Compares every table of some databases, its columns and all its values; returns how many tables
/// and rows were compared.
pub fn equal(source: &Database, target: &Database, databases: &[&str]) -> Result<(usize, usize)> {
    let (left, right) = (tables(source, databases)?, tables(target, databases)?);
    let names = |tables: &Tables| tables.keys().cloned().collect::<Vec<_>>();
    ensure!(
        names(&left) == names(&right),
        "tables: {:?}\nand {:?}",
        names(&left),
        names(&right)
    );
    let mut differences = Vec::new();
    let mut count = 0;
    for (table, columns) in &left {
        let others = &right[table];
        compare_columns(table, columns, others, &mut differences);
        if columns.len() != others.len() {
            continue;
        }
        let pairs = columns.iter().zip(others);
        let (columns, others): (Vec<Column>, Vec<Column>) = pairs
            .filter(|(one, other)| !keeps_otherwise(one, other))
            .map(|(one, other)| (one.clone(), other.clone()))
            .unzip();
        let (one, other) = (
            rows(source, table, &columns)?,
            rows(target, table, &others)?,
        );
        count += one.len();
        if one == other {
            continue;
        }
        let missing = one.iter().filter(|row| other.binary_search(row).is_err());
        let surplus = other.iter().filter(|row| one.binary_search(row).is_err());
        differences.push(format!(
            "{table}: {} and {} rows; only at the source {:?}; only at the target {:?}",
            one.len(),
            other.len(),
            missing.take(3).collect::<Vec<_>>(),
            surplus.take(3).collect::<Vec<_>>()
        ));
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok((left.len(), count))
}

fn compare_columns(table: &str, left: &[Column], right: &[Column], differences: &mut Vec<String>) {
    // What one engine calls otherwise: MariaDB's JSON is a text.
    let alike = |one: &Column, other: &Column| {
        let kinds = [one.data_type.as_str(), other.data_type.as_str()];
        let is_json = kinds.contains(&"json") && kinds.contains(&"longtext");
        let geometry = ["geomcollection", "geometrycollection"];
        let is_geometry = kinds.iter().all(|kind| geometry.contains(kind));
        Column {
            data_type: if is_json || is_geometry {
                other.data_type.clone()
            } else {
                one.data_type.clone()
            },
            charset: if is_json {
                other.charset.clone()
            } else {
                one.charset.clone()
            },
            ..one.clone()
        } == *other
    };
    if left.len() != right.len() {
        differences.push(format!("{table}: columns {left:?}\nand {right:?}"));
        return;
    }
    for (one, other) in left.iter().zip(right) {
        if !alike(one, other) {
            differences.push(format!("{table}: column {one:?}\nand {other:?}"));
        }
    }
}
