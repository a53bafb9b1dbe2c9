//! Statements on tables that routes give another name, or bring together with others.
//!
//! None is replayed: its text names the source's tables, and what it does to one of several source
//! tables must not be done to the rows of the others. A person does at the target what of it is
//! wanted there. One statement needs nobody: a new source table whose rows go to a table that is
//! there already.

use change::Ddl;

use crate::apply::Applier;
use crate::error::WriterError;
use crate::target::lookup::look_up;

impl Applier {
    /// Why a statement is not replayed, if it meets a route.
    pub(super) fn meets_route(&self, ddl: &Ddl) -> Option<String> {
        let routes = self.mappings.routes();
        let met = |object: &change::DdlObject| {
            let route = routes.met_by(&object.database, object.name.as_deref())?;
            Some((object.clone(), route.clone()))
        };
        let Some((object, route)) = ddl.objects.iter().find_map(met) else {
            return self.refers_unchecked(ddl);
        };
        let database = &object.database;
        let (what, at) = match &object.name {
            Some(name) => {
                let (to_database, to_table) = routes.target(database, name);
                let at = format!("{to_database}.{to_table}");
                (format!("{database}.{name}"), at)
            }
            None => (format!("the database {database}"), route.to.clone()),
        };
        let (to_database, to_table) = route.target();
        let others = if routes.shares(to_database, to_table) {
            ", which may hold rows of other source tables, and those must stay"
        } else {
            ""
        };
        Some(format!(
            "tables.routes (from {} to {}) meets {what}, and a statement on what is routed is never \
             run as it is; at the target it is about {at}{others}",
            route.from, route.to
        ))
    }

    /// Where foreign keys are not checked, one to a table that has another name at the target is made
    /// there all the same, and does nothing.
    fn refers_unchecked(&self, ddl: &Ddl) -> Option<String> {
        let route = self.mappings.routes().all().first()?;
        let text = ddl.statement_lossy().to_ascii_uppercase();
        let refers = !ddl.session.foreign_key_checks && text.contains("REFERENCES");
        refers.then(|| {
            format!(
                "it was run with foreign_key_checks=0, and its foreign keys may be to tables that \
                 tables.routes (from {} to {}, ...) gives another name; run it at the target with the \
                 names that are there",
                route.from, route.to
            )
        })
    }

    /// Whether a statement only makes source tables whose rows go to tables that are there: nothing is
    /// to be done for that. Whether the rows fit is looked at when some come.
    pub(super) async fn makes_what_is_there(&mut self, ddl: &Ddl) -> Result<bool, WriterError> {
        // CREATE OR REPLACE TABLE drops the table before.
        let text = ddl.statement_lossy().to_ascii_uppercase();
        if ddl.verb != "CREATE TABLE" || text.contains("REPLACE") {
            return Ok(false);
        }
        for object in &ddl.objects {
            let routes = self.mappings.routes();
            let Some(name) = object.name.as_deref() else {
                return Ok(false);
            };
            if routes.met_by(&object.database, Some(name)).is_none() {
                return Ok(false);
            }
            let (database, table) = routes.target(&object.database, name);
            let (database, table) = (database.to_owned(), table.to_owned());
            let found = look_up(&mut self.target, &database, &table).await?;
            if found.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
