//! JSON documents for MySQL, so that they read there as they do at the source. Pure.
//!
//! A document as text is not enough: of its numbers MySQL makes integers and DOUBLEs, while inside
//! a document that SQL has made (`JSON_SET(j, '$.price', 19.90)`) a number may be a DECIMAL, with up
//! to 65 digits. Read from text, `19.90` would become `19.9`, and of an amount of 22 digits 16 would
//! be left, without a word. Such a document is therefore written as an expression that makes it
//! again, with the number as a DECIMAL literal. Texts of MariaDB, which keeps a document as it was
//! written, get the same, and those that MySQL could only keep otherwise are refused.

use std::collections::HashSet;

use super::literal;

/// The server's limit on nesting (`JSON_DOCUMENT_MAX_DEPTH` in `sql-common/json_dom.h`).
const MAX_DEPTH: usize = 100;
/// The most digits of a DECIMAL, and the most behind its point.
const MOST_DIGITS: usize = 65;
const MOST_DECIMALS: usize = 30;

/// What MySQL makes of a number in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    /// The same number, printed the same way wherever the source is a MySQL.
    Same,
    /// Another one, or another text for it, unless it is given as a DECIMAL.
    Decimal,
    /// Another one in any case.
    Lost,
}

/// Appends a document as a value for a JSON column.
pub(crate) fn document(out: &mut Vec<u8>, text: &[u8]) {
    match read(text) {
        Some((node, _)) if node.decimal => node.write(out, text),
        // What is no JSON is left to the server to refuse.
        _ => characters(out, text),
    }
}

/// Why MySQL could keep a document only as another one, if so.
pub(crate) fn loss(text: &[u8]) -> Option<String> {
    read(text)?.1
}

/// Reads a document, and what MySQL would lose of it; `None` if it is no JSON.
fn read(text: &[u8]) -> Option<(Node, Option<String>)> {
    let mut reader = Reader {
        text,
        at: 0,
        loss: None,
    };
    let node = reader.value(0).ok()?;
    reader.skip_space();
    (reader.at == text.len()).then_some((node, reader.loss))
}

fn characters(out: &mut Vec<u8>, text: &[u8]) {
    if !text.is_ascii() {
        out.extend_from_slice(b"_utf8mb4");
    }
    literal::quoted(out, text);
}

/// A value: where it is in the text, and its parts if one of them is a number for a DECIMAL.
struct Node {
    start: usize,
    end: usize,
    decimal: bool,
    parts: Parts,
}

enum Parts {
    None,
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    fn write(&self, out: &mut Vec<u8>, text: &[u8]) {
        if !self.decimal {
            out.extend_from_slice(b"CAST(");
            characters(out, &text[self.start..self.end]);
            out.extend_from_slice(b" AS JSON)");
            return;
        }
        let separate = |out: &mut Vec<u8>, index: usize| {
            if index > 0 {
                out.push(b',');
            }
        };
        match &self.parts {
            Parts::None => {
                out.extend_from_slice(b"CAST(");
                out.extend_from_slice(&text[self.start..self.end]);
                out.extend_from_slice(b" AS JSON)");
            }
            Parts::Array(parts) => {
                out.extend_from_slice(b"JSON_ARRAY(");
                for (index, part) in parts.iter().enumerate() {
                    separate(out, index);
                    part.write(out, text);
                }
                out.push(b')');
            }
            Parts::Object(parts) => {
                out.extend_from_slice(b"JSON_OBJECT(");
                for (index, (key, part)) in parts.iter().enumerate() {
                    separate(out, index);
                    out.extend_from_slice(b"_utf8mb4");
                    literal::text(out, key);
                    out.push(b',');
                    part.write(out, text);
                }
                out.push(b')');
            }
        }
    }
}

