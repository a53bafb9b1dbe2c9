//! The procedures that run inside the server: `cut`, `door`, `guard` and `open`.
//!
//! Their names end in a version, since a procedure cannot be replaced while a `CALL` of it runs
//! (the `DROP` waits for it), and a writable member always runs one: a newer version is made
//! beside the older one, whose last guard then ends by itself. They run with the rights of whoever
//! calls them, so having `EXECUTE` on the schema gives nobody anything.
//!
//! Tried on MySQL 9.7.4 and MariaDB 10.11.19:
//! - while a procedure sleeps by a *prepared* `DO SLEEP`, the process list shows that statement's
//!   text, comment included; that is how a guard's deadline is read from outside;
//! - `KILL QUERY` ends one sleep and not the guard; `KILL CONNECTION` ends it;
//! - `KILL` takes a variable inside a procedure; `SET GLOBAL` takes constants there;
//! - with `--sysdate-is-now` the guard works too: the time is taken anew for each statement of a
//!   procedure;
//! - `SYSDATE` is the time of its call, in the session's zone; a session's `timestamp` does not
//!   move it.
//!
//! Known limit: both servers sleep until an instant of `CLOCK_REALTIME`. Setting the clock *back*
//! during a sleep lengthens it by as much, so a guard notices only then. The arbiter, which reads
//! the server's clock at each guard that it starts, is what notices at once.

use super::door;
use crate::session::Engine;

/// What the sleeping statement of a guard looks like in the process list.
pub(super) const GUARD_MARK: &str = "DO SLEEP(0.05) /* multiactive.guard deadline=";

/// Names of the procedures of this version.
pub(super) const CUT: &str = "cut_2";
pub(super) const DOOR: &str = "door_1";
pub(super) const GUARD: &str = "guard_3";
pub(super) const OPEN: &str = "open_4";

/// A deadline counts from a reading of the server's clock that is at most so old when the server
/// meets it, in microseconds. A clock that was set back since lies before the reading, and one that
/// was set forwards by more makes it look old: either would move the deadline.
const OLDEST_READING: u32 = 800_000;

/// The server's lock of whoever writes with our account as an application would.
pub const LOCAL_WRITER: &str = "multiactive.local";

/// The server's lock of whoever opens it, from before its checks until its end.
pub(super) const OPENING: &str = "multiactive.open";

/// The server's clock in UTC microseconds since 1970, in sessions whose zone is UTC.
pub(super) const CLOCK: &str =
    "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00.000000', SYSDATE(6))";

/// The process list as a table.
pub(crate) fn process_list(engine: Engine) -> &'static str {
    match engine {
        // The table of the same name in information_schema is deprecated and takes a global lock.
        Engine::MySql => "performance_schema.processlist",
        Engine::MariaDb => "information_schema.processlist",
    }
}

/// The start of this boot in seconds since 1970: an expression that gives the same value at every
/// evaluation, exactly. Both engines compute `Uptime` as the start time *of the statement* minus
/// the boot's, in whole seconds (`show_starttime` in `mysqld.cc` of both), and `UNIX_TIMESTAMP()`
/// is that same start time, so the difference is the remembered boot time whatever the clock does.
pub(super) fn boot(engine: Engine) -> &'static str {
    match engine {
        Engine::MySql => {
            "(SELECT UNIX_TIMESTAMP() - CAST(variable_value AS SIGNED) \
             FROM performance_schema.global_status WHERE variable_name = 'Uptime')"
        }
        Engine::MariaDb => {
            "(SELECT UNIX_TIMESTAMP() - CAST(variable_value AS SIGNED) \
             FROM information_schema.global_status WHERE variable_name = 'UPTIME')"
        }
    }
}

/// The account name of the current session, as the process list shows it; it may hold an `@`.
pub(super) const OWN_USER: &str =
    "LEFT(USER(), CHAR_LENGTH(USER()) - CHAR_LENGTH(SUBSTRING_INDEX(USER(), '@', -1)) - 1)";

/// Sessions of the server's own threads and of replicas that read its binlog: they write nothing.
/// One that is about to log in may be ours; if not, it is met again under its name.
pub(super) const HARMLESS: &str = "(command IN ('Binlog Dump', 'Binlog Dump GTID', 'Daemon', \
     'Slave_IO', 'Slave_SQL', 'Slave_worker') \
     OR user IN ('system user', 'event_scheduler', 'unauthenticated user'))";

