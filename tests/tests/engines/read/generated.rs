//! Values drawn from a seed mean the same three times: as the stream decodes them, as the copy reads
//! them, and as the server's own client prints them.
//!
//! `MULTIACTIVE_SEED` and `MULTIACTIVE_VALUES` (rows, each with a value of every type) are for longer
//! runs; what fails names the seed.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "random bits, small counts"
)]

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use change::{Flavor, Value};

use super::pull::differences;
use super::{Source, on_each_chunked};

/// Sebastiano Vigna's `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A number of so many bits, extremes more often than the rest.
    fn bits(&mut self, bits: u32) -> u64 {
        let all = u64::MAX >> (64 - bits);
        match self.below(6) {
            0 => 0,
            1 => all,
            2 => all >> 1,
            3 => (all >> 1) + 1,
            4 => self.next() & all & 0xff,
            _ => self.next() & all,
        }
    }

    fn digits(&mut self, most: u64) -> String {
        let count = self.below(most + 1);
        let nine = self.below(8) == 0;
        (0..count)
            .map(|_| {
                if nine {
                    '9'
                } else {
                    char::from(b'0' + self.below(10) as u8)
                }
            })
            .collect()
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let count = self.below(most + 1);
        let kind = self.below(4);
        (0..count)
            .map(|_| match kind {
                0 => 0,
                1 => b"\0'\\\" \xff\n%"[self.below(8) as usize],
                _ => self.next() as u8,
            })
            .collect()
    }

    /// Text of characters from all planes, or from one set of them.
    fn text(&mut self, most: u64, from: &[char]) -> String {
        let count = self.below(most + 1);
        (0..count)
            .map(|_| match from {
                [] => loop {
                    let planes = [0x80, 0x800, 0x1_0000, 0x11_0000][self.below(4) as usize];
                    let point = self.below(planes) as u32;
                    if let Some(character) = char::from_u32(point) {
                        break character;
                    }
                },
                from => from[self.below(from.len() as u64) as usize],
            })
            .collect()
    }
}

/// How values of a type are drawn, as SQL.
type Draw = fn(&mut Random) -> String;

/// A type, how its values are drawn, and an expression over `{}` that shows one exactly.
struct Type {
    declared: &'static str,
    draw: Draw,
    show: &'static str,
}

const fn of(declared: &'static str, draw: Draw, show: &'static str) -> Type {
    Type {
        declared,
        draw,
        show,
    }
}

fn signed(random: &mut Random, bits: u32) -> String {
    let raw = random.bits(bits) << (64 - bits);
    (raw.cast_signed() >> (64 - bits)).to_string()
}

