//! What the source's foreign keys do to other rows, where its binlog does not tell.

use change::sync::{ActingKey, KeysReply};
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
    let keys = source.acting_keys().await?;
    let at = source.executed().await?;
    let selection = &shared.filter.selection;
    let carried = keys
        .into_iter()
        .filter(|key| selection.has_table(&key.from.0, &key.from.1));
    Ok(KeysReply {
        logged: false,
        at: Some((&at).into()),
        keys: carried.map(told).collect(),
    })
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
