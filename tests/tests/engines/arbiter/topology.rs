//! The etcd client against etcd itself: sessions, lost comparisons, watches that survive.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use model::{Epoch, EpochRecord, IdcDoc, IdcRole, Revision, ServerIdentity, UnitKey};
use topology::{CommitError, KeepAlive, Published, SessionClaim, Transaction};

use super::rig::{idc, topology, until, with_world};

pub fn claim(holder: &str) -> Result<SessionClaim> {
    Ok(SessionClaim {
        idc: idc("sh")?,
        holder: holder.to_owned(),
        address: "10.0.0.1:8080".to_owned(),
        promises_at: "10.0.0.1:7443".to_owned(),
        version: "0".to_owned(),
        lease_time: Duration::from_secs(3),
        above: model::Generation(0),
    })
}

#[test]
fn a_session_is_taken_over_with_its_lease() -> Result<()> {
    with_world(&async |world| {
        let etcd = topology(world, "/sessions/").await?;
        let first = etcd.claim_session(&claim("first")?).await?;
        let alive = etcd.keep_alive(&first).await?;
        ensure!(
            matches!(
                alive,
                KeepAlive::Acknowledged {
                    granted_millis: 3_000,
                    ..
                }
            ),
            "{alive:?}"
        );
        let second = etcd.claim_session(&claim("second")?).await?;
        ensure!(second.lease == first.lease, "{second:?}");
        ensure!(second.generation.0 == first.generation.0 + 1, "{second:?}");
        ensure!(etcd.keep_alive(&first).await? == KeepAlive::Superseded);
        // What the first one still sends comes to nothing.
        let key = etcd.keys().session(&idc("sh")?);
        let late = Transaction::new("late")
            .if_revision(&key, first.revision)
            .delete(&key);
        ensure!(matches!(
            etcd.commit(late).await,
            Err(CommitError::Lost { .. })
        ));
        // Once the lease is gone, so is the session; the count goes on.
        until("the lease expires", Duration::from_secs(20), async || {
            let gone = etcd.sessions().await?.is_empty();
            Ok(gone.then_some(()))
        })
        .await?;
        ensure!(etcd.keep_alive(&second).await? == KeepAlive::Expired);
        let third = etcd.claim_session(&claim("third")?).await?;
        ensure!(
            third.lease != first.lease && third.generation.0 == 3,
            "{third:?}"
        );
        Ok(())
    })
}

/// An etcd that is put back under its old name holds a session of before: that is not somebody who
/// came later.
#[test]
fn an_earlier_holder_of_the_session_is_no_successor() -> Result<()> {
    with_world(&async |world| {
        let etcd = topology(world, "/put-back/").await?;
        let first = etcd.claim_session(&claim("first")?).await?;
        let key = etcd.keys().session(&idc("sh")?);
        let before: Option<model::Versioned<model::SessionRecord>> =
            etcd.get(&key, "session").await?;
        let before = before.context("no session")?.value;
        let second = etcd.claim_session(&claim("second")?).await?;
        let put_back = Transaction::new("put back").put(&key, &before, Some(second.lease));
        etcd.commit(put_back).await?;
        let answer = etcd.keep_alive(&second).await?;
        ensure!(
            matches!(answer, KeepAlive::Forgotten { .. }),
            "{answer:?} for the second, {second:?}; the first is {first:?}"
        );
        let above = SessionClaim {
            above: second.generation,
            ..claim("second")?
        };
        let again = etcd.claim_session(&above).await?;
        ensure!(again.generation > second.generation, "{again:?}");
        ensure!(etcd.keep_alive(&first).await? == KeepAlive::Superseded);
        Ok(())
    })
}

/// Other IDCs see each keep-alive, unless etcd has no room for that: then the session lives on.
#[test]
fn keep_alives_are_recorded_while_there_is_room() -> Result<()> {
    with_world(&async |world| {
        let etcd = topology(world, "/renewals/").await?;
        let session = etcd.claim_session(&claim("first")?).await?;
        ensure!(session.granted_millis == 3_000, "{session:?}");
        let renewed = async || {
            let state = etcd.state().await?;
            let found = state.renewals.get(&idc("sh")?).cloned();
            anyhow::Ok(found.context("no renewal is recorded")?)
        };
        let recorded = async || match etcd.keep_alive(&session).await? {
            KeepAlive::Acknowledged { recorded, .. } => Ok(recorded),
            other => anyhow::bail!("{other:?}"),
        };
        ensure!(recorded().await?, "there is room");
        let first = renewed().await?;
        ensure!(first.value.granted_millis == 3_000 && first.lease.is_none());
        ensure!(recorded().await?, "there is room");
        let second = renewed().await?;
        ensure!(second.revision > first.revision, "{second:?}");

        let mut client = etcd_client::Client::connect(&world.info().etcd, None).await?;
        let status = client.status().await?;
        let member = status.header().context("no header")?.member_id();
        let mut alarm = async |action| {
            let mut options = etcd_client::AlarmOptions::new();
            options.with_member(member);
            let kind = etcd_client::AlarmType::Nospace;
            client.alarm(action, kind, Some(options)).await?;
            anyhow::Ok(())
        };
        alarm(etcd_client::AlarmAction::Activate).await?;
        let full = recorded().await;
        let stands = renewed().await;
        alarm(etcd_client::AlarmAction::Deactivate).await?;
        ensure!(!full?, "etcd refuses what takes room");
        ensure!(stands? == second, "it was recorded all the same");
        ensure!(recorded().await?, "there is room again");
        Ok(())
    })
}

