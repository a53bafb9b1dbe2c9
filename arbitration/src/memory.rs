//! Rule 10: an etcd that shows less than it has shown before was restored from a backup, or is
//! another one. What it says of holders may have been true once.
//!
//! Each arbiter remembers the cluster and the highest revision that etcd told it, by whatever way: a
//! linearizable answer, a state, or what became of its own transaction. Its member's database
//! remembers them for it across restarts. A lesser answer counts only if it is linearizable and its
//! request was sent after the greater one was known, so an answer that was late proves nothing. From then on nothing is held and nothing is decided, until two lease times have passed,
//! in which every holder of before has fenced, and somebody has acknowledged it *in this etcd*: the
//! acknowledgement's revision is higher than that of this process's session, which it claims again
//! once its member is closed, and the same state shows that session. So it was not part of the backup.
//! That it is higher than the revision at which the loss was noticed would not do: an etcd that was
//! empty may have been given a backup since, under the same name, with an acknowledgement of long ago
//! in it; but not with this session. A session that is claimed with another lease may be in another
//! etcd than the one before, and what was acknowledged there counts no more.

use model::{ClusterId, Epoch, EtcdMark, Generation, IdcName, LeaseId, Revision, UnitState};

use crate::core::{Core, Exposure};
use crate::event::{Command, HeldSession};
use crate::{Moment, Now};

/// What this arbiter remembers of etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Memory {
    mark: Option<EtcdMark>,
    /// When the mark was learned.
    learned_at: Moment,
    /// What the database remembers.
    remembered: Option<EtcdMark>,
    /// When the database was first asked what it remembers.
    database_asked: Option<Moment>,
    /// Whether etcd has shown as much since, so that this process may hold.
    verified: bool,
    /// The epoch that etcd showed last.
    shown: Option<Shown>,
    pub(crate) loss: Option<Loss>,
    /// What was remembered before each loss that was acknowledged; the database may tell it once
    /// more before it is overwritten.
    forgiven: Vec<EtcdMark>,
    /// The highest epoch that was known when it was acknowledged, and since when it had to be.
    pub(crate) acknowledged: Option<(Epoch, Revision)>,
    /// Up to what somebody noted a loss, and when this process first saw that.
    pub(crate) noted: Option<(Revision, Moment)>,
    /// How far etcd was when this process believed it again after a loss, and when that was.
    pub(crate) believed: Option<(Revision, Moment)>,
    /// A generation above this process's that the server has obeyed, and when it said so.
    outranked: Option<(Generation, Moment)>,
}

/// What was shown of the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shown {
    /// Of which life of the Unit.
    uid: String,
    epoch: Epoch,
    idc: IdcName,
    /// The revision that wrote its record.
    written: Revision,
    /// Up to what a loss was noted.
    pub noted: Option<Revision>,
}

/// etcd shows less than before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Loss {
    since: Moment,
    /// How far it was when that was noticed, and then when the session was claimed again.
    pub noticed: Revision,
    /// What an etcd that this process believed had shown before this loss.
    pub shown: Option<Shown>,
    /// Whether the session is being claimed again since, and whether it was.
    claims: bool,
    claimed: bool,
    /// The lease that it was claimed with.
    lease: Option<LeaseId>,
    /// Somebody has looked.
    acknowledged: bool,
    /// How far it is now, and when that was learned.
    now: EtcdMark,
    learned_at: Moment,
}

fn is_less(mark: EtcdMark, known: EtcdMark) -> bool {
    mark.cluster != known.cluster || mark.revision < known.revision
}

impl Core {
    pub(crate) fn remembers(&self) -> bool {
        self.settings.features.memory && self.rules.remember_etcd
    }

