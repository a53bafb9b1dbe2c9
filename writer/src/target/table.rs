//! A table at the target, and how the rows of a source table fit into it. Pure.

use change::{ColumnKind, RowChange, TableSchema};

use super::compare;
use super::unfit::Unfit;
use crate::sql::charset;
use crate::sql::literal::Form;

/// A table as the target's own catalogue describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetTable {
    pub database: String,
    pub name: String,
    /// `BASE TABLE`, `VIEW`, `SYSTEM VERSIONED`, ...
    pub kind: String,
    pub engine: String,
    pub columns: Vec<TargetColumn>,
    /// Unique indexes; the primary key is named `PRIMARY`.
    pub unique: Vec<UniqueIndex>,
    pub triggers: Vec<String>,
    pub foreign: ForeignKeys,
    /// The columns that cascading foreign keys of other tables refer to.
    pub cascading: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetColumn {
    pub name: String,
    /// `information_schema.columns.data_type`, for example `varchar`.
    pub data_type: String,
    /// `information_schema.columns.column_type`, for example `enum('a','b')`.
    pub column_type: String,
    /// Length in characters or bytes, where the type has one.
    pub length: Option<u64>,
    /// Fractional digits of seconds, where the type has them.
    pub precision: Option<u64>,
    pub nullable: bool,
    pub has_default: bool,
    /// `information_schema.columns.extra`.
    pub extra: String,
    /// Its character set; empty for columns without characters.
    pub character_set: String,
}

impl TargetColumn {
    /// Whether the server computes it. `DEFAULT_GENERATED` is only a default expression.
    fn is_generated(&self) -> bool {
        let extra = self.extra.to_ascii_uppercase();
        extra.contains("VIRTUAL GENERATED")
            || extra.contains("STORED GENERATED")
            || extra.contains("PERSISTENT")
    }

