//! etcd is lost while the certificate of the other member's arbiter has expired: its promise counts for
//! nothing, and the primary is fenced.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::World;

use super::life::{LEASE, protected};
use super::rig::{DATA, Rig, until, with_world};
use super::without_etcd::{etcd_back, etcd_gone, read_only};

/// What the one that asks is told by its end of the connection.
const EXPIRED: &str = "certificate expired";

#[test]
fn an_arbiter_whose_certificate_has_expired_promises_nothing() -> Result<()> {
    with_world(&async |world| {
        let outcome = Box::pin(expired(world)).await;
        // Whatever came of it, the next test finds etcd as it was.
        let back = etcd_back(world);
        outcome.and(back)
    })
}

async fn expired(world: &World) -> Result<()> {
    let mut rig = Rig::new(world, "expired").await?;
    rig.policy.failsafe = true;
    let epoch = protected(&mut rig).await?;
    rig.written("sh", Duration::from_secs(10)).await?;
    let moves = rig.moves();

    rig.let_certificate_expire("bj")?;
    let lost = Instant::now();
    etcd_gone(world)?;
    let limit = LEASE + Duration::from_secs(2);
    until("the primary is fenced", limit, async || {
        // The fence cuts this session as well, perhaps before it has its answer.
        let closed = read_only(world, "sh").await.is_ok_and(|closed| closed);
        Ok(closed.then_some(()))
    })
    .await?;
    println!("fenced {:?} after etcd was lost", lost.elapsed());
    told(&rig).await?;
    nobody_writes(&rig).await?;

    // Its certificate stands in nobody's way once etcd is there.
    etcd_back(world)?;
    rig.primary("sh", epoch - 1, Duration::from_secs(60))
        .await?;
    rig.written("sh", Duration::from_secs(30)).await?;
    ensure!(rig.moves() == moves, "writes moved to another server");
    rig.stop_arbiters()
}

/// Whoever looks at the primary's arbiter reads the cause, in its log and in its status.
async fn told(rig: &Rig<'_>) -> Result<()> {
    until("the log says why", Duration::from_secs(5), async || {
        let words = ["no promise", "bj", EXPIRED];
        Ok(rig.logged("sh", &words)?.then_some(()))
    })
    .await?;
    let mut said = String::new();
    let status = until("the status says why", Duration::from_secs(5), async || {
        let member = rig.status("sh")?.units.remove(&rig.unit);
        let member = member.context("the unit is gone")?;
        said = format!("{member:?}");
        let why = ["bj does not promise", EXPIRED];
        let told = why.iter().all(|words| member.message.contains(words));
        Ok((told && !member.writable).then_some(()))
    });
    status.await.with_context(|| said)?;
    // The other end knows as well.
    ensure!(
        rig.logged("bj", &["a connection's handshake failed"])?,
        "bj's arbiter does not say that nobody gets through to it"
    );
    Ok(())
}

/// Neither member takes a write, for as long as another one could have been promised time.
async fn nobody_writes(rig: &Rig<'_>) -> Result<()> {
    let since = Instant::now();
    until("two lease times go by", LEASE * 3, async || {
        for idc in DATA {
            let open = matches!(read_only(rig.world, idc).await, Ok(false));
            ensure!(!open, "{idc} accepts writes");
        }
        Ok((since.elapsed() > LEASE * 2).then_some(()))
    })
    .await?;
    let writes = rig.writes();
    let write = writes.iter().find(|write| write.sent > since);
    ensure!(write.is_none(), "without etcd and promises: {write:?}");
    Ok(())
}
