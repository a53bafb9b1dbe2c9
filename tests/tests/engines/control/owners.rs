//! A server belongs to one Unit, and says so itself.

use super::*;
use model::{Generation, UnitKey};
use mysql::control::{GuardOrder, Owner, Ownership};

fn owner(server: &Server<'_>, installation: &str, unit: &str) -> Result<Owner> {
    Ok(Owner {
        installation: installation.to_owned(),
        unit: UnitKey::new("shop", unit)?,
        idc: server.idc()?,
    })
}

/// What another claimant is told: whose it is, and whether that one is at work.
fn foreign(ownership: &Ownership) -> Option<(&str, &str, bool)> {
    match ownership {
        Ownership::Foreign(row) => Some((&row.installation, &row.unit, row.at_work)),
        Ownership::Claimed | Ownership::Free => None,
    }
}

const AWAY: &str = "SET sql_log_bin = 0; \
                    UPDATE multiactive.owner SET at = UTC_TIMESTAMP(6) - INTERVAL 60 SECOND";

#[test]
fn one_unit_claims_a_server_and_another_takes_it_only_when_that_one_has_left() -> Result<()> {
    on_each(async |server, identity| {
        let mut control = server.control().await?;
        let first = owner(server, "/a/", "first")?;
        let second = owner(server, "/a/", "second")?;
        let namesake = owner(server, "/b/", "first")?;
        let (yes, no) = (true, false);
        ensure!(control.claim(&first, |_, _| no).await? == Ownership::Free);
        ensure!(control.claimed(&first, |_, _| yes).await? == Ownership::Free);
        let before = control.observe(None).await?.position;
        ensure!(control.claim(&first, |_, row| row.is_none()).await? == Ownership::Claimed);
        ensure!(control.claimed(&first, |_, _| no).await? == Ownership::Claimed);
        for other in [&second, &namesake] {
            let told = control.claim(other, |_, _| yes).await?;
            ensure!(
                foreign(&told) == Some(("/a/", "shop/first", true)),
                "{told:?}"
            );
        }
        // Its arbiter is away. Whether it has left is for the claimant's arbiter to know.
        server.root().await?.query_drop(AWAY).await?;
        let told = control.claim(&second, |_, _| no).await?;
        ensure!(
            foreign(&told) == Some(("/a/", "shop/first", false)),
            "{told:?}"
        );
        // A guard of it runs on, and with it what it holds open.
        let guard = GuardOrder {
            until: clock() + Duration::from_secs(20),
            identity: identity.clone(),
            generation: Generation(1),
        };
        let guard = control.start_guard(&server.options, &guard, clock).await?;
        let told = control.claim(&second, |_, _| yes).await?;
        ensure!(
            foreign(&told) == Some(("/a/", "shop/first", true)),
            "{told:?}"
        );
        control.end_guards(NEWEST, None).await?;
        drop(guard);
        // What was killed is shown a moment longer.
        while !control.guards_running().await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let took = control
            .claim(&second, |server, _| *server == identity)
            .await?;
        ensure!(took == Ownership::Claimed, "{took:?}");
        // The first one comes back, and keeps its hands off.
        let told = control.claimed(&first, |_, _| yes).await?;
        ensure!(
            foreign(&told) == Some(("/a/", "shop/second", true)),
            "{told:?}"
        );
        ensure!(
            control.observe(None).await?.position == before,
            "claims were logged"
        );
        Ok(())
    })
}
