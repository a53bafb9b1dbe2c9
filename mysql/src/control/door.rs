//! Keeping ordinary sessions out while a server is closed for writes.
//!
//! `SET GLOBAL read_only = ON` waits for every statement that is under way, and a long one that was
//! killed has to be rolled back first. While it waits other sessions can commit: tried on MariaDB
//! 10.11.19 with an UPDATE that had run for four seconds, for 2.1 s more, by sessions that were
//! killed and had connected again. So the door is shut first, which waits for nothing.
//!
//! MySQL has `offline_mode` for that. On MariaDB it is `init_connect`, which is executed for each
//! new session whose account lacks `CONNECTION ADMIN`, and ends the session when it fails. What stood
//! there is kept within it and put back when the door is opened; a restart forgets it, as the server
//! comes up fenced (rule 4).

use super::procedures::DOOR;
use super::{ControlError, ControlSession};
use crate::session::Engine;

/// What MariaDB's `init_connect` begins with while the door is shut, as a literal. The former value
/// follows in hexadecimal.
const SHUT: &str = "'SIGNAL SQLSTATE ''45000'' SET MESSAGE_TEXT = \
     ''multiactive: the server is being closed for writes'' /* was='";

/// Whether the door is shut: an expression.
pub(super) fn is_shut(engine: Engine) -> String {
    match engine {
        Engine::MySql => "@@GLOBAL.offline_mode".to_owned(),
        Engine::MariaDb => shows_shut("@@GLOBAL.init_connect"),
    }
}

fn shows_shut(value: &str) -> String {
    format!("(LEFT({value}, CHAR_LENGTH({SHUT})) = {SHUT})")
}

/// Shuts the door: a statement.
pub(super) fn shut() -> String {
    format!("CALL multiactive.{DOOR}(1)")
}

/// Opens it: a statement.
pub(super) fn open() -> String {
    format!("CALL multiactive.{DOOR}(0)")
}

/// The definition of the procedure that does both. It changes nothing where nothing is to be changed,
/// and reads MariaDB's variable once: two that open at the same time must not take what the first one
/// has put back for what the door had kept. Setting MySQL's anew would end whoever is logging in, our
/// own sessions too.
pub(super) fn procedure(engine: Engine) -> String {
    match engine {
        Engine::MySql => "(IN p_shut TINYINT)
BEGIN
  IF p_shut = 1 AND @@GLOBAL.offline_mode = 0 THEN SET GLOBAL offline_mode = ON;
  ELSEIF p_shut = 0 AND @@GLOBAL.offline_mode = 1 THEN SET GLOBAL offline_mode = OFF;
  END IF;
END"
        .to_owned(),
        Engine::MariaDb => format!(
            "(IN p_shut TINYINT)
BEGIN
  DECLARE v_now TEXT CHARACTER SET utf8mb4 DEFAULT COALESCE(@@GLOBAL.init_connect, '');
  IF p_shut = 1 AND NOT {shows_shut} THEN
    SET GLOBAL init_connect = CONCAT({SHUT}, HEX(v_now), ' */');
  ELSEIF p_shut = 0 AND {shows_shut} THEN
    SET GLOBAL init_connect = COALESCE(CONVERT(UNHEX(SUBSTRING_INDEX(
      SUBSTRING_INDEX(v_now, 'was=', -1), ' ', 1)) USING utf8mb4), '');
  END IF;
END",
            shows_shut = shows_shut("v_now")
        ),
    }
}

impl ControlSession {
    /// Lets ordinary sessions in where a fence or a guard that did not end has kept them out.
    pub async fn open_door(&mut self) -> Result<(), ControlError> {
        self.execute("admit ordinary sessions", &open()).await
    }
}
