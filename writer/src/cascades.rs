//! What foreign keys do to other rows where the source's binlog does not tell (MariaDB; MySQL before
//! 9.6): the target's own keys do it, if they are the same.
//!
//! A key that the target lacks, or that does something else there, changes nothing and fails nothing:
//! rows would be there that the source has not any more. The keys of both ends are compared as a session
//! begins, after each statement that came by the link, and now and then. The source tells its keys with
//! a position behind which they are as told; once the target is there, every statement before has been
//! applied, and a difference is one of the two ends, or a statement between the two questions to the
//! source. So a second look decides. A session that follows one which ended so applies nothing before
//! the keys for which that one ended are the same, wherever it is; others may come by the link.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use change::Position;
use change::sync::{self, KeysReply, KeysRequest};
use model::{LinkConfig, Routes};
use mysql::foreign_keys::ActingKey;
use mysql::select::Selection;

use crate::error::WriterError;
use crate::stream::Stream;
use crate::target::session::Target;

/// So often both ends are compared while nothing points to a change.
const AGAIN: Duration = Duration::from_secs(300);
/// So soon it is looked again while a comparison is under way.
const SOON: Duration = Duration::from_secs(1);
/// So soon a syncer is asked again that did not answer.
const UNANSWERED: Duration = Duration::from_secs(60);

/// What is known of the two ends' keys.
#[derive(Debug)]
pub(crate) struct Cascades<'a> {
    /// When to look next; `None`: the source's binlog tells what its keys do, or its syncer is of a
    /// release that does not tell of them.
    look_at: Option<Instant>,
    /// What the source told, to be compared once the target is there.
    told: Option<Told>,
    /// They differed at the last look.
    doubted: bool,
    /// For which keys a session ended, until they are the same.
    differ: &'a mut BTreeSet<ActingKey>,
}

/// What the source told.
#[derive(Debug)]
struct Told {
    /// A place behind which it is so.
    at: Position,
    keys: BTreeSet<ActingKey>,
    /// The link's tables; others at the target are the target's own.
    tables: BTreeSet<(String, String)>,
}

/// The keys that only one end has.
#[derive(Debug)]
struct Difference {
    source: BTreeSet<ActingKey>,
    target: BTreeSet<ActingKey>,
}

impl<'a> Cascades<'a> {
    /// `differ`: for which keys a session before ended; it becomes what this one finds.
    pub(crate) fn new(differ: &'a mut BTreeSet<ActingKey>) -> Self {
        Self {
            look_at: Some(Instant::now()),
            told: None,
            doubted: false,
            differ,
        }
    }

    /// When to look next, if ever.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// A statement came: what was told before may be wrong now. More of them may follow.
    pub(crate) fn statement(&mut self) {
        self.told = None;
        self.look_at = self.look_at.map(|_| Instant::now() + SOON);
    }

    /// Compares the two ends. `position`: through where the source is applied.
    ///
    /// # Errors
    /// They differ, or the target cannot be asked. A syncer that does not answer is asked again.
    pub(crate) async fn look(
        &mut self,
        config: &LinkConfig,
        stream: &Stream,
        target: &mut Target,
        position: Option<&Position>,
    ) -> Result<(), WriterError> {
        self.look_at = Some(Instant::now() + SOON);
        if self.told.is_none() {
            self.ask(config, stream).await?;
        }
        let Some(told) = &self.told else {
            return Ok(());
        };
        let is_there = position.is_some_and(|position| position.contains(&told.at));
        if !is_there && self.differ.is_empty() {
            return Ok(());
        }
        let keys = target.acting_keys(&config.databases).await?;
        let found = difference(config, told, &keys.into_iter().collect());
        let lasts = found.all().any(|key| self.differ.contains(key));
        if lasts || (is_there && self.doubted && found.all().next().is_some()) {
            *self.differ = found.all().cloned().collect();
            return Err(WriterError::CascadesDiffer {
                what: found.to_string(),
            });
        }
        self.differ.clear();
        if !is_there {
            return Ok(());
        }
        self.told = None;
        self.doubted = found.all().next().is_some();
        if self.doubted {
            tracing::warn!(%found, "the two ends' foreign keys are compared once more");
        } else {
            self.look_at = Some(Instant::now() + AGAIN);
        }
        Ok(())
    }

    async fn ask(&mut self, config: &LinkConfig, stream: &Stream) -> Result<(), WriterError> {
        let request = KeysRequest {
            link: config.link.to_string(),
        };
        match stream.keys(request).await {
            Ok(Some(reply)) if !reply.logged => self.told = Some(read(reply)?),
            // An earlier release does not know the question.
            Ok(_) => self.look_at = None,
            Err(error) if !self.differ.is_empty() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "the source's foreign keys are asked for later");
                self.look_at = Some(Instant::now() + UNANSWERED);
            }
        }
        Ok(())
    }
}

