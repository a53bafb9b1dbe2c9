//! Tombstones: what is remembered of a key at which a conflict was decided, in
//! `multiactive.tombstones` of the target. Pure; `docs/architecture.md` has the columns.
//!
//! **Why.** Rows are judged by their contents, and contents do not return; but "no row" does, each
//! time a row is removed. A removal of the source then finds the very row that it expects, and an
//! insert a free key, though the source made them without knowing of what was decided here: A puts
//! a row and removes it, B puts one with the same key; B's is lost at B to A's and removed with it,
//! and arrives at A, where nothing is in its way. So once a conflict was decided at a key by a
//! policy under which both ends write, a change of the source that *removes* the row there, or
//! *puts* one where there is none, is held for as long as the tombstone is kept. A change of a row
//! that is there needs no memory: its before image tells.
//!
//! The end that only removes and puts by itself sees no conflict and keeps no tombstone; the other
//! end does, and one that holds is enough for somebody to be told. The head of [`super`] says what
//! follows from that, and the tests there go through every order of events up to a length.
//!
//! **How long.** [`KEPT_HOURS`] from the decision: longer than changes can be under way that were
//! made without knowing of it. A link that was down for longer may meet them afterwards; what they
//! leave, verification finds.
//!
//! Keys are told by their canonical bytes, and a row's own key at the target is remembered beside
//! the change's, so that keys are found again that differ in bytes and are one to the server.

use std::collections::BTreeSet;

use change::{Row, RowChange};
use model::LinkKey;

use super::is_move;
use super::record::place;
use crate::checkpoint::to_hex;
use crate::sql::literal;
use crate::target::table::Mapping;

/// A tombstone holds what follows it for so long.
pub(crate) const KEPT_HOURS: u32 = 24;
/// So many are removed at a time when they are older.
const REMOVED_AT_ONCE: u32 = 500;
/// So many keys are looked for with one statement.
const PLACES_A_QUERY: usize = 500;

/// Which row of which table, as a digest.
pub(crate) type Place = [u8; 32];

/// What a tombstone says.
pub(crate) struct Tombstone<'a> {
    pub link: &'a LinkKey,
    /// Where the change was committed that met the conflict.
    pub source: &'a str,
    /// Its GTID there.
    pub gtid: &'a str,
    pub mapping: &'a Mapping,
    /// The key, as `column=value`.
    pub row: &'a str,
    /// What the conflict was, and how it ended.
    pub kind: &'a str,
    pub state: &'a str,
}

/// The keys at which a change puts or removes a row, for which a tombstone counts; none for a
/// change of a row that keeps its key.
pub(crate) fn looked_for(change: &RowChange, mapping: &Mapping) -> BTreeSet<Place> {
    match change {
        RowChange::Update { .. } if !is_move(change, mapping) => BTreeSet::new(),
        other => places(other, mapping, None),
    }
}

/// Every key of a change, and that of the row which was found.
pub(crate) fn places(
    change: &RowChange,
    mapping: &Mapping,
    found: Option<&Row>,
) -> BTreeSet<Place> {
    let (before, after) = match change {
        RowChange::Insert { after } => (None, Some(after)),
        RowChange::Delete { before } => (Some(before), None),
        RowChange::Update { before, after } => (Some(before), Some(after)),
    };
    let rows = before.into_iter().chain(after).chain(found);
    rows.map(|row| place(row, mapping)).collect()
}

impl Tombstone<'_> {
    /// The statement that writes it for each of these keys, in the place of an older one.
    pub(crate) fn replace(&self, places: &BTreeSet<Place>) -> Vec<u8> {
        let mut sql =
            b"REPLACE INTO multiactive.tombstones (place, link, source, gtid, `database`, \
                        `table`, `row`, kind, state, at) VALUES "
                .to_vec();
        for (index, place) in places.iter().enumerate() {
            let open = if index == 0 { "(X'" } else { ",(X'" };
            sql.extend_from_slice(open.as_bytes());
            sql.extend_from_slice(to_hex(place).as_bytes());
            sql.push(b'\'');
            for text in [
                &self.link.to_string(),
                self.source,
                self.gtid,
                &self.mapping.database,
                &self.mapping.table,
                self.row,
                self.kind,
                self.state,
            ] {
                sql.push(b',');
                literal::text(&mut sql, text);
            }
            sql.extend_from_slice(b",UTC_TIMESTAMP(6))");
        }
        sql
    }
}

/// Whether a link has any, so that nothing has to be looked for where it has none.
pub(crate) fn any(link: &LinkKey) -> String {
    format!(
        "SELECT EXISTS(SELECT 1 FROM multiactive.tombstones WHERE link={})",
        quoted(link)
    )
}

