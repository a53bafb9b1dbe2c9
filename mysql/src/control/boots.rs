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
    /// The server's configuration let this boot come up writable.
    No,
    /// Somebody has set `read_only` in this boot before we looked, so its configuration cannot be
    /// told until the server starts again.
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
    ///
    /// A server that is started with `--no-defaults` reads no such file, and
    /// `persisted_globals_load` does not tell (tried on 9.7.4): the next boot does.
    async fn persist_fence(&mut self) -> Result<BootsFenced, ControlError> {
        let look = format!(
            "SELECT (SELECT COUNT(*) FROM performance_schema.persisted_variables \
             WHERE variable_name IN ('{}') AND variable_value IN ('ON', '1')), \
             @@GLOBAL.persisted_globals_load, {}, control.boot, control.boot_read_only, \
             (SELECT MAX(variable_source) FROM performance_schema.variables_info \
             WHERE variable_name = 'offline_mode'), (SELECT MAX(variable_source) \
             FROM performance_schema.variables_info WHERE variable_name = 'read_only'), \
             @@GLOBAL.read_only FROM multiactive.control AS control",
            PERSISTED.join("', '"),
            boot(self.engine)
        );
        let mut sets = self.query(DOING, &look).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        let persisted: usize = answer.value(&mut row, 0, "persisted variables")?;
        let loads = answer.value::<u8>(&mut row, 1, "persisted_globals_load")? == 1;
        let boot: i64 = answer.value(&mut row, 2, "boot")?;
        let seen_boot: i64 = answer.value(&mut row, 3, "boot")?;
        let seen_fenced: u8 = answer.value(&mut row, 4, "read_only")?;
        let offline: String = answer.value(&mut row, 5, "source of offline_mode")?;
        let read_only: String = answer.value(&mut row, 6, "source of read_only")?;
        let is_read_only = answer.value::<u8>(&mut row, 7, "read_only")? == 1;
        let fenced = if persisted < PERSISTED.len() {
            for variable in PERSISTED {
                let persist = format!("SET PERSIST_ONLY {variable} = ON");
                self.execute(DOING, &persist).await?;
            }
            // What is persisted anew in the middle of a boot tells nothing of how that one began.
            loads && (boot != seen_boot || seen_fenced == 1)
        } else if boot == seen_boot {
            return Ok(known(loads && seen_fenced == 1));
        } else {
            match judge_persisted(&offline, &read_only, is_read_only) {
                BootsFenced::NotKnown => return Ok(BootsFenced::NotKnown),
                told => loads && told == BootsFenced::Yes,
            }
        };
        self.remember_boot(boot, fenced).await?;
        Ok(known(fenced))
    }

    /// The answer is the same for the rest of the boot, whatever is set meanwhile.
    async fn remember_boot(&mut self, boot: i64, fenced: bool) -> Result<(), ControlError> {
        let remember = format!(
            "UPDATE multiactive.control SET boot = {boot}, boot_read_only = {} WHERE id = 1",
            u8::from(fenced)
        );
        self.unlogged(DOING, &remember).await
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
            return Ok(known(seen_fenced == 1));
        }
        let fenced = judge(&origin, &value);
        if fenced != BootsFenced::NotKnown {
            self.remember_boot(boot, fenced == BootsFenced::Yes).await?;
        }
        Ok(fenced)
    }
}

fn known(fenced: bool) -> BootsFenced {
    if fenced {
        BootsFenced::Yes
    } else {
        BootsFenced::No
    }
}

/// What a boot of MySQL shows, by where the values came from, that began with both persisted. Nobody
/// but a fence or a guard sets `offline_mode`, so its source is told for longer.
fn judge_persisted(offline: &str, read_only: &str, is_read_only: bool) -> BootsFenced {
    match (offline, read_only) {
        ("PERSISTED", _) => BootsFenced::Yes,
        ("DYNAMIC", _) | (_, "DYNAMIC") => BootsFenced::NotKnown,
        // They were not read. Its configuration may say it all the same; what was prepared before a
        // restart is shut out only by the first fence then.
        _ => known(is_read_only),
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
    fn a_boot_tells_whether_what_was_persisted_is_read() {
        let judge = judge_persisted;
        assert_eq!(judge("PERSISTED", "PERSISTED", true), BootsFenced::Yes);
        assert_eq!(judge("PERSISTED", "DYNAMIC", false), BootsFenced::Yes);
        assert_eq!(judge("COMPILED", "COMPILED", false), BootsFenced::No);
        assert_eq!(judge("COMPILED", "COMMAND_LINE", true), BootsFenced::Yes);
        assert_eq!(judge("COMPILED", "DYNAMIC", true), BootsFenced::NotKnown);
        assert_eq!(judge("DYNAMIC", "PERSISTED", true), BootsFenced::NotKnown);
    }

    #[test]
    fn the_origin_decides_whether_the_value_tells_anything() {
        assert_eq!(judge("CONFIG", "ON"), BootsFenced::Yes);
        assert_eq!(judge("COMPILE-TIME", "OFF"), BootsFenced::No);
        assert_eq!(judge("SQL", "ON"), BootsFenced::NotKnown);
        assert_eq!(judge("SQL", "OFF"), BootsFenced::NotKnown);
    }
}
