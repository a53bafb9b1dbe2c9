//! Carrying an acknowledgement into etcd.
//!
//! It lets automation go on, and one may be the only thing that keeps arbiters from believing an etcd
//! that was restored from a backup. So one that is about another epoch is not carried: otherwise an
//! old one would be written into a restored etcd by itself.

use crds::{ACKNOWLEDGE, ACKNOWLEDGED, Unit};
use jiff::Timestamp;
use model::{AckRecord, Epoch, UnitKey};

use super::carried::{self, Kind};
use crate::context::{Context, ReconcileError};
use crate::coordination::UnitView;

const KIND: Kind = Kind {
    asked: ACKNOWLEDGE,
    carried: ACKNOWLEDGED,
    reasons: ("Acknowledged", "NotAcknowledged"),
};

/// Carries the Unit's acknowledgement, if there is one, and says on the Unit what became of it.
pub async fn carry(
    unit: &Unit,
    key: &UnitKey,
    view: &UnitView,
    context: &Context,
) -> Result<(), ReconcileError> {
    let Some(text) = carried::asked(&KIND, unit, view, context).await? else {
        return Ok(());
    };
    let epoch = view.state.as_ref().and_then(|state| state.epoch.as_ref());
    let epoch = epoch.map_or(Epoch::NONE, |epoch| epoch.value.epoch);
    let outcome = match judge(&text, epoch, Timestamp::now()) {
        Err(why) => Err(why),
        Ok(record) => {
            context.cluster.check_leader("acknowledge a Unit")?;
            let topology = context.coordination.topology();
            match topology.acknowledge(key, &record).await {
                Ok(_) => Ok("Somebody has looked, and automation may go on.".to_owned()),
                Err(topology::CommitError::Lost { .. }) => Err(another_epoch(record.epoch)),
                Err(error) => return Err(error.into()),
            }
        }
    };
    carried::tell(&KIND, unit, &text, outcome, context).await
}

/// What is to be written into etcd, or why not.
fn judge(text: &str, epoch: Epoch, now: Timestamp) -> Result<AckRecord, String> {
    let record: AckRecord = serde_json::from_str(text).map_err(|error| {
        format!("The annotation {ACKNOWLEDGE} is {text:?}, which says nothing ({error}). `mactl ack` writes it.")
    })?;
    if epoch != record.epoch {
        return Err(another_epoch(record.epoch));
    }
    let what = format!("The acknowledgement of epoch {}", record.epoch);
    carried::check_fresh(&what, "`mactl ack`", record.at, now)?;
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
