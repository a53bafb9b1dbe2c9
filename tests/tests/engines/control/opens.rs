//! Opening is decided inside the server, when it happens (rule 3).

use super::*;
use model::{Epoch, Generation, ServerBoot};
use mysql::control::{
    ControlError, GuardHandle, GuardOrder, OpenOrder, OpenOutcome, OpenRefusal, PromotionOrder,
};

struct Ready {
    order: OpenOrder,
    guard: GuardHandle,
}

/// A fenced server of epoch 1 with a guard: everything that an opening needs.
async fn ready(server: &Server<'_>, identity: &ServerIdentity) -> Result<Ready> {
    let mut control = server.control().await?;
    control.adopt(Generation(4)).await?;
    server
        .root()
        .await?
        .query_drop("SET GLOBAL read_only = 1")
        .await?;
    let promotion = PromotionOrder {
        epoch: Epoch(1),
        idc: server.idc()?,
        from: None,
        lossy: false,
    };
    control.promote(&promotion).await?;
    let until = clock() + Duration::from_secs(8);
    let guard = GuardOrder {
        until,
        identity: identity.clone(),
        generation: Generation(4),
    };
    let guard = control.start_guard(&server.options, &guard, clock).await?;
    let order = OpenOrder {
        epoch: Epoch(1),
        until,
        identity: identity.clone(),
        boot: control.observe(None).await?.boot,
        generation: Generation(4),
    };
    Ok(Ready { order, guard })
}

async fn refusal(server: &Server<'_>, order: &OpenOrder) -> Result<OpenRefusal> {
    match server.control().await?.open(order, clock).await? {
        OpenOutcome::Refused(refusal) => {
            ensure!(server.read_only().await?, "refused and open all the same");
            Ok(refusal)
        }
        OpenOutcome::Opened => bail!("it opened"),
    }
}

#[test]
fn opens_when_everything_holds_and_only_then() -> Result<()> {
    on_each(async |server, identity| {
        let Ready { order, guard } = ready(server, &identity).await?;
        let identity = ServerIdentity("other".into());
        let wrong = refusal(
            server,
            &OpenOrder {
                identity,
                ..order.clone()
            },
        )
        .await?;
        ensure!(matches!(wrong, OpenRefusal::Identity { .. }), "{wrong:?}");
        let boot = ServerBoot(order.boot.0 - 1);
        let wrong = refusal(
            server,
            &OpenOrder {
                boot,
                ..order.clone()
            },
        )
        .await?;
        ensure!(matches!(wrong, OpenRefusal::Boot { .. }), "{wrong:?}");
        let superseded = server.control().await?.adopt(Generation(3)).await;
        ensure!(
            matches!(superseded, Err(ControlError::Superseded { found: 4, .. })),
            "{superseded:?}"
        );
        let generation = Generation(3);
        let wrong = refusal(
            server,
            &OpenOrder {
                generation,
                ..order.clone()
            },
        )
        .await?;
        ensure!(matches!(wrong, OpenRefusal::Generation { .. }), "{wrong:?}");
        for epoch in [Epoch(0), Epoch(2)] {
            let wrong = refusal(
                server,
                &OpenOrder {
                    epoch,
                    ..order.clone()
                },
            )
            .await?;
            ensure!(matches!(wrong, OpenRefusal::Epoch { .. }), "{wrong:?}");
        }
        let wrong = refusal(
            server,
            &OpenOrder {
                until: clock(),
                ..order.clone()
            },
        )
        .await?;
        ensure!(wrong == OpenRefusal::Deadline, "{wrong:?}");

        let opened = server.control().await?.open(&order, clock).await?;
        ensure!(opened == OpenOutcome::Opened, "{opened:?}");
        ensure!(!server.read_only().await?);
        server
            .app()
            .await?
            .query_drop("INSERT INTO t VALUES (20, 20)")
            .await?;
        // Again, while open: nothing changes.
        let opened = server.control().await?.open(&order, clock).await?;
        ensure!(opened == OpenOutcome::Opened, "{opened:?}");
        drop(guard);
        Ok(())
    })
}

#[test]
fn does_not_open_without_a_running_guard() -> Result<()> {
    on_each(async |server, identity| {
        let Ready { order, guard } = ready(server, &identity).await?;
        let mut control = server.control().await?;
        control.end_guards(NEWEST, None).await?;
        until("the guard is gone", PATIENCE, || async {
            Ok(server.control().await?.guards_running().await?.is_empty())
        })
        .await?;
        let wrong = refusal(server, &order).await?;
        ensure!(wrong == OpenRefusal::NoGuard, "{wrong:?}");
        drop(guard);
        // An application that shows the same text in the process list is no guard.
        let app = server.app().await?;
        let fake = "DO SLEEP(0.05) /* multiactive.guard deadline=9999999999999999 identity=x \
                    generation=1 */, SLEEP(3)";
        let fake = running(server, app, fake).await?;
        let wrong = refusal(server, &order).await?;
        ensure!(wrong == OpenRefusal::NoGuard, "{wrong:?}");
        fake.abort();
        Ok(())
    })
}

