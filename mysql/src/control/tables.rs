//! The schema `multiactive` as SQL. `docs/architecture.md` says which table is for whom.

/// Version of the tables and procedures below; raised by one whenever they change, with the
/// statements that bring an older version up to date.
pub const SCHEMA_VERSION: u32 = 1;

/// Every table, in the order in which they are made.
pub(super) const TABLES: [(&str, &str); 22] = [
    (
        "identity",
        // One row: which server this is. It belongs to one data directory, so it must never
        // replicate, and a copy of the directory is told by having the same value twice.
        "id TINYINT NOT NULL DEFAULT 1 PRIMARY KEY, uuid CHAR(36) CHARACTER SET ascii \
         COLLATE ascii_bin NOT NULL",
    ),
    (
        "control",
        // One row, never logged: what only this server's arbiter needs to find again. `boot` is
        // the last boot that was looked at before anybody set `read_only` in it, and
        // `boot_read_only` what its configuration had made of it.
        "id TINYINT NOT NULL DEFAULT 1 PRIMARY KEY, schema_version INT UNSIGNED NOT NULL, \
         generation BIGINT UNSIGNED NOT NULL DEFAULT 0, boot BIGINT NOT NULL DEFAULT 0, \
         boot_read_only TINYINT(1) NOT NULL DEFAULT 0",
    ),
    (
        "owner",
        // One row, never logged: which Unit of which installation has a member here, and when its
        // arbiter said so last.
        "id TINYINT NOT NULL DEFAULT 1 PRIMARY KEY, \
         installation VARCHAR(512) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         unit VARCHAR(320) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         idc VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, at DATETIME(6) NOT NULL",
    ),
    (
        "memory",
        // One row, never logged: how far etcd has been seen to be, so that one that was restored
        // from a backup is recognised (rule 10).
        "id TINYINT NOT NULL DEFAULT 1 PRIMARY KEY, etcd_cluster BIGINT UNSIGNED NOT NULL, \
         etcd_revision BIGINT NOT NULL",
    ),
    (
        "promise",
        // One row, never logged: what this member's arbiter promised last to a holder elsewhere, and
        // until when it runs on this server's clock (rule 11).
        "id TINYINT NOT NULL DEFAULT 1 PRIMARY KEY, generation BIGINT UNSIGNED NOT NULL, \
         epoch BIGINT UNSIGNED NOT NULL, \
         holder VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         for_millis BIGINT UNSIGNED NOT NULL, `until` BIGINT NOT NULL",
    ),
    (
        "heartbeat",
        "idc VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
         epoch BIGINT UNSIGNED NOT NULL, writable TINYINT(1) NOT NULL, \
         seq BIGINT UNSIGNED NOT NULL, at DATETIME(6) NOT NULL",
    ),
    (
        "epoch",
        "epoch BIGINT UNSIGNED NOT NULL PRIMARY KEY, \
         idc VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         ended MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NULL, at DATETIME(6) NOT NULL, \
         follows BIGINT UNSIGNED NULL, \
         needs MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NULL",
    ),
    (
        "applied",
        "link VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
         source VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         position MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NULL, \
         snapshot JSON NULL, ledger JSON NULL, at DATETIME(6) NOT NULL",
    ),
    (
        "watermark",
        "link VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
         low VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '', \
         high VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT ''",
    ),
    (
        "ddl",
        "gtid VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
         statement MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         `before` VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         at DATETIME(6) NOT NULL",
    ),
    (
        "stranded",
        // Transactions of an ended epoch, or the parts of large ones, as the writer received them.
        // They were not applied; a person settles each. Filed in the transaction that moves the
        // link's checkpoint past them, so that each is filed once.
        "source VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         gtid VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         part INT UNSIGNED NOT NULL DEFAULT 0, \
         epoch BIGINT UNSIGNED NOT NULL, ended_by BIGINT UNSIGNED NOT NULL, \
         committed DATETIME(6) NULL, changes BIGINT UNSIGNED NOT NULL, \
         `tables` MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         body LONGBLOB NOT NULL, \
         state ENUM('Held', 'Replayed', 'Discarded') NOT NULL DEFAULT 'Held', \
         filed DATETIME(6) NOT NULL, PRIMARY KEY (source, gtid, part)",
    ),
    (
        "undone",
        // Which transactions that were set aside elsewhere (`filed_in`) have been taken back here,
        // each written in the transaction that took it back; or that a new copy of the tables came
        // after them. They are this member's own, or those of a third one (`source`).
        "filed_in VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         gtid VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         how ENUM('Inverse', 'Copy', 'Hand') NOT NULL, \
         changes BIGINT UNSIGNED NOT NULL, at DATETIME(6) NOT NULL, \
         source VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL, \
         epoch BIGINT UNSIGNED NULL, ended_by BIGINT UNSIGNED NULL, \
         PRIMARY KEY (filed_in, gtid)",
    ),
    (
        "replayed",
        // On the primary: which transactions that were set aside were replayed here, each written
        // in the transaction that did so.
        "source VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         gtid VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         changes BIGINT UNSIGNED NOT NULL, at DATETIME(6) NOT NULL, \
         `by` VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         PRIMARY KEY (source, gtid)",
    ),
    (
        "skips",
        // On the target: the one transaction that a person wants a halted link to leave out. The
        // writer removes it in the transaction that files it in `held`, or once the link has
        // passed it otherwise.
        "link VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
         gtid VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         `by` VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         reason VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         at DATETIME(6) NOT NULL",
    ),
    (
        "held",
        // On the target: transactions that a link left out because a person named them, whole, as
        // the writer received them, each in the transaction that moves the link's checkpoint past
        // it. Unlike stranded ones they are of an epoch that goes on, and the source keeps them.
        "seq BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
         link VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         source VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         gtid VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         part INT UNSIGNED NOT NULL DEFAULT 0, epoch BIGINT UNSIGNED NOT NULL, \
         committed DATETIME(6) NULL, changes BIGINT UNSIGNED NOT NULL, \
         `tables` MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         body LONGBLOB NOT NULL, \
         asked_by VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         reason VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         asked DATETIME(6) NOT NULL, filed DATETIME(6) NOT NULL, KEY by_link (link, gtid, part)",
    ),
    (
        "fence",
        // On the source of a link that is being verified: one row a link, counted up. Whoever did
        // that waits until the target's checkpoint has passed the change; then everything that was
        // committed before it has been applied. Never sent.
        "link VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
         number BIGINT UNSIGNED NOT NULL, at DATETIME(6) NOT NULL",
    ),
    (
        "repair_runs",
        // On the target: how far each verification or repair is (`state`), and what a person wants
        // of it (`control`). Never sent.
        "run VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
         link VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         control ENUM('Run', 'Pause', 'Stop') NOT NULL DEFAULT 'Run', \
         state LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         at DATETIME(6) NOT NULL",
    ),
    (
        "repairs",
        // On the target: rows that were found to differ. `body` holds what was done with the row,
        // both images in the target's own columns (`change::encode_stored`), written in the
        // transaction that did it, so that it can be undone. Never sent.
        "seq BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
         run VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         `database` VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         `table` VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         kind ENUM('Missing', 'Extra', 'Differing') NOT NULL, \
         `row` MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         `columns` MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         state ENUM('Found', 'Held', 'Planned', 'Repaired', 'Failed', 'Undone') NOT NULL, \
         reason MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         statement LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         body LONGBLOB NULL, at DATETIME(6) NOT NULL, KEY by_run (run, state, seq)",
    ),
    (
        "rebuilds",
        // On the target: tables that a person wants the link to copy anew. Whoever asks writes
        // `Asked`; all other states are the writer's, each written in the transaction that also
        // changes the link's row in `applied`. `position` is where the link was when it began. Never
        // sent.
        "link VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         `database` VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         `table` VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         run VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         state ENUM('Asked', 'Emptying', 'Copying', 'Done', 'Refused') NOT NULL, \
         reason MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         copied BIGINT UNSIGNED NOT NULL DEFAULT 0, \
         position MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NULL, \
         asked DATETIME(6) NOT NULL, ended DATETIME(6) NULL, \
         PRIMARY KEY (link, `database`, `table`)",
    ),
    (
        "routed",
        // On the target, while several source tables are copied into one: which rows of each are
        // there, as a digest of the source table and the key, written in the transaction that puts
        // the row. Empty once the copy has ended. Never sent.
        "link VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         place BINARY(32) NOT NULL, PRIMARY KEY (link, place)",
    ),
    (
        "conflicts",
        // On the target: changes that met another row than they expect, each written in the
        // transaction that settled it or left it for a person. `body` holds the change, `found` the
        // row that was at its key (`change::encode_stored`), `place` which row of which table it is,
        // as a digest. Never sent.
        "seq BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
         link VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         source VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         gtid VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         `database` VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         `table` VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         kind VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         policy VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         state VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         `row` MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         place BINARY(32) NOT NULL, body LONGBLOB NOT NULL, found LONGBLOB NULL, \
         detail MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         at DATETIME(6) NOT NULL, settled DATETIME(6) NULL, \
         settled_by VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, \
         KEY by_state (state, seq), KEY by_place (place, seq)",
    ),
    (
        "tombstones",
        // On the target of a link whose both ends take writes: keys at which a conflict was decided
        // lately (`place` as in `conflicts`), each written in the transaction that decided it. The
        // writer removes them when they are old. Never sent.
        "link VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         place BINARY(32) NOT NULL, \
         source VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         gtid VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         `database` VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         `table` VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         `row` MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
         kind VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         state VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         at DATETIME(6) NOT NULL, PRIMARY KEY (link, place), KEY by_age (link, at)",
    ),
];

