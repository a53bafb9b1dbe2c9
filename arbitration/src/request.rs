//! What people ask for: each phase of an intent, who moves it on, and who ends it.
//!
//! | phase | moved on by | to | ended by |
//! |---|---|---|---|
//! | `Requested` | target, having checked its side | `TargetReady` | target or holder: `Refused`; anybody after the answer time-out |
//! | `TargetReady`, planned | holder, with the proof of its fence | `Fenced` | holder: `Cancelled` when the fence takes too long |
//! | `TargetReady`, forced | target, once `primary` is gone | `HandedOver` | holder, when it cannot be fenced; anybody else when the target stays silent |
//! | `Fenced` | target, once it has caught up | `HandedOver` | holder after the catch-up time-out; another member if the holder is gone; anybody after a restore of etcd |
//! | `HandedOver` | target, once it is open | `Done` | anybody after a restore of etcd, if nobody holds it |
//!
//! Deaths: the holder's before its fence leaves the lease to expire; the planned request is then
//! refused, the forced one goes on. The holder's after `Fenced` leaves the proof in the intent: the
//! target takes over once `primary` has expired and it has caught up. A target that dies before the
//! hand-over is timed out. One that dies after it is the holder of the new epoch, and its IDC
//! takes that up again or is itself failed over.

use model::{FenceProof, Intent, IntentKind, IntentPhase, UnitState, Versioned};

use crate::Now;
use crate::core::{Core, Exposure, Plan};
use crate::event::{Purpose, Slot, Write};
use crate::order::taken_out;
use crate::readiness::NotReady;

impl Core {
    /// The next step of an intent that is this arbiter's to make.
    pub(crate) fn follow_intent(&self, now: Now) -> Option<Plan> {
        let state = self.confirmed()?;
        let intent = self.intent()?;
        self.my_doc()?;
        if let Some(reason) = self.refusal(now, state, intent) {
            return Some(self.refuse(intent, reason));
        }
        if let Some(plan) = self.refuse_to_fence(now, intent) {
            return Some(plan);
        }
        self.report_fenced(now, intent)
            .or_else(|| self.hand_over(now))
            .or_else(|| self.cancel(now, state, intent))
            .or_else(|| self.answer(now, state, intent))
    }

    fn refuse(&self, intent: &Versioned<Intent>, reason: String) -> Plan {
        let phase = IntentPhase::Refused { reason };
        self.move_intent(Purpose::Refuse, intent, phase)
    }

    fn move_intent(
        &self,
        purpose: Purpose,
        intent: &Versioned<Intent>,
        phase: IntentPhase,
    ) -> Plan {
        let moved = Intent {
            phase,
            ..intent.value.clone()
        };
        self.plan(purpose)
            .compare_if(self.rules.compare_intent, Slot::Intent, intent.revision)
            .write(Write::Intent(moved))
    }

    /// Why an intent that has not begun cannot be done at all, whoever looks at it.
    fn refusal(&self, now: Now, state: &UnitState, intent: &Versioned<Intent>) -> Option<String> {
        let asked = &intent.value;
        let begun = matches!(
            asked.phase,
            IntentPhase::Fenced { .. } | IntentPhase::HandedOver { .. }
        );
        if begun {
            return None;
        }
        let doc = &self.doc()?.value;
        if state.is_paused() && asked.phase == IntentPhase::Requested {
            let words = "the unit is paused. Resume it first: mactl resume";
            return Some(words.to_owned());
        }
        let Some(epoch) = &state.epoch else {
            return Some(
                "the unit has not had a primary yet: its first election waits for every \
                         member to be reachable and to pass preflight. See mactl status"
                    .to_owned(),
            );
        };
        if self.went_back_for_others(state) {
            return Some(NotReady::EtcdWentBack.to_string());
        }
        if self.asked_before_loss(state, intent) {
            return Some(ASKED_BEFORE_LOSS.to_owned());
        }
        if epoch.value.epoch != asked.expected_epoch {
            return Some(format!(
                "it was asked for in epoch {}, and the epoch is {} now. Look at mactl status, and \
                 ask again if you still want it",
                asked.expected_epoch, epoch.value.epoch
            ));
        }
        if let Some(to) = &asked.to
            && doc.member(to).is_none()
        {
            let members: Vec<_> = doc
                .members
                .iter()
                .map(|member| member.idc.as_str())
                .collect();
            return Some(format!(
                "the unit has no member in IDC {to}. It has members in: {}",
                members.join(", ")
            ));
        }
        asked
            .to
            .as_ref()
            .and_then(|to| taken_out(state, to))
            .or_else(|| self.refusal_of_kind(now, state, intent))
    }