/// Name and definition (all that follows the name) of each procedure.
pub(super) fn all(engine: Engine) -> [(&'static str, String); 4] {
    [
        (CUT, cut(engine)),
        (DOOR, door::procedure(engine)),
        (GUARD, guard(engine)),
        (OPEN, open(engine)),
    ]
}

/// Kills every session of another account, and where `p_ours` is set those of ours that run a
/// statement or hold a transaction, except the numbers in `p_keep`, guards, and the caller.
/// `p_left` is how many there were, `p_denied` how many of them could not be killed.
///
/// On MariaDB also whoever waits for room on a full disk in the middle of a commit, one of ours too:
/// `SET GLOBAL read_only` waits for it, up to a minute after there is room (10.11.19: 55 s, with this
/// 1 s). Killed, it is rolled back, and where even that finds no room for five seconds the engine ends the
/// server (seen twice in about thirty full disks).
fn cut(engine: Engine) -> String {
    let processes = process_list(engine);
    let stuck = match engine {
        Engine::MySql => "",
        Engine::MariaDb => "OR state = 'Waiting for someone to free space'",
    };
    format!(
        "(IN p_keep TEXT, IN p_ours TINYINT, OUT p_left INT, OUT p_denied INT)
BEGIN
  DECLARE v_id BIGINT;
  DECLARE v_done INT DEFAULT 0;
  DECLARE v_sessions CURSOR FOR
    SELECT id FROM {processes}
    WHERE id <> CONNECTION_ID() AND NOT {HARMLESS}
      AND (user <> {OWN_USER} {stuck}
        OR (p_ours = 1 AND NOT FIND_IN_SET(id, p_keep)
          AND COALESCE(info, '') NOT LIKE '%multiactive.guard%'
          AND (command <> 'Sleep' OR id IN
            (SELECT trx_mysql_thread_id FROM information_schema.innodb_trx))));
  DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
  DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SET p_denied = p_denied + 1;
  SET p_left = 0, p_denied = 0;
  OPEN v_sessions;
  cutting: LOOP
    FETCH v_sessions INTO v_id;
    IF v_done = 1 THEN LEAVE cutting; END IF;
    SET p_left = p_left + 1;
    KILL CONNECTION v_id;
  END LOOP;
  CLOSE v_sessions;
END"
    )
}

/// The dead man of rule 2. It ends two seconds after it has fenced, or when its connection is
/// killed. It shuts the door first ([`door`]), which waits for nobody, so ordinary sessions can write
/// nothing from then on, however long the server needs to come to rest for `read_only`. It writes no
/// table, so no lock on tables or for a backup holds it up. `p_read` is what
/// the clock showed when the deadline was reckoned from it.
fn guard(engine: Engine) -> String {
    let shut = door::shut();
    let open = match engine {
        // It stays on until an arbiter fences in full: an ordinary session could commit a prepared
        // XA transaction under `read_only` too, and a procedure cannot learn whether there is one
        // (it cannot read what `XA RECOVER` answers, and `innodb_trx` is a copy that is not
        // renewed while anybody reads it more often than every 0.1 s).
        Engine::MySql => String::new(),
        Engine::MariaDb => {
            format!("{};", door::open())
        }
    };
    // A session that had just got in is met by the next cut, so the first rounds are short ones.
    let quickest = match engine {
        Engine::MySql => 1,
        Engine::MariaDb => 0,
    };
    format!(
        "(IN p_read BIGINT, IN p_deadline BIGINT, IN p_identity VARCHAR(64),
  IN p_generation BIGINT UNSIGNED)
BEGIN
  DECLARE v_now BIGINT;
  DECLARE v_highest BIGINT;
  DECLARE v_ticks INT DEFAULT 0;
  DECLARE v_rounds INT DEFAULT 0;
  DECLARE v_left INT DEFAULT 0;
  DECLARE v_denied INT DEFAULT 0;
  SET SESSION time_zone = '+00:00', SESSION lock_wait_timeout = 1;
  IF NOT EXISTS (SELECT 1 FROM multiactive.identity WHERE uuid = p_identity) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'multiactive.guard: this is another server';
  END IF;
  SET v_highest = {CLOCK};
  IF v_highest < p_read OR v_highest > p_read + {OLDEST_READING} THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT =
      'multiactive.guard: the clock was read too long ago, or was set since';
  END IF;
  SET @multiactive_guard = CONCAT('{GUARD_MARK}', p_deadline, ' identity=', p_identity,
    ' generation=', p_generation, ' */');
  PREPARE multiactive_guard FROM @multiactive_guard;
  watch: LOOP
    SET v_now = {CLOCK};
    IF v_now >= p_deadline OR v_now < v_highest - 20000 OR v_now > v_highest + 3000000 THEN
      LEAVE watch;
    END IF;
    SET v_highest = GREATEST(v_highest, v_now);
    EXECUTE multiactive_guard;
  END LOOP;
  fence: LOOP
    IF @@GLOBAL.read_only = 0 THEN
      BEGIN
        DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
        SET v_rounds = v_rounds + 1;
        {shut};
        CALL multiactive.{CUT}('', 0, v_left, v_denied);
        SET SESSION lock_wait_timeout = IF(v_rounds < 20, {quickest}, 1);
        SET GLOBAL read_only = ON;
        IF @@GLOBAL.read_only = 0 THEN DO SLEEP(0.005); END IF;
      END;
    ELSE
      {open}
      SET v_ticks = v_ticks + 1;
      IF v_ticks > 40 THEN LEAVE fence; END IF;
      EXECUTE multiactive_guard;
    END IF;
  END LOOP;
END"
    )
}

