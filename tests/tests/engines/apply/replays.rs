//! What a failover set aside, written again on the primary for a person.

use anyhow::{Context as _, Result, ensure};
use change::{Body, RowChange, TableChange, Transaction, encode_stored};
use model::{Credentials, Endpoint, IdcName, TlsSettings};
use mysql::control::{ControlSession, FenceOptions};
use mysql::session::{Program, Session, SessionOptions};
use writer::{Kind, Outcome, ReplayError, Replayed, Replayer};

use super::rig::{Rig, on_each};
use super::script::{changes, delete, insert, row, table, update};

const SOURCE: &str = "old";

/// The target holds epoch 3 and takes writes.
fn open(rig: &Rig<'_>, rows: &str) -> Result<()> {
    rig.target.root(&format!(
        "SET GLOBAL read_only = 0; \
         INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (3, '{}', NULL, NOW(6)); {rows}",
        rig.target.idc
    ))?;
    Ok(())
}

/// Files a transaction as the target's writer would have.
fn file(rig: &Rig<'_>, number: u64, parts: Vec<Vec<TableChange>>) -> Result<String> {
    let gtid = format!("0-77-{number}");
    for (part, changes) in (0..).zip(parts) {
        let piece = Transaction {
            gtid: gtid.clone(),
            origin: SOURCE.to_owned(),
            epoch: 2,
            committed_micros: 1_700_000_000_000_000,
            part,
            position: None,
            filtered: 0,
            body: Body::Rows(changes),
        };
        let body: String = encode_stored(&piece)?
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        rig.target.root(&format!(
            "INSERT INTO multiactive.stranded (source, gtid, part, epoch, ended_by, changes, \
             `tables`, body, filed) VALUES ('{SOURCE}', '{gtid}', {part}, 2, 3, {}, '', \
             X'{body}', NOW(6))",
            piece.change_count()
        ))?;
    }
    Ok(gtid)
}

fn options(rig: &Rig<'_>) -> Result<SessionOptions> {
    let endpoint = Endpoint {
        host: rig.target.host.clone(),
        port: rig.target.port,
        tls: TlsSettings::default(),
    };
    let credentials = Credentials {
        username: rig.target.user.clone(),
        password: rig.target.password.clone(),
        ca: None,
    };
    Ok(SessionOptions::new(
        &endpoint,
        &credentials,
        Program::Mactl,
    )?)
}

async fn start(rig: &Rig<'_>) -> Result<(Replayer, Session)> {
    let options = options(rig)?;
    let idc: IdcName = rig.target.idc.parse()?;
    let from = options.connect().await?;
    Ok((Replayer::connect(&options, &idc).await?, from))
}

fn rows_of(rows: Vec<RowChange>) -> Vec<Vec<TableChange>> {
    vec![vec![changes(&table(), rows)]]
}

fn state(rig: &Rig<'_>, gtid: &str) -> Result<String> {
    Ok(rig
        .target
        .root(&format!(
            "SELECT GROUP_CONCAT(DISTINCT state) FROM multiactive.stranded WHERE gtid = '{gtid}'"
        ))?
        .concat()
        .concat())
}

fn outcome(replayed: &Replayed, outcome: Outcome, counts: [u64; 3]) -> Result<()> {
    ensure!(
        replayed.outcome == outcome
            && [replayed.applied, replayed.already_there, replayed.held] == counts,
        "{replayed:?}"
    );
    Ok(())
}

