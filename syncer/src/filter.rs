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

    fn statement(&self, query: &QueryEvent) -> StatementUse {
        let shown = query.shown();
        let (statement, lacking, classified) = match classify(query) {
            Ok(classified) => classified,
            Err(_) if self.concerns_others(query) => return StatementUse::Skip,
            Err(unclear) => return refuse(unknown(&unclear, &shown), String::new(), Vec::new()),
        };
        let Classified {
            class,
            verb,
            objects,
        } = classified;
        if class == Class::Ignored || !objects.iter().any(|object| self.selects(object)) {
            return StatementUse::Skip;
        }
        let named = objects.iter().map(named).collect();
        if class == Class::Rows {
            return refuse(of_rows(&shown), verb, named);
        }
        let refusal = match class {
            _ if self.ddl == DdlPolicy::Ignore => {
                return StatementUse::Leave {
                    objects: named,
                    verb,
                };
            }
            Class::ServerEvent => Some(server_event(&shown)),
            _ => self
                .unfit(&verb, &objects, &shown)
                .or_else(|| lacking.map(|setting| around(&setting, &shown))),
        };
        match refusal {
            Some(refusal) => refuse(refusal, verb, named),
            None => StatementUse::Send {
                statement,
                verb,
                objects: named,
            },
        }
    }
}

fn refuse(refusal: Refusal, verb: String, objects: Vec<DdlObject>) -> StatementUse {
    StatementUse::Refuse {
        refusal,
        verb,
        objects,
    }
}

fn named(object: &Object) -> DdlObject {
    DdlObject {
        database: object.database.clone(),
        name: object.name.clone(),
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
        fix: "Do by hand at the target what it did here, then skip it; report the statement"
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
            "Do by hand at the target what it did here, then skip it; from now on run such a \
             statement without {setting}"
        ),
    }
}

fn of_rows(shown: &str) -> Refusal {
    Refusal {
        reason: "StatementFormat",
        what: format!("a change of rows was logged as a statement: {shown}"),
        fix:
            "SET GLOBAL binlog_format = 'ROW', also in the session that set it otherwise. Skip the \
              transaction, then let mactl repair bring what it changed"
                .to_owned(),
    }
}

fn server_event(shown: &str) -> Refusal {
    Refusal {
        reason: "ServerEvent",
        what: format!("a statement about a server-side EVENT was met: {shown}"),
        fix: "An EVENT must run on one member only, which links do not see to yet: make it by hand on \
              each other member with sql_log_bin = 0, and DISABLE it on all but one; then skip the \
              statement"
            .to_owned(),
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

    /// Why a DDL statement of the link's cannot be carried, if so.
    fn unfit(&self, verb: &str, objects: &[Object], shown: &str) -> Option<Refusal> {
        let of_others = |object: &Object| !self.selects(object);
        let (reason, what, fix) = if objects.iter().any(of_others) {
            (
                "DdlAcrossSelection",
                "a statement was met that touches tables of the link and others",
                "Do by hand at the target what it did to the link's tables, then skip it; from now on \
                 use a statement for each table, or take both tables into the link",
            )
        } else if verb.ends_with(" SEQUENCE") {
            (
                "Sequence",
                "a statement about a SEQUENCE was met",
                "Links do not carry sequences yet: use AUTO_INCREMENT, or exclude the sequence from \
                 the link and make it by hand on each member with a start and an increment of its own",
            )
        } else if verb == "DROP DATABASE" && self.selects_some_only(objects) {
            (
                "DropsMore",
                "a database was dropped of which the link selects some tables only, and to drop it at \
                 the target would take with it what the target has beside them",
                "Drop at the target what is to go there, the whole database or the link's tables in \
                 it, then skip the statement",
            )
        } else if self.ddl == DdlPolicy::Halt {
            (
                "Ddl",
                "DDL was met, and the link's setting is ddl: Halt",
                "Do the same at the target, then skip the statement; or set ddl: Apply",
            )
        } else {
            return None;
        };
        Some(Refusal {
            reason,
            what: format!("{what}: {shown}"),
            fix: fix.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