/// Rule 3. Answers one row: why it did not open (empty if it did), and what it saw.
///
/// It looks again after it has opened, door and all, since a server can be frozen between two
/// statements: the guard may have fenced meanwhile, and must not be undone. A guard that has fenced
/// goes on to look for two seconds, which covers what lies between this second look and the end of
/// the procedure.
fn open(engine: Engine) -> String {
    let processes = process_list(engine);
    let boot = boot(engine);
    let online = door::open();
    format!(
        "(IN p_epoch BIGINT UNSIGNED, IN p_read BIGINT, IN p_deadline BIGINT,
  IN p_generation BIGINT UNSIGNED,
  IN p_identity VARCHAR(64), IN p_boot BIGINT)
BEGIN
  DECLARE v_refusal VARCHAR(32) DEFAULT '';
  DECLARE v_seen VARCHAR(255) DEFAULT '';
  DECLARE v_first BIGINT DEFAULT 0;
  DECLARE v_last BIGINT DEFAULT 0;
  DECLARE v_looks INT DEFAULT 0;
  DECLARE v_opened INT DEFAULT 0;
  DECLARE v_locked INT DEFAULT 0;
  SET SESSION time_zone = '+00:00', SESSION lock_wait_timeout = 1;
  SET v_locked = COALESCE(GET_LOCK('{OPENING}', 0), 0);
  IF v_locked = 0 THEN SET v_refusal = 'Busy'; END IF;
  checks: LOOP
    IF v_locked = 0 THEN LEAVE checks; END IF;
    SET v_seen = COALESCE((SELECT MAX(uuid) FROM multiactive.identity), '');
    IF v_seen <> p_identity THEN SET v_refusal = 'Identity'; LEAVE checks; END IF;
    SET v_seen = {boot};
    IF v_seen <> p_boot THEN SET v_refusal = 'Boot'; LEAVE checks; END IF;
    SET v_seen = COALESCE((SELECT MAX(generation) FROM multiactive.control), 0);
    IF CAST(v_seen AS UNSIGNED) > p_generation THEN
      SET v_refusal = 'Generation'; LEAVE checks;
    END IF;
    SET v_seen = COALESCE((SELECT MAX(epoch) FROM multiactive.epoch), 0);
    IF CAST(v_seen AS UNSIGNED) <> p_epoch THEN SET v_refusal = 'Epoch'; LEAVE checks; END IF;
    SET v_looks = 0;
    look: LOOP
      SELECT COALESCE(MIN(deadline), 0), COALESCE(MAX(deadline), 0) INTO v_first, v_last FROM
        (SELECT CAST(SUBSTRING_INDEX(SUBSTRING_INDEX(info, 'deadline=', -1), ' ', 1) AS SIGNED)
          AS deadline FROM {processes}
          WHERE user = {OWN_USER} AND info LIKE '{GUARD_MARK}%') AS guards;
      SET v_looks = v_looks + 1;
      IF v_last > 0 OR v_looks >= 5 THEN LEAVE look; END IF;
      DO SLEEP(0.005);
    END LOOP;
    SET v_seen = v_last;
    IF v_last = 0 THEN SET v_refusal = 'NoGuard'; LEAVE checks; END IF;
    IF v_first <= {CLOCK} THEN SET v_refusal = 'GuardOver', v_seen = v_first; LEAVE checks; END IF;
    SET v_seen = {CLOCK};
    IF CAST(v_seen AS SIGNED) >= p_deadline THEN SET v_refusal = 'Deadline'; LEAVE checks; END IF;
    IF CAST(v_seen AS SIGNED) < p_read OR CAST(v_seen AS SIGNED) > p_read + {OLDEST_READING} THEN
      SET v_refusal = 'Clock'; LEAVE checks;
    END IF;
    SET v_seen = COALESCE((SELECT MAX(`until`) FROM multiactive.promise), 0);
    IF CAST(v_seen AS SIGNED) > {CLOCK} THEN SET v_refusal = 'Promised'; LEAVE checks; END IF;
    IF v_opened = 1 THEN LEAVE checks; END IF;
    SET GLOBAL read_only = OFF;
    SET v_opened = 1;
    {online};
  END LOOP;
  IF v_refusal = '' THEN
    SET v_seen = '';
  ELSEIF v_opened = 1 THEN
    SET GLOBAL read_only = ON;
  END IF;
  IF v_locked = 1 THEN DO RELEASE_LOCK('{OPENING}'); END IF;
  SELECT v_refusal, v_seen;
END"
    )
}
