//! What etcd has forgotten, and others know of: written into it for those who cannot notice, and heeded
//! by everybody (rule 10).

use model::{
    Epoch, EpochRecord, IdcName, Ineligible, Intent, MemberRecord, PrimaryRecord, Revision,
    UnitState, Versioned,
};

use crate::Now;
use crate::core::{Core, Exposure, Plan};

use crate::event::{Purpose, Slot, Write};

impl Core {
    /// The highest epoch that anybody is known to have seen: in etcd by this process, or in any
    /// member's database.
    pub(crate) fn highest_epoch(&self) -> Epoch {
        let promised = self.member.seen.as_ref();
        let promised = promised.and_then(|(_, seen)| seen.promise.as_ref());
        let noted = self.state.as_ref().and_then(|state| state.epoch.as_ref());
        self.epoch_of(|_| true)
            .max(promised.map_or(Epoch::NONE, |promise| promise.epoch))
            .max(noted.map_or(Epoch::NONE, |epoch| epoch.value.highest))
    }

    /// The highest epoch that this process has seen in etcd, or that the database of one of these
    /// members has seen.
    fn epoch_of(&self, counts: impl Fn(&IdcName) -> bool) -> Epoch {
        let members = self.state.iter().flat_map(|state| &state.members);
        let recorded = members
            .filter(|(idc, _)| counts(idc))
            .map(|(_, record)| record.value.highest_epoch);
        let here = self.member.seen.as_ref().filter(|_| counts(&self.me));
        recorded
            .chain(here.map(|(_, seen)| seen.highest_epoch))
            .fold(self.seen_epoch, Epoch::max)
    }

    /// Whether somebody noted that etcd went back, and nobody has acknowledged it since. Who was
    /// cut off or crashed meanwhile finds nothing less in etcd than it knows of; the others do not
    /// believe that etcd, and it must not go on without them.
    pub(crate) fn went_back_for_others(&self, state: &UnitState) -> bool {
        let noted = state.epoch.as_ref().and_then(|epoch| epoch.value.noted);
        let acknowledged = state.ack.as_ref().map(|ack| ack.revision);
        self.remembers() && self.rules.await_ack && noted.is_some() && acknowledged <= noted
    }

    /// Whether two lease times may not be over since it was noted that etcd went back. Who has just
    /// started knows of the loss by the note only, and takes nothing before: that somebody has
    /// acknowledged it says nothing of a holder of before, which may be open by its last guard. Who
    /// noticed that loss too has waited already; others' notes of it come soon after.
    pub(crate) fn noted_lately(&self, now: Now) -> bool {
        let (Some((noted, at)), Some(lease)) = (self.memory.noted, &self.lease) else {
            return false;
        };
        let waits = 2 * lease.granted;
        let waited = self
            .memory
            .believed
            .is_some_and(|(known, believed)| noted <= known && at < believed.plus(waits));
        self.rules.two_lease_times && !waited && now.at.since(at) < waits
    }

    /// Whether a request was in etcd when it was noticed that etcd went back. What came of it is not
    /// known: its proof of a fence may be of a holder that was opened again, and wrote on.
    pub(crate) fn asked_before_loss(&self, state: &UnitState, intent: &Versioned<Intent>) -> bool {
        let noted = state.epoch.as_ref().and_then(|epoch| epoch.value.noted);
        // The note may be missing: who cannot tell a note of today from one that the backup holds
        // writes none.
        let noticed = self.memory.acknowledged.map(|(_, noticed)| noticed);
        self.remembers()
            && self.rules.forget_requests
            && Some(intent.revision) <= noted.max(noticed)
    }

    /// Whether this database knows of a later epoch than etcd, and whether it was this member's.
    fn forgotten_epoch(&self, state: &UnitState) -> Option<bool> {
        let known = state.epoch.as_ref()?.value.epoch;
        let (_, seen) = self.member.seen.as_ref()?;
        let heeded = self.remembers() && self.rules.highest_epoch;
        (heeded && seen.highest_epoch > known).then_some(seen.held_highest)
    }

    /// Whether etcd forgot an epoch of another member, which is there to take the Unit: what it wrote
    /// last may be missing here.
    pub(crate) fn missed_an_epoch(&self, state: &UnitState) -> bool {
        let is_there = |record: &MemberRecord| {
            record.held_highest
                && record.reachable
                && !record.ineligible.contains(&Ineligible::NotAdmitted)
        };
        let mut records = state.members.values();
        self.forgotten_epoch(state) == Some(false) && records.any(|it| is_there(&it.value))
    }

