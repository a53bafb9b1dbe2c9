//! What people order about a Unit: written, and lifted again, in transactions that compare what whoever
//! asks had seen.

use model::{IdcName, Order, OrderChange, OrderRequest, Revision, UnitDoc, UnitKey, UnitState};

use crate::{CommitError, Topology, TopologyError, Transaction};

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// It stands, or was lifted, as of this revision.
    Done(Revision),
    /// It was so already: the order that stands, if one does.
    Already(Option<Order>),
}

/// Why an order was not given or lifted. Nothing was changed, except perhaps with
/// [`OrderRefused::Etcd`].
#[derive(Debug, thiserror::Error)]
pub enum OrderRefused {
    /// etcd knows no such Unit.
    #[error(
        "unit {unit} is not published in etcd: apply it, or check the name and the etcd prefix"
    )]
    NoUnit {
        /// The Unit.
        unit: UnitKey,
    },
    /// The Unit has no member there.
    #[error("unit {unit} has no member in IDC {idc}. It has members in: {members}")]
    NoMember {
        /// The Unit.
        unit: UnitKey,
        /// The IDC that was named.
        idc: IdcName,
        /// Where there are members.
        members: String,
    },
    /// The member is the primary, and whoever asked did not know.
    #[error(
        "unit {unit}: IDC {idc} is the primary by now. Look at `mactl status`, and ask again if you still want it"
    )]
    IsPrimary {
        /// The Unit.
        unit: UnitKey,
        /// The IDC.
        idc: IdcName,
    },
    /// Another order stands than the one that was to be lifted.
    #[error(
        "unit {unit}: it was ordered anew meanwhile, {stands}. Look at `mactl status`, and ask again if \
         that order may be lifted"
    )]
    Another {
        /// The Unit.
        unit: UnitKey,
        /// What stands now.
        stands: Order,
    },
    /// Somebody else changed something at the same instant.
    #[error(
        "unit {unit}: somebody else changed it at the same time. Look at `mactl status`, and ask again if you still want it"
    )]
    Lost {
        /// The Unit.
        unit: UnitKey,
    },
    /// etcd did not answer: the order may or may not stand.
    #[error(transparent)]
    Etcd(#[from] TopologyError),
}

impl Topology {
    /// Gives or lifts an order. What is so already is no error, so a caller that got no answer may
    /// repeat itself.
    ///
    /// # Errors
    /// [`OrderRefused`] says what stood against it.
    pub async fn order(
        &self,
        unit: &UnitKey,
        request: &OrderRequest,
    ) -> Result<Ordered, OrderRefused> {
        let state = self.unit_state(unit).await?;
        if let Some(already) = check(unit, &state, &request.change)? {
            return Ok(already);
        }
        let keys = self.keys();
        let doc = state.unit.as_ref().map(|doc| doc.revision);
        let doing = format!("{} of unit {unit}", request.change);
        let transaction =
            Transaction::new(doing).if_revision(&keys.unit(unit), doc.unwrap_or(Revision::ABSENT));
        let transaction = match &request.change {
            OrderChange::Fence { idc, .. } => {
                let key = keys.fence_order(unit, idc);
                let primary = state.primary.as_ref().map(|primary| primary.revision);
                transaction
                    .if_revision(&keys.primary(unit), primary.unwrap_or(Revision::ABSENT))
                    .if_revision(&key, Revision::ABSENT)
                    .put(&key, &request.order, None)
            }
            OrderChange::Unfence { idc, .. } => {
                let key = keys.fence_order(unit, idc);
                let stands = state.fence_orders.get(idc).map(|order| order.revision);
                transaction
                    .if_revision(&key, stands.unwrap_or(Revision::ABSENT))
                    .delete(&key)
            }
            OrderChange::Pause => {
                let key = keys.pause_order(unit);
                transaction
                    .if_revision(&key, Revision::ABSENT)
                    .put(&key, &request.order, None)
            }
            OrderChange::Resume { .. } => {
                let key = keys.pause_order(unit);
                let stands = state.pause_order.as_ref().map(|order| order.revision);
                transaction
                    .if_revision(&key, stands.unwrap_or(Revision::ABSENT))
                    .delete(&key)
            }
        };
        match self.commit(transaction).await {
            Ok(revision) => Ok(Ordered::Done(revision)),
            Err(CommitError::Lost { .. }) => Err(OrderRefused::Lost { unit: unit.clone() }),
            Err(CommitError::Unknown(error)) => Err(error.into()),
        }
    }
}

