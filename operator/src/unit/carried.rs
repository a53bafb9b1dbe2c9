//! What people ask for on a Unit, as an annotation, and the operator carries into etcd.
//!
//! Each counts once, and only for what was looked at: it is taken off the Unit once it is in etcd, one
//! that lay about for longer than [`FRESH`] is not carried, and what the operator remembers of the
//! Unit is not enough, since it may be from before it was carried.

use std::time::Duration;

use crds::Unit;
use jiff::Timestamp;
use kube::ResourceExt;

use crate::cluster::Notice;
use crate::context::{Context, ReconcileError};
use crate::coordination::UnitView;

/// Somebody waits at a terminal for it, for less than this.
const FRESH: Duration = Duration::from_secs(60);

/// A kind of thing that is carried.
pub struct Kind {
    /// The annotation that asks for it.
    pub asked: &'static str,
    /// The annotation that keeps the last one that was carried.
    pub carried: &'static str,
    /// The reason of the Event after it was carried, and after it was not.
    pub reasons: (&'static str, &'static str),
}

/// The text of the annotation, if it is there, and still there now.
pub async fn asked(
    kind: &Kind,
    unit: &Unit,
    view: &UnitView,
    context: &Context,
) -> Result<Option<String>, ReconcileError> {
    let Some(text) = unit.annotations().get(kind.asked) else {
        return Ok(None);
    };
    if view.state.is_none() || view.trouble.is_some() {
        // Every object is looked at again once etcd is followed again.
        return Ok(None);
    }
    let now = context.cluster.annotation(unit, kind.asked).await?;
    Ok(now.filter(|now| now == text))
}

/// Takes the annotation off, and says in an Event what became of it.
pub async fn tell(
    kind: &Kind,
    unit: &Unit,
    text: &str,
    outcome: Result<String, String>,
    context: &Context,
) -> Result<(), ReconcileError> {
    let carried = outcome.is_ok().then_some((kind.carried, text));
    let (done, not_done) = kind.reasons;
    let notice = Notice {
        warning: outcome.is_err(),
        reason: if outcome.is_ok() { done } else { not_done }.to_owned(),
        note: outcome.unwrap_or_else(|why| why),
    };
    let taken = context.cluster.take_annotation(unit, kind.asked, carried);
    if taken.await? {
        context.cluster.event(unit, &notice).await;
    }
    Ok(())
}

/// Refuses what was asked for at a moment that is not now.
pub fn check_fresh(what: &str, again: &str, at: Timestamp, now: Timestamp) -> Result<(), String> {
    if now.duration_since(at).unsigned_abs() <= FRESH {
        return Ok(());
    }
    Err(format!(
        "{what} is dated {at}, now it is {now}: it was not carried within {} s, and what was looked \
         at may be past. Look again, then: {again}; if that is refused like this, the clocks of that \
         machine and of the operator differ.",
        FRESH.as_secs()
    ))
}
