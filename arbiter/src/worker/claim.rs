//! The server is claimed for the Unit before anything else is done there, and again every few
//! seconds. One that belongs to another Unit is left alone: no heartbeat, no fence, no guard.

use std::time::Duration;

use model::{Finding, ServerIdentity};
use mysql::control::{ControlError, ControlSession, Owner, OwnerRow, Ownership};
use tokio::time::Instant;

use super::{Failed, Worker};
use crate::servers::{self, Servers};

/// Well below the time after which an owner counts as away.
const AGAIN: Duration = Duration::from_secs(5);

/// In whose name the server is claimed, and what came of it.
#[derive(Debug)]
pub struct Claim {
    /// In whose name.
    pub owner: Owner,
    servers: Servers,
    again_at: Instant,
    refused: Option<Finding>,
}

impl Claim {
    /// A claim that was not made yet.
    pub fn new(owner: Owner, servers: Servers) -> Self {
        Self {
            owner,
            servers,
            again_at: Instant::now(),
            refused: None,
        }
    }

    /// What stands against the claim.
    pub fn refused(&self) -> Option<&Finding> {
        self.refused.as_ref()
    }

    fn finding(&self, row: &OwnerRow) -> Finding {
        let object = format!("member {} of unit {}", self.owner.idc, self.owner.unit);
        servers::foreign(object, row, &self.owner.installation)
    }
}

impl Worker {
    /// Looks whose the server of a new session is, before anything is done there.
    ///
    /// # Errors
    /// Where it belongs to another Unit or could not be asked.
    pub(super) async fn look_whose(&mut self, session: &mut ControlSession) -> Result<(), Failed> {
        let owner = self.claim.owner.clone();
        let claimed = session
            .claimed(&owner, |server, row| self.may_take(server, row))
            .await;
        self.claim.again_at = Instant::now();
        self.take_claim(claimed)
    }

    /// Claims the server anew, every few seconds.
    pub(super) async fn claim_again(&mut self) -> Result<(), Failed> {
        if Instant::now() < self.claim.again_at {
            return Ok(());
        }
        let Some(mut session) = self.session.take() else {
            return Ok(());
        };
        let owner = self.claim.owner.clone();
        let claimed = session
            .claim(&owner, |server, row| self.may_take(server, row))
            .await;
        if matches!(claimed, Err(ControlError::NotInstalled { .. })) && self.passed {
            // The schema is of before this table. It is claimed at the next look.
            let made = session.install().await;
            made.map_err(|error| Failed::from(&error))?;
        } else if !matches!(claimed, Ok(Ownership::Free)) {
            self.claim.again_at = Instant::now() + AGAIN;
        }
        // A session with a server that is another's is given up: the next one begins by looking.
        self.take_claim(claimed)?;
        self.session = Some(session);
        Ok(())
    }

    fn may_take(&self, server: &ServerIdentity, row: Option<&OwnerRow>) -> bool {
        let (claim, epoch) = (&self.claim, self.context.epoch);
        let Owner {
            installation, unit, ..
        } = &claim.owner;
        match row {
            Some(row) => claim.servers.has_left(installation, row),
            // Another Unit may be at work there, whose arbiter does not know this table yet.
            None => claim.servers.rival(server, unit, epoch).is_none(),
        }
    }

    fn take_claim(&mut self, claimed: Result<Ownership, ControlError>) -> Result<(), Failed> {
        let refused = match claimed {
            Ok(Ownership::Foreign(row)) => Some(self.claim.finding(&row)),
            // Without the table there is nobody to stand in the way; installing makes it.
            Ok(Ownership::Claimed | Ownership::Free) | Err(ControlError::NotInstalled { .. }) => {
                None
            }
            Err(error) => return Err(Failed::from(&error)),
        };
        if refused != self.claim.refused {
            self.claim.refused = refused;
            self.report_findings();
        }
        match &self.claim.refused {
            Some(finding) => Err(finding.to_string().into()),
            None => Ok(()),
        }
    }
}