/// `Some`: it is so already.
fn check(
    unit: &UnitKey,
    state: &UnitState,
    change: &OrderChange,
) -> Result<Option<Ordered>, OrderRefused> {
    let Some(doc) = state.unit.as_ref().map(|doc| &doc.value) else {
        return Err(OrderRefused::NoUnit { unit: unit.clone() });
    };
    let fence = |idc: &IdcName| state.fence_orders.get(idc).map(|order| order.value.clone());
    let pause = state.pause_order.as_ref().map(|order| order.value.clone());
    let stands = match change {
        OrderChange::Fence { idc, .. } => {
            check_member(unit, doc, idc)?;
            fence(idc)
        }
        // What stands can be lifted, also where the member has left the Unit since.
        OrderChange::Unfence { idc, .. } => {
            let stands = fence(idc);
            if stands.is_none() {
                check_member(unit, doc, idc)?;
            }
            stands
        }
        OrderChange::Pause | OrderChange::Resume { .. } => pause,
    };
    let gives = matches!(change, OrderChange::Fence { .. } | OrderChange::Pause);
    if stands.is_some() == gives {
        return Ok(Some(Ordered::Already(stands)));
    }
    let primary = state.primary.as_ref().map(|primary| &primary.value.idc);
    let unit = unit.clone();
    match (change, stands) {
        // That it is no primary any more changes nothing for the worse.
        (
            OrderChange::Fence {
                idc,
                is_primary: false,
            },
            _,
        ) if primary == Some(idc) => Err(OrderRefused::IsPrimary {
            unit,
            idc: idc.clone(),
        }),
        (
            OrderChange::Unfence { stands: seen, .. } | OrderChange::Resume { stands: seen },
            Some(stands),
        ) if stands.to_string() != *seen => Err(OrderRefused::Another { unit, stands }),
        _ => Ok(None),
    }
}

fn check_member(unit: &UnitKey, doc: &UnitDoc, idc: &IdcName) -> Result<(), OrderRefused> {
    if doc.member(idc).is_some() {
        return Ok(());
    }
    let members: Vec<_> = doc.members.iter().map(|it| it.idc.as_str()).collect();
    Err(OrderRefused::NoMember {
        unit: unit.clone(),
        idc: idc.clone(),
        members: members.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use model::{LeaseId, PrimaryRecord, ServerIdentity, Versioned};

    use super::*;

    fn versioned<T>(value: T) -> Versioned<T> {
        let revision = Revision(3);
        let lease = Some(LeaseId(1));
        Versioned {
            value,
            revision,
            lease,
        }
    }

    fn state() -> UnitState {
        let doc = serde_json::json!({
            "uid": "1", "generation": 1, "databases": ["orders"], "paused": false,
            "members": [
                {"idc": "sh", "priority": 100, "endpoint":
                    {"host": "sh", "port": 3306, "tls": {"mode": "Disabled"}}},
                {"idc": "bj", "priority": 50, "endpoint":
                    {"host": "bj", "port": 3306, "tls": {"mode": "Disabled"}}},
            ],
            "failover": {"mode": "Manual", "maxLagMillis": 5000, "cooldownMillis": 0,
                "failback": "Manual", "failsafe": false},
            "heartbeat": {"intervalMillis": 500, "timeoutMillis": 500, "failures": 3},
        });
        let primary = PrimaryRecord {
            idc: IdcName::new("sh").unwrap(),
            epoch: model::Epoch(1),
            identity: ServerIdentity("s".to_owned()),
            open: true,
        };
        UnitState {
            unit: Some(versioned(serde_json::from_value(doc).unwrap())),
            primary: Some(versioned(primary)),
            ..UnitState::default()
        }
    }

    fn fence(idc: &str, is_primary: bool) -> OrderChange {
        let idc = IdcName::new(idc).unwrap();
        OrderChange::Fence { idc, is_primary }
    }

    #[test]
    fn what_stands_against_an_order_is_named() {
        let unit: UnitKey = "shop/orders".parse().unwrap();
        let told = |state: &UnitState, change: OrderChange| {
            check(&unit, state, &change).map_err(|refused| refused.to_string())
        };
        let mut state = state();
        assert_eq!(told(&state, fence("bj", false)), Ok(None));
        assert_eq!(told(&state, fence("sh", true)), Ok(None));
        let refused = told(&state, fence("sh", false)).unwrap_err();
        assert!(refused.contains("sh is the primary by now"), "{refused}");
        let refused = told(&state, fence("hz", false)).unwrap_err();
        assert!(refused.contains("members in: sh, bj"), "{refused}");
        let order = Order {
            by: "ann".to_owned(),
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            reason: String::new(),
        };
        let hz = IdcName::new("hz").unwrap();
        state
            .fence_orders
            .insert(hz.clone(), versioned(order.clone()));
        // A member that has left since can still be let in again.
        let lift = |stands: String| OrderChange::Unfence {
            idc: hz.clone(),
            stands,
        };
        assert_eq!(told(&state, lift(order.to_string())), Ok(None));
        let refused = told(&state, lift("by joe at 2026".to_owned())).unwrap_err();
        assert!(
            refused.contains("meanwhile, by ann at 2026-01-01T00:00:00Z."),
            "{refused}"
        );
        let resume = |stands: &Order| OrderChange::Resume {
            stands: stands.to_string(),
        };
        assert_eq!(
            told(&state, resume(&order)),
            Ok(Some(Ordered::Already(None)))
        );
        state.pause_order = Some(versioned(order.clone()));
        assert_eq!(
            told(&state, OrderChange::Pause),
            Ok(Some(Ordered::Already(Some(order.clone()))))
        );
        assert_eq!(told(&state, resume(&order)), Ok(None));
        let other = Order {
            reason: "another".to_owned(),
            ..order
        };
        assert!(told(&state, resume(&other)).is_err());
        state.unit = None;
        assert!(told(&state, OrderChange::Pause).is_err());
    }
}