/// The queries that find one tombstone of a link that still holds, with what it says, for any of
/// these keys.
pub(crate) fn find(link: &LinkKey, places: &BTreeSet<Place>) -> Vec<String> {
    let places: Vec<String> = places
        .iter()
        .map(|place| format!("X'{}'", to_hex(place)))
        .collect();
    let query = |places: &[String]| {
        format!(
            "SELECT CAST(source AS CHAR), CAST(gtid AS CHAR), CAST(kind AS CHAR), \
             CAST(state AS CHAR), CAST(at AS CHAR) FROM multiactive.tombstones WHERE link={} \
             AND place IN ({}) AND at >= UTC_TIMESTAMP(6) - INTERVAL {KEPT_HOURS} HOUR LIMIT 1",
            quoted(link),
            places.join(",")
        )
    };
    places.chunks(PLACES_A_QUERY).map(query).collect()
}

/// The statement that removes some of those that hold nothing any more.
pub(crate) fn forget(link: &LinkKey) -> String {
    format!(
        "DELETE FROM multiactive.tombstones WHERE link={} \
         AND at < UTC_TIMESTAMP(6) - INTERVAL {KEPT_HOURS} HOUR ORDER BY at LIMIT {REMOVED_AT_ONCE}",
        quoted(link)
    )
}

fn quoted(link: &LinkKey) -> String {
    crate::target::lookup::quote(&link.to_string())
}

#[cfg(test)]
mod tests {
    use change::{ColumnKind, Value};

    use super::*;
    use crate::target::table::map;
    use crate::target::table::tests::{source, target};

    fn mapping() -> Mapping {
        let columns = [("id", ColumnKind::Int), ("v", ColumnKind::Int)];
        map(&source(&columns), &target(&[("id", "int"), ("v", "int")])).unwrap()
    }

    fn row(id: i64, v: i64) -> Row {
        vec![Value::Int(id), Value::Int(v)]
    }

    #[test]
    fn a_tombstone_counts_where_a_row_is_put_or_removed() {
        let mapping = mapping();
        let at = |id| place(&row(id, 0), &mapping);
        let looked = |change: &RowChange| looked_for(change, &mapping);
        let (before, after) = (row(1, 1), row(1, 2));
        let insert = RowChange::Insert {
            after: after.clone(),
        };
        let delete = RowChange::Delete {
            before: before.clone(),
        };
        let stays = RowChange::Update {
            before: before.clone(),
            after,
        };
        let moves = RowChange::Update {
            before,
            after: row(2, 2),
        };
        assert_eq!(looked(&insert), BTreeSet::from([at(1)]));
        assert_eq!(looked(&delete), BTreeSet::from([at(1)]));
        assert_eq!(looked(&stays), BTreeSet::new());
        assert_eq!(looked(&moves), BTreeSet::from([at(1), at(2)]));
        // What is at the change's key may be called otherwise by the server.
        let found = places(&insert, &mapping, Some(&row(7, 7)));
        assert_eq!(found, BTreeSet::from([at(1), at(7)]));
    }

    #[test]
    fn statements_name_link_keys_and_time() {
        let (mapping, link) = (mapping(), LinkKey::new("shop", "sh-bj").unwrap());
        let tombstone = Tombstone {
            link: &link,
            source: "sh",
            gtid: "0-1-9",
            mapping: &mapping,
            row: "id=1",
            kind: "update_differs",
            state: "SourceWon",
        };
        let places: BTreeSet<Place> = [[1; 32], [2; 32]].into();
        let sql = String::from_utf8(tombstone.replace(&places)).unwrap();
        let values = "','shop/sh-bj','sh','0-1-9','shop','orders','id=1','update_differs',\
                      'SourceWon',UTC_TIMESTAMP(6))";
        let one = |byte: &str| format!("(X'{}{values}", byte.repeat(32));
        assert!(
            sql.ends_with(&format!("VALUES {},{}", one("01"), one("02"))),
            "{sql}"
        );
        let many: BTreeSet<Place> = (0..=u8::MAX)
            .flat_map(|high| [0, 1].map(|low| [[high; 16], [low; 16]].concat().try_into().unwrap()))
            .collect();
        let queries = find(&link, &many);
        assert_eq!(queries.len(), 2);
        let keys = |sql: &String| sql.matches("X'").count();
        assert_eq!(queries.iter().map(keys).sum::<usize>(), many.len());
        assert!(find(&link, &BTreeSet::new()).is_empty());
        assert!(forget(&link).contains("INTERVAL 24 HOUR ORDER BY at LIMIT 500"));
    }
}
