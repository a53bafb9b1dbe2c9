//! A Unit's life: mistakes, the first primary, switchovers, and one loss after the other. At the
//! end, acknowledged writes have moved between the servers exactly once a transition.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::World;
use model::{
    FailoverMode, FenceProof, IntentKind, IntentPhase, MemberRole, Severity, TransitionKind,
};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

use super::guard_killed::guard_is_killed;
use super::rig::{DATA, Rig, until, with_world};
use super::standby::{active_one_loses_etcd, standby_takes_over};
use crate::patience::patiently;

pub const LEASE: Duration = Duration::from_secs(6);

#[test]
fn a_unit_has_one_writable_member_whatever_happens() -> Result<()> {
    with_world(&async |world| {
        let mut rig = Rig::new(world, "orders").await?;
        prepare(world).await?;
        rig.start_applications()?;
        rig.publish(false).await?;
        rig.start_arbiters()?;
        Box::pin(mistakes_start_nothing(&rig)).await?;
        let mut epoch = Box::pin(first_primary(&mut rig)).await?;
        Box::pin(second_unit_on_the_same_servers(&rig)).await?;
        let before = rig.moves();
        epoch = Box::pin(switchovers(&rig, epoch)).await?;
        Box::pin(restarts_cost_nothing(&rig)).await?;
        Box::pin(guard_is_killed(&rig, epoch)).await?;
        Box::pin(standby_takes_over(&rig)).await?;
        Box::pin(active_one_loses_etcd(&rig)).await?;
        epoch = Box::pin(frozen_arbiter(&rig, epoch)).await?;
        Box::pin(database_comes_back(&rig, epoch)).await?;
        epoch = Box::pin(failover_from_a_dead_database(&rig, epoch)).await?;
        epoch = Box::pin(isolated_idc(&rig, epoch)).await?;
        Box::pin(lost_etcd_member(&rig)).await?;
        // Two switchovers, a failover from sh to bj, and one from bj to sh.
        let moves = rig.moves() - before;
        ensure!(
            moves == 4,
            "acknowledged writes moved {moves} times, not 4: an overlap"
        );
        Box::pin(deleted(&rig, epoch)).await?;
        rig.stop_arbiters()
    })
}

