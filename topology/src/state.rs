//! The state of all Units at one revision, and how a change of a key changes it.

use std::collections::BTreeMap;

use etcd_client::KeyValue;
use model::{
    ClusterId, Epoch, IdcDoc, IdcName, IdcSet, LeaseId, LinkKey, Order, RenewalRecord, Revision,
    SeenSpec, SessionRecord, SyncerAddress, UnitKey, UnitSighting, UnitState, Versioned,
};
use serde::de::DeserializeOwned;

use crate::keys::Located;
use crate::{Keys, TopologyError};

/// Everything, of the receipts only each Unit's newest, as of one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopologyState {
    /// The revision.
    pub revision: Revision,
    /// The cluster that said so, where it is known.
    pub cluster: Option<ClusterId>,
    /// The IDCs as published.
    pub idcs: BTreeMap<IdcName, Versioned<IdcDoc>>,
    /// The arbiters that have a session.
    pub sessions: BTreeMap<IdcName, Versioned<SessionRecord>>,
    /// When each session was last kept alive.
    pub renewals: BTreeMap<IdcName, Versioned<RenewalRecord>>,
    /// The Units of which etcd holds anything, also those whose document is deleted. Their
    /// `sessions`, `renewals`, `idcs` and `revision` are empty here: see [`TopologyState::unit`].
    pub(crate) units: BTreeMap<UnitKey, UnitState>,
    /// What the clusters of IDCs see and have agreed on; empty where one cluster spans all.
    pub agreement: Agreement,
}

/// Where each IDC has a Kubernetes cluster of its own: what each sees, and what is in force of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agreement {
    /// The IDCs that each cluster holds.
    pub idc_views: BTreeMap<IdcName, Versioned<IdcSet>>,
    /// The Units that any cluster holds or has deleted, as each of them says.
    pub unit_views: BTreeMap<UnitKey, BTreeMap<IdcName, Versioned<UnitSighting>>>,
    /// The IDCs in force.
    pub idcs: Option<Versioned<IdcSet>>,
    /// The specs in force.
    pub units: BTreeMap<UnitKey, Versioned<SeenSpec>>,
    /// Where syncers are reached.
    pub syncers: BTreeMap<LinkKey, Versioned<SyncerAddress>>,
}

pub(crate) fn parse<T: DeserializeOwned>(
    pair: &KeyValue,
    what: &'static str,
) -> Result<Versioned<T>, TopologyError> {
    let value = serde_json::from_slice(pair.value()).map_err(|error| TopologyError::Document {
        key: String::from_utf8_lossy(pair.key()).into_owned(),
        what,
        cause: error.to_string(),
    })?;
    let lease = (pair.lease() != 0).then_some(LeaseId(pair.lease()));
    Ok(Versioned {
        value,
        revision: Revision(pair.mod_revision()),
        lease,
    })
}

impl TopologyState {
    /// The names of all Units of which etcd holds anything.
    pub fn unit_keys(&self) -> impl Iterator<Item = &UnitKey> {
        self.units.keys()
    }

    /// One Unit, complete with sessions and revision. Empty for a Unit that etcd does not know.
    pub fn unit(&self, unit: &UnitKey) -> UnitState {
        let mut state = self.units.get(unit).cloned().unwrap_or_default();
        state.sessions.clone_from(&self.sessions);
        state.renewals.clone_from(&self.renewals);
        state.idcs.clone_from(&self.idcs);
        state.revision = self.revision;
        state.cluster = self.cluster;
        state
    }

    /// Takes in a key that was put (`pair`'s value counts) or deleted. Answers what it belongs
    /// to; `None` for a key of no interest.
    pub(crate) fn take(
        &mut self,
        keys: &Keys,
        pair: &KeyValue,
        deleted: bool,
    ) -> Result<Option<Located>, TopologyError> {
        let Some(located) = std::str::from_utf8(pair.key())
            .ok()
            .and_then(|key| keys.locate(key))
        else {
            return Ok(None);
        };
        match &located {
            Located::Idc(idc) => set(&mut self.idcs, idc, pair, deleted, "IDC document")?,
            Located::Session(idc) => set(&mut self.sessions, idc, pair, deleted, "session")?,
            Located::Renewal(idc) => set(&mut self.renewals, idc, pair, deleted, "renewal")?,
            Located::IdcsView(_)
            | Located::UnitView(..)
            | Located::AgreedIdcs
            | Located::AgreedUnit(_)
            | Located::Syncer(_) => self.agreement.take(&located, pair, deleted)?,
            Located::Unit(unit)
            | Located::Epoch(unit)
            | Located::Primary(unit)
            | Located::Vacated(unit)
            | Located::Intent(unit)
            | Located::Ack(unit)
            | Located::PauseOrder(unit)
            | Located::FenceOrder(unit, _)
            | Located::Vote(unit, _)
            | Located::Bid(unit, _)
            | Located::History(unit, _)
            | Located::Member(unit, _) => {
                let state = self.units.entry(unit.clone()).or_default();
                take_unit(state, &located, pair, deleted)?;
                if *state == UnitState::default() {
                    self.units.remove(unit);
                }
            }
        }
        Ok(Some(located))
    }
}

