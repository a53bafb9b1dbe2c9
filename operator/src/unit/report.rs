//! What a Unit's status says: a pure function of what was observed.

use std::collections::BTreeMap;

use crds::{
    Duration, LastTransition, LinkPhase, MemberRole, MemberSummary, Unit, UnitPhase, UnitStatus,
    Verdict, condition, merge_conditions,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::{IdcName, MemberStatus, Receipt, TransitionKind, UnitKey, UnitState};

use super::conditions;
use super::routing::open_primary;
use super::validate::Problem;
use crate::cluster::Notice;
use crate::coordination::UnitView;
use crate::transport::Certificates;

/// What the arbiter of a member says: not asked yet, does not answer, does not know the Unit, or
/// knows this of its member.
pub type MemberWord = Option<Result<Option<MemberStatus>, String>>;

/// What was observed.
pub struct Facts<'a> {
    /// The Unit.
    pub unit: &'a Unit,
    /// Its name.
    pub key: &'a UnitKey,
    /// Why its spec does not take effect.
    pub problems: &'a [Problem],
    /// What it waits for while it is being deleted.
    pub parting: Option<String>,
    /// What failed when it was brought to where it should be.
    pub failure: Option<String>,
    /// etcd.
    pub view: UnitView,
    /// The members' arbiters.
    pub words: BTreeMap<IdcName, MemberWord>,
    /// What the arbiters of other IDCs say of etcd, where they do not believe it.
    pub doubts: Vec<model::FailoverStatus>,
    /// Its links.
    pub links: Vec<LinkFacts>,
    /// The receipt of the current epoch, if it was just read.
    pub receipt: Option<Receipt>,
    /// Servers that cannot be led to.
    pub unresolved: Vec<String>,
    /// The condition `TopologyAgreed` where each IDC has a cluster of its own.
    pub agreed: Option<Verdict>,
    /// Those of the installation.
    pub certificates: Certificates,
}

/// A link of the Unit, as its own status tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its name.
    pub name: String,
    /// Where its changes come from and go to; `None` for a link that is not there yet.
    pub ends: Option<(IdcName, IdcName)>,
    /// While its writer says that it streams: the age of the newest change when it was applied, in
    /// milliseconds.
    pub streams: Option<u64>,
    /// Whether its writer was ever heard of.
    pub begun: bool,
    /// Where it stands.
    pub phase: Option<LinkPhase>,
    /// Whether it is Ready, the reason, and the message.
    pub ready: Option<(bool, String, String)>,
    /// Why its target is not what its source is until a person has settled it: reasons and sentences.
    pub left: Vec<(&'static str, String)>,
}

impl Facts<'_> {
    /// etcd's part, once seen.
    pub fn state(&self) -> Option<&UnitState> {
        self.view.state.as_ref()
    }

    /// What the arbiter of an IDC says of its member.
    pub fn member(&self, idc: &IdcName) -> Option<&MemberStatus> {
        match self.words.get(idc) {
            Some(Some(Ok(Some(member)))) => Some(member),
            _ => None,
        }
    }

    /// The same, if it was said in the present epoch.
    pub fn member_now(&self, idc: &IdcName) -> Option<&MemberStatus> {
        let epoch = self.state()?.epoch.as_ref().map(|epoch| epoch.value.epoch);
        self.member(idc)
            .filter(|said| said.epoch == epoch.unwrap_or_default())
    }

    /// The same, unless etcd shows that it is out of date in that too: processes are asked every
    /// now and then, and etcd tells of each change at once.
    pub fn fresh_member(&self, idc: &IdcName) -> Option<&MemberStatus> {
        let record = self.state()?.members.get(idc);
        self.member_now(idc)
            .filter(|said| record.is_none_or(|record| record.value.reachable == said.reachable))
    }
}

/// A copy older than this is not led to by `-ro`.
pub fn readable_lag(unit: &Unit) -> Duration {
    let check = unit.spec.health_checks.replication.as_ref();
    check.map_or(Duration::from_secs(30), |check| check.max_lag)
}

/// The status.
pub fn status(facts: &Facts<'_>, now: Timestamp) -> UnitStatus {
    let unit = facts.unit;
    let old = unit.status.clone().unwrap_or_default();
    let verdicts = conditions::verdicts(facts);
    let generation = unit.metadata.generation;
    let conditions = merge_conditions(&old.conditions, &verdicts, generation, now);
    let Some(state) = facts.state() else {
        // Nothing is known of etcd, so what was known stays.
        return UnitStatus {
            observed_generation: generation,
            conditions,
            ..old
        };
    };
    let members = members(facts, state);
    UnitStatus {
        observed_generation: generation,
        phase: Some(phase(facts, state)),
        primary: open_primary(state).cloned(),
        epoch: state.epoch.as_ref().map(|epoch| epoch.value.epoch.0),
        lag: members.iter().filter_map(|member| member.lag).max(),
        members,
        pause_order: state
            .pause_order
            .as_ref()
            .map(|order| order.value.to_string()),
        last_transition: facts
            .receipt
            .as_ref()
            .map(|receipt| transition(facts.key, receipt))
            .or(old.last_transition),
        conditions,
    }
}