    fn refusal_of_kind(
        &self,
        now: Now,
        state: &UnitState,
        intent: &Versioned<Intent>,
    ) -> Option<String> {
        let asked = &intent.value;
        let holder = state.primary.as_ref().map(|primary| &primary.value.idc);
        if holder.is_some() && holder == asked.to.as_ref() {
            return Some(format!("IDC {} is the primary already", holder?));
        }
        if asked.kind == IntentKind::Planned {
            if asked.to.is_none() {
                return Some("a planned switchover names the IDC it goes to".to_owned());
            }
            if holder.is_none() {
                return Some(
                    "the unit has no primary now, so there is nothing to switch over from. \
                             To promote a copy: mactl failover"
                        .to_owned(),
                );
            }
        }
        let silent = asked.phase == IntentPhase::Requested
            && self.stage_age(now) >= self.settings.answer_timeout;
        silent.then(|| match self.target(state, intent) {
            Some(to) => format!(
                "the arbiter of IDC {to} did not answer within {} s. Check that its pod runs and \
                 reaches etcd and its database: mactl status",
                self.settings.answer_timeout / 1_000
            ),
            None => "no other member is reachable, fenced and past preflight, so there is none to \
                     promote. See mactl status for what is wrong with each"
                .to_owned(),
        })
    }

    /// The holder's side of the checks before a planned switchover: nothing has changed yet.
    fn refuse_to_fence(&self, now: Now, intent: &Versioned<Intent>) -> Option<Plan> {
        let ready = matches!(intent.value.phase, IntentPhase::TargetReady { .. });
        let primary = self.held().filter(|primary| primary.value.open)?;
        if !ready || intent.value.kind != IntentKind::Planned {
            return None;
        }
        let hindrance = self.hindrance_to_fence(now)?;
        // It may pass, as an ALTER that ends does; the target waits meanwhile.
        if self.stage_age(now) < self.settings.fence_timeout / 2 {
            return None;
        }
        let reason = format!("the primary {}: {hindrance}", primary.value.idc);
        let plan = self.refuse(intent, reason);
        Some(plan.compare(Slot::Primary, primary.revision))
    }

    /// The target's answer to a request: ready, or why not.
    fn answer(&self, now: Now, state: &UnitState, intent: &Versioned<Intent>) -> Option<Plan> {
        if intent.value.phase != IntentPhase::Requested || !self.is_target(state, intent) {
            return None;
        }
        let checked = match intent.value.kind {
            IntentKind::Planned => self.check_planned(now, state),
            // With nobody holding, the target simply takes it; see `campaign`.
            IntentKind::Forced => self.check_member().and_then(|()| {
                let lag = self.forced_lag(now, state, intent);
                match self.catch_up_position() {
                    Some(_) if self.stage_age(now) < self.settings.catch_up_timeout => Ok(None),
                    Some((_, position)) if self.caught_up.as_ref() == Some(&position) => Ok(None),
                    _ if state.primary.is_some() => lag.map(Some),
                    _ => lag.map(|_| None),
                }
            }),
        };
        match checked {
            Ok(None) => None,
            Ok(Some(lag_millis)) => {
                let phase = IntentPhase::TargetReady { lag_millis };
                let moved = Intent {
                    phase,
                    to: Some(self.me.clone()),
                    ..intent.value.clone()
                };
                Some(
                    self.plan(Purpose::TargetReady)
                        .compare(Slot::Intent, intent.revision)
                        .write(Write::Intent(moved)),
                )
            }
            Err(reason) => Some(self.refuse(intent, reason)),
        }
    }

    fn check_member(&self) -> Result<(), String> {
        let me = &self.me;
        if !self.member.reachable {
            return Err(format!(
                "the database of {me} cannot be reached by its arbiter. {SEE}"
            ));
        }
        if !self.member.preflight {
            return Err(format!(
                "preflight has not passed on {me}. See mactl preflight"
            ));
        }
        if !matches!(self.member.exposure, Exposure::Closed(_)) {
            return Err(format!(
                "{me} is not fenced yet. Ask again in a moment. {SEE}"
            ));
        }
        Ok(())
    }

    /// `Ok(None)`: not yet.
    fn check_planned(&self, now: Now, state: &UnitState) -> Result<Option<u64>, String> {
        self.check_member()?;
        let Some(primary) = state.primary.as_ref().map(|primary| &primary.value) else {
            return Ok(None);
        };
        let waited = self.stage_age(now) >= self.settings.ready_timeout;
        let holder = state.members.get(&primary.idc);
        if !holder.is_some_and(|record| record.value.reachable) || !primary.open {
            return if waited {
                Err(format!(
                    "the primary {} is not open for writing, or its database cannot be reached. \
                     If it does not come back: mactl failover",
                    primary.idc
                ))
            } else {
                Ok(None)
            };
        }
        if let Some(hindrance) = self.hindrances.first() {
            return if waited {
                Err(format!("{}: {hindrance}", self.me))
            } else {
                Ok(None)
            };
        }
        let interval = self
            .doc()
            .map_or(0, |doc| doc.value.heartbeat.interval_millis);
        let bound = interval + self.settings.ready_lag;
        let lag = self
            .member
            .seen
            .as_ref()
            .and_then(|(_, seen)| seen.lag_millis);
        match lag {
            Some(lag) if lag <= bound => Ok(Some(lag)),
            _ if !waited => Ok(None),
            Some(lag) => Err(format!(
                "{} is {lag} ms behind {}, more than the {bound} ms that a planned switchover \
                 allows. Ask again when the link has caught up. {SEE}",
                self.me, primary.idc
            )),
            None => Err(format!(
                "no heartbeat of {} has arrived in {}: the link between them is not running. {SEE}",
                primary.idc, self.me
            )),
        }
    }

