//! Waiting for the IDC's session while another process holds it (rule 12).
//!
//! The lease tells whether the holder lives: while it does, the lease never has less left than a
//! keep-alive's interval and a bit below what was granted. A standby that sees it run down claims
//! the session and goes on with the *same* lease, long before the holder's deadline: nothing that
//! is bound to it goes, and no member is fenced. A holder that was only slow finds itself
//! superseded, and becomes the standby.
//!
//! A session that is gone altogether was most likely ended early by etcd, and its holder lives and
//! claims it anew within milliseconds; that costs its members less than a change of process. So it
//! has to be gone at two looks.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use topology::{SessionClaim, Standing, Topology};

use crate::metrics::Metrics;

/// How often to look.
const EVERY: Duration = Duration::from_millis(300);

/// Whether the session may be claimed, and was not there at the last look either if it is gone.
///
/// Keep-alives come every sixth of the lease time. Two missing ones in a row, and the rounding of
/// `left`, make a third. With the default of 6 s the claim follows the last keep-alive by 2 to 3 s,
/// and the fence by the arbiter would begin at 4 s or later.
fn may_claim(standing: Option<&Standing>, gone_before: bool) -> bool {
    standing.map_or(gone_before, |standing| {
        standing.yielded || standing.own || standing.left <= standing.granted * 2 / 3
    })
}

/// Waits until the session may be claimed. Returns false if shutdown came first.
pub async fn wait(
    topology: &Topology,
    claim: &SessionClaim,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> bool {
    let (mut told, mut gone) = (false, false);
    loop {
        match topology.standing(claim).await {
            Ok(standing) => {
                if may_claim(standing.as_ref(), gone) {
                    return true;
                }
                gone = standing.is_none();
                if !gone && !told {
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
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(left: u64) -> Standing {
        Standing {
            yielded: false,
            own: false,
            left: Duration::from_secs(left),
            granted: Duration::from_secs(6),
        }
    }

    #[test]
    fn a_session_that_is_kept_alive_is_left_alone() {
        assert!(!may_claim(Some(&held(6)), true));
        // A keep-alive that came a little late.
        assert!(!may_claim(Some(&held(5)), false));
        assert!(may_claim(Some(&held(4)), false));
        assert!(may_claim(Some(&held(0)), false));
    }

    #[test]
    fn a_session_that_is_gone_is_left_to_its_holder_for_one_look() {
        assert!(!may_claim(None, false));
        assert!(may_claim(None, true));
    }

    #[test]
    fn nobody_waits_for_one_that_has_gone() {
        let yielded = Standing {
            yielded: true,
            ..held(6)
        };
        let own = Standing {
            own: true,
            ..held(6)
        };
        assert!(may_claim(Some(&yielded), false) && may_claim(Some(&own), false));
    }
}
