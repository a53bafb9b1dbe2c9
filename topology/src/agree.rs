//! What the operators of several clusters write: what each sees, and what takes effect of it.
//!
//! What an IDC's cluster sees is written by its own operator alone. What takes effect is written by
//! whoever finds that it does, in a transaction that compares everything the decision was made
//! from: two operators that decide at the same time cannot both succeed, and one that decided from
//! what has changed since does nothing.

use model::{IdcName, IdcSet, LinkKey, Revision, SeenSpec, SyncerAddress, UnitDoc, UnitKey};
use model::{UnitSighting, Versioned};

use crate::{CommitError, Topology, TopologyState, Transaction};

/// What a decision was made from, by revisions. All of it must be so when the decision takes effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// The IDCs in force, whose majority counts.
    electorate: Vec<(IdcName, Revision)>,
    /// Their set as one document: an IDC that has come is noticed by this.
    agreed_idcs: Revision,
    /// The views that were counted.
    views: Vec<(IdcName, Revision)>,
}

fn revision<T>(found: Option<&Versioned<T>>) -> Revision {
    found.map_or(Revision::ABSENT, |found| found.revision)
}

impl Basis {
    fn new(state: &TopologyState, views: Vec<(IdcName, Revision)>) -> Self {
        let idcs = state.idcs.iter();
        Self {
            electorate: idcs.map(|(idc, it)| (idc.clone(), it.revision)).collect(),
            agreed_idcs: revision(state.agreement.idcs.as_ref()),
            views,
        }
    }

    /// The views of a Unit by these IDCs.
    pub fn of_unit<'a>(
        state: &TopologyState,
        unit: &UnitKey,
        counted: impl IntoIterator<Item = &'a IdcName>,
    ) -> Self {
        let views = state.agreement.unit_views.get(unit);
        let seen = |idc: &IdcName| revision(views.and_then(|views| views.get(idc)));
        let counted = counted.into_iter();
        Self::new(state, counted.map(|idc| (idc.clone(), seen(idc))).collect())
    }

    /// The views of the set of IDCs by these IDCs.
    pub fn of_idcs<'a>(
        state: &TopologyState,
        counted: impl IntoIterator<Item = &'a IdcName>,
    ) -> Self {
        let seen = |idc: &IdcName| revision(state.agreement.idc_views.get(idc));
        let counted = counted.into_iter();
        Self::new(state, counted.map(|idc| (idc.clone(), seen(idc))).collect())
    }
}

impl Topology {
    fn if_idcs(&self, mut transaction: Transaction, basis: &Basis) -> Transaction {
        let keys = self.keys();
        for (idc, revision) in &basis.electorate {
            transaction = transaction.if_revision(&keys.idc(idc), *revision);
        }
        transaction.if_revision(&keys.agreed_idcs(), basis.agreed_idcs)
    }

    fn if_unit(
        &self,
        doing: String,
        unit: &UnitKey,
        state: &TopologyState,
        basis: &Basis,
    ) -> Transaction {
        let keys = self.keys();
        let document = state.unit(unit).unit;
        let agreed = state.agreement.units.get(unit);
        let mut transaction = Transaction::new(doing)
            .if_revision(&keys.unit(unit), revision(document.as_ref()))
            .if_revision(&keys.agreed_unit(unit), revision(agreed));
        for (idc, revision) in &basis.views {
            transaction = transaction.if_revision(&keys.unit_view(idc, unit), *revision);
        }
        self.if_idcs(transaction, basis)
    }

    /// Says what an IDC's cluster sees of a Unit.
    pub async fn say_unit(
        &self,
        idc: &IdcName,
        unit: &UnitKey,
        seen: &UnitSighting,
    ) -> Result<Revision, CommitError> {
        let doing = format!("say what {idc} sees of unit {unit}");
        let key = self.keys().unit_view(idc, unit);
        self.commit(Transaction::new(doing).put(&key, seen, None))
            .await
    }

