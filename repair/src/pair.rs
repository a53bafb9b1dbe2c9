//! A table at both ends, and when a value of one end equals one of the other. Pure.

use std::sync::Arc;

use bytes::Bytes;
use change::{CodecError, Column, ColumnKind, Row, TableSchema, Value, decode_key, encode_key};
use mysql::tables::{ColumnInfo, TableInfo};
use sha2::{Digest as _, Sha256};
use writer::rows::Fit;

use crate::to_hex;

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The link's source.
    Source,
    /// The link's target.
    Target,
}

impl End {
    /// For messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

/// How the values of a column are brought into one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// They are in one already.
    Same,
    /// Signed at one end and unsigned at the other.
    Signs,
    /// FLOAT at the source, DOUBLE at the target.
    Widened,
    /// DECIMALs of different scales.
    Scales,
    /// MySQL's JSON at the source, kept as its text at the target.
    Text,
    /// Text at the source (which MariaDB's JSON is), MySQL's JSON at the target. What the target
    /// makes of a text only the target knows; [`crate::still::Ends`] asks it.
    Parsed,
}

/// A column that is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Its index in the source's table.
    source: usize,
    /// Its index in the target's table.
    target: usize,
    rule: Rule,
    /// Character sets at both ends; empty for columns without characters.
    sets: [String; 2],
}

/// A table at both ends.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// `database.table`.
    pub name: String,
    /// As the source has it.
    pub source: Arc<TableSchema>,
    /// As the target has it.
    pub target: Arc<TableSchema>,
    /// What both ends' descriptions came to; see [`shape`].
    pub shape: String,
    /// How rows are written.
    pub fit: Fit,
    /// Every column that the target does not compute itself.
    pub columns: Vec<Compared>,
    /// Indexes into `columns` of the key, in the order of the source's.
    pub key: Vec<usize>,
    /// How many bytes it thinks a row takes.
    pub row_bytes: u64,
}

/// A key's values, in canonical form and in the order of [`Pair::key`].
pub(crate) type Key = Vec<Value>;

/// The first thing that keeps a table from being compared, as a sentence.
pub(crate) type Why = String;

/// A digest of what rows are compared and written by: another one, and the table was altered.
pub(crate) fn shape(ends: [&TableInfo; 2]) -> String {
    let of = ends.map(|info| (&info.columns, &info.key, info.key_is_primary));
    let digest = Sha256::digest(format!("{of:?}"));
    to_hex(&digest[..16])
}

/// Puts the two descriptions of a table together, or says why its rows cannot be compared exactly.
pub(crate) fn pair(source: &TableInfo, target: &TableInfo, fit: Fit) -> Result<Pair, Why> {
    let name = source.full_name();
    let schema = |info: &TableInfo, end: End| {
        info.schema().map(Arc::new).map_err(|(column, declared)| {
            format!(
                "column {column} of table {name} has the type {declared} at the {}, which links do \
                 not carry",
                end.name()
            )
        })
    };
    let (source_schema, target_schema) =
        (schema(source, End::Source)?, schema(target, End::Target)?);
    let mut columns = Vec::new();
    for index in fit.written() {
        let of_source = &source.columns[index];
        let place = target
            .columns
            .iter()
            .position(|column| column.name.eq_ignore_ascii_case(&of_source.name));
        let Some(place) = place else {
            return Err(format!(
                "column {} of table {name} is not at the target",
                of_source.name
            ));
        };
        columns.push(compared(
            &name,
            (index, of_source),
            (place, &target.columns[place]),
        )?);
    }
    let place = |index: &usize| columns.iter().position(|column| column.source == *index);
    let key: Option<Vec<usize>> = source_schema.primary_key.iter().map(place).collect();
    let mut keys = [source_schema.primary_key.clone(), fit.key()];
    for key in &mut keys {
        key.sort_unstable();
    }
    let key = key.filter(|key| !key.is_empty() && keys[0] == keys[1]);
    let Some(key) = key else {
        return Err(format!(
            "table {name} has no key that is the same at both ends, so its rows cannot be told from \
             each other; give it the same primary key at both ends"
        ));
    };
    Ok(Pair {
        shape: shape([source, target]),
        source: source_schema,
        target: target_schema,
        fit,
        columns,
        key,
        row_bytes: source.row_bytes_estimate,
        name,
    })
}

