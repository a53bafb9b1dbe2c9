//! Values arrive exactly.

use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use change::{Column, ColumnKind, Date, DateTime, RowChange, TableSchema, Value};

use super::rig::{Rig, on_each};
use super::script::{changes, column};

/// A column, its type at the target, values, and what `SHOW` tells of each.
struct Case {
    column: Column,
    declared: &'static str,
    /// An expression over `c` that shows the value exactly.
    show: &'static str,
    values: Vec<(Value, &'static str)>,
}

fn case(
    kind: ColumnKind,
    declared: &'static str,
    show: &'static str,
    values: Vec<(Value, &'static str)>,
) -> Case {
    Case {
        column: column("c", kind),
        declared,
        show,
        values,
    }
}

fn text(bytes: &'static [u8]) -> Value {
    Value::Text(Bytes::from_static(bytes))
}

fn binary(bytes: &'static [u8]) -> Value {
    Value::Bytes(Bytes::from_static(bytes))
}

fn of_charset(collation: u16, mut case: Case) -> Case {
    case.column.collation = collation;
    case
}

fn of_decimals(decimals: u8, mut case: Case) -> Case {
    case.column.decimals = decimals;
    case
}

fn numbers() -> Vec<Case> {
    use ColumnKind as K;
    vec![
        case(
            K::BigInt,
            "BIGINT",
            "c",
            vec![
                (Value::Int(i64::MIN), "-9223372036854775808"),
                (Value::Int(i64::MAX), "9223372036854775807"),
            ],
        ),
        case(
            K::BigInt,
            "BIGINT UNSIGNED",
            "c",
            vec![(Value::UInt(u64::MAX), "18446744073709551615")],
        ),
        case(K::TinyInt, "TINYINT", "c", vec![(Value::Int(-128), "-128")]),
        case(
            K::Decimal,
            "DECIMAL(65,30)",
            "c",
            vec![
                (
                    Value::Decimal(
                        "-99999999999999999999999999999999999.999999999999999999999999999999"
                            .into(),
                    ),
                    "-99999999999999999999999999999999999.999999999999999999999999999999",
                ),
                (
                    Value::Decimal("0.000000000000000000000000000001".into()),
                    "0.000000000000000000000000000001",
                ),
            ],
        ),
    ]
}

fn fractions_and_members() -> Vec<Case> {
    use ColumnKind as K;
    vec![
        // A comparison with the same DOUBLE shows equality to the last bit.
        case(
            K::Float,
            "FLOAT",
            "c = 1.0000000149011612e-1 OR c = 1.401298464324817e-45",
            vec![
                (Value::Float(0.1f32.into()), "1"),
                (Value::Float(f32::from_bits(1).into()), "1"),
            ],
        ),
        case(
            K::Double,
            "DOUBLE",
            "c = 5e-324 OR c = 1.7976931348623157e308 OR c = 0.1e0",
            vec![
                (Value::Double(5e-324.into()), "1"),
                (Value::Double(f64::MAX.into()), "1"),
                (Value::Double(0.1.into()), "1"),
            ],
        ),
        case(
            K::Bit,
            "BIT(64)",
            "HEX(c)",
            vec![
                (Value::Bit(u64::MAX), "FFFFFFFFFFFFFFFF"),
                (Value::Bit(1), "1"),
            ],
        ),
        case(
            K::Year,
            "YEAR",
            "c",
            vec![(Value::Year(0), "0000"), (Value::Year(2155), "2155")],
        ),
        Case {
            column: Column {
                members: vec!["a".into(), "it's".into()],
                ..column("c", K::Enum)
            },
            declared: "ENUM('a','it''s')",
            show: "c + 0",
            // The empty error value too.
            values: vec![
                (Value::Enum(2), "2"),
                (Value::Enum(0), "0"),
                (Value::Null, "NULL"),
            ],
        },
        Case {
            column: Column {
                members: vec!["a".into(), "b".into()],
                ..column("c", K::Set)
            },
            declared: "SET('a','b')",
            show: "c + 0",
            values: vec![(Value::Set(3), "3"), (Value::Set(0), "0")],
        },
    ]
}

fn date(year: u16, month: u8, day: u8) -> Date {
    Date { year, month, day }
}

fn moments() -> Vec<Case> {
    use ColumnKind as K;
    vec![
        case(
            K::Date,
            "DATE",
            "c",
            vec![
                (Value::Date(date(0, 0, 0)), "0000-00-00"),
                (Value::Date(date(2023, 2, 31)), "2023-02-31"),
                (Value::Date(date(2023, 0, 0)), "2023-00-00"),
                (Value::Date(date(9999, 12, 31)), "9999-12-31"),
            ],
        ),
        of_decimals(
            6,
            case(
                K::Time,
                "TIME(6)",
                "c",
                vec![
                    (Value::Time(-3_020_398_999_999), "-838:59:58.999999"),
                    (Value::Time(-1), "-00:00:00.000001"),
                    (Value::Time(90_000_000_000), "25:00:00.000000"),
                ],
            ),
        ),
        case(
            K::Time,
            "TIME",
            "c",
            vec![(Value::Time(-1_000_000), "-00:00:01")],
        ),
    ]
}

fn moments_of_days() -> Vec<Case> {
    use ColumnKind as K;
    vec![
        of_decimals(
            3,
            case(
                K::DateTime,
                "DATETIME(3)",
                "c",
                vec![
                    (
                        Value::DateTime(DateTime {
                            date: date(2024, 2, 29),
                            hour: 23,
                            minute: 59,
                            second: 59,
                            micros: 999_000,
                        }),
                        "2024-02-29 23:59:59.999",
                    ),
                    (
                        Value::DateTime(DateTime::default()),
                        "0000-00-00 00:00:00.000",
                    ),
                ],
            ),
        ),
        of_decimals(
            6,
            case(
                K::Timestamp,
                "TIMESTAMP(6) NULL ON UPDATE CURRENT_TIMESTAMP(6)",
                "IF(c = 0, 'zero', UNIX_TIMESTAMP(c))",
                vec![
                    (Value::Timestamp(1_000_001), "1.000001"),
                    (Value::Timestamp(2_147_483_647_999_999), "2147483647.999999"),
                    (Value::Timestamp(0), "zero"),
                    (Value::Null, "NULL"),
                ],
            ),
        ),
    ]
}

fn strings() -> Vec<Case> {
    use ColumnKind as K;
    vec![
        case(
            K::VarChar,
            "VARCHAR(50) CHARACTER SET utf8mb4",
            "HEX(c)",
            vec![(
                text("it's \\ \"😀\" \0 \u{1a}\n ".as_bytes()),
                "69742773205C2022F09F9880222000201A0A20",
            )],
        ),
        of_charset(
            8,
            case(
                K::VarChar,
                "VARCHAR(50) CHARACTER SET latin1",
                "HEX(c)",
                vec![(text(b"\xe9\xff' \\"), "E9FF27205C")],
            ),
        ),
        of_charset(
            28,
            case(
                K::VarChar,
                "VARCHAR(50) CHARACTER SET gbk",
                "HEX(c)",
                vec![(text(b"\xe5\x5c\x81\x5c'"), "E55C815C27")],
            ),
        ),
        of_charset(
            33,
            case(
                K::Text,
                "TEXT CHARACTER SET utf8mb3",
                "HEX(c)",
                vec![(text("中".as_bytes()), "E4B8AD")],
            ),
        ),
        case(
            K::VarBinary,
            "VARBINARY(50)",
            "HEX(c)",
            vec![
                (binary(b"\0'\\\xff\xfe \0"), "00275CFFFE2000"),
                (binary(b""), ""),
            ],
        ),
        Case {
            column: Column {
                length: 4,
                ..column("c", K::Binary)
            },
            declared: "BINARY(4)",
            show: "HEX(c)",
            values: vec![(binary(b"\0a\0\0"), "00610000")],
        },
        case(
            K::Blob,
            "LONGBLOB",
            "HEX(c)",
            vec![(
                binary(b"';DROP TABLE orders.t;--"),
                "273B44524F50205441424C45206F72646572732E743B2D2D",
            )],
        ),
    ]
}

fn cases() -> Vec<Case> {
    let mut cases = numbers();
    cases.extend(fractions_and_members());
    cases.extend(moments());
    cases.extend(moments_of_days());
    cases.extend(strings());
    cases
}

#[test]
fn every_value_is_stored_and_found_again_exactly() -> Result<()> {
    let cases = cases();
    on_each(async |rig: &Rig<'_>| {
        for (number, case) in cases.iter().enumerate() {
            try_case(rig, number, case, false).await?;
        }
        Ok(())
    })
}

#[test]
fn every_value_can_be_a_key() -> Result<()> {
    let mut cases = cases();
    cases.retain(|case| !case.declared.contains("TEXT") && !case.declared.contains("BLOB"));
    for case in &mut cases {
        case.values.retain(|(value, _)| !value.is_null());
    }
    on_each(async |rig: &Rig<'_>| {
        for (number, case) in cases.iter().enumerate() {
            try_case(rig, number, case, true).await?;
        }
        Ok(())
    })
}

