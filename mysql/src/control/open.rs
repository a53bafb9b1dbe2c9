//! Making a member writable (rule 3): everything is checked inside the server, when it happens.

use std::time::Duration;

use model::{Epoch, Generation, ServerBoot, ServerIdentity};

use super::guard::server_deadline;
use super::procedures::OPEN;
use super::row::Answer;
use super::{ControlError, ControlSession, literal};

const DOING: &str = "open the server for writes";

/// Under which conditions to open.
#[derive(Debug, Clone)]
pub struct OpenOrder {
    /// The epoch that this member holds; must be the newest in the database.
    pub epoch: Epoch,
    /// Nothing is opened from this time on, on the clock that the caller passes along.
    pub until: Duration,
    /// The server it must be.
    pub identity: ServerIdentity,
    /// The boot it must be.
    pub boot: ServerBoot,
    /// The generation of the arbiter; must not be older than one that has acted here.
    pub generation: Generation,
}

/// What became of an order to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenOutcome {
    /// The server accepts writes.
    Opened,
    /// It does not, and a check inside the server says why.
    Refused(OpenRefusal),
}

/// Why the server refused to open. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefusal {
    /// Another server answers here.
    #[error("another server answers: its identity is {seen:?}")]
    Identity {
        /// What it says it is.
        seen: String,
    },
    /// It was restarted.
    #[error("the server was restarted: it runs since {seen}")]
    Boot {
        /// Its start, in seconds since 1970.
        seen: String,
    },
    /// A newer arbiter process has acted here.
    #[error("an arbiter of generation {seen} has acted here since")]
    Generation {
        /// Its generation.
        seen: String,
    },
    /// Another order to open runs in the server.
    #[error("another order to open it is being carried out; try again in a moment")]
    Busy,
    /// The newest epoch in the database is another one.
    #[error("the newest epoch in the database is {seen}")]
    Epoch {
        /// The newest.
        seen: String,
    },
    /// No guard runs.
    #[error("no guard runs in the server")]
    NoGuard,
    /// A guard has passed its deadline and is still there.
    #[error("a guard whose deadline is over is still at work; try again in a moment")]
    GuardOver,
    /// Somebody else was promised that this server is not opened, and the promise runs.
    #[error(
        "it was promised to the primary elsewhere that this server stays closed; wait for its end"
    )]
    Promised,
    /// The server's clock was set since the deadline was reckoned from it, or the order was long
    /// under way.
    #[error("the server's clock shows {seen}, not within 0.8 s after it was read for the deadline")]
    Clock {
        /// What it shows, in microseconds since 1970.
        seen: String,
    },
    /// The order came too late.
    #[error("the order reached the server after its deadline")]
    Deadline,
}

impl OpenRefusal {
    fn parse(word: &str, seen: String) -> Option<Self> {
        Some(match word {
            "Identity" => Self::Identity { seen },
            "Boot" => Self::Boot { seen },
            "Generation" => Self::Generation { seen },
            "Epoch" => Self::Epoch { seen },
            "Busy" => Self::Busy,
            "NoGuard" => Self::NoGuard,
            "GuardOver" => Self::GuardOver,
            "Promised" => Self::Promised,
            "Clock" => Self::Clock { seen },
            "Deadline" => Self::Deadline,
            _ => return None,
        })
    }
}

impl ControlSession {
    /// Makes the server accept writes if every condition holds in the server at that moment, and
    /// lets ordinary sessions in. Any error but a refusal means *not known*: it may have opened
    /// or may yet open until `order.until`.
    pub async fn open(
        &mut self,
        order: &OpenOrder,
        clock: impl Fn() -> Duration,
    ) -> Result<OpenOutcome, ControlError> {
        let server = self.clock_micros().await?;
        let Some(deadline) = server_deadline(server, clock(), order.until) else {
            return Ok(OpenOutcome::Refused(OpenRefusal::Deadline));
        };
        let call = format!(
            "CALL multiactive.{OPEN}({}, {server}, {deadline}, {}, {}, {})",
            order.epoch,
            order.generation.0,
            literal(&order.identity.0),
            order.boot.0
        );
        let mut sets = self.query(DOING, &call).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        let word: String = answer.value(&mut row, 0, "refusal")?;
        let seen: String = answer.value(&mut row, 1, "reason")?;
        if word.is_empty() {
            return Ok(OpenOutcome::Opened);
        }
        match OpenRefusal::parse(&word, seen) {
            Some(refusal) => Ok(OpenOutcome::Refused(refusal)),
            None => Err(answer.missing(format!("refusal ({word:?})"))),
        }
    }
}
