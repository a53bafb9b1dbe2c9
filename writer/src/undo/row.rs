//! One row taken back: read and locked, compared in the canonical codec, then set.

use change::{Row, TableChange};

use super::inverse::Inverse;
use super::transaction::Set;
use crate::aftermath::Aftermath;
use crate::apply::Applier;
use crate::error::WriterError;
use crate::sql::plan::{Plan, describe_row};
use crate::target::row::{locked, show};
use crate::target::table::Mapping;

impl Applier {
    /// Takes one change of a row back, in the open transaction. A row that is already as it was
    /// before the change is left alone.
    pub(super) async fn take_back(
        &mut self,
        set: &Set,
        change: &TableChange,
        mapping: &std::sync::Arc<Mapping>,
        inverse: &Inverse<'_>,
    ) -> Result<(), WriterError> {
        let Some(place) = inverse.expected.or(inverse.wanted) else {
            return Ok(());
        };
        let found = locked(&mut self.target, &change.table, mapping, place).await?;
        if found.as_ref() != inverse.expected {
            if self
                .is_back(change, mapping, inverse, found.as_ref())
                .await?
            {
                return Ok(());
            }
            return Err(Box::new(Aftermath::NotAsLeft {
                table: change.table.to_string(),
                key: describe_row(place, mapping, true),
                expected: show(inverse.expected, mapping),
                wanted: show(inverse.wanted, mapping),
                found: show(found.as_ref(), mapping),
                gtid: set.gtid.clone(),
                pass: self.pass_statement(set),
            })
            .into());
        }
        let Some(back) = inverse.change() else {
            return Ok(());
        };
        // Each row is set by itself to what it was, so neither a cascade nor the order of parents
        // and children matters: all of them are in the binlog, or it would have been refused.
        let mut flags = change.flags;
        flags.no_foreign_key_checks = true;
        let back = TableChange {
            table: std::sync::Arc::clone(&change.table),
            lenient: false,
            flags,
            rows: vec![back],
        };
        let mut plan = Plan::new(true);
        plan.change(&back, mapping);
        for request in plan.finish() {
            self.run_known(&request, &set.gtid).await?;
        }
        Ok(())
    }

    /// Whether the row is as it was before the change.
    async fn is_back(
        &mut self,
        change: &TableChange,
        mapping: &Mapping,
        inverse: &Inverse<'_>,
        found: Option<&Row>,
    ) -> Result<bool, WriterError> {
        let same_place = match (inverse.expected, inverse.wanted) {
            (Some(left), Some(before)) => mapping
                .key
                .iter()
                .all(|column| left[column.index] == before[column.index]),
            _ => true,
        };
        if same_place {
            return Ok(found == inverse.wanted);
        }
        // The key changed: nothing at the new one, and at the old one what was there.
        let Some(before) = inverse.wanted.filter(|_| found.is_none()) else {
            return Ok(false);
        };
        let old = locked(&mut self.target, &change.table, mapping, before).await?;
        Ok(old.as_ref() == Some(before))
    }
}
