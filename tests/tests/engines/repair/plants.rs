//! What is planted: one row in each statement, and no row twice, in the tables of every type that
//! links carry (`read/values.sql`).

/// As `read/values.sql` has it, so that what is written means the same.
pub const SETTINGS: &str = "USE orders; SET sql_mode = 'ALLOW_INVALID_DATES'; \
    SET time_zone = '+08:00'; SET foreign_key_checks = 0;";

/// Tables beside those of every type: a key and values that are compared without case, and values
/// of a unique key that change places.
pub const MORE: &str = "USE orders; \
    CREATE TABLE ci (k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT, \
    note VARCHAR(20) COLLATE utf8mb4_general_ci); \
    CREATE TABLE taken (id INT PRIMARY KEY, u INT UNIQUE);";

/// Their rows.
pub const MORE_ROWS: &str = "USE orders; \
    INSERT INTO ci VALUES ('apple', 1, 'x'), ('banana', 2, 'y'), ('cherry', 3, 'z '), ('date', 4, ''); \
    INSERT INTO taken VALUES (1, 10), (2, 20), (3, 30);";

/// Rows with another value at the target.
pub const DIFFERING: &[&str] = &[
    // Numbers at their ends, and NULL against a value.
    "UPDATE ints SET s0 = -127 WHERE id = 0",
    "UPDATE ints SET u4 = 18446744073709551614 WHERE id = 1",
    "UPDATE ints SET y0 = 1999 WHERE id = 2",
    "UPDATE ints SET z0 = 5 WHERE id = 3",
    "UPDATE ints SET s4 = NULL WHERE id = 4",
    "UPDATE decs SET a = -99999999999999999999999999999999999.999999999999999999999999999998 \
     WHERE id = 1",
    "UPDATE decs SET b = 1 WHERE id = 2",
    "UPDATE decs SET f = 0.001 WHERE id = 3",
    "UPDATE decs SET g = 0.0000000001 WHERE id = 98",
    // Reals that differ in their last bit.
    "UPDATE floats SET f = 1.1000001e0 WHERE id = 2",
    "UPDATE floats SET f = 0 WHERE id = 6",
    "UPDATE floats SET d = 0.10000000000000002e0 WHERE id = 9",
    "UPDATE floats SET d = 1e-310 WHERE id = 53",
    "UPDATE fkey SET v = -1 WHERE v = 5",
    "UPDATE bits SET g = 0xfffffffffffffffe WHERE id = 1",
    "UPDATE bits SET a = b'0' WHERE id = 3",
    "UPDATE bits SET e = 1 WHERE id = 4",
    // Case, a trailing space, NULL against empty, and every character set.
    "UPDATE strs SET c = 'C' WHERE id = 0",
    "UPDATE strs SET a = NULL WHERE id = 1",
    "UPDATE strs SET q = '' WHERE id = 2",
    "UPDATE strs SET b = 'trail ' WHERE id = 3",
    "UPDATE strs SET f = '中' , e = 'ü', j = '本' WHERE id = 4",
    "UPDATE strs SET p = CONCAT(REPEAT(0x00, 69999), 0x01) WHERE id = 20",
    "UPDATE strs SET l = 0xffffffffffffffff WHERE id = 21",
    "UPDATE cikey SET l = 'e' WHERE k = 'apple'",
    "UPDATE cikey SET v = NULL WHERE k = ''",
    "UPDATE ci SET note = 'X' WHERE k = 'apple'",
    "UPDATE ci SET k = 'Banana' WHERE k = 'banana'",
    "UPDATE ci SET note = 'z' WHERE k = 'cherry'",
    "UPDATE ci SET note = NULL WHERE k = 'date'",
    "UPDATE enums SET e = 'b' WHERE id = 1",
    "UPDATE enums SET e = '' WHERE id = 3",
    "UPDATE enums SET h = 18446744073709551614 WHERE id = 4",
    "UPDATE enums SET i = 'v255' WHERE id = 5",
    "UPDATE times SET ts6 = '2024-02-29 23:59:58.987655' WHERE id = 1",
    "UPDATE times SET d = '0000-00-01' WHERE id = 2",
    "UPDATE times SET t6 = '838:59:58.999999' WHERE id = 3",
    "UPDATE times SET dt6 = '2024-00-01' WHERE id = 4",
    "UPDATE times SET t0 = '-00:00:02' WHERE id = 5",
    "UPDATE times SET ts0 = '2024-07-01' WHERE id = 6",
    "UPDATE geos SET p = ST_GeomFromText('POINT(1.5 -2.5)', 4326) WHERE id = 1",
    "UPDATE gens SET a = 6 WHERE id = 1",
    "UPDATE gens SET d = NULL WHERE id = 2",
    "UPDATE inv SET a = 4 WHERE id = 1",
    "UPDATE fidx SET b = '' WHERE id = 2",
    "UPDATE ukey SET c = 7 WHERE a = 2",
    "UPDATE `we``ird ta\"ble` SET `sel ect` = 5 WHERE `pr``i mary` = 3",
    // JSON that looks alike, JSON's null against SQL's, and the last of five million bytes.
    "UPDATE jsons SET j = '\"1.0\"' WHERE id = 8",
    "UPDATE jsons SET j = NULL WHERE id = 0",
    "UPDATE big SET a = CONCAT(REPEAT('a', 4999999), 'b') WHERE id = 1",
    "UPDATE big SET j = '[]' WHERE id = 3",
];