    /// Whether etcd forgot an epoch of this member: nobody but a holder of a later one can have more
    /// of what was written last.
    pub(crate) fn held_a_forgotten_epoch(&self, state: &UnitState) -> bool {
        self.forgotten_epoch(state) == Some(true)
    }

    /// Whoever notices that etcd went back writes that into it, for those who cannot notice; unless
    /// somebody else has done so since.
    pub(crate) fn note_loss(&self, state: &UnitState) -> Option<Plan> {
        let loss = self.memory.loss.as_ref()?;
        let epoch = state.epoch.as_ref()?;
        let before = loss.shown.as_ref().and_then(|shown| shown.noted);
        let wanted = self.rules.note_loss && epoch.value.noted <= before;
        // A server that was somebody else's remembers another etcd; it is none of the candidates'.
        let concerned = self.my_doc().is_none() || self.is_admitted(state);
        (wanted && concerned).then(|| self.note(epoch, Some(loss.noticed)))
    }

    fn note(&self, epoch: &Versioned<EpochRecord>, at: Option<Revision>) -> Plan {
        let record = EpochRecord {
            highest: epoch.value.highest.max(self.highest_epoch()),
            noted: epoch.value.noted.max(at),
            ..epoch.value.clone()
        };
        self.plan(Purpose::NoteEpoch)
            .compare(Slot::Epoch, epoch.revision)
            .write(Write::Epoch(record))
    }

    /// Whoever knows of an epoch that etcd has forgotten writes it down before anything else: the
    /// next one has to be above it, and who knows of it may be gone by then.
    pub(crate) fn note_epoch(&self) -> Option<Plan> {
        let state = self.confirmed()?;
        let epoch = state.epoch.as_ref()?;
        let highest = self.highest_epoch();
        let known = epoch.value.epoch.max(epoch.value.highest);
        let wanted = self.settings.features.memory && self.rules.highest_epoch && highest > known;
        let at = match self.memory.acknowledged {
            Some((known, noticed)) if highest <= known => noticed,
            _ => state.revision,
        };
        // A server that was somebody else's may know of more epochs, and none of them was this
        // Unit's. The next one is above them, and that is all.
        let candidates = &epoch.value.candidates;
        let is_candidate = |idc: &IdcName| candidates.is_empty() || candidates.contains(idc);
        let forgotten = self.epoch_of(is_candidate) > known;
        // A loss that was acknowledged before it was noted: requests of before are void all the same.
        let noticed = self.memory.acknowledged.map(|(_, noticed)| noticed);
        let here = state.ack.as_ref().map(|ack| ack.revision);
        let unwritten = noticed.filter(|_| here > noticed && noticed > epoch.value.noted);
        if wanted {
            Some(self.note(epoch, forgotten.then_some(at)))
        } else {
            let noticed = unwritten.filter(|_| self.rules.note_loss)?;
            Some(self.note(epoch, Some(noticed)))
        }
    }

    /// A `primary` of this IDC's session that is of another epoch than etcd's: no transaction writes
    /// such a pair, but two histories can leave one behind, where etcd is put back under its old name
    /// and what was compared stands at the same revision in both. Nobody holds by it (rule 1), and
    /// while its session lives nobody else could be elected.
    pub(crate) fn left_over(&self) -> Option<&Versioned<PrimaryRecord>> {
        let (primary, current) = self.own_primary()?;
        (Some(primary.value.epoch) != current).then_some(primary)
    }

    /// Removes it, once the member is closed. That is no release: of the holder of etcd's epoch it
    /// proves nothing, so who takes over needs votes and waits as after any lost holder.
    pub(crate) fn clear_left_over(&self) -> Option<Plan> {
        let closed = matches!(self.member.exposure, Exposure::Closed(_));
        let primary = self.left_over().filter(|_| closed && !self.touches())?;
        let epoch = self.confirmed()?.epoch.as_ref();
        let epoch = epoch.map_or(Revision::ABSENT, |epoch| epoch.revision);
        let plan = self
            .plan(Purpose::ClearPrimary)
            .compare(Slot::Primary, primary.revision)
            .compare(Slot::Epoch, epoch);
        Some(plan.write(Write::DeletePrimary))
    }

    /// Whether this holder holds an epoch that others know to be over: etcd forgot the later ones.
    pub(crate) fn holds_the_past(&self) -> bool {
        let noted = |state| self.held().is_some() && self.went_back_for_others(state);
        if self.state.as_ref().is_some_and(noted) {
            return true;
        }
        self.settings.features.memory
            && self.rules.highest_epoch
            && self
                .held()
                .is_some_and(|primary| primary.value.epoch < self.highest_epoch())
    }
}
