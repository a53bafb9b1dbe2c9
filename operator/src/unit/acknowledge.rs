//! Carrying an acknowledgement into etcd.
//!
//! It lets automation go on, and one may be the only thing that keeps arbiters from believing an etcd
//! that was restored from a backup. So each counts once, and only for what was looked at: it is
//! taken off the Unit once it is in etcd, and one that lay about for longer than [`FRESH`], or that
//! is about another epoch, is not carried. Otherwise an old one would be written into a restored
//! etcd by itself.

use std::time::Duration;

use crds::{ACKNOWLEDGE, ACKNOWLEDGED, Unit};
use jiff::Timestamp;
use kube::ResourceExt;
use model::{AckRecord, Epoch, UnitKey};

use crate::cluster::Notice;
use crate::context::{Context, ReconcileError};
use crate::coordination::UnitView;

/// Somebody waits at a terminal for it, for less than this.
const FRESH: Duration = Duration::from_secs(60);

/// Carries the Unit's acknowledgement, if there is one, and says on the Unit what became of it.
pub async fn carry(
    unit: &Unit,
    key: &UnitKey,
    view: &UnitView,
    context: &Context,
) -> Result<(), ReconcileError> {
    let Some(text) = unit.annotations().get(ACKNOWLEDGE) else {
        return Ok(());
    };
    let Some(state) = view.state.as_ref().filter(|_| view.trouble.is_none()) else {
        // Every object is looked at again once etcd is followed again.
        return Ok(());
    };
    let epoch = state.epoch.as_ref();
    let epoch = epoch.map_or(Epoch::NONE, |epoch| epoch.value.epoch);
    let refused = match judge(text, epoch, Timestamp::now()) {
        Err(why) => Some(why),
        Ok(record) => {
            context.cluster.check_leader("acknowledge a Unit")?;
            match context
                .coordination
                .topology()
                .acknowledge(key, &record)
                .await
            {
                Ok(_) => None,
                Err(topology::CommitError::Lost { .. }) => Some(another_epoch(record.epoch)),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let notice = Notice {
        warning: refused.is_some(),
        reason: if refused.is_some() {
            "NotAcknowledged"
        } else {
            "Acknowledged"
        }
        .to_owned(),
        note: refused
            .clone()
            .unwrap_or_else(|| "Somebody has looked, and automation may go on.".to_owned()),
    };
    let carried = refused.is_none().then_some((ACKNOWLEDGED, text.as_str()));
    if context
        .cluster
        .take_annotation(unit, ACKNOWLEDGE, carried)
        .await?
    {
        context.cluster.event(unit, &notice).await;
    }
    Ok(())
}

/// What is to be written into etcd, or why not.
fn judge(text: &str, epoch: Epoch, now: Timestamp) -> Result<AckRecord, String> {
    let record: AckRecord = serde_json::from_str(text).map_err(|error| {
        format!("The annotation {ACKNOWLEDGE} is {text:?}, which says nothing ({error}). `mactl ack` writes it.")
    })?;
    if epoch != record.epoch {
        return Err(another_epoch(record.epoch));
    }
    let age = now.duration_since(record.at).unsigned_abs();
    if age > FRESH {
        return Err(format!(
            "The acknowledgement of epoch {} is dated {}, now it is {now}: it was not carried within \
             {} s, and what was looked at may be past. Look again, then: `mactl ack`; if that is \
             refused like this, the clocks of that machine and of the operator differ.",
            record.epoch,
            record.at,
            FRESH.as_secs(),
        ));
    }
    Ok(record)
}

fn another_epoch(looked_at: Epoch) -> String {
    format!(
        "Epoch {looked_at} was acknowledged, but it is not the Unit's epoch in etcd: what was looked \
         at is past. Look again, then: `mactl ack`."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-03-04T05:06:07Z";

    fn judged(text: &str, epoch: u64) -> Result<AckRecord, String> {
        judge(text, Epoch(epoch), NOW.parse().unwrap())
    }

    #[test]
    fn only_a_fresh_one_of_the_present_epoch_counts() {
        let text = |at: &str| format!("{{\"epoch\":4,\"at\":\"{at}\"}}");
        let fresh = text("2026-03-04T05:06:01Z");
        assert_eq!(judged(&fresh, 4).unwrap().epoch, Epoch(4));
        // An etcd that was made anew knows of no epoch, and databases may remember another one.
        let none = fresh.replace(":4,", ":0,");
        assert_eq!(judged(&none, 0).unwrap().epoch, Epoch::NONE);
        for (text, epoch, words) in [
            (fresh.as_str(), 5, "Epoch 4 was acknowledged"),
            (&fresh, 0, "Epoch 4 was acknowledged"),
            (&text("2026-03-04T05:04:07Z"), 4, "not carried within"),
            (&text("2026-03-04T05:09:07Z"), 4, "clocks"),
            ("yes", 4, "\"yes\", which says nothing"),
        ] {
            let why = judged(text, epoch).unwrap_err();
            assert!(why.contains(words) && why.contains("mactl ack"), "{why}");
        }
    }
}
