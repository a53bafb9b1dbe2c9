//! Table map events: which columns the row images that follow have.
//!
//! Format: `Table_map_event` in `libs/mysql/binlog/event/rows_event.h` of MySQL; MariaDB's is the
//! same, without column visibility.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use change::{BINARY_COLLATION, Column, ColumnKind, Flavor, TableSchema};

use crate::input::{Defect, Input, text};
use crate::value::{Layout, decimal_bytes, fraction_bytes};

/// Column types on the wire.
mod wire {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const OLD_TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const OLD_TIME: u8 = 11;
    pub const OLD_DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const TYPED_ARRAY: u8 = 20;
    pub const BLOB_COMPRESSED: u8 = 140;
    pub const VARCHAR_COMPRESSED: u8 = 141;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const BLOB: u8 = 252;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// Fields of the optional metadata.
mod field {
    pub const SIGNEDNESS: u8 = 1;
    pub const DEFAULT_CHARSET: u8 = 2;
    pub const COLUMN_CHARSET: u8 = 3;
    pub const COLUMN_NAME: u8 = 4;
    pub const SET_VALUES: u8 = 5;
    pub const ENUM_VALUES: u8 = 6;
    pub const PRIMARY_KEY: u8 = 8;
    pub const PRIMARY_KEY_WITH_PREFIX: u8 = 9;
    pub const ENUM_AND_SET_DEFAULT_CHARSET: u8 = 10;
    pub const ENUM_AND_SET_COLUMN_CHARSET: u8 = 11;
}

/// What the rows of a table look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMap {
    /// One for each column.
    pub layouts: Vec<Layout>,
    /// Names and types; only read if the rows are wanted.
    pub schema: Option<Arc<TableSchema>>,
}

/// Why a table map gives no [`TableMap`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableMapError {
    /// Bytes that are no table map.
    #[error(transparent)]
    Defect(#[from] Defect),
    /// The server does not log names and types.
    #[error("the changes of {0} are logged without the names of their columns")]
    NoNames(String),
    /// A type that is not supported.
    #[error("column {column} of {table} has the type {what}, which links do not carry")]
    Unsupported {
        /// `database.table`.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        what: &'static str,
    },
}

/// Database and table of a table map, from behind its table id and flags.
pub fn names(input: &mut Input) -> Result<(String, String), Defect> {
    Ok((input.name()?, input.name()?))
}

/// One column so far as types and metadata tell.
struct Raw {
    /// The type, or the name of one that is not supported.
    kind: Result<ColumnKind, &'static str>,
    layout: Layout,
    length: u32,
    decimals: u8,
    nullable: bool,
}

/// The rest of a table map, from behind the names. The rows of a table that is not `wanted` are
/// only counted, so it may have columns of any kind.
pub fn columns(
    flavor: Flavor,
    database: &str,
    table: &str,
    mut input: Input,
    wanted: bool,
) -> Result<TableMap, TableMapError> {
    let count = input.count()?;
    let types = input.take(count)?;
    let mut metadata = Input(input.counted()?);
    let nulls = input.take(count.div_ceil(8))?;
    let mut columns = Vec::with_capacity(count);
    for (index, &number) in types.iter().enumerate() {
        let mut column = raw_column(number, &mut metadata)?;
        column.nullable = nulls[index / 8] & (1 << (index % 8)) != 0;
        columns.push(column);
    }
    let layouts = columns.iter().map(|column| column.layout).collect();
    let schema = if wanted {
        Some(Arc::new(schema(
            flavor,
            database,
            table,
            &columns,
            Optional::read(input)?,
        )?))
    } else {
        None
    };
    Ok(TableMap { layouts, schema })
}

fn fixed(kind: ColumnKind, bytes: usize) -> Raw {
    let layout = Layout::Fixed(u8::try_from(bytes).unwrap_or(u8::MAX));
    Raw {
        kind: Ok(kind),
        layout,
        length: 0,
        decimals: 0,
        nullable: true,
    }
}

fn counted(kind: ColumnKind, bytes: u8) -> Raw {
    Raw {
        layout: Layout::Counted(bytes),
        ..fixed(kind, 0)
    }
}

/// A clock of so many bytes and its fraction.
fn clock(kind: ColumnKind, bytes: usize, decimals: u8) -> Raw {
    Raw {
        decimals,
        ..fixed(kind, bytes + fraction_bytes(decimals))
    }
}

/// The length of a string's length.
fn prefix(length: u32) -> u8 {
    if length < 256 { 1 } else { 2 }
}

