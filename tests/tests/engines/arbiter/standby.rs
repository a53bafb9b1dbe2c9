//! The standby of an IDC: one arbiter after the other is lost, and applications notice nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::life::LEASE;
use super::rig::{Rig, until};

/// With two arbiters in the IDC of the primary, applications notice nothing of one that is killed,
/// frozen and thawed, or stopped.
pub async fn standby_takes_over(rig: &Rig<'_>) -> Result<()> {
    let (first, second) = (rig.part("sh"), rig.standby_part("sh"));
    let epoch = rig.state().await?.epoch.map(|epoch| epoch.value.epoch);
    let begin = Instant::now();
    rig.start_standby("sh")?;

    rig.world.kill(&first)?;
    let took = held_by(rig, "sh-2").await?;
    println!("arbiter killed: its standby took over after {took:?}");
    rig.world.start(&first)?;

    rig.world.pause(&second)?;
    let took = held_by(rig, "sh-1").await?;
    println!("arbiter frozen: its standby took over after {took:?}");
    rig.world.resume(&second)?;
    // The thawed one finds itself superseded and stands by, so it can take over again.
    rig.world.stop(&first)?;
    let took = held_by(rig, "sh-2").await?;
    println!("arbiter stopped: its standby took over after {took:?}");
    rig.world.start(&first)?;
    rig.world.stop(&second)?;
    held_by(rig, "sh-1").await?;

    // Longer than the guards of all of them: the last one's own keep the member open.
    let settled = Instant::now();
    until("a lease time goes by", LEASE * 2, async || {
        Ok((settled.elapsed() > LEASE).then_some(()))
    })
    .await?;
    rig.undisturbed("sh", begin, "standby")?;
    ensure!(rig.state().await?.epoch.map(|epoch| epoch.value.epoch) == epoch);
    Ok(())
}

/// The active arbiter of the primary's IDC alone loses etcd, and reaches the server as before. Its
/// standby takes over, and what the former one does afterwards for want of a lease, it does not do to
/// what its successor keeps open.
pub async fn active_one_loses_etcd(rig: &Rig<'_>) -> Result<()> {
    let begin = Instant::now();
    rig.start_standby("sh")?;
    tokio::time::sleep(ESTABLISHED).await;
    rig.cut_from_etcd("sh")?;
    let took = held_by(rig, "sh-2").await?;
    println!("arbiter cut from etcd: its standby took over after {took:?}");
    let cut = Instant::now();
    until("three lease times go by", LEASE * 4, async || {
        Ok((cut.elapsed() > LEASE * 3).then_some(()))
    })
    .await?;
    let status = rig.status("sh")?;
    rig.undisturbed("sh", begin, "standby beside one without etcd")?;
    ensure!(
        status
            .units
            .values()
            .any(|member| member.message.contains("a later arbiter of this IDC")),
        "{status:?}"
    );
    rig.world.heal_accounts()?;
    // It finds itself superseded and stands by.
    tokio::time::sleep(ESTABLISHED).await;
    rig.world.stop(&rig.standby_part("sh"))?;
    held_by(rig, "sh-1").await?;
    rig.undisturbed("sh", begin, "back to the one that was without etcd")
}

/// One that holds the session has looked at its member and started a guard of its own within this
/// time. One that is lost in its first moments leaves its successor without: the member was then seen
/// fenced and opened again, for less than 0.1 s.
const ESTABLISHED: Duration = Duration::from_secs(2);

/// Waits until a process holds the session of `sh`, says after how long, and gives it time to begin.
async fn held_by(rig: &Rig<'_>, holder: &str) -> Result<Duration> {
    let begin = Instant::now();
    let held = until(
        &format!("{holder} holds the session"),
        Duration::from_secs(10),
        async || {
            let sessions = rig.topology.sessions().await?;
            let held = sessions.iter().any(|(idc, session)| {
                idc.as_str() == "sh" && session.value.holder == holder && !session.value.yielded
            });
            Ok(held.then(|| begin.elapsed()))
        },
    )
    .await?;
    tokio::time::sleep(ESTABLISHED).await;
    Ok(held)
}
