//! A chunk's digest as an SQL expression that both engines compute alike. Pure.
//!
//! A row's text is, for each column, the length of its value's text, a colon and the text; or `-`
//! for NULL. That is one text for one row only, since the lengths tell where each value ends. The
//! row's digest is the SHA-256 of it, and the chunk's is the exclusive or of its rows' digests with
//! their number: rows are told from each other by their keys, which are part of the text, so no two
//! cancel each other out.
//!
//! **What must hold is one direction only.** Chunks that differ must have different digests; for
//! that each value's text must tell it from every other value of the column. Where equal chunks
//! have different digests, say because the engines print something otherwise, their rows are
//! compared one by one, and nothing but time is lost. So a column whose text does not tell (FLOAT
//! prints six digits), or is not understood well enough (JSON, GEOMETRY, DOUBLE), keeps its table
//! from being compared by digests.
//!
//! A row whose text is longer than `max_allowed_packet` has no digest: CONCAT gives NULL then. The
//! rows with a digest are therefore counted too.

use change::{Column, ColumnKind};
use mysql::control::identifier;

use crate::pair::{End, Pair};

/// A chunk's digest at one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Rows.
    pub rows: u64,
    /// Rows that have a digest.
    pub digested: u64,
    /// The exclusive or of their digests.
    pub bits: [u64; 4],
}

impl Digest {
    /// Whether two chunks are known to be equal.
    pub(crate) fn proves_equal(&self, other: &Self) -> bool {
        self == other && self.rows == self.digested
    }
}

/// The query that gives a chunk's digest at one end, but for the condition that goes between the
/// two parts; `None` if the table is not one for digests.
pub(crate) fn query(pair: &Pair, end: End) -> Option<(String, &'static str)> {
    let parts: Option<Vec<String>> = (0..pair.columns.len())
        .map(|index| {
            let [one, other] = [End::Source, End::Target].map(|end| pair.column(index, end));
            let alike = pair.is_alike(index) && one.decimals == other.decimals;
            part(pair.column(index, end)).filter(|_| alike)
        })
        .collect();
    let words: Vec<String> = (0..4)
        .map(|word| {
            format!(
                "BIT_XOR(CAST(CONV(SUBSTR(h, {}, 16), 16, 10) AS UNSIGNED))",
                word * 16 + 1
            )
        })
        .collect();
    // The limit keeps the servers from computing each digest once for each word.
    Some((
        format!(
            "SELECT COUNT(*), COUNT(h), {} FROM (SELECT SHA2(CONCAT({}), 256) AS h FROM {}.{}",
            words.join(", "),
            parts?.join(", "),
            identifier(pair.database()),
            identifier(pair.table())
        ),
        " LIMIT 18446744073709551615) AS digests",
    ))
}

/// The text of one column's value with its length.
fn part(column: &Column) -> Option<String> {
    use ColumnKind as K;
    let name = identifier(&column.name);
    let text = match column.kind {
        K::TinyInt | K::SmallInt | K::MediumInt | K::Int | K::BigInt if !column.unsigned => {
            format!("CAST({name} AS SIGNED)")
        }
        K::TinyInt
        | K::SmallInt
        | K::MediumInt
        | K::Int
        | K::BigInt
        | K::Bit
        | K::Year
        | K::Enum
        | K::Set => format!("CAST({name} AS UNSIGNED)"),
        K::Decimal | K::Date | K::Time | K::DateTime | K::Timestamp => {
            format!("CAST({name} AS CHAR)")
        }
        K::Char | K::VarChar | K::Text | K::Binary | K::VarBinary | K::Blob => {
            format!("CAST({name} AS BINARY)")
        }
        K::Float | K::Double | K::Json | K::Geometry | K::Vector => return None,
    };
    Some(format!(
        "IF({name} IS NULL, '-', CONCAT(LENGTH({text}), ':', {text}))"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: ColumnKind) -> Column {
        Column {
            name: "a`b".into(),
            kind,
            unsigned: false,
            nullable: true,
            collation: 0,
            length: 0,
            decimals: 0,
            members: vec![],
        }
    }

    #[test]
    fn a_value_that_has_no_text_has_no_digest_either() {
        // Were the whole put into IFNULL, a text that is too long would look like NULL.
        let part = part(&column(ColumnKind::Blob)).unwrap();
        assert!(
            part.starts_with("IF(`a``b` IS NULL, '-', CONCAT("),
            "{part}"
        );
    }

    #[test]
    fn what_prints_inexactly_is_not_digested() {
        use ColumnKind as K;
        for kind in [K::Float, K::Double, K::Json, K::Geometry, K::Vector] {
            assert_eq!(part(&column(kind)), None, "{kind:?}");
        }
        for kind in [K::Int, K::Decimal, K::Text, K::Timestamp, K::Enum] {
            assert!(part(&column(kind)).is_some(), "{kind:?}");
        }
    }

    #[test]
    fn rows_without_a_digest_prove_nothing() {
        let digest = |rows, digested, bit| Digest {
            rows,
            digested,
            bits: [bit, 0, 0, 0],
        };
        assert!(digest(2, 2, 5).proves_equal(&digest(2, 2, 5)));
        assert!(!digest(2, 2, 5).proves_equal(&digest(2, 2, 6)));
        assert!(!digest(2, 2, 5).proves_equal(&digest(3, 3, 5)));
        assert!(!digest(2, 1, 5).proves_equal(&digest(2, 1, 5)));
    }
}
