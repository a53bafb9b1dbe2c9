//! One row that both ends of two opposite links changed, held at both, and settled by a person.

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::database::Database;
use harness::programs::beside_test;
use model::{IdcName, LinkPhase};
use mysql::conflicts::{self, Recorded};
use serde_json::json;
use writer::{SettleError, Settler};

use super::alone::{bare, begins, start, status};
use super::links::Link;
use super::rig::{in_world, options, until};

const HELD: &str = "SELECT seq FROM multiactive.conflicts WHERE state = 'Held' ORDER BY seq";

struct Both<'a> {
    sh: &'a Database,
    bj: &'a Database,
    links: [Link; 2],
}

impl<'a> Both<'a> {
    async fn start(world: &'a World, resolve: &str) -> Result<Self> {
        let syncer = beside_test("syncer")?;
        let [sh, bj] = bare(world).await?;
        for side in [sh, bj] {
            side.root("SET sql_log_bin = 0; INSERT INTO orders.t VALUES (1, 1, NULL)")?;
        }
        let run = |ends: [&Database; 2]| {
            start(world, &syncer, ends, |settings| {
                settings["snapshot"]["mode"] = json!("Never");
                settings["conflicts"] = json!({"detect": "BeforeImage", "resolve": resolve});
            })
        };
        let links = [run([sh, bj])?, run([bj, sh])?];
        begins(&links[0], bj, "sh").await?;
        begins(&links[1], sh, "bj").await?;
        Ok(Self { sh, bj, links })
    }

    /// Each end writes, and neither has heard of the other.
    fn both_write(&mut self, at_sh: &str, at_bj: &str) -> Result<()> {
        for link in &mut self.links {
            link.writer = None;
        }
        self.sh.app(at_sh)?;
        self.bj.app(at_bj)?;
        for link in &mut self.links {
            link.kill_writer()?;
        }
        Ok(())
    }

    fn values(&self) -> Result<[Vec<Vec<String>>; 2]> {
        let values = "SELECT v FROM orders.t WHERE id = 1";
        Ok([self.sh.root(values)?, self.bj.root(values)?])
    }
}

/// The one that is held at this end.
async fn held(at: &Database) -> Result<Recorded> {
    let rows = at.root(HELD)?;
    let number = rows.first().context("nothing is held")?[0].parse()?;
    let mut session = options(at)?.connect().await?;
    let read = conflicts::read(&mut session, number).await?;
    session.close().await?;
    read.context("no such conflict")
}

/// To take the source's row at one end settles what the row is; at the other end it would undo that.
#[test]
fn each_end_s_row_cannot_be_put_at_the_other() -> Result<()> {
    in_world(async |world| {
        let mut both = Both::start(world, "Hold").await?;
        both.both_write(
            "UPDATE orders.t SET v = 2 WHERE id = 1",
            "UPDATE orders.t SET v = 3 WHERE id = 1",
        )?;
        until("it is held at both", async || {
            Ok(both.sh.root(HELD)?.len() == 1 && both.bj.root(HELD)?.len() == 1)
        })
        .await
        .with_context(|| both.links[0].describe() + &both.links[1].describe())?;
        let (of_sh, of_bj) = (options(both.sh)?, options(both.bj)?);
        let (sh, bj): (IdcName, IdcName) = ("sh".parse()?, "bj".parse()?);
        let at_bj = Settler {
            target: &of_bj,
            source: &sh,
            by: "test",
        };
        let record = held(both.bj).await?;
        at_bj.take_source(&record, Some(&of_sh)).await?;
        let at_sh = Settler {
            target: &of_sh,
            source: &bj,
            by: "test",
        };
        let record = held(both.sh).await?;
        let swapped = at_sh.take_source(&record, Some(&of_bj)).await;
        ensure!(
            matches!(&swapped, Err(SettleError::Changed { at: "source", detail }) if detail.contains("is 2")),
            "{swapped:?}"
        );
        let mut session = of_sh.connect().await?;
        ensure!(conflicts::discard(&mut session, record.conflict.number, "test").await?);
        session.close().await?;
        ensure!(both.values()? == [[["2"]], [["2"]]], "{:?}", both.values()?);
        // It goes on from there in both directions.
        both.bj.app("UPDATE orders.t SET v = 4 WHERE id = 1")?;
        until("the next change arrives", async || {
            Ok(both.values()? == [[["4"]], [["4"]]])
        })
        .await?;
        both.sh.app("UPDATE orders.t SET v = 5 WHERE id = 1")?;
        until(
            "and back",
            async || Ok(both.values()? == [[["5"]], [["5"]]]),
        )
        .await
    })
}

/// As the halt says: the row is made at one end what it was before, without the binlog; at the other end
/// the change that is not wanted is skipped.
#[test]
fn a_row_that_halts_both_ends_is_mended() -> Result<()> {
    in_world(async |world| {
        let mut both = Both::start(world, "Halt").await?;
        both.both_write(
            "UPDATE orders.t SET v = 2 WHERE id = 1",
            "UPDATE orders.t SET v = 3 WHERE id = 1",
        )?;
        let mut told = Vec::new();
        until("both halt", async || {
            told.clear();
            for link in &both.links {
                told.push(status(link).await?);
            }
            Ok(told
                .iter()
                .all(|it| it.phase == LinkPhase::Halted && it.error.contains("sql_log_bin = 0")))
        })
        .await
        .with_context(|| both.links[0].describe() + &both.links[1].describe())?;
        // What sh wrote is wanted.
        both.bj
            .root("SET sql_log_bin = 0; UPDATE orders.t SET v = 1 WHERE id = 1")?;
        let halted = told[1].halted_at.as_ref().context("at no transaction")?;
        ensure!(halted.skippable, "{halted:?}");
        both.sh.root(&format!(
            "SET sql_log_bin = 0; INSERT INTO multiactive.skips (link, gtid, `by`, reason, at) \
             VALUES ('{}', '{}', 'test', 'sh wins', UTC_TIMESTAMP(6))",
            told[1].link, halted.gtid
        ))?;
        until("both ends have it", async || {
            Ok(both.values()? == [[["2"]], [["2"]]])
        })
        .await
        .with_context(|| both.links[0].describe() + &both.links[1].describe())?;
        both.bj.app("UPDATE orders.t SET v = 4 WHERE id = 1")?;
        until("the next change arrives", async || {
            Ok(both.values()? == [[["4"]], [["4"]]])
        })
        .await
        .with_context(|| both.links[1].describe())
    })
}
