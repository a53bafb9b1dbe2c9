//! The core's commands to a database, in the words of the `mysql` crate.

use std::time::Duration;

use arbitration::{DatabaseCommand, DatabaseResult, Moment};
use model::{Epoch, FenceProof, Generation, IdcName, PositionText, ServerBoot, ServerIdentity};
use mysql::control::{
    ControlError, ControlSession, FenceOptions, GuardHandle, GuardOrder, OpenOrder, OpenOutcome,
    PreparedGuard, PromiseOrder, PromiseOutcome, PromotionOrder,
};
use mysql::session::SessionOptions;

use crate::clock;

/// How long a fence may take, after its grace, before it is reported as failed and begun anew.
const FENCE_BUDGET: Duration = Duration::from_millis(1_000);
/// How long one look at what was applied waits for it.
const CHECK_FOR: Duration = Duration::from_millis(100);

/// What a command runs with.
pub struct Hands<'a> {
    /// The session; it may be broken afterwards.
    pub session: &'a mut ControlSession,
    /// For the connections that guards run on.
    pub options: &'a SessionOptions,
    /// The guard started last.
    pub guard: &'a mut Option<GuardHandle>,
    /// Set before anything is sent that the command would come about by.
    pub sent: &'a mut bool,
    /// This IDC.
    pub idc: &'a IdcName,
    /// The epoch, for the last heartbeat of a fence.
    pub epoch: Epoch,
    /// The generation of this process's session.
    pub generation: Generation,
    /// The server that the last look showed.
    pub identity: &'a ServerIdentity,
}

