//! What the target's catalogue says of its tables.

use std::collections::HashMap;
use std::sync::Arc;

use change::TableSchema;
use model::Routes;

use super::session::Target;
use super::table::{ForeignKeys, Mapping, TargetColumn, TargetTable, UniqueIndex, map};
use super::unfit::Unfit;
use crate::error::WriterError;
use crate::sql::literal;

/// The fits of source tables into target tables, remembered for as long as no definition changes.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    known: Known,
    routes: Routes,
}

type Fit = (Arc<TableSchema>, Arc<Mapping>);

/// Fits by address of the source's definition; the value keeps it alive, so that no other can get its
/// address. A clone stays as it is.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    fits: Arc<HashMap<usize, Fit>>,
    /// How often everything was forgotten.
    generation: u64,
}

impl Known {
    /// The fit of a source table, if it is known.
    pub(crate) fn get(&self, source: &Arc<TableSchema>) -> Option<&Arc<Mapping>> {
        let (_, mapping) = self.fits.get(&Arc::as_ptr(source).addr())?;
        Some(mapping)
    }

    fn clear(&mut self) {
        self.fits = Arc::default();
        self.generation += 1;
    }
}

/// So many fits are remembered before they are looked up anew.
const MOST: usize = 1 << 14;

impl Mappings {
    /// Nothing known yet, of a link with these routes.
    pub(crate) fn new(routes: Routes) -> Self {
        Self {
            known: Known::default(),
            routes,
        }
    }

    /// Where the tables of the link go.
    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Forgets everything, since definitions may have changed.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }

    /// What is known now.
    pub(crate) fn known(&self) -> Known {
        self.known.clone()
    }

    /// Whether nothing of it was forgotten since.
    pub(crate) fn are_still(&self, known: &Known) -> bool {
        self.known.generation == known.generation
    }

    /// The fit of a source table into the table that it goes to, looked up if it is not known. The one
    /// place where a source table becomes one of the target.
    pub(crate) async fn get(
        &mut self,
        target: &mut Target,
        source: &Arc<TableSchema>,
    ) -> Result<Arc<Mapping>, WriterError> {
        if let Some(mapping) = self.known.get(source) {
            return Ok(Arc::clone(mapping));
        }
        let (database, table) = self.routes.target(&source.database, &source.table);
        let mut mapping = fit(target, source, database, table).await?;
        mapping.shared = self.routes.shares(database, table);
        let mapping = Arc::new(mapping);
        if self.known.fits.len() >= MOST {
            self.known.clear();
        }
        let address = Arc::as_ptr(source).addr();
        Arc::make_mut(&mut self.known.fits)
            .insert(address, (Arc::clone(source), Arc::clone(&mapping)));
        Ok(mapping)
    }

    /// Looks again whether one of the tables has got a trigger meanwhile: it would act on rows that
    /// carry its effects already.
    pub(crate) async fn check_triggers(&mut self, target: &mut Target) -> Result<(), WriterError> {
        if self.known.fits.is_empty() {
            return Ok(());
        }
        let sql = "SELECT CAST(event_object_schema AS CHAR), CAST(event_object_table AS CHAR), \
                   CAST(trigger_name AS CHAR) FROM information_schema.triggers \
                   WHERE event_object_schema NOT IN ('sys','mysql')";
        let triggers: Vec<(String, String, String)> =
            target.all("looking for triggers", sql).await?;
        for (database, table, trigger) in triggers {
            let hit = self
                .known
                .fits
                .values()
                .any(|(_, mapping)| mapping.database == database && mapping.table == table);
            if hit {
                self.known.clear();
                return Err(Unfit::Trigger {
                    table: format!("{database}.{table}"),
                    trigger,
                }
                .into());
            }
        }
        Ok(())
    }
}

/// Fits a source table into this table of the target.
pub(crate) async fn fit(
    target: &mut Target,
    source: &TableSchema,
    database: &str,
    table: &str,
) -> Result<Mapping, WriterError> {
    let Some(found) = look_up(target, database, table).await? else {
        let table_name = format!("{database}.{table}");
        let missing = Unfit::Missing { table: table_name };
        return Err(missing.by_route(source, database, table).into());
    };
    let routed = |unfit: Unfit| unfit.by_route(source, database, table);
    let mut mapping = map(source, &found).map_err(routed)?;
    mapping.incomparable = mapping.incomparable.map(routed);
    Ok(mapping)
}

type ColumnRow = (
    String,
    String,
    String,
    Option<u64>,
    Option<u64>,
    String,
    u8,
    String,
    String,
);

