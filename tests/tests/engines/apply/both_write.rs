//! A link each way between MySQL in `sh` and MariaDB in `bj`, applications that write at both, and
//! policies by which the target's row may win: the same rows are written at both ends before either
//! has heard of the other.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::database::Database;
use harness::programs::beside_test;
use mysql::conflicts;
use serde_json::{Value, json};

use super::links::{Link, equal};
use super::rig::{Writer, in_world, options, reset, start_writer, until, until_applied};

/// The ends, and the links `sh` to `bj` and `bj` to `sh`.
struct Ends<'a> {
    sh: &'a Database,
    bj: &'a Database,
    links: [Link; 2],
}

/// The policies of the links from `sh` to `bj` and from `bj` to `sh`, by both of which `sh` wins or
/// its priority is the higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policies {
    Last,
    Priority,
    OneSide,
}

impl Policies {
    const ALL: [Self; 3] = [Self::Last, Self::Priority, Self::OneSide];

    fn of(self, from_sh: bool) -> Value {
        let (source, target) = if from_sh { (100, 50) } else { (50, 100) };
        let priorities = json!({"sourcePriority": source, "targetPriority": target});
        let resolve = match self {
            Self::Last => {
                let mut last = priorities;
                last["column"] = json!("v");
                json!({"LastWriteWins": last})
            }
            Self::Priority => json!({"IdcPriority": priorities}),
            Self::OneSide if from_sh => json!("SourceWins"),
            Self::OneSide => json!("TargetWins"),
        };
        json!({"detect": "BeforeImage", "resolve": resolve, "bothWrite": true})
    }
}

impl<'a> Ends<'a> {
    /// Both links stream, and both ends have the same rows and take writes.
    async fn start(world: &'a World, syncer: &Path, policies: Policies) -> Result<Self> {
        let (sh, bj) = (world.database("sh")?, world.database("bj")?);
        for side in [sh, bj] {
            reset(side).await?;
            side.open()?;
        }
        let start = |source: &Database, target: &Database| {
            Link::start_with(world, syncer, source, target, |settings| {
                settings["snapshot"]["mode"] = json!("Never");
                settings["conflicts"] = policies.of(source.idc == "sh");
            })
        };
        let links = [start(sh, bj)?, start(bj, sh)?];
        let ends = Self { sh, bj, links };
        for side in [sh, bj] {
            let begun = "SELECT COUNT(*) FROM multiactive.applied WHERE position IS NOT NULL";
            until("the link begins", async || Ok(side.root(begun)? == [["1"]]))
                .await
                .with_context(|| ends.describe())?;
        }
        let ids: Vec<String> = (1..=7).map(|id| format!("({id}, 1, NULL)")).collect();
        sh.app(&format!("INSERT INTO orders.t VALUES {}", ids.join(", ")))?;
        ends.equal().await?;
        Ok(ends)
    }

    fn describe(&self) -> String {
        let [there, back] = &self.links;
        format!("{}\n{}", there.describe(), back.describe())
    }

    async fn equal(&self) -> Result<()> {
        let [there, back] = &self.links;
        equal(self.sh, self.bj, &[there, back]).await
    }

    /// Nothing is carried any more.
    fn cut(&mut self) -> Result<()> {
        for link in &mut self.links {
            if let Some(writer) = link.writer.take() {
                writer.kill()?;
            }
        }
        Ok(())
    }

    /// Carries what one end wrote to the other, all of it. `first` and `second` are rows of marks.
    async fn carry(&mut self, index: usize) -> Result<()> {
        let (source, target) = match index {
            0 => (self.sh, self.bj),
            _ => (self.bj, self.sh),
        };
        let mark = 1000 + i64::try_from(index)?;
        source.app(&format!("INSERT INTO orders.t VALUES ({mark}, 1, NULL)"))?;
        let link = &mut self.links[index];
        if link.writer.is_none() {
            link.kill_writer()?;
        }
        let link = &self.links[index];
        let writers: Vec<&Writer> = link.writer.iter().collect();
        let there = format!("SELECT COUNT(*) FROM orders.t WHERE id = {mark}");
        let carried = until_applied("all is carried", &writers, async || {
            Ok(target.root(&there)? == [["1"]])
        });
        carried.await.with_context(|| link.describe())
    }