/// Columns that tables got since they were first made. A version without them goes on working
/// beside them, so they do not change the version.
pub(super) const ADDED: [(&str, &str, &str); 11] = [
    // The newest epoch that its holder knew of when it was promoted; `ended` is about that one.
    ("epoch", "follows", "BIGINT UNSIGNED NULL"),
    // The newest data of that one's holder that it had.
    (
        "epoch",
        "needs",
        "MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NULL",
    ),
    // Who committed it; NULL: this member itself.
    (
        "undone",
        "source",
        "VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL",
    ),
    // The epoch that it was committed under, and the one that ended that.
    ("undone", "epoch", "BIGINT UNSIGNED NULL"),
    ("undone", "ended_by", "BIGINT UNSIGNED NULL"),
    (
        "stranded",
        // The order of filing, which is that of committing at the source.
        "seq",
        "BIGINT UNSIGNED NOT NULL AUTO_INCREMENT UNIQUE",
    ),
    // When and by whom it was settled.
    ("stranded", "settled", "DATETIME(6) NULL"),
    (
        "stranded",
        "settled_by",
        "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL",
    ),
    // When, by whom and why a person said that nothing waits for it any more. The reason is the
    // last of the three, so whoever finds it finds the others.
    ("held", "settled", "DATETIME(6) NULL"),
    (
        "held",
        "settled_by",
        "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL",
    ),
    (
        "held",
        "settled_reason",
        "VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL",
    ),
];

/// The statement that makes a table unless it is there.
pub(super) fn create(name: &str, columns: &str) -> String {
    format!("CREATE TABLE IF NOT EXISTS multiactive.`{name}` ({columns}) ENGINE = InnoDB")
}
