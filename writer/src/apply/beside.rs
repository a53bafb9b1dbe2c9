//! The other links to this target, by their rows.

use change::Position;

use super::Applier;
use crate::checkpoint::{Record, Snapshot};
use crate::error::WriterError;
use crate::target::lookup::quote;

/// A link from another member, as its row says.
pub(crate) struct Beside {
    pub name: String,
    /// Where it comes from.
    pub idc: String,
    /// `None` before the first.
    pub position: Option<Position>,
    /// The tables are being copied.
    pub copies: bool,
    pub record: Record,
}

/// Name, source, position, snapshot and ledger, as texts.
type Columns = (
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
);

impl Applier {
    /// All of them, locked if asked for, in the order in which a promotion locks them.
    pub(crate) async fn beside(&mut self, lock: bool) -> Result<Vec<Beside>, WriterError> {
        let sql = format!(
            "SELECT CAST(link AS CHAR), CAST(source AS CHAR), CAST(position AS CHAR), \
             CAST(snapshot AS CHAR), CAST(ledger AS CHAR) \
             FROM multiactive.applied ORDER BY link{}",
            if lock { " FOR UPDATE" } else { "" }
        );
        let rows: Vec<Columns> = self.target.all("reading multiactive.applied", &sql).await?;
        let source = self.config.source.idc.as_str();
        let others = rows.into_iter().filter(|row| row.1 != source);
        others.map(read).collect()
    }

    /// Writes a row anew. Its writer finds it changed, and begins anew from there.
    pub(crate) async fn move_beside(
        &mut self,
        doing: &'static str,
        mut link: Beside,
    ) -> Result<(), WriterError> {
        link.record.serial += 1;
        let mut set = format!("ledger={}", quote(&link.record.text()?));
        if let Some(position) = &link.position {
            let position = quote(&position.to_string());
            set.push_str(&format!(", position={position}, at=UTC_TIMESTAMP(6)"));
        }
        let sql = format!(
            "UPDATE multiactive.applied SET {set} WHERE link={}",
            quote(&link.name)
        );
        self.target.execute(doing, sql.as_bytes()).await
    }
}

fn read((name, idc, position, snapshot, ledger): Columns) -> Result<Beside, WriterError> {
    let record = ledger.as_deref().map(Record::parse).transpose()?;
    let position = position.filter(|text| !text.is_empty());
    Ok(Beside {
        name,
        idc,
        position: position.map(|text| text.parse()).transpose()?,
        copies: Snapshot::parse(snapshot.as_deref())?.is_under_way(),
        record: record.unwrap_or_default(),
    })
}
