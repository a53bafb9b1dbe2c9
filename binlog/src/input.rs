//! Reading the numbers and strings that events are made of.

use bytes::{Buf, Bytes};

/// What is wrong with the bytes of an event; the reader adds which event it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Defect(pub String);

impl From<&str> for Defect {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

/// The rest of an event's bytes. Slices taken from it share its memory.
#[derive(Debug, Clone)]
pub struct Input(pub Bytes);

macro_rules! little_endian {
    ($($(#[$doc:meta])* $name:ident -> $type:ty, $get:ident;)+) => {
        $($(#[$doc])*
        pub fn $name(&mut self) -> Result<$type, Defect> {
            self.need(size_of::<$type>())?;
            Ok(self.0.$get())
        })+
    };
}

impl Input {
    /// Reads from the start of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn need(&self, count: usize) -> Result<(), Defect> {
        if self.0.len() < count {
            Err(Defect(format!(
                "{count} bytes are expected and {} are left",
                self.0.len()
            )))
        } else {
            Ok(())
        }
    }

    little_endian! {
        /// One byte.
        u8 -> u8, get_u8;
        /// Two bytes.
        u16 -> u16, get_u16_le;
        /// Four bytes.
        u32 -> u32, get_u32_le;
        /// Eight bytes.
        u64 -> u64, get_u64_le;
        /// One byte, signed.
        i8 -> i8, get_i8;
        /// Two bytes, signed.
        i16 -> i16, get_i16_le;
        /// Four bytes, signed.
        i32 -> i32, get_i32_le;
        /// Eight bytes, signed.
        i64 -> i64, get_i64_le;
        /// A FLOAT.
        f32 -> f32, get_f32_le;
        /// A DOUBLE.
        f64 -> f64, get_f64_le;
    }

    /// A little-endian number of up to eight bytes.
    pub fn little(&mut self, bytes: usize) -> Result<u64, Defect> {
        self.need(bytes)?;
        Ok(self.0.get_uint_le(bytes))
    }

    /// A big-endian number of up to eight bytes.
    pub fn big(&mut self, bytes: usize) -> Result<u64, Defect> {
        self.need(bytes)?;
        Ok(self.0.get_uint(bytes))
    }

    /// So many bytes.
    pub fn take(&mut self, count: usize) -> Result<Bytes, Defect> {
        self.need(count)?;
        Ok(self.0.split_to(count))
    }

    /// Passes over so many bytes.
    pub fn skip(&mut self, count: usize) -> Result<(), Defect> {
        self.need(count)?;
        self.0.advance(count);
        Ok(())
    }

    /// A length-encoded number of the client protocol.
    pub fn length_encoded(&mut self) -> Result<u64, Defect> {
        match self.u8()? {
            first @ 0..=250 => Ok(first.into()),
            0xfc => self.little(2),
            0xfd => self.little(3),
            0xfe => self.little(8),
            other => Err(Defect(format!("a length starts with the byte {other:#x}"))),
        }
    }

    /// A length-encoded number that counts things in memory.
    pub fn count(&mut self) -> Result<usize, Defect> {
        usize::try_from(self.length_encoded()?).map_err(|_| Defect::from("a length is too large"))
    }

    /// A string that is preceded by its length-encoded length.
    pub fn counted(&mut self) -> Result<Bytes, Defect> {
        let length = self.count()?;
        self.take(length)
    }

    /// A name in UTF-8 that is preceded by its length in one byte and followed by a zero.
    pub fn name(&mut self) -> Result<String, Defect> {
        let length = self.u8()?;
        let name = self.take(length.into())?;
        self.skip(1)?;
        text(&name)
    }
}

/// UTF-8 text; identifiers in the binlog are.
pub fn text(bytes: &[u8]) -> Result<String, Defect> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Defect::from("a name is not UTF-8"))
}
