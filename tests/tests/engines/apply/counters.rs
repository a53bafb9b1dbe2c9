//! Counters that both ends add to, on links without a Unit: MySQL in `sh`, MariaDB in `bj`.

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::database::Database;
use harness::programs::beside_test;
use serde_json::json;

use super::alone::{bare, begins, start};
use super::links::Link;
use super::rig::{Writer, in_world, until_applied};

/// Two rows; both ends number theirs by themselves.
const STOCK: &str = "SET sql_log_bin = 0; CREATE TABLE orders.stock (id INT PRIMARY KEY, \
     quantity INT UNSIGNED NOT NULL, sold BIGINT, name VARCHAR(20) CHARACTER SET utf8mb4 COLLATE \
     utf8mb4_bin, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE \
     CURRENT_TIMESTAMP(6)) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; \
     INSERT INTO orders.stock VALUES (1, 1000, 0, 'pen', '2026-01-01 00:00:00'), \
     (2, 1000, 0, 'ink', '2026-01-01 00:00:00')";
const ROUNDS: u64 = 150;

struct Ends<'a> {
    sh: &'a Database,
    bj: &'a Database,
    links: [Link; 2],
}

impl<'a> Ends<'a> {
    async fn start(world: &'a World) -> Result<Self> {
        let syncer = beside_test("syncer")?;
        let [sh, bj] = bare(world).await?;
        for side in [sh, bj] {
            side.root(STOCK)?;
        }
        let run = |ends: [&Database; 2]| {
            start(world, &syncer, ends, |settings| {
                settings["snapshot"]["mode"] = json!("Never");
                let of = ["quantity", "sold", "at"].map(|name| format!("orders.stock.{name}"));
                let delta = json!({"Delta": {"counters": of}});
                settings["conflicts"] = json!({"detect": "BeforeImage", "resolve": delta});
            })
        };
        let links = [run([sh, bj])?, run([bj, sh])?];
        begins(&links[0], bj, "sh").await?;
        begins(&links[1], sh, "bj").await?;
        Ok(Self { sh, bj, links })
    }

    /// What both ends have, once they have it.
    async fn both(&self, sql: &str, expected: &[[&str; 3]]) -> Result<()> {
        let writers: Vec<&Writer> = self.links.iter().flat_map(|link| &link.writer).collect();
        let mut seen = Vec::new();
        let same = until_applied("both ends have it", &writers, async || {
            seen = vec![self.sh.root(sql)?, self.bj.root(sql)?];
            Ok(seen.iter().all(|rows| rows == expected))
        });
        let outcome = same.await;
        let [there, back] = &self.links;
        outcome.with_context(|| format!("{seen:?}\n{}\n{}", there.describe(), back.describe()))
    }

    /// How many conflicts are held at each end.
    fn held(&self) -> Result<[Vec<Vec<String>>; 2]> {
        let held = "SELECT kind, policy FROM multiactive.conflicts WHERE state = 'Held'";
        Ok([self.sh.root(held)?, self.bj.root(held)?])
    }
}

/// Sums come out right whatever dies, as each addition is made once at each end.
#[test]
fn both_ends_add_to_the_same_rows() -> Result<()> {
    in_world(async |world| {
        let mut ends = Ends::start(world).await?;
        let sell = |row: u32| {
            format!(
                "UPDATE orders.stock SET quantity = quantity - 1, sold = sold + 1 WHERE id = {row};"
            )
        };
        let buy = "UPDATE orders.stock SET quantity = quantity + 3 WHERE id IN (1, 2);".to_owned();
        for round in 0..6 {
            let work = |side: &Database| -> Result<()> {
                for number in 0..ROUNDS / 6 {
                    let sql = if number % 5 == 0 {
                        buy.clone()
                    } else {
                        sell(1) + &sell(2)
                    };
                    side.app(&sql)?;
                }
                Ok(())
            };
            let (sh, bj) = (ends.sh, ends.bj);
            std::thread::scope(|scope| {
                let there = scope.spawn(|| work(sh));
                let back = work(bj);
                there
                    .join()
                    .map_err(|_| anyhow::anyhow!("the load in sh panicked"))??;
                back
            })?;
            let link = &mut ends.links[round % 2];
            if round < 3 {
                link.kill_writer()?;
            } else {
                link.kill_syncer()?;
            }
        }
        // 150 rounds at either end: in every fifth three are bought, in the others one is sold.
        let (bought, sold) = (2 * ROUNDS / 5 * 3, 2 * (ROUNDS - ROUNDS / 5));
        let (quantity, sold) = ((1000 + bought - sold).to_string(), sold.to_string());
        let rows = [["1", &quantity, &sold], ["2", &quantity, &sold]];
        ends.both(
            "SELECT id, quantity, sold FROM orders.stock ORDER BY id",
            &rows,
        )
        .await?;
        ensure!(
            ends.held()? == [vec![], Vec::<Vec<String>>::new()],
            "{:?}",
            ends.held()?
        );
        let mut added = 0;
        for writer in ends.links.iter().flat_map(|link| &link.writer) {
            let metrics = writer.get("/metrics").await?;
            let of_sums = |line: &&str| line.contains("conflicts_total{") && line.contains("Added");
            added += metrics.lines().filter(of_sums).count();
        }
        ensure!(added > 0, "the ends never met, so nothing was tried");
        Ok(())
    })
}