    /// Whether etcd has shown no less than before, as far as this process knows.
    pub fn trusts_etcd(&self) -> bool {
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
            if again && sent_at > loss.learned_at {
                self.lose(now, mark);
            } else if !again {
                loss.now = mark;
                loss.learned_at = now.at;
            }
            return;
        }
        match self.memory.mark {
            // Moments are whole milliseconds, within which much can happen.
            Some(known) if is_less(mark, known) && sent_at > self.memory.learned_at => {
                self.lose(now, mark);
                return;
            }
            // What was learned while it was on its way is no reason to doubt it.
            Some(known) if is_less(mark, known) => {}
            Some(known) if known == mark => {}
            _ => {
                self.memory.mark = Some(mark);
                self.memory.learned_at = now.at;
            }
        }
        let asked = self
            .memory
            .database_asked
            .is_some_and(|asked| sent_at >= asked);
        let remembered = self.memory.remembered;
        let as_much = remembered.is_none_or(|remembered| !is_less(mark, remembered));
        self.memory.verified |= asked && as_much;
    }

    /// A state, or a transaction of this process, is of this revision: etcd has come that far. What
    /// was committed since the last linearizable answer would otherwise be lost unnoticed.
    pub(crate) fn raise_mark(&mut self, now: Now, revision: Revision) {
        let believed = self.trusts_etcd() && self.rules.remember_commits;
        if let Some(mark) = &mut self.memory.mark
            && believed
            && mark.revision < revision
        {
            mark.revision = revision;
            self.memory.learned_at = now.at;
        }
    }

    /// A transaction that was sent on this state is committed after it, unless etcd went back.
    pub(crate) fn compare_commit(&mut self, now: Now, based_on: Revision, revision: Revision) {
        if self.remembers()
            && self.rules.remember_commits
            && revision <= based_on
            && let Some(EtcdMark { cluster, .. }) = self.memory.mark
        {
            self.lose(now, EtcdMark { cluster, revision });
        } else {
            self.raise_mark(now, revision);
        }
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

    /// Epochs only ever grow, each is one IDC's, the revisions that write them grow too, and a Unit
    /// that has had one keeps it. What contradicts that is told by an etcd that was restored, also
    /// where its cluster has kept its name and its revisions have grown past the known ones since.
    pub(crate) fn compare_epoch(&mut self, now: Now, state: &UnitState) {
        let (Some(cluster), true) = (state.cluster, self.remembers()) else {
            return;
        };
        // A Unit that was deleted and made anew begins anew.
        let uid = state.unit.as_ref().map(|doc| &doc.value.uid);
        self.memory.shown.take_if(|shown| Some(&shown.uid) != uid);
        let shows = state.epoch.as_ref().zip(uid).map(|(epoch, uid)| Shown {
            uid: uid.clone(),
            epoch: epoch.value.epoch,
            idc: epoch.value.idc.clone(),
            written: epoch.revision,
            noted: epoch.value.noted,
        });
        let is_past = |before: &Shown| {
            shows.as_ref().is_none_or(|shows| {
                let other = shows.epoch == before.epoch && shows.idc != before.idc;
                other || shows.epoch < before.epoch || shows.written < before.written
            })
        };
        let past = self.memory.shown.as_ref().is_some_and(is_past);
        if self.trusts_etcd() && past {
            let revision = state.revision;
            self.lose(now, EtcdMark { cluster, revision });
        }
        self.memory.shown = shows;
    }

    /// Somebody noted that etcd went back.
    pub(crate) fn take_note(&mut self, now: Now, state: &UnitState) {
        let noted = state.epoch.as_ref().and_then(|epoch| epoch.value.noted);
        let known = self.memory.noted.filter(|(known, _)| Some(*known) == noted);
        self.memory.noted = known.or(noted.map(|noted| (noted, now.at)));
    }

    /// The database said what it remembers.
    pub(crate) fn take_memory(&mut self, now: Now, remembered: Option<EtcdMark>) {
        if !self.remembers() {
            return;
        }
        if let Some(loss) = &self.memory.loss {
            // It knows more than this process did: that is lost as well, as of now. Whoever
            // acknowledges it from here on has looked after it was.
            let present = loss.now;
            let known = self.memory.mark;
            let is_more = |it: &EtcdMark| {
                is_less(present, *it)
                    && known.is_none_or(|known| is_less(known, *it))
                    && !self.is_forgiven(present.cluster, *it)
            };
            if let Some(more) = remembered.filter(is_more) {
                self.memory.mark = Some(more);
                self.lose(now, present);
            }
            return;
        }
        self.memory.database_asked.get_or_insert(now.at);
        // The database may tell once more what has been acknowledged, until it was overwritten.
        let present = self.memory.mark.map(|mark| mark.cluster);
        let is_old =
            |mark: &EtcdMark| present.is_some_and(|present| self.is_forgiven(present, *mark));
        let Some(remembered) = remembered.filter(|mark| !is_old(mark)) else {
            return;
        };
        self.memory.remembered = Some(remembered);
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

    /// Whether somebody has acknowledged that this much is lost. A name that etcd had once, and has
    /// no more, is of the past as a whole.
    fn is_forgiven(&self, present: ClusterId, mark: EtcdMark) -> bool {
        let mut forgiven = self.memory.forgiven.iter();
        forgiven.any(|old| {
            old.cluster == mark.cluster
                && (mark.cluster != present || mark.revision <= old.revision)
        })
    }

    fn lose(&mut self, now: Now, mark: EtcdMark) {
        // What a process that never believed this etcd was shown by it is no word of before. In a loss
        // during a loss it cannot tell which of them others have noted.
        let verified = std::mem::take(&mut self.memory.verified);
        let shown = self.memory.shown.as_ref().filter(|_| verified);
        let shown = shown.filter(|_| self.memory.loss.is_none()).cloned();
        self.memory.loss = Some(Loss {
            since: now.at,
            noticed: mark.revision,
            shown,
            claims: false,
            claimed: !self.rules.claim_in_doubt,
            lease: None,
            acknowledged: false,
            now: mark,
            learned_at: now.at,
        });
        // What was decided on before was decided on another history, in which the same revisions may
        // be of other values. This one tells what it holds with its next change.
        self.state = None;
        self.needs = Revision::ABSENT;
        self.transaction = None;
        self.barrier = None;
    }

    /// The state as the restored etcd tells it.
    pub(crate) fn restored_state(&self) -> Option<&UnitState> {
        let loss = self.memory.loss.as_ref()?;
        let state = self.state.as_ref()?;
        if self.session.is_none() || state.revision < self.needs {
            return None;
        }
        let same = state
            .cluster
            .is_none_or(|cluster| cluster == loss.now.cluster);
        (same && state.revision <= loss.now.revision).then_some(state)
    }

    /// The session was claimed, in the etcd that there is now.
    pub(crate) fn claimed_in_doubt(&mut self, session: HeldSession) {
        if let Some(loss) = self
            .memory
            .loss
            .as_mut()
            .filter(|_| self.rules.claim_in_doubt)
        {
            // A lease that lives is in the etcd that it was in.
            if loss.claimed && loss.lease == Some(session.lease) {
                return;
            }
            (loss.claims, loss.claimed) = (true, true);
            loss.lease = Some(session.lease);
            loss.noticed = session.revision;
            loss.acknowledged = false;
        }
    }

    /// Has the session claimed once in an etcd that is in doubt: not before the member is closed,
    /// since without a session it could not be, or so late that the guard has closed it.
    pub(crate) fn claim_in_doubt(&mut self, now: Now, out: &mut Vec<Command>) {
        let closed = matches!(self.member.exposure, Exposure::Closed(_) | Exposure::Unseen);
        let lease = self.lease.as_ref().map(|lease| lease.granted);
        let above = self.session.map(|session| session.generation);
        let over = |loss: &Loss| lease.is_some_and(|it| now.at.since(loss.since) >= 2 * it);
        let loss = self
            .memory
            .loss
            .as_mut()
            .filter(|loss| closed || over(loss));
        if let Some((loss, above)) = loss.filter(|it| !it.claims && !it.claimed).zip(above) {
            loss.claims = true;
            out.push(Command::ClaimAgain { above });
        }
    }

    /// Believes a restored etcd again, once it is time.
    pub(crate) fn note_memory(&mut self, now: Now) {
        let (Some(loss), Some(lease)) = (&self.memory.loss, &self.lease) else {
            return;
        };
        let waited = now.at.since(loss.since) >= 2 * lease.granted;
        let mine = self.session.map(|session| session.revision);
        let looked_at = |state: &UnitState| {
            let here = state.ack.as_ref().map(|ack| ack.revision);
            let told = state.sessions.get(&self.me).map(|it| it.revision);
            let knows_me = told == mine || !self.rules.claim_in_doubt;
            loss.claimed && knows_me && here > Some(loss.noticed)
        };
        let acknowledged = loss.acknowledged || self.restored_state().is_some_and(looked_at);
        if let Some(loss) = &mut self.memory.loss {
            loss.acknowledged = acknowledged;
        }
        let Some(loss) = &self.memory.loss else {
            return;
        };
        if (waited || !self.rules.two_lease_times) && (acknowledged || !self.rules.await_ack) {
            self.memory.acknowledged = Some((self.highest_epoch(), loss.noticed));
            self.memory.believed = Some((loss.now.revision, now.at));
            self.memory.forgiven.extend(self.memory.mark);
            self.memory.mark = Some(loss.now);
            self.memory.learned_at = now.at;
            self.memory.remembered = None;
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

    /// The server obeys a later process of this IDC, which keeps the member's promises from then on:
    /// what is open has a guard of that one. Nothing that this process knows may undo its work.
    pub(crate) fn is_outranked(&self) -> bool {
        self.memory.outranked.is_some()
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
}
