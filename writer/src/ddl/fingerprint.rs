//! A hash of everything that DDL can change in some databases.

use sha2::{Digest as _, Sha256};

use crate::checkpoint::to_hex;
use crate::error::WriterError;
use crate::target::lookup::quote;
use crate::target::session::Target;

/// What is looked at; `{}` is the list of databases. Figures that rows change (auto-increment
/// values, estimates) are left out.
const PARTS: [&str; 8] = [
    "SELECT CONCAT_WS('|', schema_name, default_character_set_name, default_collation_name) \
     FROM information_schema.schemata WHERE schema_name IN ({})",
    "SELECT CONCAT_WS('|', table_schema, table_name, table_type, engine, row_format, \
     table_collation, create_options, table_comment) \
     FROM information_schema.tables WHERE table_schema IN ({})",
    "SELECT CONCAT_WS('|', table_schema, table_name, column_name, ordinal_position, \
     COALESCE(column_default, 'NULL'), is_nullable, column_type, COALESCE(collation_name, ''), \
     extra, column_comment, COALESCE(generation_expression, '')) \
     FROM information_schema.columns WHERE table_schema IN ({})",
    "SELECT CONCAT_WS('|', table_schema, table_name, index_name, seq_in_index, \
     COALESCE(column_name, ''), non_unique, COALESCE(sub_part, ''), COALESCE(collation, ''), \
     index_type, index_comment) \
     FROM information_schema.statistics WHERE table_schema IN ({})",
    "SELECT CONCAT_WS('|', constraint_schema, table_name, constraint_name, constraint_type) \
     FROM information_schema.table_constraints WHERE constraint_schema IN ({})",
    "SELECT CONCAT_WS('|', table_schema, table_name, partition_name, partition_ordinal_position, \
     COALESCE(partition_method, ''), COALESCE(partition_expression, ''), \
     COALESCE(partition_description, '')) \
     FROM information_schema.partitions WHERE table_schema IN ({})",
    "SELECT CONCAT_WS('|', routine_schema, routine_name, routine_type, SHA2(routine_definition, 256), \
     last_altered) FROM information_schema.routines WHERE routine_schema IN ({})",
    "SELECT CONCAT_WS('|', table_schema, table_name, SHA2(view_definition, 256)) \
     FROM information_schema.views WHERE table_schema IN ({})",
];

/// The storage engine's own numbers of tables, by name. A table keeps its number when it is renamed and gets a
/// new one when it is truncated, so that the swap of two tables with equal definitions is seen.
/// MariaDB's name for it; on MySQL the statement's GTID tells all and this is not needed.
const TABLE_NUMBERS: &str = "SELECT CONCAT_WS('|', name, table_id) \
     FROM information_schema.innodb_sys_tables WHERE SUBSTRING_INDEX(name, '/', 1) IN ({})";

/// Hashes the definitions in these databases, in hexadecimal.
pub(crate) async fn of(target: &mut Target, databases: &[String]) -> Result<String, WriterError> {
    use mysql::session::Engine;
    if target.engine() == Engine::MySql {
        return Ok("gtid".to_owned());
    }
    let list: Vec<String> = databases.iter().map(|name| quote(name)).collect();
    let list = if list.is_empty() {
        "''".to_owned()
    } else {
        list.join(",")
    };
    let mut hash = Sha256::new();
    for (number, part) in PARTS.iter().chain([&TABLE_NUMBERS]).enumerate() {
        let mut rows: Vec<Option<String>> = target
            .all("reading definitions", &part.replace("{}", &list))
            .await?;
        rows.sort();
        hash.update(format!("part {number}, {} rows\n", rows.len()));
        for row in rows {
            hash.update(row.unwrap_or_default());
            hash.update(b"\n");
        }
    }
    Ok(to_hex(&hash.finalize()))
}
