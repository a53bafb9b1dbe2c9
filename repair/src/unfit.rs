//! What keeps rows from being removed and put again in one transaction ([`crate::swap`]).

use crate::pair::Pair;
use crate::run::Run;
use crate::verdict::Images;

impl Run<'_> {
    /// Why rows that keep each other out must not be removed and put again, if so.
    pub(crate) fn unfit_for_a_group(&self, pair: &Pair, members: &[&Images]) -> Option<String> {
        let (repaired, quota) = (self.state.report.total().repaired, self.config.row_quota);
        let count = members.len();
        if repaired + count as u64 > quota {
            return Some(format!(
                "{repaired} rows were mended already, and {count} together would be more than \
                 rowQuota, which is {quota}: raise it"
            ));
        }
        if count == 1 {
            return None;
        }
        let rows = members
            .iter()
            .flat_map(|it| it.source.iter().chain(&it.target));
        let bytes: usize = rows.flatten().map(change::Value::weight).sum();
        let most = self.config.max_batch_bytes;
        if bytes as u64 > most {
            return Some(format!(
                "{count} rows would be written together, which take {bytes} bytes, and maxBatchSize \
                 is {most}: raise it"
            ));
        }
        let whole = pair.fit.is_whole();
        (!whole).then(|| {
            "rows would be removed and put again, and what a column holds that only the target has \
             would be lost: let the link copy the table anew (mactl repair --rebuild)"
                .to_owned()
        })
    }
}
