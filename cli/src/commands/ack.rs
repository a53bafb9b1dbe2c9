//! `ack`: somebody has looked, and automation may go on.

use jiff::Timestamp;
use model::{AckRecord, Epoch, FailoverStatus, UnitKey};
use serde::Serialize;

use super::Context;
use crate::args::AckArgs;
use crate::backend::Backend;
use crate::confirm;
use crate::failure::{Exit, Failure};
use crate::render;
use crate::view::UnitView;

/// The condition that says what holds automation.
const CONDITION: &str = "FailoverReady";

/// What was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    unit: UnitKey,
    epoch: Epoch,
    /// False if nothing waited for it.
    acknowledged: bool,
}

pub(super) async fn run(context: &Context, args: &AckArgs) -> Result<Exit, Failure> {
    let call = &context.call;
    let unit = super::key(&args.unit, &crate::kubeconfig::namespace(&context.kube)?)?;
    let backend = Backend::connect(&context.kube, &args.etcd, call).await?;
    let (_, view) = backend.unit(&unit, call).await?;
    let not_done = format!("Unit {unit} was not acknowledged");
    let doubts = view.complaint(CONDITION);
    let doubts = doubts.is_some_and(|it| it.reason == FailoverStatus::ETCD_WENT_BACK);
    if view.epoch == Epoch::NONE && !doubts {
        return Err(Failure::refused(
            not_done,
            "it has had no primary yet, so there is nothing that could have been looked at",
        )
        .next(call.own(&format!("status {unit}"))));
    }
    let waits = waits(&view);
    if let Some(why) = &waits {
        super::note(&render::topology(
            "Now",
            &view,
            Timestamp::now(),
            context.err,
        ));
        super::note(&format!("{why}\n"));
        let question =
            format!("You have looked at each member of Unit {unit}, and automation may go on?");
        let again = call.own(&format!("ack {unit}"));
        confirm::obtain(args.yes, &question, &not_done, &again)?;
        let record = AckRecord {
            epoch: view.epoch,
            at: Timestamp::now(),
        };
        backend.acknowledge(&unit, &record, call).await?;
    }
    let outcome = Outcome {
        epoch: view.epoch,
        acknowledged: waits.is_some(),
        unit,
    };
    super::show(
        args.output.output,
        &outcome,
        |_| told(&outcome),
        || vec![format!("unit.multiactive.dev/{}", outcome.unit.name())],
    )?;
    Ok(Exit::Done)
}

/// What holds automation, as far as that is known; `None` where nothing does.
fn waits(view: &UnitView) -> Option<String> {
    match (view.complaint(CONDITION), view.automation_known) {
        (Some(complaint), _) => Some(format!("Automation is held: {}", complaint.message)),
        (None, true) => None,
        (None, false) => Some(
            "No arbiter says whether something holds the automation, so this is acknowledged \
             whatever it is."
                .to_owned(),
        ),
    }
}

fn told(outcome: &Outcome) -> String {
    let Outcome { unit, epoch, .. } = outcome;
    if outcome.acknowledged {
        format!(
            "Unit {unit} is acknowledged in epoch {epoch}. What else holds its automation, if \
             anything does, is in its status within seconds.\n"
        )
    } else {
        format!("Nothing holds the automation of Unit {unit}; there is nothing to acknowledge.\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::view::Complaint;

    #[test]
    fn it_asks_unless_nothing_is_held() {
        let mut view = fixtures::unit();
        view.complaints.clear();
        view.automation_known = true;
        assert_eq!(waits(&view), None);
        view.automation_known = false;
        assert!(waits(&view).unwrap().contains("No arbiter says"));
        view.complaints.push(Complaint {
            condition: CONDITION.to_owned(),
            reason: "CoolingDown".to_owned(),
            message: "the primary moved by itself".to_owned(),
            since: None,
        });
        assert!(waits(&view).unwrap().contains("moved by itself"));
    }
}