/// Both servers take writes, as users' servers do; `sh` has rows. Nothing is left of an earlier
/// test's epochs: their last holder would go first.
async fn prepare(world: &World) -> Result<()> {
    for idc in DATA {
        let database = world.database(idc)?;
        let options = OptsBuilder::default()
            .user(Some("root"))
            .socket(database.socket.to_str());
        // The guard of an earlier test's arbiter may be over just now.
        patiently(async || {
            let mut root = Conn::new(options.clone()).await?;
            // Without its schema no guard fences any more. A server that was protected comes up closed,
            // MySQL for logins as well.
            let open = match database.engine {
                harness::Engine::MySql => "SET GLOBAL read_only = 0, GLOBAL offline_mode = 0",
                harness::Engine::MariaDb => "SET GLOBAL read_only = 0",
            };
            root.query_drop(format!(
                "SET SESSION sql_log_bin = 0; DROP DATABASE IF EXISTS multiactive; {open}; \
                 CREATE TABLE IF NOT EXISTS orders.t (id INT PRIMARY KEY AUTO_INCREMENT, v INT)",
            ))
            .await?;
            root.disconnect().await?;
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Servers are elected without being asked only if they are known to come up closed, and MariaDB
/// tells that of a boot in which nobody has set `read_only` yet. Restarted, they are all closed.
fn boot_fenced(world: &World) -> Result<()> {
    for idc in DATA {
        world.kill(&harness::database::part(idc))?;
    }
    servers_back(world)
}

/// Starts whichever server does not run.
pub fn servers_back(world: &World) -> Result<()> {
    for idc in DATA {
        world.start(&harness::database::part(idc))?;
    }
    for idc in DATA {
        world.wait_for_database(idc)?;
    }
    Ok(())
}

/// A Unit from its applications to its links: `sh` is its first primary. Returns the epoch.
pub async fn protected(rig: &mut Rig<'_>) -> Result<u64> {
    prepare(rig.world).await?;
    if rig.policy.mode == FailoverMode::Automatic {
        boot_fenced(rig.world)?;
        rig.publish_idcs().await?;
    }
    for idc in DATA {
        rig.grant(idc, None)?;
    }
    rig.start_applications()?;
    rig.publish(false).await?;
    rig.start_arbiters()?;
    let epoch = rig.primary("sh", 0, Duration::from_secs(90)).await?;
    rig.start_links()?;
    Ok(epoch)
}

/// A missing file, a wrong password: each is said with object and fix, and nobody's server is
/// fenced for it.
async fn mistakes_start_nothing(rig: &Rig<'_>) -> Result<()> {
    rig.grant("sh", Some("wrong"))?;
    let finding = async |idc: &str, check: &str| {
        until(
            &format!("{check} is found at {idc}"),
            Duration::from_secs(20),
            async || {
                let Ok(status) = rig.status(idc) else {
                    return Ok(None);
                };
                let member = status.units.get(&rig.unit);
                let found = member.and_then(|member| {
                    member
                        .findings
                        .iter()
                        .find(|finding| finding.check == check)
                        .cloned()
                });
                Ok(found)
            },
        )
        .await
    };
    let missing = finding("bj", "Credentials").await?;
    ensure!(
        missing.severity == Severity::Blocking && missing.message.contains(".bj"),
        "{missing}"
    );
    let denied = finding("sh", "AccessDenied").await?;
    ensure!(
        denied.severity == Severity::Blocking && denied.fix.contains("Secret"),
        "{denied}"
    );
    // Both servers go on taking writes all the while.
    for idc in DATA {
        rig.written(idc, Duration::from_secs(5)).await?;
    }
    let state = rig.state().await?;
    ensure!(
        state.primary.is_none() && state.epoch.is_none(),
        "{state:?}"
    );
    Ok(())
}

async fn first_primary(rig: &mut Rig<'_>) -> Result<u64> {
    for idc in DATA {
        rig.grant(idc, None)?;
    }
    let epoch = rig.primary("sh", 0, Duration::from_secs(90)).await?;
    ensure!(epoch == 1, "the first epoch is {epoch}");
    rig.start_links()?;
    rig.written("sh", Duration::from_secs(5)).await?;
    let status = rig.status("bj")?;
    let follower = &status.units[&rig.unit];
    ensure!(
        follower.role == MemberRole::Replica && !follower.writable,
        "{follower:?}"
    );
    let receipt = rig.receipt(1).await?;
    ensure!(
        receipt.kind == TransitionKind::First && receipt.to.as_str() == "sh",
        "{receipt:?}"
    );
    Ok(epoch)
}

/// A Unit owns its servers: another one on them is refused, and the first is not disturbed.
async fn second_unit_on_the_same_servers(rig: &Rig<'_>) -> Result<()> {
    let begin = Instant::now();
    let other = model::UnitKey::new("shop", "invoices")?;
    for idc in DATA {
        rig.grant_to(&other, idc, None)?;
    }
    // Under the same names, and each from the other IDC: there its arbiter has no Unit of the server
    // of its own to compare.
    for crossed in [false, true] {
        refused_beside(rig, &other, crossed).await?;
    }
    rig.undisturbed("sh", begin, "another Unit on the same servers")
}

async fn refused_beside(rig: &Rig<'_>, other: &model::UnitKey, crossed: bool) -> Result<()> {
    rig.publish_crossed(other, false, crossed).await?;
    for idc in DATA {
        until(
            &format!("{idc} says whose the server is"),
            Duration::from_secs(20),
            async || {
                let status = rig.status(idc)?;
                let said = status.units.get(other).is_some_and(|member| {
                    let mut findings = member.findings.iter();
                    findings
                        .any(|it| it.check == "SharedServer" && it.message.contains("shop/orders"))
                });
                Ok(said.then_some(()))
            },
        )
        .await?;
    }
    let state = rig.topology.unit_state(other).await?;
    ensure!(
        state.epoch.is_none() && state.primary.is_none(),
        "{state:?}"
    );
    rig.topology.forget_unit(other, &other.to_string()).await?;
    until(
        "the other Unit is gone",
        Duration::from_secs(10),
        async || {
            let mut gone = true;
            for idc in DATA {
                gone &= !rig.status(idc)?.units.contains_key(other);
            }
            Ok(gone.then_some(()))
        },
    )
    .await
}

async fn switchovers(rig: &Rig<'_>, mut epoch: u64) -> Result<u64> {
    let refused = rig.ask(IntentKind::Planned, "witness", false).await?;
    ensure!(
        matches!(&refused, IntentPhase::Refused { reason } if reason.contains("no member in IDC witness")),
        "{refused:?}"
    );
    // The target says ready once its lag is small, which needs a first heartbeat to arrive.
    for to in ["bj", "sh"] {
        let begin = Instant::now();
        let phase = rig.ask(IntentKind::Planned, to, false).await?;
        ensure!(matches!(phase, IntentPhase::Done { .. }), "{phase:?}");
        epoch = rig.primary(to, epoch, Duration::from_secs(5)).await?;
        rig.written(to, Duration::from_secs(5)).await?;
        let receipt = rig.receipt(epoch).await?;
        let (gap, _) = rig.longest_gap(begin);
        println!(
            "switchover to {to}: {:?} ms, {gap:?} between writes",
            receipt.write_pause_millis
        );
        ensure!(receipt.kind == TransitionKind::Switchover, "{receipt:?}");
        ensure!(
            matches!(receipt.proof, Some(FenceProof::Fenced { .. })),
            "{receipt:?}"
        );
    }
    Ok(epoch)
}

/// The arbiter of the primary is stopped, killed, and started again: applications notice nothing.
async fn restarts_cost_nothing(rig: &Rig<'_>) -> Result<()> {
    let begin = Instant::now();
    let part = rig.part("sh");
    rig.world.stop(&part)?;
    rig.world.start(&part)?;
    session(rig, 2).await?;
    rig.world.kill(&part)?;
    rig.world.start(&part)?;
    session(rig, 3).await?;
    // Longer than the guards of its predecessors: the successor's own keep the member open.
    until(
        "a lease time goes by",
        LEASE + Duration::from_secs(4),
        async || Ok((begin.elapsed() > LEASE + Duration::from_secs(2)).then_some(())),
    )
    .await?;
    rig.undisturbed("sh", begin, "restarts of the arbiter")
}

/// Waits until the IDC of the primary has a session of this or a later generation.
async fn session(rig: &Rig<'_>, generation: u64) -> Result<()> {
    until(
        "the session is taken over",
        Duration::from_secs(10),
        async || {
            let sessions = rig.topology.sessions().await?;
            let taken = sessions.iter().any(|(idc, session)| {
                idc.as_str() == "sh" && session.value.generation.0 >= generation
            });
            Ok(taken.then_some(()))
        },
    )
    .await
}

/// A frozen arbiter keeps nothing open: the guard in the server fences before the lease can end.
async fn frozen_arbiter(rig: &Rig<'_>, epoch: u64) -> Result<u64> {
    let part = rig.part("sh");
    let begin = Instant::now();
    rig.world.pause(&part)?;
    until("the primary's lease ends", LEASE * 3, async || {
        Ok(rig.state().await?.primary.is_none().then_some(()))
    })
    .await?;
    let expired = Instant::now();
    let last = rig.writes().into_iter().rfind(|write| write.idc == "sh");
    let last = last.map_or(begin, |write| write.acknowledged);
    println!(
        "arbiter frozen: writes stopped after {:?}, the lease ended after {:?}",
        last - begin,
        expired - begin
    );
    ensure!(
        last < expired,
        "a write was acknowledged after the lease had ended"
    );
    rig.world.resume(&part)?;
    let epoch = rig.primary("sh", epoch, Duration::from_secs(20)).await?;
    rig.written("sh", Duration::from_secs(5)).await?;
    let receipt = rig.receipt(epoch).await?;
    ensure!(receipt.kind == TransitionKind::Retake, "{receipt:?}");
    Ok(epoch)
}

/// A database that dies and comes back is opened again in the same epoch.
async fn database_comes_back(rig: &Rig<'_>, epoch: u64) -> Result<()> {
    let part = harness::database::part("sh");
    rig.world.kill(&part)?;
    rig.world.start(&part)?;
    rig.world.wait_for_database("sh")?;
    rig.written("sh", Duration::from_secs(20)).await?;
    let state = rig.state().await?;
    let found = state.epoch.map(|epoch| epoch.value.epoch.0);
    ensure!(found == Some(epoch), "epoch {found:?} instead of {epoch}");
    Ok(())
}

/// The primary's database is dead and its arbiter lives: the guard's end proves the fence.
async fn failover_from_a_dead_database(rig: &Rig<'_>, epoch: u64) -> Result<u64> {
    let part = harness::database::part("sh");
    let begin = Instant::now();
    rig.world.kill(&part)?;
    let phase = rig.ask(IntentKind::Forced, "bj", false).await?;
    ensure!(matches!(phase, IntentPhase::Done { .. }), "{phase:?}");
    let epoch = rig.primary("bj", epoch, Duration::from_secs(5)).await?;
    let first = rig.written("bj", Duration::from_secs(5)).await?;
    println!(
        "failover from a dead database: {:?}",
        first.acknowledged - begin
    );
    let receipt = rig.receipt(epoch).await?;
    ensure!(receipt.kind == TransitionKind::Failover, "{receipt:?}");
    ensure!(
        matches!(receipt.proof, Some(FenceProof::GuardExpired { .. })),
        "{receipt:?}"
    );
    rig.world.start(&part)?;
    rig.world.wait_for_database("sh")?;
    rig.follows("sh").await?;
    Ok(epoch)
}

/// The IDC of the primary is cut off: it fences by itself before its lease ends, and the other one
/// takes over when a person says so.
async fn isolated_idc(rig: &Rig<'_>, epoch: u64) -> Result<u64> {
    let begin = Instant::now();
    rig.world.isolate("bj")?;
    until("the primary's lease ends", LEASE * 3, async || {
        Ok(rig.state().await?.primary.is_none().then_some(()))
    })
    .await?;
    let expired = Instant::now();
    let phase = rig.ask(IntentKind::Forced, "sh", true).await?;
    ensure!(matches!(phase, IntentPhase::Done { .. }), "{phase:?}");
    let epoch = rig.primary("sh", epoch, Duration::from_secs(5)).await?;
    rig.written("sh", Duration::from_secs(5)).await?;
    let last = rig.writes().into_iter().rfind(|write| write.idc == "bj");
    let last = last.map_or(begin, |write| write.acknowledged);
    println!(
        "IDC isolated: its writes stopped after {:?}, its lease ended after {:?}",
        last - begin,
        expired - begin
    );
    ensure!(
        last < expired,
        "the isolated IDC took a write after its lease had ended"
    );
    rig.world.heal_all()?;
    until(
        "bj has a session again",
        Duration::from_secs(20),
        async || {
            let sessions = rig.topology.sessions().await?;
            Ok(sessions
                .keys()
                .any(|idc| idc.as_str() == "bj")
                .then_some(()))
        },
    )
    .await?;
    Ok(epoch)
}

/// The etcd member next to the primary's arbiter is lost: applications notice nothing.
async fn lost_etcd_member(rig: &Rig<'_>) -> Result<()> {
    let part = harness::coordination::part("sh");
    // The member that was cut off is back: this is about losing one of three.
    harness::coordination::wait(rig.world.sandbox(), &rig.world.info().etcd)?;
    let begin = Instant::now();
    rig.world.kill(&part)?;
    until("two lease times go by", LEASE * 3, async || {
        Ok((begin.elapsed() > LEASE * 2).then_some(()))
    })
    .await?;
    let holder = rig.state().await?.primary.map(|it| it.value.idc);
    let holder = holder.map_or_else(String::new, |idc| idc.to_string());
    rig.undisturbed(&holder, begin, "a member of etcd lost")?;
    rig.world.start(&part)?;
    harness::coordination::wait(rig.world.sandbox(), &rig.world.info().etcd)
}

/// A deleted Unit gives its servers back as they are: the primary stays open, without a guard.
async fn deleted(rig: &Rig<'_>, epoch: u64) -> Result<()> {
    ensure!(epoch > 0);
    rig.topology
        .forget_unit(&rig.unit, &rig.unit.to_string())
        .await?;
    until("the arbiters let go", Duration::from_secs(20), async || {
        let (sh, bj) = (rig.status("sh")?, rig.status("bj")?);
        Ok((sh.units.is_empty() && bj.units.is_empty()).then_some(()))
    })
    .await?;
    let begin = Instant::now();
    until("a lease time goes by", LEASE * 2, async || {
        Ok((begin.elapsed() > LEASE + Duration::from_secs(1)).then_some(()))
    })
    .await?;
    rig.written("sh", Duration::from_secs(2)).await?;
    ensure!(
        rig.state().await?
            == model::UnitState {
                revision: rig.state().await?.revision,
                sessions: rig.state().await?.sessions,
                renewals: rig.state().await?.renewals,
                cluster: rig.state().await?.cluster,
                idcs: rig.state().await?.idcs,
                ..model::UnitState::default()
            }
    );
    Ok(())
}
