//! What people are told: the member's role and what is waited for.

use model::{Epoch, IdcName, IntentPhase, MemberRole};

use crate::core::{Core, Exposure};
use crate::event::DatabaseCommand;
use crate::first::FirstWaits;
use crate::readiness::FailoverReadiness;
use crate::vote::down_votes;
use crate::{Moment, Now};

/// What an arbiter says of its own member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What the member is.
    pub role: MemberRole,
    /// Whether it accepts writes, as last known.
    pub writable: bool,
    /// Whether the last look succeeded.
    pub reachable: bool,
    /// The epoch.
    pub epoch: Epoch,
    /// What is being done or waited for; empty in steady state.
    pub message: String,
    /// Whether the primary would move by itself.
    pub failover: FailoverReadiness,
}

impl Core {
    /// What to say of the member now.
    pub fn report(&self, now: Now) -> Report {
        let role = if self.held().is_some() {
            MemberRole::Primary
        } else if self.member.preflight && self.member.seen.is_some() {
            MemberRole::Replica
        } else {
            MemberRole::Unknown
        };
        let expired = !self.member.reachable && self.guards_end().is_some_and(|end| now.at >= end);
        let writable = match self.member.exposure {
            _ if expired => false,
            Exposure::Open | Exposure::Writable => true,
            Exposure::Uncertain => self
                .member
                .seen
                .as_ref()
                .is_some_and(|(_, seen)| !seen.read_only),
            Exposure::Unseen | Exposure::Closed(_) => false,
        };
        Report {
            role,
            writable,
            reachable: self.member.reachable,
            epoch: self.epoch().unwrap_or_default(),
            message: self.message(now),
            failover: self.failover_readiness(now),
        }
    }

    /// Whose heartbeats tell how far this member is behind: the last epoch's holder, unless that
    /// is this IDC.
    pub fn followed(&self) -> Option<&model::IdcName> {
        let epoch = self.state.as_ref()?.epoch.as_ref()?;
        (epoch.value.idc != self.me).then_some(&epoch.value.idc)
    }

    /// The epoch and whether this member is open in it, for its heartbeats.
    pub fn heartbeat(&self) -> (Epoch, bool) {
        (
            self.epoch().unwrap_or_default(),
            self.member.exposure == Exposure::Open,
        )
    }

    /// Whether the Unit, as it is known here, has a member in this IDC.
    pub fn has_member(&self) -> bool {
        self.my_doc().is_some()
    }

    /// Whether nothing is left to do: the Unit was deleted and the member has been let be, or the
    /// Unit has no member here any more and none of this IDC's is held or open.
    pub fn has_left(&self) -> bool {
        let closed = !matches!(
            self.member.exposure,
            Exposure::Open | Exposure::Uncertain | Exposure::Writable
        );
        let deleted = self.deleted() && (self.left || !self.touches());
        // An IDC without a member votes all the same.
        let removed = !self.settings.features.votes
            && self.confirmed().is_some()
            && self.my_doc().is_none()
            && self.held().is_none()
            && closed;
        (deleted || removed) && self.database.is_none()
    }

    /// When to step next if nothing happens before.
    pub fn wake_at(&self, now: Now) -> Moment {
        let stage = self.stage.as_ref().map(|stage| stage.since);
        let settings = &self.settings;
        let patience = [
            settings.fence_timeout,
            settings.catch_up_timeout,
            settings.ready_timeout,
            settings.answer_timeout,
        ];
        let stages = patience
            .iter()
            .filter_map(|millis| Some(stage?.plus(*millis)));
        [
            self.hold_until(),
            self.member.guard_until,
            self.guards_end(),
        ]
        .into_iter()
        .flatten()
        .chain([self.database_retry, self.transaction_retry])
        .chain(self.automatic_moments())
        .chain(self.promise_moments())
        .chain(stages)
        .filter(|moment| *moment > now.at)
        .min()
        .map_or(now.at.plus(1_000), |moment| moment.min(now.at.plus(1_000)))
    }

    fn message(&self, now: Now) -> String {
        if let Some(text) = self.message_of_etcd(now) {
            return text;
        }
        let me = &self.me;
        if self.is_another_server() {
            return format!(
                "the endpoint of {me} answers as another server than the one that was elected: it \
                 is not opened. To promote one of the members: mactl failover"
            );
        }
        if !self.member.reachable {
            return format!("the database of {me} cannot be reached");
        }
        if self.member.exposure == Exposure::Uncertain {
            let opens = matches!(
                self.database.as_ref(),
                Some((_, DatabaseCommand::Open { .. }))
            );
            return if opens {
                "opening".to_owned()
            } else {
                self.with_failure("fencing")
            };
        }
        if let Some(order) = self.fence_order() {
            let what = if self.held().is_some() {
                "it gives the primary up, and "
            } else {
                ""
            };
            return format!("it was fenced {order}; {what}it is not opened before: mactl unfence");
        }
        match self.phase() {
            Some(IntentPhase::Requested) => return "a request waits for the target".to_owned(),
            Some(IntentPhase::TargetReady { .. }) => {
                return self.with_failure("a request waits for the primary to be fenced");
            }
            Some(IntentPhase::Fenced { .. }) => {
                return "the target catches up with the fenced primary".to_owned();
            }
            _ => {}
        }
        if self.held().is_some() {
            return self.message_of_holder();
        }
        self.message_of_follower(now)
    }