    /// Says no more of a Unit.
    pub async fn unsay_unit(&self, idc: &IdcName, unit: &UnitKey) -> Result<Revision, CommitError> {
        let doing = format!("take back what {idc} says of unit {unit}");
        let key = self.keys().unit_view(idc, unit);
        self.commit(Transaction::new(doing).delete(&key)).await
    }

    /// Says which IDCs an IDC's cluster holds; none at all: says no more.
    pub async fn say_idcs(
        &self,
        idc: &IdcName,
        seen: Option<&IdcSet>,
    ) -> Result<Revision, CommitError> {
        let transaction = Transaction::new(format!("say which IDCs the cluster of {idc} holds"));
        let key = self.keys().idcs_view(idc);
        self.commit(transaction.set(&key, seen)).await
    }

    /// Puts a Unit's spec in force.
    ///
    /// # Errors
    /// [`CommitError::Lost`] if anything of the basis has changed since.
    pub async fn agree_unit(
        &self,
        unit: &UnitKey,
        state: &TopologyState,
        basis: &Basis,
        spec: &SeenSpec,
        document: &UnitDoc,
    ) -> Result<Revision, CommitError> {
        let doing = format!("put spec {} of unit {unit} in force", spec.hash);
        let keys = self.keys();
        let transaction = self
            .if_unit(doing, unit, state, basis)
            .put(&keys.unit(unit), document, None)
            .put(&keys.agreed_unit(unit), spec, None);
        self.commit(transaction).await
    }

    /// Forgets a Unit, as [`Topology::forget_unit`] does, and the spec that was agreed on.
    ///
    /// # Errors
    /// [`CommitError::Lost`] if anything of the basis has changed since.
    pub async fn agree_to_forget(
        &self,
        unit: &UnitKey,
        state: &TopologyState,
        basis: &Basis,
    ) -> Result<Revision, CommitError> {
        let keys = self.keys();
        let transaction = self
            .if_unit(format!("forget unit {unit}"), unit, state, basis)
            .delete(&keys.unit(unit))
            .delete(&keys.agreed_unit(unit))
            .delete_prefix(&keys.coordination(unit));
        self.commit(transaction).await
    }

    /// Puts a set of IDCs in force: those that are in it and changed are written, those that are not
    /// are deleted.
    ///
    /// # Errors
    /// [`CommitError::Lost`] if anything of the basis has changed since.
    pub async fn agree_idcs(
        &self,
        state: &TopologyState,
        basis: &Basis,
        set: &IdcSet,
    ) -> Result<Revision, CommitError> {
        let keys = self.keys();
        let names: Vec<&str> = set.idcs.keys().map(IdcName::as_str).collect();
        let doing = format!("put the IDCs {} in force", names.join(", "));
        let mut transaction = self.if_idcs(Transaction::new(doing), basis);
        for (idc, revision) in &basis.views {
            transaction = transaction.if_revision(&keys.idcs_view(idc), *revision);
        }
        for (idc, document) in &set.idcs {
            if state.idcs.get(idc).map(|known| &known.value) != Some(document) {
                transaction = transaction.put(&keys.idc(idc), document, None);
            }
        }
        for idc in state.idcs.keys().filter(|idc| !set.idcs.contains_key(idc)) {
            transaction = transaction.delete(&keys.idc(idc));
        }
        let in_force = Some(set).filter(|set| !set.idcs.is_empty());
        self.commit(transaction.set(&keys.agreed_idcs(), in_force))
            .await
    }

    /// Says where a link's syncer is reached; `None`: nowhere any more.
    pub async fn say_syncer(
        &self,
        link: &LinkKey,
        address: Option<&SyncerAddress>,
    ) -> Result<Revision, CommitError> {
        let transaction = Transaction::new(format!("say where the syncer of {link} is reached"));
        let key = self.keys().syncer(link);
        self.commit(transaction.set(&key, address)).await
    }
}
