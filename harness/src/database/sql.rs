//! SQL through the servers' own client: nothing of the product is in what this says.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Database, Engine};
use crate::shell;

/// The rows of a result, each value as the client prints it. A NULL is the text `NULL`.
pub type Rows = Vec<Vec<String>>;

/// Who runs a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// `root`, through the server's socket.
    Root,
    /// The application's account, over the network, without any privilege that passes `read_only`.
    App,
    /// The product's account, over the network.
    Product,
}

impl Database {
    /// Runs statements as `root`.
    pub fn root(&self, sql: &str) -> Result<Rows> {
        self.query(Account::Root, sql)
    }

    /// Runs statements as an application would.
    pub fn app(&self, sql: &str) -> Result<Rows> {
        self.query(Account::App, sql)
    }

    /// Runs statements, separated by semicolons, and returns the rows of all their results.
    pub fn query(&self, account: Account, sql: &str) -> Result<Rows> {
        let output = shell::text_with_input(&mut self.client(account), sql).with_context(|| {
            format!(
                "SQL on {} in {} as {account:?}: {sql}",
                self.engine.name(),
                self.idc
            )
        })?;
        Ok(output
            .lines()
            .map(|line| line.split('\t').map(unescape).collect())
            .collect())
    }

    /// The first value of the first row.
    pub fn value(&self, account: Account, sql: &str) -> Result<String> {
        let rows = self.query(account, sql)?;
        rows.into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .with_context(|| format!("no row on {} in {}: {sql}", self.engine.name(), self.idc))
    }

    /// Lets everybody write, as a person does who runs this server without the product.
    pub fn open(&self) -> Result<()> {
        self.root("SET GLOBAL read_only = 0").map(drop)
    }

    /// The number of rows of a table and a digest of all their values that does not depend on their
    /// order. Equal on both engines for equal data, except for the types that the engines print
    /// differently (JSON, and FLOAT beyond its exact range).
    pub fn checksum(&self, schema: &str, table: &str) -> Result<(u64, u64)> {
        let columns = self.root(&format!(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = '{schema}' \
             AND table_name = '{table}' ORDER BY ordinal_position"
        ))?;
        if columns.is_empty() {
            bail!(
                "no table {schema}.{table} on {} in {}",
                self.engine.name(),
                self.idc
            );
        }
        // CONCAT makes text of numbers, HEX makes one character set of all, and no hexadecimal
        // digit is an N.
        let values: Vec<String> = columns
            .iter()
            .flatten()
            .map(|column| format!("COALESCE(HEX(CONCAT(`{column}`)), 'N')"))
            .collect();
        let rows = self.root(&format!(
            "SELECT COUNT(*), COALESCE(BIT_XOR(CAST(CONV(SUBSTRING(SHA2(CONCAT_WS('#', {}), 256), \
             1, 16), 16, 10) AS UNSIGNED)), 0) FROM `{schema}`.`{table}`",
            values.join(", ")
        ))?;
        match rows.first().map(Vec::as_slice) {
            Some([count, digest]) => Ok((count.parse()?, digest.parse()?)),
            _ => bail!(
                "no checksum of {schema}.{table} on {} in {}",
                self.engine.name(),
                self.idc
            ),
        }
    }

    /// The servers' own client for an account, ready for statements on standard input.
    pub fn client(&self, account: Account) -> Command {
        let mut client = shell::command(
            "mariadb",
            [
                "--no-defaults",
                "--batch",
                "--skip-column-names",
                "--default-character-set=utf8mb4",
            ],
        );
        client.arg("--connect-timeout=5");
        let (user, password) = match account {
            Account::Root => {
                client
                    .args(["--user=root", "--protocol=socket", "--socket"])
                    .arg(&self.socket);
                return client;
            }
            Account::App => (&self.app_user, &self.app_password),
            Account::Product => (&self.user, &self.password),
        };
        client.args(["--protocol=tcp", "--host", &self.host]);
        client
            .arg(format!("--port={}", self.port))
            .arg(format!("--user={user}"));
        // By the environment rather than the command line, where every process can read it.
        client.env("MYSQL_PWD", password);
        if self.engine == Engine::MySql {
            // caching_sha2_password sends the password itself, the first time, and only under TLS.
            client.args(["--ssl", "--skip-ssl-verify-server-cert"]);
        }
        client
    }
}

/// Undoes the client's escapes in batch mode.
fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match rest.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('0') => plain.push('\0'),
            Some(other) => plain.push(other),
            None => plain.push('\\'),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escapes_of_batch_mode_are_undone() {
        assert_eq!(unescape(r"a\tb\nc\\d\0"), "a\tb\nc\\d\0");
        assert_eq!(unescape("plain"), "plain");
    }
}
