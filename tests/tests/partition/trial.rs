//! One trial: a steady state, applications, a fault, a steady state again, and the check.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::sandbox::PartSpec;
use model::TransitionKind;
use tests::history::{self, History, Outcome, Pause, Violation};

use crate::application::{self, CLIENTS_A_MEMBER, Settings, now};
use crate::faults::{Fault, Scene};
use crate::journal::Journal;
use crate::parts;
use crate::person;
use crate::random::Random;
use crate::rig::Rig;

/// How long a rig may take until all is well again. Links that were cut try again less and less
/// often.
const STEADY: Duration = Duration::from_secs(90);
/// Every client has its number; those of one trial are not those of the one before.
const CLIENTS_A_TRIAL: u32 = 100;

/// What came of a trial.
pub struct Trial {
    pub fault: Fault,
    pub seed: u64,
    /// Of which members.
    pub copies: &'static str,
    pub violations: Vec<Violation>,
    /// What should have happened and did not. The rig is of no further use then.
    pub stuck: Option<String>,
    pub pause: Option<Pause>,
    pub acknowledged: usize,
    pub refused: usize,
    pub unknown: usize,
    pub stranded: usize,
    /// Epochs that began during the trial.
    pub transitions: usize,
    pub notes: Vec<String>,
    pub restarts: BTreeMap<String, u32>,
    pub replay: String,
}

impl Trial {
    pub fn passed(&self) -> bool {
        self.violations.is_empty() && self.stuck.is_none()
    }

    /// What became of the writes, and how long none was taken.
    fn count(&mut self, scene: &Scene<'_>) {
        let attempts = &scene.journal.attempts;
        let count = |outcome: &Outcome| attempts.iter().filter(|it| it.outcome == *outcome).count();
        self.acknowledged = count(&Outcome::Acknowledged);
        self.refused = count(&Outcome::Refused);
        self.unknown = count(&Outcome::Unknown);
        let measure = self.fault.measure();
        let pause = |fault_at| Pause::of(attempts, measure, fault_at);
        self.pause = scene.fault_at.and_then(pause);
    }

    fn judge_moves(&mut self, most: Option<usize>) {
        let epochs = self.transitions;
        if let Some(at_most) = most.filter(|most| epochs > *most) {
            self.violations.push(Violation::Moved { epochs, at_most });
        }
    }
}

/// Runs a trial. Whatever goes wrong is in the result.
pub async fn run(rig: &Rig, index: u32, seed: u64, fault: Fault) -> Trial {
    let mut trial = Trial {
        fault,
        seed,
        copies: rig.copies.name,
        violations: Vec::new(),
        stuck: None,
        pause: None,
        acknowledged: 0,
        refused: 0,
        unknown: 0,
        stranded: 0,
        transitions: 0,
        notes: Vec::new(),
        restarts: BTreeMap::new(),
        replay: rig.options.replay(seed, rig.copies, fault),
    };
    if let Err(error) = Box::pin(attempt(rig, index, &mut trial)).await {
        trial.stuck = Some(format!("{error:#}"));
    }
    trial.restarts = rig.keeper.restarts();
    trial
}

async fn attempt(rig: &Rig, index: u32, trial: &mut Trial) -> Result<()> {
    let primary = match rig.steady(STEADY).await {
        Ok(primary) => primary,
        Err(error) => return Err(error.context(rig.describe().await)),
    };
    let mut random = Random::new(trial.seed);
    // Mostly as the custom resource's default is.
    let drawn = random.between(0, 2) > 0;
    let failsafe = trial.fault.failsafe().unwrap_or(drawn);
    rig.set_failsafe(failsafe).await?;
    if rig.clear()? {
        // Arbiters look each second whether it still stands in the way of a switchover.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
    }
    rig.lookout.take();
    rig.keeper.restarts();
    let first_client = index * CLIENTS_A_TRIAL + 1;
    let mut scene = Scene {
        rig,
        journal: start_applications(rig, first_client)?,
        random,
        other: rig.other(&primary).to_owned(),
        primary,
        fault_at: None,
        at_takeover: None,
        most_moves: None,
        failsafe,
        notes: vec![format!("failsafe {}", if failsafe { "on" } else { "off" })],
    };
    let done = Box::pin(observe(rig, trial.fault, &mut scene)).await;
    // Whatever came of it, nobody writes any more.
    stop_applications(rig)?;
    scene.journal.read()?;
    trial.notes = std::mem::take(&mut scene.notes);
    trial.count(&scene);
    let sightings = rig.lookout.take();
    let receipts = receipts(rig).await;
    // What was seen so far is judged even where the end cannot be.
    let mut history = History {
        attempts: std::mem::take(&mut scene.journal.attempts),
        sightings,
        receipts: receipts.unwrap_or_default(),
        at_takeover: scene.at_takeover.take(),
        promises: failsafe,
        ..History::default()
    };
    trial.transitions = transitions(&history);
    let settled = match done {
        Ok(()) => rig.settle().await,
        Err(error) => Err(error),
    };
    let settled = match settled {
        Ok(settled) => settled,
        Err(error) => {
            trial.violations = history::check_order(&history);
            return Err(error);
        }
    };
    history.sightings.extend(rig.lookout.take());
    history.receipts = self::receipts(rig).await?;
    trial.stranded = settled.stranding.found.len();
    history.primary = settled.primary;
    history.members = settled.members;
    // What arrived late of the trial before is none of this one's.
    let ours = first_client..first_client + CLIENTS_A_TRIAL;
    for rows in history.members.values_mut() {
        rows.writes.retain(|write| ours.contains(&write.client));
        rows.totals.retain(|client, _| ours.contains(client));
    }
    history.stranding = settled.stranding;
    trial.transitions = transitions(&history);
    trial.violations = history::check(&history);
    trial.judge_moves(scene.most_moves.filter(|_| !rig.options.ask));
    Ok(())
}

