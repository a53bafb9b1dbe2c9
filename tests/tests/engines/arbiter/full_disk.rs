//! The primary's disk is full: commits wait for room, and the Unit moves to the member that has some.
//!
//! MariaDB 10.11 refuses nothing then: whoever commits waits for somebody to free space, and so does a
//! `SET GLOBAL read_only`, until those sessions are killed, which rolls them back (tried). MySQL 9.7
//! waits at its binlog in the same way, and ends itself when the wait is cut (`binlog_error_action`).

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

/// The first primary.
const FIRST: &str = "sh";
/// The members, each with the one that is beside it.
const MEMBERS: [(&str, &str); 2] = [("bj", FIRST), (FIRST, "bj")];

#[test]
fn a_primary_with_a_full_disk_is_failed_over() -> Result<()> {
    on_small_disks(&async |world, small| Box::pin(full(world, small)).await)
}

/// What hangs in a commit is our own heartbeat, among others, and nobody is left to fence but the guard.
#[test]
fn a_guard_closes_a_server_whose_disk_is_full() -> Result<()> {
    on_small_disks(&async |world, small| Box::pin(left_to_the_guard(world, small)).await)
}

fn on_small_disks(test: &impl AsyncFn(&World, &SmallDisk<'_>) -> Result<()>) -> Result<()> {
    for (idc, other) in MEMBERS {
        with_world(&async |world| {
            let small = SmallDisk::of(world, idc, other)?;
            let outcome = match small.begin() {
                Ok(()) => test(world, &small).await,
                Err(error) => Err(error),
            };
            // Whatever came of it, the next test finds both servers, and room.
            let back = small.end();
            outcome.and(back)
        })
        .with_context(|| format!("with a small disk in {idc}"))?;
    }
    Ok(())
}

async fn full(world: &World, small: &SmallDisk<'_>) -> Result<()> {
    let mut rig = Rig::new(world, &format!("full-{}", small.idc)).await?;
    rig.policy.mode = FailoverMode::Automatic;
    let epoch = on_it(&mut rig, small).await?;
    let before = rig.moves();
    rig.ready_to_fail_over().await?;

    let filled = Instant::now();
    small.fill()?;
    let epoch = rig
        .primary(small.other, epoch, Duration::from_secs(60))
        .await?;
    let first = rig.written(small.other, Duration::from_secs(5)).await?;
    println!(
        "{}: failed over {:?} after the disk was full",
        small.idc,
        first.acknowledged - filled
    );
    let receipt = rig.receipt(epoch).await?;
    ensure!(
        receipt.kind == TransitionKind::Failover && receipt.automatic,
        "{receipt:?}"
    );

    // A person makes room, and does not wait for the minute after which the server looks again.
    drop(world.kill(&harness::database::part(small.idc)));
    small.make_room()?;
    servers_back(world)?;
    rig.follows(small.idc).await?;
    let moves = rig.moves() - before;
    ensure!(moves == 1, "writes moved {moves} times, not once");
    rig.stop_arbiters()
}

/// Makes the member with the small disk the primary; returns its epoch.
async fn on_it(rig: &mut Rig<'_>, small: &SmallDisk<'_>) -> Result<u64> {
    let epoch = protected(rig).await?;
    if small.idc == FIRST {
        rig.written(FIRST, Duration::from_secs(5)).await?;
        return Ok(epoch);
    }
    let phase = rig.ask(IntentKind::Planned, small.idc, false).await?;
    ensure!(matches!(phase, IntentPhase::Done { .. }), "{phase:?}");
    let epoch = rig
        .primary(small.idc, epoch, Duration::from_secs(5))
        .await?;
    rig.written(small.idc, Duration::from_secs(5)).await?;
    Ok(epoch)
}

async fn left_to_the_guard(world: &World, small: &SmallDisk<'_>) -> Result<()> {
    let mut rig = Rig::new(world, &format!("stuck-{}", small.idc)).await?;
    on_it(&mut rig, small).await?;

    small.fill()?;
    let database = world.database(small.idc)?;
    // A query that needs a temporary table finds no room for it either.
    let processes = match database.engine {
        harness::Engine::MySql => "performance_schema.processlist",
        harness::Engine::MariaDb => "information_schema.processlist",
    };
    let shown = format!("SELECT id, user, command, time, state, info FROM {processes}");
    let stuck = format!(
        "SELECT id FROM {processes} WHERE user = '{}' AND state IN \
         ('Waiting for someone to free space', 'Commit', 'waiting for handler commit')",
        database.user
    );
    let what = "a heartbeat waits for room";
    until(what, Duration::from_secs(10), async || {
        Ok((!database.root(&stuck)?.is_empty()).then_some(()))
    })
    .await?;
    let died = Instant::now();
    world.kill(&rig.part(small.idc))?;
    // Its last guard's deadline, and what the fence may take with several of ours in the way.
    until("the guard has closed it", LEASE * 2, async || {
        if small.is_dead()? {
            return Ok(Some(()));
        }
        // A login can wait for what the fence waits for.
        let look = tokio::time::timeout(Duration::from_secs(1), read_only(world, small.idc)).await;
        Ok(matches!(look, Ok(Ok(true))).then_some(()))
    })
    .await
    .with_context(|| {
        format!(
            "the server shows {:?}",
            database.query(Account::Root, &shown)
        )
    })?;
    let how = if small.is_dead()? { "dead" } else { "closed" };
    println!(
        "{}: {how} {:?} after its arbiter died",
        small.idc,
        died.elapsed()
    );
    Ok(())
}

/// A small file system of its own in place of the one on which a server's data is.
struct SmallDisk<'a> {
    world: &'a World,
    idc: &'a str,
    other: &'a str,
    /// Where the server finds its data.
    data: PathBuf,
}

impl<'a> SmallDisk<'a> {
    fn of(world: &'a World, idc: &'a str, other: &'a str) -> Result<Self> {
        let data = harness::database::data(&world.info().directory, world.database(idc)?);
        Ok(Self {
            world,
            idc,
            other,
            data,
        })
    }

    /// A server that finds no room to roll back what was cut for five seconds ends itself ("Out of
    /// disk space in rollback"), which nobody can write to either.
    fn is_dead(&self) -> Result<bool> {
        let states = self.world.sandbox().states()?;
        let state = states.get(&harness::database::part(self.idc));
        Ok(state.is_none_or(|state| !state.running()))
    }

    /// In the sandbox's own view of the file systems, where its parts are started.
    fn run(&self, script: &str) -> Result<()> {
        let words = ["sh", "-euc", script, "sh"].map(str::to_owned);
        let data = [self.data.display().to_string()];
        let spec = PartSpec::new(words.into_iter().chain(data));
        self.world.sandbox().check(spec).map(drop)
    }

    fn begin(&self) -> Result<()> {
        self.world.kill(&harness::database::part(self.idc))?;
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
        drop(self.world.kill(&harness::database::part(self.idc)));
        self.run(
            "if mountpoint -q \"$1\"; then rm -f \"$1/filler\"; umount \"$1\"; \
             find \"$1\" -mindepth 1 -delete; cp -a /run/small/. \"$1/\"; fi; \
             if mountpoint -q /run/small; then umount /run/small; fi",
        )?;
        servers_back(self.world)
    }
}