fn raw_column(number: u8, metadata: &mut Input) -> Result<Raw, Defect> {
    use ColumnKind as Kind;
    const OLD: &str = "TIME, DATETIME or TIMESTAMP in the format of before MySQL 5.6";
    let refused = |what, raw: Raw| Raw {
        kind: Err(what),
        ..raw
    };
    Ok(match number {
        wire::TINY => fixed(Kind::TinyInt, 1),
        wire::SHORT => fixed(Kind::SmallInt, 2),
        wire::INT24 => fixed(Kind::MediumInt, 3),
        wire::LONG => fixed(Kind::Int, 4),
        wire::LONGLONG => fixed(Kind::BigInt, 8),
        wire::YEAR => fixed(Kind::Year, 1),
        wire::DATE | wire::NEWDATE => fixed(Kind::Date, 3),
        wire::FLOAT => fixed(Kind::Float, metadata.u8()?.into()),
        wire::DOUBLE => fixed(Kind::Double, metadata.u8()?.into()),
        wire::NEWDECIMAL => {
            let (precision, scale) = (metadata.u8()?, metadata.u8()?);
            let bytes = decimal_bytes(precision.into(), scale.into());
            Raw {
                length: precision.into(),
                decimals: scale,
                ..fixed(Kind::Decimal, bytes)
            }
        }
        wire::TIME2 => clock(Kind::Time, 3, metadata.u8()?),
        wire::DATETIME2 => clock(Kind::DateTime, 5, metadata.u8()?),
        wire::TIMESTAMP2 => clock(Kind::Timestamp, 4, metadata.u8()?),
        wire::BIT => {
            let (bits, bytes) = (metadata.u8()?, metadata.u8()?);
            let length = u32::from(bytes) * 8 + u32::from(bits);
            Raw {
                length,
                ..fixed(Kind::Bit, length.div_ceil(8) as usize)
            }
        }
        wire::VARCHAR => {
            let length = u32::from(metadata.u16()?);
            Raw {
                length,
                ..counted(Kind::VarChar, prefix(length))
            }
        }
        wire::BLOB => counted(Kind::Blob, metadata.u8()?),
        wire::GEOMETRY => counted(Kind::Geometry, metadata.u8()?),
        wire::JSON => counted(Kind::Json, metadata.u8()?),
        wire::VECTOR => counted(Kind::Vector, metadata.u8()?),
        wire::STRING => string_column(metadata.u8()?, metadata.u8()?)?,
        wire::OLD_TIMESTAMP => refused(OLD, fixed(Kind::Timestamp, 4)),
        wire::OLD_TIME => refused(OLD, fixed(Kind::Time, 3)),
        wire::OLD_DATETIME => refused(OLD, fixed(Kind::DateTime, 8)),
        wire::BLOB_COMPRESSED => refused(
            "COMPRESSED TEXT or BLOB",
            counted(Kind::Blob, metadata.u8()?),
        ),
        wire::VARCHAR_COMPRESSED => {
            let bytes = prefix(metadata.u16()?.into());
            refused(
                "COMPRESSED VARCHAR or VARBINARY",
                counted(Kind::VarChar, bytes),
            )
        }
        wire::TYPED_ARRAY => return Err(Defect::from("a stored column holds a typed array")),
        other => {
            return Err(Defect(format!(
                "a column has the unknown type number {other}"
            )));
        }
    })
}

/// CHAR, BINARY, ENUM and SET share a number; the metadata holds the real one. Two bits of the
/// length of a long CHAR are kept, inverted, in the type's byte.
fn string_column(first: u8, second: u8) -> Result<Raw, Defect> {
    let (real, length) = if first & 0x30 == 0x30 {
        (first, u32::from(second))
    } else {
        (
            first | 0x30,
            u32::from(second) | (u32::from(first & 0x30 ^ 0x30) << 4),
        )
    };
    Ok(match real {
        wire::ENUM => fixed(ColumnKind::Enum, second.into()),
        wire::SET => fixed(ColumnKind::Set, second.into()),
        wire::STRING => Raw {
            length,
            ..counted(ColumnKind::Char, prefix(length))
        },
        other => {
            return Err(Defect(format!(
                "a string column has the unknown type number {other}"
            )));
        }
    })
}

/// The optional metadata, each field as its columns' group counts.
#[derive(Default)]
struct Optional {
    signedness: Bytes,
    strings: Charsets,
    members: Charsets,
    names: Vec<String>,
    set_values: Vec<Vec<Bytes>>,
    enum_values: Vec<Vec<Bytes>>,
    primary_key: Vec<usize>,
}

/// Collations of a group of columns, by their place in the group.
#[derive(Default)]
struct Charsets {
    default: Option<u16>,
    exceptions: BTreeMap<usize, u16>,
}

impl Charsets {
    fn of(&self, place: usize) -> Option<u16> {
        self.exceptions.get(&place).copied().or(self.default)
    }