    /// Whether a row that does not mention it gets what `ALTER TABLE ... ADD COLUMN` would have
    /// given it.
    fn may_be_left_out(&self) -> bool {
        self.is_generated()
            || self.nullable
            || self.has_default
            || self.extra.to_ascii_lowercase().contains("auto_increment")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UniqueIndex {
    pub name: String,
    /// `None` is an expression.
    pub columns: Vec<Option<String>>,
    pub nullable: bool,
}

/// The foreign keys that a table is part of, so far as they matter for how its rows are written.
#[expect(
    clippy::struct_excessive_bools,
    reason = "five independent facts, each named"
)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ForeignKeys {
    /// It refers to another table or is referred to.
    pub any: bool,
    /// Another table, or itself, refers to it.
    pub referred_to: bool,
    /// It refers to itself, so rows of one statement may depend on each other's order.
    pub to_itself: bool,
    /// Its rows can be changed by a change of the rows that they refer to.
    pub cascades_here: bool,
    /// A change of its rows can change those that refer to them.
    pub cascades_below: bool,
}

/// How rows of a source table become statements on a target table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// The target's; the source's table may have another name ([`model::Routes`]).
    pub database: String,
    pub table: String,
    /// Both for people: the target's table, and the source's where its name is another one.
    pub told: String,
    /// Rows of other source tables may be in it.
    pub shared: bool,
    /// The columns that are written, in the source's order.
    pub columns: Vec<MappedColumn>,
    /// Indexes into `columns` of the target's key.
    pub key: Vec<MappedColumn>,
    pub foreign: ForeignKeys,
    /// Indexes, in the source's row, of the columns that cascading foreign keys of other tables
    /// refer to.
    pub cascading: Vec<usize>,
    /// Why a row of the target cannot be compared with one of the source, if it cannot.
    pub incomparable: Option<Unfit>,
    /// Every column at the target that holds anything of its own is one of the source's, so that a row
    /// that is deleted and inserted is a row that is updated.
    pub whole: bool,
    /// Its rows depend on nothing but their own key, which is made of integers: no foreign key in
    /// either direction, no unique key but the primary one, and the source's rows are whole here.
    pub merges: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MappedColumn {
    /// Index of the value in the source's row.
    pub index: usize,
    pub name: String,
    pub form: Form,
}

impl Mapping {
    /// Whether a change of a row would change rows of other tables.
    pub(crate) fn reaches(&self, row: &RowChange) -> bool {
        match row {
            RowChange::Insert { .. } => false,
            RowChange::Delete { .. } => self.foreign.cascades_below,
            RowChange::Update { before, after } => self
                .cascading
                .iter()
                .any(|index| before[*index] != after[*index]),
        }
    }
}

/// Fits a source table to a target table, or says why that cannot be done safely.
pub(crate) fn map(source: &TableSchema, target: &TargetTable) -> Result<Mapping, Unfit> {
    let table = format!("{}.{}", target.database, target.name);
    check_kind(&table, target)?;
    let mut columns = Vec::with_capacity(source.columns.len());
    let mut all = Vec::with_capacity(source.columns.len());
    for (index, column) in source.columns.iter().enumerate() {
        let Some(found) = find(target, &column.name) else {
            return Err(Unfit::ColumnMissing {
                table,
                column: column.name.clone(),
            });
        };
        let form = form(&table, column, found)?;
        let mapped = MappedColumn {
            index,
            name: found.name.clone(),
            form,
        };
        all.push(mapped.clone());
        if !found.is_generated() {
            columns.push(mapped);
        }
    }
    for column in &target.columns {
        let known = source
            .columns
            .iter()
            .any(|of_source| same_name(&of_source.name, &column.name));
        if !known && !column.may_be_left_out() {
            return Err(Unfit::ColumnExtra {
                table,
                column: column.name.clone(),
            });
        }
    }
    let Some(key) = key_of(target, &all) else {
        return Err(Unfit::NoKey { table });
    };
    let known = |column: &TargetColumn| {
        let named = |of_source: &change::Column| same_name(&of_source.name, &column.name);
        column.is_generated() || source.columns.iter().any(named)
    };
    let whole = target.columns.iter().all(known);
    let merges = whole && merges(source, target, &columns, &key);
    let incomparable = columns.iter().find_map(|column| {
        let of_source = &source.columns[column.index];
        compare::incomparable(&table, of_source, find(target, &column.name)?)
    });
    let cascades = |column: &&MappedColumn| {
        target
            .cascading
            .iter()
            .any(|of| same_name(of, &column.name))
    };
    let cascading = all.iter().filter(cascades).map(|column| column.index);
    Ok(Mapping {
        cascading: cascading.collect(),
        incomparable,
        told: told(source, &target.database, &target.name),
        shared: false,
        database: target.database.clone(),
        table: target.name.clone(),
        columns,
        key,
        foreign: target.foreign,
        whole,
        merges,
    })
}

impl Mapping {
    /// Whether rows that were collected by the other one are written as by this one.
    pub(crate) fn writes_like(&self, other: &Self) -> bool {
        (&self.database, &self.table, &self.columns, &self.key)
            == (&other.database, &other.table, &other.columns, &other.key)
    }
}

/// A table of the target with the one that its rows come from, if that has another name.
pub(crate) fn told(source: &TableSchema, database: &str, table: &str) -> String {
    let target = format!("{database}.{table}");
    if target == source.to_string() {
        return target;
    }
    format!("{target} (rows of {source})")
}

/// Whether rows can be applied to the table at all.
pub(crate) fn check_kind(table: &str, target: &TargetTable) -> Result<(), Unfit> {
    let table = table.to_owned();
    if target.kind != "BASE TABLE" {
        return Err(Unfit::Kind {
            table,
            kind: target.kind.clone(),
        });
    }
    if !target.engine.eq_ignore_ascii_case("InnoDB") {
        return Err(Unfit::Engine {
            table,
            engine: target.engine.clone(),
        });
    }
    if let Some(trigger) = target.triggers.first() {
        return Err(Unfit::Trigger {
            table,
            trigger: trigger.clone(),
        });
    }
    Ok(())
}

/// See [`Mapping::merges`].
fn merges(
    source: &TableSchema,
    target: &TargetTable,
    columns: &[MappedColumn],
    key: &[MappedColumn],
) -> bool {
    use ColumnKind as K;
    let integer = |column: &MappedColumn| {
        matches!(
            source.columns[column.index].kind,
            K::TinyInt | K::SmallInt | K::MediumInt | K::Int | K::BigInt
        )
    };
    let only_primary = matches!(target.unique.as_slice(), [only] if only.name == "PRIMARY");
    only_primary
        && !target.foreign.any
        && key
            .iter()
            .all(|column| integer(column) && columns.contains(column))
        && columns.len() > key.len()
}

/// Column names are compared without case on both engines. Letters beyond ASCII are compared as
/// they are: a mismatch is refused, never guessed.
fn same_name(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
}

fn find<'a>(target: &'a TargetTable, name: &str) -> Option<&'a TargetColumn> {
    target
        .columns
        .iter()
        .find(|column| same_name(&column.name, name))
}

