//! The session that a statement of the source needs, made out of what the target has.

use change::{Ddl, Flavor, Transaction};
use mysql::session::Engine;

use super::{BY_HAND, refused, session};
use crate::apply::Applier;
use crate::error::WriterError;
use crate::sql::charset;
use crate::target::lookup::quote;

impl Applier {
    pub(super) async fn has_database(&mut self, name: &str) -> Result<bool, WriterError> {
        let sql = format!(
            "SELECT 1 FROM information_schema.schemata WHERE schema_name={}",
            quote(name)
        );
        let found: Option<u8> = self.target.first("looking for a database", &sql).await?;
        Ok(found.is_some())
    }

    pub(super) fn ddl_settings(
        &self,
        transaction: &Transaction,
        ddl: &Ddl,
    ) -> Result<String, WriterError> {
        let from = match source_flavor(transaction) {
            Flavor::MySql => Engine::MySql,
            Flavor::MariaDb => Engine::MariaDb,
        };
        let to = self.target.engine();
        let mode = session::sql_mode(ddl.session.sql_mode, from, to).map_err(|bit| {
            refused(
                transaction,
                ddl,
                &format!(
                    "it ran with bit {bit} of sql_mode, which the target's engine does not have: \
                     {BY_HAND}"
                ),
            )
        })?;
        Ok(session::settings(&ddl.session, &mode, to))
    }

    /// Sets the statement's character set and collations, by the names that the target has for
    /// them.
    pub(super) async fn charset_settings(
        &mut self,
        transaction: &Transaction,
        ddl: &Ddl,
    ) -> Result<String, WriterError> {
        let session = &ddl.session;
        let unknown = |what: &str, id: u16| {
            refused(
                transaction,
                ddl,
                &format!("the target does not know its {what}, number {id}: {BY_HAND}"),
            )
        };
        let client = match session.charset_client {
            0 => "utf8mb4",
            id => charset::of_collation(id).ok_or_else(|| unknown("character set", id))?,
        };
        let mut sql = format!("SET SESSION character_set_client={client}");
        for (variable, id) in [
            ("collation_connection", session.collation_connection),
            ("collation_server", session.collation_server),
        ] {
            if id == 0 {
                continue;
            }
            match self.collation_name(id).await? {
                Some(name) => {
                    sql.push_str(&format!(", {variable}={name}"));
                }
                // It matters only where a database is made without saying its character set.
                None if variable == "collation_server" && ddl.verb != "CREATE DATABASE" => {}
                None if variable == "collation_connection" => {
                    let charset =
                        charset::of_collation(id).ok_or_else(|| unknown("collation", id))?;
                    sql.push_str(&format!(", character_set_connection={charset}"));
                }
                None => return Err(unknown("server collation", id)),
            }
        }
        Ok(sql)
    }

    pub(super) async fn collation_name(&mut self, id: u16) -> Result<Option<String>, WriterError> {
        let doing = "looking for a collation";
        let plain =
            format!("SELECT collation_name FROM information_schema.collations WHERE id={id}");
        let found: Option<String> = self.target.first(doing, &plain).await?;
        if found.is_some() || self.target.engine() == Engine::MySql || id < 2048 {
            return Ok(found);
        }
        // MariaDB 10.10 and later; earlier ones have no collation of such a number.
        let full = format!(
            "SELECT full_collation_name FROM information_schema.collation_character_set_applicability \
             WHERE id={id}"
        );
        self.target.first(doing, &full).await
    }
}

fn source_flavor(transaction: &Transaction) -> Flavor {
    transaction
        .position
        .as_ref()
        .map_or(Flavor::MySql, change::Position::flavor)
}
