//! Carrying a person's order into etcd: that a member stays fenced, that this ends, or that a hold on
//! the automation which was put into etcd ends.
//!
//! What the spec says is none of its business: `spec.paused` and an order hold the automation each by
//! itself.

use crds::{ORDER, ORDERED, Unit};
use jiff::Timestamp;
use model::{OrderRequest, UnitKey};
use topology::OrderRefused;

use super::carried::{self, Kind};
use crate::context::{Context, ReconcileError};
use crate::coordination::UnitView;

const KIND: Kind = Kind {
    asked: ORDER,
    carried: ORDERED,
    reasons: ("Ordered", "NotOrdered"),
};

/// Carries the Unit's order, if there is one, and says on the Unit what became of it.
pub async fn carry(
    unit: &Unit,
    key: &UnitKey,
    view: &UnitView,
    context: &Context,
) -> Result<(), ReconcileError> {
    let Some(text) = carried::asked(&KIND, unit, view, context).await? else {
        return Ok(());
    };
    let outcome = match judge(&text, Timestamp::now()) {
        Err(why) => Err(why),
        Ok(request) => {
            context.cluster.check_leader("carry an order")?;
            let topology = context.coordination.topology();
            match topology.order(key, &request).await {
                Ok(_) => Ok(format!(
                    "{} was ordered {}.",
                    capital(&request.change.to_string()),
                    request.order
                )),
                Err(OrderRefused::Etcd(error)) => return Err(error.into()),
                Err(refused) => Err(format!("{refused}.")),
            }
        }
    };
    carried::tell(&KIND, unit, &text, outcome, context).await
}

/// What is to be written into etcd, or why not.
fn judge(text: &str, now: Timestamp) -> Result<OrderRequest, String> {
    let request: OrderRequest = serde_json::from_str(text).map_err(|error| {
        format!(
            "The annotation {ORDER} is {text:?}, which says nothing ({error}). `mactl fence`, \
             `mactl unfence` and `mactl resume` write it."
        )
    })?;
    let what = capital(&request.change.to_string());
    carried::check_fresh(&what, "give the order again", request.order.at, now)?;
    Ok(request)
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"change":{"kind":"Fence","idc":"sh","isPrimary":true},
        "order":{"by":"ann","at":"2026-01-01T00:00:00Z","reason":"its disk"}}"#;

    #[test]
    fn what_lay_about_is_not_carried() {
        let at: Timestamp = "2026-01-01T00:00:30Z".parse().unwrap();
        let request = judge(TEXT, at).unwrap();
        assert_eq!(request.change.to_string(), "the fence of IDC sh");
        let late: Timestamp = "2026-01-01T00:02:00Z".parse().unwrap();
        let why = judge(TEXT, late).unwrap_err();
        assert!(why.starts_with("The fence of IDC sh is dated"), "{why}");
        assert!(judge("{}", at).unwrap_err().contains("says nothing"));
    }
}
