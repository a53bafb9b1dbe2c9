//! The asks for promises of one Unit, in both directions: whom to ask, and whom an answer goes to.

use std::collections::BTreeMap;

use arbitration::{Event, PromiseAsk};
use change::arbiter::PromiseRequest;
use model::{IdcName, UnitKey, UnitState};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::promises::{Asked, Peers};

/// So many asks wait for the core's answer; of more the oldest get none.
const WAITING: usize = 32;

/// What an ask of ours came to.
#[derive(Debug)]
pub struct Answered {
    of: IdcName,
    number: u64,
    /// Whether it promises; else why it does not say.
    outcome: Result<bool, String>,
}

/// What goes on between this Unit's arbiters.
pub struct Promising {
    /// Asks that arrive here.
    pub asks: mpsc::UnboundedReceiver<Asked>,
    /// Asks of ours that are under way.
    pub asking: JoinSet<Answered>,
    /// Why each arbiter that was asked since etcd answered last does not promise.
    lacking: BTreeMap<IdcName, String>,
    /// Where each IDC's arbiter was when etcd last told: without etcd nothing better is known.
    addresses: BTreeMap<IdcName, String>,
    /// Who waits for the core's answer. The numbers are this process's own: those of two that ask
    /// may be the same.
    waiting: BTreeMap<u64, oneshot::Sender<bool>>,
    numbers: u64,
}

impl Promising {
    /// With the asks that arrive for the Unit.
    pub fn new(asks: mpsc::UnboundedReceiver<Asked>) -> Self {
        Self {
            asks,
            asking: JoinSet::new(),
            lacking: BTreeMap::new(),
            addresses: BTreeMap::new(),
            waiting: BTreeMap::new(),
            numbers: 0,
        }
    }

    /// Notes where arbiters are. One whose session ended may still be there.
    pub fn note_addresses(&mut self, state: &UnitState) {
        for (idc, session) in &state.sessions {
            let address = &session.value.promises_at;
            if !address.is_empty() {
                self.addresses.insert(idc.clone(), address.clone());
            }
        }
    }

    /// Somebody asks.
    pub fn asked(&mut self, asked: Asked) -> Event {
        self.numbers += 1;
        self.waiting.insert(self.numbers, asked.answer);
        while self.waiting.len() > WAITING {
            self.waiting.pop_first();
        }
        Event::PromiseAsked {
            by: asked.by,
            ask: PromiseAsk {
                number: self.numbers,
                epoch: asked.epoch,
                for_millis: asked.for_millis,
            },
        }
    }

    /// The core answers.
    pub fn answer(&mut self, unit: &UnitKey, to: &IdcName, number: u64, promised: bool) {
        if promised {
            tracing::debug!(%unit, %to, "promised not to take the unit");
        } else {
            tracing::info!(%unit, %to, "refused a promise");
        }
        if let Some(waiting) = self.waiting.remove(&number) {
            // Whoever has gone away relies on nothing.
            let _ = waiting.send(promised);
        }
    }

    /// The core asks.
    pub fn ask(
        &mut self,
        (unit, idc): (&UnitKey, &IdcName),
        peers: Option<&Peers>,
        of: IdcName,
        ask: PromiseAsk,
    ) {
        let (Some(peers), Some(address)) = (peers.cloned(), self.addresses.get(&of).cloned())
        else {
            tracing::warn!(%unit, %of, "etcd has never told where its arbiter is asked for promises");
            let why = "etcd has never told where its arbiter is asked".to_owned();
            self.lacking.insert(of, why);
            return;
        };
        let unit = unit.clone();
        let request = PromiseRequest {
            unit: unit.to_string(),
            by: idc.to_string(),
            of: of.to_string(),
            epoch: ask.epoch.0,
            for_millis: ask.for_millis,
        };
        self.asking.spawn(async move {
            let outcome = match peers.ask(&address, request).await {
                Ok(promised) => {
                    tracing::info!(%unit, %of, promised, "was asked not to take the unit while etcd is out of reach");
                    Ok(promised)
                }
                Err(error) => {
                    tracing::warn!(%unit, %of, %error, "no promise");
                    Err(error.to_string())
                }
            };
            let number = ask.number;
            Answered { of, number, outcome }
        });
    }

    /// An ask of ours has ended.
    pub fn answered(&mut self, answered: Answered) -> Option<Event> {
        let Answered {
            of,
            number,
            outcome,
        } = answered;
        match &outcome {
            Ok(true) => self.lacking.remove(&of),
            Ok(false) => self.lacking.insert(of.clone(), "it refuses".to_owned()),
            Err(why) => self.lacking.insert(of.clone(), why.clone()),
        };
        let promised = outcome.ok()?;
        Some(Event::PromiseAnswered {
            by: of,
            number,
            promised,
        })
    }

    /// etcd answers, so nobody's promise is needed.
    pub fn needs_none(&mut self) {
        self.lacking.clear();
    }

    /// Whose promises are lacking, and why, as part of a sentence; empty where none is.
    pub fn lacks(&self) -> String {
        let each: Vec<String> = self
            .lacking
            .iter()
            .map(|(of, why)| format!("{of} does not promise to leave the unit alone: {why}"))
            .collect();
        each.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(of: &str, outcome: Result<bool, &str>) -> Answered {
        Answered {
            of: IdcName::new(of).unwrap(),
            number: 7,
            outcome: outcome.map_err(str::to_owned),
        }
    }

    #[test]
    fn why_promises_are_lacking_is_told_until_etcd_answers() {
        let (_sender, asks) = mpsc::unbounded_channel();
        let mut promising = Promising::new(asks);
        assert_eq!(promising.lacks(), "");
        let expired = Err("certificate expired");
        assert_eq!(promising.answered(answered("bj", expired)), None);
        let refused = promising.answered(answered("hz", Ok(false)));
        assert!(matches!(
            refused,
            Some(Event::PromiseAnswered {
                number: 7,
                promised: false,
                ..
            })
        ));
        assert_eq!(
            promising.lacks(),
            "bj does not promise to leave the unit alone: certificate expired; hz does not promise \
             to leave the unit alone: it refuses"
        );
        promising.answered(answered("bj", Ok(true)));
        assert!(promising.lacks().starts_with("hz"), "{}", promising.lacks());
        promising.needs_none();
        assert_eq!(promising.lacks(), "");
    }
}