fn decimal(random: &mut Random, whole: u64, scale: u64, sign: bool) -> String {
    let minus = if sign && random.below(2) == 0 {
        "-"
    } else {
        ""
    };
    format!("{minus}0{}.{}0", random.digits(whole), random.digits(scale))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

fn text(random: &mut Random, most: u64, from: &[char]) -> String {
    format!("_utf8mb4 X'{}'", hex(random.text(most, from).as_bytes()))
}

fn binary(random: &mut Random, most: u64) -> String {
    format!("X'{}'", hex(&random.bytes(most)))
}

fn date(random: &mut Random) -> String {
    // A day that is not there is a value too, if the month has none of its own: the 31st of each.
    let (month, day) = match random.below(8) {
        0 => (0, 0),
        1 => (random.below(13), 0),
        _ => (1 + random.below(12), 1 + random.below(31)),
    };
    let year = [0, 1, 999, 1969, 1970, 2038, 9999, random.below(10_000)][random.below(8) as usize];
    format!("{year:04}-{month:02}-{day:02}")
}

fn clock(random: &mut Random) -> String {
    let (hour, minute, second) = (random.below(24), random.below(60), random.below(60));
    let micros = [0, 1, 999_999, random.below(1_000_000)][random.below(4) as usize];
    format!("{hour:02}:{minute:02}:{second:02}.{micros:06}")
}

fn datetime(random: &mut Random) -> String {
    format!("'{} {}'", date(random), clock(random))
}

fn time(random: &mut Random) -> String {
    let sign = if random.below(2) == 0 { "-" } else { "" };
    // Of the last hour some times round to what is none.
    let hours = [0, 837, random.below(838)][random.below(3) as usize];
    format!("'{sign}{hours:03}:{}'", &clock(random)[3..])
}

/// With whole digits only, so that nothing is rounded beyond the end.
fn timestamp(random: &mut Random) -> String {
    let seconds = [1, 2_147_483_646, 1 + random.below(2_147_483_645)][random.below(3) as usize];
    format!("FROM_UNIXTIME({seconds}.{:06})", random.below(1_000_000))
}

fn json(random: &mut Random, depth: u64) -> String {
    let quoted = |random: &mut Random| {
        let mut text = String::from("\"");
        for character in random.text(12, &[]).chars() {
            match character {
                '"' | '\\' => text.extend(['\\', character]),
                control if (control as u32) < 0x20 => {
                    let _ = write!(text, "\\u{:04x}", control as u32);
                }
                other => text.push(other),
            }
        }
        text + "\""
    };
    match random.below(if depth > 3 { 6 } else { 9 }) {
        0 => ["null", "true", "false"][random.below(3) as usize].to_owned(),
        1 => signed(random, 64),
        2 => random.bits(64).to_string(),
        3 | 4 => {
            let double = f64::from_bits(random.next());
            let small = random.below(100_000) as f64 / 100.0;
            let number = if double.is_finite() && random.below(2) == 0 {
                double
            } else {
                small
            };
            format!("{number:?}")
        }
        5 => quoted(random),
        6 => {
            let parts: Vec<String> = (0..random.below(5))
                .map(|_| json(random, depth + 1))
                .collect();
            format!("[{}]", parts.join(","))
        }
        _ => {
            let parts: Vec<String> = (0..random.below(5))
                .map(|number| format!("\"k{number}\": {}", json(random, depth + 1)))
                .collect();
            format!("{{{}}}", parts.join(", "))
        }
    }
}

fn document(random: &mut Random) -> String {
    let bytes = hex(json(random, 0).as_bytes());
    format!("CONVERT(X'{bytes}' USING utf8mb4)")
}

/// What MySQL holds inside documents that no text brings.
fn opaque(random: &mut Random) -> String {
    let whole = decimal(random, 30, 20, true);
    format!(
        "JSON_ARRAY({whole}, CAST('{}' AS DATE), CAST({} AS TIME(6)), CAST({} AS DATETIME(6)), {}, \
         CAST({} AS BINARY))",
        "2024-02-29",
        time(random),
        "'2024-02-29 01:02:03.000004'",
        random.bits(64),
        binary(random, 100)
    )
}

const GBK: &[char] = &[
    '中', '文', '許', '功', '蓋', 'a', '\\', '\'', '一', '乙', '丁', ' ',
];
const JAPANESE: &[char] = &['ソ', '表', '能', '予', 'ア', '~', '|', 'a', '\'', ' '];
const LATIN: &[char] = &['é', 'ü', 'ÿ', 'a', ' ', '\'', '\\', 'ß', '€', '\0'];
const BMP: &[char] = &[
    '日', '本', 'a', 'é', '\u{ffff}', ' ', '\'', '\\', '\u{1}', '\u{5c27}',
];

const NUMBERS: [Type; 20] = [
    of("TINYINT", |r| signed(r, 8), "{}"),
    of("TINYINT UNSIGNED", |r| r.bits(8).to_string(), "{}"),
    of("SMALLINT", |r| signed(r, 16), "{}"),
    of("SMALLINT UNSIGNED", |r| r.bits(16).to_string(), "{}"),
    of("MEDIUMINT", |r| signed(r, 24), "{}"),
    of("MEDIUMINT UNSIGNED", |r| r.bits(24).to_string(), "{}"),
    of("INT", |r| signed(r, 32), "{}"),
    of("INT UNSIGNED", |r| r.bits(32).to_string(), "{}"),
    of("BIGINT", |r| signed(r, 64), "{}"),
    of("BIGINT UNSIGNED", |r| r.bits(64).to_string(), "{}"),
    of("DECIMAL(65,30)", |r| decimal(r, 34, 29, true), "{}"),
    of("DECIMAL(18,9) UNSIGNED", |r| decimal(r, 8, 8, false), "{}"),
    of("DECIMAL(5,5)", |r| decimal(r, 0, 4, true), "{}"),
    of("DECIMAL(10,0)", |r| signed(r, 32), "{}"),
    of(
        "DOUBLE",
        |r| loop {
            let number = f64::from_bits(r.next());
            if number.is_finite() {
                break format!("{number:e}");
            }
        },
        "{} * 1e0",
    ),
    of(
        "FLOAT",
        |r| loop {
            let number = f32::from_bits(r.bits(32) as u32);
            if number.is_finite() {
                break format!("{:e}", f64::from(number));
            }
        },
        "{} * 1e0",
    ),
    of("BIT(1)", |r| r.bits(1).to_string(), "{} + 0"),
    of("BIT(33)", |r| r.bits(33).to_string(), "{} + 0"),
    of("BIT(64)", |r| r.bits(64).to_string(), "{} + 0"),
    of(
        "YEAR",
        |r| [0, 1901, 2155, 1901 + r.below(255)][r.below(4) as usize].to_string(),
        "{}",
    ),
];

const MOMENTS: [Type; 10] = [
    of("DATE", |r| format!("'{}'", date(r)), "{}"),
    of("TIME", |r| format!("CAST({} AS TIME)", time(r)), "{}"),
    of("TIME(1)", time, "{}"),
    of("TIME(3)", time, "{}"),
    of("TIME(6)", time, "{}"),
    of(
        "DATETIME(2)",
        |r| format!("'{} 01:02:03.12'", date(r)),
        "{}",
    ),
    of("DATETIME(6)", datetime, "{}"),
    of("TIMESTAMP NULL", timestamp, "UNIX_TIMESTAMP({})"),
    of("TIMESTAMP(4) NULL", timestamp, "UNIX_TIMESTAMP({})"),
    of("TIMESTAMP(6) NULL", timestamp, "UNIX_TIMESTAMP({})"),
];

const STRINGS: [Type; 21] = [
    // What the lists of collations count, or not, comes before the texts.
    of(
        "GEOMETRY",
        |r| format!("POINT({}, {})", signed(r, 20), signed(r, 60)),
        "HEX({})",
    ),
    of("CHAR(20)", |r| text(r, 20, &[]), "HEX({})"),
    of("VARCHAR(60)", |r| text(r, 60, &[]), "HEX({})"),
    of("TEXT", |r| text(r, 400, &[]), "HEX({})"),
    of(
        "CHAR(10) CHARACTER SET latin1",
        |r| text(r, 10, LATIN),
        "HEX({})",
    ),
    of(
        "VARCHAR(300) CHARACTER SET latin1",
        |r| text(r, 300, LATIN),
        "HEX({})",
    ),
    of(
        "VARCHAR(30) CHARACTER SET gbk",
        |r| text(r, 30, GBK),
        "HEX({})",
    ),
    of(
        "CHAR(30) CHARACTER SET sjis",
        |r| text(r, 30, JAPANESE),
        "HEX({})",
    ),
    of(
        "TINYTEXT CHARACTER SET utf8mb3",
        |r| text(r, 30, BMP),
        "HEX({})",
    ),
    of(
        "VARCHAR(30) CHARACTER SET ucs2",
        |r| text(r, 30, BMP),
        "HEX({})",
    ),
    of(
        "VARCHAR(30) CHARACTER SET utf16",
        |r| text(r, 30, &[]),
        "HEX({})",
    ),
    of(
        "CHAR(9) CHARACTER SET utf32",
        |r| text(r, 9, &[]),
        "HEX({})",
    ),
    of(
        "VARCHAR(9) COLLATE utf8mb4_bin",
        |r| text(r, 9, &[]),
        "HEX({})",
    ),
    of("BINARY(20)", |r| binary(r, 20), "HEX({})"),
    of("VARBINARY(30)", |r| binary(r, 30), "HEX({})"),
    of("VARBINARY(700)", |r| binary(r, 700), "HEX({})"),
    of("TINYBLOB", |r| binary(r, 255), "HEX({})"),
    of("LONGBLOB", |r| binary(r, 2_000), "HEX({})"),
    of(
        "ENUM('a','it''s','')",
        |r| (1 + r.below(3)).to_string(),
        "{} + 0",
    ),
    of(
        "SET('a','b','c','d','e','f','g','h','i')",
        |r| r.bits(9).to_string(),
        "{} + 0",
    ),
    of(
        "JSON",
        document,
        "HEX(CAST({} AS CHAR CHARACTER SET utf8mb4))",
    ),
];

const MYSQL: [Type; 2] = [
    of(
        "VECTOR(3)",
        |r| {
            format!(
                "STRING_TO_VECTOR('[{}, -0.0, {}]')",
                signed(r, 20),
                signed(r, 60)
            )
        },
        "HEX({})",
    ),
    of(
        "JSON",
        opaque,
        "HEX(CAST({} AS CHAR CHARACTER SET utf8mb4))",
    ),
];

/// A value as the expression of its type shows it.
fn rendered(value: &Value, decimals: u32) -> String {
    let fraction = |micros: u64| match decimals {
        0 => String::new(),
        digits => format!(
            ".{:0width$}",
            micros / 10u64.pow(6 - digits),
            width = digits as usize
        ),
    };
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) | Value::Bit(number) | Value::Set(number) => number.to_string(),
        Value::Enum(number) => number.to_string(),
        Value::Year(year) => format!("{year:04}"),
        Value::Decimal(text) => text.clone(),
        Value::Float(real) => format!("{:?}", f64::from(real.get()).to_bits()),
        Value::Double(real) => format!("{:?}", real.get().to_bits()),
        Value::Text(bytes) | Value::Bytes(bytes) | Value::Json(bytes) | Value::Geometry(bytes) => {
            hex(bytes)
        }
        Value::Date(date) => date.to_string(),
        Value::DateTime(moment) => {
            let whole = moment.to_string();
            format!("{}{}", &whole[..19], fraction(moment.micros.into()))
        }
        Value::Time(micros) => {
            let sign = if *micros < 0 { "-" } else { "" };
            let size = micros.unsigned_abs();
            let seconds = size / 1_000_000;
            format!(
                "{sign}{:02}:{:02}:{:02}{}",
                seconds / 3600,
                seconds / 60 % 60,
                seconds % 60,
                fraction(size % 1_000_000)
            )
        }
        Value::Timestamp(micros) => {
            let size = micros.unsigned_abs();
            format!("{}{}", size / 1_000_000, fraction(size % 1_000_000))
        }
    }
}