/// From writes at a steady primary through the fault to writes at a steady primary.
async fn observe(rig: &Rig, fault: Fault, scene: &mut Scene<'_>) -> Result<()> {
    let started = now();
    let primary = scene.primary.clone();
    let first = scene
        .taken(started, Duration::from_secs(20), |member| member == primary)
        .await?;
    first.with_context(|| format!("{primary} takes no writes before the fault"))?;
    scene.hold(700, 2_200).await;
    let journal = scene.journal.again();
    let harmed = Box::pin(async {
        Box::pin(fault.run(scene)).await?;
        let mended = now();
        // Links may stand still for what was stranded; writes may not.
        let steady = crate::rig::until("an open primary, all members", STEADY, async || {
            rig.open_primary().await
        });
        let primary = match steady.await {
            Ok(primary) => primary,
            Err(error) => return Err(error.context(rig.describe().await)),
        };
        let taken = scene
            .taken(mended, Duration::from_secs(20), |member| member == primary)
            .await?;
        taken.with_context(|| format!("{primary} takes no writes after the fault"))?;
        scene.hold(300, 900).await;
        Ok(())
    });
    if !rig.options.ask {
        return harmed.await;
    }
    tokio::select! {
        harmed = harmed => harmed,
        ended = person::watch(rig, journal) => ended,
    }
}

/// One process a side, so that each is cut off with its IDC.
fn start_applications(rig: &Rig, first_client: u32) -> Result<Journal> {
    let own = std::env::current_exe()?;
    let mut logs: Vec<PathBuf> = Vec::new();
    let mut members = Vec::new();
    for idc in rig.data() {
        let database = rig.database(idc)?;
        members.push((idc.to_owned(), database.host.clone(), database.port));
    }
    let database = rig.database(rig.other(""))?;
    let clients = CLIENTS_A_MEMBER * u32::try_from(members.len())?;
    let mut number = first_client;
    for side in &rig.world.info().idcs {
        let log = rig.directory().join(format!("writes-{side}.log"));
        // That of the trial before.
        drop(std::fs::remove_file(&log));
        let settings = Settings {
            side: side.clone(),
            log: log.clone(),
            members: members.clone(),
            user: database.app_user.clone(),
            password: database.app_password.clone(),
            schema: database.schema.clone(),
            first_client: number,
        };
        let file = rig.directory().join(format!("application-{side}.json"));
        std::fs::write(&file, serde_json::to_vec(&settings)?)?;
        let spec = PartSpec::new([
            own.display().to_string(),
            application::SUBCOMMAND.to_owned(),
            file.display().to_string(),
        ]);
        rig.world
            .sandbox()
            .spawn(&parts::application(side), spec.in_netns(side))?;
        logs.push(log);
        number += clients;
    }
    Ok(Journal::of(logs))
}

fn stop_applications(rig: &Rig) -> Result<()> {
    let mut failed = Vec::new();
    for side in &rig.world.info().idcs {
        let part = parts::application(side);
        // An application that ended by itself has not written all the time.
        if rig.world.sandbox().check_running(&part).is_err() {
            failed.push(part.clone());
        }
        rig.world.stop(&part)?;
    }
    // What a client had given up may still lie in a socket: it must not turn up in the next trial.
    for idc in rig.data() {
        // A server that does not answer has lost its connections.
        let Ok(sessions) = rig
            .database(idc)?
            .root("SELECT id FROM information_schema.processlist WHERE user = 'app'")
        else {
            continue;
        };
        for id in sessions.iter().flatten() {
            // It may have ended by itself.
            drop(rig.database(idc)?.root(&format!("KILL {id}")));
        }
    }
    anyhow::ensure!(
        failed.is_empty(),
        "{} ended by itself; its log is in {}",
        failed.join(", "),
        rig.world.info().directory.join("logs").display()
    );
    Ok(())
}

/// Number and holder of each epoch that etcd keeps a receipt of, and whether it was planned.
async fn receipts(rig: &Rig) -> Result<Vec<(u64, String, bool)>> {
    let receipts = rig.topology.history(&rig.unit, 100).await?;
    let brief = receipts.into_iter().map(|receipt| {
        let planned = receipt.kind == TransitionKind::Switchover;
        (receipt.epoch.0, receipt.to.to_string(), planned)
    });
    Ok(brief.collect())
}

fn transitions(history: &History) -> usize {
    let epochs: std::collections::BTreeSet<u64> =
        history.sightings.iter().map(|it| it.epoch.0).collect();
    epochs.len().saturating_sub(1)
}
