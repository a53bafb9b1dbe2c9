//! What two images of one row mean, and what is to be done. Pure.

use std::fmt;

use change::{Row, RowChange};

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Only the target has it. First, so that what is removed frees its unique values for others.
    Extra,
    /// Both have it, with different values.
    Differing,
    /// The target lacks it.
    Missing,
}

impl Kind {
    /// As it is recorded.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Extra => "Extra",
            Self::Differing => "Differing",
            Self::Missing => "Missing",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A row as both ends have it, in canonical values of the compared columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Images {
    /// At the source; `None`: it is not there.
    pub source: Option<Row>,
    /// At the target.
    pub target: Option<Row>,
}

impl Images {
    /// How they differ; `None` if they do not.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match (&self.source, &self.target) {
            (None, Some(_)) => Some(Kind::Extra),
            (Some(_), None) => Some(Kind::Missing),
            (Some(source), Some(target)) if source != target => Some(Kind::Differing),
            _ => None,
        }
    }

    /// The columns that differ, as indexes.
    pub(crate) fn columns(&self) -> Vec<usize> {
        let (Some(source), Some(target)) = (&self.source, &self.target) else {
            return Vec::new();
        };
        (0..source.len())
            .filter(|&index| source.get(index) != target.get(index))
            .collect()
    }

    /// The change that makes the target's row what the source's is, on images that were widened by
    /// `widen` to all columns of the source's table.
    pub(crate) fn change(&self, widen: impl Fn(&Row) -> Row) -> Option<RowChange> {
        self.kind()?;
        match (
            self.target.as_ref().map(&widen),
            self.source.as_ref().map(&widen),
        ) {
            (None, Some(after)) => Some(RowChange::Insert { after }),
            (Some(before), Some(after)) => Some(RowChange::Update { before, after }),
            (Some(before), None) => Some(RowChange::Delete { before }),
            (None, None) => None,
        }
    }
}

/// Whether a row may have been seen at two different moments only: it is looked at again, rather
/// than locked, as long as it moves. What both ends showed in the round before is `before`.
pub(crate) fn is_at_rest(before: Option<&Images>, now: &Images) -> bool {
    before == Some(now)
}

#[cfg(test)]
mod tests {
    use change::Value;

    use super::*;

    #[expect(
        clippy::unnecessary_wraps,
        reason = "an image is there or not, and this one is"
    )]
    fn row(values: &[i64]) -> Option<Row> {
        Some(values.iter().map(|value| Value::Int(*value)).collect())
    }

    fn images(source: Option<Row>, target: Option<Row>) -> Images {
        Images { source, target }
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(images(None, None).kind(), None);
        assert_eq!(images(row(&[1, 2]), row(&[1, 2])).kind(), None);
        assert_eq!(images(row(&[1, 2]), None).kind(), Some(Kind::Missing));
        assert_eq!(images(None, row(&[1, 2])).kind(), Some(Kind::Extra));
        assert_eq!(
            images(row(&[1, 2]), row(&[1, 3])).kind(),
            Some(Kind::Differing)
        );
    }

    #[test]
    fn null_is_a_value_of_its_own() {
        let null = Some(vec![Value::Null]);
        let empty = Some(vec![Value::Text(bytes::Bytes::new())]);
        assert_eq!(images(null.clone(), empty).kind(), Some(Kind::Differing));
        assert_eq!(images(null.clone(), null).kind(), None);
    }

    #[test]
    fn the_columns_that_differ_are_named() {
        assert_eq!(images(row(&[1, 2, 3]), row(&[1, 9, 3])).columns(), [1]);
        assert_eq!(images(row(&[1]), None).columns(), [0_usize; 0]);
    }

    #[test]
    fn the_source_wins() {
        let change = |source, target| images(source, target).change(Clone::clone);
        assert_eq!(change(row(&[1]), row(&[1])), None);
        assert_eq!(
            change(row(&[1, 2]), None),
            Some(RowChange::Insert {
                after: row(&[1, 2]).unwrap()
            })
        );
        assert_eq!(
            change(None, row(&[1, 2])),
            Some(RowChange::Delete {
                before: row(&[1, 2]).unwrap()
            })
        );
        assert_eq!(
            change(row(&[1, 2]), row(&[1, 3])),
            Some(RowChange::Update {
                before: row(&[1, 3]).unwrap(),
                after: row(&[1, 2]).unwrap()
            })
        );
    }

    #[test]
    fn only_what_stays_as_it_was_is_at_rest() {
        let one = images(row(&[1, 2]), row(&[1, 3]));
        let other = images(row(&[1, 4]), row(&[1, 3]));
        assert!(!is_at_rest(None, &one));
        assert!(!is_at_rest(Some(&other), &one));
        assert!(is_at_rest(Some(&one), &one));
    }

    #[test]
    fn what_is_removed_comes_first() {
        let mut kinds = [Kind::Missing, Kind::Differing, Kind::Extra];
        kinds.sort();
        assert_eq!(kinds, [Kind::Extra, Kind::Differing, Kind::Missing]);
    }
}