/// The primary key, or else a unique key whose columns are all there and never NULL.
fn key_of(target: &TargetTable, mapped: &[MappedColumn]) -> Option<Vec<MappedColumn>> {
    let usable = |index: &UniqueIndex| {
        if index.nullable {
            return None;
        }
        let find = |name: &String| {
            mapped
                .iter()
                .find(|column| same_name(&column.name, name))
                .cloned()
        };
        index
            .columns
            .iter()
            .map(|name| name.as_ref().and_then(find))
            .collect::<Option<Vec<_>>>()
    };
    let primary = target.unique.iter().find(|index| index.name == "PRIMARY");
    match primary {
        Some(primary) => usable(primary),
        None => target.unique.iter().find_map(usable),
    }
}

fn form(table: &str, source: &change::Column, target: &TargetColumn) -> Result<Form, Unfit> {
    use ColumnKind as K;
    let fits: &[&str] = match source.kind {
        K::TinyInt | K::SmallInt | K::MediumInt | K::Int | K::BigInt => {
            &["tinyint", "smallint", "mediumint", "int", "bigint"]
        }
        K::Float => &["float", "double"],
        K::Double => &["double"],
        K::Decimal => &["decimal"],
        K::Bit => &["bit"],
        K::Year => &["year"],
        K::Date => &["date"],
        K::Time => &["time"],
        K::DateTime => &["datetime"],
        K::Timestamp => &["timestamp"],
        K::Char | K::VarChar | K::Text => {
            // MySQL's JSON takes the text that MariaDB's stores.
            &[
                "char",
                "varchar",
                "tinytext",
                "text",
                "mediumtext",
                "longtext",
                "json",
            ]
        }
        K::Binary | K::VarBinary | K::Blob => &[
            "binary",
            "varbinary",
            "tinyblob",
            "blob",
            "mediumblob",
            "longblob",
        ],
        K::Enum => &["enum"],
        K::Set => &["set"],
        K::Json => &["json", "longtext"],
        K::Geometry => &[
            "geometry",
            "point",
            "linestring",
            "polygon",
            "multipoint",
            "multilinestring",
            "multipolygon",
            "geomcollection",
            "geometrycollection",
        ],
        K::Vector => &["vector"],
    };
    if !(fits.contains(&target.data_type.as_str()) && keeps_detail(source, target)) {
        return Err(Unfit::Type {
            table: table.to_owned(),
            column: source.name.clone(),
            data_type: target.column_type.clone(),
            kind: describe(source),
        });
    }
    written(table, source, target)
}