    /// What is recorded at each end, the oldest first, as `kind row state`.
    async fn told(&self) -> Result<[Vec<String>; 2]> {
        let mut all = [Vec::new(), Vec::new()];
        for (side, told) in [self.sh, self.bj].into_iter().zip(&mut all) {
            let mut session = options(side)?.connect().await?;
            let list = conflicts::list(&mut session, false).await?;
            let line = |it: &conflicts::Conflict| format!("{} {} {}", it.kind, it.row, it.state);
            told.extend(list.iter().rev().map(line));
        }
        Ok(all)
    }
}

/// The same rows at both ends: changed differently, removed and changed either way, put, removed by
/// both, changed alike, and changed to the same `v`.
const AT_SH: &str = "USE orders; UPDATE t SET v = 11 WHERE id = 1; UPDATE t SET v = 22 WHERE id = 2; \
     DELETE FROM t WHERE id = 3; UPDATE t SET v = 41 WHERE id = 4; DELETE FROM t WHERE id = 5; \
     UPDATE t SET v = 60 WHERE id = 6; UPDATE t SET v = 70, u = 71 WHERE id = 7; \
     INSERT INTO t VALUES (10, 5, NULL)";
const AT_BJ: &str = "USE orders; UPDATE t SET v = 12 WHERE id = 1; UPDATE t SET v = 21 WHERE id = 2; \
     UPDATE t SET v = 31 WHERE id = 3; DELETE FROM t WHERE id = 4; DELETE FROM t WHERE id = 5; \
     UPDATE t SET v = 60 WHERE id = 6; UPDATE t SET v = 70, u = 72 WHERE id = 7; \
     INSERT INTO t VALUES (10, 6, NULL)";

/// The conflicts at `sh` and at `bj`, in the order of each other's statements, and how each ends by
/// the last write, and where `sh` wins.
const MET: [[(&str, &str, &str); 8]; 2] = [
    [
        ("update_differs id=1", "SourceWon", "TargetWon"),
        ("update_differs id=2", "TargetWon", "TargetWon"),
        ("update_missing id=3", "SourceWon", "TargetWon"),
        ("delete_differs id=4", "TargetWon", "TargetWon"),
        ("delete_missing id=5", "Same", "Same"),
        ("update_differs id=6", "Same", "Same"),
        ("update_differs id=7", "TargetWon", "TargetWon"),
        ("insert_exists id=10", "SourceWon", "TargetWon"),
    ],
    [
        ("update_differs id=1", "TargetWon", "SourceWon"),
        ("update_differs id=2", "SourceWon", "SourceWon"),
        ("delete_differs id=3", "TargetWon", "SourceWon"),
        ("update_missing id=4", "SourceWon", "SourceWon"),
        ("delete_missing id=5", "Same", "Same"),
        ("update_differs id=6", "Same", "Same"),
        ("update_differs id=7", "SourceWon", "SourceWon"),
        ("insert_exists id=10", "TargetWon", "SourceWon"),
    ],
];

/// `id`, `v` and `u` of what is left.
fn left(policies: Policies) -> Vec<[&'static str; 3]> {
    let mut rows = match policies {
        Policies::Last => vec![
            ["1", "12", "NULL"],
            ["2", "22", "NULL"],
            ["3", "31", "NULL"],
        ],
        Policies::Priority | Policies::OneSide => {
            vec![["1", "11", "NULL"], ["2", "22", "NULL"]]
        }
    };
    rows.extend([["4", "41", "NULL"], ["6", "60", "NULL"], ["7", "70", "71"]]);
    rows.push(match policies {
        Policies::Last => ["10", "6", "NULL"],
        Policies::Priority | Policies::OneSide => ["10", "5", "NULL"],
    });
    rows
}

/// Both ends have what the policies leave, each conflict is recorded once at each, and none waits.
async fn check(ends: &Ends<'_>, policies: Policies) -> Result<()> {
    ends.equal().await?;
    let rows = ends
        .sh
        .root("SELECT id, v, u FROM orders.t WHERE id < 1000 ORDER BY id")?;
    ensure!(rows == left(policies), "{policies:?}: {rows:?}");
    let wanted = MET.map(|met| {
        met.map(|(what, by_last, by_side)| match policies {
            Policies::Last => format!("{what} {by_last}"),
            Policies::Priority | Policies::OneSide => format!("{what} {by_side}"),
        })
    });
    let told = ends.told().await?;
    ensure!(told == wanted, "{policies:?}: {told:?}");
    for link in &ends.links {
        let status = link.writer.as_ref().context("no writer")?.status().await?;
        ensure!(status.conflicts_held == Some(0), "{status:?}");
    }
    Ok(())
}

