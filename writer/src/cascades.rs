//! What foreign keys do to other rows where the source's binlog does not tell (MariaDB; MySQL before
//! 9.6): the target's own keys do it, if they are the same.
//!
//! A key that the target lacks, or that does something else there, changes nothing and fails nothing:
//! rows would be there that the source has not any more. The keys of both ends are compared as a session
//! begins, after each statement that came by the link, and now and then. The source tells its keys with
//! a position behind which they are as told; once the target is there, every statement before has been
//! applied, and a difference is one of the two ends, or a statement between the two questions to the
//! source. So a second look decides. A session that follows one which ended so is stricter: it applies
//! nothing while the keys differ, wherever it is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use change::Position;
use change::sync::{self, KeysReply, KeysRequest};
use model::LinkConfig;
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
const UNANSWERED: Duration = Duration::from_secs(10);

/// What is known of the two ends' keys.
#[derive(Debug)]
pub(crate) struct Cascades<'a> {
    /// When to look next; `None`: the source's binlog tells what its keys do, or its syncer is of a
    /// release that does not tell of them.
    look_at: Option<Instant>,
    /// What the source told, to be compared once the target is there.
    told: Option<(Position, BTreeSet<ActingKey>)>,
    /// They differed at the last look.
    doubted: bool,
    /// A session ended because they differ, and they have not been the same since.
    differ: &'a mut bool,
}

impl<'a> Cascades<'a> {
    /// `differ`: a session before ended because they differ; it becomes what this one finds.
    pub(crate) fn new(differ: &'a mut bool) -> Self {
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

    /// A statement came: what was told before may be wrong now.
    pub(crate) fn statement(&mut self) {
        self.told = None;
        self.look_at = self.look_at.map(|_| Instant::now());
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
        let Some((at, source)) = &self.told else {
            return Ok(());
        };
        let is_there = position.is_some_and(|position| position.contains(at));
        if !is_there && !*self.differ {
            return Ok(());
        }
        let keys = target.acting_keys().await?.into_iter().collect();
        let found = difference(&Selection::of(config), source, &keys);
        self.told = None;
        match found {
            None => {
                (self.doubted, *self.differ) = (false, false);
                self.look_at = Some(Instant::now() + AGAIN);
                Ok(())
            }
            Some(what) if self.doubted || *self.differ => {
                *self.differ = true;
                Err(WriterError::CascadesDiffer { what })
            }
            Some(what) => {
                tracing::warn!(what, "the two ends' foreign keys are compared once more");
                self.doubted = true;
                Ok(())
            }
        }
    }

    async fn ask(&mut self, config: &LinkConfig, stream: &Stream) -> Result<(), WriterError> {
        let request = KeysRequest {
            link: config.link.to_string(),
        };
        match stream.keys(request).await {
            Ok(Some(reply)) if !reply.logged => self.told = Some(read(reply)?),
            // An earlier release does not know the question.
            Ok(_) => self.look_at = None,
            Err(error) if *self.differ => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "the source's foreign keys are asked for later");
                self.look_at = Some(Instant::now() + UNANSWERED);
            }
        }
        Ok(())
    }
}

fn read(reply: KeysReply) -> Result<(Position, BTreeSet<ActingKey>), WriterError> {
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
    Ok((at.try_into()?, reply.keys.into_iter().map(key).collect()))
}

/// In what the keys between tables of the link differ. Where a route gives a table another name, the
/// source has no such key: its syncer refuses it.
fn difference(
    selection: &Selection,
    source: &BTreeSet<ActingKey>,
    target: &BTreeSet<ActingKey>,
) -> Option<String> {
    let has = |(database, table): &(String, String)| selection.has_table(database, table);
    let carried = |key: &&ActingKey| has(&key.from) && has(&key.to);
    let only = |these: &BTreeSet<ActingKey>, those: &BTreeSet<ActingKey>| {
        let mut only = these.difference(those).filter(carried);
        only.next().map(ToString::to_string)
    };
    match (only(source, target), only(target, source)) {
        (None, None) => None,
        (Some(key), None) => Some(format!("the target lacks the source's key of {key}")),
        (None, Some(key)) => Some(format!("the source lacks the target's key of {key}")),
        (Some(one), Some(other)) => Some(format!(
            "the source has a key of {one}, and the target one of {other}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(table: &str, to: &str, on_delete: &str) -> ActingKey {
        let named = |table: &str| ("shop".to_owned(), table.to_owned());
        ActingKey {
            from: named(table),
            to: named(to),
            columns: vec![("parent".to_owned(), "id".to_owned())],
            on_delete: on_delete.to_owned(),
            on_update: "NO ACTION".to_owned(),
        }
    }

    #[test]
    fn keys_of_the_link_s_tables_must_be_the_same() {
        let tables = model::TableSelection {
            exclude: vec!["shop.private".to_owned()],
            ..model::TableSelection::default()
        };
        let selection = Selection::new(vec!["shop".to_owned()], tables);
        let of = |keys: &[ActingKey]| keys.iter().cloned().collect::<BTreeSet<_>>();
        let compare = |source: &[ActingKey], target: &[ActingKey]| {
            difference(&selection, &of(source), &of(target))
        };
        let cascade = key("child", "parent", "CASCADE");
        let set_null = key("child", "parent", "SET NULL");
        assert_eq!(
            compare(
                std::slice::from_ref(&cascade),
                std::slice::from_ref(&cascade)
            ),
            None
        );
        let lacks = compare(std::slice::from_ref(&cascade), &[]).unwrap_or_default();
        assert_eq!(
            lacks,
            "the target lacks the source's key of shop.child (parent) to shop.parent (id) ON DELETE \
             CASCADE ON UPDATE NO ACTION"
        );
        let more = compare(&[], std::slice::from_ref(&cascade)).unwrap_or_default();
        assert!(
            more.starts_with("the source lacks the target's key of shop.child"),
            "{more}"
        );
        let other = compare(&[cascade], &[set_null]).unwrap_or_default();
        assert!(
            other.contains("CASCADE") && other.contains("SET NULL"),
            "{other}"
        );
        // What is beside the link does nothing to its rows, and its rows do nothing there that a link tells.
        for outer in [
            key("private", "parent", "CASCADE"),
            key("private", "private", "CASCADE"),
        ] {
            assert_eq!(compare(&[], &[outer]), None);
        }
    }
}
