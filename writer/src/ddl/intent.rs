//! What is recorded before a statement runs, and what it tells a writer that comes after.

use change::{Ddl, Gtid, Transaction};
use mysql::session::Engine;

use super::DDL_SERVER_ID;
use super::decide::{self, Decision, Intent};
use crate::apply::Applier;
use crate::error::WriterError;
use crate::target::lookup::quote;

impl Applier {
    pub(super) async fn decide_ddl(
        &mut self,
        transaction: &Transaction,
        gtid: &Gtid,
        now: &str,
    ) -> Result<Decision, WriterError> {
        let key = quote(&transaction.gtid);
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
        let head = number
            .map(|number| format!("/* number {number} */ "))
            .unwrap_or_default();
        let statement = format!("{head}{}", ddl.statement_lossy());
        let sql = format!(
            "SET SESSION sql_log_bin=0; \
             REPLACE INTO multiactive.ddl (gtid, statement, `before`, at) \
             VALUES ({}, {}, {}, UTC_TIMESTAMP(6)); SET SESSION sql_log_bin=1",
            quote(&transaction.gtid),
            quote(&statement),
            quote(before)
        );
        self.target
            .execute("writing to multiactive.ddl", sql.as_bytes())
            .await
    }

    /// An intent that is not forgotten does no harm: the checkpoint is past it.
    pub(super) async fn forget_intent(&mut self, gtid: &str) -> Result<(), WriterError> {
        let sql = format!(
            "SET SESSION sql_log_bin=0; DELETE FROM multiactive.ddl WHERE gtid={}; \
             SET SESSION sql_log_bin=1",
            quote(gtid)
        );
        self.target
            .execute("writing to multiactive.ddl", sql.as_bytes())
            .await
    }
}

fn recorded_number(statement: &str) -> Option<u64> {
    statement
        .strip_prefix("/* number ")?
        .split(' ')
        .next()?
        .parse()
        .ok()
}
