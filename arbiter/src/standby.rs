//! Waiting for the IDC's session while another process holds it (rule 12).
//!
//! When it may be claimed is in [`arbitration::Standby`].

use std::time::Duration;

use arbitration::{LOOK_EVERY, Standby, Standing};
use tokio_util::sync::CancellationToken;
use topology::{SessionClaim, Topology};

use crate::metrics::Metrics;

/// A look of etcd's, as the rule takes it.
fn standing(found: &topology::Standing) -> Standing {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Standing {
        yielded: found.yielded,
        own: found.own,
        left: millis(found.left),
        granted: millis(found.granted),
    }
}

/// Waits until the session may be claimed. Returns false if shutdown came first.
pub async fn wait(
    topology: &Topology,
    claim: &SessionClaim,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> bool {
    let (mut told, mut standby) = (false, Standby::default());
    loop {
        match topology.standing(claim).await {
            Ok(found) => {
                if standby.may_claim(found.as_ref().map(standing)) {
                    return true;
                }
                if found.is_some() && !told {
                    told = true;
                    tracing::info!("another process of this IDC is active; this one stands by");
                }
            }
            Err(error) => {
                metrics.etcd_error(&error);
                tracing::warn!(%error, "whether the session is held is not known");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(Duration::from_millis(LOOK_EVERY)) => {}
        }
    }
}
