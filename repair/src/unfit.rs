//! What keeps rows from being removed and put again in one transaction ([`crate::swap`]).

use crate::error::RepairError;
use crate::pair::{End, Pair};
use crate::run::Run;
use crate::verdict::Images;

impl Run<'_> {
    /// Why rows that keep each other out must not be removed and put again, if so.
    pub(crate) async fn unfit_for_a_group(
        &mut self,
        pair: &Pair,
        members: &[&Images],
    ) -> Result<Option<String>, RepairError> {
        let (repaired, quota) = (self.state.report.total().repaired, self.config.row_quota);
        let count = members.len();
        if repaired + count as u64 > quota {
            return Ok(Some(format!(
                "{repaired} rows were mended already, and {count} together would be more than \
                 rowQuota, which is {quota}: raise it"
            )));
        }
        let rows = members
            .iter()
            .flat_map(|it| it.source.iter().chain(&it.target));
        let bytes: usize = rows.flatten().map(change::Value::weight).sum();
        let most = self.config.max_batch_bytes;
        if bytes as u64 > most {
            return Ok(Some(format!(
                "{count} rows would be written together, which take {bytes} bytes, and maxBatchSize \
                 is {most}: raise it"
            )));
        }
        if let Some(column) = self.only_there(pair).await? {
            return Ok(Some(format!(
                "rows would be removed and put again, and what column {column} holds, which only the \
                 target has, would be lost: let the link copy the table anew (mactl repair --rebuild)"
            )));
        }
        Ok(None)
    }

    /// A column that only the target has and that it does not compute.
    async fn only_there(&mut self, pair: &Pair) -> Result<Option<String>, RepairError> {
        let (database, table) = (pair.database(), pair.table());
        let Some(info) = self.ends.target.describe(database, table).await? else {
            return Err(RepairError::Changed(pair.name.clone()));
        };
        let is_compared = |name: &str| {
            (0..pair.columns.len()).any(|index| pair.column(index, End::Target).name == name)
        };
        let mut columns = info.columns.into_iter();
        let own = columns.find(|column| !column.generated && !is_compared(&column.name));
        Ok(own.map(|column| column.name))
    }
}