/// How the values of a column that fits are written.
fn written(table: &str, source: &change::Column, target: &TargetColumn) -> Result<Form, Unfit> {
    use ColumnKind as K;
    if target.data_type == "json" {
        return Ok(Form::Json);
    }
    match source.kind {
        K::Char | K::VarChar | K::Text => {}
        K::Float | K::Double => {
            return Ok(digits(&target.column_type).map_or(Form::Plain, Form::Rounded));
        }
        _ => return Ok(Form::Plain),
    }
    charset::of_collation(source.collation)
        .map(Form::Characters)
        .ok_or_else(|| Unfit::Collation {
            table: table.to_owned(),
            column: source.name.clone(),
            collation: source.collation,
        })
}

/// Whether the target's column holds what the server would otherwise change without a word:
/// seconds are rounded to the column's digits, BINARY is padded to its length, CHAR loses spaces at the
/// end, and the number of an ENUM's or SET's member means another member where the list differs.
fn keeps_detail(source: &change::Column, target: &TargetColumn) -> bool {
    match source.kind {
        ColumnKind::Time | ColumnKind::DateTime | ColumnKind::Timestamp => {
            target.precision.unwrap_or(0) >= u64::from(source.decimals)
        }
        ColumnKind::Binary if target.data_type == "binary" => {
            target.length == Some(u64::from(source.length))
        }
        ColumnKind::VarBinary | ColumnKind::Blob => target.data_type != "binary",
        ColumnKind::VarChar | ColumnKind::Text if target.data_type == "char" => false,
        ColumnKind::Enum | ColumnKind::Set => same_members(source, &target.column_type),
        // A document is read as what JSON is written in.
        ColumnKind::Char | ColumnKind::VarChar | ColumnKind::Text if target.data_type == "json" => {
            charset::of_collation(source.collation)
                .is_some_and(|name| name.starts_with("utf8") || name == "ascii")
        }
        _ => true,
    }
}

/// How many digits behind the point a column like `double(10,2)` keeps. The source's binlog does not say
/// whether its own column is such a one too.
fn digits(column_type: &str) -> Option<u8> {
    let (_, behind) = column_type.split_once(',')?;
    behind.split_once(')')?.0.trim().parse().ok()
}

/// Compares the members as far as they can be read: the catalogue prints them in utf8, the source
/// sends the bytes of the column's character set.
fn same_members(source: &change::Column, column_type: &str) -> bool {
    let members = members(column_type);
    let is_utf8 =
        charset::of_collation(source.collation).is_some_and(|name| name.starts_with("utf8"));
    members.len() == source.members.len()
        && source
            .members
            .iter()
            .zip(&members)
            .all(|(of_source, of_target)| {
                let comparable = is_utf8 || (of_source.is_ascii() && of_target.is_ascii());
                !comparable || of_source.as_ref() == of_target.as_bytes()
            })
}

/// The members of `enum('a','it''s')`. A quote inside is doubled; nothing else is escaped.
fn members(column_type: &str) -> Vec<String> {
    let Some(start) = column_type.find('\'') else {
        return Vec::new();
    };
    let mut members = Vec::new();
    let mut rest = &column_type[start + 1..];
    let mut member = String::new();
    while let Some(at) = rest.find('\'') {
        member.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('\'') {
            member.push('\'');
            rest = after;
        } else {
            members.push(std::mem::take(&mut member));
            match rest.find('\'') {
                Some(next) => rest = &rest[next + 1..],
                None => break,
            }
        }
    }
    members
}

pub(super) fn describe(column: &change::Column) -> String {
    let kind = format!("{:?}", column.kind).to_lowercase();
    match column.kind {
        ColumnKind::Enum | ColumnKind::Set => {
            let members: Vec<_> = column
                .members
                .iter()
                .map(|m| format!("'{}'", String::from_utf8_lossy(m)))
                .collect();
            format!("{kind}({})", members.join(","))
        }
        ColumnKind::Time | ColumnKind::DateTime | ColumnKind::Timestamp => {
            format!("{kind}({})", column.decimals)
        }
        ColumnKind::Binary => format!("{kind}({})", column.length),
        _ => kind,
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
pub(crate) mod tests;
