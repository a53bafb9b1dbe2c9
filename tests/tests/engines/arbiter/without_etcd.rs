//! etcd is lost as a whole: the primary goes on while the other member's arbiter promises not to take
//! the Unit, and is fenced when it does not (rule 11).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::World;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

use super::life::{LEASE, protected};
use super::rig::{Rig, until, with_world};
use crate::patience::patiently;

#[test]
fn a_primary_goes_on_while_the_others_promise_and_not_without() -> Result<()> {
    with_world(&async |world| {
        let outcome = Box::pin(without_etcd(world)).await;
        // Whatever came of it, the next test finds etcd as it was.
        let back = etcd_back(world);
        outcome.and(back)
    })
}

pub fn etcd_gone(world: &World) -> Result<()> {
    let mut idcs = world.info().idcs.iter();
    idcs.try_for_each(|idc| world.kill(&harness::coordination::part(idc)))
}

pub fn etcd_back(world: &World) -> Result<()> {
    for idc in &world.info().idcs {
        world.start(&harness::coordination::part(idc))?;
    }
    world.wait_for_etcd()
}

async fn without_etcd(world: &World) -> Result<()> {
    let mut rig = Rig::new(world, "failsafe").await?;
    rig.policy.failsafe = true;
    protected(&mut rig).await?;
    rig.written("sh", Duration::from_secs(10)).await?;
    ensure!(
        promise_at(world, "bj").await?.is_none(),
        "promised before anybody asked"
    );

    let begin = Instant::now();
    let moves = rig.moves();
    etcd_gone(world)?;
    until("four lease times go by", LEASE * 5, async || {
        Ok((begin.elapsed() > LEASE * 4).then_some(()))
    })
    .await?;
    let what = format!("without etcd for {:?}", begin.elapsed());
    rig.undisturbed("sh", begin, &what)?;
    rig.written("sh", Duration::from_secs(2)).await?;
    ensure!(rig.moves() == moves, "writes moved to another server");
    let promised = promise_at(world, "bj").await?;
    ensure!(
        promised.is_some(),
        "bj's arbiter recorded no promise in its server"
    );

    // Nobody is there to promise any more: the last promise runs out, and the primary with it.
    world.kill(&rig.part("bj"))?;
    let silent = Instant::now();
    let limit = LEASE + Duration::from_secs(2);
    until("the primary is fenced", limit, async || {
        // The fence may cut this off for longer than it is asked again.
        let closed = read_only(world, "sh").await.is_ok_and(|closed| closed);
        Ok(closed.then_some(()))
    })
    .await?;
    println!(
        "fenced {:?} after the last arbiter that promised was lost",
        silent.elapsed()
    );
    ensure!(read_only(world, "bj").await?, "bj accepts writes");

    etcd_back(world)?;
    world.start(&rig.part("bj"))?;
    rig.primary("sh", 0, Duration::from_secs(60)).await?;
    rig.written("sh", Duration::from_secs(20)).await?;
    ensure!(rig.moves() == moves, "writes moved to another server");
    rig.stop_arbiters()
}

async fn root(world: &World, idc: &str) -> Result<Conn> {
    let database = world.database(idc)?;
    let options = OptsBuilder::default()
        .user(Some("root"))
        .socket(database.socket.to_str());
    Ok(Conn::new(options).await?)
}

/// The epoch of whose holder this server was promised away to.
async fn promise_at(world: &World, idc: &str) -> Result<Option<u64>> {
    patiently(async || {
        let mut root = root(world, idc).await?;
        let epoch = root
            .query_first("SELECT epoch FROM multiactive.promise")
            .await?;
        root.disconnect().await?;
        Ok(epoch)
    })
    .await
}

/// What a fence that is under way cuts off is asked again.
pub async fn read_only(world: &World, idc: &str) -> Result<bool> {
    patiently(async || {
        let mut root = root(world, idc).await?;
        let read_only: Option<u8> = root.query_first("SELECT @@GLOBAL.read_only").await?;
        root.disconnect().await?;
        Ok(read_only == Some(1))
    })
    .await
}
