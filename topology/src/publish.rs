//! What people and the operator write: IDCs, Units, intents.

use model::{
    AckRecord, Epoch, IdcDoc, IdcName, Intent, IntentKind, IntentPhase, Revision, UnitDoc, UnitKey,
    UnitState,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{CommitError, Key, Topology, TopologyError, Transaction};

/// What publishing a document did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It was written, at this revision.
    Written(Revision),
    /// It was there already, written at this revision.
    Unchanged(Revision),
}

/// Why an intent was not created. Nothing was changed, except perhaps with
/// [`IntentRefused::Etcd`].
#[derive(Debug, thiserror::Error)]
pub enum IntentRefused {
    /// etcd knows no such Unit.
    #[error(
        "unit {unit} is not published in etcd: apply it, or check the name and the etcd prefix"
    )]
    NoUnit {
        /// The Unit.
        unit: UnitKey,
    },
    /// The primary or the epoch is not what whoever asked had seen.
    #[error(
        "unit {unit}: expected {expected}, but it is {found}. Look at `mactl status`, and ask again if you still want it"
    )]
    Changed {
        /// The Unit.
        unit: UnitKey,
        /// What was expected, as words.
        expected: String,
        /// What is, as words.
        found: String,
    },
    /// Another request is under way.
    #[error(
        "unit {unit}: request {id} ({kind:?}, phase {phase}) is still under way. Wait for it; a forced failover may take its place"
    )]
    UnderWay {
        /// The Unit.
        unit: UnitKey,
        /// The other request.
        id: String,
        /// Its kind.
        kind: IntentKind,
        /// Its phase.
        phase: &'static str,
    },
    /// Somebody else changed something at the same instant.
    #[error(
        "unit {unit}: somebody else changed it at the same time. Look at `mactl status`, and ask again if you still want it"
    )]
    Lost {
        /// The Unit.
        unit: UnitKey,
    },
    /// etcd did not answer: the intent may or may not exist.
    #[error(transparent)]
    Etcd(#[from] TopologyError),
}

impl Topology {
    /// Publishes an IDC, if it is not so published already.
    pub async fn publish_idc(&self, idc: &IdcName, doc: &IdcDoc) -> Result<Published, CommitError> {
        self.publish(&self.keys().idc(idc), doc, "IDC document")
            .await
    }

    /// Publishes a Unit, if it is not so published already.
    pub async fn publish_unit(
        &self,
        unit: &UnitKey,
        doc: &UnitDoc,
    ) -> Result<Published, CommitError> {
        self.publish(&self.keys().unit(unit), doc, "Unit document")
            .await
    }

    /// Deletes an IDC's document. Deleting what is not there is no error.
    pub async fn delete_idc(&self, idc: &IdcName) -> Result<(), CommitError> {
        let delete = Transaction::new(format!("delete IDC {idc}")).delete(&self.keys().idc(idc));
        self.commit(delete).await.map(|_| ())
    }

    /// Forgets a Unit whose custom resource was deleted: its document and everything that was
    /// coordinated about it go in one transaction, so that no election can happen in between (each
    /// compares the document's revision). Its arbiters then let their members be: guards end, and
    /// the servers stay as they are, the primary open for writing. Nothing in a database is
    /// touched.
    ///
    /// # Errors
    /// [`CommitError::Lost`] if the document is by now that of another custom resource of the
    /// same name (another `uid`): that one is left alone.
    pub async fn forget_unit(&self, unit: &UnitKey, uid: &str) -> Result<(), CommitError> {
        let doing = format!("forget unit {unit}");
        let key = self.keys().unit(unit);
        let found = self.get(&key, "Unit document").await?;
        if found.as_ref().is_some_and(|found| found.value.uid != uid) {
            return Err(CommitError::Lost { doing });
        }
        let revision = found.map_or(Revision::ABSENT, |found| found.revision);
        let transaction = Transaction::new(doing)
            .if_revision(&key, revision)
            .delete(&key)
            .delete_prefix(&self.keys().coordination(unit));
        self.commit(transaction).await.map(|_| ())
    }

    /// Asks for a switchover or failover: creates the Unit's intent, in a transaction that
    /// compares `primary`, `epoch` and the intent it replaces. Creating the same intent (by `id`)
    /// again is no error, so a caller that got no answer may repeat itself.
    ///
    /// An intent that is still under way is replaced only by a forced one: a failover is the way
    /// out of a switchover that is stuck, and every later step of the replaced one compares the
    /// intent's revision and so comes to nothing.
    pub async fn create_intent(
        &self,
        unit: &UnitKey,
        intent: &Intent,
    ) -> Result<Revision, IntentRefused> {
        let state = self.unit_state(unit).await?;
        if let Some(existing) = &state.intent
            && existing.value.id == intent.id
        {
            return Ok(existing.revision);
        }
        check_intent(unit, &state, intent)?;
        let keys = self.keys();
        let revision_of = |revision: Option<Revision>| revision.unwrap_or(Revision::ABSENT);
        let transaction = Transaction::new(format!("create intent {} of unit {unit}", intent.id))
            .if_revision(
                &keys.unit(unit),
                revision_of(state.unit.as_ref().map(|unit| unit.revision)),
            )
            .if_revision(
                &keys.epoch(unit),
                revision_of(state.epoch.as_ref().map(|epoch| epoch.revision)),
            )
            .if_revision(
                &keys.primary(unit),
                revision_of(state.primary.as_ref().map(|primary| primary.revision)),
            )
            .if_revision(
                &keys.intent(unit),
                revision_of(state.intent.as_ref().map(|intent| intent.revision)),
            )
            .put(&keys.intent(unit), intent, None);
        match self.commit(transaction).await {
            Ok(revision) => Ok(revision),
            Err(CommitError::Lost { .. }) => Err(IntentRefused::Lost { unit: unit.clone() }),
            Err(CommitError::Unknown(error)) => Err(error.into()),
        }
    }

