//! DataRepairs: accepted as objects, and refused aloud until verification and repair are built.

use std::sync::Arc;

use crds::{DataRepair, DataRepairPhase, DataRepairStatus, Verdict, merge_conditions};
use jiff::Timestamp;
use kube::runtime::controller::Action;

use crate::cluster::Notice;
use crate::context::{Context, ReconcileError};

/// The field manager of this controller.
const MANAGER: &str = "multiactive-repair";

const MESSAGE: &str = "Verification and repair are not supported yet, so nothing was read or \
                       changed. Compare the copies with another tool (for example pt-table-checksum) \
                       and delete this DataRepair.";

/// Says that nothing will happen.
pub async fn reconcile(
    repair: Arc<DataRepair>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    if repair.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let old = repair.status.clone().unwrap_or_default();
    let new = refused(&repair, &old, Timestamp::now());
    if new != old {
        context
            .cluster
            .write_status(&*repair, &new, MANAGER)
            .await?;
        let notice = Notice {
            warning: true,
            reason: "NotSupportedYet".to_owned(),
            note: MESSAGE.to_owned(),
        };
        context.cluster.event(&*repair, &notice).await;
    }
    Ok(Action::await_change())
}

fn refused(repair: &DataRepair, old: &DataRepairStatus, now: Timestamp) -> DataRepairStatus {
    let verdicts = [
        Verdict::no("Ready", "NotSupportedYet", MESSAGE),
        Verdict::no("Progressing", "NotSupportedYet", ""),
    ];
    let generation = repair.metadata.generation;
    DataRepairStatus {
        observed_generation: generation,
        phase: Some(DataRepairPhase::Refused),
        message: Some(MESSAGE.to_owned()),
        conditions: merge_conditions(&old.conditions, &verdicts, generation, now),
    }
}
