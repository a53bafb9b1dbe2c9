//! What to do about a `DataRepair`: a pure function of the object, its Unit and links, what etcd
//! holds, and what the workers said.

mod targets;

use std::time::Duration;

use crds::{
    DataRepair, DataRepairPhase, DataRepairStatus, RepairStrategy, Schedule, SyncLink, Unit,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use model::{Epoch, IdcName, LinkKey, RepairControl, RepairStatus, UnitKey, UnitState};

use super::report;
use crate::reports::Word;
use targets::targets;

/// How long a worker may take to say itself that the primary has moved, with what it did until then.
const LAST_WORD: Duration = Duration::from_secs(20);

/// What was observed.
pub struct Facts<'a> {
    /// The request.
    pub repair: &'a DataRepair,
    /// The Unit that it is about, with the spec in force.
    pub unit: Option<(&'a UnitKey, &'a Unit)>,
    /// The Units and links of the namespace, for messages.
    pub known: [Vec<String>; 2],
    /// The links of the Unit.
    pub links: &'a [std::sync::Arc<SyncLink>],
    /// etcd's part; `None`: it was not read yet.
    pub state: Option<&'a UnitState>,
    /// Whether what belongs into an IDC runs in this cluster.
    pub here: &'a dyn Fn(&IdcName) -> bool,
    /// The last word of a link's worker.
    pub word: &'a dyn Fn(&LinkKey) -> Word<RepairStatus>,
    /// How long ago it was first seen that the primary has moved.
    pub moved_for: &'a dyn Fn() -> Duration,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing: it has finished. It is deleted at this time.
    Finished {
        /// The end of its TTL.
        delete_at: Timestamp,
    },
    /// Write this status, and look again at the next change or after this time.
    Report(Box<DataRepairStatus>, Option<Duration>),
}

/// What a person wants of it; the error is the sentence for a word that is none, which pauses.
pub fn control(repair: &DataRepair) -> (RepairControl, Option<String>) {
    match repair.annotations().get(crds::CONTROL).map(String::as_str) {
        None | Some("Run") => (RepairControl::Run, None),
        Some("Pause") => (RepairControl::Pause, None),
        Some("Stop") => (RepairControl::Stop, None),
        Some(other) => (
            RepairControl::Pause,
            Some(format!(
                "It is paused, since annotation {} is {other:?}: set it to Run, Pause or Stop.",
                crds::CONTROL
            )),
        ),
    }
}

/// Whether a run was begun and has not ended.
pub fn under_way(status: &DataRepairStatus) -> bool {
    status.run.is_some() && status.start_time.is_some() && status.completion_time.is_none()
}

/// Decides.
pub fn decide(facts: &Facts<'_>, now: Timestamp) -> Decision {
    let old = facts.repair.status.clone().unwrap_or_default();
    if let Some(done) = old.completion_time.as_ref().filter(|_| is_final(&old)) {
        let ttl = Duration::from(facts.repair.spec.ttl_after_finished);
        let delete_at = done.0.checked_add(ttl).unwrap_or(Timestamp::MAX);
        return Decision::Finished { delete_at };
    }
    if under_way(&old) {
        return follow(facts, &old, now);
    }
    let schedule = match unsupported(facts.repair) {
        Ok(schedule) => schedule,
        Err(reason) => {
            let mut status = ended(facts.repair, &old, DataRepairPhase::Refused, reason, now);
            status.next_schedule_time = None;
            return Decision::Report(Box::new(status), None);
        }
    };
    let (control, odd) = control(facts.repair);
    if control == RepairControl::Stop {
        let message = "A person stopped it before anything was begun.".to_owned();
        let mut status = ended(facts.repair, &old, DataRepairPhase::Stopped, message, now);
        status.next_schedule_time = None;
        return Decision::Report(Box::new(status), None);
    }
    let next = schedule.as_ref().and_then(|times| times.after(now));
    let due = match &schedule {
        None => Some(None),
        Some(times) => times
            .until(now)
            .filter(|at| *at > anchor(facts.repair, &old))
            .map(Some),
    };
    let wait = next.map(|next| next.duration_since(now).unsigned_abs() + Duration::from_secs(1));
    let waiting = |phase, message: String| DataRepairStatus {
        phase: Some(phase),
        message: Some(message),
        next_schedule_time: next.map(Time),
        ..old.clone()
    };
    if control == RepairControl::Pause {
        let message = odd.unwrap_or_else(|| "A person paused it.".to_owned());
        return Decision::Report(Box::new(waiting(DataRepairPhase::Paused, message)), None);
    }
    let Some(due) = due else {
        let status = idle(&old, waiting, next);
        return Decision::Report(Box::new(status), wait);
    };
    let Some(state) = facts.state else {
        let message = "etcd has not been read yet.".to_owned();
        let status = waiting(DataRepairPhase::Pending, message);
        return Decision::Report(Box::new(status), Some(Duration::from_secs(2)));
    };
    let status = begin(facts, &old, state, due, next, now);
    Decision::Report(Box::new(status), wait)
}

