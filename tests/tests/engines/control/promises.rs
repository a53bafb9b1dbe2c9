//! Promises are recorded in the server that they are about, and bind whoever would open it (rule 11).

use super::*;
use model::{Epoch, Generation};
use mysql::control::{
    GuardOrder, OpenOrder, OpenOutcome, OpenRefusal, PromiseOrder, PromiseOutcome, PromotionOrder,
};

fn order(epoch: u64, for_millis: u64, generation: u64) -> Result<PromiseOrder> {
    Ok(PromiseOrder {
        epoch: Epoch(epoch),
        to: IdcName::new("hz")?,
        for_millis,
        generation: Generation(generation),
    })
}

#[test]
fn only_the_newest_generation_promises_and_only_while_fenced() -> Result<()> {
    on_each(async |server, _| {
        let mut control = server.control().await?;
        ensure!(control.observe(None).await?.promise.is_none());
        let open = control.promise(&order(3, 6_000, 4)?).await?;
        ensure!(
            open == PromiseOutcome::Refused,
            "it accepts writes: {open:?}"
        );
        let mut root = server.root().await?;
        root.query_drop("SET GLOBAL read_only = 1").await?;
        control.adopt(Generation(4)).await?;
        let first = control.promise(&order(3, 6_000, 4)?).await?;
        ensure!(first == PromiseOutcome::Recorded, "{first:?}");
        let seen = control.observe(None).await?.promise;
        ensure!(
            seen.is_some_and(|seen| (seen.epoch, seen.for_millis) == (Epoch(3), 6_000)),
            "{seen:?}"
        );
        let again = control.promise(&order(3, 5_000, 4)?).await?;
        ensure!(again == PromiseOutcome::Recorded, "{again:?}");
        // Another process has become active, which the one that promises does not know.
        server.control().await?.adopt(Generation(5)).await?;
        let old = control.promise(&order(3, 7_000, 4)?).await?;
        ensure!(old == PromiseOutcome::Refused, "{old:?}");
        let seen = control.observe(None).await?.promise;
        ensure!(
            seen.is_some_and(|seen| seen.for_millis == 5_000),
            "{seen:?}"
        );
        // What was promised to the holder of an epoch that is over is taken away, and nothing else.
        control.end_promises(Epoch(3)).await?;
        ensure!(control.observe(None).await?.promise.is_some());
        control.end_promises(Epoch(4)).await?;
        ensure!(control.observe(None).await?.promise.is_none());
        Ok(())
    })
}

#[test]
fn nothing_of_it_is_in_the_binlog() -> Result<()> {
    on_each(async |server, _| {
        let mut control = server.control().await?;
        server
            .root()
            .await?
            .query_drop("SET GLOBAL read_only = 1")
            .await?;
        let before = control.observe(None).await?.position;
        control.promise(&order(3, 1_000, 1)?).await?;
        control.end_promises(Epoch(9)).await?;
        let after = control.observe(None).await?.position;
        ensure!(before == after, "{before:?} became {after:?}");
        Ok(())
    })
}

#[test]
fn nobody_opens_while_a_promise_runs() -> Result<()> {
    on_each(async |server, identity| {
        let mut control = server.control().await?;
        server
            .root()
            .await?
            .query_drop("SET GLOBAL read_only = 1")
            .await?;
        control.adopt(Generation(4)).await?;
        let promotion = PromotionOrder {
            epoch: Epoch(4),
            idc: server.idc()?,
            from: None,
            lossy: false,
        };
        control.promote(&promotion).await?;
        let until = clock() + Duration::from_secs(20);
        let guard = GuardOrder {
            until,
            identity: identity.clone(),
            generation: Generation(4),
        };
        let _guard = control.start_guard(&server.options, &guard, clock).await?;
        let open = OpenOrder {
            epoch: Epoch(4),
            until,
            identity,
            boot: control.observe(None).await?.boot,
            generation: Generation(4),
        };
        control.promise(&order(3, 1_500, 4)?).await?;
        let promised = std::time::Instant::now();
        let refused = control.open(&open, clock).await?;
        ensure!(
            refused == OpenOutcome::Refused(OpenRefusal::Promised),
            "{refused:?}"
        );
        ensure!(server.read_only().await?, "refused and open all the same");
        // It binds for as long as it was given, and no longer.
        loop {
            match control.open(&open, clock).await? {
                OpenOutcome::Opened => break,
                OpenOutcome::Refused(OpenRefusal::Promised) => {
                    ensure!(promised.elapsed() < Duration::from_secs(10), "for ever");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other @ OpenOutcome::Refused(_) => bail!("{other:?}"),
            }
        }
        let held = promised.elapsed();
        ensure!(
            held >= Duration::from_millis(1_400),
            "opened after {held:?}"
        );
        Ok(())
    })
}