    /// Notes that somebody has looked at a Unit in the epoch that the record names. It is written
    /// at a revision of its own each time, which is what tells it from one that a backup of etcd
    /// brought back.
    ///
    /// Where etcd knows of no epoch, that is what was looked at, too: an etcd that was made anew
    /// beside databases that remember another one waits for it.
    ///
    /// # Errors
    /// [`CommitError::Lost`] if the Unit is in another epoch by now, or is not in force: what was
    /// looked at is past.
    pub async fn acknowledge(
        &self,
        unit: &UnitKey,
        record: &AckRecord,
    ) -> Result<Revision, CommitError> {
        let doing = format!("acknowledge epoch {} of unit {unit}", record.epoch);
        let keys = self.keys();
        let epoch = self.get(&keys.epoch(unit), "epoch").await?;
        // Before the Unit is in force nothing of it is known, and nothing could have been looked at.
        let Some(doc) = self.get(&keys.unit(unit), "unit").await? else {
            return Err(CommitError::Lost { doing });
        };
        let (known, revision) = epoch.map_or((Epoch::NONE, Revision::ABSENT), |epoch| {
            (epoch.value.epoch, epoch.revision)
        });
        if known != record.epoch {
            return Err(CommitError::Lost { doing });
        }
        let transaction = Transaction::new(doing)
            .if_revision(&keys.epoch(unit), revision)
            .if_revision(&keys.unit(unit), doc.revision)
            .put(&keys.ack(unit), record, None);
        self.commit(transaction).await
    }

    async fn publish<T: Serialize + DeserializeOwned + PartialEq>(
        &self,
        key: &Key<T>,
        doc: &T,
        what: &'static str,
    ) -> Result<Published, CommitError> {
        let found = match self.get(key, what).await {
            // A value that cannot be read is what publishing mends.
            Err(TopologyError::Document { .. }) => None,
            found => found?,
        };
        if let Some(found) = found.filter(|found| found.value == *doc) {
            return Ok(Published::Unchanged(found.revision));
        }
        let transaction = Transaction::new(format!("publish {key}")).put(key, doc, None);
        self.commit(transaction).await.map(Published::Written)
    }
}

fn check_intent(unit: &UnitKey, state: &UnitState, intent: &Intent) -> Result<(), IntentRefused> {
    if state.unit.is_none() {
        return Err(IntentRefused::NoUnit { unit: unit.clone() });
    }
    let primary = state
        .primary
        .as_ref()
        .map(|primary| primary.value.idc.clone());
    if primary != intent.expected_primary {
        let words = |idc: &Option<IdcName>| {
            idc.as_ref()
                .map_or("no primary".to_owned(), |idc| format!("primary {idc}"))
        };
        let (expected, found) = (words(&intent.expected_primary), words(&primary));
        return Err(IntentRefused::Changed {
            unit: unit.clone(),
            expected,
            found,
        });
    }
    let epoch = state
        .epoch
        .as_ref()
        .map_or(Epoch::NONE, |epoch| epoch.value.epoch);
    if epoch != intent.expected_epoch {
        let (expected, found) = (
            format!("epoch {}", intent.expected_epoch),
            format!("epoch {epoch}"),
        );
        return Err(IntentRefused::Changed {
            unit: unit.clone(),
            expected,
            found,
        });
    }
    match &state.intent {
        Some(existing)
            if !existing.value.phase.is_final() && intent.kind == IntentKind::Planned =>
        {
            Err(IntentRefused::UnderWay {
                unit: unit.clone(),
                id: existing.value.id.clone(),
                kind: existing.value.kind,
                phase: phase_name(&existing.value.phase),
            })
        }
        _ => Ok(()),
    }
}

fn phase_name(phase: &IntentPhase) -> &'static str {
    match phase {
        IntentPhase::Requested => "Requested",
        IntentPhase::TargetReady { .. } => "TargetReady",
        IntentPhase::Fenced { .. } => "Fenced",
        IntentPhase::HandedOver { .. } => "HandedOver",
        IntentPhase::Done { .. } => "Done",
        IntentPhase::Refused { .. } => "Refused",
        IntentPhase::Cancelled { .. } => "Cancelled",
    }
}