    fn read_default(mut input: Input) -> Result<Self, Defect> {
        let default = Some(collation(&mut input)?);
        let mut exceptions = BTreeMap::new();
        while !input.is_empty() {
            let place = input.count()?;
            exceptions.insert(place, collation(&mut input)?);
        }
        Ok(Self {
            default,
            exceptions,
        })
    }

    fn read_each(mut input: Input) -> Result<Self, Defect> {
        let mut exceptions = BTreeMap::new();
        while !input.is_empty() {
            let place = exceptions.len();
            exceptions.insert(place, collation(&mut input)?);
        }
        Ok(Self {
            default: None,
            exceptions,
        })
    }
}

fn collation(input: &mut Input) -> Result<u16, Defect> {
    u16::try_from(input.length_encoded()?).map_err(|_| Defect::from("a collation above 65535"))
}

impl Optional {
    fn read(mut input: Input) -> Result<Self, Defect> {
        let mut optional = Self::default();
        while !input.is_empty() {
            let kind = input.u8()?;
            let mut value = Input(input.counted()?);
            match kind {
                field::SIGNEDNESS => optional.signedness = value.0,
                field::DEFAULT_CHARSET => optional.strings = Charsets::read_default(value)?,
                field::COLUMN_CHARSET => optional.strings = Charsets::read_each(value)?,
                field::ENUM_AND_SET_DEFAULT_CHARSET => {
                    optional.members = Charsets::read_default(value)?;
                }
                field::ENUM_AND_SET_COLUMN_CHARSET => {
                    optional.members = Charsets::read_each(value)?;
                }
                field::COLUMN_NAME => {
                    while !value.is_empty() {
                        optional.names.push(text(&value.counted()?)?);
                    }
                }
                field::SET_VALUES => optional.set_values = members(value)?,
                field::ENUM_VALUES => optional.enum_values = members(value)?,
                field::PRIMARY_KEY => {
                    while !value.is_empty() {
                        optional.primary_key.push(value.count()?);
                    }
                }
                field::PRIMARY_KEY_WITH_PREFIX => {
                    while !value.is_empty() {
                        optional.primary_key.push(value.count()?);
                        let _prefix = value.length_encoded()?;
                    }
                }
                // Geometry types, visibility and vector dimensions do not change what values are.
                _ => {}
            }
        }
        Ok(optional)
    }
}

fn members(mut input: Input) -> Result<Vec<Vec<Bytes>>, Defect> {
    let mut columns = Vec::new();
    while !input.is_empty() {
        let count = input.count()?;
        columns.push(
            (0..count)
                .map(|_| input.counted())
                .collect::<Result<_, _>>()?,
        );
    }
    Ok(columns)
}

/// Whether the signedness bits have one for the column.
fn is_numeric(kind: ColumnKind) -> bool {
    use ColumnKind as Kind;
    matches!(
        kind,
        Kind::TinyInt
            | Kind::SmallInt
            | Kind::MediumInt
            | Kind::Int
            | Kind::BigInt
            | Kind::Decimal
            | Kind::Float
            | Kind::Double
            | Kind::Year
    )
}

/// Places of the columns seen so far in each group that the metadata counts separately.
#[derive(Default)]
struct Places {
    numbers: usize,
    strings: usize,
    members: usize,
    enums: usize,
    sets: usize,
}

fn next(place: &mut usize) -> usize {
    *place += 1;
    *place - 1
}

fn schema(
    flavor: Flavor,
    database: &str,
    table: &str,
    raw: &[Raw],
    mut optional: Optional,
) -> Result<TableSchema, TableMapError> {
    let full_name = || format!("{database}.{table}");
    if optional.names.len() != raw.len() {
        return Err(TableMapError::NoNames(full_name()));
    }
    if optional.primary_key.iter().any(|&index| index >= raw.len()) {
        return Err(Defect::from("the primary key has a column that the table has not").into());
    }
    let mut places = Places::default();
    let names = std::mem::take(&mut optional.names);
    let mut columns = Vec::with_capacity(raw.len());
    for (column, name) in raw.iter().zip(names) {
        let kind = match column.kind {
            Ok(kind) => kind,
            Err(what) => {
                let table = full_name();
                return Err(TableMapError::Unsupported {
                    table,
                    column: name,
                    what,
                });
            }
        };
        columns.push(column_of(column, kind, name, &mut optional, &mut places)?);
        // The lists of collations have an entry for each of these too (`is_character_type` in the
        // servers' `log_event.cc`), which says that they are binary.
        let is_counted = match flavor {
            Flavor::MySql => kind == ColumnKind::Vector,
            Flavor::MariaDb => kind == ColumnKind::Geometry,
        };
        places.strings += usize::from(is_counted);
    }
    Ok(TableSchema {
        database: database.to_owned(),
        table: table.to_owned(),
        columns,
        primary_key: optional.primary_key,
    })
}