/// Inserts the values, changes every row, looks, removes every row.
async fn try_case(rig: &Rig<'_>, number: usize, case: &Case, as_key: bool) -> Result<()> {
    let name = format!("{}_{number}", if as_key { "k" } else { "v" });
    let declared = if as_key {
        case.declared.replace(" NULL", " NOT NULL")
    } else {
        case.declared.to_owned()
    };
    let key = if as_key { "c" } else { "id" };
    rig.target.root(&format!(
        "SET sql_mode = ''; CREATE TABLE orders.{name} (id INT NOT NULL, n INT, c {declared}, PRIMARY KEY ({key}))"
    ))?;
    let schema = Arc::new(TableSchema {
        database: "orders".into(),
        table: name.clone(),
        columns: vec![
            column("id", ColumnKind::Int),
            column("n", ColumnKind::Int),
            case.column.clone(),
        ],
        primary_key: vec![if as_key { 2 } else { 0 }],
    });
    let row = |id: usize, n: i64| {
        vec![
            Value::Int(i64::try_from(id).unwrap_or(0)),
            Value::Int(n),
            case.values[id].0.clone(),
        ]
    };
    let each = |make: &dyn Fn(usize) -> RowChange| {
        changes(&schema, (0..case.values.len()).map(make).collect())
    };
    rig.source
        .commit(vec![each(&|id| RowChange::Insert { after: row(id, 0) })]);
    rig.source.commit(vec![each(&|id| RowChange::Update {
        before: row(id, 0),
        after: row(id, 1),
    })]);
    let writer = rig.start()?;
    rig.wait_through(&writer).await?;
    let expected: Vec<Vec<String>> = case
        .values
        .iter()
        .map(|(_, shown)| vec!["1".to_owned(), (*shown).to_owned()])
        .collect();
    let found = rig.target.root(&format!(
        "SET time_zone = '+00:00'; SELECT n, {} FROM orders.{name} ORDER BY id",
        case.show
    ))?;
    ensure!(
        found == expected,
        "{} ({name}): {found:?} in place of {expected:?}",
        case.declared
    );
    rig.source
        .commit(vec![each(&|id| RowChange::Delete { before: row(id, 1) })]);
    rig.wait_through(&writer).await?;
    let left = rig
        .target
        .root(&format!("SELECT COUNT(*) FROM orders.{name}"))?;
    ensure!(
        left == [["0"]],
        "{} ({name}): {left:?} rows are left",
        case.declared
    );
    writer.terminate()
}

#[test]
fn a_value_that_the_target_would_change_is_refused() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        // Too long but for spaces: the server cuts those with a mere note.
        rig.target
            .root("CREATE TABLE orders.narrow (id INT PRIMARY KEY, c VARCHAR(3))")?;
        let schema = Arc::new(TableSchema {
            database: "orders".into(),
            table: "narrow".into(),
            columns: vec![
                column("id", ColumnKind::Int),
                column("c", ColumnKind::VarChar),
            ],
            primary_key: vec![0],
        });
        let after = vec![Value::Int(1), text(b"abc  ")];
        rig.source
            .commit(vec![changes(&schema, vec![RowChange::Insert { after }])]);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(
            error.contains("value_refused") && error.contains("id=1"),
            "{error}"
        );
        let left = rig.target.root("SELECT COUNT(*) FROM orders.narrow")?;
        ensure!(left == [["0"]]);
        Ok(())
    })
}