/// One that waits for its next time says how the run before ended, if there was one.
fn idle(
    old: &DataRepairStatus,
    waiting: impl FnOnce(DataRepairPhase, String) -> DataRepairStatus,
    next: Option<Timestamp>,
) -> DataRepairStatus {
    if let Some(last) = &old.last_run {
        return waiting(last.phase, last.message.clone());
    }
    let next = next.map_or("never".to_owned(), |next| format!("at {next}"));
    waiting(DataRepairPhase::Pending, format!("It runs first {next}."))
}

/// Whether nothing will happen any more: what is repeated has a next time.
fn is_final(status: &DataRepairStatus) -> bool {
    status.phase.is_some_and(DataRepairPhase::is_over) && status.next_schedule_time.is_none()
}

/// Times up to this one were run, or lie before the object was made.
fn anchor(repair: &DataRepair, old: &DataRepairStatus) -> Timestamp {
    let last = old.last_schedule_time.as_ref().map(|time| time.0);
    let made = repair.creation_timestamp().map(|time| time.0);
    last.or(made).unwrap_or(Timestamp::MIN)
}

/// The schedule, or what of the spec is not carried out.
fn unsupported(repair: &DataRepair) -> Result<Option<Schedule>, String> {
    let spec = &repair.spec;
    if spec.strategy == Some(RepairStrategy::TargetWins) {
        return Err(
            "spec.strategy TargetWins is not supported: the copy's rows would have to be written \
             to the primary. Choose Primary, SourceWins or Hold in a new DataRepair."
                .to_owned(),
        );
    }
    if spec.max_batch_size.as_bytes() < 1024 {
        return Err(format!(
            "spec.maxBatchSize is {}: give at least 1KiB in a new DataRepair.",
            spec.max_batch_size
        ));
    }
    let schedule = spec.schedule.as_ref().map(|text| text.parse::<Schedule>());
    schedule.transpose().map_err(|error| {
        format!("spec.schedule {error}. Correct it in a new DataRepair, for example 0 3 * * *.")
    })
}

/// The run's name: the object's UID makes it unlike that of an earlier one of the same name.
fn run_name(repair: &DataRepair, due: Option<Timestamp>) -> String {
    if let Some(run) = &repair.spec.run {
        return run.clone();
    }
    let name: String = repair.name_any().chars().take(60).collect();
    let at = due.map(|at| at.strftime("@%Y%m%dT%H%MZ").to_string());
    let uid = repair.uid().unwrap_or_default();
    format!("{name}/{uid}{}", at.unwrap_or_default())
}

fn begin(
    facts: &Facts<'_>,
    old: &DataRepairStatus,
    state: &UnitState,
    due: Option<Timestamp>,
    next: Option<Timestamp>,
    now: Timestamp,
) -> DataRepairStatus {
    let fresh = DataRepairStatus {
        run: Some(run_name(facts.repair, due)),
        start_time: Some(whole_second(now)),
        last_schedule_time: due.map(Time).or(old.last_schedule_time.clone()),
        next_schedule_time: next.map(Time),
        last_run: old.last_run.clone(),
        conditions: old.conditions.clone(),
        ..DataRepairStatus::default()
    };
    match targets(facts, state) {
        Err(reason) => ended(facts.repair, &fresh, DataRepairPhase::Refused, reason, now),
        Ok((links, elsewhere)) => DataRepairStatus {
            phase: Some(DataRepairPhase::Running),
            message: Some(format!("It is being started.{elsewhere}")),
            epoch: Some(epoch(state).0),
            counts: Some(crds::RepairCounts::default()),
            links,
            ..fresh
        },
    }
}