/// Not JSON, or nested too deeply for the server.
struct NotJson;

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    loss: Option<String>,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    /// Passes over a byte, and over space before and behind it; whether it was there.
    fn symbol(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is = self.text.get(self.at) == Some(&byte);
        if is {
            self.at += 1;
            self.skip_space();
        }
        is
    }

    fn value(&mut self, depth: usize) -> Result<Node, NotJson> {
        if depth > MAX_DEPTH {
            return Err(NotJson);
        }
        self.skip_space();
        let start = self.at;
        let (decimal, parts) = match self.text.get(start).ok_or(NotJson)? {
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => {
                self.string()?;
                (false, Parts::None)
            }
            b'-' | b'0'..=b'9' => (self.number()?, Parts::None),
            b'a'..=b'z' => {
                while self.text.get(self.at).is_some_and(u8::is_ascii_lowercase) {
                    self.at += 1;
                }
                (false, Parts::None)
            }
            _ => return Err(NotJson),
        };
        Ok(Node {
            start,
            end: self.at,
            decimal,
            parts,
        })
    }

    fn array(&mut self, depth: usize) -> Result<(bool, Parts), NotJson> {
        self.symbol(b'[');
        let mut parts = Vec::new();
        while !self.symbol_at_end(b']') {
            if !parts.is_empty() && !self.symbol(b',') {
                return Err(NotJson);
            }
            parts.push(self.value(depth + 1)?);
        }
        let decimal = parts.iter().any(|part| part.decimal);
        // Parts of no interest need no memory.
        Ok((
            decimal,
            if decimal {
                Parts::Array(parts)
            } else {
                Parts::None
            },
        ))
    }

    fn object(&mut self, depth: usize) -> Result<(bool, Parts), NotJson> {
        self.symbol(b'{');
        let mut parts = Vec::new();
        while !self.symbol_at_end(b'}') {
            if !parts.is_empty() && !self.symbol(b',') {
                return Err(NotJson);
            }
            self.skip_space();
            let key = self.string()?;
            let key: String = serde_json::from_slice(key).map_err(|_| NotJson)?;
            if !self.symbol(b':') {
                return Err(NotJson);
            }
            parts.push((key, self.value(depth + 1)?));
        }
        let mut seen = HashSet::with_capacity(parts.len());
        if let Some((twice, _)) = parts.iter().find(|(key, _)| !seen.insert(key.as_str())) {
            self.loss = Some(format!(
                "an object has the member {twice:?} twice, of which MySQL would keep the last"
            ));
        }
        let decimal = parts.iter().any(|(_, part)| part.decimal);
        Ok((
            decimal,
            if decimal {
                Parts::Object(parts)
            } else {
                Parts::None
            },
        ))
    }

    /// The closing bracket. Space behind it belongs to nobody, so that the value ends with it.
    fn symbol_at_end(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(is);
        is
    }

    /// A string with its quotes and escapes.
    fn string(&mut self) -> Result<&'a [u8], NotJson> {
        let start = self.at;
        if self.text.get(start) != Some(&b'"') {
            return Err(NotJson);
        }
        self.at += 1;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(NotJson),
            }
        }
        self.at += 1;
        self.text.get(start..self.at).ok_or(NotJson)
    }

    /// Whether the number has to be given as a DECIMAL.
    fn number(&mut self) -> Result<bool, NotJson> {
        let start = self.at;
        let belongs = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        while self.text.get(self.at).is_some_and(belongs) {
            self.at += 1;
        }
        let text = std::str::from_utf8(&self.text[start..self.at]).map_err(|_| NotJson)?;
        match number(text)? {
            Number::Same => Ok(false),
            Number::Decimal => Ok(true),
            Number::Lost => {
                self.loss = Some(format!(
                    "of the number {text} MySQL would keep about 16 digits"
                ));
                Ok(false)
            }
        }
    }
}

/// What MySQL makes of a number: an integer if it has neither point nor exponent and fits into 64
/// bits, else a DOUBLE, which it prints in the shortest form that reads back as the same one.
fn number(text: &str) -> Result<Number, NotJson> {
    let size = text.strip_prefix('-').unwrap_or(text);
    let has_more_zeros =
        size.starts_with('0') && size.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    if size.is_empty() || has_more_zeros {
        return Err(NotJson);
    }
    let exact = |fits: bool| if fits { Number::Decimal } else { Number::Lost };
    if size.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(
            if text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok() {
                Number::Same
            } else {
                exact(size.len() <= MOST_DIGITS)
            },
        );
    }
    let double: f64 = text.parse().map_err(|_| NotJson)?;
    let keeps_value =
        double.is_finite() && significant(text) == significant(&format!("{double:e}"));
    let Some((whole, fraction)) = size
        .split_once('.')
        .filter(|(_, fraction)| fraction.bytes().all(|byte| byte.is_ascii_digit()))
    else {
        return Ok(if keeps_value {
            Number::Same
        } else {
            Number::Lost
        });
    };
    // Very small and very large whole DOUBLEs are printed with an exponent.
    let size = double.abs();
    let is_plain = size == 0.0 || (size >= 1e-15 && (size < 1e15 || fraction != "0"));
    let is_shortest = fraction == "0" || !fraction.ends_with('0');
    if keeps_value && is_plain && is_shortest {
        return Ok(Number::Same);
    }
    let digits = whole.trim_start_matches('0').len() + fraction.len();
    Ok(
        if digits <= MOST_DIGITS && fraction.len() <= MOST_DECIMALS {
            Number::Decimal
        } else if keeps_value {
            Number::Same
        } else {
            Number::Lost
        },
    )
}