/// The same on MySQL: a sign that its SQL does not see.
pub const DIFFERING_MYSQL: &[&str] =
    &["UPDATE floats SET d = 5 WHERE id = 0; UPDATE floats SET d = -0e0 WHERE id = 0"];

/// MariaDB takes the literal -0e0 for 0, so a link cannot bring -0.0 there, and a run says so.
pub const MINUS_ZERO: &str = "DELETE FROM floats WHERE id = 1;";

/// Rows that the target lacks.
pub const MISSING: &[&str] = &[
    "DELETE FROM ints WHERE id = 5",
    "DELETE FROM decs WHERE id = 5",
    "DELETE FROM fkey WHERE v = 3",
    "DELETE FROM cikey WHERE k = '日本'",
    "DELETE FROM lkey ORDER BY c LIMIT 1",
    "DELETE FROM tkey ORDER BY a LIMIT 1",
    "DELETE FROM times WHERE id = 7",
    "DELETE FROM ukey WHERE a = 1",
    "DELETE FROM taken WHERE id = 1",
];

/// Rows that only the target has. The last one holds the unique value of a row that it lacks.
pub const EXTRA: &[&str] = &[
    "INSERT INTO ints (id, u4) VALUES (-7, 18446744073709551615)",
    "INSERT INTO ints (id, u4) VALUES (2147483647, 1)",
    "INSERT INTO fkey VALUES (0.1, 99)",
    "INSERT INTO cikey VALUES ('zz', 'é', 1)",
    "INSERT INTO lkey VALUES ('ü', 0xfe, '2028-04-12 16:00:00.064', '37:12:13.04', '2020-00-00')",
    "INSERT INTO strs (id, a, m) VALUES (1000, 'extra', REPEAT('m', 60000))",
    "INSERT INTO gens (id, a) VALUES (9, 9)",
    "INSERT INTO taken VALUES (9, 10)",
];

/// The settings, the tables and the rows of `read/values.sql`.
pub fn values() -> (String, String, String) {
    const VALUES: &str = include_str!("../read/values.sql");
    let (mut settings, mut tables, mut rows) = (String::new(), String::new(), String::new());
    // A document with a member that stands in it twice is refused by links to MySQL, which would
    // keep the last one only.
    let values = VALUES.replace(r#"REPEAT('"k":1,', 3)"#, r#"REPEAT('"k":1,', 1)"#);
    for line in values.lines().filter(|line| !line.starts_with("--")) {
        if line.starts_with("USE ") {
            settings.push_str(line);
        } else if line.starts_with("CREATE ") {
            let (table, row) = line.split_once("; INSERT").unwrap_or((line, ""));
            tables.push_str(&format!("{};\n", table.trim_end_matches(';')));
            if !row.is_empty() {
                rows.push_str(&format!("INSERT{row}\n"));
            }
        } else {
            rows.push_str(&format!("{line}\n"));
        }
    }
    (settings, tables, rows)
}
