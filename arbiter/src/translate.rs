//! The core's transactions in the words of etcd, and what a database tells in the words of the core.

use std::collections::BTreeSet;

use arbitration::{Compare, Hindrance, Slot, Transaction, Write};
use model::{IdcName, UnitKey};
use topology::Keys;

/// Spells out a transaction of the core for one Unit.
pub fn transaction(
    keys: &Keys,
    unit: &UnitKey,
    me: &IdcName,
    transaction: &Transaction,
) -> topology::Transaction {
    let doing = format!("{} of {unit} for {me}", transaction.purpose.as_str());
    let mut spelled = topology::Transaction::new(doing);
    for compare in &transaction.compares {
        spelled = compare_one(keys, unit, spelled, compare);
    }
    for write in &transaction.writes {
        spelled = write_one(keys, unit, me, spelled, write);
    }
    spelled
}

fn compare_one(
    keys: &Keys,
    unit: &UnitKey,
    spelled: topology::Transaction,
    compare: &Compare,
) -> topology::Transaction {
    match compare {
        Compare::Revision(slot, revision) => match slot {
            Slot::Unit => spelled.if_revision(&keys.unit(unit), *revision),
            Slot::Session(idc) => spelled.if_revision(&keys.session(idc), *revision),
            Slot::Epoch => spelled.if_revision(&keys.epoch(unit), *revision),
            Slot::Primary => spelled.if_revision(&keys.primary(unit), *revision),
            Slot::Vacated => spelled.if_revision(&keys.vacated(unit), *revision),
            Slot::Intent => spelled.if_revision(&keys.intent(unit), *revision),
            Slot::Member(idc) => spelled.if_revision(&keys.member(unit, idc), *revision),
            Slot::History(epoch) => spelled.if_revision(&keys.history(unit, *epoch), *revision),
            Slot::Idc(idc) => spelled.if_revision(&keys.idc(idc), *revision),
            Slot::FenceOrder(idc) => spelled.if_revision(&keys.fence_order(unit, idc), *revision),
            Slot::PauseOrder => spelled.if_revision(&keys.pause_order(unit), *revision),
            Slot::Vote(idc) => spelled.if_revision(&keys.vote(unit, idc), *revision),
            Slot::Bid(idc) => spelled.if_revision(&keys.bid(unit, idc), *revision),
        },
        Compare::Lease(slot, lease) => match slot {
            Slot::Unit => spelled.if_lease(&keys.unit(unit), *lease),
            Slot::Session(idc) => spelled.if_lease(&keys.session(idc), *lease),
            Slot::Epoch => spelled.if_lease(&keys.epoch(unit), *lease),
            Slot::Primary => spelled.if_lease(&keys.primary(unit), *lease),
            Slot::Vacated => spelled.if_lease(&keys.vacated(unit), *lease),
            Slot::Intent => spelled.if_lease(&keys.intent(unit), *lease),
            Slot::Member(idc) => spelled.if_lease(&keys.member(unit, idc), *lease),
            Slot::History(epoch) => spelled.if_lease(&keys.history(unit, *epoch), *lease),
            Slot::Idc(idc) => spelled.if_lease(&keys.idc(idc), *lease),
            Slot::FenceOrder(idc) => spelled.if_lease(&keys.fence_order(unit, idc), *lease),
            Slot::PauseOrder => spelled.if_lease(&keys.pause_order(unit), *lease),
            Slot::Vote(idc) => spelled.if_lease(&keys.vote(unit, idc), *lease),
            Slot::Bid(idc) => spelled.if_lease(&keys.bid(unit, idc), *lease),
        },
    }
}

fn write_one(
    keys: &Keys,
    unit: &UnitKey,
    me: &IdcName,
    spelled: topology::Transaction,
    write: &Write,
) -> topology::Transaction {
    match write {
        Write::Epoch(record) => spelled.put(&keys.epoch(unit), record, None),
        Write::Primary(record, lease) => spelled.put(&keys.primary(unit), record, Some(*lease)),
        Write::DeletePrimary => spelled.delete(&keys.primary(unit)),
        Write::Vacated(record) => spelled.put(&keys.vacated(unit), record, None),
        Write::DeleteVacated => spelled.delete(&keys.vacated(unit)),
        Write::Intent(intent) => spelled.put(&keys.intent(unit), intent, None),
        Write::Member(record, lease) => spelled.put(&keys.member(unit, me), record, Some(*lease)),
        Write::History(receipt) => spelled.put(&keys.history(unit, receipt.epoch), receipt, None),
        Write::DeleteHistory(epoch) => spelled.delete(&keys.history(unit, *epoch)),
        Write::Vote(record, lease) => spelled.put(&keys.vote(unit, me), record, Some(*lease)),
        Write::DeleteVote => spelled.delete(&keys.vote(unit, me)),
        Write::Bid(record, lease) => spelled.put(&keys.bid(unit, me), record, Some(*lease)),
        Write::DeleteBid => spelled.delete(&keys.bid(unit, me)),
    }
}

/// What of it stands in the way of a switchover.
pub fn hindrances(found: &mysql::control::Hindrances) -> BTreeSet<Hindrance> {
    let counted = |count: u64, of: fn(u64) -> Hindrance| (count > 0).then(|| of(count));
    let alter = (!found.alters.is_empty()).then_some(Hindrance::Alter);
    let backup = (found.backup_lock == Some(true)).then_some(Hindrance::BackupLock);
    let prepared = counted(found.prepared_xa, Hindrance::PreparedXa);
    let stranded = counted(found.stranded, Hindrance::Stranded);
    let copying =
        (!found.copied_by.is_empty()).then(|| Hindrance::Copying(found.copied_by.clone()));
    [alter, backup, prepared, stranded, copying]
        .into_iter()
        .flatten()
        .collect()
}
