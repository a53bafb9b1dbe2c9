//! What the source's foreign keys do to other rows, where its binlog does not tell: then the same keys
//! have to do it at the target.

use change::sync::{ActingKey, KeysReply, TableName};
use mysql::foreign_keys;

use crate::error::PullError;
use crate::pull::Shared;
use crate::source::Source;

/// The keys of the link's tables that act, and a place in the binlog behind which they are as told.
///
/// # Errors
/// The source cannot be asked.
pub async fn read(shared: &Shared) -> Result<KeysReply, PullError> {
    let mut source = Source::connect(&shared.source).await?;
    if source.logs_cascades().await? {
        return Ok(KeysReply {
            logged: true,
            ..KeysReply::default()
        });
    }
    let selection = &shared.filter.selection;
    let keys = source.acting_keys(selection).await?;
    let tables = source.table_names(selection).await?;
    let at = source.executed().await?;
    let carried = keys
        .into_iter()
        .filter(|key| selection.has_table(&key.from.0, &key.from.1));
    Ok(KeysReply {
        logged: false,
        at: Some((&at).into()),
        keys: carried.map(told).collect(),
        tables: tables.into_iter().map(named).collect(),
    })
}

fn named((database, table): (String, String)) -> TableName {
    TableName { database, table }
}

fn told(key: foreign_keys::ActingKey) -> ActingKey {
    let (columns, to_columns) = key.columns.into_iter().unzip();
    ActingKey {
        database: key.from.0,
        table: key.from.1,
        to_database: key.to.0,
        to_table: key.to.1,
        columns,
        to_columns,
        on_delete: key.on_delete,
        on_update: key.on_update,
    }
}
