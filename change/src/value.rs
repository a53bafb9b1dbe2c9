//! The value of one column in one row, exactly as the server holds it.

use bytes::Bytes;

/// A value, one variant a way of storing; what it means is in its [`crate::Column`].
///
/// Two values are equal if and only if the server stores the same: `-0.0` and `0.0` differ, as do
/// `a` and `A` under any collation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// Signed integers of all widths.
    Int(i64),
    /// Unsigned integers of all widths.
    UInt(u64),
    /// FLOAT.
    Float(Real32),
    /// DOUBLE.
    Double(Real64),
    /// DECIMAL as text: `-` if below zero, digits without leading zeros (`0` stays), and, if the
    /// column has a scale, a point and exactly so many digits.
    Decimal(String),
    /// CHAR, VARCHAR, TEXT: bytes in the column's character set. CHAR without its padding.
    Text(Bytes),
    /// BINARY, VARBINARY, BLOB, VECTOR. BINARY padded to its length with zeros.
    Bytes(Bytes),
    /// BIT(n): the bits as a number.
    Bit(u64),
    /// ENUM: the member's number from 1; 0 is the empty error value.
    Enum(u16),
    /// SET: bit 0 is the first member.
    Set(u64),
    /// YEAR: 0, or 1901 to 2155.
    Year(u16),
    /// DATE, zero dates included.
    Date(Date),
    /// TIME in microseconds, negative ones included.
    Time(i64),
    /// DATETIME, zero dates included.
    DateTime(DateTime),
    /// TIMESTAMP: microseconds since 1970 (UTC). 0 is the zero timestamp, which prints as
    /// `0000-00-00 00:00:00`; the servers cannot store the instant 0 itself.
    Timestamp(i64),
    /// JSON of MySQL, as text in utf8mb4 the way the server prints it.
    Json(Bytes),
    /// GEOMETRY and its kin: the SRID in four bytes (little endian), then WKB.
    Geometry(Bytes),
}

impl Value {
    /// Whether it is SQL NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// About how many bytes of memory it takes, for bounding buffers.
    pub fn weight(&self) -> usize {
        let heap = match self {
            Self::Decimal(text) => text.len(),
            Self::Text(bytes) | Self::Bytes(bytes) | Self::Json(bytes) | Self::Geometry(bytes) => {
                bytes.len()
            }
            _ => 0,
        };
        size_of::<Self>() + heap
    }
}

/// A FLOAT, compared by its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Real32(u32);

impl Real32 {
    /// The number.
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }

    /// The number's bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl From<f32> for Real32 {
    fn from(number: f32) -> Self {
        Self(number.to_bits())
    }
}

/// A DOUBLE, compared by its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Real64(u64);

impl Real64 {
    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }

    /// The number's bits.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl From<f64> for Real64 {
    fn from(number: f64) -> Self {
        Self(number.to_bits())
    }
}

/// A calendar day; month and day may be zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// 0 to 9999.
    pub year: u16,
    /// 0 to 12.
    pub month: u8,
    /// 0 to 31.
    pub day: u8,
}

/// A calendar day and a time of day, without a time zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime {
    /// The day.
    pub date: Date,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999,999.
    pub micros: u32,
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl std::fmt::Display for DateTime {
    /// With six fractional digits, as an SQL literal without quotes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            date,
            hour,
            minute,
            second,
            micros,
        } = self;
        write!(f, "{date} {hour:02}:{minute:02}:{second:02}.{micros:06}")
    }
}
