//! Rule 10: an etcd that shows less than it has shown before was restored from a backup, or is
//! another one. What it says of holders may have been true once.
//!
//! Each arbiter remembers the cluster and the highest revision that a linearizable answer told it,
//! and its member's database remembers them for it across restarts. A lesser answer counts only if
//! its request was sent after the greater one was known, so an answer that was late proves
//! nothing. From then on nothing is held and nothing is decided, until two lease times have passed,
//! in which every holder of before has fenced, and somebody has acknowledged it *in this etcd*: the
//! acknowledgement's revision is higher than the one at which the loss was noticed, so it was
//! not part of the backup.

use model::{Epoch, EpochRecord, EtcdMark, Generation, Revision, UnitState};

use crate::core::{Core, Plan};
use crate::event::{Command, Purpose, Slot, Write};
use crate::{Moment, Now};

/// What this arbiter remembers of etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Memory {
    mark: Option<EtcdMark>,
    /// When the mark was learned.
    learned_at: Moment,
    /// When the database was first asked what it remembers.
    database_asked: Option<Moment>,
    /// Whether etcd has shown as much since, so that this process may hold.
    verified: bool,
    /// The epoch that etcd showed last.
    shown: Option<Epoch>,
    loss: Option<Loss>,
    /// What was remembered before the last loss that was acknowledged; the database may tell it
    /// once more before it is overwritten.
    forgiven: Option<EtcdMark>,
    /// A generation above this process's that the server has obeyed, and when it said so.
    outranked: Option<(Generation, Moment)>,
}

/// etcd shows less than before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Loss {
    since: Moment,
    noticed: Revision,
    /// How far it is now, and when that was learned.
    now: EtcdMark,
    learned_at: Moment,
}

fn is_less(mark: EtcdMark, known: EtcdMark) -> bool {
    mark.cluster != known.cluster || mark.revision < known.revision
}

impl Core {
    fn remembers(&self) -> bool {
        self.settings.features.memory && self.rules.remember_etcd
    }

    /// Whether etcd has shown no less than before, as far as this process knows.
    pub(crate) fn trusts_etcd(&self) -> bool {
        self.memory.loss.is_none()
    }

    /// Whether it is certain: etcd has shown as much as the database remembers. Nothing is opened,
    /// kept open or taken before.
    pub(crate) fn trusts_own_memory(&self) -> bool {
        self.trusts_etcd() && (!self.remembers() || self.memory.verified)
    }

    /// Whether the member's database remembers anything of etcd. One that does not would believe a
    /// restored etcd after a restart of its arbiter. So it takes nothing, nobody is elected for the
    /// first time before each member's database remembers, and no member that is added later is
    /// named as a candidate before: by the time at which there is a holder to be forgotten, every
    /// candidate's database would notice it.
    pub(crate) fn database_remembers(&self) -> bool {
        let seen = self.member.seen.as_ref();
        !self.remembers() || seen.is_some_and(|(_, seen)| seen.etcd.is_some())
    }

    /// What is to be written into the database with each heartbeat.
    pub fn etcd_mark(&self) -> Option<EtcdMark> {
        // What the database remembers must not be overwritten before it was read and compared, nor
        // while nothing is believed: an answer that is lost would take the memory with it.
        let compared = self.trusts_etcd() && self.memory.verified;
        self.memory.mark.filter(|_| compared)
    }

    pub(crate) fn take_mark(&mut self, now: Now, sent_at: Moment, mark: EtcdMark) {
        if !self.remembers() {
            return;
        }
        if let Some(loss) = &mut self.memory.loss {
            let again = is_less(mark, loss.now);
            if again && sent_at >= loss.learned_at {
                self.lose(now, mark);
            } else if !again {
                loss.now = mark;
                loss.learned_at = now.at;
            }
            return;
        }
        match self.memory.mark {
            Some(known) if is_less(mark, known) => {
                if sent_at >= self.memory.learned_at {
                    self.lose(now, mark);
                }
                return;
            }
            Some(known) if known == mark => {}
            _ => {
                self.memory.mark = Some(mark);
                self.memory.learned_at = now.at;
            }
        }
        let asked = self.memory.database_asked;
        self.memory.verified |= asked.is_some_and(|asked| sent_at >= asked);
    }

    /// A state that another cluster tells is a loss too, whatever its revision.
    pub(crate) fn compare_cluster(&mut self, now: Now, state: &UnitState) {
        let known = self.memory.loss.as_ref().map(|loss| loss.now);
        let (Some(cluster), Some(known)) = (state.cluster, known.or(self.memory.mark)) else {
            return;
        };
        if self.remembers() && cluster != known.cluster {
            let revision = state.revision;
            self.lose(now, EtcdMark { cluster, revision });
        }
    }

    /// Epochs only ever grow. One that has shrunk belongs to an etcd that was restored, also where
    /// its cluster has kept its name and its revisions have grown past the known ones since.
    pub(crate) fn compare_epoch(&mut self, now: Now, state: &UnitState) {
        let (Some(cluster), Some(epoch)) = (state.cluster, &state.epoch) else {
            return;
        };
        let shown = self.memory.shown.replace(epoch.value.epoch);
        if self.remembers() && self.trusts_etcd() && shown > Some(epoch.value.epoch) {
            let revision = state.revision;
            self.lose(now, EtcdMark { cluster, revision });
        }
    }