    /// The holder of a planned switchover is fenced, and says so with the proof.
    fn report_fenced(&self, now: Now, intent: &Versioned<Intent>) -> Option<Plan> {
        let primary = self.held()?;
        let session = self.session?;
        let ready = matches!(intent.value.phase, IntentPhase::TargetReady { .. });
        if !ready || intent.value.kind != IntentKind::Planned || !self.intent_wants_fence(now) {
            return None;
        }
        if self.is_another_server() {
            return None;
        }
        let Exposure::Closed(Some(proof @ FenceProof::Fenced { at, .. })) = &self.member.exposure
        else {
            return None;
        };
        let stopped_at = self.stopped_at.unwrap_or(*at);
        let phase = IntentPhase::Fenced {
            stopped_at,
            proof: proof.clone(),
        };
        let closed = model::PrimaryRecord {
            open: false,
            ..primary.value.clone()
        };
        let moved = Intent {
            phase,
            ..intent.value.clone()
        };
        Some(
            self.plan(Purpose::HolderFenced)
                .compare(Slot::Intent, intent.revision)
                .compare(Slot::Primary, primary.revision)
                .write(Write::Intent(moved))
                .write(Write::Primary(closed, session.lease)),
        )
    }

    /// Ends an intent that has begun and does not get on.
    fn cancel(&self, now: Now, state: &UnitState, intent: &Versioned<Intent>) -> Option<Plan> {
        let age = self.stage_age(now);
        let holds = self.held().is_some();
        let target = self.is_target(state, intent);
        let settings = &self.settings;
        let to = intent.value.to.as_ref();
        let out = to.and_then(|to| taken_out(state, to));
        let reason = match (&intent.value.phase, intent.value.kind) {
            (IntentPhase::Fenced { .. }, _) if self.asked_before_loss(state, intent) => {
                Some(ASKED_BEFORE_LOSS.to_owned())
            }
            // Nobody holds what was handed over, and whoever did may not be the one to go on.
            (IntentPhase::HandedOver { .. }, _)
                if state.primary.is_none() && self.asked_before_loss(state, intent) =>
            {
                Some(ASKED_BEFORE_LOSS.to_owned())
            }
            (IntentPhase::TargetReady { .. }, kind) if holds => {
                let patience = match kind {
                    IntentKind::Planned => settings.fence_timeout,
                    IntentKind::Forced => settings.fence_timeout + 3 * settings.answer_timeout,
                };
                (age >= patience).then(|| {
                    format!(
                        "{} could not be fenced within {} s: {}. It stays primary",
                        self.me,
                        patience / 1_000,
                        self.database_failure
                    )
                })
            }
            (IntentPhase::TargetReady { .. }, _) if state.primary.is_none() && !target => {
                (age >= 2 * settings.answer_timeout).then(|| silent_target(intent, age))
            }
            (IntentPhase::TargetReady { .. }, IntentKind::Forced) if state.primary.is_none() => {
                // What the holder's fence showed may be worse than what the request was allowed on.
                let waiting = self.catch_up_position().is_some() && age < settings.catch_up_timeout;
                if waiting {
                    None
                } else {
                    self.forced_lag(now, state, intent).err()
                }
            }
            (IntentPhase::Fenced { .. }, _) if holds && self.rules.orders_bar && out.is_some() => {
                out
            }
            (IntentPhase::Fenced { .. }, _) if holds => (age >= settings.catch_up_timeout)
                .then(|| silent_target(intent, settings.catch_up_timeout)),
            (IntentPhase::Fenced { .. }, _) if state.primary.is_none() && !target => {
                (age >= 2 * settings.catch_up_timeout).then(|| silent_target(intent, age))
            }
            _ => None,
        }?;
        let plan = self.move_intent(Purpose::Cancel, intent, IntentPhase::Cancelled { reason });
        Some(match &state.primary {
            Some(_) => plan,
            None => plan.compare(Slot::Primary, model::Revision::ABSENT),
        })
    }
}

fn silent_target(intent: &Versioned<Intent>, millis: u64) -> String {
    let to = intent
        .value
        .to
        .as_ref()
        .map_or("the target", |to| to.as_str());
    format!(
        "{to} did not catch up and take over within {} s, so the primary stays where it was. \
         {SEE}",
        millis / 1_000
    )
}

const SEE: &str = "See mactl status";
const ASKED_BEFORE_LOSS: &str = "etcd went back since it was asked for, as after a restore from a \
     backup, and what came of it is not known. Look at mactl status, and ask again if you still \
     want it";
