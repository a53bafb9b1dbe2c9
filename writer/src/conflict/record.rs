//! The row that each conflict leaves in `multiactive.conflicts` of the target, written in the
//! transaction that settles it. `docs/architecture.md` has the columns.

use std::sync::Arc;

use change::{Body, Row, RowChange, TableChange, TableSchema, Transaction, encode_stored};
use model::LinkKey;
use sha2::{Digest as _, Sha256};

use super::Outcome;
use super::expected::key;
use crate::error::{ConflictKind, WriterError};
use crate::sql::literal;
use crate::sql::plan::describe_row;
use crate::target::table::Mapping;

/// A conflict that was settled or held.
pub(crate) struct Record<'a> {
    pub link: &'a LinkKey,
    /// The source's transaction.
    pub transaction: &'a Transaction,
    /// The change's table and flags; its other rows do not count.
    pub change: &'a TableChange,
    /// The change.
    pub row: &'a RowChange,
    pub mapping: &'a Mapping,
    pub kind: ConflictKind,
    pub policy: &'a str,
    pub outcome: &'a Outcome,
    /// What is at the change's key at the target.
    pub found: Option<&'a Row>,
    /// How it differs, for people.
    pub detail: &'a str,
}

impl Record<'_> {
    /// The row that the change is about: as it was before, where it was.
    fn at(&self) -> &Row {
        let (RowChange::Insert { after: at }
        | RowChange::Update { before: at, .. }
        | RowChange::Delete { before: at }) = self.row;
        at
    }

    /// The key of that row, for people.
    pub(crate) fn describe(&self) -> String {
        describe_row(self.at(), self.mapping, true)
    }

    /// The statement that writes it.
    pub(crate) fn insert(&self) -> Result<Vec<u8>, WriterError> {
        let at = self.at();
        let change = TableChange {
            table: Arc::clone(&self.change.table),
            rows: vec![self.row.clone()],
            ..*self.change
        };
        let body = encode_stored(&stored(self.transaction, change))?;
        let found = self
            .found
            .map(|row| encode_stored(&stored(self.transaction, row_of(&self.change.table, row))))
            .transpose()?;
        let mut sql =
            b"INSERT INTO multiactive.conflicts (link, source, gtid, `database`, `table`, \
                        kind, policy, state, `row`, place, body, found, detail, at) VALUES ("
                .to_vec();
        for text in [
            &self.link.to_string(),
            &self.transaction.origin,
            &self.transaction.gtid,
            &self.mapping.database,
            &self.mapping.table,
            self.kind.name(),
            self.policy,
            self.outcome.state(),
            &self.describe(),
        ] {
            literal::text(&mut sql, text);
            sql.push(b',');
        }
        sql.extend_from_slice(b"_binary");
        literal::quoted(&mut sql, &place(at, self.mapping));
        sql.extend_from_slice(b",_binary");
        literal::quoted(&mut sql, &body);
        match found {
            Some(found) => {
                sql.extend_from_slice(b",_binary");
                literal::quoted(&mut sql, &found);
            }
            None => sql.extend_from_slice(b",NULL"),
        }
        sql.push(b',');
        literal::text(&mut sql, self.detail);
        sql.extend_from_slice(b",UTC_TIMESTAMP(6))");
        Ok(sql)
    }
}

/// Which row of which table it is, in 32 bytes.
pub(super) fn place(row: &Row, mapping: &Mapping) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [
        mapping.database.as_bytes(),
        mapping.table.as_bytes(),
        &key(row, mapping),
    ] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// A row that is there, as the change that would make it.
fn row_of(table: &Arc<TableSchema>, row: &Row) -> TableChange {
    TableChange {
        table: Arc::clone(table),
        lenient: false,
        flags: change::RowFlags::default(),
        rows: vec![RowChange::Insert { after: row.clone() }],
    }
}

fn stored(of: &Transaction, change: TableChange) -> Transaction {
    Transaction {
        gtid: of.gtid.clone(),
        origin: of.origin.clone(),
        epoch: of.epoch,
        committed_micros: of.committed_micros,
        part: 0,
        position: None,
        filtered: 0,
        body: Body::Rows(vec![change]),
    }
}

#[cfg(test)]
mod tests {
    use change::{ColumnKind, RowFlags, Value};

    use super::*;
    use crate::target::table::map;
    use crate::target::table::tests::{source, target};

    #[test]
    fn a_record_names_the_row_and_keeps_both_images() {
        let columns = [("id", ColumnKind::Int), ("v", ColumnKind::Int)];
        let table = Arc::new(source(&columns));
        let mapping = map(&table, &target(&[("id", "int"), ("v", "int")])).unwrap();
        let row = |v: i64| vec![Value::Int(7), Value::Int(v)];
        let update = RowChange::Update {
            before: row(1),
            after: row(2),
        };
        let change = TableChange {
            table,
            lenient: false,
            flags: RowFlags::default(),
            rows: Vec::new(),
        };
        let of = Transaction {
            gtid: "0-1-9".into(),
            origin: "sh".into(),
            epoch: 3,
            committed_micros: 5,
            part: 2,
            position: None,
            filtered: 0,
            body: Body::Rows(Vec::new()),
        };
        let (link, found) = (LinkKey::new("shop", "sh-bj").unwrap(), row(3));
        let record = |found| Record {
            link: &link,
            transaction: &of,
            change: &change,
            row: &update,
            mapping: &mapping,
            kind: ConflictKind::UpdateDiffers,
            policy: "Hold",
            outcome: &Outcome::Held,
            found,
            detail: "v: was 1, became 2, is 3",
        };
        let text =
            |record: Record<'_>| String::from_utf8_lossy(&record.insert().unwrap()).into_owned();
        let sql = text(record(Some(&found)));
        let named = "VALUES ('shop/sh-bj','sh','0-1-9','shop','orders','update_differs','Hold',\
                     'Held','id=7',_binary";
        assert!(sql.contains(named), "{sql}");
        assert!(
            sql.ends_with(",'v: was 1, became 2, is 3',UTC_TIMESTAMP(6))"),
            "{sql}"
        );
        assert!(text(record(None)).contains(",NULL,'v: was"));
        assert_eq!(place(&row(1), &mapping), place(&row(2), &mapping));
        assert_ne!(
            place(&row(1), &mapping),
            place(&vec![Value::Int(8), Value::Int(1)], &mapping)
        );
    }
}
