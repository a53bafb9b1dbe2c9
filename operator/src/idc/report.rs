//! What an Idc's status says: a pure function of what was observed.

use crds::{ArbiterSummary, Idc, IdcStatus, ReachedMember, Verdict, condition, merge_conditions};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::{ArbiterStatus, IdcName, SessionRecord, UnitKey};
use topology::TopologyState;

use super::plan::arbiter_name;
use crate::cluster::Notice;
use crate::reports::Word;

/// What was observed.
pub struct Facts<'a> {
    /// The IDC.
    pub name: &'a IdcName,
    /// etcd, once seen.
    pub state: Option<&'a TopologyState>,
    /// Why etcd cannot be followed.
    pub etcd_trouble: Option<String>,
    /// What the arbiter says.
    pub word: Word<ArbiterStatus>,
    /// The arbiter's Deployment.
    pub deployment: Option<&'a Deployment>,
    /// What keeps the Idc from being brought to where it should be: reason and message.
    pub problem: Option<(&'static str, String)>,
    /// Whether its pods run in this cluster.
    pub here: bool,
    /// The condition `TopologyAgreed` where each IDC has a cluster of its own.
    pub agreed: Option<Verdict>,
}

/// The status.
pub fn status(idc: &Idc, facts: &Facts<'_>, now: Timestamp) -> IdcStatus {
    let old = idc.status.clone().unwrap_or_default();
    let Some(state) = facts.state else {
        // Nothing is known of etcd, so what was known stays.
        let verdicts = verdicts(facts, false, &old.members);
        return IdcStatus {
            observed_generation: idc.metadata.generation,
            conditions: merge_conditions(&old.conditions, &verdicts, idc.metadata.generation, now),
            ..old
        };
    };
    let session = state.sessions.get(facts.name).map(|session| &session.value);
    let members = members(facts.name, state);
    let reached = members.iter().filter(|member| member.reachable).count();
    let verdicts = verdicts(facts, session.is_some(), &members);
    IdcStatus {
        observed_generation: idc.metadata.generation,
        arbiter: Some(arbiter(session, old.arbiter, now)),
        reaches: Some(format!("{reached}/{}", members.len())),
        primaries: primaries(facts.name, state),
        members,
        conditions: merge_conditions(&old.conditions, &verdicts, idc.metadata.generation, now),
    }
}

fn arbiter(
    session: Option<&SessionRecord>,
    old: Option<ArbiterSummary>,
    now: Timestamp,
) -> ArbiterSummary {
    if let Some(session) = session {
        return ArbiterSummary {
            state: "Active".to_owned(),
            holder: Some(session.holder.clone()),
            version: Some(session.version.clone()),
            last_heartbeat: None,
        };
    }
    match old {
        Some(old) if old.state == "Active" => ArbiterSummary {
            state: "Lost".to_owned(),
            last_heartbeat: Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
            ..old
        },
        Some(old) => old,
        None => ArbiterSummary {
            state: "Starting".to_owned(),
            holder: None,
            version: None,
            last_heartbeat: None,
        },
    }
}

/// The members of this IDC as etcd tells: what the arbiter says there is known to everybody.
fn members(name: &IdcName, state: &TopologyState) -> Vec<ReachedMember> {
    let member = |key: &UnitKey| {
        let unit = state.unit(key);
        unit.unit.as_ref()?.value.member(name)?;
        let record = unit.members.get(name);
        Some(ReachedMember {
            unit: key.to_string(),
            reachable: record.is_some_and(|record| record.value.reachable),
        })
    };
    state.unit_keys().filter_map(member).collect()
}

fn primaries(name: &IdcName, state: &TopologyState) -> u32 {
    let held = state.unit_keys().filter(|key| {
        state
            .unit(key)
            .primary
            .is_some_and(|primary| primary.value.idc == *name)
    });
    u32::try_from(held.count()).unwrap_or(u32::MAX)
}

fn verdicts(facts: &Facts<'_>, session: bool, members: &[ReachedMember]) -> Vec<Verdict> {
    let ready = ready(facts, session);
    let progressing = if ready.status == Some(true) {
        Verdict::no("Progressing", "Settled", "")
    } else if facts.problem.is_some() {
        Verdict::no(
            "Progressing",
            ready.reason.clone(),
            "Waits for a person or for a change.",
        )
    } else {
        Verdict::yes("Progressing", ready.reason.clone(), ready.message.clone())
    };
    let lost: Vec<&str> = members
        .iter()
        .filter(|member| !member.reachable)
        .map(|member| member.unit.as_str())
        .collect();
    let degraded = if !session && facts.state.is_some() {
        Verdict::yes("Degraded", "NoArbiter", no_arbiter(facts))
    } else if lost.is_empty() {
        Verdict::no("Degraded", "AllReached", "")
    } else {
        Verdict::yes(
            "Degraded",
            "MemberUnreachable",
            format!(
                "The arbiter does not reach its member of {}.",
                lost.join(", ")
            ),
        )
    };
    let mut all = vec![ready, progressing, degraded];
    all.extend(facts.agreed.clone());
    all
}

