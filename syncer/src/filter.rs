//! Decides what of the source's binlog goes on the link.

use std::sync::Arc;

use binlog::{Birth, Filter, QueryEvent, Refusal, StatementUse, TableUse};
use bytes::Bytes;
use change::{DdlObject, Gtid};
use model::{DdlPolicy, IdcName};
use mysql::origin::Origins;
use mysql::select::{OWN_SCHEMA, Selection};

use crate::ddl::{self, Class, Classified, Object, Unclear, Unwrapped};

/// The filter of one link.
#[derive(Debug, Clone)]
pub struct LinkFilter {
    /// Tells where transactions were born.
    pub origins: Arc<Origins>,
    /// Which tables are copied.
    pub selection: Arc<Selection>,
    /// What happens to DDL.
    pub ddl: DdlPolicy,
    /// Of a link that relays, its target: all is sent but what came from there.
    pub relay_to: Option<IdcName>,
}

impl Filter for LinkFilter {
    fn birth(&self, gtid: &Gtid) -> Result<Birth, Refusal> {
        if let Some(target) = &self.relay_to
            && !self.origins.is_of(gtid, self.origins.own())
        {
            // What is handed on is the source's from here on: its target marks it so. Where links
            // join servers like a tree, which the operator sees to, nothing comes anywhere twice.
            let local = !self.origins.is_of(gtid, target);
            let idc = if local { self.origins.own() } else { target };
            return Ok(Birth {
                idc: idc.to_string(),
                local,
                relayed: local && may_be_applied(gtid),
            });
        }
        let idc = self.origins.of(gtid).map_err(|error| Refusal {
            reason: "Origin",
            what: error.to_string(),
            fix: "Check that every IDC whose changes reach this server is a member of the Unit, or, \
                  without a Unit, set relay: true on this link, which hands them on; and that nothing \
                  but multiactive writes with its origin marks"
                .to_owned(),
        })?;
        Ok(Birth {
            idc: idc.to_string(),
            local: idc == self.origins.own(),
            relayed: false,
        })
    }

    fn table(&self, database: &str, table: &str) -> TableUse {
        if database == OWN_SCHEMA {
            return match table {
                "heartbeat" => TableUse::Heartbeat,
                "epoch" => TableUse::Epoch,
                "watermark" => TableUse::Watermark,
                "applied" => TableUse::Checkpoint,
                // Not sent, but worth telling the writer of: whoever writes it waits until the
                // target's checkpoint has passed it.
                "fence" => TableUse::Skip,
                _ => TableUse::Bookkeeping,
            };
        }
        if self.selection.has_table(database, table) {
            TableUse::Send
        } else {
            TableUse::Skip
        }
    }

    fn statement(&self, query: &QueryEvent) -> Result<StatementUse, Refusal> {
        let shown = String::from_utf8_lossy(&query.statement).into_owned();
        let classified = classify(query);
        let (statement, lacking, classified) = match classified {
            Ok(classified) => classified,
            Err(_) if self.concerns_others(query) => return Ok(StatementUse::Skip),
            Err(unclear) => return Err(unknown(&unclear, &shown)),
        };
        let Classified {
            class,
            verb,
            objects,
        } = classified;
        let decided = match class {
            Class::Ignored => Ok(StatementUse::Skip),
            Class::Rows => self.rows(&objects, &shown),
            Class::ServerEvent => self.server_event(&objects, &shown),
            Class::Ddl => self.objects(verb, &objects, statement, &shown),
        };
        match (decided, lacking) {
            (Ok(StatementUse::Send { .. }), Some(setting)) => Err(around(&setting, &shown)),
            (decided, _) => decided,
        }
    }
}

/// What is to be run, a setting around it that the target would lack, and what it does.
fn classify(query: &QueryEvent) -> Result<(Bytes, Option<String>, Classified), Unclear> {
    let mode = query.session.sql_mode;
    let Unwrapped { begins, lacking } = ddl::unwrap(&query.statement, mode)?;
    let statement = query.statement.slice(begins..);
    let classified = ddl::classify(&statement, &query.database, mode)?;
    Ok((statement, lacking, classified))
}

fn unknown(unclear: &Unclear, shown: &str) -> Refusal {
    Refusal {
        reason: "UnknownStatement",
        what: format!("a statement was met whose objects cannot be told, since {unclear}: {shown}"),
        fix:
            "Do by hand at the target what it did here, then let the link copy the tables that it \
              concerns anew; report the statement"
                .to_owned(),
    }
}

/// Of a statement with settings of its own, one that no target is given.
fn around(setting: &str, shown: &str) -> Refusal {
    Refusal {
        reason: "StatementSetting",
        what: format!(
            "a statement was met that SET STATEMENT runs with {setting}, a setting that links do not \
             carry: {shown}"
        ),
        fix: format!(
            "Do by hand at the target what it did here, then let the link copy the tables that it \
             concerns anew; from now on run such a statement without {setting}"
        ),
    }
}

