//! The state of one Unit's arbitration at one arbiter, and how events change it. What follows
//! from the state is decided in `hold`, `elect`, `request` and `announce`, by pure functions.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Epoch, FenceProof, IdcName, Intent, IntentPhase, MemberDoc, Revision, ServerIdentity, UnitDoc,
    UnitState, Versioned,
};

use crate::announce::Transition;
use crate::event::{
    Command, Compare, DatabaseCommand, Event, HeldSession, Purpose, Slot, Transaction, Write,
};
use crate::memory::Memory;
use crate::observation::{Hindrance, Observation};
use crate::promise::Promises;
use crate::right::{Right, Vacancy};
use crate::signals::Watched;
use crate::{Moment, Now, Rules, Settings};

/// Whether the member can be written to, as far as this process can be sure.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Exposure {
    /// Never looked at.
    Unseen,
    /// Seen to accept writes, and this process did not open it.
    Writable,
    /// This process opened it, and its guard was seen running.
    Open,
    /// A command to open or to fence had no clear end: it may be open or become so.
    Uncertain,
    /// Seen to refuse writes, and nothing is under way that could change that. With the proof if
    /// a fence was carried out on this boot.
    Closed(Option<FenceProof>),
}

/// What is known of the member in this IDC.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    pub seen: Option<(Moment, Observation)>,
    pub reachable: bool,
    pub preflight: bool,
    pub exposure: Exposure,
    /// Deadline of the last guard of ours seen running.
    pub guard_until: Option<Moment>,
    /// Until then, guards that earlier processes of this IDC started may still run.
    pub guards_before: Option<Moment>,
    /// Deadlines of guards that were asked for, by the numbers of their commands, and of which
    /// nothing was heard yet: they may run.
    pub guards_sent: BTreeMap<u64, Moment>,
}

impl Member {
    /// So many guards of which nothing was heard are told apart.
    const GUARDS_SENT: usize = 4;

    /// A guard was asked for.
    fn send_guard(&mut self, id: u64, deadline: Moment) {
        self.guards_sent.insert(id, deadline);
        while self.guards_sent.len() > Self::GUARDS_SENT
            && let Some((_, deadline)) = self.guards_sent.pop_first()
        {
            self.guards_before = self.guards_before.max(Some(deadline));
        }
    }

    /// Something was heard of the command with this number. If it was to start a guard, that one may
    /// run unless it was never sent.
    pub(crate) fn hear_of_guard(&mut self, id: u64, sent: bool) {
        let deadline = self.guards_sent.remove(&id);
        if sent {
            self.guards_before = self.guards_before.max(deadline);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LeaseClock {
    pub since: Moment,
    pub granted: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    pub id: u64,
    pub purpose: Purpose,
    /// The revision of the state that it was decided on.
    pub based_on: Revision,
    pub transition: Option<Transition>,
}

/// When the intent came into the phase that it is in, on this arbiter's clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Stage {
    pub revision: Revision,
    pub since: Moment,
}

/// A transaction that is wished for, before it has its number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    pub purpose: Purpose,
    pub compares: Vec<Compare>,
    pub writes: Vec<Write>,
    pub transition: Option<Transition>,
}

/// The core: one Unit, seen by the arbiter of one IDC. Equal states behave equally from then on,
/// so it can be explored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each named; none is a hidden state machine"
)]
pub struct Core {
    pub(crate) me: IdcName,
    pub(crate) settings: Settings,
    pub(crate) rules: Rules,
    pub(crate) session: Option<HeldSession>,
    pub(crate) lease: Option<LeaseClock>,
    pub(crate) state: Option<UnitState>,
    /// Decisions wait for a state at least this new.
    pub(crate) needs: Revision,
    pub(crate) member: Member,
    pub(crate) numbers: u64,
    pub(crate) transaction: Option<Pending>,
    pub(crate) transaction_retry: Moment,
    pub(crate) database: Option<(u64, DatabaseCommand)>,
    pub(crate) database_retry: Moment,
    /// Why the last database command failed, for people; empty after one that did not.
    pub(crate) database_failure: String,
    /// A transaction that would give `primary` up is unaccounted for. It compares this revision
    /// of `primary`, so the member opens only once that was written anew.
    pub(crate) barrier: Option<Revision>,
    pub(crate) stage: Option<Stage>,
    /// The last fence was for an intent, and not yet undone.
    pub(crate) fenced_for_intent: bool,
    /// When that fence was begun, for people.
    pub(crate) stopped_at: Option<jiff::Timestamp>,
    pub(crate) promoted: Option<Epoch>,
    pub(crate) caught_up: Option<model::PositionText>,
    pub(crate) transition: Option<Transition>,
    /// The receipt of this epoch is known to exist.
    pub(crate) receipt_of: Option<Epoch>,
    /// When the holder elsewhere was last known to live; once it was seen not to, when that was.
    /// Between the two this arbiter may have been cut off, and cannot know.
    pub(crate) evidence: Option<Moment>,
    /// Whether it was known to live at the last step.
    pub(crate) holder_lived: bool,
    /// The Unit was deleted, and the member was let be.
    pub(crate) left: bool,
    pub(crate) signals: BTreeMap<IdcName, Watched>,
    /// Nobody holds the epoch.
    pub(crate) vacancy: Option<Vacancy>,
    /// Of each IDC's session.
    pub(crate) rights: BTreeMap<IdcName, Right>,
    /// Since when somebody's signals say that the primary's database is down.
    pub(crate) voted_since: Option<Moment>,
    /// Since when the holder's own IDC says so.
    pub(crate) renounced_since: Option<Moment>,
    /// Since when an election could be decided.
    pub(crate) takeable_since: Option<Moment>,
    /// The last automatic failover, and when this process first saw it.
    pub(crate) cooling_since: Option<(Epoch, Moment)>,
    pub(crate) in_sync_since: Option<Moment>,
    /// Since when this holder has not been open.
    pub(crate) unopened_since: Option<Moment>,
    /// The epoch that it could not open within the time for that, and when it was about to give it up.
    pub(crate) gave_up: Option<(Epoch, Moment)>,
    pub(crate) hindrances: BTreeSet<Hindrance>,
    /// What of this member was stranded when that epoch began.
    pub(crate) stranded: Option<(Epoch, u64)>,
    /// The highest number of the server's own transactions that was seen, and on which server.
    pub(crate) highest_own: Option<(ServerIdentity, u64)>,
    /// The server had more own transactions once.
    pub(crate) went_back: bool,
    /// Since when etcd has not known of any epoch, and databases of no later one than this.
    pub(crate) no_epoch: Option<(Epoch, Moment)>,
    /// The highest epoch seen in etcd by this process.
    pub(crate) seen_epoch: Epoch,
    /// A takeover was sent, and nobody knows its end; it compares this revision of the epoch.
    pub(crate) takeover_in_doubt: Option<Revision>,
    pub(crate) promises: Promises,
    pub(crate) memory: Memory,
}

