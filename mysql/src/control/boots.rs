//! Whether the server comes up fenced (rule 4), made sure of before anything sets `read_only`.

use super::procedures::boot;
use super::row::Answer;
use super::{ControlError, ControlSession};
use crate::session::Engine;

const DOING: &str = "see to it that the server boots fenced";

/// What a MySQL server has to come up with.
pub(super) const PERSISTED: [&str; 2] = ["read_only", "offline_mode"];

/// What is known about the next boot of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootsFenced {
    /// It boots with `read_only`: MySQL has it persisted, beside `offline_mode`; MariaDB's
    /// configuration had it at the start of this boot.
    Yes,
    /// MariaDB's configuration let this boot come up writable.
    No,
    /// MariaDB: somebody has set `read_only` in this boot before we looked, so its configuration
    /// cannot be told until the server starts again.
    NotKnown,
}

impl ControlSession {
    /// Makes the server boot fenced where that can be done by SQL, and says whether it does.
    /// **To be called before the first fence or opening of each boot**, after `install`; the
    /// answer is remembered in the server for the rest of that boot.
    pub async fn boots_fenced(&mut self) -> Result<BootsFenced, ControlError> {
        match self.engine {
            Engine::MySql => self.persist_fence().await,
            Engine::MariaDb => self.look_at_origin().await,
        }
    }

    /// MySQL: both in `mysqld-auto.cnf`, which is read after every other option and stays when the
    /// variables are set for the running server only. `offline_mode` beside `read_only`, since an
    /// ordinary session may commit under `read_only` what another one had prepared before the
    /// restart (tried on 9.7.4): the first fence of the boot lets ordinary sessions in, once no such
    /// transaction is left.
    async fn persist_fence(&mut self) -> Result<BootsFenced, ControlError> {
        let look = format!(
            "SELECT (SELECT COUNT(*) FROM performance_schema.persisted_variables \
             WHERE variable_name IN ('{}') AND variable_value IN ('ON', '1')), \
             @@GLOBAL.persisted_globals_load",
            PERSISTED.join("', '")
        );
        let mut sets = self.query(DOING, &look).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        let persisted: usize = answer.value(&mut row, 0, "persisted variables")?;
        let loaded: u8 = answer.value(&mut row, 1, "persisted_globals_load")?;
        if persisted < PERSISTED.len() {
            for variable in PERSISTED {
                let persist = format!("SET PERSIST_ONLY {variable} = ON");
                self.execute(DOING, &persist).await?;
            }
        }
        Ok(if loaded == 1 {
            BootsFenced::Yes
        } else {
            BootsFenced::No
        })
    }

    /// MariaDB: where the present value came from, which the first `SET` of a boot wipes out.
    async fn look_at_origin(&mut self) -> Result<BootsFenced, ControlError> {
        let look = format!(
            "SELECT {}, control.boot, control.boot_read_only, v.global_value_origin, \
             v.global_value FROM information_schema.system_variables AS v, \
             multiactive.control AS control WHERE v.variable_name = 'READ_ONLY'",
            boot(self.engine)
        );
        let mut sets = self.query(DOING, &look).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        let boot: i64 = answer.value(&mut row, 0, "boot")?;
        let seen_boot: i64 = answer.value(&mut row, 1, "boot")?;
        let seen_fenced: u8 = answer.value(&mut row, 2, "read_only")?;
        let origin: String = answer.value(&mut row, 3, "origin of read_only")?;
        let value: String = answer.value(&mut row, 4, "read_only")?;
        if boot == seen_boot {
            return Ok(if seen_fenced == 1 {
                BootsFenced::Yes
            } else {
                BootsFenced::No
            });
        }
        let fenced = match judge(&origin, &value) {
            BootsFenced::NotKnown => return Ok(BootsFenced::NotKnown),
            known => known,
        };
        let remember = format!(
            "UPDATE multiactive.control SET boot = {boot}, boot_read_only = {} WHERE id = 1",
            u8::from(fenced == BootsFenced::Yes)
        );
        self.unlogged(DOING, &remember).await?;
        Ok(fenced)
    }
}

/// `SQL` means that somebody has set it; every other origin is the configuration's or the default.
fn judge(origin: &str, value: &str) -> BootsFenced {
    if origin.eq_ignore_ascii_case("SQL") {
        return BootsFenced::NotKnown;
    }
    // From MariaDB 12 on the variable has words for values, of which only OFF lets writes in.
    if value.eq_ignore_ascii_case("OFF") || value == "0" {
        BootsFenced::No
    } else {
        BootsFenced::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_decides_whether_the_value_tells_anything() {
        assert_eq!(judge("CONFIG", "ON"), BootsFenced::Yes);
        assert_eq!(judge("COMPILE-TIME", "OFF"), BootsFenced::No);
        assert_eq!(judge("SQL", "ON"), BootsFenced::NotKnown);
        assert_eq!(judge("SQL", "OFF"), BootsFenced::NotKnown);
    }
}
