//! What a table looked like when its rows were read.

use bytes::Bytes;

/// The id of the collation `binary`.
pub const BINARY_COLLATION: u16 = 63;

/// A table and its columns, in the table's order, at one moment of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableSchema {
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
    /// Columns, generated and invisible ones included, as row images hold them.
    pub columns: Vec<Column>,
    /// Indexes into `columns` of the primary key's columns, in key order. Empty: no primary key.
    pub primary_key: Vec<usize>,
}

impl std::fmt::Display for TableSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type.
    pub kind: ColumnKind,
    /// UNSIGNED.
    pub unsigned: bool,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Collation id, as both engines number them; 0 for columns without characters.
    pub collation: u16,
    /// Length in bytes (strings), bits (BIT) or digits (DECIMAL); 0 where the type says it all.
    pub length: u32,
    /// Digits after the point: DECIMAL's scale, or fractional seconds.
    pub decimals: u8,
    /// Members of an ENUM or SET, in the column's character set.
    pub members: Vec<Bytes>,
}

macro_rules! column_kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal),+ $(,)?) => {
        /// The type of a column, so far as its values depend on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ColumnKind {
            $($(#[$doc])* $name),+
        }

        impl ColumnKind {
            /// The kind's number on the wire.
            pub(crate) fn number(self) -> u32 {
                match self {
                    $(Self::$name => $number),+
                }
            }

            /// The kind with a number, if there is one.
            pub(crate) fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

column_kinds! {
    /// TINYINT.
    TinyInt = 1,
    /// SMALLINT.
    SmallInt = 2,
    /// MEDIUMINT.
    MediumInt = 3,
    /// INT.
    Int = 4,
    /// BIGINT.
    BigInt = 5,
    /// FLOAT.
    Float = 6,
    /// DOUBLE.
    Double = 7,
    /// DECIMAL(length, decimals).
    Decimal = 8,
    /// BIT(length).
    Bit = 9,
    /// YEAR.
    Year = 10,
    /// DATE.
    Date = 11,
    /// TIME(decimals).
    Time = 12,
    /// DATETIME(decimals).
    DateTime = 13,
    /// TIMESTAMP(decimals).
    Timestamp = 14,
    /// CHAR.
    Char = 15,
    /// VARCHAR.
    VarChar = 16,
    /// TINYTEXT to LONGTEXT. MariaDB's JSON is one of them.
    Text = 17,
    /// BINARY(length).
    Binary = 18,
    /// VARBINARY.
    VarBinary = 19,
    /// TINYBLOB to LONGBLOB.
    Blob = 20,
    /// ENUM.
    Enum = 21,
    /// SET.
    Set = 22,
    /// JSON of MySQL.
    Json = 23,
    /// GEOMETRY, POINT and the rest.
    Geometry = 24,
    /// VECTOR of MySQL.
    Vector = 25,
}
