//! Conditions: one pure function that merges what a reconcile found into what is there.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a reconcile found about one condition, before times are put to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// For example `Ready`.
    pub type_: &'static str,
    /// `Some(true)`, `Some(false)`, or `None` for `Unknown`.
    pub status: Option<bool>,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence that names the object, the value and the fix.
    pub message: String,
}

impl Verdict {
    /// True.
    pub fn yes(type_: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: Some(true),
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// False.
    pub fn no(type_: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: Some(false),
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// Not known.
    pub fn unknown(
        type_: &'static str,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status: None,
            reason: reason.into(),
            message: message.into(),
        }
    }

    fn status_text(&self) -> &'static str {
        match self.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// Merges verdicts into the conditions an object has: `lastTransitionTime` moves only when the
/// status does, and a condition that no verdict speaks of is dropped, so that nothing stale stays.
///
/// The order is that of the verdicts, so equal findings give equal conditions.
pub fn merge_conditions(
    existing: &[Condition],
    verdicts: &[Verdict],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    verdicts
        .iter()
        .map(|verdict| {
            let status = verdict.status_text();
            let unchanged_since = existing
                .iter()
                .find(|old| old.type_ == verdict.type_ && old.status == status)
                .map(|old| old.last_transition_time.clone());
            Condition {
                type_: verdict.type_.to_owned(),
                status: status.to_owned(),
                reason: verdict.reason.clone(),
                message: shorten(&verdict.message),
                observed_generation: generation,
                last_transition_time: unchanged_since.unwrap_or(Time(whole_second(now))),
            }
        })
        .collect()
}

/// The condition of a type, if the object has it.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// The longest message that the convention for conditions allows, in bytes.
const LONGEST_MESSAGE: usize = 32_768;

fn shorten(message: &str) -> String {
    if message.len() <= LONGEST_MESSAGE {
        return message.to_owned();
    }
    let mut end = LONGEST_MESSAGE - "...".len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &message[..end])
}

/// The API keeps whole seconds; anything finer would differ from what is read back.
fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = merge_conditions(
            &[],
            &[Verdict::no("Ready", "Starting", "wait")],
            Some(1),
            at(10),
        );
        let same = merge_conditions(
            &first,
            &[Verdict::no("Ready", "MissingSecret", "create it")],
            Some(2),
            at(20),
        );
        assert_eq!(same[0].last_transition_time, Time(at(10)));
        assert_eq!(same[0].reason, "MissingSecret");
        assert_eq!(same[0].observed_generation, Some(2));
        let turned = merge_conditions(
            &same,
            &[Verdict::yes("Ready", "Ready", "")],
            Some(2),
            at(30),
        );
        assert_eq!(turned[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn equal_findings_give_equal_conditions() {
        let verdicts = [
            Verdict::yes("Ready", "Ready", ""),
            Verdict::unknown("Fenced", "NoArbiter", ""),
        ];
        let first = merge_conditions(&[], &verdicts, Some(1), at(10));
        assert_eq!(merge_conditions(&first, &verdicts, Some(1), at(99)), first);
        assert_eq!(first[1].status, "Unknown");
    }

    #[test]
    fn what_nobody_speaks_of_is_dropped_and_long_messages_are_cut_between_characters() {
        let first = merge_conditions(&[], &[Verdict::yes("Old", "Old", "")], None, at(1));
        let long = "é".repeat(20_000);
        let merged = merge_conditions(&first, &[Verdict::no("Ready", "Long", long)], None, at(2));
        assert_eq!(merged.len(), 1);
        assert!(merged[0].message.len() <= LONGEST_MESSAGE);
        assert!(merged[0].message.ends_with("..."));
    }
}