#[test]
fn documents_are_written_only_when_they_change() -> Result<()> {
    with_world(&async |world| {
        let etcd = topology(world, "/documents/").await?;
        let doc = IdcDoc {
            role: IdcRole::Data,
        };
        let written = etcd.publish_idc(&idc("sh")?, &doc).await?;
        let Published::Written(revision) = written else {
            anyhow::bail!("{written:?}");
        };
        ensure!(etcd.publish_idc(&idc("sh")?, &doc).await? == Published::Unchanged(revision));
        let witness = IdcDoc {
            role: IdcRole::Witness,
        };
        ensure!(matches!(
            etcd.publish_idc(&idc("sh")?, &witness).await?,
            Published::Written(_)
        ));
        etcd.delete_idc(&idc("sh")?).await?;
        ensure!(etcd.idcs().await?.is_empty());
        Ok(())
    })
}

#[test]
fn a_watch_survives_compaction_and_the_loss_of_a_member() -> Result<()> {
    with_world(&async |world| {
        let etcd = topology(world, "/watches/").await?;
        let unit = UnitKey::new("shop", "orders")?;
        let mut watch = etcd.watch();
        let listed = watch.next().await?;
        ensure!(listed.listed.is_some() && watch.state().unit_keys().next().is_none());

        let put = async |number: u64| {
            let record = EpochRecord {
                epoch: Epoch(number),
                idc: idc("sh")?,
                identity: ServerIdentity("server".to_owned()),
                failed_over: Epoch::NONE,
                candidates: Vec::new(),
                highest: Epoch::NONE,
                noted: None,
                boots_fenced: true,
            };
            let key = etcd.keys().epoch(&unit);
            Ok::<Revision, anyhow::Error>(
                etcd.commit(Transaction::new("put").put(&key, &record, None))
                    .await?,
            )
        };
        let revision = put(1).await?;
        let changes = watch.next().await?;
        ensure!(
            changes.units.contains(&unit) && changes.listed.is_none(),
            "{changes:?}"
        );
        ensure!(watch.state().revision == revision && epoch(&watch, &unit)? == 1);

        // Nobody reads the watch while the revisions that it stands at are compacted away, and the
        // member that it reads from is lost.
        let newest = put(2).await?;
        let endpoints = world.info().etcd.clone();
        let compact = ["compaction", &newest.0.to_string()].map(str::to_owned);
        let arguments: Vec<&str> = compact.iter().map(String::as_str).collect();
        ensure!(
            harness::coordination::etcdctl(&endpoints, &arguments)
                .status()?
                .success()
        );
        let used = etcd.endpoint().to_owned();
        let member = world.info().idcs.iter().find(|idc| {
            harness::coordination::endpoint(world.info().network, idc)
                .is_ok_and(|endpoint| endpoint == used)
        });
        let gone = harness::coordination::part(member.context("the endpoint in use is nobody's")?);
        world.kill(&gone)?;
        until(
            "a transaction gets through",
            Duration::from_secs(20),
            async || Ok(put(3).await.is_ok().then_some(())),
        )
        .await?;
        until("the watch sees it", Duration::from_secs(20), async || {
            // Errors are told so that they can be shown; calling again tries again.
            let told = tokio::time::timeout(Duration::from_secs(1), watch.next()).await;
            println!("the watch: {told:?}");
            Ok((epoch(&watch, &unit).ok() == Some(3)).then_some(()))
        })
        .await?;
        ensure!(etcd.endpoint() != used, "the lost member is still in use");
        world.start(&gone)?;
        harness::coordination::wait(world.sandbox(), &endpoints)
    })
}

fn epoch(watch: &topology::TopologyWatch, unit: &UnitKey) -> Result<u64> {
    let state = watch.state().unit(unit);
    Ok(state.epoch.context("no epoch")?.value.epoch.0)
}

#[test]
fn an_etcd_out_of_reach_is_not_a_lost_comparison() -> Result<()> {
    with_world(&async |world| {
        let mut options =
            topology::EtcdOptions::new(vec!["http://127.0.0.1:1".to_owned()], "/nowhere/", None);
        options.request_timeout = Duration::from_millis(500);
        let etcd = topology::Topology::connect(&options).await?;
        let key = etcd.keys().epoch(&UnitKey::new("shop", "orders")?);
        let transaction = Transaction::new("try").if_revision(&key, Revision::ABSENT);
        let failed = etcd.commit(transaction).await;
        ensure!(matches!(failed, Err(CommitError::Unknown(_))), "{failed:?}");
        ensure!(!world.info().etcd.is_empty());
        Ok(())
    })
}