/// Reads a table's definition; `None` if there is no such table.
pub(crate) async fn look_up(
    target: &mut Target,
    database: &str,
    table: &str,
) -> Result<Option<TargetTable>, WriterError> {
    let (db, name) = (quote(database), quote(table));
    let doing = format!("reading the definition of {database}.{table}");
    let kind: Option<(String, Option<String>)> = target
        .first(
            &doing,
            &format!(
                "SELECT CAST(table_type AS CHAR), CAST(engine AS CHAR) FROM information_schema.tables \
                 WHERE table_schema={db} AND table_name={name}"
            ),
        )
        .await?;
    let Some((kind, engine)) = kind else {
        return Ok(None);
    };
    let columns: Vec<ColumnRow> = target
        .all(
            &doing,
            &format!(
                "SELECT CAST(column_name AS CHAR), LOWER(CAST(data_type AS CHAR)), \
                 CAST(column_type AS CHAR), character_maximum_length, datetime_precision, \
                 CAST(is_nullable AS CHAR), column_default IS NOT NULL, CAST(extra AS CHAR), \
                 COALESCE(CAST(character_set_name AS CHAR), '') \
                 FROM information_schema.columns WHERE table_schema={db} AND table_name={name} \
                 ORDER BY ordinal_position"
            ),
        )
        .await?;
    let indexes: Vec<(String, Option<String>, Option<String>)> = target
        .all(
            &doing,
            &format!(
                "SELECT CAST(index_name AS CHAR), CAST(column_name AS CHAR), CAST(nullable AS CHAR) \
                 FROM information_schema.statistics WHERE table_schema={db} AND table_name={name} \
                 AND non_unique=0 ORDER BY index_name, seq_in_index"
            ),
        )
        .await?;
    let triggers: Vec<String> = target
        .all(
            &doing,
            &format!(
                "SELECT CAST(trigger_name AS CHAR) FROM information_schema.triggers \
                 WHERE event_object_schema={db} AND event_object_table={name} ORDER BY 1"
            ),
        )
        .await?;
    let foreign = foreign_keys(target, &doing, &db, &name).await?;
    let cascading = if foreign.cascades_below {
        let sql = format!(
            "SELECT DISTINCT CAST(referenced_column_name AS CHAR) \
             FROM information_schema.key_column_usage \
             WHERE referenced_table_schema={db} AND referenced_table_name={name}"
        );
        target.all(&doing, &sql).await?
    } else {
        Vec::new()
    };
    Ok(Some(TargetTable {
        cascading,
        foreign,
        database: database.to_owned(),
        name: table.to_owned(),
        kind,
        engine: engine.unwrap_or_default(),
        columns: columns.into_iter().map(column).collect(),
        unique: unique_indexes(indexes),
        triggers,
    }))
}

async fn foreign_keys(
    target: &mut Target,
    doing: &str,
    db: &str,
    name: &str,
) -> Result<ForeignKeys, WriterError> {
    let sql = format!(
        "SELECT constraint_schema={db} AND table_name={name}, \
         unique_constraint_schema={db} AND referenced_table_name={name}, \
         delete_rule NOT IN ('RESTRICT','NO ACTION') OR update_rule NOT IN ('RESTRICT','NO ACTION') \
         FROM information_schema.referential_constraints \
         WHERE (constraint_schema={db} AND table_name={name}) \
         OR (unique_constraint_schema={db} AND referenced_table_name={name})"
    );
    let keys: Vec<(u8, u8, u8)> = target.all(doing, &sql).await?;
    let mut foreign = ForeignKeys {
        any: !keys.is_empty(),
        ..ForeignKeys::default()
    };
    for (refers, is_referred_to, cascades) in keys {
        foreign.referred_to |= is_referred_to == 1;
        foreign.to_itself |= refers == 1 && is_referred_to == 1;
        foreign.cascades_here |= refers == 1 && cascades == 1;
        foreign.cascades_below |= is_referred_to == 1 && cascades == 1;
    }
    Ok(foreign)
}

fn column(row: ColumnRow) -> TargetColumn {
    let (
        name,
        data_type,
        column_type,
        length,
        precision,
        nullable,
        has_default,
        extra,
        character_set,
    ) = row;
    TargetColumn {
        name,
        data_type,
        column_type,
        length,
        precision,
        nullable: nullable == "YES",
        has_default: has_default == 1,
        extra,
        character_set,
    }
}

fn unique_indexes(rows: Vec<(String, Option<String>, Option<String>)>) -> Vec<UniqueIndex> {
    let mut indexes: Vec<UniqueIndex> = Vec::new();
    for (name, column, nullable) in rows {
        let nullable = nullable.is_some_and(|text| text.eq_ignore_ascii_case("YES"));
        match indexes.last_mut() {
            Some(index) if index.name == name => {
                index.columns.push(column);
                index.nullable |= nullable;
            }
            _ => indexes.push(UniqueIndex {
                name,
                columns: vec![column],
                nullable,
            }),
        }
    }
    indexes
}

/// A text as an SQL literal.
pub(crate) fn quote(text: &str) -> String {
    let mut sql = Vec::new();
    literal::text(&mut sql, text);
    String::from_utf8_lossy(&sql).into_owned()
}
