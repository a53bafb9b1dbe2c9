//! Reading, writing and removing tombstones ([`crate::conflict::tombstone`]) at the target. A link
//! whose policy keeps none asks the target nothing, and one that has none asks once.

use std::collections::BTreeSet;

use super::Applier;
use crate::conflict::Policy;
use crate::conflict::tombstone::{self, Place, Tombstone};
use crate::error::WriterError;

const READING: &str = "reading multiactive.tombstones";

impl Applier {
    /// Whether the link may have tombstones. Nobody but its writer makes any, so this is read once
    /// a session, and again after some were removed.
    pub(super) async fn has_tombstones(&mut self) -> Result<bool, WriterError> {
        if !self.policy.as_ref().is_some_and(Policy::remembers) {
            return Ok(false);
        }
        if let Some(known) = self.tombstones {
            return Ok(known);
        }
        let sql = tombstone::any(&self.config.link);
        let any: Option<u8> = self.target.first(READING, &sql).await?;
        let any = any == Some(1);
        self.tombstones = Some(any);
        Ok(any)
    }

    /// What a tombstone for one of these keys says; `None` where there is none.
    pub(super) async fn tombstone(
        &mut self,
        places: &BTreeSet<Place>,
    ) -> Result<Option<String>, WriterError> {
        if places.is_empty() || !self.has_tombstones().await? {
            return Ok(None);
        }
        for sql in tombstone::find(&self.config.link, places) {
            let found: Option<(String, String, String, String, String)> =
                self.target.first(READING, &sql).await?;
            if let Some((source, gtid, kind, state, at)) = found {
                return Ok(Some(format!(
                    "a conflict was decided here at {at} UTC ({kind} of {gtid} from {source}, \
                     {state}), and whoever removed or put this row may not have known of it"
                )));
            }
        }
        Ok(None)
    }

    /// Writes a tombstone in the open transaction.
    pub(super) async fn remember(
        &mut self,
        said: &Tombstone<'_>,
        places: &BTreeSet<Place>,
    ) -> Result<(), WriterError> {
        let doing = "writing to multiactive.tombstones";
        self.target.execute(doing, &said.replace(places)).await?;
        // Also where it is rolled back with its transaction: then the next look finds none.
        self.tombstones = Some(true);
        Ok(())
    }

    /// Removes some tombstones that hold nothing any more. Not while a transaction is open.
    pub(crate) async fn forget_tombstones(&mut self) -> Result<(), WriterError> {
        if !self.has_tombstones().await? {
            return Ok(());
        }
        let sql = tombstone::forget(&self.config.link);
        let doing = "removing from multiactive.tombstones";
        self.target.execute(doing, sql.as_bytes()).await?;
        self.tombstones = None;
        Ok(())
    }
}
