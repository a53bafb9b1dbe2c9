//! Tables with foreign keys, copied while an application writes to them: whichever table comes first,
//! rows refer to others that are not there yet.

use anyhow::Result;

use super::rig::{Rig, between_all};

/// Each pair is copied in another order, and `tree` refers to rows that come later.
const TABLES: &str = "USE orders; DROP TABLE IF EXISTS a_children, z_children, a_parents, z_parents; \
    CREATE TABLE a_parents (id INT PRIMARY KEY, v INT); \
    CREATE TABLE z_parents (id INT PRIMARY KEY, v INT); \
    CREATE TABLE a_children (id INT PRIMARY KEY, parent INT NOT NULL, \
        CONSTRAINT a FOREIGN KEY (parent) REFERENCES z_parents (id)); \
    CREATE TABLE z_children (id INT PRIMARY KEY, parent INT NOT NULL, \
        CONSTRAINT z FOREIGN KEY (parent) REFERENCES a_parents (id)); \
    CREATE TABLE tree (id INT PRIMARY KEY, up INT, \
        CONSTRAINT up FOREIGN KEY (up) REFERENCES tree (id))";

const ROWS: u64 = 8000;

const SAID: &str = "USE orders; \
    SELECT COUNT(*), SUM(CRC32(CONCAT(id, '#', v))) FROM a_parents; \
    SELECT COUNT(*), SUM(CRC32(CONCAT(id, '#', v))) FROM z_parents; \
    SELECT COUNT(*), SUM(CRC32(CONCAT(id, '#', parent))) FROM a_children; \
    SELECT COUNT(*), SUM(CRC32(CONCAT(id, '#', parent))) FROM z_children; \
    SELECT COUNT(*), SUM(CRC32(CONCAT(id, '#', COALESCE(up, 'none')))) FROM tree";

fn rows() -> String {
    let values = |of: fn(u64) -> String| (0..ROWS).map(of).collect::<Vec<_>>().join(",");
    let pairs = values(|id| format!("({id}, {id})"));
    let later = values(|id| format!("({id}, {})", (id + 4000) % ROWS));
    let few: Vec<String> = (0..50)
        .map(|id| format!("({id}, {})", ROWS - 1 - id))
        .collect();
    format!(
        "USE orders; SET foreign_key_checks = 0; \
         INSERT INTO a_parents VALUES {pairs}; INSERT INTO z_parents VALUES {pairs}; \
         INSERT INTO a_children VALUES {few}; INSERT INTO z_children VALUES {few}; \
         INSERT INTO tree VALUES {later}",
        few = few.join(",")
    )
}

/// New families, children that get other parents, and parents that go once they have no children.
fn round(number: u64) -> String {
    let new = 100_000 + number;
    let pick = number * 37 % ROWS;
    let mut sql = "USE orders; ".to_owned();
    for of in ["a", "z"] {
        let to = if of == "a" { "z" } else { "a" };
        sql.push_str(&format!(
            "START TRANSACTION; INSERT INTO {to}_parents VALUES ({new}, {number}); \
             INSERT INTO {of}_children VALUES ({new}, {new}), ({new} + 100000, {pick}); COMMIT; \
             UPDATE {of}_children SET parent = {pick} WHERE id = {}; \
             UPDATE {of}_children SET parent = {pick} WHERE id = {new}; \
             DELETE FROM {to}_parents WHERE id = {new}; \
             UPDATE {to}_parents SET v = v + 1 WHERE id BETWEEN {pick} AND {pick} + 9; ",
            number % 50
        ));
    }
    sql.push_str(&format!(
        "INSERT INTO tree VALUES ({new}, {pick}); UPDATE tree SET up = {new} WHERE id = {pick}; \
         INSERT INTO tree VALUES ({new} + 100000, {new}); \
         DELETE FROM tree WHERE id = {new} + 100000"
    ));
    sql
}

async fn families(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLES, &rows())?;
    rig.settings(|link| link["snapshot"]["chunkBytes"] = 4096.into())?;
    let link = rig.under_load(round, rig.link())?;
    rig.equal(SAID).await?;
    link.check().await
}

#[test]
fn rows_are_copied_before_those_that_they_refer_to() -> Result<()> {
    between_all("parents", families)
}
