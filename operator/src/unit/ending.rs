//! The end of a Unit that is being deleted: carried out step by step, as `parting` decides.

use std::time::Duration;

use crds::Unit;
use kube::ResourceExt;
use model::{UnitKey, UnitState};

use super::{FINALIZER, parting, words};
use crate::agreement;
use crate::cluster::Notice;
use crate::context::{Context, ReconcileError};

/// So often it is looked whether arbiters have let go of the members of a deleted Unit.
const LET_GO_LOOKS: u32 = 50;
/// An arbiter that has begun looks at its members within this time.
const LOOKED_AFTER: Duration = Duration::from_secs(15);

/// How far a Unit that is being deleted is.
pub enum Parting {
    /// It waits for this before it is forgotten, and goes on as before meanwhile.
    Waits(String),
    /// It is forgotten, and its arbiters let go of their members.
    LettingGo,
    /// Nothing holds it any more.
    Gone,
}

/// A Unit goes once etcd has forgotten it and its arbiters have let go of its members. Its databases
/// keep what they hold.
pub async fn delete(
    unit: &Unit,
    key: &UnitKey,
    context: &Context,
) -> Result<Parting, ReconcileError> {
    if !unit.finalizers().iter().any(|present| present == FINALIZER) {
        return Ok(Parting::Gone);
    }
    let agreement = context.agreement(key);
    if let Some(agreement) = &agreement
        && agreement.in_force
        && !agreement.deleted()
    {
        if !parting::forced(unit) {
            return Ok(Parting::Waits(agreement.deletion()));
        }
        // It goes from this cluster alone, which says that it is gone.
        context
            .cluster
            .set_finalizer(unit, FINALIZER, false)
            .await?;
        return Ok(Parting::Gone);
    }
    let waits = context.coordination.unit(key).state.and_then(|state| {
        let looked = arbiter_looked(key, &state, context);
        parting::before(unit, key, &state, looked)
    });
    if let Some(what) = waits {
        return Ok(Parting::Waits(what));
    }
    context.cluster.check_leader("delete a Unit from etcd")?;
    let uid = unit.uid().unwrap_or_default();
    let forgotten = match &agreement {
        None if context.settings.idc.is_none() => {
            context.coordination.topology().forget_unit(key, &uid).await
        }
        None => return Ok(Parting::Waits("etcd has not been read yet.".to_owned())),
        Some(agreement) => match agreement::forget(key, agreement, context).await {
            // What it was decided from has changed: it is decided anew.
            Err(topology::CommitError::Lost { .. }) => return Ok(Parting::LettingGo),
            other => other,
        },
    };
    match forgotten {
        Ok(()) => {
            // What they said before they heard of it is old.
            context.reports.hurry();
            if let Some(what) = parting::after(unit, &words(unit, key, context)) {
                if !context.pace.waited("Unit", &uid, LET_GO_LOOKS) {
                    return Ok(Parting::LettingGo);
                }
                let notice = Notice {
                    warning: true,
                    reason: "NotLetGo".to_owned(),
                    note: what,
                };
                context.cluster.event(unit, &notice).await;
            }
        }
        // The document is that of a newer Unit of this name, which is left alone.
        Err(topology::CommitError::Lost { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    context
        .cluster
        .set_finalizer(unit, FINALIZER, false)
        .await?;
    tracing::info!(unit = %key, "forgotten; its databases keep what they hold");
    Ok(Parting::Gone)
}

/// Whether the session of the last primary's arbiter was there for long enough that it has looked at
/// its member.
fn arbiter_looked(key: &UnitKey, state: &UnitState, context: &Context) -> bool {
    let session = state
        .epoch
        .as_ref()
        .and_then(|epoch| state.sessions.get(&epoch.value.idc));
    session.is_some_and(|session| {
        let began = format!("{key} {}", session.value.generation.0);
        context.pace.since("Session", &began) >= LOOKED_AFTER
    })
}