/// A transaction in two pieces is written whole, as a write that is born here, once.
#[test]
fn what_fits_is_written_once_as_a_local_write() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        open(
            rig,
            "INSERT INTO orders.t VALUES (1, 10, 1), (2, 20, 2), (3, 30, NULL)",
        )?;
        let mut parts = rows_of(vec![
            insert(7, 70, Some(7)),
            update(row(1, 10, Some(1)), row(1, 11, Some(1))),
        ]);
        // A row that goes away and comes back under another key; one that is gone already.
        parts.extend(rows_of(vec![
            update(row(2, 20, Some(2)), row(4, 20, Some(2))),
            delete(row(3, 30, None)),
            delete(row(9, 90, None)),
        ]));
        let gtid = file(rig, 1, parts)?;
        let (mut primary, mut from) = start(rig).await?;
        primary.begin_rehearsal().await?;
        let rehearsed = primary.rehearse(&mut from, SOURCE, &gtid).await?;
        outcome(&rehearsed, Outcome::Replayed, [4, 1, 0])?;
        primary.end_rehearsal().await?;
        ensure!(
            rig.rows()?.len() == 3,
            "the rehearsal changed {:?}",
            rig.rows()?
        );
        ensure!(state(rig, &gtid)? == "Held");

        let position = "SELECT @@GLOBAL.gtid_binlog_pos";
        let mysql = "SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')";
        let position = match rig.target.engine {
            harness::Engine::MariaDb => position,
            harness::Engine::MySql => mysql,
        };
        let before = rig.target.root(position)?.concat().concat();
        let replayed = primary.replay(&mut from, SOURCE, &gtid, "a test").await?;
        outcome(&replayed, Outcome::Replayed, [4, 1, 0])?;
        let after = rig.target.root(position)?.concat().concat();
        // Nothing marks it as born elsewhere: the same domain or tag as any write here.
        let shape =
            |text: &str| -> String { text.chars().filter(|it| !it.is_ascii_digit()).collect() };
        ensure!(
            after != before && shape(&after) == shape(&before),
            "{before} became {after}"
        );
        let expected = [["1", "11", "1"], ["4", "20", "2"], ["7", "70", "7"]];
        ensure!(rig.rows()? == expected, "{:?}", rig.rows()?);
        ensure!(state(rig, &gtid)? == "Replayed");

        // Also where it is still said to be held, as in another member, it is not written again.
        rig.target.root(
            "UPDATE multiactive.stranded SET state = 'Held'; UPDATE orders.t SET v = 10 WHERE id = 1",
        )?;
        let again = primary.replay(&mut from, SOURCE, &gtid, "a test").await?;
        outcome(&again, Outcome::ReplayedBefore, [0, 0, 0])?;
        ensure!(rig.rows()?[0] == ["1", "10", "1"], "{:?}", rig.rows()?);
        Ok(())
    })
}

/// What somebody wrote since is not written over, and nothing of its transaction is; what depends
/// on nothing of it goes on.
#[test]
fn what_meets_other_writes_is_left_for_a_person() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        open(
            rig,
            "INSERT INTO orders.t VALUES (1, 12, 1), (2, 20, 2), (7, 71, 8)",
        )?;
        let first = file(
            rig,
            1,
            rows_of(vec![
                update(row(2, 20, Some(2)), row(2, 21, Some(2))),
                // The id was given out again, another row took the value, a row has changed, one is
                // gone.
                insert(7, 70, Some(7)),
                insert(8, 80, Some(8)),
                update(row(1, 10, Some(1)), row(1, 11, Some(1))),
                update(row(5, 50, None), row(5, 51, None)),
            ]),
        )?;
        let second = file(rig, 2, rows_of(vec![insert(9, 90, None)]))?;
        let (mut primary, mut from) = start(rig).await?;
        let held = primary.replay(&mut from, SOURCE, &first, "a test").await?;
        outcome(&held, Outcome::Held, [1, 0, 4])?;
        let kinds: Vec<Kind> = held.rows.iter().map(|row| row.kind).collect();
        ensure!(
            kinds
                == [
                    Kind::InsertExists,
                    Kind::UniqueClash,
                    Kind::UpdateDiffers,
                    Kind::UpdateMissing
                ],
            "{held:?}"
        );
        let told = &held.rows[2];
        ensure!(
            (told.table.as_str(), told.key.as_str()) == ("orders.t", "id=1")
                && told.detail == "v: was 10, became 11, is 12",
            "{told:?}"
        );
        let replayed = primary.replay(&mut from, SOURCE, &second, "a test").await?;
        outcome(&replayed, Outcome::Replayed, [1, 0, 0])?;
        let expected = [
            ["1", "12", "1"],
            ["2", "20", "2"],
            ["7", "71", "8"],
            ["9", "90", "NULL"],
        ];
        ensure!(rig.rows()? == expected, "{:?}", rig.rows()?);
        ensure!(state(rig, &first)? == "Held" && state(rig, &second)? == "Replayed");
        Ok(())
    })
}

