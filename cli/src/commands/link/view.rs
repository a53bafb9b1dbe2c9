//! What the status of a `SyncLink` says. Pure.

use crds::{LinkPhase, PositionStatus, SyncLink};
use jiff::Timestamp;
use kube::ResourceExt;
use model::{HaltedAt, IdcName, LinkKey, UnitKey};
use serde::Serialize;

/// The operator's word, as the reason of Ready, for a link whose spec suspends it.
const SUSPENDED: &str = "Suspended";

/// A link as its status tells it, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkReport {
    /// The link.
    pub link: LinkKey,
    /// The Unit that it belongs to.
    pub unit: Option<UnitKey>,
    /// From.
    pub source: IdcName,
    /// To; `None` where that is no IDC.
    pub target: Option<IdcName>,
    /// Whether its spec suspends it.
    pub suspended: bool,
    /// Where it stands; `None` where nothing was reported, or another cluster's object tells it.
    pub phase: Option<LinkPhase>,
    /// Why it is not ready, as one CamelCase word, or what it does.
    pub reason: String,
    /// The same as a sentence.
    pub message: String,
    /// The age of the newest change that arrived, in milliseconds.
    pub lag_millis: Option<u64>,
    /// Changes a second, about.
    pub rate: Option<String>,
    /// How far it is.
    pub position: PositionStatus,
    /// Where each change went.
    pub ledger: Option<LedgerReport>,
    /// The transaction that it is halted at.
    pub halted_at: Option<HaltedAt>,
    /// Changes that are held as conflicts at its target and not settled; `None` where that is not
    /// known.
    pub conflicts_held: Option<u64>,
    /// Transactions that it was made to skip, filed at its target and not settled; `None` where that
    /// is not known.
    pub skipped_open: Option<u64>,
    /// When the operator wrote the status last.
    pub written: Option<Timestamp>,
    /// Whether the status speaks of the spec as it is now.
    #[serde(skip)]
    pub current: bool,
    /// Whether there is a status.
    #[serde(skip)]
    pub reported: bool,
}

/// Where each change that was read went: `read = applied + filtered + held + inFlight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerReport {
    /// Read from the source.
    pub read: u64,
    /// Committed at the target.
    pub applied: u64,
    /// Left out on purpose.
    pub filtered: u64,
    /// Not applied and kept at the target for a person.
    pub held: HeldReport,
    /// None of these yet.
    pub in_flight: u64,
    /// Whether it adds up.
    pub balanced: bool,
}

/// What is kept at the target for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldReport {
    /// All of it.
    pub all: u64,
    /// Held as conflicts.
    pub conflicts: u64,
    /// Of an epoch that had ended (`mactl stranded`).
    pub stranded: u64,
    /// Left out by `mactl link skip`.
    pub skipped: u64,
}

impl LedgerReport {
    fn of(ledger: &crds::LedgerStatus) -> Self {
        let held = HeldReport {
            all: ledger
                .conflicts
                .saturating_add(ledger.stranded)
                .saturating_add(ledger.held),
            conflicts: ledger.conflicts,
            stranded: ledger.stranded,
            skipped: ledger.held,
        };
        let mut report = Self {
            read: ledger.read,
            applied: ledger.applied,
            filtered: ledger.filtered,
            held,
            in_flight: ledger.in_flight,
            balanced: false,
        };
        report.balanced = report.accounted() == u128::from(report.read);
        report
    }

    /// How many changes are accounted for.
    pub fn accounted(&self) -> u128 {
        [self.applied, self.filtered, self.held.all, self.in_flight]
            .into_iter()
            .map(u128::from)
            .sum()
    }
}