fn compared(
    table: &str,
    source: (usize, &ColumnInfo),
    target: (usize, &ColumnInfo),
) -> Result<Compared, Why> {
    let (of_source, of_target) = (source.1, target.1);
    let (Ok(one), Ok(other)) = (&of_source.column, &of_target.column) else {
        return Err(format!(
            "a type of table {table} is not one that links carry"
        ));
    };
    let Some(rule) = rule(one, other) else {
        return Err(format!(
            "column {} of table {table} is {} at the source and {} at the target, and values of \
             these two cannot be compared exactly yet; give it one type at both ends, or leave the \
             table out",
            of_source.name, of_source.declared, of_target.declared
        ));
    };
    let sets = [
        of_source.character_set.clone(),
        of_target.character_set.clone(),
    ];
    if rule == Rule::Parsed && !["utf8mb4", "ascii"].contains(&bytes_of(&sets[0])) {
        return Err(format!(
            "column {} of table {table} holds JSON as text in {} at the source, and only texts in \
             utf8mb4 can be compared with MySQL's JSON",
            of_source.name, sets[0]
        ));
    }
    let is_text = rule != Rule::Parsed
        && matches!(
            one.kind,
            ColumnKind::Char | ColumnKind::VarChar | ColumnKind::Text
        );
    if is_text && bytes_of(&sets[0]) != bytes_of(&sets[1]) {
        return Err(format!(
            "column {} of table {table} has the character set {} at the source and {} at the \
             target, and texts of these two cannot be compared byte by byte; give it one at both \
             ends, or leave the table out",
            of_source.name, sets[0], sets[1]
        ));
    }
    Ok(Compared {
        source: source.0,
        target: target.0,
        rule,
        sets,
    })
}

/// A character set in which every text of this one has the same bytes.
fn bytes_of(set: &str) -> &str {
    match set {
        "utf8" | "utf8mb3" => "utf8mb4",
        "ucs2" => "utf16",
        other => other,
    }
}

fn rule(source: &Column, target: &Column) -> Option<Rule> {
    use ColumnKind as K;
    let class = |kind: K| match kind {
        K::TinyInt | K::SmallInt | K::MediumInt | K::Int | K::BigInt => 1,
        K::Char | K::VarChar | K::Text => 2,
        K::Binary | K::VarBinary | K::Blob => 3,
        _ => 0,
    };
    let alike = source.kind == target.kind
        || (class(source.kind) != 0 && class(source.kind) == class(target.kind));
    Some(match (source.kind, target.kind) {
        (K::Float, K::Double) => Rule::Widened,
        (K::Json, K::Text) => Rule::Text,
        (kind, K::Json) if class(kind) == 2 => Rule::Parsed,
        _ if !alike => return None,
        (kind, _) if class(kind) == 1 && source.unsigned != target.unsigned => Rule::Signs,
        (K::Decimal, _) if source.decimals != target.decimals => Rule::Scales,
        _ => Rule::Same,
    })
}

impl Rule {
    fn apply(self, value: Value) -> Value {
        match (self, value) {
            (Self::Signs, Value::Int(number)) => match u64::try_from(number) {
                Ok(number) => Value::UInt(number),
                Err(_) => Value::Int(number),
            },
            (Self::Widened, Value::Float(real)) => Value::Double(f64::from(real.get()).into()),
            (Self::Scales, Value::Decimal(text)) if text.contains('.') => {
                let text = text.trim_end_matches('0').trim_end_matches('.');
                Value::Decimal(if text == "-0" { "0" } else { text }.to_owned())
            }
            (Self::Text, Value::Json(text)) => Value::Text(text),
            (_, value) => value,
        }
    }
}

impl Pair {
    /// A column's definition at one end.
    pub(crate) fn column(&self, index: usize, end: End) -> &Column {
        let compared = &self.columns[index];
        match end {
            End::Source => &self.source.columns[compared.source],
            End::Target => &self.target.columns[compared.target],
        }
    }

    /// A column's character set at one end; empty for columns without characters.
    pub(crate) fn character_set(&self, index: usize, end: End) -> &str {
        let [source, target] = &self.columns[index].sets;
        match end {
            End::Source => source,
            End::Target => target,
        }
    }

    /// Whether the values of a column are equal exactly if what the servers store is.
    pub(crate) fn is_alike(&self, index: usize) -> bool {
        self.columns[index].rule == Rule::Same
    }

    /// The columns whose text at the source the target keeps as JSON.
    pub(crate) fn parsed(&self) -> Vec<usize> {
        let columns = self.columns.iter().enumerate();
        columns
            .filter(|(_, column)| column.rule == Rule::Parsed)
            .map(|(index, _)| index)
            .collect()
    }

    /// The database.
    pub(crate) fn database(&self) -> &str {
        &self.source.database
    }

    /// The table.
    pub(crate) fn table(&self) -> &str {
        &self.source.table
    }

    /// A value as one end gave it, in the form that is compared.
    pub(crate) fn canonical(&self, index: usize, value: Value) -> Value {
        self.columns[index].rule.apply(value)
    }

    /// The key of a row.
    pub(crate) fn key_of(&self, row: &Row) -> Key {
        self.key.iter().map(|&index| row[index].clone()).collect()
    }

