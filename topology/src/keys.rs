//! The keys, all of them, spelled here and nowhere else. The table is in `docs/architecture.md`.

use std::fmt;
use std::marker::PhantomData;

use model::{
    AckRecord, BidRecord, Epoch, EpochRecord, Generation, IdcDoc, IdcName, IdcSet, Intent, LinkKey,
    MemberRecord, Order, PrimaryRecord, Receipt, RenewalRecord, SeenSpec, SessionRecord,
    SyncerAddress, UnitDoc, UnitKey, UnitSighting, VacatedRecord, VoteRecord,
};

/// A key together with the type of document it holds.
pub struct Key<T> {
    text: String,
    document: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    fn new(text: String) -> Self {
        Self {
            text,
            document: PhantomData,
        }
    }

    /// The key as etcd knows it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        Self::new(self.text.clone())
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<T> fmt::Display for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a key turned out to belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// `topology/idcs/<idc>`
    Idc(IdcName),
    /// `topology/units/<namespace>/<name>`
    Unit(UnitKey),
    /// `topology/views/<idc>/idcs`
    IdcsView(IdcName),
    /// `topology/views/<idc>/units/<namespace>/<name>`
    UnitView(UnitKey, IdcName),
    /// `topology/agreed/idcs`
    AgreedIdcs,
    /// `topology/agreed/units/<namespace>/<name>`
    AgreedUnit(UnitKey),
    /// `topology/syncers/<namespace>/<link>`
    Syncer(LinkKey),
    /// `sessions/<idc>`
    Session(IdcName),
    /// `renewals/<idc>`
    Renewal(IdcName),
    /// `units/<u>/epoch`
    Epoch(UnitKey),
    /// `units/<u>/primary`
    Primary(UnitKey),
    /// `units/<u>/vacated`
    Vacated(UnitKey),
    /// `units/<u>/members/<idc>`
    Member(UnitKey, IdcName),
    /// `units/<u>/votes/<idc>`
    Vote(UnitKey, IdcName),
    /// `units/<u>/bids/<idc>`
    Bid(UnitKey, IdcName),
    /// `units/<u>/ack`
    Ack(UnitKey),
    /// `units/<u>/fenced/<idc>`
    FenceOrder(UnitKey, IdcName),
    /// `units/<u>/paused`
    PauseOrder(UnitKey),
    /// `units/<u>/intent`
    Intent(UnitKey),
    /// `units/<u>/history/<epoch>`
    History(UnitKey, Epoch),
}