impl LinkReport {
    /// What is known of a link; `None` for an object without a proper name.
    pub fn of(link: &SyncLink) -> Option<Self> {
        let namespace = link.namespace()?;
        let key = LinkKey::new(&*namespace, link.name_any()).ok()?;
        let unit = link.spec.unit.as_ref();
        let status = link.status.clone().unwrap_or_default();
        let ready = crds::condition(&status.conditions, "Ready");
        let written = link.managed_fields().iter().filter_map(|entry| {
            let of_status = entry.subresource.as_deref() == Some("status");
            entry.time.as_ref().filter(|_| of_status).map(|time| time.0)
        });
        Some(Self {
            unit: unit.and_then(|unit| UnitKey::new(&*namespace, unit.clone()).ok()),
            link: key,
            source: link.spec.source.idc.clone(),
            target: link.spec.target.idc.clone(),
            suspended: link.spec.suspended,
            phase: status.phase,
            reason: ready.map(|ready| ready.reason.clone()).unwrap_or_default(),
            message: ready.map(|ready| ready.message.clone()).unwrap_or_default(),
            lag_millis: status.lag.map(crds::Duration::as_millis),
            rate: status.rate.clone(),
            position: status.position.clone().unwrap_or_default(),
            ledger: status.ledger.as_ref().map(LedgerReport::of),
            halted_at: status.halted_at.as_ref().map(|at| HaltedAt {
                gtid: at.gtid.clone(),
                skippable: at.skippable,
            }),
            conflicts_held: status.conflicts_held,
            skipped_open: status.skipped_open,
            written: written.max(),
            current: status.observed_generation.is_some()
                && status.observed_generation >= link.metadata.generation,
            reported: status.observed_generation.is_some(),
        })
    }

    /// The target, for people.
    pub fn target(&self) -> &str {
        self.target.as_ref().map_or("?", IdcName::as_str)
    }

    /// Whether the writer runs in another cluster, whose object has the figures.
    pub fn is_elsewhere(&self) -> bool {
        self.reported && self.phase.is_none()
    }

    /// Whether the operator has taken up that the link is suspended, or that it is not any more.
    pub fn has_settled(&self, suspended: bool) -> bool {
        let said = self.phase == Some(LinkPhase::Suspended) || self.reason == SUSPENDED;
        self.current && self.suspended == suspended && said == suspended
    }

