//! Whether the values of a column are the same at both ends exactly if they are equal in the
//! canonical codec, the target's read as the source's column is. Pure.

use change::{Column, ColumnKind};

use super::table::{TargetColumn, describe};
use super::unfit::Unfit;
use crate::sql::charset;

/// Why the values of a column cannot be compared, if they cannot. The target's column is one that
/// the source's values fit into.
pub(super) fn incomparable(table: &str, source: &Column, target: &TargetColumn) -> Option<Unfit> {
    if is_comparable(source, target) {
        return None;
    }
    let with_set = |text: String, set: &str| {
        if set.is_empty() {
            text
        } else {
            format!("{text} ({set})")
        }
    };
    Some(Unfit::Incomparable {
        table: table.to_owned(),
        column: target.name.clone(),
        data_type: with_set(target.column_type.clone(), &target.character_set),
        kind: with_set(
            describe(source),
            if is_text(source.kind) {
                charset::of_collation(source.collation).unwrap_or_default()
            } else {
                ""
            },
        ),
    })
}

fn is_text(kind: ColumnKind) -> bool {
    matches!(
        kind,
        ColumnKind::Char | ColumnKind::VarChar | ColumnKind::Text
    )
}

fn is_comparable(source: &Column, target: &TargetColumn) -> bool {
    use ColumnKind as K;
    match source.kind {
        K::TinyInt | K::SmallInt | K::MediumInt | K::Int | K::BigInt => {
            source.unsigned == target.column_type.to_ascii_lowercase().contains("unsigned")
        }
        K::Float => target.data_type == "float",
        K::Decimal => scale(&target.column_type) == Some(source.decimals),
        // CHAR drops the spaces at the end that VARCHAR keeps, and JSON prints a text anew.
        K::Char => target.data_type != "json" && has_same_bytes(source, target),
        K::VarChar | K::Text => {
            !matches!(target.data_type.as_str(), "json" | "char") && has_same_bytes(source, target)
        }
        // BINARY fills up what VARBINARY leaves as it is.
        K::VarBinary | K::Blob => target.data_type != "binary",
        K::Json => target.data_type == "json",
        K::Double
        | K::Bit
        | K::Year
        | K::Date
        | K::Time
        | K::DateTime
        | K::Timestamp
        | K::Binary
        | K::Enum
        | K::Set
        | K::Geometry
        | K::Vector => true,
    }
}

/// Whether every text has the same bytes in both character sets.
fn has_same_bytes(source: &Column, target: &TargetColumn) -> bool {
    charset::of_collation(source.collation)
        .is_some_and(|set| charset::introducer(set) == bytes_of(&target.character_set))
}

/// The target's own names, in which `utf8` is an old one of utf8mb3.
fn bytes_of(set: &str) -> &str {
    match set {
        "utf8" | "utf8mb3" => "utf8mb4",
        "ucs2" => "utf16",
        other => other,
    }
}

/// The digits after the point of `decimal(10,2)`.
fn scale(column_type: &str) -> Option<u8> {
    let (_, rest) = column_type.split_once(',')?;
    rest.split_once(')')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::table::tests::{source, target};

    fn compares(
        kind: ColumnKind,
        data_type: &str,
        change: impl Fn(&mut Column, &mut TargetColumn),
    ) -> bool {
        let mut from = source(&[("c", kind)]).columns.remove(0);
        let mut to = target(&[("c", data_type)]).columns.remove(0);
        change(&mut from, &mut to);
        incomparable("shop.t", &from, &to).is_none()
    }

    #[test]
    fn only_what_is_stored_alike_is_compared() {
        use ColumnKind as K;
        let as_is = |_: &mut Column, _: &mut TargetColumn| {};
        assert!(compares(K::Int, "bigint", as_is));
        assert!(!compares(K::Int, "bigint", |from, _| from.unsigned = true));
        assert!(compares(K::Int, "int unsigned", |from, _| from.unsigned = true));
        assert!(compares(K::Float, "float", as_is));
        assert!(!compares(K::Float, "double", as_is));
        assert!(!compares(K::VarChar, "char", as_is));
        assert!(!compares(K::Text, "json", as_is));
        assert!(!compares(K::Json, "longtext", as_is));
        assert!(!compares(K::VarBinary, "binary", as_is));
        let scale = |has: &'static str| {
            move |from: &mut Column, to: &mut TargetColumn| {
                from.decimals = 2;
                has.clone_into(&mut to.column_type);
            }
        };
        assert!(compares(K::Decimal, "decimal", scale("decimal(12,2)")));
        assert!(!compares(K::Decimal, "decimal", scale("decimal(12,4)")));
    }

    #[test]
    fn texts_are_compared_where_their_bytes_are_the_same() {
        let set = |name: &'static str| {
            move |_: &mut Column, to: &mut TargetColumn| name.clone_into(&mut to.character_set)
        };
        assert!(compares(ColumnKind::VarChar, "varchar", set("utf8mb4")));
        assert!(compares(ColumnKind::VarChar, "varchar", set("utf8mb3")));
        assert!(!compares(ColumnKind::VarChar, "varchar", set("latin1")));
    }
}
