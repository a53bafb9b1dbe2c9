//! What a switchover or failover would do, decided from what was read: pure functions.
//!
//! The arbiters judge again before anything is touched, by fresher facts than ours; these checks
//! are there so that people are told beforehand, and so that nothing hopeless is asked for.

mod after;
mod failover;
mod fence;
mod lacks;
mod switchover;

#[cfg(test)]
mod tests;

pub use after::not_known_yet;
pub use failover::{FailoverRequest, failover};
pub use fence::{FencePlan, fence};
pub use lacks::{Lack, lacks};
pub use switchover::{SwitchoverRequest, switchover};

use model::{Epoch, IdcName, Severity, UnitKey};

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::names;
use crate::view::{MemberView, ReceiptView, RequestView, UnitView};

/// What to do about a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// What is asked for is already so.
    AlreadySo(String),
    /// The same was asked for before and is under way: follow that.
    Follow(RequestView, Plan),
    /// Ask for it.
    Begin(Plan),
}

/// A request that can be made.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The Unit.
    pub unit: UnitKey,
    /// Nothing may be lost.
    pub planned: bool,
    /// The primary now.
    pub from: Option<IdcName>,
    /// Where it goes; `None`: the rules choose.
    pub to: Option<IdcName>,
    /// The epoch now: the request is void once it is another.
    pub epoch: Epoch,
    /// Failover only: promote even if writes may be missing.
    pub allow_data_loss: bool,
    /// Failover only: the request is void if there is a primary when it is made or carried out.
    pub expect_no_primary: bool,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What will happen, as sentences.
    pub sentences: Vec<String>,
    /// What may be lost, as a sentence; `None`: nothing.
    pub loss: Option<String>,
    /// What the new primary lacks, or may lack, since links have left it out. Where the rules choose
    /// it: what each that may become it lacks. None of it stands against the request.
    pub lacks: Vec<Lack>,
    /// How long nothing will be writable; `None` where that cannot be told.
    pub predicted_pause: Option<Prediction>,
}

impl Plan {
    /// The failed checks as a refusal, if there are any.
    pub fn refusal(&self) -> Option<Failure> {
        let failed: Vec<&Check> = self
            .checks
            .iter()
            .filter(|check| check.verdict == Verdict::Failed)
            .collect();
        if failed.is_empty() {
            return None;
        }
        let reasons: Vec<&str> = failed.iter().map(|check| check.message.as_str()).collect();
        let steps = failed.iter().flat_map(|check| check.next.iter().cloned());
        Some(Failure::refused(self.not_begun(), reasons.join("; ")).next_all(steps))
    }

    /// The beginning of a message that says it was not begun.
    pub fn not_begun(&self) -> String {
        not_begun(&self.unit, self.planned, self.to.as_ref())
    }

    /// What the request waits for first.
    pub fn waits_for(&self) -> String {
        match (&self.to, self.planned) {
            (Some(to), _) => format!("the arbiter of {to} checks its side"),
            (None, true) => "the target's arbiter checks its side".to_owned(),
            (None, false) => "the arbiters find the most advanced copy".to_owned(),
        }
    }

    /// The primary that must still be it when the request is carried out.
    ///
    /// A failover to a named IDC has none: the primary that was seen is believed lost, so that it
    /// is gone by then is what is wanted. A failover that leaves the choice to the rules has: a
    /// second one, asked for by somebody who has not seen the first, must not move the new primary.
    pub fn expected_primary(&self) -> Option<IdcName> {
        if self.planned || (self.to.is_none() && !self.expect_no_primary) {
            self.from.clone()
        } else {
            None
        }
    }

    /// Whether the primary may be another one when the request is made than when it was planned:
    /// the lost one's key goes with its lease. The epoch is compared all the same.
    pub fn takes_any_primary(&self) -> bool {
        !self.expect_no_primary && self.expected_primary().is_none()
    }

    /// The command that asks for the same again, or takes up following it.
    pub fn command(&self) -> String {
        let what = if self.planned {
            "switchover"
        } else {
            "failover"
        };
        let to = self
            .to
            .as_ref()
            .map(|to| format!(" --to {to}"))
            .unwrap_or_default();
        let loss = if self.allow_data_loss {
            " --allow-data-loss"
        } else {
            ""
        };
        let none = if self.expect_no_primary {
            " --expect-no-primary"
        } else {
            ""
        };
        format!("{what} {}{to}{loss}{none}", self.unit)
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// How it came out.
    pub verdict: Verdict,
    /// What was looked at and what was seen, as a sentence without a full stop.
    pub message: String,
    /// What to do if it did not pass.
    pub next: Vec<String>,
}

impl Check {
    fn new(verdict: Verdict, message: impl Into<String>) -> Self {
        Self {
            verdict,
            message: message.into(),
            next: Vec::new(),
        }
    }

    fn passed(message: impl Into<String>) -> Self {
        Self::new(Verdict::Passed, message)
    }

    fn unknown(message: impl Into<String>) -> Self {
        Self::new(Verdict::Unknown, message)
    }

    fn failed(message: impl Into<String>) -> Self {
        Self::new(Verdict::Failed, message)
    }

    fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// Not known here; an arbiter will look before anything is touched.
    Unknown,
    /// It stands against it.
    Failed,
}

/// How long writes are expected to stop.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    /// In milliseconds.
    pub millis: u64,
    /// What the figure rests on.
    pub basis: String,
}

/// What fencing, handing over and promoting may take together in a planned switchover: the limit
/// that the project holds itself to under load (99th percentile), in milliseconds.
const SWITCHOVER_LIMIT_MILLIS: u64 = 500;