fn column_of(
    raw: &Raw,
    kind: ColumnKind,
    name: String,
    optional: &mut Optional,
    places: &mut Places,
) -> Result<Column, Defect> {
    let mut column = Column {
        name,
        kind,
        unsigned: false,
        nullable: raw.nullable,
        collation: 0,
        length: raw.length,
        decimals: raw.decimals,
        members: Vec::new(),
    };
    let unknown = || Defect(format!("column {} has no character set", column.name));
    match kind {
        _ if is_numeric(kind) => {
            let place = next(&mut places.numbers);
            let byte = optional.signedness.get(place / 8).copied();
            let byte =
                byte.ok_or_else(|| Defect::from("a number is neither signed nor unsigned"))?;
            // YEAR takes part in the bits, and has no sign to tell.
            column.unsigned = byte & (0x80 >> (place % 8)) != 0 && kind != ColumnKind::Year;
        }
        ColumnKind::Char | ColumnKind::VarChar | ColumnKind::Blob => {
            let place = next(&mut places.strings);
            column.collation = optional.strings.of(place).ok_or_else(unknown)?;
            column.kind = string_kind(kind, column.collation);
            if let (ColumnKind::Blob, Layout::Counted(bytes)) = (kind, raw.layout) {
                column.length = u32::MAX >> (32 - 8 * u32::from(bytes.clamp(1, 4)));
            }
        }
        ColumnKind::Enum | ColumnKind::Set => {
            let place = next(&mut places.members);
            column.collation = optional.members.of(place).ok_or_else(unknown)?;
            let (values, place) = if kind == ColumnKind::Enum {
                (&mut optional.enum_values, next(&mut places.enums))
            } else {
                (&mut optional.set_values, next(&mut places.sets))
            };
            let values = values.get_mut(place).map(std::mem::take);
            column.members = values.ok_or_else(|| Defect::from("an ENUM or SET has no members"))?;
        }
        _ => {}
    }
    Ok(column)
}

fn string_kind(kind: ColumnKind, collation: u16) -> ColumnKind {
    match (kind, collation == BINARY_COLLATION) {
        (ColumnKind::Char, true) => ColumnKind::Binary,
        (ColumnKind::VarChar, true) => ColumnKind::VarBinary,
        (ColumnKind::Blob, false) => ColumnKind::Text,
        (kind, _) => kind,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A table (id INT UNSIGNED, y YEAR, b VARCHAR(5) latin1) with the key id, as the servers log
    /// it with `binlog_row_metadata = FULL`; `drop` leaves out optional fields of this type.
    fn logged(drop: Option<u8>) -> Input {
        let mut bytes = vec![3, wire::LONG, wire::YEAR, wire::VARCHAR, 2, 5, 0, 0b100];
        let fields: [(u8, &[u8]); 4] = [
            (field::SIGNEDNESS, &[0b1100_0000]),
            (field::DEFAULT_CHARSET, &[8]),
            (field::COLUMN_NAME, b"\x02id\x01y\x01b"),
            (field::PRIMARY_KEY, &[0]),
        ];
        for (kind, value) in fields {
            if Some(kind) != drop {
                bytes.extend([kind, u8::try_from(value.len()).unwrap()]);
                bytes.extend(value);
            }
        }
        Input(bytes.into())
    }

    #[test]
    fn the_metadata_makes_a_schema() {
        let map = columns(Flavor::MySql, "d", "t", logged(None), true).unwrap();
        let schema = map.schema.unwrap();
        let seen: Vec<_> = schema
            .columns
            .iter()
            .map(|column| {
                (
                    column.name.as_str(),
                    column.kind,
                    column.unsigned,
                    column.nullable,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("id", ColumnKind::Int, true, false),
                ("y", ColumnKind::Year, false, false),
                ("b", ColumnKind::VarChar, false, true),
            ]
        );
        assert_eq!(schema.columns[2].collation, 8);
        assert_eq!(schema.primary_key, [0]);
        assert_eq!(
            map.layouts,
            [Layout::Fixed(4), Layout::Fixed(1), Layout::Counted(1)]
        );
    }

    #[test]
    fn what_is_missing_is_refused_where_it_is_needed() {
        for missing in [
            field::SIGNEDNESS,
            field::DEFAULT_CHARSET,
            field::COLUMN_NAME,
        ] {
            assert!(
                columns(Flavor::MySql, "d", "t", logged(Some(missing)), true).is_err(),
                "{missing}"
            );
            assert!(
                columns(Flavor::MySql, "d", "t", logged(Some(missing)), false).is_ok(),
                "{missing}"
            );
        }
    }

    proptest! {
        #[test]
        fn rubbish_is_an_error_and_nothing_worse(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = columns(Flavor::MySql, "d", "t", Input(bytes.into()), true);
        }
    }
}