/// Rows of other tables that a foreign key would take along are nobody's to guess.
#[test]
fn what_would_cascade_is_left_for_a_person() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        open(
            rig,
            "INSERT INTO orders.t VALUES (1, 10, 1), (2, 20, 2); \
             CREATE TABLE orders.lines (id INT PRIMARY KEY, t INT, \
             FOREIGN KEY (t) REFERENCES orders.t (id) ON DELETE CASCADE); \
             INSERT INTO orders.lines VALUES (1, 1)",
        )?;
        let tried = async {
            let gone = file(rig, 1, rows_of(vec![delete(row(1, 10, Some(1)))]))?;
            let changed = file(
                rig,
                2,
                rows_of(vec![update(row(2, 20, Some(2)), row(2, 21, Some(2)))]),
            )?;
            let (mut primary, mut from) = start(rig).await?;
            let held = primary.replay(&mut from, SOURCE, &gone, "a test").await?;
            outcome(&held, Outcome::Held, [0, 0, 1])?;
            ensure!(held.rows[0].kind == Kind::Cascade, "{held:?}");
            let replayed = primary
                .replay(&mut from, SOURCE, &changed, "a test")
                .await?;
            outcome(&replayed, Outcome::Replayed, [1, 0, 0])?;
            let lines = rig.target.root("SELECT COUNT(*) FROM orders.lines")?;
            ensure!(lines == [["1"]], "{lines:?}");
            Ok(())
        }
        .await;
        rig.target.root("DROP TABLE orders.lines")?;
        tried
    })
}

/// Only the member that takes the writes, one at a time; and a fence ends whoever is at it, though
/// `read_only` would not.
#[test]
fn only_where_writes_are_taken_and_a_fence_ends_it() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        open(rig, "INSERT INTO orders.t VALUES (1, 10, 1)")?;
        let gtid = file(rig, 1, rows_of(vec![insert(7, 70, None)]))?;
        let idc: IdcName = rig.target.idc.parse()?;
        let options = options(rig)?;
        let (mut primary, mut from) = start(rig).await?;
        let second = Replayer::connect(&options, &idc).await.map(drop);
        ensure!(
            matches!(&second, Err(ReplayError::Busy { .. })),
            "{second:?}"
        );

        // It has begun, and holds what it has written.
        primary.begin_rehearsal().await?;
        primary.rehearse(&mut from, SOURCE, &gtid).await?;
        let mut control =
            ControlSession::connect(&options, std::time::Duration::from_secs(5)).await?;
        let fence = FenceOptions {
            generation: model::Generation(1),
            grace: std::time::Duration::ZERO,
            budget: std::time::Duration::from_secs(5),
            keep: Vec::new(),
            heartbeat: None,
        };
        let position = control.fence(&fence).await?.position;
        let cut = primary.replay(&mut from, SOURCE, &gtid, "a test").await;
        ensure!(cut.is_err(), "{cut:?}");
        let after = control.observe(None).await?.position;
        ensure!(after == position, "{position:?} became {after:?}");
        ensure!(rig.rows()?.len() == 1, "{:?}", rig.rows()?);

        // What begins after the fence sees it, and what sits between two statements is ended by it.
        let fenced = Replayer::connect(&options, &idc).await.map(drop);
        ensure!(
            matches!(&fenced, Err(ReplayError::NotPrimary { reason, .. }) if reason.contains("read_only")),
            "{fenced:?}"
        );
        rig.target.root("SET GLOBAL read_only = 0")?;
        let idle = Replayer::connect(&options, &idc).await?;
        control.fence(&fence).await.context("while it idles")?;
        drop(idle);
        rig.target.root(
            "SET GLOBAL read_only = 0; INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (4, 'other', NULL, NOW(6))",
        )?;
        let ended = Replayer::connect(&options, &idc).await.map(drop);
        ensure!(
            matches!(&ended, Err(ReplayError::NotPrimary { reason, .. }) if reason.contains("other")),
            "{ended:?}"
        );
        Ok(())
    })
}