/// Whether a transaction may have been applied by a writer. On MySQL such a one bears a tag; which of
/// MariaDB's domains are marks of IDCs that this link has not heard of cannot be told.
fn may_be_applied(gtid: &Gtid) -> bool {
    match gtid {
        Gtid::MySql(gtid) => !gtid.tag.is_empty(),
        Gtid::MariaDb(_) => true,
    }
}

impl LinkFilter {
    fn selects(&self, object: &Object) -> bool {
        match (&object.name, object.scope) {
            (Some(name), ddl::Scope::Table) => self.selection.has_table(&object.database, name),
            _ => self.selection.has_database(&object.database),
        }
    }

    /// Whether a statement that cannot be read can be about databases of others only: that of the
    /// session is one, and nowhere in the text are the letters of one of the link's. Names that are
    /// not ASCII may be written in other bytes.
    fn concerns_others(&self, query: &QueryEvent) -> bool {
        let text = query.statement.to_ascii_lowercase();
        let may_name = |database: &String| {
            let name = database.replace('`', "``").to_ascii_lowercase();
            !name.is_ascii() || text.windows(name.len()).any(|part| part == name.as_bytes())
        };
        !query.database.is_empty()
            && !self.selection.has_database(&query.database)
            && !self.selection.databases().iter().any(may_name)
    }

    /// Whether the table patterns leave out something that one of these databases could have.
    fn selects_some_only(&self, databases: &[Object]) -> bool {
        let mut names = databases.iter().map(|object| &object.database);
        !names.all(|name| self.selection.has_all_tables(name))
    }

    fn rows(&self, objects: &[Object], shown: &str) -> Result<StatementUse, Refusal> {
        if !objects
            .iter()
            .any(|object| self.selection.has_database(&object.database))
        {
            return Ok(StatementUse::Skip);
        }
        Err(Refusal {
            reason: "StatementFormat",
            what: format!("a change of rows was logged as a statement: {shown}"),
            fix: "SET GLOBAL binlog_format = 'ROW', also in the session that set it otherwise, \
                  then let the link copy the table anew"
                .to_owned(),
        })
    }

    fn server_event(&self, objects: &[Object], shown: &str) -> Result<StatementUse, Refusal> {
        if !objects
            .iter()
            .any(|object| self.selection.has_database(&object.database))
        {
            return Ok(StatementUse::Skip);
        }
        Err(Refusal {
            reason: "ServerEvent",
            what: format!("a statement about a server-side EVENT was met: {shown}"),
            fix: "An EVENT must run on one member only, which links do not see to yet: make it by \
                  hand on each member with sql_log_bin = 0, and DISABLE it on all but one. To go \
                  on from here, let the link copy its tables anew"
                .to_owned(),
        })
    }

    fn objects(
        &self,
        verb: String,
        objects: &[Object],
        statement: Bytes,
        shown: &str,
    ) -> Result<StatementUse, Refusal> {
        let selected = objects.iter().filter(|object| self.selects(object)).count();
        if selected == 0 {
            return Ok(StatementUse::Skip);
        }
        if selected < objects.len() {
            return Err(Refusal {
                reason: "DdlAcrossSelection",
                what: format!(
                    "a statement was met that touches tables of the link and others: {shown}"
                ),
                fix:
                    "Do by hand at the target what it did to the link's tables, then let the link \
                      copy them anew; from now on use a statement for each table, or take both \
                      tables into the link"
                        .to_owned(),
            });
        }
        if verb.ends_with(" SEQUENCE") {
            return Err(Refusal {
                reason: "Sequence",
                what: format!("a statement about a SEQUENCE was met: {shown}"),
                fix:
                    "Links do not carry sequences yet: use AUTO_INCREMENT, or exclude the sequence \
                      from the link and make it by hand on each member with a start and an \
                      increment of its own"
                        .to_owned(),
            });
        }
        let named = || {
            objects
                .iter()
                .map(|Object { database, name, .. }| DdlObject {
                    database: database.clone(),
                    name: name.clone(),
                })
                .collect()
        };
        if verb == "DROP DATABASE"
            && self.ddl == DdlPolicy::Apply
            && self.selects_some_only(objects)
        {
            return Err(Refusal {
                reason: "DropsMore",
                what: format!(
                    "a database was dropped of which the link selects some tables only, and to drop \
                     it at the target would take with it what the target has beside them: {shown}"
                ),
                fix: "Drop at the target what is to go there, the whole database or the link's tables \
                      in it, then set ddl: Ignore until the link has passed this statement"
                    .to_owned(),
            });
        }
        match self.ddl {
            DdlPolicy::Ignore => Ok(StatementUse::Leave {
                objects: named(),
                verb,
            }),
            DdlPolicy::Halt => Err(Refusal {
                reason: "Ddl",
                what: format!("DDL was met, and the link's setting is ddl: Halt: {shown}"),
                fix: "Do the same at the target, then set ddl: Ignore until the link has passed \
                      this statement, or set ddl: Apply"
                    .to_owned(),
            }),
            DdlPolicy::Apply => Ok(StatementUse::Send {
                statement,
                verb,
                objects: named(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