    /// What is amiss with what etcd says.
    fn message_of_etcd(&self, now: Now) -> Option<String> {
        if self.session.is_none() || self.lease.is_none() {
            return Some("waiting for a session in etcd".to_owned());
        }
        if self.is_outranked() {
            return Some(
                "the database obeys a later arbiter of this IDC: this one leaves it alone until \
                    etcd says which of them counts"
                    .to_owned(),
            );
        }
        // A state that is a moment behind our own last transaction is no news.
        if !self.trusts_etcd() {
            return Some(
                "etcd shows less than it did before, as after a restore from a backup: nothing is \
                    held until two lease times have passed and somebody has looked at it: mactl \
                    ack"
                .to_owned(),
            );
        }
        if self.state.is_none() {
            return Some("waiting for etcd to tell the state of the unit".to_owned());
        }
        if self.deleted() {
            return Some("the unit was deleted: the member is let be".to_owned());
        }
        if self.held().is_some() && !self.holds(now.at) {
            return Some(
                "etcd does not acknowledge keep-alives: the member is fenced until it does"
                    .to_owned(),
            );
        }
        self.left_over().map(|primary| {
            format!(
                "etcd names {} as the primary of epoch {}, which is not its current one, as after a \
                 restore from a backup: that is removed once the member is closed",
                self.me, primary.value.epoch
            )
        })
    }

    fn message_of_holder(&self) -> String {
        match self.member.exposure {
            Exposure::Open => String::new(),
            _ if !self.member.preflight => {
                "holds the primary, but preflight does not pass: not opened".to_owned()
            }
            _ if self.is_paused() => {
                "holds the primary, but the unit is paused: not opened. mactl resume".to_owned()
            }
            _ => match self.database.as_ref().map(|(_, command)| command) {
                Some(DatabaseCommand::Promote { .. }) => "promoting".to_owned(),
                _ => self.with_failure("opening"),
            },
        }
    }

    fn message_of_election(&self, state: &model::UnitState, now: Now) -> String {
        let readiness = self.failover_readiness(now);
        if let Some(obstacle) = readiness.obstacles.first() {
            return format!("nobody holds the primary, and none is elected: {obstacle}");
        }
        let votes = down_votes(state).len();
        let all = state.idcs.len();
        let votes = format!("nobody holds the primary; {votes} of {all} IDCs vote for an election");
        if self.sits_out(now, state) {
            let what = self.with_failure("it could not be opened here, so the others go first");
            return format!("{votes}; {what}");
        }
        votes
    }

    fn message_of_follower(&self, now: Now) -> String {
        let Some(state) = &self.state else {
            return String::new();
        };
        let paused = self.is_paused();
        match (&state.epoch, &state.primary) {
            (_, Some(_)) => String::new(),
            _ if paused => "the unit is paused: no election".to_owned(),
            (None, None) => self.message_of_first(now),
            (Some(epoch), None) if epoch.value.idc == self.me && !self.is_automatic() => {
                "nobody holds the primary; taking it up again".to_owned()
            }
            (Some(_), None) if self.is_automatic() => self.message_of_election(state, now),
            (Some(epoch), None) => format!(
                "nobody holds the primary since {} lost it. If it does not come back: mactl \
                 failover",
                epoch.value.idc
            ),
        }
    }

    fn message_of_first(&self, now: Now) -> String {
        match self.first_waits(now, false) {
            None => "the first election is under way".to_owned(),
            Some(FirstWaits::Nothing) => "the first election waits for word from etcd".to_owned(),
            Some(FirstWaits::SameServer) => {
                "two members answer as one and the same server: give each member a server of its \
                 own"
                .to_owned()
            }
            Some(FirstWaits::Members(waiting)) => {
                let waiting: Vec<_> = waiting.iter().map(IdcName::as_str).collect();
                format!(
                    "the first election waits until every member is reachable and passes \
                     preflight; not yet: {}",
                    waiting.join(", ")
                )
            }
            Some(FirstWaits::TakenOut(idc)) => format!(
                "the first election waits for {idc}, which goes first and was fenced by a person: \
                 mactl unfence"
            ),
            Some(FirstWaits::LastHolder { .. }) => {
                "the members know of an epoch that etcd does not know of, as where a unit was \
                 deleted and made anew: whoever held it has two lease times to fence"
                    .to_owned()
            }
        }
    }

    fn with_failure(&self, doing: &str) -> String {
        if self.database_failure.is_empty() {
            doing.to_owned()
        } else {
            format!("{doing}; the last try failed: {}", self.database_failure)
        }
    }
}
