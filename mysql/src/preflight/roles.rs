//! MariaDB: accounts that hold a privilege through a role. `information_schema.user_privileges`
//! leaves roles out, those who may take one and what it gives (seen on 10.11.19).

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::prelude::Queryable;

use super::privileges::Grants;
use crate::session::Session;

/// An account, a role it may take, and what that gives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ByRole {
    /// `'user'@'host'`, or `PUBLIC` for everybody.
    pub account: String,
    /// The role that is granted to it.
    pub role: String,
    /// Of the privileges that were asked for.
    pub held: String,
}

/// A row of `mysql.roles_mapping`: whoever is granted a role; roles have no host.
type Mapping = (String, String, String);

/// Who holds any of these privileges through a role, whether or not it is the default one: anybody
/// may `SET ROLE` to what was granted.
pub(super) async fn holding(
    session: &mut Session,
    privileges: &[&str],
) -> Result<Vec<ByRole>, mysql_async::Error> {
    let roles: Vec<String> = session
        .conn
        .query("SELECT user FROM mysql.user WHERE is_role = 'Y'")
        .await?;
    let mut given = BTreeMap::new();
    for role in roles {
        // What it got of other roles is among the lines.
        let name = if role == "PUBLIC" {
            role.clone()
        } else {
            format!("`{}`", role.replace('`', "``"))
        };
        let lines: Vec<String> = session
            .conn
            .query(format!("SHOW GRANTS FOR {name}"))
            .await?;
        let mut grants = Grants::default();
        for line in &lines {
            grants.add(line);
        }
        let held: Vec<&str> = privileges
            .iter()
            .copied()
            .filter(|privilege| grants.holds(privilege, None))
            .collect();
        if !held.is_empty() {
            given.insert(role, held.join(", "));
        }
    }
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let mappings: Vec<Mapping> = session
        .conn
        .query("SELECT user, host, role FROM mysql.roles_mapping")
        .await?;
    Ok(accounts(&given, mappings))
}

/// The accounts among those to whom such roles are granted. Pure.
fn accounts(given: &BTreeMap<String, String>, mappings: Vec<Mapping>) -> Vec<ByRole> {
    let mut found: BTreeSet<ByRole> = mappings
        .into_iter()
        // A role that was granted to a role is in what that one gives.
        .filter(|(_, host, _)| !host.is_empty())
        .filter_map(|(user, host, role)| {
            Some(ByRole {
                account: format!("'{user}'@'{host}'"),
                held: given.get(&role)?.clone(),
                role,
            })
        })
        .collect();
    found.extend(given.get("PUBLIC").map(|held| ByRole {
        account: "PUBLIC".to_owned(),
        role: "PUBLIC".to_owned(),
        held: held.clone(),
    }));
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_through_their_roles() {
        let given = [("sup", "SUPER"), ("outer", "SUPER")];
        let given = given.map(|(role, held)| (role.to_owned(), held.to_owned()));
        let mappings = [
            ("app", "%", "sup"),
            ("outer", "", "sup"),
            ("b", "10.%", "outer"),
            ("c", "%", "harmless"),
        ];
        let mappings = mappings
            .map(|(user, host, role)| (user.to_owned(), host.to_owned(), role.to_owned()))
            .to_vec();
        let found = accounts(&given.into(), mappings);
        let named: Vec<(&str, &str)> = found
            .iter()
            .map(|it| (it.account.as_str(), it.role.as_str()))
            .collect();
        assert_eq!(named, [("'app'@'%'", "sup"), ("'b'@'10.%'", "outer")]);
    }
}