#[test]
fn rows_written_at_both_ends_end_the_same_whichever_comes_first() -> Result<()> {
    in_world(async |world: &World| {
        let syncer = beside_test("syncer")?;
        for policies in Policies::ALL {
            for order in [[0, 1], [1, 0]] {
                let mut ends = Ends::start(world, &syncer, policies).await?;
                ends.cut()?;
                ends.sh.app(AT_SH)?;
                ends.bj.app(AT_BJ)?;
                for index in order {
                    ends.carry(index).await?;
                }
                check(&ends, policies).await?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_writer_that_dies_decides_each_conflict_once() -> Result<()> {
    in_world(async |world: &World| {
        let syncer = beside_test("syncer")?;
        for policies in [Policies::Last, Policies::Priority] {
            let mut ends = Ends::start(world, &syncer, policies).await?;
            ends.cut()?;
            ends.sh.app(AT_SH)?;
            ends.bj.app(AT_BJ)?;
            // With each conflict a transaction of its own, some are decided when it dies.
            for point in ["before-commit", "after-commit:3", "before-commit:2"] {
                for link in &ends.links {
                    let arguments = ["--crash-at", point];
                    let mut writer = start_writer(&link.directory, &link.address, &arguments)?;
                    ensure!(writer.ended().await?, "{point} was not passed");
                }
            }
            for index in [0, 1] {
                ends.carry(index).await?;
            }
            check(&ends, policies).await?;
        }
        Ok(())
    })
}

/// `sh` puts a row and removes it again, `bj` puts one with the same key. Where `sh` wins, its row
/// takes the place of the other at `bj`, and is not removed there: `bj`'s is at `sh` by then.
#[test]
fn a_removal_after_a_conflict_is_held_until_the_tombstone_is_old() -> Result<()> {
    in_world(async |world: &World| {
        let syncer = beside_test("syncer")?;
        let mut ends = Ends::start(world, &syncer, Policies::Priority).await?;
        ends.cut()?;
        ends.sh
            .app("USE orders; INSERT INTO t VALUES (20, 1, NULL); DELETE FROM t WHERE id = 20")?;
        ends.bj.app("INSERT INTO orders.t VALUES (20, 2, NULL)")?;
        for index in [0, 1] {
            ends.carry(index).await?;
        }
        let row = "SELECT v FROM orders.t WHERE id = 20";
        ensure!(ends.sh.root(row)? == [["2"]], "{:?}", ends.sh.root(row)?);
        ensure!(ends.bj.root(row)? == [["1"]], "{:?}", ends.bj.root(row)?);
        let [at_sh, at_bj] = ends.told().await?;
        ensure!(at_sh.is_empty(), "{at_sh:?}");
        ensure!(
            at_bj == ["insert_exists id=20 SourceWon", "disputed id=20 Held"],
            "{at_bj:?}"
        );
        let tombstones = "SELECT source, `table`, `row`, kind, state FROM multiactive.tombstones";
        let kept = ends.bj.root(tombstones)?;
        ensure!(
            kept == [["sh", "t", "id=20", "insert_exists", "SourceWon"]],
            "{kept:?}"
        );
        ensure!(ends.sh.root(tombstones)?.is_empty());
        let detail = "SELECT detail FROM multiactive.conflicts WHERE kind = 'disputed'";
        let detail = ends.bj.root(detail)?.concat().concat();
        ensure!(
            detail.contains("a conflict was decided here at"),
            "{detail}"
        );

        // A day later it is forgotten, and the row goes where it is removed.
        ends.bj.root(
            "SET sql_log_bin = 0; UPDATE multiactive.tombstones SET at = at - INTERVAL 25 HOUR",
        )?;
        until("the old tombstone is removed", async || {
            Ok(ends.bj.root(tombstones)?.is_empty())
        })
        .await?;
        ends.sh.app("DELETE FROM orders.t WHERE id = 20")?;
        ends.equal().await?;
        ensure!(ends.bj.root(row)?.is_empty());
        let [_, at_bj] = ends.told().await?;
        ensure!(
            at_bj.last().map(String::as_str) == Some("delete_differs id=20 SourceWon"),
            "{at_bj:?}"
        );
        Ok(())
    })
}
