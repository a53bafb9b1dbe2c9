//! What is recorded before a statement runs, and what it tells a writer that comes after.

use change::{Ddl, Gtid, Position, Transaction};
use model::LinkKey;
use mysql::session::Engine;
use sha2::{Digest as _, Sha256};

use super::DDL_SERVER_ID;
use super::decide::{self, Decision, Intent};
use crate::apply::Applier;
use crate::checkpoint;
use crate::error::WriterError;
use crate::target::lookup::quote;
use crate::target::session::Target;

impl Applier {
    pub(super) async fn decide_ddl(
        &mut self,
        transaction: &Transaction,
        gtid: &Gtid,
        now: &str,
    ) -> Result<Decision, WriterError> {
        let key = quote(&self.intent_key(&transaction.gtid));
        let recorded: Option<(String, String)> = self
            .target
            .first(
                "reading multiactive.ddl",
                &format!(
                    "SELECT `before`, CAST(statement AS CHAR) FROM multiactive.ddl WHERE gtid={key}"
                ),
            )
            .await?;
        let intent = recorded.as_ref().map(|(before, _)| Intent {
            before: before.clone(),
        });
        if self.target.engine() == Engine::MySql {
            let own = decide::derived_gtid(gtid, &self.config.source.idc);
            let executed = self.gtid_executed(&own).await?;
            return Ok(decide::on_mysql(intent.as_ref(), executed));
        }
        let number = recorded
            .as_ref()
            .and_then(|(_, statement)| recorded_number(statement));
        let (of_server, _) = self.binlog_numbers().await?;
        let logged = number.is_some_and(|number| of_server >= number);
        Ok(decide::on_mariadb(intent.as_ref(), logged, now))
    }

    pub(super) async fn gtid_executed(&mut self, gtid: &str) -> Result<bool, WriterError> {
        let sql = format!(
            "SELECT GTID_SUBSET({}, @@GLOBAL.gtid_executed)",
            quote(gtid)
        );
        let answer: Option<u8> = self.target.first("reading gtid_executed", &sql).await?;
        Ok(answer == Some(1))
    }

    pub(super) async fn binlog_numbers(&mut self) -> Result<(u64, u64), WriterError> {
        let state: Option<String> = self
            .target
            .first(
                "reading gtid_binlog_state",
                "SELECT @@GLOBAL.gtid_binlog_state",
            )
            .await?;
        let domain = mysql::origin::origin_domain(&self.config.source.idc);
        Ok(decide::last_numbers(
            &state.unwrap_or_default(),
            domain,
            DDL_SERVER_ID,
        ))
    }

    /// Records that a statement is about to run. Outside the binlog, so that it stays with this
    /// server.
    pub(super) async fn record_intent(
        &mut self,
        transaction: &Transaction,
        ddl: &Ddl,
        before: &str,
        number: Option<u64>,
    ) -> Result<(), WriterError> {
        let number = number
            .map(|number| format!("number {number} "))
            .unwrap_or_default();
        let statement = format!(
            "{}{number}*/ {}",
            head(&self.config.link),
            ddl.statement_lossy()
        );
        let sql = format!(
            "SET SESSION sql_log_bin=0; \
             REPLACE INTO multiactive.ddl (gtid, statement, `before`, at) \
             VALUES ({}, {}, {}, UTC_TIMESTAMP(6)); SET SESSION sql_log_bin=1",
            quote(&self.intent_key(&transaction.gtid)),
            quote(&statement),
            quote(before)
        );
        self.target
            .execute("writing to multiactive.ddl", sql.as_bytes())
            .await
    }

    /// A writer that ends before this leaves the intent to [`forget_intents_before`].
    pub(super) async fn forget_intent(&mut self, gtid: &str) -> Result<(), WriterError> {
        self.target
            .execute(
                "writing to multiactive.ddl",
                delete(&self.intent_key(gtid)).as_bytes(),
            )
            .await
    }

    /// Under which name an intent is recorded. Members of a Unit never give out one GTID twice; servers
    /// that only links join may, where they are MariaDB with one `server_id`.
    pub(super) fn intent_key(&self, gtid: &str) -> String {
        if self.config.unit.is_some() {
            return gtid.to_owned();
        }
        let digest = Sha256::digest(self.config.link.to_string().as_bytes());
        format!("{gtid} {}", checkpoint::to_hex(&digest[..8]))
    }
}

/// Forgets the intents of this link whose statements the checkpoint is past: the writer that
/// recorded them ended after the checkpoint was written. A source that is built anew and gives out
/// their GTIDs again would otherwise find its statements done.
pub(crate) async fn forget_intents_before(
    target: &mut Target,
    link: &LinkKey,
    position: &Position,
) -> Result<(), WriterError> {
    let sql = format!(
        "SELECT CAST(gtid AS CHAR), CAST(statement AS CHAR) FROM multiactive.ddl \
         WHERE LEFT(statement, {0})={1}",
        head(link).chars().count(),
        quote(&head(link))
    );
    let recorded: Vec<(String, String)> = target.all("reading multiactive.ddl", &sql).await?;
    for (text, statement) in recorded {
        // What cannot be read is not of this source; it does no harm where it is.
        let gtid = text.split(' ').next().unwrap_or_default();
        let Ok(gtid) = gtid.parse::<Gtid>() else {
            continue;
        };
        if position.contains_gtid(&gtid) {
            tracing::info!(
                gtid = text,
                statement,
                "a statement is done, its intent is forgotten"
            );
            target
                .execute("writing to multiactive.ddl", delete(&text).as_bytes())
                .await?;
        }
    }
    Ok(())
}

/// What a recorded statement of a link begins with; a number and `*/` follow. A link's name holds
/// nothing that would end a comment.
fn head(link: &LinkKey) -> String {
    format!("/* link {link} ")
}

fn delete(gtid: &str) -> String {
    format!(
        "SET SESSION sql_log_bin=0; DELETE FROM multiactive.ddl WHERE gtid={}; \
         SET SESSION sql_log_bin=1",
        quote(gtid)
    )
}

fn recorded_number(statement: &str) -> Option<u64> {
    let (head, _) = statement.split_once(" */ ")?;
    let (_, number) = head.rsplit_once(" number ")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_read_from_the_head_only() {
        let link: LinkKey = "shop/a".parse().unwrap();
        let with = format!(
            "{}number 17 */ ALTER TABLE t COMMENT ' number 5 */ '",
            head(&link)
        );
        assert_eq!(recorded_number(&with), Some(17));
        let without = format!("{}*/ ALTER TABLE t COMMENT ' number 5 */ '", head(&link));
        assert_eq!(recorded_number(&without), None);
    }
}