    /// A row of the target's own columns, in the form that is compared.
    pub(crate) fn of_target(&self, own: &Row) -> Row {
        let columns = self.columns.iter();
        columns
            .map(|column| column.rule.apply(own[column.target].clone()))
            .collect()
    }

    /// A row of all columns of the source's table, of those that are compared. The others are
    /// computed by the target and never written.
    pub(crate) fn widen(&self, row: &Row) -> Row {
        let mut wide = vec![Value::Null; self.source.columns.len()];
        for (column, value) in self.columns.iter().zip(row) {
            wide[column.source] = value.clone();
        }
        wide
    }

    /// A row's key for people.
    pub(crate) fn describe(&self, row: &Row) -> String {
        self.fit.describe_key(&self.widen(row))
    }

    /// The name of a compared column.
    pub(crate) fn column_name(&self, index: usize) -> &str {
        &self.column(index, End::Source).name
    }

    /// A key as it is kept between two processes: with the names of its columns, which tell if the
    /// key is another one then.
    pub(crate) fn cursor(&self, key: &Key) -> Bytes {
        let mut parts = Vec::with_capacity(key.len() * 2);
        for (&index, value) in self.key.iter().zip(key) {
            let name = self.column_name(index).as_bytes();
            parts.push(Value::Text(Bytes::copy_from_slice(name)));
            parts.push(value.clone());
        }
        encode_key(&parts)
    }

    /// What [`Self::cursor`] made; `None` if the table has another key now.
    pub(crate) fn read_cursor(&self, cursor: Bytes) -> Result<Option<Key>, CodecError> {
        let parts = decode_key(cursor)?;
        let named = parts.chunks_exact(2).zip(&self.key);
        let mut key = Vec::with_capacity(self.key.len());
        for (part, &index) in named {
            match part {
                [Value::Text(name), value]
                    if name.as_ref() == self.column_name(index).as_bytes() =>
                {
                    key.push(value.clone());
                }
                _ => return Ok(None),
            }
        }
        Ok((key.len() == self.key.len() && parts.len() == key.len() * 2).then_some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: ColumnKind) -> Column {
        Column {
            name: "c".into(),
            kind,
            unsigned: false,
            nullable: true,
            collation: 0,
            length: 0,
            decimals: 0,
            members: vec![],
        }
    }

    fn decimal(text: &str) -> Value {
        Value::Decimal(text.to_owned())
    }

    #[test]
    fn only_types_that_hold_the_same_values_are_compared() {
        use ColumnKind as K;
        let of = |one, other| rule(&column(one), &column(other));
        assert_eq!(of(K::Int, K::BigInt), Some(Rule::Same));
        assert_eq!(of(K::Char, K::Text), Some(Rule::Same));
        assert_eq!(of(K::Float, K::Double), Some(Rule::Widened));
        assert_eq!(of(K::Json, K::Json), Some(Rule::Same));
        assert_eq!(of(K::Json, K::Text), Some(Rule::Text));
        assert_eq!(of(K::Text, K::Json), Some(Rule::Parsed));
        assert_eq!(of(K::Blob, K::Json), None);
        assert_eq!(of(K::Double, K::Float), None);
        assert_eq!(of(K::DateTime, K::Timestamp), None);
        assert_eq!(of(K::Enum, K::Set), None);
        let unsigned = Column {
            unsigned: true,
            ..column(K::Int)
        };
        assert_eq!(rule(&column(K::Int), &unsigned), Some(Rule::Signs));
    }

    #[test]
    fn one_value_has_one_form_and_two_have_two() {
        let signs = |value| Rule::Signs.apply(value);
        assert_eq!(signs(Value::Int(5)), signs(Value::UInt(5)));
        assert_ne!(signs(Value::Int(-1)), signs(Value::UInt(u64::MAX)));
        let scales = |text| Rule::Scales.apply(decimal(text));
        assert_eq!(scales("1.50"), scales("1.5000"));
        assert_eq!(scales("100"), scales("100.00"));
        assert_ne!(scales("100"), scales("1"));
        assert_ne!(scales("1.5"), scales("1.05"));
        let wide = |value| Rule::Widened.apply(value);
        assert_eq!(
            wide(Value::Float(0.1f32.into())),
            Value::Double(f64::from(0.1f32).into())
        );
        assert_ne!(wide(Value::Float(0.1f32.into())), Value::Double(0.1.into()));
    }

    #[test]
    fn character_sets_are_compared_by_their_bytes() {
        assert_eq!(bytes_of("utf8mb3"), bytes_of("utf8mb4"));
        assert_eq!(bytes_of("ucs2"), bytes_of("utf16"));
        assert_ne!(bytes_of("latin1"), bytes_of("utf8mb4"));
        assert_ne!(bytes_of("utf16le"), bytes_of("utf16"));
    }
}