fn take_unit(
    state: &mut UnitState,
    located: &Located,
    pair: &KeyValue,
    deleted: bool,
) -> Result<(), TopologyError> {
    match located {
        Located::Unit(_) => state.unit = value(pair, deleted, "Unit document")?,
        Located::Epoch(_) => state.epoch = value(pair, deleted, "epoch")?,
        Located::Primary(_) => state.primary = value(pair, deleted, "primary")?,
        Located::Vacated(_) => state.vacated = value(pair, deleted, "vacated record")?,
        Located::Intent(_) => state.intent = value(pair, deleted, "intent")?,
        Located::Member(_, idc) => set(&mut state.members, idc, pair, deleted, "member record")?,
        Located::Ack(_) => state.ack = value(pair, deleted, "acknowledgement")?,
        Located::PauseOrder(_) => state.pause_order = (!deleted).then(|| order(pair)),
        Located::FenceOrder(_, idc) => {
            if deleted {
                state.fence_orders.remove(idc);
            } else {
                state.fence_orders.insert(idc.clone(), order(pair));
            }
        }
        Located::Vote(_, idc) => set(&mut state.votes, idc, pair, deleted, "vote")?,
        Located::Bid(_, idc) => set(&mut state.bids, idc, pair, deleted, "bid")?,
        Located::History(_, epoch) => take_receipt(state, *epoch, pair, deleted)?,
        // Those are of no Unit, or kept apart from its state.
        Located::Idc(_)
        | Located::Session(_)
        | Located::Renewal(_)
        | Located::IdcsView(_)
        | Located::UnitView(..)
        | Located::AgreedIdcs
        | Located::AgreedUnit(_)
        | Located::Syncer(_) => {}
    }
    Ok(())
}

/// An order. It is the presence of its key that binds, so one with a text that nobody can read stands
/// like any other, and can be seen and lifted.
fn order(pair: &KeyValue) -> Versioned<Order> {
    parse(pair, "order").unwrap_or_else(|error| Versioned {
        value: Order {
            by: "somebody".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
            reason: error.to_string(),
        },
        revision: Revision(pair.mod_revision()),
        lease: None,
    })
}

impl Agreement {
    fn take(
        &mut self,
        located: &Located,
        pair: &KeyValue,
        deleted: bool,
    ) -> Result<(), TopologyError> {
        match located {
            Located::IdcsView(idc) => {
                set(&mut self.idc_views, idc, pair, deleted, "view of IDCs")?;
            }
            Located::UnitView(unit, idc) => {
                let views = self.unit_views.entry(unit.clone()).or_default();
                let taken = set(views, idc, pair, deleted, "view of a Unit");
                if views.is_empty() {
                    self.unit_views.remove(unit);
                }
                taken?;
            }
            Located::AgreedIdcs => self.idcs = value(pair, deleted, "agreed IDCs")?,
            Located::AgreedUnit(unit) => {
                set(&mut self.units, unit, pair, deleted, "agreed Unit")?;
            }
            Located::Syncer(link) => {
                set(&mut self.syncers, link, pair, deleted, "syncer's address")?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Only the newest is kept: the others are read by whoever wants to see them.
fn take_receipt(
    state: &mut UnitState,
    epoch: Epoch,
    pair: &KeyValue,
    deleted: bool,
) -> Result<(), TopologyError> {
    let known = state.receipt.as_ref().map(|receipt| receipt.value.epoch);
    if deleted {
        state.receipt.take_if(|_| known == Some(epoch));
    } else if known.is_none_or(|known| epoch >= known) {
        state.receipt = value(pair, deleted, "receipt")?;
    }
    Ok(())
}

fn value<T: DeserializeOwned>(
    pair: &KeyValue,
    deleted: bool,
    what: &'static str,
) -> Result<Option<Versioned<T>>, TopologyError> {
    if deleted {
        Ok(None)
    } else {
        parse(pair, what).map(Some)
    }
}

fn set<K: Ord + Clone, T: DeserializeOwned>(
    map: &mut BTreeMap<K, Versioned<T>>,
    of: &K,
    pair: &KeyValue,
    deleted: bool,
    what: &'static str,
) -> Result<(), TopologyError> {
    if deleted {
        map.remove(of);
    } else {
        map.insert(of.clone(), parse(pair, what)?);
    }
    Ok(())
}