/// Where the Unit stands.
pub fn phase(facts: &Facts<'_>, state: &UnitState) -> UnitPhase {
    let under_way = state
        .intent
        .as_ref()
        .is_some_and(|intent| !intent.value.phase.is_final());
    if facts.unit.spec.paused || state.pause_order.is_some() {
        UnitPhase::Paused
    } else if under_way {
        UnitPhase::SwitchingOver
    } else if open_primary(state).is_some() {
        UnitPhase::Ready
    } else if state.primary.is_some() || may_still_elect(state) {
        UnitPhase::Electing
    } else {
        UnitPhase::NoPrimary
    }
}

/// Whether a primary may come about without anybody being asked: the first one, or the last holder
/// taking its epoch up again.
fn may_still_elect(state: &UnitState) -> bool {
    if state.unit.is_none() {
        return false;
    }
    match &state.epoch {
        None => true,
        Some(epoch) => state
            .members
            .get(&epoch.value.idc)
            .is_some_and(|record| record.value.reachable && record.value.preflight_passed),
    }
}

fn members(facts: &Facts<'_>, state: &UnitState) -> Vec<MemberSummary> {
    let holder = holder(state);
    let summarise = |idc: &IdcName| {
        let said = facts.member(idc);
        let record = state.members.get(idc).map(|record| &record.value);
        let role = if holder == Some(idc) {
            MemberRole::Primary
        } else if record.is_some_and(|record| record.preflight_passed) {
            MemberRole::Replica
        } else {
            MemberRole::Unknown
        };
        MemberSummary {
            idc: idc.clone(),
            role,
            writable: writable(facts, state, idc),
            reachable: record.map(|record| record.reachable),
            position: said.and_then(|said| Some(said.position.as_ref()?.to_string())),
            lag: lag(facts, state, idc).map(Duration::from_millis),
            stranded_transactions: said.map(|said| said.stranded),
            hindrances: said.and_then(|said| Some(said.hindrances.as_ref()?.sentences())),
            fence_order: state
                .fence_orders
                .get(idc)
                .map(|order| order.value.to_string()),
            message: message(facts, idc),
        }
    };
    facts
        .unit
        .spec
        .members
        .iter()
        .map(|member| summarise(&member.idc))
        .collect()
}

/// The IDC that holds the primary, open or not.
pub fn holder(state: &UnitState) -> Option<&IdcName> {
    state.primary.as_ref().map(|primary| &primary.value.idc)
}

/// Whether a member accepts writes, by what was written to etcd last: what its arbiter says when it
/// is asked may be seconds old. `None` where what is known is older than the present primary.
pub fn writable(facts: &Facts<'_>, state: &UnitState, idc: &IdcName) -> Option<bool> {
    let record = state
        .members
        .get(idc)
        .filter(|record| record.value.reachable)?;
    let primary = state.primary.as_ref();
    let newer = primary.is_none_or(|primary| record.revision > primary.revision);
    let holds = primary.is_some_and(|primary| primary.value.idc == *idc);
    if open_primary(state) == Some(idc) {
        // It announced that it is open in the present epoch; it may have been fenced since.
        Some(!(newer && record.value.fenced))
    } else if record.value.fenced {
        Some(false)
    } else if newer && !holds {
        Some(true)
    } else {
        // It is being opened, or the primary moved away with the proof of a fence that this record
        // does not show yet.
        facts.fresh_member(idc).map(|said| said.writable)
    }
}

/// How far a member is behind, in milliseconds, for people. While the link from the primary
/// streams, its own lag is the better figure: the age of the newest heartbeat, by which candidates
/// are judged, is up to a heartbeat's interval where nothing lags at all.
fn lag(facts: &Facts<'_>, state: &UnitState, idc: &IdcName) -> Option<u64> {
    let from = &state.epoch.as_ref()?.value.idc;
    if from == idc {
        return None;
    }
    let age = facts.member_now(idc)?.lag_millis?;
    let link = facts.links.iter().find(|link| {
        link.ends
            .as_ref()
            .is_some_and(|(source, target)| source == from && target == idc)
    });
    let interval = facts.unit.spec.health_checks.heartbeat.interval.as_millis();
    match link.and_then(|link| link.streams) {
        // Heartbeats arrive as they are written. When they do not, something holds the link up,
        // whatever it says of itself.
        Some(streams) if age <= 2 * interval + streams => Some(streams),
        // Any age up to that says no more than that they arrive.
        _ if age <= interval => Some(interval),
        _ => Some(age),
    }
}

/// What is worth saying of a member; nothing while all is well.
fn message(facts: &Facts<'_>, idc: &IdcName) -> Option<String> {
    match facts.words.get(idc) {
        Some(Some(Err(error))) => Some(format!("The arbiter of {idc} does not answer: {error}")),
        _ => facts
            .fresh_member(idc)
            .filter(|member| !member.message.is_empty())
            .map(|member| member.message.clone()),
    }
}

