//! Applications take every connection that a server allows: the arbiter keeps its member all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::World;
use harness::database::Database;
use model::{Epoch, FailoverMode, IntentKind, IntentPhase};
use tokio::task::JoinSet;

use super::life::{LEASE, protected};
use super::rig::{DATA, Rig, connect, options, until, with_world};

/// So many the server allows meanwhile: enough for whatever else is connected.
const MOST: u64 = 60;
/// `ER_CON_COUNT_ERROR` in words: it comes before the handshake or after it.
const TOO_MANY: &str = "Too many connections";

#[test]
fn a_primary_without_a_free_connection_stays() -> Result<()> {
    with_world(&async |world| {
        let before = allowed(world)?;
        let outcome = Box::pin(crowded(world)).await;
        // Whatever came of it, the next test finds room.
        let mended = DATA
            .iter()
            .zip(before)
            .try_for_each(|(idc, most)| allow(world.database(idc)?, most));
        outcome.and(mended)
    })
}

fn allowed(world: &World) -> Result<Vec<u64>> {
    let look = "SELECT @@GLOBAL.max_connections";
    let of = |idc: &&str| Ok(world.database(idc)?.root(look)?.concat().concat().parse()?);
    DATA.iter().map(of).collect()
}

fn allow(database: &Database, most: u64) -> Result<()> {
    let set = format!("SET GLOBAL max_connections = {most}");
    database.root(&set).map(drop)
}

async fn crowded(world: &World) -> Result<()> {
    let mut rig = Rig::new(world, "crowded").await?;
    rig.policy.mode = FailoverMode::Automatic;
    let epoch = protected(&mut rig).await?;
    rig.written("sh", Duration::from_secs(5)).await?;
    let before = rig.moves();
    Box::pin(stays_while_full(&rig, "sh", epoch)).await?;
    let phase = rig.ask(IntentKind::Planned, "bj", false).await?;
    ensure!(matches!(phase, IntentPhase::Done { .. }), "{phase:?}");
    let epoch = rig.primary("bj", epoch, Duration::from_secs(5)).await?;
    rig.written("bj", Duration::from_secs(5)).await?;
    Box::pin(stays_while_full(&rig, "bj", epoch)).await?;
    let moves = rig.moves() - before;
    ensure!(moves == 1, "writes moved {moves} times, not once to bj");
    rig.stop_arbiters()
}

/// Longer than a guard lives: each one is started on a connection of its own.
async fn stays_while_full(rig: &Rig<'_>, idc: &'static str, epoch: u64) -> Result<()> {
    rig.ready_to_fail_over().await?;
    let database = rig.world.database(idc)?;
    allow(database, MOST)?;
    let greedy = Greedy::start(database.clone());
    let what = format!("{idc} refuses applications for want of connections");
    until(&what, Duration::from_secs(20), async || {
        Ok((greedy.refused() > 0).then_some(()))
    })
    .await?;
    let begin = Instant::now();
    told(rig, idc, Some(MOST)).await?;
    until("two lease times go by", LEASE * 3, async || {
        let state = rig.state().await?;
        let current = state.epoch.map(|it| it.value.epoch);
        ensure!(
            current == Some(Epoch(epoch)) && state.primary.is_some(),
            "{current:?} after {epoch}; the primary is {:?}",
            state.primary
        );
        Ok((begin.elapsed() > LEASE * 2).then_some(()))
    })
    .await?;
    let refused = greedy.refused();
    let what = format!("{idc} still refuses applications");
    until(&what, Duration::from_secs(2), async || {
        Ok((greedy.refused() > refused).then_some(()))
    })
    .await?;
    // The application that was connected before has written all the time.
    let what = format!("no free connection at {idc}, {refused} refused");
    rig.undisturbed(idc, begin, &what)?;
    rig.written(idc, Duration::from_secs(2)).await?;
    drop(greedy);
    told(rig, idc, None).await
}

/// The arbiter's word on it, of which the Unit's condition is made.
async fn told(rig: &Rig<'_>, idc: &str, most: Option<u64>) -> Result<()> {
    let what = format!("{idc} is told of as crowded: {most:?}");
    until(&what, Duration::from_secs(15), async || {
        let crowded = rig.status(idc)?.units[&rig.unit].crowded;
        Ok((crowded == most).then_some(()))
    })
    .await
}

/// An application that keeps every connection that it gets, and asks for another.
struct Greedy {
    refused: Arc<AtomicUsize>,
    /// Ended with it.
    _task: JoinSet<()>,
}

impl Greedy {
    fn start(database: Database) -> Self {
        let refused = Arc::new(AtomicUsize::new(0));
        let counted = refused.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let (user, password) = (&database.app_user, &database.app_password);
            let options = options(&database, user, password);
            let mut taken = Vec::new();
            loop {
                match connect(options.clone()).await {
                    Ok(connection) => taken.push(connection),
                    Err(error) => {
                        if format!("{error:#}").contains(TOO_MANY) {
                            counted.fetch_add(1, Ordering::Relaxed);
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
        Self {
            refused,
            _task: task,
        }
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}
