//! Row events of both engines: images of changed rows.

use bytes::Bytes;
use change::{Row, RowChange, RowFlags, TableSchema, Value};

use crate::event::inflate;
use crate::input::{Defect, Input};
use crate::table_map::TableMap;
use crate::value::{self, Layout};

/// What a row event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsKind {
    /// New rows.
    Insert,
    /// Changed rows.
    Update,
    /// Removed rows.
    Delete,
}

/// A row event, its images not yet read.
#[derive(Debug, Clone)]
pub struct RowsEvent {
    /// What it does.
    pub kind: RowsKind,
    /// Which table map it refers to.
    pub table_id: u64,
    /// The last one of its statement: table maps are forgotten after it.
    pub ends_statement: bool,
    /// How keys were checked.
    pub flags: RowFlags,
    columns: usize,
    complete: bool,
    images: Bytes,
}

impl RowsEvent {
    /// Reads all but the images. `version` is 1 or 2; `compressed` is MariaDB's compression.
    pub fn read(
        kind: RowsKind,
        version: u8,
        compressed: bool,
        mut input: Input,
    ) -> Result<Self, Defect> {
        const STATEMENT_END: u16 = 1;
        const NO_FOREIGN_KEY_CHECKS: u16 = 2;
        const RELAXED_UNIQUE_CHECKS: u16 = 4;
        const COMPLETE_ROWS: u16 = 8;
        // MySQL 9.6 and later: USE_SQL_FOREIGN_KEY_F.
        const SQL_FOREIGN_KEYS: u16 = 16;
        // MariaDB: NO_CHECK_CONSTRAINT_CHECKS_F.
        const NO_CHECK_CONSTRAINT_CHECKS: u16 = 128;
        const KNOWN: u16 = STATEMENT_END
            | NO_FOREIGN_KEY_CHECKS
            | RELAXED_UNIQUE_CHECKS
            | COMPLETE_ROWS
            | SQL_FOREIGN_KEYS
            | NO_CHECK_CONSTRAINT_CHECKS;
        let table_id = input.little(6)?;
        let flags = input.u16()?;
        // A flag may say that the rows mean something else.
        if flags & !KNOWN != 0 {
            let unknown = flags & !KNOWN;
            return Err(Defect(format!(
                "a row event with the unknown flags {unknown:#x}"
            )));
        }
        if version == 2 {
            // The length counts itself.
            let extra = usize::from(input.u16()?);
            input.skip(extra.saturating_sub(2))?;
        }
        let columns = input.count()?;
        let mut complete = all_set(&input.take(columns.div_ceil(8))?, columns);
        if kind == RowsKind::Update {
            complete &= all_set(&input.take(columns.div_ceil(8))?, columns);
        }
        Ok(Self {
            kind,
            table_id,
            ends_statement: flags & STATEMENT_END != 0,
            flags: RowFlags {
                no_foreign_key_checks: flags & NO_FOREIGN_KEY_CHECKS != 0,
                relaxed_unique_checks: flags & RELAXED_UNIQUE_CHECKS != 0,
                logs_cascades: flags & SQL_FOREIGN_KEYS != 0,
            },
            columns,
            complete,
            images: if compressed { inflate(input)? } else { input.0 },
        })
    }

    /// Whether it only ends a statement and holds nothing.
    pub fn is_dummy(&self) -> bool {
        const DUMMY_TABLE_ID: u64 = 0xff_ffff;
        self.table_id == DUMMY_TABLE_ID
    }

    /// Whether each image has all columns.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether it has as many columns as the table map.
    pub fn fits(&self, table: &TableMap) -> bool {
        self.columns == table.layouts.len()
    }

    /// Reads the changes one after the other.
    pub fn changes<'a>(&self, schema: &'a TableSchema, layouts: &'a [Layout]) -> Changes<'a> {
        Changes {
            kind: self.kind,
            schema,
            layouts,
            input: Input(self.images.clone()),
        }
    }

    /// How many rows are changed, without decoding their values.
    pub fn count(&self, layouts: &[Layout]) -> Result<u64, Defect> {
        let mut input = Input(self.images.clone());
        let mut count = 0;
        while !input.is_empty() {
            skip_image(layouts, &mut input)?;
            if self.kind == RowsKind::Update {
                skip_image(layouts, &mut input)?;
            }
            count += 1;
        }
        Ok(count)
    }
}

fn all_set(bitmap: &[u8], count: usize) -> bool {
    (0..count).all(|index| bitmap[index / 8] & (1 << (index % 8)) != 0)
}

/// The changes of one row event.
pub struct Changes<'a> {
    kind: RowsKind,
    schema: &'a TableSchema,
    layouts: &'a [Layout],
    input: Input,
}

impl Iterator for Changes<'_> {
    type Item = Result<RowChange, Defect>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.input.is_empty() {
            return None;
        }
        let mut image = || image(self.schema, self.layouts, &mut self.input);
        let change = match self.kind {
            RowsKind::Insert => image().map(|after| RowChange::Insert { after }),
            RowsKind::Delete => image().map(|before| RowChange::Delete { before }),
            RowsKind::Update => image().and_then(|before| {
                Ok(RowChange::Update {
                    before,
                    after: image()?,
                })
            }),
        };
        if change.is_err() {
            // What follows cannot be found.
            self.input = Input(Bytes::new());
        }
        Some(change)
    }
}

/// A bit for each column that is NULL, then the values of the others.
fn image(schema: &TableSchema, layouts: &[Layout], input: &mut Input) -> Result<Row, Defect> {
    let columns = &schema.columns;
    let nulls = input.take(columns.len().div_ceil(8))?;
    let mut row = Vec::with_capacity(columns.len());
    for (index, (column, layout)) in columns.iter().zip(layouts).enumerate() {
        row.push(if nulls[index / 8] & (1 << (index % 8)) != 0 {
            Value::Null
        } else {
            value::decode(column, *layout, input)
                .map_err(|defect| Defect(format!("column {}: {defect}", column.name)))?
        });
    }
    Ok(row)
}

fn skip_image(layouts: &[Layout], input: &mut Input) -> Result<(), Defect> {
    let nulls = input.take(layouts.len().div_ceil(8))?;
    for (index, layout) in layouts.iter().enumerate() {
        if nulls[index / 8] & (1 << (index % 8)) == 0 {
            value::skip(*layout, input)?;
        }
    }
    Ok(())
}