#[test]
fn does_not_open_beside_a_guard_that_has_fenced() -> Result<()> {
    on_each(async |server, identity| {
        let Ready { order, guard } = ready(server, &identity).await?;
        let mut control = server.control().await?;
        // Long enough for a busy machine to have started it by then.
        let until_soon = clock() + Duration::from_secs(2);
        let short = GuardOrder {
            until: until_soon,
            identity,
            generation: Generation(4),
        };
        let short = control.start_guard(&server.options, &short, clock).await?;
        until("the short guard's deadline", PATIENCE, || async {
            Ok(clock() > until_soon)
        })
        .await?;
        let wrong = refusal(server, &order).await?;
        ensure!(wrong == OpenRefusal::GuardOver, "{wrong:?}");
        // Not asked of the process list: between two sleeps a guard does not show there.
        until("it opens once that guard has ended", PATIENCE, || async {
            let outcome = server.control().await?.open(&order, clock).await?;
            let over = OpenOutcome::Refused(OpenRefusal::GuardOver);
            ensure!(
                outcome == OpenOutcome::Opened || outcome == over,
                "{outcome:?}"
            );
            Ok(outcome == OpenOutcome::Opened)
        })
        .await?;
        drop((guard, short));
        Ok(())
    })
}

#[test]
fn an_order_that_sat_in_the_socket_of_a_frozen_server_opens_nothing() -> Result<()> {
    on_each(async |server, identity| {
        let Ready { mut order, guard } = ready(server, &identity).await?;
        order.until = clock() + Duration::from_millis(700);
        let mut root = server.root().await?;
        let micros: Option<i64> = root
            .query_first("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)")
            .await?;
        let deadline = micros.context("no time")? + 700_000;
        let mut ours = server.control().await?;
        let session = ours.session().context("no session")?;
        let call = format!(
            "CALL multiactive.open_4(1, {}, {deadline}, 4, '{}', {})",
            deadline - 700_000,
            identity.0,
            order.boot.0
        );
        let part = harness::database::part(&server.database.idc);
        server.world.pause(&part)?;
        let mut thawed = Vec::new();
        let calling = async {
            let row: Option<(String, String)> = session.conn.query_first(call).await?;
            thawed.push(row);
            Ok::<_, anyhow::Error>(())
        };
        let thawing = async {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            server.world.resume(&part)
        };
        let (called, resumed) = tokio::join!(calling, thawing);
        called.and(resumed)?;
        ensure!(
            matches!(&thawed[..], [Some((word, _))] if word == "Deadline"),
            "{thawed:?}"
        );
        ensure!(
            server.read_only().await?,
            "an order that was too late opened the server"
        );
        drop(guard);
        Ok(())
    })
}

/// The server's clock was set after the deadline was reckoned from it, back or forwards, which to
/// the server is the same as a reading that lies ahead of it or is old.
#[test]
fn a_deadline_of_another_clock_opens_and_guards_nothing() -> Result<()> {
    on_each(async |server, identity| {
        let Ready { order, guard } = ready(server, &identity).await?;
        let mut ours = server.control().await?;
        for set_by in [2_000_000_i64, -2_000_000] {
            let mut root = server.root().await?;
            let micros: Option<i64> = root
                .query_first("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)")
                .await?;
            let read = micros.context("no time")? + set_by;
            let deadline = read + 6_000_000;
            let session = ours.session().context("no session")?;
            let opened: Option<(String, String)> = session
                .conn
                .query_first(format!(
                    "CALL multiactive.open_4(1, {read}, {deadline}, 4, '{}', {})",
                    identity.0, order.boot.0
                ))
                .await?;
            ensure!(
                opened.as_ref().is_some_and(|(word, _)| word == "Clock"),
                "{opened:?}"
            );
            ensure!(server.read_only().await?, "it was opened");
            let guarded = session
                .conn
                .query_drop(format!(
                    "CALL multiactive.guard_3({read}, {deadline}, '{}', 4)",
                    identity.0
                ))
                .await;
            let refused = guarded.map_err(|error| error.to_string());
            ensure!(
                matches!(&refused, Err(error) if error.contains("or was set since")),
                "{refused:?}"
            );
        }
        drop(guard);
        Ok(())
    })
}
