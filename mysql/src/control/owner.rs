//! Which Unit a server belongs to, said in the server itself. A Unit owns its servers, since
//! `read_only` is the whole server's; arbiters of two installations, or of two IDCs that reach one
//! server under two names, meet nowhere else.
//!
//! The table has one row, and is never logged. Its Unit writes it anew every few seconds. Whoever
//! finds another Unit's name there keeps its hands off the server.

use model::{IdcName, ServerIdentity, UnitKey};

use super::row::Answer;
use super::{ControlError, ControlSession, literal};

const DOING: &str = "look whose server this is";

/// An owner that has not written its name for so long is not at work. By the server's clock alone.
const QUIET_SECONDS: i64 = 30;

/// Who claims a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The installation: its prefix in etcd. Which etcd it is, `multiactive.memory` tells.
    pub installation: String,
    /// The Unit.
    pub unit: UnitKey,
    /// The IDC whose arbiter says so.
    pub idc: IdcName,
}

/// Who stands in the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerRow {
    /// The installation.
    pub installation: String,
    /// The Unit, as `namespace/name`.
    pub unit: String,
    /// The IDC whose arbiter wrote it.
    pub idc: String,
    /// Whether it was written lately, or a guard runs: the owner is at work.
    pub at_work: bool,
    /// Which server this is.
    pub identity: ServerIdentity,
}

/// Whose a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// The claimant's, from now on or already.
    Claimed,
    /// Nobody's yet, and it was not claimed.
    Free,
    /// Another Unit's.
    Foreign(OwnerRow),
}

impl ControlSession {
    /// Which server this is, and who stands in the row; `None` where nobody does.
    ///
    /// # Errors
    /// [`ControlError::NotInstalled`] where the table is not there: no schema, or one of before it.
    pub async fn owner(&mut self) -> Result<(ServerIdentity, Option<OwnerRow>), ControlError> {
        // Without an identity, which a person may take away to have a new one made, there is a row too.
        let statement = format!(
            "SELECT i.uuid, o.installation, o.unit, o.idc, \
             ABS(TIMESTAMPDIFF(SECOND, o.at, SYSDATE(6))) < {QUIET_SECONDS} \
             FROM (SELECT 1 AS id) AS one LEFT JOIN multiactive.identity AS i ON i.id = one.id \
             LEFT JOIN multiactive.owner AS o ON o.id = one.id"
        );
        let mut sets = self.query(DOING, &statement).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        let row = &mut row;
        let identity: Option<String> = answer.value(row, 0, "identity")?;
        let identity = ServerIdentity(identity.unwrap_or_default());
        let Some(installation) = answer.value::<Option<String>>(row, 1, "installation")? else {
            return Ok((identity, None));
        };
        let owner = OwnerRow {
            installation,
            unit: answer.value(row, 2, "unit")?,
            idc: answer.value(row, 3, "IDC")?,
            at_work: answer.value::<u8>(row, 4, "age")? != 0,
            identity: identity.clone(),
        };
        Ok((identity, Some(owner)))
    }

    /// Whose the server is, without a write where it is nobody's or the claimant's: so it also works
    /// while the server holds all writes up for a backup, which must not keep anybody from fencing.
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub async fn claimed(
        &mut self,
        owner: &Owner,
        may_take: impl Fn(&ServerIdentity, Option<&OwnerRow>) -> bool,
    ) -> Result<Ownership, ControlError> {
        match self.owner().await?.1 {
            None => Ok(Ownership::Free),
            Some(row) if owner.is(&row) => Ok(Ownership::Claimed),
            Some(_) => self.claim(owner, may_take).await,
        }
    }

    /// Claims the server, or says anew that it is the claimant's. `may_take` is asked whether a
    /// server that is nobody's may be claimed (`None`), or one whose owner is not at work.
    ///
    /// # Errors
    /// [`ControlError::NotInstalled`] where the table is not there: no schema, or one of before it.
    pub async fn claim(
        &mut self,
        owner: &Owner,
        may_take: impl Fn(&ServerIdentity, Option<&OwnerRow>) -> bool,
    ) -> Result<Ownership, ControlError> {
        let (identity, found) = self.owner().await?;
        let mut before = String::new();
        match found {
            None if !may_take(&identity, None) => return Ok(Ownership::Free),
            Some(mut row) if !owner.is(&row) => {
                // A holder always has a guard, and it lives on where its arbiter does not.
                row.at_work |= !self.guards_running().await?.is_empty();
                if row.at_work || !may_take(&identity, Some(&row)) {
                    return Ok(Ownership::Foreign(row));
                }
                // Only if it is still that one: it may have come back, or a third been faster.
                before = format!(
                    "DELETE FROM multiactive.owner WHERE installation = {} AND unit = {} \
                     AND ABS(TIMESTAMPDIFF(SECOND, at, SYSDATE(6))) >= {QUIET_SECONDS}; ",
                    literal(&row.installation),
                    literal(&row.unit)
                );
            }
            _ => {}
        }
        let (installation, unit) = (
            literal(&owner.installation),
            literal(&owner.unit.to_string()),
        );
        let idc = literal(owner.idc.as_str());
        self.unlogged(
            DOING,
            &format!(
                "{before}INSERT IGNORE INTO multiactive.owner (id, installation, unit, idc, at) \
             VALUES (1, {installation}, {unit}, {idc}, SYSDATE(6)); \
             UPDATE multiactive.owner SET at = SYSDATE(6), idc = {idc} \
             WHERE id = 1 AND installation = {installation} AND unit = {unit}"
            ),
        )
        .await?;
        Ok(match self.owner().await?.1 {
            Some(row) if owner.is(&row) => Ownership::Claimed,
            Some(row) => Ownership::Foreign(row),
            None => Ownership::Free,
        })
    }
}

impl Owner {
    fn is(&self, row: &OwnerRow) -> bool {
        row.installation == self.installation && row.unit == self.unit.to_string()
    }
}