/// A number as its significant digits and the power of ten of the last one.
fn significant(text: &str) -> (String, i64) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(i64::MAX / 2);
    let mantissa = mantissa.trim_start_matches('-');
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_end_matches('0');
    let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX / 4);
    let power = exponent - count(fraction.len()) + count(digits.len() - trimmed.len());
    match trimmed.trim_start_matches('0') {
        "" => (String::new(), 0),
        digits => (digits.to_owned(), power),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        document(&mut out, text.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn documents_without_decimals_are_texts() {
        for text in [
            "{}",
            "[]",
            "null",
            "-1",
            "[1, 2.5, -0.0, 1e20, 18446744073709551615, -9223372036854775808]",
            r#"{"a": {"b": ["x", true, 1.0]}}"#,
            "[1.7976931348623157e308, 5e-324, -4356555228559223.5]",
            "no json at all",
            "19.90 and more",
            "[-, 1.10]",
            "[007.10]",
            "",
            r#"{"a":"#,
        ] {
            assert_eq!(written(text), format!("'{text}'"));
        }
        assert_eq!(written(r#"["é"]"#), r#"_utf8mb4'["é"]'"#);
    }

    #[test]
    fn decimals_are_made_as_such() {
        assert_eq!(written("19.90"), "CAST(19.90 AS JSON)");
        assert_eq!(
            written(r#"{"a'": 1, "b": [2.50, "x"], "é\"": {"c": 12345678901234567890.12}}"#),
            r#"JSON_OBJECT(_utf8mb4'a\'',CAST('1' AS JSON),_utf8mb4'b',JSON_ARRAY(CAST(2.50 AS JSON),CAST('"x"' AS JSON)),_utf8mb4'é"',JSON_OBJECT(_utf8mb4'c',CAST(12345678901234567890.12 AS JSON)))"#
        );
        assert_eq!(
            written("[18446744073709551616]"),
            "JSON_ARRAY(CAST(18446744073709551616 AS JSON))"
        );
    }

    #[test]
    fn what_mysql_cannot_keep_is_named() {
        let loss = |text: &str| loss(text.as_bytes());
        for kept in [
            "[1.10, 1e5, 1.50e3]",
            r#"{"a": 1, "b": {"a": 2}}"#,
            "[0.100000000000000000000000000000000000]",
            "not json",
        ] {
            assert_eq!(loss(kept), None, "{kept}");
        }
        let digits = "9".repeat(66);
        for lost in [digits.as_str(), "[1.2345678901234567891e5]", "1e400"] {
            assert!(loss(lost).unwrap().contains("digits"), "{lost}");
        }
        assert!(
            loss(r#"[{"a": 1, "\u0061": 2}]"#)
                .unwrap()
                .contains("twice")
        );
    }

    proptest! {
        #[test]
        fn anything_is_survived(text: Vec<u8>, json in "[\\[\\]{}\",:0-9.eE \\\\a-]{0,60}") {
            let mut out = Vec::new();
            document(&mut out, &text);
            document(&mut out, json.as_bytes());
            let _ = (loss(&text), loss(json.as_bytes()));
        }

        #[test]
        fn doubles_as_mysql_prints_them_stay_texts(number in -1e14f64..1e14) {
            let text = format!("{number:?}");
            prop_assume!(!text.contains('e'));
            prop_assert_eq!(written(&text), format!("'{text}'"));
        }

        #[test]
        fn decimals_keep_each_digit(whole in "[1-9][0-9]{0,34}", fraction in "[0-9]{0,29}0") {
            let text = format!("{whole}.{fraction}");
            let kept = [format!("CAST({text} AS JSON)"), format!("'{text}'")];
            prop_assert!(kept.contains(&written(&text)) && (fraction == "0" || written(&text) == kept[0]));
        }
    }
}