/// The keys of one installation: everything lies under its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys under a prefix. A `/` is put at its end if there is none, so that one installation's
    /// prefix is never the beginning of another's.
    pub fn new(prefix: &str) -> Self {
        let slash = if prefix.ends_with('/') { "" } else { "/" };
        Self {
            prefix: format!("{prefix}{slash}"),
        }
    }

    /// The prefix of everything.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn key<T>(&self, rest: impl fmt::Display) -> Key<T> {
        Key::new(format!("{}{rest}", self.prefix))
    }

    /// An IDC as the operator publishes it.
    pub fn idc(&self, idc: &IdcName) -> Key<IdcDoc> {
        self.key(format_args!("topology/idcs/{idc}"))
    }

    /// What the keys of all IDCs begin with.
    pub fn idcs(&self) -> String {
        format!("{}topology/idcs/", self.prefix)
    }

    /// A Unit as the operator publishes it.
    pub fn unit(&self, unit: &UnitKey) -> Key<UnitDoc> {
        self.key(format_args!("topology/units/{unit}"))
    }

    /// What the keys of all Units' documents begin with.
    pub fn units(&self) -> String {
        format!("{}topology/units/", self.prefix)
    }

    /// The IDCs that the cluster of one of them holds.
    pub fn idcs_view(&self, idc: &IdcName) -> Key<IdcSet> {
        self.key(format_args!("topology/views/{idc}/idcs"))
    }

    /// A Unit as the cluster of an IDC holds it.
    pub fn unit_view(&self, idc: &IdcName, unit: &UnitKey) -> Key<UnitSighting> {
        self.key(format_args!("topology/views/{idc}/units/{unit}"))
    }

    /// The IDCs in force, where clusters agree on them: changed with their documents, in one
    /// transaction.
    pub fn agreed_idcs(&self) -> Key<IdcSet> {
        self.key("topology/agreed/idcs")
    }

    /// The spec that a Unit's document was made from, where clusters agree on it.
    pub fn agreed_unit(&self, unit: &UnitKey) -> Key<SeenSpec> {
        self.key(format_args!("topology/agreed/units/{unit}"))
    }

    /// Where a link's syncer is reached from other clusters.
    pub fn syncer(&self, link: &LinkKey) -> Key<SyncerAddress> {
        self.key(format_args!("topology/syncers/{link}"))
    }

    /// The active arbiter of an IDC.
    pub fn session(&self, idc: &IdcName) -> Key<SessionRecord> {
        self.key(format_args!("sessions/{idc}"))
    }

    /// What the keys of all sessions begin with.
    pub fn sessions(&self) -> String {
        format!("{}sessions/", self.prefix)
    }

    /// That an IDC's session was kept alive. It outlives the session, so that whoever looks later
    /// sees no renewal where there was none.
    pub fn renewal(&self, idc: &IdcName) -> Key<RenewalRecord> {
        self.key(format_args!("renewals/{idc}"))
    }

    /// What the keys of all renewals begin with.
    pub fn renewals(&self) -> String {
        format!("{}renewals/", self.prefix)
    }

    /// The generation that an IDC's last session had. It outlives the session, so that the count
    /// goes on.
    pub fn generation(&self, idc: &IdcName) -> Key<Generation> {
        self.key(format_args!("generations/{idc}"))
    }

    /// The epoch of a Unit.
    pub fn epoch(&self, unit: &UnitKey) -> Key<EpochRecord> {
        self.key(format_args!("units/{unit}/epoch"))
    }

    /// The holder of a Unit.
    pub fn primary(&self, unit: &UnitKey) -> Key<PrimaryRecord> {
        self.key(format_args!("units/{unit}/primary"))
    }

    /// The proof that a Unit's last holder left.
    pub fn vacated(&self, unit: &UnitKey) -> Key<VacatedRecord> {
        self.key(format_args!("units/{unit}/vacated"))
    }

    /// What an arbiter says of its own member.
    pub fn member(&self, unit: &UnitKey, idc: &IdcName) -> Key<MemberRecord> {
        self.key(format_args!("units/{unit}/members/{idc}"))
    }

    /// What the keys of all members of a Unit begin with.
    pub fn members(&self, unit: &UnitKey) -> String {
        format!("{}units/{unit}/members/", self.prefix)
    }

    /// That an IDC votes a Unit's primary down.
    pub fn vote(&self, unit: &UnitKey, idc: &IdcName) -> Key<VoteRecord> {
        self.key(format_args!("units/{unit}/votes/{idc}"))
    }

    /// What the keys of all votes about a Unit begin with.
    pub fn votes(&self, unit: &UnitKey) -> String {
        format!("{}units/{unit}/votes/", self.prefix)
    }

    /// That a member stands for election.
    pub fn bid(&self, unit: &UnitKey, idc: &IdcName) -> Key<BidRecord> {
        self.key(format_args!("units/{unit}/bids/{idc}"))
    }

    /// What the keys of all bids for a Unit begin with.
    pub fn bids(&self, unit: &UnitKey) -> String {
        format!("{}units/{unit}/bids/", self.prefix)
    }

    /// What somebody has looked at.
    pub fn ack(&self, unit: &UnitKey) -> Key<AckRecord> {
        self.key(format_args!("units/{unit}/ack"))
    }

    /// That a person has taken a member out.
    pub fn fence_order(&self, unit: &UnitKey, idc: &IdcName) -> Key<Order> {
        self.key(format_args!("units/{unit}/fenced/{idc}"))
    }

    /// What the keys of all members that were taken out begin with.
    pub fn fence_orders(&self, unit: &UnitKey) -> String {
        format!("{}units/{unit}/fenced/", self.prefix)
    }

    /// That a person holds a Unit's automation.
    pub fn pause_order(&self, unit: &UnitKey) -> Key<Order> {
        self.key(format_args!("units/{unit}/paused"))
    }

    /// What somebody asked for.
    pub fn intent(&self, unit: &UnitKey) -> Key<Intent> {
        self.key(format_args!("units/{unit}/intent"))
    }

    /// The receipt of one transition.
    pub fn history(&self, unit: &UnitKey, epoch: Epoch) -> Key<Receipt> {
        self.key(format_args!("units/{unit}/history/{:020}", epoch.0))
    }

    /// What the keys of all receipts of a Unit begin with, oldest first.
    pub fn histories(&self, unit: &UnitKey) -> String {
        format!("{}units/{unit}/history/", self.prefix)
    }

    /// What everything arbiters hold about one Unit begins with.
    pub fn coordination(&self, unit: &UnitKey) -> String {
        format!("{}units/{unit}/", self.prefix)
    }

    /// What a key belongs to; `None` for a key that is not ours to understand.
    pub fn locate(&self, key: &str) -> Option<Located> {
        let parts: Vec<&str> = key.strip_prefix(&self.prefix)?.split('/').collect();
        let unit = |namespace: &str, name: &str| UnitKey::new(namespace, name).ok();
        match parts.as_slice() {
            ["topology", "idcs", idc] => Some(Located::Idc(idc.parse().ok()?)),
            ["topology", "units", space, name] => Some(Located::Unit(unit(space, name)?)),
            ["topology", "agreed", "idcs"] => Some(Located::AgreedIdcs),
            ["topology", "agreed", "units", space, name] => {
                Some(Located::AgreedUnit(unit(space, name)?))
            }
            ["topology", "views", idc, "idcs"] => Some(Located::IdcsView(idc.parse().ok()?)),
            ["topology", "views", idc, "units", space, name] => {
                Some(Located::UnitView(unit(space, name)?, idc.parse().ok()?))
            }
            ["topology", "syncers", space, name] => {
                Some(Located::Syncer(LinkKey::new(*space, *name).ok()?))
            }
            ["sessions", idc] => Some(Located::Session(idc.parse().ok()?)),
            ["renewals", idc] => Some(Located::Renewal(idc.parse().ok()?)),
            ["units", space, name, "epoch"] => Some(Located::Epoch(unit(space, name)?)),
            ["units", space, name, "primary"] => Some(Located::Primary(unit(space, name)?)),
            ["units", space, name, "vacated"] => Some(Located::Vacated(unit(space, name)?)),
            ["units", space, name, "intent"] => Some(Located::Intent(unit(space, name)?)),
            ["units", space, name, "ack"] => Some(Located::Ack(unit(space, name)?)),
            ["units", space, name, "paused"] => Some(Located::PauseOrder(unit(space, name)?)),
            ["units", space, name, "fenced", idc] => {
                Some(Located::FenceOrder(unit(space, name)?, idc.parse().ok()?))
            }
            ["units", space, name, "votes", idc] => {
                Some(Located::Vote(unit(space, name)?, idc.parse().ok()?))
            }
            ["units", space, name, "bids", idc] => {
                Some(Located::Bid(unit(space, name)?, idc.parse().ok()?))
            }
            ["units", space, name, "members", idc] => {
                Some(Located::Member(unit(space, name)?, idc.parse().ok()?))
            }
            ["units", space, name, "history", epoch] => Some(Located::History(
                unit(space, name)?,
                Epoch(epoch.parse().ok()?),
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_again() {
        let keys = Keys::new("/multiactive");
        let unit = UnitKey::new("shop", "orders").unwrap();
        let idc = IdcName::new("sh").unwrap();
        let link = LinkKey::new("shop", "orders-sh-bj").unwrap();
        let epoch = Epoch(7);
        let table = [
            (keys.idc(&idc).text, Some(Located::Idc(idc.clone()))),
            (keys.unit(&unit).text, Some(Located::Unit(unit.clone()))),
            (
                keys.idcs_view(&idc).text,
                Some(Located::IdcsView(idc.clone())),
            ),
            (
                keys.unit_view(&idc, &unit).text,
                Some(Located::UnitView(unit.clone(), idc.clone())),
            ),
            (keys.agreed_idcs().text, Some(Located::AgreedIdcs)),
            (
                keys.agreed_unit(&unit).text,
                Some(Located::AgreedUnit(unit.clone())),
            ),
            (keys.syncer(&link).text, Some(Located::Syncer(link.clone()))),
            (keys.session(&idc).text, Some(Located::Session(idc.clone()))),
            (keys.renewal(&idc).text, Some(Located::Renewal(idc.clone()))),
            (keys.epoch(&unit).text, Some(Located::Epoch(unit.clone()))),
            (
                keys.primary(&unit).text,
                Some(Located::Primary(unit.clone())),
            ),
            (
                keys.vacated(&unit).text,
                Some(Located::Vacated(unit.clone())),
            ),
            (keys.intent(&unit).text, Some(Located::Intent(unit.clone()))),
            (keys.ack(&unit).text, Some(Located::Ack(unit.clone()))),
            (
                keys.fence_order(&unit, &idc).text,
                Some(Located::FenceOrder(unit.clone(), idc.clone())),
            ),
            (
                keys.pause_order(&unit).text,
                Some(Located::PauseOrder(unit.clone())),
            ),
            (
                keys.vote(&unit, &idc).text,
                Some(Located::Vote(unit.clone(), idc.clone())),
            ),
            (
                keys.bid(&unit, &idc).text,
                Some(Located::Bid(unit.clone(), idc.clone())),
            ),
            (
                keys.member(&unit, &idc).text,
                Some(Located::Member(unit.clone(), idc.clone())),
            ),
            (
                keys.history(&unit, epoch).text,
                Some(Located::History(unit.clone(), epoch)),
            ),
            (keys.generation(&idc).text, None),
            ("/multiactive-2/sessions/sh".to_owned(), None),
        ];
        for (key, located) in table {
            assert_eq!(keys.locate(&key), located, "{key}");
        }
        assert_eq!(
            keys.history(&unit, epoch).as_str(),
            "/multiactive/units/shop/orders/history/00000000000000000007"
        );
    }
}
