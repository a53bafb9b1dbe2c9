//! Which tables a link still copies, as the column `snapshot` of `multiactive.applied` tells.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The column, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Snapshot {
    tables: BTreeMap<String, BTreeMap<String, Copy>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Copy {
    done: bool,
}

/// The tables, as `database.table`, whose copy has not ended: rows of them are missing at the target.
/// Where the text says that the whole is done, its tables still count one by one.
///
/// # Errors
/// If the text is not what a writer writes.
pub fn unfinished(snapshot: &str) -> Result<Vec<String>, serde_json::Error> {
    let snapshot: Snapshot = serde_json::from_str(snapshot)?;
    let tables = snapshot.tables.iter().flat_map(|(database, tables)| {
        let open = tables.iter().filter(|(_, copy)| !copy.done);
        open.map(move |(table, _)| format!("{database}.{table}"))
    });
    Ok(tables.collect())
}

#[cfg(test)]
mod tests {
    use super::unfinished;

    #[test]
    fn a_copy_is_whole_once_each_of_its_tables_is() {
        let open = |text: &str| unfinished(text).unwrap();
        assert!(open("{}").is_empty());
        assert!(open(r#"{"done":false,"tables":{"a":{"t":{"done":true,"rows":5}}}}"#).is_empty());
        assert_eq!(
            open(r#"{"tables":{"a":{"t":{"done":true},"u":{"rows":1,"cursor":"00"}}}}"#),
            ["a.u"]
        );
        assert_eq!(
            open(r#"{"done":true,"tables":{"a":{"t":{"done":false,"anew":"Emptying"}}}}"#),
            ["a.t"]
        );
        assert!(unfinished("{").is_err());
    }
}