    /// The GTID that the link stands at, if it is the one that was typed and may be left out;
    /// otherwise why not.
    pub fn skippable(&self, typed: &str) -> Result<&str, String> {
        if self.suspended {
            return Err("it is suspended, and only a link that is halted can skip".to_owned());
        }
        if self.is_elsewhere() {
            return Err(format!(
                "its writer runs in the cluster of {}, whose object of the same name tells what it \
                 is halted at",
                self.target()
            ));
        }
        let because = if self.message.is_empty() {
            String::new()
        } else {
            format!(": {}", self.message)
        };
        if self.phase != Some(LinkPhase::Halted) {
            let phase = self
                .phase
                .map_or("not reported".to_owned(), |phase| format!("{phase:?}"));
            return Err(format!(
                "it is not halted but {phase}, and nothing is left out that could be applied"
            ));
        }
        let Some(at) = &self.halted_at else {
            return Err(format!(
                "it is not one transaction that halts it, so none can be skipped{because}"
            ));
        };
        // The UUID in a GTID of MySQL may be written in either case.
        if !at.gtid.eq_ignore_ascii_case(typed.trim()) {
            return Err(format!(
                "it is halted at {}, not at {typed}{because}",
                at.gtid
            ));
        }
        if !at.skippable {
            return Err(format!(
                "this transaction cannot be skipped, for it changes more than rows of the link's tables, \
                 or what halts the link is not about it alone{because}"
            ));
        }
        Ok(&at.gtid)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn link(spec: &serde_json::Value, status: &serde_json::Value) -> LinkReport {
        let mut object = json!({
            "apiVersion": "multiactive.dev/v1alpha1", "kind": "SyncLink",
            "metadata": {"name": "orders-sh-bj", "namespace": "shop", "generation": 3,
                "managedFields": [
                    {"manager": "multiactive-link", "operation": "Apply",
                     "time": "2026-03-04T05:00:00Z"},
                    {"manager": "multiactive-link", "operation": "Apply", "subresource": "status",
                     "time": "2026-03-04T05:06:00Z"}]},
            "spec": {"unit": "orders", "source": {"idc": "sh"}, "target": {"idc": "bj"}},
            "status": status,
        });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        LinkReport::of(&serde_json::from_value(object).unwrap()).unwrap()
    }

    fn halted(at: &serde_json::Value) -> LinkReport {
        let status = json!({"observedGeneration": 3, "phase": "Halted", "haltedAt": at,
            "conditions": [{"type": "Ready", "status": "False", "reason": "Halted",
                "message": "conflict", "lastTransitionTime": "2026-03-04T05:00:00Z"}]});
        link(&json!({}), &status)
    }

    #[test]
    fn the_status_is_as_old_as_its_last_write() {
        let written = link(&json!({}), &json!({})).written.unwrap();
        assert_eq!(written.to_string(), "2026-03-04T05:06:00Z");
    }

    #[test]
    fn a_ledger_that_does_not_add_up_is_noticed() {
        let ledger = |read: u64| {
            let ledger = json!({"read": read, "applied": 90, "filtered": 4, "conflicts": 1,
                "stranded": 1, "held": 2, "inFlight": 2});
            link(&json!({}), &json!({"ledger": ledger})).ledger.unwrap()
        };
        assert!(ledger(100).balanced);
        assert_eq!(ledger(100).held.all, 4);
        assert!(!ledger(101).balanced && !ledger(99).balanced);
    }

    #[test]
    fn only_the_transaction_that_the_link_stands_at_can_be_skipped() {
        let at = |gtid: &str, skippable: bool| json!({"gtid": gtid, "skippable": skippable});
        let report = halted(&at("3E11fa47-71ca-11e1-9e33-c80aa9429562:7", true));
        let typed = "3e11FA47-71ca-11e1-9e33-c80aa9429562:7";
        assert_eq!(
            report.skippable(typed),
            Ok("3E11fa47-71ca-11e1-9e33-c80aa9429562:7")
        );
        let refused = |report: LinkReport| report.skippable("0-1-7").unwrap_err();
        assert!(refused(report).contains("not at 0-1-7"));
        assert!(halted(&at("0-1-7", true)).skippable("0-1-7").is_ok());
        assert!(refused(halted(&at("0-1-71", true))).contains("0-1-71"));
        assert!(refused(halted(&at("0-1-7", false))).contains("about it alone"));
        assert!(refused(halted(&json!(null))).contains("not one transaction"));
        let streaming = json!({"observedGeneration": 3, "phase": "Streaming"});
        assert!(refused(link(&json!({}), &streaming)).contains("not halted but Streaming"));
        let elsewhere = json!({"observedGeneration": 3});
        assert!(refused(link(&json!({}), &elsewhere)).contains("cluster of bj"));
        assert!(refused(link(&json!({"suspended": true}), &streaming)).contains("suspended"));
        assert!(refused(link(&json!({}), &json!({}))).contains("not reported"));
    }

    #[test]
    fn it_is_suspended_when_the_operator_says_so_of_this_spec() {
        let status = |generation: i64, phase: &str| json!({"observedGeneration": generation, "phase": phase});
        let suspended = json!({"suspended": true});
        assert!(link(&suspended, &status(3, "Suspended")).has_settled(true));
        assert!(!link(&suspended, &status(2, "Suspended")).has_settled(true));
        assert!(!link(&suspended, &status(3, "Streaming")).has_settled(true));
        assert!(!link(&json!({}), &status(3, "Suspended")).has_settled(false));
        assert!(!link(&json!({}), &status(2, "Streaming")).has_settled(false));
        assert!(link(&json!({}), &status(3, "Pending")).has_settled(false));
        assert!(!link(&json!({}), &json!({})).has_settled(false));
    }
}