fn read(reply: KeysReply) -> Result<Told, WriterError> {
    let at = reply.at.as_ref().ok_or_else(|| WriterError::Unexpected {
        what: "foreign keys without a position".to_owned(),
        fix: "run the same release of syncer and writer".to_owned(),
    })?;
    let key = |key: sync::ActingKey| ActingKey {
        from: (key.database, key.table),
        to: (key.to_database, key.to_table),
        columns: key.columns.into_iter().zip(key.to_columns).collect(),
        on_delete: key.on_delete,
        on_update: key.on_update,
    };
    let table = |name: sync::TableName| (name.database, name.table);
    Ok(Told {
        at: at.try_into()?,
        keys: reply.keys.into_iter().map(key).collect(),
        tables: reply.tables.into_iter().map(table).collect(),
    })
}

/// In what the keys between tables of the link differ. Between tables to which a route gives another
/// name, or the name of one of these, the source has no such key: its syncer refuses it.
fn difference(config: &LinkConfig, told: &Told, target: &BTreeSet<ActingKey>) -> Difference {
    let (selection, routes) = (Selection::of(config), Routes::of(config));
    let has = |(database, table): &(String, String)| {
        selection.has_table(database, table) && routes.met_by(database, Some(table)).is_none()
    };
    let carried = |key: &&ActingKey| has(&key.from) && has(&key.to);
    let shared = |key: &&ActingKey| carried(key) && told.tables.contains(&key.from);
    Difference {
        source: told
            .keys
            .difference(target)
            .filter(carried)
            .cloned()
            .collect(),
        target: target
            .difference(&told.keys)
            .filter(shared)
            .cloned()
            .collect(),
    }
}

impl Difference {
    fn all(&self) -> impl Iterator<Item = &ActingKey> {
        self.source.iter().chain(&self.target)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.source.first(), self.target.first()) {
            (None, None) => Ok(()),
            (Some(key), None) => write!(f, "the target lacks the source's key of {key}"),
            (None, Some(key)) => write!(f, "the source lacks the target's key of {key}"),
            (Some(one), Some(other)) => {
                write!(
                    f,
                    "the source has a key of {one}, and the target one of {other}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(table: &str, to: &str, on_delete: &str) -> ActingKey {
        ActingKey {
            from: named(table),
            to: named(to),
            columns: vec![("parent".to_owned(), "id".to_owned())],
            on_delete: on_delete.to_owned(),
            on_update: "NO ACTION".to_owned(),
        }
    }

    fn named(table: &str) -> (String, String) {
        ("shop".to_owned(), table.to_owned())
    }

    fn compare(source: &[ActingKey], target: &[ActingKey]) -> String {
        let config = serde_json::json!({
            "link": "suite/keys",
            "source": {"idc": "sh", "endpoint": {"host": "sh", "port": 3306}},
            "target": {"idc": "bj", "endpoint": {"host": "bj", "port": 3306}},
            "origins": ["sh", "bj"], "databases": ["shop"],
            "tables": {"include": [], "exclude": ["shop.private"],
                       "routes": [{"from": "shop.former", "to": "shop.renamed"}]},
            "snapshot": {"mode": "Never", "chunkBytes": 65_536}, "compression": "Zstd",
            "apply": {"consistency": "Transactional", "maxRows": 1000, "lingerMillis": 5},
            "ddl": "Apply", "relay": false,
        });
        let config: LinkConfig = serde_json::from_value(config).unwrap();
        let tables = ["child", "parent", "former"].map(named);
        let told = Told {
            at: "0-1-5".parse().unwrap(),
            keys: source.iter().cloned().collect(),
            tables: tables.into(),
        };
        difference(&config, &told, &target.iter().cloned().collect()).to_string()
    }

    #[test]
    fn keys_of_the_link_s_tables_must_be_the_same() {
        let cascade = [key("child", "parent", "CASCADE")];
        let set_null = [key("child", "parent", "SET NULL")];
        assert_eq!(compare(&cascade, &cascade), "");
        assert_eq!(
            compare(&cascade, &[]),
            "the target lacks the source's key of shop.child (parent) to shop.parent (id) ON DELETE \
             CASCADE ON UPDATE NO ACTION"
        );
        let more = compare(&[], &cascade);
        assert!(
            more.starts_with("the source lacks the target's key of shop.child"),
            "{more}"
        );
        let other = compare(&cascade, &set_null);
        assert!(
            other.contains("CASCADE") && other.contains("SET NULL"),
            "{other}"
        );
    }

    /// A table that is beside the link, or that only the target has, and one that has the name of another
    /// that goes elsewhere.
    #[test]
    fn keys_of_the_target_s_own_tables_are_its_own() {
        for own in ["private", "report", "former", "renamed"] {
            assert_eq!(compare(&[], &[key(own, "parent", "CASCADE")]), "", "{own}");
        }
        assert_eq!(compare(&[], &[key("child", "former", "CASCADE")]), "");
    }
}