    /// The database said what it remembers.
    pub(crate) fn take_memory(&mut self, now: Now, remembered: Option<EtcdMark>) {
        if !self.remembers() || self.memory.loss.is_some() {
            return;
        }
        self.memory.database_asked.get_or_insert(now.at);
        let Some(remembered) = remembered.filter(|mark| Some(*mark) != self.memory.forgiven) else {
            return;
        };
        match self.memory.mark {
            Some(known) if known.cluster != remembered.cluster => {
                self.memory.mark = Some(remembered);
                self.lose(now, known);
            }
            Some(known) if known.revision >= remembered.revision => {}
            _ => {
                self.memory.mark = Some(remembered);
                self.memory.learned_at = now.at;
            }
        }
    }

    fn lose(&mut self, now: Now, mark: EtcdMark) {
        self.memory.verified = false;
        self.memory.loss = Some(Loss {
            since: now.at,
            noticed: mark.revision,
            now: mark,
            learned_at: now.at,
        });
        // What was decided on before was decided on another history.
        self.state = None;
        self.needs = Revision::ABSENT;
        self.transaction = None;
        self.barrier = None;
    }

    /// Believes a restored etcd again, once it is time.
    pub(crate) fn note_memory(&mut self, now: Now) {
        let (Some(loss), Some(lease), Some(state)) = (&self.memory.loss, &self.lease, &self.state)
        else {
            return;
        };
        let waited = now.at.since(loss.since) >= 2 * lease.granted;
        let same = state
            .cluster
            .is_none_or(|cluster| cluster == loss.now.cluster);
        let acknowledged = same
            && state.revision <= loss.now.revision
            && state
                .ack
                .as_ref()
                .is_some_and(|ack| ack.revision > loss.noticed);
        if (waited || !self.rules.two_lease_times) && (acknowledged || !self.rules.await_ack) {
            self.memory.forgiven = self.memory.mark;
            self.memory.mark = Some(loss.now);
            self.memory.learned_at = now.at;
            self.memory.verified = true;
            self.memory.loss = None;
            self.needs = self
                .session
                .map_or(Revision::ABSENT, |session| session.revision);
        }
    }

    pub(crate) fn note_generation(&mut self, now: Now, obeyed: Generation) {
        let mine = self.session.map(|session| session.generation);
        self.memory.outranked = match self.memory.outranked {
            _ if mine.is_none() || mine >= Some(obeyed) => None,
            Some((known, at)) if known == obeyed => Some((known, at)),
            _ => Some((obeyed, now.at)),
        };
    }

    /// The server obeys a later generation, and yet etcd acknowledged a keep-alive of this one
    /// since: nobody has superseded it, so etcd forgot how many there were.
    pub(crate) fn claim_again(&mut self, sent_at: Moment, out: &mut Vec<Command>) {
        let since = |(_, at): &(Generation, Moment)| sent_at >= *at;
        if let Some((above, _)) = self.memory.outranked.take_if(|it| since(it))
            && self.settings.features.memory
        {
            out.push(Command::ClaimAgain { above });
        }
    }

    /// The highest epoch that anybody is known to have seen: in etcd by this process, or in any
    /// member's database.
    pub(crate) fn highest_epoch(&self) -> Epoch {
        let recorded = self
            .state
            .iter()
            .flat_map(|state| state.members.values())
            .map(|record| record.value.highest_epoch);
        let here = self
            .member
            .seen
            .as_ref()
            .map(|(_, seen)| seen.highest_epoch);
        let noted = self.state.as_ref().and_then(|state| state.epoch.as_ref());
        recorded
            .chain(here)
            .chain(noted.map(|epoch| epoch.value.highest))
            .chain([self.seen_epoch])
            .max()
            .unwrap_or_default()
    }

    /// Whoever knows of an epoch that etcd has forgotten writes it down before anything else: the
    /// next one has to be above it, and who knows of it may be gone by then.
    pub(crate) fn note_epoch(&self) -> Option<Plan> {
        let state = self.confirmed()?;
        let epoch = state.epoch.as_ref()?;
        let highest = self.highest_epoch();
        let known = epoch.value.epoch.max(epoch.value.highest);
        let wanted = self.settings.features.memory && self.rules.highest_epoch && highest > known;
        let record = EpochRecord {
            highest,
            ..epoch.value.clone()
        };
        wanted.then(|| {
            self.plan(Purpose::NoteEpoch)
                .compare(Slot::Epoch, epoch.revision)
                .write(Write::Epoch(record))
        })
    }

    /// Whether this holder holds an epoch that others know to be over: etcd forgot the later ones.
    pub(crate) fn holds_the_past(&self) -> bool {
        self.settings.features.memory
            && self.rules.highest_epoch
            && self
                .held()
                .is_some_and(|primary| primary.value.epoch < self.highest_epoch())
    }
}
