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

use crate::session::Engine;

/// What MariaDB's `init_connect` begins with while the door is shut, as a literal. The former value
/// follows in hexadecimal.
const SHUT: &str = "'SIGNAL SQLSTATE ''45000'' SET MESSAGE_TEXT = \
     ''multiactive: the server is being closed for writes'' /* was='";

/// Whether the door is shut: an expression.
pub(super) fn is_shut(engine: Engine) -> String {
    match engine {
        Engine::MySql => "@@GLOBAL.offline_mode".to_owned(),
        Engine::MariaDb => {
            format!("(LEFT(@@GLOBAL.init_connect, CHAR_LENGTH({SHUT})) = {SHUT})")
        }
    }
}

/// Shuts it: a statement that changes nothing where it is shut.
pub(super) fn shut(engine: Engine) -> String {
    match engine {
        Engine::MySql => "SET GLOBAL offline_mode = ON".to_owned(),
        Engine::MariaDb => format!(
            "SET GLOBAL init_connect = IF({shut}, @@GLOBAL.init_connect, \
             CONCAT({SHUT}, HEX(CONVERT(@@GLOBAL.init_connect USING utf8mb4)), ' */'))",
            shut = is_shut(engine)
        ),
    }
}

/// Opens it: a statement that changes nothing where it is open.
pub(super) fn open(engine: Engine) -> String {
    match engine {
        Engine::MySql => "SET GLOBAL offline_mode = OFF".to_owned(),
        Engine::MariaDb => format!(
            "SET GLOBAL init_connect = IF({shut}, CONVERT(UNHEX(SUBSTRING_INDEX(SUBSTRING_INDEX(\
             @@GLOBAL.init_connect, 'was=', -1), ' ', 1)) USING utf8mb4), @@GLOBAL.init_connect)",
            shut = is_shut(engine)
        ),
    }
}