/// Predicts the write pause of a planned switchover: by the earlier ones of this Unit, otherwise by
/// the target's lag and the limit of everything else.
fn predicted_pause(lag_millis: Option<u64>, receipts: &[ReceiptView]) -> Option<Prediction> {
    let mut earlier: Vec<u64> = receipts
        .iter()
        .filter(|receipt| receipt.kind == "Switchover")
        .filter_map(|receipt| receipt.write_pause_millis)
        .take(5)
        .collect();
    earlier.sort_unstable();
    if let Some(median) = earlier.get(earlier.len() / 2) {
        let basis = match earlier.len() {
            1 => "as measured at the last switchover of this Unit".to_owned(),
            number => format!("the median of this Unit's last {number} switchovers"),
        };
        return Some(Prediction {
            millis: *median,
            basis,
        });
    }
    // The target is nearly level before the fence begins, so its lag now is an upper bound of what
    // is left to apply.
    lag_millis.map(|lag| Prediction {
        millis: lag + SWITCHOVER_LIMIT_MILLIS,
        basis: format!(
            "at most: the lag of {} and {} for fence, hand-over and promotion",
            crate::render::millis(lag),
            crate::render::millis(SWITCHOVER_LIMIT_MILLIS)
        ),
    })
}

fn not_begun(unit: &UnitKey, planned: bool, to: Option<&IdcName>) -> String {
    let what = if planned {
        "switched over"
    } else {
        "failed over"
    };
    let to = to.map(|to| format!(" to {to}")).unwrap_or_default();
    format!("Unit {unit} was not {what}{to}")
}

/// The member in an IDC, or a failure that lists those the Unit has.
fn member<'a>(
    unit: &'a UnitView,
    to: &IdcName,
    planned: bool,
    call: &Invocation,
) -> Result<&'a MemberView, Failure> {
    if let Some(member) = unit.member(to) {
        return Ok(member);
    }
    let known: Vec<&str> = unit.idcs().map(IdcName::as_str).collect();
    let failure = Failure::failed(
        not_begun(&unit.unit, planned, Some(to)),
        format!(
            "it has no member in IDC {to}; its members are in {}",
            known.join(", ")
        ),
    );
    let what = if planned { "switchover" } else { "failover" };
    let similar = names::similar_words(to.as_str(), known.iter().copied());
    let replicas: Vec<&str> = match similar.as_slice() {
        [] => known
            .into_iter()
            .filter(|idc| {
                unit.primary
                    .as_ref()
                    .is_none_or(|primary| primary.as_str() != *idc)
            })
            .collect(),
        similar => similar.to_vec(),
    };
    Err(failure.next_all(
        replicas
            .iter()
            .map(|idc| call.own(&format!("{what} {} --to {idc}", unit.unit))),
    ))
}

/// A request that is already under way: the same is followed, another one is in the way of a
/// switchover. A failover takes the place of whatever is under way, since it is the way out of what
/// is stuck.
fn under_way(
    unit: &UnitView,
    planned: bool,
    allow_data_loss: bool,
    to: Option<&IdcName>,
    call: &Invocation,
) -> Result<Option<RequestView>, Failure> {
    let Some(request) = unit
        .under_way
        .as_ref()
        .filter(|request| !request.progress.is_final())
    else {
        return Ok(None);
    };
    let alike = request.planned == planned && request.allow_data_loss == allow_data_loss;
    if alike && (request.to.as_ref() == to || to.is_none()) {
        return Ok(Some(request.clone()));
    }
    if !planned {
        return Ok(None);
    }
    let what = if request.planned {
        "switchover"
    } else {
        "failover"
    };
    let target = request
        .to
        .as_ref()
        .map(|to| format!(" to {to}"))
        .unwrap_or_default();
    Err(Failure::refused(
        not_begun(&unit.unit, planned, to),
        format!("a {what}{target} is under way ({})", request.id),
    )
    .next(call.own(&format!("status {}", unit.unit))))
}

/// Checks of a member that is to take over, whatever the reason.
fn candidate_checks(unit: &UnitView, member: &MemberView, call: &Invocation) -> Vec<Check> {
    let idc = &member.idc;
    let mut checks = Vec::new();
    checks.extend(member.fence_order.as_ref().map(|order| {
        Check::failed(format!("{idc} was fenced {order}"))
            .next(call.own(&format!("unfence {} {idc}", unit.unit)))
    }));
    checks.push(match member.reachable {
        Some(true) => Check::passed(format!("the database of {idc} answers its arbiter")),
        Some(false) => Check::failed(format!(
            "the database of {idc} ({}) does not answer its arbiter{}",
            member.endpoint,
            remark(&member.message)
        ))
        .next(call.own(&format!("preflight {}", unit.unit))),
        None => Check::unknown(format!(
            "whether the database of {idc} answers is not known{}",
            remark(&member.message)
        )),
    });
    let blocking: Vec<String> = member
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Blocking)
        .map(ToString::to_string)
        .collect();
    let preflight = call.own(&format!("preflight {}", unit.unit));
    checks.push(match (blocking.is_empty(), member.preflight_passed) {
        (false, _) => {
            Check::failed(format!("preflight of {idc}: {}", blocking.join("; "))).next(preflight)
        }
        (true, Some(false)) => {
            Check::failed(format!("preflight of {idc} has not passed")).next(preflight)
        }
        (true, _) => Check::passed(format!("no finding of preflight stands against {idc}")),
    });
    checks
}

fn remark(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(" ({message})")
    }
}