impl Hands<'_> {
    /// Carries a command out. What has no clear end comes back as failed.
    pub async fn run(&mut self, command: &DatabaseCommand) -> DatabaseResult {
        // What leads up to a guard starts none.
        *self.sent = !matches!(command, DatabaseCommand::StartGuard { .. });
        let outcome = match command {
            DatabaseCommand::Fence { grace_millis } => {
                return self.fence(Duration::from_millis(*grace_millis)).await;
            }
            DatabaseCommand::Promote {
                epoch,
                from,
                over,
                lossy,
                drain_until,
            } => {
                let order = PromotionOrder {
                    epoch: *epoch,
                    idc: self.idc.clone(),
                    from: from.clone(),
                    lossy: *lossy,
                };
                self.promote(&order, *over, *drain_until).await
            }
            DatabaseCommand::Promise {
                epoch,
                to,
                for_millis,
            } => self.promise(*epoch, to, *for_millis).await,
            DatabaseCommand::StartGuard { deadline } => {
                let guard = match self.prepare_guard(*deadline).await {
                    Ok(guard) => guard,
                    Err(error) => {
                        let reason = error.to_string();
                        return DatabaseResult::NotSent { reason };
                    }
                };
                *self.sent = true;
                self.run_guard(guard).await
            }
            DatabaseCommand::Open {
                epoch,
                deadline,
                identity,
                boot,
            } => self.open(*epoch, *deadline, identity, *boot).await,
            DatabaseCommand::CheckApplied { source, position } => {
                self.check_applied(source, position).await
            }
            DatabaseCommand::Leave => self.leave().await,
        };
        outcome.unwrap_or_else(|error| failed(&error))
    }

    async fn fence(&mut self, grace: Duration) -> DatabaseResult {
        let options = FenceOptions {
            generation: self.generation,
            grace,
            budget: FENCE_BUDGET,
            keep: Vec::new(),
            heartbeat: (self.epoch != Epoch::NONE).then(|| (self.idc.clone(), self.epoch)),
        };
        match self.session.fence(&options).await {
            Ok(fenced) => {
                *self.guard = None;
                DatabaseResult::Fenced(FenceProof::Fenced {
                    identity: fenced.identity,
                    boot: fenced.boot,
                    position: fenced.position,
                    at: jiff::Timestamp::now(),
                })
            }
            Err(error) => DatabaseResult::Failed {
                reason: error.to_string(),
            },
        }
    }

    async fn promote(
        &mut self,
        order: &PromotionOrder,
        over: Epoch,
        drain_until: Option<Moment>,
    ) -> Result<DatabaseResult, ControlError> {
        self.session.end_promises(over).await?;
        let promotion = if drain_until.is_some_and(|until| clock::now().at < until) {
            match self.session.promote_if_still(order).await? {
                Some(promotion) => promotion,
                None => return Ok(DatabaseResult::StillApplies),
            }
        } else {
            self.session.promote(order).await?
        };
        Ok(DatabaseResult::Promoted {
            applied: promotion.applied,
        })
    }

    async fn promise(
        &mut self,
        epoch: Epoch,
        to: &IdcName,
        for_millis: u64,
    ) -> Result<DatabaseResult, ControlError> {
        let order = PromiseOrder {
            epoch,
            to: to.clone(),
            for_millis,
            generation: self.generation,
        };
        Ok(match self.session.promise(&order).await? {
            PromiseOutcome::Recorded => DatabaseResult::Promised,
            PromiseOutcome::Refused => DatabaseResult::Failed {
                reason: "the server accepts writes, or a later arbiter has acted there".to_owned(),
            },
        })
    }

    async fn prepare_guard(&mut self, deadline: Moment) -> Result<PreparedGuard, ControlError> {
        // Every older process is shut out before this one's guard lets anything be opened.
        self.session.adopt(self.generation).await?;
        let order = GuardOrder {
            until: clock::at(deadline),
            identity: self.identity.clone(),
            generation: self.generation,
        };
        self.session
            .prepare_guard(self.options, &order, clock::since_boot)
            .await
    }

    async fn run_guard(&mut self, prepared: PreparedGuard) -> Result<DatabaseResult, ControlError> {
        let guard = self.session.run_guard(prepared).await?;
        let id = guard.id();
        // The one before is ended only now that its successor was seen.
        *self.guard = Some(guard);
        self.session.end_guards(self.generation, Some(id)).await?;
        Ok(DatabaseResult::GuardRuns)
    }

    async fn open(
        &mut self,
        epoch: Epoch,
        deadline: Moment,
        identity: &ServerIdentity,
        boot: ServerBoot,
    ) -> Result<DatabaseResult, ControlError> {
        let order = OpenOrder {
            epoch,
            until: clock::at(deadline),
            identity: identity.clone(),
            boot,
            generation: self.generation,
        };
        Ok(match self.session.open(&order, clock::since_boot).await? {
            OpenOutcome::Opened => DatabaseResult::Opened,
            OpenOutcome::Refused(refusal) => DatabaseResult::Failed {
                reason: format!("the server refuses to open: {refusal}"),
            },
        })
    }

    async fn check_applied(
        &mut self,
        source: &IdcName,
        position: &PositionText,
    ) -> Result<DatabaseResult, ControlError> {
        let give_up = tokio::time::Instant::now() + CHECK_FOR;
        loop {
            let applied = self.session.applied_through(source, position).await?;
            if applied || tokio::time::Instant::now() >= give_up {
                return Ok(DatabaseResult::Applied(applied));
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    async fn leave(&mut self) -> Result<DatabaseResult, ControlError> {
        self.session.end_guards(self.generation, None).await?;
        self.session.open_door().await?;
        *self.guard = None;
        Ok(DatabaseResult::Left)
    }
}

fn failed(error: &ControlError) -> DatabaseResult {
    DatabaseResult::Failed {
        reason: error.to_string(),
    }
}

/// A short name for logs and metrics.
pub fn name(command: &DatabaseCommand) -> &'static str {
    match command {
        DatabaseCommand::Fence { .. } => "fence",
        DatabaseCommand::Promote { .. } => "promote",
        DatabaseCommand::Promise { .. } => "promise",
        DatabaseCommand::StartGuard { .. } => "start_guard",
        DatabaseCommand::Open { .. } => "open",
        DatabaseCommand::CheckApplied { .. } => "check_applied",
        DatabaseCommand::Leave => "leave",
    }
}