fn ready(facts: &Facts<'_>, session: bool) -> Verdict {
    if let Some((reason, message)) = &facts.problem {
        return Verdict::no("Ready", *reason, message.clone());
    }
    if let Some(trouble) = &facts.etcd_trouble {
        return Verdict::unknown("Ready", "EtcdUnreachable", trouble.clone());
    }
    if facts.state.is_none() {
        return Verdict::unknown("Ready", "Starting", "etcd has not been read yet.");
    }
    if session {
        Verdict::yes(
            "Ready",
            "ArbiterActive",
            "The arbiter holds its session in etcd.",
        )
    } else {
        Verdict::no("Ready", "NoArbiter", no_arbiter(facts))
    }
}

/// Why there may be no arbiter: from what the process says, or from its Deployment.
fn no_arbiter(facts: &Facts<'_>) -> String {
    let name = arbiter_name(facts.name);
    if !facts.here {
        return format!(
            "No session of the arbiter of {} is in etcd. It runs in the cluster of {}, where its Idc \
             tells why.",
            facts.name, facts.name
        );
    }
    if let Some(Ok(said)) = &facts.word {
        let session = if said.session {
            "it has just begun one"
        } else {
            "it has none"
        };
        return format!(
            "The arbiter runs, but no session of it is in etcd ({session}). See the log of \
             Deployment {name}."
        );
    }
    let available = facts
        .deployment
        .and_then(|deployment| deployment.status.as_ref()?.available_replicas)
        .unwrap_or(0);
    if available > 0 {
        format!("Deployment {name} is available, but its arbiter has no session in etcd yet.")
    } else {
        format!(
            "Deployment {name} has no available pod. `kubectl describe deployment {name}` and its \
             pod's events tell why; check spec.scheduling.nodeSelector of Idc {} against the labels \
             of nodes.",
            facts.name
        )
    }
}

/// What is worth an Event.
pub fn notices(old: Option<&IdcStatus>, new: &IdcStatus) -> Vec<Notice> {
    let state = |status: Option<&IdcStatus>| {
        status.and_then(|status| status.arbiter.as_ref().map(|arbiter| arbiter.state.clone()))
    };
    let mut notices = Vec::new();
    let (before, after) = (state(old), state(Some(new)));
    if before != after && after.as_deref() == Some("Active") {
        notices.push(Notice {
            warning: false,
            reason: "ArbiterActive".to_owned(),
            note: "The arbiter holds its session in etcd.".to_owned(),
        });
    }
    if before != after && after.as_deref() == Some("Lost") {
        let ready = condition(&new.conditions, "Ready");
        notices.push(Notice {
            warning: true,
            reason: "ArbiterLost".to_owned(),
            note: ready.map(|ready| ready.message.clone()).unwrap_or_default(),
        });
    }
    notices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn facts<'a>(
        name: &'a IdcName,
        state: Option<&'a TopologyState>,
        trouble: Option<&str>,
    ) -> Facts<'a> {
        Facts {
            name,
            state,
            etcd_trouble: trouble.map(str::to_owned),
            word: None,
            deployment: None,
            problem: None,
            here: true,
            agreed: None,
        }
    }

    fn with_session(name: &IdcName) -> TopologyState {
        let mut state = TopologyState::default();
        let session = samples::state().sessions[name].clone();
        state.sessions.insert(name.clone(), session);
        state
    }

    #[test]
    fn an_arbiter_is_active_then_lost_and_its_last_sign_of_life_is_kept() {
        let name = samples::idc_name("sh");
        let mut idc = samples::idc("sh");
        let at = |second| Timestamp::from_second(second).unwrap();
        let (there, gone) = (with_session(&name), TopologyState::default());
        let active = status(&idc, &facts(&name, Some(&there), None), at(1));
        assert_eq!(active.arbiter.as_ref().unwrap().state, "Active");
        assert_eq!(
            condition(&active.conditions, "Ready").unwrap().status,
            "True"
        );
        idc.status = Some(active.clone());
        let lost = status(&idc, &facts(&name, Some(&gone), None), at(7));
        assert_eq!(
            lost.arbiter.as_ref().unwrap().last_heartbeat,
            Some(Time(at(7)))
        );
        assert_eq!(notices(Some(&active), &lost)[0].reason, "ArbiterLost");
        idc.status = Some(lost.clone());
        // Nothing new: nothing to write.
        assert_eq!(status(&idc, &facts(&name, Some(&gone), None), at(99)), lost);
    }

    #[test]
    fn etcd_out_of_reach_takes_nothing_back() {
        let name = samples::idc_name("sh");
        let mut idc = samples::idc("sh");
        let now = Timestamp::from_second(1).unwrap();
        let state = with_session(&name);
        idc.status = Some(status(&idc, &facts(&name, Some(&state), None), now));
        let blind = status(&idc, &facts(&name, None, Some("no etcd")), now);
        assert_eq!(blind.arbiter, idc.status.unwrap().arbiter);
        assert_eq!(
            condition(&blind.conditions, "Ready").unwrap().status,
            "Unknown"
        );
    }
}