/// A receipt as people read it.
fn transition(key: &UnitKey, receipt: &Receipt) -> LastTransition {
    LastTransition {
        kind: kind_name(receipt.kind).to_owned(),
        from: receipt.from.clone(),
        to: receipt.to.clone(),
        epoch: receipt.epoch.0,
        reason: receipt.reason.clone(),
        message: receipt.message.clone(),
        at: Time(
            Timestamp::from_second(receipt.opened_at.as_second()).unwrap_or(receipt.opened_at),
        ),
        write_pause: receipt.write_pause_millis.map(Duration::from_millis),
        receipt: format!(
            "mactl receipt {} {} -n {}",
            key.name(),
            receipt.epoch,
            key.namespace()
        ),
    }
}

/// The name of a kind of transition.
pub fn kind_name(kind: TransitionKind) -> &'static str {
    match kind {
        TransitionKind::First => "First",
        TransitionKind::Switchover => "Switchover",
        TransitionKind::Failover => "Failover",
        TransitionKind::Retake => "Retake",
    }
}

/// A text that others wrote, with a full stop, so that more can follow it.
pub fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

/// Whether a new status is worth a write: whatever is more than a figure at once, figures beyond
/// a tolerance when their time has come, positions never by themselves. That a lag is known, or is
/// over, is more than a figure.
pub fn worth_writing(old: &UnitStatus, new: &UnitStatus, figures_due: bool) -> bool {
    let words = |status: &UnitStatus| {
        let mut status = status.clone();
        status.lag = None;
        for member in &mut status.members {
            member.lag = None;
            member.position = None;
        }
        status
    };
    let figures = |status: &UnitStatus| {
        let members = status.members.iter().map(|member| lag_class(member.lag));
        (lag_class(status.lag), members.collect::<Vec<_>>())
    };
    let lag_of = |idc: &IdcName| {
        let found = old.members.iter().find(|member| member.idc == *idc);
        found.and_then(|member| member.lag)
    };
    let told = new.members.iter().any(|member| {
        let (before, after) = (lag_class(lag_of(&member.idc)), lag_class(member.lag));
        before.is_some() != after.is_some() || (before > Some(1) && after <= Some(1))
    });
    words(old) != words(new) || told || (figures_due && figures(old) != figures(new))
}

/// Lags in classes: below a tenth of a second, below one, then doubling: below two, four, ...
/// seconds.
pub fn lag_class(lag: Option<Duration>) -> Option<u32> {
    lag.map(|lag| match lag.as_millis() {
        0..100 => 0,
        100..1000 => 1,
        millis => (millis / 1000).ilog2() + 2,
    })
}

/// What is worth an Event.
pub fn notices(old: &UnitStatus, new: &UnitStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut say = |warning, reason: &str, note: String| {
        notices.push(Notice {
            warning,
            reason: reason.to_owned(),
            note,
        });
    };
    if let Some(primary) = &new.primary
        && (old.primary.as_ref() != Some(primary) || old.epoch != new.epoch)
    {
        let epoch = new.epoch.unwrap_or_default();
        say(
            false,
            "PrimaryOpen",
            format!("{primary} takes the writes, epoch {epoch}."),
        );
    }
    if let (Some(primary), None) = (&old.primary, &new.primary) {
        say(
            true,
            "PrimaryGone",
            format!("{primary} does not take the writes any more."),
        );
    }
    if let Some(transition) = &new.last_transition
        && old.last_transition.as_ref() != Some(transition)
    {
        let pause = transition
            .write_pause
            .map_or_else(String::new, |pause| format!(" Writes stopped for {pause}."));
        let note = format!(
            "{}{pause} See `{}`.",
            transition.message, transition.receipt
        );
        say(false, &transition.kind, note);
    }
    // A Unit that has never had a primary has told what it waits for already.
    let had_one = new.epoch.is_some();
    if had_one && new.phase == Some(UnitPhase::NoPrimary) && old.phase != new.phase {
        let ready = condition(&new.conditions, "Ready");
        let note = ready.map(|ready| ready.message.clone()).unwrap_or_default();
        say(true, "NoPrimary", note);
    }
    let deleting = |status: &UnitStatus| {
        let found = condition(&status.conditions, "Progressing");
        found
            .filter(|found| found.reason == "Deleting")
            .map(|found| found.message.clone())
    };
    if let Some(wait) = deleting(new).filter(|wait| deleting(old).as_ref() != Some(wait)) {
        say(true, "Deleting", wait);
    }
    for kind in ["PreflightPassed", "Degraded"] {
        let bad = if kind == "Degraded" { "True" } else { "False" };
        let Some(after) = condition(&new.conditions, kind) else {
            continue;
        };
        let before = condition(&old.conditions, kind);
        let known = before.is_some_and(|before| {
            (&before.status, &before.reason) == (&after.status, &after.reason)
        });
        if after.status == bad && !known {
            say(true, &after.reason, after.message.clone());
        }
    }
    notices
}