/// What else is written of a row goes with it where nobody else has written that, and waits for a
/// person where somebody has; a sum that does not fit waits, too.
#[test]
fn what_cannot_be_added_waits_for_a_person() -> Result<()> {
    in_world(async |world| {
        let mut ends = Ends::start(world).await?;
        let both_without_hearing = |ends: &mut Ends<'_>, at_sh: &str, at_bj: &str| -> Result<()> {
            for link in &mut ends.links {
                if let Some(writer) = link.writer.take() {
                    writer.kill()?;
                }
            }
            ends.sh.app(at_sh)?;
            ends.bj.app(at_bj)?;
            ends.links.iter_mut().try_for_each(Link::kill_writer)
        };
        both_without_hearing(
            &mut ends,
            "UPDATE orders.stock SET name = 'blue pen', sold = sold + 1 WHERE id = 1",
            "UPDATE orders.stock SET sold = sold + 2 WHERE id = 1",
        )?;
        let one = "SELECT name, sold, quantity FROM orders.stock WHERE id = 1";
        ends.both(one, &[["blue pen", "3", "1000"]]).await?;
        let at = "SELECT COUNT(DISTINCT at), 0, 0 FROM orders.stock WHERE id = 1";
        ends.both(at, &[["1", "0", "0"]]).await?;
        ensure!(ends.held()? == [vec![], Vec::<Vec<String>>::new()]);
        both_without_hearing(
            &mut ends,
            "UPDATE orders.stock SET name = 'red ink', sold = 5 WHERE id = 2",
            "UPDATE orders.stock SET name = 'green ink', sold = 7 WHERE id = 2",
        )?;
        // A mark behind it says that both have been there.
        ends.sh
            .app("INSERT INTO orders.stock (id, quantity) VALUES (10, 0)")?;
        ends.bj
            .app("INSERT INTO orders.stock (id, quantity) VALUES (11, 0)")?;
        let marks = "SELECT COUNT(*), 0, 0 FROM orders.stock WHERE id IN (10, 11)";
        ends.both(marks, &[["2", "0", "0"]]).await?;
        let held = || [["update_differs", "Delta"].map(str::to_owned).to_vec()].to_vec();
        ensure!(ends.held()? == [held(), held()], "{:?}", ends.held()?);
        let two = "SELECT name, sold FROM orders.stock WHERE id = 2";
        ensure!(
            ends.sh.root(two)? == [["red ink", "5"]] && ends.bj.root(two)? == [["green ink", "7"]]
        );
        // An unsigned number ends at zero.
        both_without_hearing(
            &mut ends,
            "UPDATE orders.stock SET quantity = quantity - 600 WHERE id = 1",
            "UPDATE orders.stock SET quantity = quantity - 700 WHERE id = 1",
        )?;
        ends.sh.app("DELETE FROM orders.stock WHERE id = 10")?;
        ends.bj.app("DELETE FROM orders.stock WHERE id = 11")?;
        ends.both(marks, &[["0", "0", "0"]]).await?;
        let [at_sh, at_bj] = ends.held()?;
        ensure!(at_sh.len() == 2 && at_bj.len() == 2, "{at_sh:?} {at_bj:?}");
        Ok(())
    })
}
