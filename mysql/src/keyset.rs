//! Key values as SQL literals, and the conditions that find a key's row and those on either side.

use std::fmt::Write;

use change::Value;

use crate::control::identifier;

/// A value as an SQL literal that compares with its column as the same value stored there would.
/// `None`: a kind that no key can have.
pub fn literal(value: &Value, character_set: &str) -> Option<String> {
    Some(match value {
        Value::Int(number) => number.to_string(),
        Value::UInt(number) | Value::Bit(number) | Value::Set(number) => number.to_string(),
        Value::Enum(number) | Value::Year(number) => number.to_string(),
        Value::Decimal(text) => text.clone(),
        // The shortest digits that give the DOUBLE that the FLOAT is compared as.
        Value::Float(real) => format!("{:e}", f64::from(real.get())),
        Value::Double(real) => format!("{:e}", real.get()),
        Value::Text(bytes) => string(bytes, character_set),
        Value::Bytes(bytes) => string(bytes, "binary"),
        Value::Date(date) => format!("'{date}'"),
        Value::DateTime(time) => format!("'{time}'"),
        Value::Time(micros) => format!("'{}'", clock(*micros)),
        Value::Timestamp(micros) => format!("'{}'", crate::values::utc(*micros)),
        Value::Null | Value::Json(_) | Value::Geometry(_) => return None,
    })
}

fn string(bytes: &[u8], character_set: &str) -> String {
    let mut literal = format!("_{character_set} ");
    if bytes.is_empty() {
        literal.push_str("''");
        return literal;
    }
    literal.push_str("0x");
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(literal, "{byte:02x}");
    }
    literal
}

fn clock(micros: i64) -> String {
    let size = micros.unsigned_abs();
    let (seconds, fraction) = (size / 1_000_000, size % 1_000_000);
    let sign = if micros < 0 { "-" } else { "" };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{fraction:06}")
}

/// The condition for rows behind a key, in the order of its columns. Written so that both
/// optimisers make a range of it, which they do not of `(a, b) > (1, 2)`.
pub fn behind(columns: &[String], literals: &[String]) -> String {
    let (Some(column), Some(literal)) = (columns.first(), literals.first()) else {
        return "FALSE".to_owned();
    };
    let name = identifier(column);
    if columns.len() == 1 {
        return format!("{name} > {literal}");
    }
    let rest = behind(&columns[1..], &literals[1..]);
    format!("({name} >= {literal} AND ({name} > {literal} OR ({name} = {literal} AND {rest})))")
}

/// The condition for rows up to a key, itself included: what [`behind`] leaves.
pub fn up_to(columns: &[String], literals: &[String]) -> String {
    let (Some(column), Some(literal)) = (columns.first(), literals.first()) else {
        return "TRUE".to_owned();
    };
    let name = identifier(column);
    if columns.len() == 1 {
        return format!("{name} <= {literal}");
    }
    let rest = up_to(&columns[1..], &literals[1..]);
    format!("({name} <= {literal} AND ({name} < {literal} OR ({name} = {literal} AND {rest})))")
}

/// The condition for the row with a key.
pub fn at(columns: &[String], literals: &[String]) -> String {
    let parts: Vec<String> = columns
        .iter()
        .zip(literals)
        .map(|(column, literal)| format!("{} = {literal}", identifier(column)))
        .collect();
    parts.join(" AND ")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn literals_are_exact() {
        let cases = [
            (Value::Int(-5), "-5"),
            (Value::Float(1.1f32.into()), "1.100000023841858e0"),
            (Value::Text(Bytes::from_static(b"a'b")), "_latin1 0x612762"),
            (Value::Text(Bytes::new()), "_latin1 ''"),
            (
                Value::Bytes(Bytes::from_static(&[0, 255])),
                "_binary 0x00ff",
            ),
            (Value::Time(-3_600_000_001), "'-01:00:00.000001'"),
        ];
        for (value, expected) in cases {
            assert_eq!(literal(&value, "latin1").as_deref(), Some(expected));
        }
        assert_eq!(literal(&Value::Null, ""), None);
    }

    #[test]
    fn the_condition_orders_like_the_key() {
        let columns = ["a".to_owned(), "b".to_owned()];
        let literals = ["1".to_owned(), "2".to_owned()];
        assert_eq!(behind(&columns[..1], &literals[..1]), "`a` > 1");
        assert_eq!(
            behind(&columns, &literals),
            "(`a` >= 1 AND (`a` > 1 OR (`a` = 1 AND `b` > 2)))"
        );
        assert_eq!(
            up_to(&columns, &literals),
            "(`a` <= 1 AND (`a` < 1 OR (`a` = 1 AND `b` <= 2)))"
        );
        assert_eq!(at(&columns, &literals), "`a` = 1 AND `b` = 2");
    }
}