impl Core {
    /// A core that knows nothing yet.
    pub fn new(me: IdcName, settings: Settings, rules: Rules) -> Self {
        Self {
            me,
            settings,
            rules,
            session: None,
            lease: None,
            state: None,
            needs: Revision::ABSENT,
            member: Member {
                seen: None,
                reachable: false,
                preflight: false,
                exposure: Exposure::Unseen,
                guard_until: None,
                guards_before: None,
                guards_sent: BTreeMap::new(),
            },
            numbers: 0,
            transaction: None,
            transaction_retry: Moment(0),
            database: None,
            database_retry: Moment(0),
            database_failure: String::new(),
            barrier: None,
            stage: None,
            fenced_for_intent: false,
            stopped_at: None,
            promoted: None,
            caught_up: None,
            transition: None,
            receipt_of: None,
            evidence: None,
            holder_lived: false,
            left: false,
            signals: BTreeMap::new(),
            vacancy: None,
            rights: BTreeMap::new(),
            voted_since: None,
            renounced_since: None,
            takeable_since: None,
            cooling_since: None,
            in_sync_since: None,
            unopened_since: None,
            gave_up: None,
            hindrances: BTreeSet::new(),
            stranded: None,
            highest_own: None,
            went_back: false,
            no_epoch: None,
            seen_epoch: Epoch::NONE,
            takeover_in_doubt: None,
            promises: Promises::default(),
            memory: Memory::default(),
        }
    }