fn epoch(state: &UnitState) -> Epoch {
    let epoch = state.epoch.as_ref();
    epoch.map_or(Epoch::NONE, |epoch| epoch.value.epoch)
}

fn follow(facts: &Facts<'_>, old: &DataRepairStatus, now: Timestamp) -> Decision {
    let namespace = facts.repair.namespace().unwrap_or_default();
    let moved = facts
        .state
        .and_then(|state| moved(facts.repair, state, old));
    let mut again = None;
    let mut links = Vec::new();
    for link in &old.links {
        let mut link = link.clone();
        if !link.phase.is_over() {
            let word = LinkKey::new(&namespace, &link.link).ok();
            let word = word.and_then(|key| (facts.word)(&key));
            let run = old.run.as_deref().unwrap_or_default();
            report::heard(&mut link, run, word.as_ref());
            let exists = facts.links.iter().any(|it| it.name_any() == link.link);
            let why = match (&moved, facts.unit) {
                (_, None) => Some("The Unit was deleted.".to_owned()),
                _ if !exists => Some("The SyncLink was deleted.".to_owned()),
                (Some(why), _) if (facts.moved_for)() >= LAST_WORD => Some(why.clone()),
                (Some(_), _) => {
                    again = Some(Duration::from_secs(2));
                    None
                }
                (None, _) => None,
            };
            if let Some(why) = why.filter(|_| !link.phase.is_over()) {
                (link.phase, link.message, link.remaining) = (DataRepairPhase::Refused, why, None);
            }
        }
        links.push(link);
    }
    let (_, odd) = control(facts.repair);
    let status = report::summed(facts.repair, old, links, odd);
    let Some(phase) = status.phase.filter(|phase| phase.is_over()) else {
        return Decision::Report(Box::new(status), again);
    };
    let message = status.message.clone().unwrap_or_default();
    let mut status = ended(facts.repair, &status, phase, message, now);
    if control(facts.repair).0 == RepairControl::Stop {
        status.next_schedule_time = None;
    }
    Decision::Report(Box::new(status), None)
}

fn moved(repair: &DataRepair, state: &UnitState, old: &DataRepairStatus) -> Option<String> {
    let begun = old.epoch.unwrap_or_default();
    let record = state.epoch.as_ref()?;
    let now = &record.value;
    let halts = if repair.spec.mode == crds::RepairMode::Rebuild {
        " A table that was being emptied or copied is not whole: the status of its SyncLink says what \
         to do."
    } else {
        ""
    };
    (now.epoch.0 != begun).then(|| {
        format!(
            "The primary has moved: it was begun in epoch {begun}, and {} holds epoch {}. Create \
             another DataRepair.{halts}",
            now.idc, now.epoch.0
        )
    })
}

/// A run that has ended, with the next time where there is one.
fn ended(
    repair: &DataRepair,
    old: &DataRepairStatus,
    phase: DataRepairPhase,
    message: String,
    now: Timestamp,
) -> DataRepairStatus {
    let completion = whole_second(now);
    let scheduled = repair.spec.schedule.is_some();
    let run = old.run.clone().filter(|_| scheduled);
    let last_run = run.map(|run| crds::RepairRun {
        run,
        phase,
        message: message.clone(),
        completion_time: completion.clone(),
        counts: old.counts,
    });
    DataRepairStatus {
        phase: Some(phase),
        message: Some(message),
        remaining: None,
        completion_time: Some(completion),
        last_run: last_run.or(old.last_run.clone()),
        ..old.clone()
    }
}

fn whole_second(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

#[cfg(test)]
mod tests;
