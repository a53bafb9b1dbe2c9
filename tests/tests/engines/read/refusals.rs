//! What a link cannot carry stops it, with the object and the way out named.

use anyhow::{Context as _, Result, ensure};
use change::{Flavor, Position};

use super::pull::keys;
use super::{Source, on_each};

/// One thing that an application or a person does, and the word that the link halts with.
struct Case {
    done: &'static str,
    /// Puts things right again; not read by the link.
    undone: &'static str,
    reason: &'static str,
    /// Something that the message must name.
    names: &'static str,
}

const fn case(
    done: &'static str,
    undone: &'static str,
    reason: &'static str,
    names: &'static str,
) -> Case {
    Case {
        done,
        undone,
        reason,
        names,
    }
}

const BOTH: [Case; 12] = [
    case(
        "SET SESSION binlog_row_image = MINIMAL; UPDATE t SET v = 1",
        "",
        "RowImage",
        "orders.t",
    ),
    case(
        "SET SESSION binlog_format = STATEMENT; UPDATE t SET v = 2",
        "",
        "StatementFormat",
        "UPDATE t SET v = 2",
    ),
    case(
        "USE mysql; SET SESSION binlog_format = STATEMENT; INSERT INTO orders.t VALUES (77, 1)",
        "",
        "StatementFormat",
        "orders.t",
    ),
    case(
        "XA START 'x'; UPDATE t SET v = 3; XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'",
        "",
        "Xa",
        "XA transaction",
    ),
    case(
        "CREATE TABLE filled (id INT PRIMARY KEY) AS SELECT * FROM t",
        "DROP TABLE orders.filled",
        "DdlWithRows",
        "CREATE TABLE",
    ),
    case(
        "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
        "DROP EVENT orders.e",
        "ServerEvent",
        "EVENT e",
    ),
    case(
        "CREATE TABLE keyless (a INT)",
        "DROP TABLE orders.keyless",
        "Tables",
        "orders.keyless",
    ),
    case(
        "CREATE TABLE unsafe (id INT PRIMARY KEY) ENGINE = MyISAM",
        "DROP TABLE orders.unsafe",
        "Tables",
        "MyISAM",
    ),
    case(
        "CREATE TABLE one (id INT PRIMARY KEY); CREATE TABLE unwanted_two (id INT PRIMARY KEY); \
         DROP TABLE one, unwanted_two",
        "",
        "DdlAcrossSelection",
        "unwanted_two",
    ),
    case(
        "SET GLOBAL binlog_row_metadata = MINIMAL; FLUSH TABLES; UPDATE t SET v = 4",
        "",
        "RowMetadata",
        "binlog_row_metadata",
    ),
    case(
        "CREATE TABLE t2 LIKE t; RENAME TABLE t2 TO unwanted_t2",
        "",
        "DdlAcrossSelection",
        "t2",
    ),
    // What a writer applies under a mark that is not known here.
    case(
        "BEGIN; INSERT INTO multiactive.applied (link, source, position, snapshot, ledger, at) \
         VALUES ('suite/x', 'gz', NULL, '{}', '{}', NOW(6)); UPDATE t SET v = 8; COMMIT",
        "DELETE FROM multiactive.applied",
        "Origin",
        "apply it twice",
    ),
];

const MYSQL: [Case; 3] = [
    case(
        "SET SESSION binlog_row_value_options = PARTIAL_JSON; \
         UPDATE j SET j = JSON_SET(j, '$.a', 'y')",
        "",
        "PartialJson",
        "JSON",
    ),
    case(
        "SET gtid_next = 'AUTOMATIC:ma_zz'; UPDATE t SET v = 5",
        "",
        "Origin",
        "ma_zz",
    ),
    case(
        "SET gtid_next = 'AUTOMATIC:ma_sh'; UPDATE t SET v = 6",
        "",
        "Origin",
        "came back",
    ),
];

const MARIADB: [Case; 7] = [
    // It is logged when it begins and again when it has ended well or come to nothing.
    case(
        "SET binlog_alter_two_phase = 1; ALTER TABLE t ADD COLUMN c INT",
        "ALTER TABLE orders.t DROP COLUMN c",
        "Malformed",
        "binlog_alter_two_phase = OFF",
    ),
    case(
        "CREATE TABLE typed (id INT PRIMARY KEY, u UUID)",
        "DROP TABLE orders.typed",
        "Tables",
        "type uuid",
    ),
    case(
        "CREATE TABLE typed (id INT PRIMARY KEY, u TEXT COMPRESSED)",
        "DROP TABLE orders.typed",
        "Tables",
        "COMPRESSED",
    ),
    case(
        "CREATE TABLE versioned (id INT PRIMARY KEY) WITH SYSTEM VERSIONING",
        "DROP TABLE orders.versioned",
        "Tables",
        "orders.versioned is made WITH SYSTEM VERSIONING",
    ),
    // It is looked for among the tables before anything is read.
    case(
        "CREATE SEQUENCE s",
        "DROP SEQUENCE orders.s",
        "Tables",
        "orders.s is one",
    ),
    case(
        "CREATE SEQUENCE s; DROP SEQUENCE s",
        "",
        "Sequence",
        "CREATE SEQUENCE s",
    ),
    // The domain of `bj`, where this server is.
    case(
        "SET gtid_domain_id = 1194047517; UPDATE t SET v = 7",
        "",
        "Origin",
        "came back",
    ),
];