fn types(flavor: Flavor) -> Vec<&'static Type> {
    let own: &[Type] = match flavor {
        Flavor::MySql => &MYSQL,
        Flavor::MariaDb => &[],
    };
    let all = NUMBERS.iter().chain(&MOMENTS).chain(own);
    all.chain(&STRINGS).collect()
}

fn variable(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

/// One table with a column of each type, its rows put by many statements.
fn statements(types: &[&Type], random: &mut Random, rows: u64) -> (String, String) {
    let columns: Vec<String> = (0..)
        .zip(types)
        .map(|(number, of)| format!("c{number} {}", of.declared))
        .collect();
    let table = format!(
        "CREATE TABLE drawn (id INT PRIMARY KEY, {}) ROW_FORMAT = DYNAMIC",
        columns.join(", ")
    );
    let mut sql = String::from(
        "USE orders; SET sql_mode = 'STRICT_ALL_TABLES,ALLOW_INVALID_DATES', time_zone = '+00:00';\n",
    );
    for id in 0..rows {
        let values: Vec<String> = types
            .iter()
            .map(|of| {
                if random.below(16) == 0 {
                    "NULL".to_owned()
                } else {
                    (of.draw)(random)
                }
            })
            .collect();
        let head = if id % 50 == 0 {
            "INSERT INTO drawn VALUES "
        } else {
            ", "
        };
        let end = if id % 50 == 49 || id + 1 == rows {
            ";\n"
        } else {
            ""
        };
        sql.push_str(&format!("{head}({id}, {}){end}", values.join(", ")));
    }
    sql.push_str(
        "UPDATE drawn SET id = id + 1000000 WHERE id % 3 = 0; DELETE FROM drawn WHERE id % 7 = 1;",
    );
    (table, sql)
}

async fn compare(source: &Source<'_>, seed: u64, rows: u64) -> Result<()> {
    let types = types(source.flavor());
    let (table, sql) = statements(&types, &mut Random(seed), rows);
    let before = source.make(&table)?;
    source.database.root(&sql)?;
    let end = source.position()?;
    let mut streamed = source.pull(Some(&before)).await?;
    streamed.reach(&end).await?;
    ensure!(streamed.conflicts.is_empty(), "{:?}", streamed.conflicts);
    let mut copied = source.pull(None).await?;
    while !copied.copied_all {
        copied.next().await?;
    }
    let (streamed, copied) = (streamed.rows(), copied.rows());
    let found = differences(&streamed, &copied);
    ensure!(found.is_empty(), "stream and copy: {}", found.join("\n"));
    let shown: Vec<String> = (0..)
        .zip(&types)
        .map(|(number, of)| of.show.replace("{}", &format!("c{number}")))
        .collect();
    let printed = source.database.root(&format!(
        "SET time_zone = '+00:00'; SELECT id, {} FROM orders.drawn ORDER BY id",
        shown.join(", ")
    ))?;
    ensure!(printed.len() == streamed.len() && printed.len() as u64 > rows / 2);
    for (schema, row) in streamed.values() {
        let id = rendered(&row[0], 0);
        let line = printed
            .iter()
            .find(|line| line[0] == id)
            .with_context(|| format!("no row {id}"))?;
        for (place, (value, text)) in row.iter().zip(line).enumerate().skip(1) {
            let column = &schema.columns[place];
            let ours = rendered(value, column.decimals.into());
            let real = matches!(value, Value::Float(_) | Value::Double(_));
            let theirs = if real {
                text.parse::<f64>()?.to_bits().to_string()
            } else {
                text.clone()
            };
            ensure!(
                ours == theirs,
                "row {id}, {}: {value:?} is {ours} here and {theirs} ({text}) there",
                types[place - 1].declared
            );
        }
    }
    Ok(())
}

#[test]
fn generated_values_are_the_same_in_stream_copy_and_client() -> Result<()> {
    let seed = variable("MULTIACTIVE_SEED", 1)?;
    let rows = variable("MULTIACTIVE_VALUES", 1_000)?;
    on_each_chunked(256 << 10, async |source| {
        compare(source, seed, rows)
            .await
            .with_context(|| format!("replay with MULTIACTIVE_SEED={seed}"))
    })
}
