//! The primary's disk is full: commits wait for room, and the Unit moves to the member that has some.
//!
//! MariaDB 10.11 refuses nothing then: whoever commits waits for somebody to free space, and so does a
//! `SET GLOBAL read_only`, until those sessions are killed, which rolls them back (tried).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::database::Account;
use harness::sandbox::PartSpec;
use model::{FailoverMode, IntentKind, IntentPhase, TransitionKind};

use super::life::{LEASE, protected, servers_back};
use super::rig::{Rig, until, with_world};
use super::without_etcd::read_only;

/// The member whose disk is small. It is the one with MariaDB: MySQL's files have another place as well.
const IDC: &str = "bj";

/// What the server's sessions do.
const SHOWN: &str = "SELECT CONCAT('read_only=', @@GLOBAL.read_only, ': ', GROUP_CONCAT(CONCAT_WS(' ', \
     id, user, command, time_ms, state, info) SEPARATOR '; ')) FROM information_schema.processlist";

#[test]
fn a_primary_with_a_full_disk_is_failed_over() -> Result<()> {
    on_small_disk(&async |world, small| Box::pin(full(world, small)).await)
}

/// What hangs in a commit is our own heartbeat, among others, and nobody is left to fence but the guard.
#[test]
fn a_guard_closes_a_server_whose_disk_is_full() -> Result<()> {
    on_small_disk(&async |world, small| Box::pin(left_to_the_guard(world, small)).await)
}

fn on_small_disk(test: &impl AsyncFn(&World, &SmallDisk<'_>) -> Result<()>) -> Result<()> {
    with_world(&async |world| {
        let small = SmallDisk::of(world)?;
        let outcome = match small.begin() {
            Ok(()) => test(world, &small).await,
            Err(error) => Err(error),
        };
        // Whatever came of it, the next test finds both servers, and room.
        let back = small.end();
        outcome.and(back)
    })
}

async fn full(world: &World, small: &SmallDisk<'_>) -> Result<()> {
    let mut rig = Rig::new(world, "full").await?;
    rig.policy.mode = FailoverMode::Automatic;
    let epoch = protected(&mut rig).await?;
    rig.written("sh", Duration::from_secs(5)).await?;
    let before = rig.moves();
    rig.ready_to_fail_over().await?;
    let phase = rig.ask(IntentKind::Planned, IDC, false).await?;
    ensure!(matches!(phase, IntentPhase::Done { .. }), "{phase:?}");
    let epoch = rig.primary(IDC, epoch, Duration::from_secs(5)).await?;
    rig.written(IDC, Duration::from_secs(5)).await?;
    rig.ready_to_fail_over().await?;

    let filled = Instant::now();
    small.fill()?;
    let epoch = rig.primary("sh", epoch, Duration::from_secs(60)).await?;
    let first = rig.written("sh", Duration::from_secs(5)).await?;
    println!(
        "failed over {:?} after the disk was full",
        first.acknowledged - filled
    );
    let receipt = rig.receipt(epoch).await?;
    ensure!(
        receipt.kind == TransitionKind::Failover && receipt.automatic,
        "{receipt:?}"
    );

    // A person makes room, and does not wait for the minute after which the server looks again.
    drop(world.kill(&harness::database::part(IDC)));
    small.make_room()?;
    servers_back(world)?;
    rig.follows(IDC).await?;
    let moves = rig.moves() - before;
    ensure!(
        moves == 2,
        "writes moved {moves} times, not to {IDC} and back"
    );
    rig.stop_arbiters()
}

async fn left_to_the_guard(world: &World, small: &SmallDisk<'_>) -> Result<()> {
    let mut rig = Rig::new(world, "stuck").await?;
    let epoch = protected(&mut rig).await?;
    let phase = rig.ask(IntentKind::Planned, IDC, false).await?;
    ensure!(matches!(phase, IntentPhase::Done { .. }), "{phase:?}");
    rig.primary(IDC, epoch, Duration::from_secs(5)).await?;
    rig.written(IDC, Duration::from_secs(5)).await?;

    small.fill()?;
    let database = world.database(IDC)?;
    let stuck = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{}' \
         AND state IN ('Waiting for someone to free space', 'Commit')",
        database.user
    );
    let what = "a heartbeat waits for room";
    until(what, Duration::from_secs(10), async || {
        let waiting = database.value(Account::Root, &stuck)?;
        Ok((waiting != "0").then_some(()))
    })
    .await?;
    let died = Instant::now();
    world.kill(&rig.part(IDC))?;
    // Its last guard's deadline, and what the fence may take with several of ours in the way.
    until("the guard has closed it", LEASE * 2, async || {
        if dead(world)? {
            return Ok(Some(()));
        }
        // A login can wait for what the fence waits for.
        let look = tokio::time::timeout(Duration::from_secs(1), read_only(world, IDC)).await;
        Ok(matches!(look, Ok(Ok(true))).then_some(()))
    })
    .await
    .with_context(|| {
        format!(
            "the server shows {:?}",
            database.value(Account::Root, SHOWN)
        )
    })?;
    let how = if dead(world)? { "dead" } else { "closed" };
    println!("{how} {:?} after its arbiter died", died.elapsed());
    Ok(())
}

/// A server that finds no room to roll back what was cut for five seconds ends itself ("Out of disk
/// space in rollback"), which nobody can write to either.
fn dead(world: &World) -> Result<bool> {
    let states = world.sandbox().states()?;
    let state = states.get(&harness::database::part(IDC));
    Ok(state.is_none_or(|state| !state.running()))
}

/// A small file system of its own in place of the one on which a server's data is.
struct SmallDisk<'a> {
    world: &'a World,
    data: PathBuf,
}

impl<'a> SmallDisk<'a> {
    fn of(world: &'a World) -> Result<Self> {
        let engine = world.database(IDC)?.engine;
        ensure!(engine == harness::Engine::MariaDb, "{engine:?}");
        let data = world.info().directory.join("database").join(IDC);
        let data = data.join("data");
        Ok(Self { world, data })
    }

    /// In the sandbox's own view of the file systems, where its parts are started.
    fn run(&self, script: &str) -> Result<()> {
        let words = ["sh", "-euc", script, "sh"].map(str::to_owned);
        let data = [self.data.display().to_string()];
        let spec = PartSpec::new(words.into_iter().chain(data));
        self.world.sandbox().check(spec).map(drop)
    }

    fn begin(&self) -> Result<()> {
        self.world.kill(&harness::database::part(IDC))?;
        self.run(
            "used=$(du -sm \"$1\" | cut -f1); mkdir -p /run/small; \
             mount -t tmpfs -o size=$((used + 96))m tmpfs /run/small; \
             cp -a \"$1/.\" /run/small/; mount --bind /run/small \"$1\"",
        )?;
        servers_back(self.world)
    }

    fn fill(&self) -> Result<()> {
        self.run(
            "! dd if=/dev/zero of=\"$1/filler\" bs=64k 2> /run/filled; \
             grep -q 'No space left' /run/filled",
        )
    }

    fn make_room(&self) -> Result<()> {
        self.run("rm -f \"$1/filler\"")
    }

    /// The data goes back to where it was.
    fn end(&self) -> Result<()> {
        // It may have ended by itself.
        drop(self.world.kill(&harness::database::part(IDC)));
        self.run(
            "if mountpoint -q \"$1\"; then rm -f \"$1/filler\"; umount \"$1\"; \
             find \"$1\" -mindepth 1 -delete; cp -a /run/small/. \"$1/\"; fi; \
             if mountpoint -q /run/small; then umount /run/small; fi",
        )?;
        servers_back(self.world)
    }
}
