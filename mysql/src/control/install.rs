//! Making the schema `multiactive` on one server, never through the binlog.

use std::fmt::Write as _;
use std::time::Duration;

use model::{Generation, ServerIdentity};

use super::row::Answer;
use super::tables::{self, SCHEMA_VERSION};
use super::{ControlError, ControlSession, literal, procedures};

const DOING: &str = "install the schema multiactive";

/// The generation that the server obeys: of the newest arbiter process that has acted here.
pub(super) const OBEYED: &str = "SELECT COALESCE(MAX(generation), 0) FROM multiactive.control";

impl ControlSession {
    /// Makes the schema, its tables and procedures, and the server's identity, where they are not
    /// there yet; nothing of it is written to the binlog, and it works while the server is fenced.
    /// Where all is there it costs two round trips. Returns the identity.
    ///
    /// # Errors
    /// [`ControlError::SchemaNewer`] if a newer version of this software has been here.
    pub async fn install(&mut self) -> Result<ServerIdentity, ControlError> {
        let found = self.installed_version().await?;
        if let Some(found) = found
            && found > SCHEMA_VERSION
        {
            let endpoint = self.endpoint.clone();
            return Err(ControlError::SchemaNewer {
                endpoint,
                found,
                known: SCHEMA_VERSION,
            });
        }
        if found != Some(SCHEMA_VERSION) || !self.is_whole().await? {
            let parts = missing_parts();
            self.unlogged(DOING, &parts).await?;
            self.add_columns().await?;
            self.replace_procedures().await?;
            let rows = format!(
                "INSERT IGNORE INTO multiactive.identity (id, uuid) VALUES (1, UUID()); \
                 INSERT INTO multiactive.control (id, schema_version) VALUES (1, {SCHEMA_VERSION}) \
                 ON DUPLICATE KEY UPDATE schema_version = {SCHEMA_VERSION}"
            );
            self.unlogged(DOING, &rows).await?;
        }
        let mut sets = self
            .query(DOING, "SELECT MAX(uuid) FROM multiactive.identity")
            .await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        Ok(ServerIdentity(answer.value(&mut row, 0, "identity")?))
    }

    /// Remembers in the server that an arbiter process of this generation acts, so that `open`
    /// refuses every older one. To be called by each process before its first guard.
    /// Not logged.
    ///
    /// Where it is remembered already this only reads, so that it also works while the server
    /// holds all writes up for a backup.
    ///
    /// # Errors
    /// [`ControlError::Superseded`] if a newer process has acted here.
    pub async fn adopt(&mut self, generation: Generation) -> Result<(), ControlError> {
        if self.obeyed(generation).await? == generation {
            return Ok(());
        }
        let statement = format!(
            "UPDATE multiactive.control SET generation = GREATEST(generation, {}) WHERE id = 1",
            generation.0
        );
        self.unlogged("remember the generation of this arbiter", &statement)
            .await
    }

    /// The generation that the server obeys, which is this one or an earlier one.
    ///
    /// # Errors
    /// [`ControlError::Superseded`] if a newer process has acted here.
    pub(super) async fn obeyed(&mut self, own: Generation) -> Result<Generation, ControlError> {
        const DOING: &str = "read the generation of arbiters";
        // A lock on the table ends the wait after a second, with an answer.
        let patience = Duration::from_secs(2).max(self.patience);
        let mut sets = self.query_within(DOING, OBEYED, patience).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        let found: u64 = answer.value(&mut row, 0, "generation")?;
        let found = Generation(found);
        if found > own {
            return Err(self.superseded(own, found));
        }
        Ok(found)
    }

    pub(super) fn superseded(&self, own: Generation, found: Generation) -> ControlError {
        ControlError::Superseded {
            endpoint: self.endpoint.clone(),
            own: own.0,
            found: found.0,
        }
    }

