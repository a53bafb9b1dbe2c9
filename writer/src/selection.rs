//! Which tables a link carries, as it is kept with the checkpoint. Pure.
//!
//! A table that a link takes in after it has begun is in nobody's copy: the stream would bring its
//! changes from then on, and the rows that it holds already would be missing without a word.

use model::LinkConfig;
use serde::{Deserialize, Serialize};

/// The settings that decide which tables a link carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Selection {
    databases: Vec<String>,
    include: Vec<String>,
    exclude: Vec<String>,
    /// From and to; absent where an earlier release wrote it, which carried none out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<(String, String)>,
}

impl Selection {
    /// What the link's settings say now.
    pub(crate) fn of(config: &LinkConfig) -> Self {
        let routes = config.tables.routes.iter();
        Self {
            databases: config.databases.clone(),
            include: config.tables.include.clone(),
            exclude: config.tables.exclude.clone(),
            routes: routes
                .map(|route| (route.from.clone(), route.to.clone()))
                .collect(),
        }
    }

    /// Whether every table of this selection is in `other` too, and goes to the same table, so far as
    /// the patterns alone tell.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let all_in =
            |these: &[String], those: &[String]| these.iter().all(|one| those.contains(one));
        self.routes == other.routes
            && all_in(&self.databases, &other.databases)
            && all_in(&other.exclude, &self.exclude)
            && (other.include.is_empty()
                || !self.include.is_empty() && all_in(&self.include, &other.include))
    }
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "databases {:?}, include {:?}, exclude {:?}",
            self.databases, self.include, self.exclude
        )?;
        for (from, to) in &self.routes {
            write!(f, ", from {from} to {to}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(databases: &[&str], include: &[&str], exclude: &[&str]) -> Selection {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Selection {
            databases: owned(databases),
            include: owned(include),
            exclude: owned(exclude),
            routes: Vec::new(),
        }
    }

    #[test]
    fn only_what_takes_in_nothing_new_is_within() {
        let old = selection(&["a", "b"], &[], &["a.x"]);
        for within in [
            selection(&["a", "b"], &[], &["a.x"]),
            selection(&["a"], &[], &["a.x", "a.y"]),
            selection(&["b", "a"], &["a.t"], &["a.x"]),
        ] {
            assert!(within.is_within(&old), "{within}");
        }
        for wider in [
            selection(&["a", "b", "c"], &[], &["a.x"]),
            selection(&["a", "b"], &[], &[]),
            selection(&["a", "b"], &[], &["a.y"]),
        ] {
            assert!(!wider.is_within(&old), "{wider}");
        }
        let old = selection(&["a"], &["a.t"], &[]);
        assert!(!selection(&["a"], &[], &[]).is_within(&old));
        assert!(!selection(&["a"], &["a.u"], &[]).is_within(&old));
        assert!(selection(&["a"], &["a.t"], &["a.u"]).is_within(&old));
        let mut routed = old.clone();
        routed.routes.push(("a.t".to_owned(), "b.t".to_owned()));
        assert!(
            !routed.is_within(&old) && !old.is_within(&routed),
            "{routed}"
        );
    }
}
