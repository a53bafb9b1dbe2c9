//! Commands as one line each.

use std::fmt::Write as _;

use arbitration::{Compare, DatabaseCommand, Slot, Transaction, Write};
use model::{Epoch, FenceProof, IntentPhase};

pub fn database(command: &DatabaseCommand) -> String {
    match command {
        DatabaseCommand::Fence { grace_millis } => format!("database: fence grace={grace_millis}"),
        DatabaseCommand::Promote {
            epoch,
            from,
            over,
            lossy,
            drain_until,
        } => {
            let from = from.as_ref().map_or("-", |from| from.as_str());
            let over = if *over > Epoch::NONE {
                format!(" over={over}")
            } else {
                String::new()
            };
            let lossy = if *lossy { " lossy" } else { "" };
            let drain =
                drain_until.map_or_else(String::new, |until| format!(" drain-until={}", until.0));
            format!("database: promote epoch={epoch} from={from}{over}{lossy}{drain}")
        }
        DatabaseCommand::Promise {
            epoch,
            to,
            for_millis,
        } => format!("database: promise {to} epoch={epoch} for={for_millis}"),
        DatabaseCommand::StartGuard { deadline } => format!("database: guard until={}", deadline.0),
        DatabaseCommand::Open {
            epoch,
            deadline,
            identity,
            boot,
        } => {
            format!(
                "database: open epoch={epoch} until={} server={} boot={}",
                deadline.0, identity.0, boot.0
            )
        }
        DatabaseCommand::CheckApplied { source, position } => {
            format!("database: check-applied {source} {position}")
        }
        DatabaseCommand::Leave => "database: leave".to_owned(),
    }
}

fn slot(slot: &Slot) -> String {
    match slot {
        Slot::Unit => "unit".to_owned(),
        Slot::Session(idc) => format!("session/{idc}"),
        Slot::Epoch => "epoch".to_owned(),
        Slot::Primary => "primary".to_owned(),
        Slot::Vacated => "vacated".to_owned(),
        Slot::Intent => "intent".to_owned(),
        Slot::Member(idc) => format!("member/{idc}"),
        Slot::History(epoch) => format!("history/{epoch}"),
        Slot::Idc(idc) => format!("idc/{idc}"),
        Slot::Vote(idc) => format!("vote/{idc}"),
        Slot::Bid(idc) => format!("bid/{idc}"),
        Slot::FenceOrder(idc) => format!("fenced/{idc}"),
        Slot::PauseOrder => "paused".to_owned(),
    }
}

pub fn etcd(transaction: &Transaction) -> String {
    let mut line = format!("etcd: {:?}, if", transaction.purpose);
    for compare in &transaction.compares {
        match compare {
            Compare::Revision(key, revision) => write!(line, " {}@{revision}", slot(key)).unwrap(),
            Compare::Lease(key, lease) => write!(line, " {}~lease:{lease}", slot(key)).unwrap(),
        }
    }
    line.push_str(", then");
    for change in &transaction.writes {
        write!(line, " {}", one_write(change)).unwrap();
    }
    line
}

fn proof(proof: &FenceProof) -> String {
    match proof {
        FenceProof::Fenced { position, .. } => format!("fenced at {position}"),
        FenceProof::GuardExpired { .. } => "guard expired".to_owned(),
        FenceProof::NeverOpened { .. } => "never opened".to_owned(),
    }
}

fn one_write(change: &Write) -> String {
    match change {
        Write::Epoch(record) => {
            let mut text = format!("epoch={}:{}", record.epoch, record.idc);
            if record.highest > record.epoch {
                text += &format!(",highest={}", record.highest);
            }
            if let Some(noted) = record.noted {
                text += &format!(",noted={noted}");
            }
            text
        }
        Write::Primary(record, lease) => {
            let open = if record.open { "open" } else { "closed" };
            format!(
                "primary={}:{}:{open}~lease:{lease}",
                record.idc, record.epoch
            )
        }
        Write::DeletePrimary => "-primary".to_owned(),
        Write::Vacated(record) => format!("vacated={}({})", record.epoch, proof(&record.proof)),
        Write::DeleteVacated => "-vacated".to_owned(),
        Write::Intent(intent) => match &intent.phase {
            IntentPhase::Fenced { proof: fenced, .. } => {
                format!("intent=Fenced({})", proof(fenced))
            }
            IntentPhase::Refused { reason } => format!("intent=Refused({reason})"),
            IntentPhase::Cancelled { reason } => format!("intent=Cancelled({reason})"),
            IntentPhase::TargetReady { lag_millis } => format!("intent=TargetReady({lag_millis})"),
            IntentPhase::HandedOver { epoch, .. } => format!("intent=HandedOver({epoch})"),
            IntentPhase::Done { epoch } => format!("intent=Done({epoch})"),
            IntentPhase::Requested => "intent=Requested".to_owned(),
        },
        Write::Member(record, _) => {
            let words = [
                (record.reachable, "reachable"),
                (record.fenced, "fenced"),
                (record.preflight_passed, "passed"),
                (record.has_data, "data"),
            ];
            let words: Vec<_> = words
                .iter()
                .filter(|(is, _)| *is)
                .map(|(_, word)| *word)
                .collect();
            format!("member=[{}]", words.join(" "))
        }
        Write::History(receipt) => {
            format!(
                "receipt={:?}({}: {})",
                receipt.kind, receipt.reason, receipt.message
            )
        }
        Write::DeleteHistory(epoch) => format!("-history/{epoch}"),
        Write::Vote(record, _) => {
            format!(
                "vote={}:{:?}@{}",
                record.against, record.ground, record.epoch
            )
        }
        Write::DeleteVote => "-vote".to_owned(),
        Write::Bid(record, _) => format!(
            "bid={}:{}{:?}",
            record.epoch,
            record.sequence.map_or("-".to_owned(), |it| it.to_string()),
            record.ineligible
        ),
        Write::DeleteBid => "-bid".to_owned(),
    }
}