    /// The version of the schema that is there; `None` where there is none.
    async fn installed_version(&mut self) -> Result<Option<u32>, ControlError> {
        let statement = "SELECT schema_version FROM multiactive.control WHERE id = 1";
        let mut sets = match self.query(DOING, statement).await {
            Ok(sets) => sets,
            Err(ControlError::NotInstalled { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if sets.first().is_none_or(Vec::is_empty) {
            return Ok(None);
        }
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        answer.value(&mut row, 0, "schema version").map(Some)
    }

    /// Whether every table, procedure and row of this version is there.
    async fn is_whole(&mut self) -> Result<bool, ControlError> {
        let names: Vec<String> = tables::TABLES
            .iter()
            .map(|(name, _)| literal(name))
            .collect();
        let mut condition = format!(
            "SELECT (SELECT COUNT(*) FROM information_schema.tables \
             WHERE table_schema = 'multiactive' AND table_name IN ({})) = {} \
             AND EXISTS (SELECT 1 FROM multiactive.identity)",
            names.join(", "),
            names.len()
        );
        for (table, column, _) in tables::ADDED {
            // Writing to a String cannot fail.
            let _ = write!(condition, " AND {}", has_column(table, column));
        }
        for (name, definition) in procedures::all(self.engine) {
            // Writing to a String cannot fail.
            let _ = write!(
                condition,
                " AND {}",
                procedure_is(name, &comment(&definition))
            );
        }
        let mut sets = self.query(DOING, &condition).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        Ok(answer.value::<u8>(&mut row, 0, "check of the schema")? == 1)
    }

    /// Adds the columns that a table of an earlier version lacks.
    async fn add_columns(&mut self) -> Result<(), ControlError> {
        for (table, column, definition) in tables::ADDED {
            let check = format!("SELECT {}", has_column(table, column));
            let mut sets = self.query(DOING, &check).await?;
            let answer = Answer {
                doing: DOING,
                endpoint: &self.endpoint,
            };
            let mut row = answer.row(&mut sets, 0)?;
            if answer.value::<u8>(&mut row, 0, "check of a column")? == 0 {
                let add =
                    format!("ALTER TABLE multiactive.`{table}` ADD COLUMN {column} {definition}");
                self.unlogged(DOING, &add).await?;
            }
        }
        Ok(())
    }

    /// Makes each procedure whose definition is not the one of this version.
    async fn replace_procedures(&mut self) -> Result<(), ControlError> {
        for (name, definition) in procedures::all(self.engine) {
            let comment = comment(&definition);
            let check = format!("SELECT {}", procedure_is(name, &comment));
            let mut sets = self.query(DOING, &check).await?;
            let answer = Answer {
                doing: DOING,
                endpoint: &self.endpoint,
            };
            let mut row = answer.row(&mut sets, 0)?;
            if answer.value::<u8>(&mut row, 0, "check of a procedure")? == 1 {
                continue;
            }
            let statements = format!(
                "DROP PROCEDURE IF EXISTS multiactive.{name}; {}",
                create_procedure(name, &definition)
            );
            self.unlogged(DOING, &statements).await?;
        }
        Ok(())
    }

    /// Runs statements outside the binlog. Where one fails the connection is given up, since its
    /// next statements would not be logged either.
    pub(super) async fn unlogged(
        &mut self,
        doing: &'static str,
        statements: &str,
    ) -> Result<(), ControlError> {
        let statements =
            format!("SET SESSION sql_log_bin = 0; {statements}; SET SESSION sql_log_bin = 1");
        let outcome = self.execute(doing, &statements).await;
        if outcome.is_err() {
            self.session = None;
        }
        outcome
    }
}

fn missing_parts() -> String {
    let mut statements = "CREATE DATABASE IF NOT EXISTS multiactive \
         DEFAULT CHARACTER SET utf8mb4 DEFAULT COLLATE utf8mb4_bin"
        .to_owned();
    for (name, columns) in tables::TABLES {
        statements.push_str("; ");
        statements.push_str(&tables::create(name, columns));
    }
    statements
}

fn has_column(table: &str, column: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = 'multiactive' \
         AND table_name = {} AND column_name = {})",
        literal(table),
        literal(column)
    )
}

fn procedure_is(name: &str, comment: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM information_schema.routines \
         WHERE routine_schema = 'multiactive' AND routine_name = {} AND routine_comment = {})",
        literal(name),
        literal(comment)
    )
}

/// The statement that makes a procedure. Its definition starts with the parameters; what it is
/// for and how it runs stands between those and the body.
fn create_procedure(name: &str, definition: &str) -> String {
    let characteristics = format!(
        "COMMENT {} SQL SECURITY INVOKER\nBEGIN",
        literal(&comment(definition))
    );
    let definition = definition.replacen("BEGIN", &characteristics, 1);
    format!("CREATE PROCEDURE multiactive.{name} {definition}")
}

/// Stands in the procedure's comment and tells whether it is the one of this build.
fn comment(definition: &str) -> String {
    let hash = definition
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("multiactive schema {SCHEMA_VERSION}, {hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Engine;

    #[test]
    fn a_changed_body_has_another_comment() {
        let [_, _, (_, guard), (_, open)] = procedures::all(Engine::MySql);
        assert_ne!(comment(&guard), comment(&open));
        assert_eq!(comment(&guard), comment(&guard));
    }

    #[test]
    fn the_definition_is_split_before_its_body() {
        let statement = create_procedure("p", "(IN a INT)\nBEGIN\n  BEGIN END;\nEND");
        assert!(
            statement.starts_with("CREATE PROCEDURE multiactive.p (IN a INT)\nCOMMENT 'multi"),
            "{statement}"
        );
        assert_eq!(statement.matches("INVOKER").count(), 1);
    }
}