    /// Takes an event in and says what to do.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Command> {
        let mut commands = Vec::new();
        if let Event::KeepAlive { sent_at, .. } = &event {
            self.claim_again(*sent_at, &mut commands);
        }
        self.take(now, event);
        self.note_stage(now);
        self.note_memory(now);
        self.claim_in_doubt(now, &mut commands);
        self.note_no_epoch(now);
        self.note_life(now);
        self.note_vacancy(now);
        self.note_votes(now);
        self.note_election(now);
        if let Some(command) = self.database_wish(now) {
            self.start_database(now, command, &mut commands);
        }
        if let Some(plan) = self.etcd_wish(now) {
            self.start_transaction(plan, &mut commands);
        }
        self.speak(now, &mut commands);
        commands
    }

    fn note_stage(&mut self, now: Now) {
        let revision = self.intent().map(|intent| intent.revision);
        if self.stage.as_ref().map(|stage| stage.revision) != revision {
            self.stage = revision.map(|revision| Stage {
                revision,
                since: now.at,
            });
            self.caught_up = None;
        }
    }

    fn start_database(&mut self, now: Now, command: DatabaseCommand, out: &mut Vec<Command>) {
        self.numbers += 1;
        let id = self.numbers;
        self.promises.not_recorded();
        match &command {
            DatabaseCommand::Promise { .. } => self.promises.recording_begins(),
            DatabaseCommand::Fence { .. } => {
                if self.intent_wants_fence(now) && !self.fenced_for_intent {
                    self.fenced_for_intent = true;
                    self.stopped_at = Some(now.wall);
                }
                // Until it is proved, nothing is known: part of it may have happened.
                self.member.exposure = Exposure::Uncertain;
            }
            DatabaseCommand::Open { .. } => {
                debug_assert!(self.holds(now.at), "opened without holding");
                debug_assert!(!self.rules.guard || self.member.guard_until > Some(now.at));
                self.member.exposure = Exposure::Uncertain;
            }
            // Its answer may be lost, and the guard runs all the same: it keeps the member open until
            // then, so the primary must not be released before (`guards_end`).
            DatabaseCommand::StartGuard { deadline } if self.rules.guards_count_when_sent => {
                self.member.send_guard(id, *deadline);
            }
            _ => {}
        }
        self.database = Some((id, command.clone()));
        out.push(Command::Database { id, command });
    }

    fn start_transaction(&mut self, plan: Plan, out: &mut Vec<Command>) {
        self.numbers += 1;
        let id = self.numbers;
        let Plan {
            purpose,
            compares,
            writes,
            transition,
        } = plan;
        if purpose.takes_over() {
            let epoch = self.state.as_ref().and_then(|state| state.epoch.as_ref());
            self.takeover_in_doubt = Some(epoch.map_or(Revision::ABSENT, |epoch| epoch.revision));
        }
        self.transaction = Some(Pending {
            id,
            purpose,
            based_on: self
                .state
                .as_ref()
                .map_or(Revision::ABSENT, |state| state.revision),
            transition,
        });
        out.push(Command::Commit(Transaction {
            id,
            purpose,
            compares,
            writes,
        }));
    }

    // What follows are facts read off the state, used by all the deciding modules.

    pub(crate) fn doc(&self) -> Option<&Versioned<UnitDoc>> {
        self.state.as_ref()?.unit.as_ref()
    }

    pub(crate) fn my_doc(&self) -> Option<&MemberDoc> {
        self.doc()?.value.member(&self.me)
    }

    pub(crate) fn epoch(&self) -> Option<Epoch> {
        Some(self.state.as_ref()?.epoch.as_ref()?.value.epoch)
    }

    pub(crate) fn intent(&self) -> Option<&Versioned<Intent>> {
        self.state
            .as_ref()?
            .intent
            .as_ref()
            .filter(|intent| !intent.value.phase.is_final())
    }

    pub(crate) fn identity(&self) -> Option<&ServerIdentity> {
        self.member.seen.as_ref().map(|(_, seen)| &seen.identity)
    }

    /// The state, if it is new enough to decide on.
    pub(crate) fn confirmed(&self) -> Option<&UnitState> {
        self.state
            .as_ref()
            .filter(|state| self.session.is_some() && state.revision >= self.needs)
            .filter(|_| self.trusts_etcd())
    }

    /// Milliseconds since the intent came into its phase.
    pub(crate) fn stage_age(&self, now: Now) -> u64 {
        self.stage
            .as_ref()
            .map_or(0, |stage| now.at.since(stage.since))
    }

    pub(crate) fn holder_elsewhere_lives(&self) -> bool {
        let Some(state) = &self.state else {
            return false;
        };
        let Some(primary) = &state.primary else {
            return false;
        };
        primary.value.idc != self.me
            && state
                .members
                .get(&primary.value.idc)
                .is_some_and(|member| member.value.reachable)
    }

    pub(crate) fn phase(&self) -> Option<&IntentPhase> {
        self.intent().map(|intent| &intent.value.phase)
    }

    pub(crate) fn plan(&self, purpose: Purpose) -> Plan {
        let mut compares = Vec::new();
        if let Some(session) = self.session {
            compares.push(Compare::Revision(
                Slot::Session(self.me.clone()),
                session.revision,
            ));
        }
        Plan {
            purpose,
            compares,
            writes: Vec::new(),
            transition: None,
        }
    }
}

impl Plan {
    pub(crate) fn compare(mut self, slot: Slot, revision: Revision) -> Self {
        self.compares.push(Compare::Revision(slot, revision));
        self
    }

    pub(crate) fn compare_if(self, condition: bool, slot: Slot, revision: Revision) -> Self {
        if condition {
            self.compare(slot, revision)
        } else {
            self
        }
    }

    pub(crate) fn write(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }
}