fn tables(source: &Source<'_>) -> Result<()> {
    let json = "CREATE TABLE j (id INT PRIMARY KEY, j JSON); \
                INSERT INTO j VALUES (1, CONCAT('{\"a\":\"', REPEAT('x', 100), '\"}'))";
    source.make(&format!(
        "CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 0), (2, 0); {json}"
    ))?;
    Ok(())
}

#[test]
fn what_cannot_be_carried_halts_the_link_and_is_named() -> Result<()> {
    on_each(async |source| {
        tables(source)?;
        let own: &[Case] = match source.flavor() {
            Flavor::MySql => &MYSQL,
            Flavor::MariaDb => &MARIADB,
        };
        for Case {
            done,
            undone,
            reason,
            names,
        } in BOTH.iter().chain(own)
        {
            let before = source.position()?;
            source.database.root(&format!("USE orders; {done}"))?;
            let halt = source.pull(Some(&before)).await?.halt().await;
            source
                .database
                .root("SET GLOBAL binlog_row_metadata = FULL; FLUSH TABLES")?;
            if !undone.is_empty() {
                source.database.root(undone)?;
            }
            let halt = halt?;
            ensure!(
                halt.reason == *reason && halt.message.contains(names),
                "{done}: expected {reason} naming {names}, got {}: {}",
                halt.reason,
                halt.message
            );
        }
        Ok(())
    })
}

/// Numbers of a MariaDB domain that go back: no position tells then what was read and what not.
#[test]
fn numbers_that_go_back_halt_the_link() -> Result<()> {
    on_each(async |source| {
        if source.flavor() != Flavor::MariaDb {
            return Ok(());
        }
        tables(source)?;
        let before = source.position()?;
        let back = "SET GLOBAL gtid_strict_mode = 0; SET gtid_seq_no = 1; \
                    UPDATE orders.t SET v = 9; SET GLOBAL gtid_strict_mode = 1";
        source.database.root(back)?;
        // The number after the highest; else the source would seem to have gone back.
        source.database.root("UPDATE orders.t SET v = 10")?;
        let halt = source.pull(Some(&before)).await?.halt().await?;
        ensure!(
            halt.reason == "GtidOrder" && halt.message.contains("0-2-1 "),
            "{halt:?}"
        );
        Ok(())
    })
}

/// What a foreign key does to other rows is not in every binlog: the target's has to do it, which it
/// cannot where the row that it refers to is not carried.
#[test]
fn keys_that_act_are_told_and_refused_where_nothing_at_the_target_can_act() -> Result<()> {
    on_each(async |source| {
        let before = source.make(
            "CREATE TABLE t (a INT, B INT, PRIMARY KEY (a, B)); CREATE TABLE child (id INT PRIMARY KEY, \
             x INT, y INT, UNIQUE KEY one (x, y), \
             CONSTRAINT one FOREIGN KEY (x, y) REFERENCES t (a, B) ON UPDATE CASCADE); \
             CREATE TABLE still (id INT PRIMARY KEY, x INT, y INT, FOREIGN KEY (x, y) REFERENCES t (a, B)); \
             CREATE TABLE unwanted (id INT PRIMARY KEY)",
        )?;
        let told = keys(source).await?;
        let logged = source.flavor() == Flavor::MySql;
        ensure!(told.logged == logged, "{told:?}");
        if !logged {
            let at = told.at.as_ref().context("no position")?;
            ensure!(
                Position::try_from(at)?.contains(&source.position()?),
                "{told:?}"
            );
            let [key] = told.keys.as_slice() else {
                anyhow::bail!("{told:?}");
            };
            let columns = [key.columns.join(" "), key.to_columns.join(" ")];
            ensure!(key.table == "child" && key.to_table == "t", "{key:?}");
            ensure!(columns == ["x y", "a b"], "{key:?}");
            let rules = (key.on_delete.as_str(), key.on_update.as_str());
            ensure!(rules == ("NO ACTION", "CASCADE"), "{key:?}");
            let tables: Vec<&str> = told.tables.iter().map(|it| it.table.as_str()).collect();
            ensure!(
                tables.len() == 3 && !tables.contains(&"unwanted"),
                "{tables:?}"
            );
        }
        let mut pull = source.pull(Some(&before)).await?;
        pull.reach(&source.position()?).await?;
        source.database.root(
            "ALTER TABLE orders.child ADD FOREIGN KEY (x) REFERENCES orders.unwanted (id) ON DELETE SET NULL",
        )?;
        let end = source.end()?;
        if logged {
            pull.reach(&end).await?;
            return Ok(());
        }
        for _ in 0..2 {
            let halt = pull.halt().await?;
            ensure!(
                halt.reason == "CascadesFromOutside" && halt.message.contains("orders.unwanted"),
                "{halt:?}"
            );
            pull.again(source).await?;
        }
        Ok(())
    })
}
