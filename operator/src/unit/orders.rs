//! Carrying a person's order into etcd: that a member stays fenced, that this ends, or that a hold on
//! the automation which was put into etcd ends.
//!
//! As an acknowledgement, each counts once: it is taken off the Unit once it is in etcd, and one that
//! lay about is not carried, so that nothing happens long after anybody has looked. What the spec
//! says is none of its business: `spec.paused` and an order hold the automation each by itself.

use std::time::Duration;

use crds::{ORDER, ORDERED, Unit};
use jiff::Timestamp;
use kube::ResourceExt;
use model::{OrderRequest, UnitKey};
use topology::OrderRefused;

use crate::cluster::Notice;
use crate::context::{Context, ReconcileError};
use crate::coordination::UnitView;

/// Somebody waits at a terminal for it, for less than this.
const FRESH: Duration = Duration::from_secs(60);

/// Carries the Unit's order, if there is one, and says on the Unit what became of it.
pub async fn carry(
    unit: &Unit,
    key: &UnitKey,
    view: &UnitView,
    context: &Context,
) -> Result<(), ReconcileError> {
    let Some(text) = unit.annotations().get(ORDER) else {
        return Ok(());
    };
    if view.state.is_none() || view.trouble.is_some() {
        // Every object is looked at again once etcd is followed again.
        return Ok(());
    }
    let done = match judge(text, Timestamp::now()) {
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
    let carried = done.is_ok().then_some((ORDERED, text.as_str()));
    let notice = Notice {
        warning: done.is_err(),
        reason: if done.is_ok() {
            "Ordered"
        } else {
            "NotOrdered"
        }
        .to_owned(),
        note: done.unwrap_or_else(|why| why),
    };
    if context
        .cluster
        .take_annotation(unit, ORDER, carried)
        .await?
    {
        context.cluster.event(unit, &notice).await;
    }
    Ok(())
}

/// What is to be written into etcd, or why not.
fn judge(text: &str, now: Timestamp) -> Result<OrderRequest, String> {
    let request: OrderRequest = serde_json::from_str(text).map_err(|error| {
        format!(
            "The annotation {ORDER} is {text:?}, which says nothing ({error}). `mactl fence`, \
             `mactl unfence` and `mactl resume` write it."
        )
    })?;
    let at = request.order.at;
    if now.duration_since(at).unsigned_abs() > FRESH {
        return Err(format!(
            "{} was asked for at {at}, now it is {now}: it was not carried within {} s, and what was \
             looked at may be past. Look again, then give the order again; if that is refused like \
             this, the clocks of that machine and of the operator differ.",
            capital(&request.change.to_string()),
            FRESH.as_secs(),
        ));
    }
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
        assert!(
            why.starts_with("The fence of IDC sh was asked for"),
            "{why}"
        );
        assert!(judge("{}", at).unwrap_err().contains("says nothing"));
    }
}
