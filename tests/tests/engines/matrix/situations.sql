-- The situations that links are tried in. A line `--# NAME` begins one, with these words behind the
-- name where they apply: `from ENGINE`, `to ENGINE`, `halts TEXT` (the link halts and its error holds
-- this text) or `pauses TEXT` (it halts too, but goes on by itself once the cause is mended). What
-- follows is there before the link begins; what follows `--# then` is done while
-- it runs; what follows `--# mend` is done at the target when the link has halted, and what follows
-- `--# finally` then at the source. A statement that the link has halted at is skipped then.

--# upsert
CREATE TABLE upsert (id INT AUTO_INCREMENT PRIMARY KEY, k VARCHAR(10) UNIQUE, n INT DEFAULT 0);
INSERT INTO upsert (k) VALUES ('a'), ('b');
--# then
INSERT INTO upsert (k, n) VALUES ('a', 1), ('c', 1), ('c', 2) ON DUPLICATE KEY UPDATE n = n + 10, k = CONCAT(k, '!');
REPLACE INTO upsert (k, n) VALUES ('b', 5), ('b', 6), ('d', 7);
INSERT IGNORE INTO upsert (k, n) VALUES ('d', 8), ('e', 9);
REPLACE INTO upsert (id, k) VALUES (1, 'e');

--# savepoints
CREATE TABLE savepoints (id INT PRIMARY KEY, v INT);
--# then
START TRANSACTION; INSERT INTO savepoints VALUES (1, 1); SAVEPOINT s1;
INSERT INTO savepoints VALUES (2, 2); SAVEPOINT `s 2`; UPDATE savepoints SET v = 9;
ROLLBACK TO `s 2`; INSERT INTO savepoints VALUES (3, 3); RELEASE SAVEPOINT s1; COMMIT;
START TRANSACTION; SAVEPOINT a; DELETE FROM savepoints; ROLLBACK TO a; COMMIT;
START TRANSACTION; DELETE FROM savepoints; ROLLBACK;

--# several_tables
CREATE TABLE several_a (id INT PRIMARY KEY, v INT); CREATE TABLE several_b LIKE several_a;
INSERT INTO several_a VALUES (1, 1), (2, 2), (3, 3); INSERT INTO several_b SELECT * FROM several_a;
--# then
UPDATE several_a a JOIN several_b b USING (id) SET a.v = a.v + 10, b.v = b.v + 20;
DELETE a, b FROM several_a a JOIN several_b b USING (id) WHERE a.id = 2;
INSERT INTO several_b SELECT id + 100, v FROM several_a;

--# emptied
CREATE TABLE emptied (id INT AUTO_INCREMENT PRIMARY KEY, v INT); INSERT INTO emptied (v) VALUES (1), (2), (3);
--# then
TRUNCATE TABLE emptied; INSERT INTO emptied (v) VALUES (7), (8); TRUNCATE emptied; INSERT INTO emptied (v) VALUES (9);

--# zero_ids
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
CREATE TABLE zero_ids (id INT AUTO_INCREMENT PRIMARY KEY, v INT);
INSERT INTO zero_ids VALUES (0, 1), (-5, 2), (NULL, 3);
--# then
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
UPDATE zero_ids SET v = v + 1; DELETE FROM zero_ids WHERE id = 0; INSERT INTO zero_ids VALUES (0, 9);
UPDATE zero_ids SET id = 77 WHERE id = -5; INSERT INTO zero_ids (v) VALUES (4);

--# large_transaction
CREATE TABLE large_transaction (id INT AUTO_INCREMENT PRIMARY KEY, v INT, t VARCHAR(100));
INSERT INTO large_transaction (v, t) VALUES (1, REPEAT('x', 90)), (2, REPEAT('y', 90));
--# then
START TRANSACTION;
INSERT INTO large_transaction (v, t) SELECT v + 1, t FROM large_transaction;
INSERT INTO large_transaction (v, t) SELECT v + 2, t FROM large_transaction;
INSERT INTO large_transaction (v, t) SELECT v + 4, t FROM large_transaction;
INSERT INTO large_transaction (v, t) SELECT v + 8, t FROM large_transaction;
INSERT INTO large_transaction (v, t) SELECT v + 16, t FROM large_transaction;
INSERT INTO large_transaction (v, t) SELECT a.v + 32, a.t FROM large_transaction a, large_transaction b;
INSERT INTO large_transaction (v, t) SELECT v + 64, t FROM large_transaction;
INSERT INTO large_transaction (v, t) SELECT v + 128, t FROM large_transaction;
UPDATE large_transaction SET v = -v; DELETE FROM large_transaction WHERE v % 3 = 0; COMMIT;

--# large_rows
CREATE TABLE large_rows (id INT PRIMARY KEY, b LONGBLOB, t LONGTEXT CHARACTER SET latin1);
INSERT INTO large_rows VALUES (1, REPEAT(0x00275CFF, 4194304), NULL);
--# then
INSERT INTO large_rows VALUES (2, REPEAT(0xC3275CFF, 4194304), REPEAT('é', 100000));
INSERT INTO large_rows VALUES (3, REPEAT(0x00, 67108864), '');
UPDATE large_rows SET b = CONCAT(b, 'x') WHERE id = 1; DELETE FROM large_rows WHERE id = 2;

--# time_zones
CREATE TABLE time_zones (id INT PRIMARY KEY, ts TIMESTAMP(6) NULL, dt DATETIME(6), d DATE, t TIME(3));
--# then
SET time_zone = '+05:30';
INSERT INTO time_zones VALUES (1, '2024-03-31 02:30:00.123456', '2024-03-31 02:30:00.123456', '2024-03-31', '02:30:00.5');
SET time_zone = '-12:00'; INSERT INTO time_zones SELECT 2, ts, dt, d, t FROM time_zones WHERE id = 1;
INSERT INTO time_zones VALUES (3, '2024-03-31 02:30:00.123456', NOW(6), CURDATE(), CURTIME(3));
UPDATE time_zones SET ts = CURRENT_TIMESTAMP(6) WHERE id = 2;

--# swaps
CREATE TABLE swaps (id INT PRIMARY KEY, u INT UNIQUE, v CHAR(3));
INSERT INTO swaps VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c'), (4, NULL, 'd');
--# then
START TRANSACTION; UPDATE swaps SET id = -1 WHERE id = 1;
UPDATE swaps SET id = 1 WHERE id = 2; UPDATE swaps SET id = 2 WHERE id = -1; COMMIT;
START TRANSACTION; UPDATE swaps SET u = NULL WHERE id = 1;
UPDATE swaps SET u = 20 WHERE id = 2; UPDATE swaps SET u = 10 WHERE id = 1; COMMIT;
UPDATE swaps SET id = id + 1 ORDER BY id DESC; UPDATE swaps SET u = u + 10 ORDER BY u DESC;
START TRANSACTION; DELETE FROM swaps WHERE id = 2; INSERT INTO swaps VALUES (2, 99, 'z');
DELETE FROM swaps WHERE id = 2; INSERT INTO swaps VALUES (2, 98, 'y'); COMMIT;

--# nulls_in_unique
CREATE TABLE nulls_in_unique (id INT PRIMARY KEY, a INT, b VARCHAR(5), UNIQUE (a, b));
INSERT INTO nulls_in_unique VALUES (1, NULL, 'x'), (2, NULL, 'x'), (3, 1, NULL), (4, 1, NULL), (5, 1, 'x');
--# then
INSERT INTO nulls_in_unique VALUES (6, NULL, 'x'), (7, 1, NULL);
UPDATE nulls_in_unique SET a = NULL WHERE id = 5;
UPDATE nulls_in_unique SET a = id + 10 WHERE a IS NULL; DELETE FROM nulls_in_unique WHERE id = 3;

--# letters
CREATE TABLE letters (k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, u VARCHAR(20) COLLATE utf8mb4_unicode_ci UNIQUE, c CHAR(10) COLLATE utf8mb4_bin);
INSERT INTO letters VALUES ('a', 'Straße', 'x'), ('b ', 'é', 'y'), ('ß', 'ı', ' z');
--# then
UPDATE letters SET k = 'A' WHERE k = 'a'; UPDATE letters SET k = 'b' WHERE k = 'b';
UPDATE letters SET u = 'STRASSE' WHERE u = 'strasse'; UPDATE letters SET u = 'E' WHERE u = 'e';
INSERT INTO letters VALUES ('😀', '😁', '😂'), (' lead', 'trail ', '');
UPDATE letters SET k = CONCAT(k, ' ') WHERE k = 'ß'; DELETE FROM letters WHERE k = 'ß';

--# binary_keys
CREATE TABLE binary_keys (k VARBINARY(20), b BINARY(4), v INT, PRIMARY KEY (k, b));
INSERT INTO binary_keys VALUES (0x61, 0x00000000, 1), (0x6100, 0x00000000, 2), (0x6120, 0x20202020, 3), ('', '', 4);
--# then
UPDATE binary_keys SET v = v + 10; UPDATE binary_keys SET k = CONCAT(k, 0x00) ORDER BY k DESC;
DELETE FROM binary_keys WHERE v = 12; INSERT INTO binary_keys VALUES (0xff5c27, 'a', 9);

--# float_keys
CREATE TABLE float_keys (f FLOAT, d DOUBLE, n DECIMAL(20,10), v INT, PRIMARY KEY (f, d, n));
INSERT INTO float_keys VALUES (0.1, 0.1, 0.1, 1), (-0e0, -0e0, -0.0, 2), (1.17549435e-38, 2.2250738585072014e-308, 9999999999.9999999999, 3), (3.4e38, 1e308, 0, 4);
--# then
UPDATE float_keys SET v = v + 1; UPDATE float_keys SET d = d / 3, f = f / 7;
INSERT INTO float_keys VALUES (1e-45, 5e-324, -1, 5); DELETE FROM float_keys WHERE v = 2;

--# prefix_keys
CREATE TABLE prefix_keys (a TEXT, b BLOB, c INT, PRIMARY KEY (a(4), b(2)), UNIQUE (b(3)));
INSERT INTO prefix_keys VALUES ('abcdef', 'xyz', 1), ('abcdxx', 'yyy', 2);
--# then
UPDATE prefix_keys SET a = CONCAT(a, '!'), c = c + 1;
INSERT INTO prefix_keys VALUES ('ab', 'x', 3), (REPEAT('q', 60000), REPEAT(0x00, 60000), 4);
DELETE FROM prefix_keys WHERE c = 2;

--# no_primary_key
CREATE TABLE no_primary_key (a INT NOT NULL, b VARCHAR(9) NOT NULL, c INT, UNIQUE u (b, a), UNIQUE n (c));
INSERT INTO no_primary_key VALUES (1, 'x', 1), (1, 'y', NULL), (2, 'x', NULL);
--# then
UPDATE no_primary_key SET c = a * 1000 + ASCII(b); UPDATE no_primary_key SET a = a + 10;
DELETE FROM no_primary_key WHERE b = 'y'; INSERT INTO no_primary_key VALUES (5, 'z', NULL);

--# enum_keys
CREATE TABLE enum_keys (e ENUM('2','1','é',''), s SET('b','a','1'), y YEAR, b BIT(9), v INT, PRIMARY KEY (e, s, y, b));
INSERT INTO enum_keys VALUES ('1', 'a,b', 1999, 1, 1), ('2', '', 0, 511, 2), ('é', '1', 2155, 0, 3), ('', '1', 2155, 0, 3);
--# then
SET sql_mode = ''; UPDATE enum_keys SET v = v + 1; INSERT INTO enum_keys VALUES (0, 0, 0, 0, 4), ('1', 7, 2000, b'101', 5);
UPDATE enum_keys SET e = 0, s = 3 WHERE v = 5; DELETE FROM enum_keys WHERE e = 0 AND s = 0;

--# time_keys
CREATE TABLE time_keys (ts TIMESTAMP(3) NOT NULL DEFAULT '2000-01-01', dt DATETIME(6), t TIME(2), d DATE, v INT, PRIMARY KEY (ts, dt, t, d));
INSERT INTO time_keys VALUES ('2024-10-27 02:30:00.5', '1000-01-01', '-838:59:58.99', '9999-12-31', 1);
--# then
SET sql_mode = 'ALLOW_INVALID_DATES'; UPDATE time_keys SET v = 2;
INSERT INTO time_keys VALUES ('1970-01-02 00:00:01', '0000-00-00', '00:00:00.01', '2024-02-31', 3), (0, '2024-00-00', '-00:00:00.01', '0000-00-00', 4);
UPDATE time_keys SET v = v + 1; DELETE FROM time_keys WHERE v = 4;

--# computed
CREATE TABLE computed (id INT PRIMARY KEY, a INT, b INT AS (a + 1) VIRTUAL, c VARCHAR(20) AS (CONCAT('x', a)) STORED, d INT, UNIQUE (b), KEY (c));
INSERT INTO computed (id, a, d) VALUES (1, 5, 1), (2, NULL, 2);
--# then
INSERT INTO computed (id, a, d) VALUES (3, 7, 3); UPDATE computed SET a = a + 100;
ALTER TABLE computed ADD COLUMN e INT AS (d * 2) STORED, ADD COLUMN f INT AS (d * 3) VIRTUAL AFTER id;
UPDATE computed SET d = d + 1; DELETE FROM computed WHERE id = 2;
ALTER TABLE computed DROP COLUMN f; INSERT INTO computed (id, a, d) VALUES (4, 1, 1);

--# generated_keys from mysql to mysql
CREATE TABLE generated_keys (id INT NOT NULL, k INT AS (id * 2) STORED NOT NULL, v INT, UNIQUE (k));
INSERT INTO generated_keys (id, v) VALUES (1, 1), (2, 2);
--# then
INSERT INTO generated_keys (id, v) VALUES (3, 3); UPDATE generated_keys SET v = v + 1;
UPDATE generated_keys SET id = id + 10; DELETE FROM generated_keys WHERE id = 12;

--# generated_keys_there from mysql to mariadb halts STORED NOT NULL
--# then
CREATE TABLE generated_keys_there (id INT NOT NULL, k INT AS (id * 2) STORED NOT NULL, v INT, UNIQUE (k)); INSERT INTO generated_keys_there (id, v) VALUES (3, 3);
--# mend
CREATE TABLE orders.generated_keys_there (id INT NOT NULL PRIMARY KEY, k INT AS (id * 2) STORED, v INT, UNIQUE (k));
--# finally
DROP TABLE generated_keys_there;

--# invisible
CREATE TABLE invisible (id INT PRIMARY KEY, a INT DEFAULT 3 INVISIBLE, b INT);
INSERT INTO invisible (id, a, b) VALUES (1, 2, 3);
--# then
INSERT INTO invisible VALUES (2, 4); UPDATE invisible SET a = a + 1;
ALTER TABLE invisible ADD COLUMN c INT DEFAULT 9 INVISIBLE; INSERT INTO invisible (id, c) VALUES (3, 1);
UPDATE invisible SET c = 5 WHERE id = 2; DELETE FROM invisible WHERE id = 1;

--# defaults
CREATE TABLE defaults (id INT PRIMARY KEY, a INT DEFAULT (1 + 1), b DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), c VARCHAR(20) DEFAULT 'é''"\\', d VARCHAR(50) DEFAULT (UPPER('x')), v INT);
INSERT INTO defaults (id) VALUES (1);
--# then
INSERT INTO defaults (id) VALUES (2); UPDATE defaults SET v = 1; INSERT INTO defaults VALUES (3, NULL, NULL, NULL, NULL, NULL);
ALTER TABLE defaults ADD COLUMN e TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6); UPDATE defaults SET v = 2 WHERE id = 2;
ALTER TABLE defaults ADD COLUMN f VARCHAR(40) DEFAULT (CONCAT('f', 1)), ALTER COLUMN a DROP DEFAULT; INSERT INTO defaults (id, a, v) VALUES (4, 4, 4);

--# random_defaults from mariadb halts UUID()
CREATE TABLE random_defaults (id INT PRIMARY KEY, v INT); INSERT INTO random_defaults VALUES (1, 1);
--# then
ALTER TABLE random_defaults ADD COLUMN g VARCHAR(40) DEFAULT (UUID());
--# mend
SET sql_log_bin = 0; ALTER TABLE orders.random_defaults ADD COLUMN g VARCHAR(40); DELETE FROM orders.random_defaults;
--# finally
SET sql_log_bin = 0; DELETE FROM random_defaults;

--# descending
CREATE TABLE descending (a INT, b INT, c INT, PRIMARY KEY (a DESC, b), KEY (c DESC, a));
INSERT INTO descending VALUES (1, 1, 1), (1, 2, 2), (2, 1, 3);
--# then
INSERT INTO descending VALUES (3, 1, 1); UPDATE descending SET a = a + 10, c = -c; DELETE FROM descending WHERE b = 2;

--# partitions
CREATE TABLE partitions (id INT, d INT, v INT, PRIMARY KEY (id, d)) PARTITION BY RANGE (d) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN (30));
CREATE TABLE partitions_out (id INT, d INT, v INT, PRIMARY KEY (id, d));
CREATE TABLE partitions_hash (id INT PRIMARY KEY, v INT) PARTITION BY HASH (id) PARTITIONS 3;
INSERT INTO partitions VALUES (1, 1, 1), (2, 11, 2), (3, 21, 3), (4, 22, 4); INSERT INTO partitions_hash VALUES (1, 1), (2, 2), (3, 3);
--# then
INSERT INTO partitions VALUES (5, 5, 5), (6, 15, 6); UPDATE partitions SET d = d + 10 WHERE id = 5;
ALTER TABLE partitions ADD PARTITION (PARTITION p3 VALUES LESS THAN (40)); INSERT INTO partitions VALUES (7, 35, 7);
ALTER TABLE partitions TRUNCATE PARTITION p0; ALTER TABLE partitions DROP PARTITION p1;
ALTER TABLE partitions EXCHANGE PARTITION p2 WITH TABLE partitions_out; INSERT INTO partitions_out VALUES (9, 99, 9);
ALTER TABLE partitions REORGANIZE PARTITION p3 INTO (PARTITION p3a VALUES LESS THAN (36), PARTITION p3b VALUES LESS THAN (50));
INSERT INTO partitions VALUES (8, 45, 8); UPDATE partitions_hash SET id = id + 1 ORDER BY id DESC; ALTER TABLE partitions_hash COALESCE PARTITION 1;

--# names
CREATE TABLE `select` (`from` INT PRIMARY KEY, `sel``ect` INT, `"quoted"` INT, `a b.c` INT, `'it''s'` INT, `列 名` INT, `$1` INT, `back\slash` INT);
INSERT INTO `select` VALUES (1, 2, 3, 4, 5, 6, 7, 8);
--# then
UPDATE `select` SET `from` = 9, `sel``ect` = 8, `"quoted"` = 7, `a b.c` = 6, `'it''s'` = 5, `列 名` = 4, `back\slash` = 3;
ALTER TABLE `select` ADD COLUMN `wh``ere; --` INT DEFAULT 1, ADD INDEX `in dex` (`列 名`);
INSERT INTO `select` (`from`, `wh``ere; --`) VALUES (2, 3);
CREATE TABLE `order by ``1`` 表` (`group` INT PRIMARY KEY); INSERT INTO `order by ``1`` 表` VALUES (1);
RENAME TABLE `order by ``1`` 表` TO `names;'"`; INSERT INTO `names;'"` VALUES (2);

--# parents
CREATE TABLE parents (id INT PRIMARY KEY, v INT) ENGINE = InnoDB;
CREATE TABLE children (id INT PRIMARY KEY, p INT, v INT, FOREIGN KEY (p) REFERENCES parents (id));
INSERT INTO parents VALUES (1, 1), (2, 2); INSERT INTO children VALUES (1, 1, 1), (2, 2, 2), (3, NULL, 3);
--# then
START TRANSACTION; INSERT INTO parents VALUES (3, 3); INSERT INTO children VALUES (4, 3, 4); COMMIT;
START TRANSACTION; DELETE FROM children WHERE p = 1; DELETE FROM parents WHERE id = 1; COMMIT;
UPDATE children SET p = NULL WHERE id = 2; DELETE FROM parents WHERE id = 2;
SET foreign_key_checks = 0; INSERT INTO children VALUES (5, 99, 5); DELETE FROM parents WHERE id = 3; UPDATE children SET v = 9;

--# cascades
--# then
CREATE TABLE cascading (id INT PRIMARY KEY, v INT);
CREATE TABLE cascaded (id INT PRIMARY KEY, p INT, v INT, FOREIGN KEY (p) REFERENCES cascading (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE cascaded_below (id INT PRIMARY KEY, c INT, FOREIGN KEY (c) REFERENCES cascaded (id) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE cascading_self (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES cascading_self (id) ON DELETE CASCADE);
INSERT INTO cascading VALUES (1, 1), (2, 2), (3, 3); INSERT INTO cascaded VALUES (1, 1, 1), (2, 1, 2), (3, 2, 3), (4, 3, 4);
INSERT INTO cascaded_below VALUES (1, 1), (2, 2), (3, 3), (4, 4); INSERT INTO cascading_self VALUES (1, NULL), (2, 1), (3, 2), (4, NULL);
DELETE FROM cascading WHERE id = 1; UPDATE cascading SET id = 20, v = 5 WHERE id = 2; UPDATE cascaded SET id = id + 100; UPDATE cascading SET id = id + 1 ORDER BY id DESC;
START TRANSACTION; INSERT INTO cascading VALUES (7, 7); INSERT INTO cascaded VALUES (7, 7, 7), (8, 7, 8); UPDATE cascaded SET v = 70 WHERE id = 7; DELETE FROM cascading WHERE id = 7; INSERT INTO cascading VALUES (7, 8); COMMIT;
DELETE FROM cascading_self WHERE id = 1; REPLACE INTO cascading VALUES (4, 40);

--# replaced_parents from mysql
CREATE TABLE replaced_parents (id INT PRIMARY KEY, v INT);
CREATE TABLE replaced_children (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES replaced_parents (id));
CREATE TABLE replaced_nulls (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES replaced_parents (id) ON DELETE SET NULL);
INSERT INTO replaced_parents VALUES (1, 1), (2, 2); INSERT INTO replaced_children VALUES (1, 1); INSERT INTO replaced_nulls VALUES (1, 1), (2, 2);
--# then
REPLACE INTO replaced_parents VALUES (1, 40), (2, 50); DELETE FROM replaced_parents WHERE id = 2;

--# columns_change
CREATE TABLE columns_change (id INT PRIMARY KEY, a INT, b VARCHAR(10), c INT); INSERT INTO columns_change VALUES (1, 1, 'one', 1), (2, 2, 'two', 2);
--# then
UPDATE columns_change SET a = a + 1; ALTER TABLE columns_change ADD COLUMN f INT DEFAULT 5 FIRST, ADD COLUMN g DATETIME(3) AFTER a; INSERT INTO columns_change VALUES (7, 3, 3, NOW(3), 'three', 3);
ALTER TABLE columns_change DROP COLUMN c; UPDATE columns_change SET f = id; ALTER TABLE columns_change RENAME COLUMN b TO bb; UPDATE columns_change SET bb = CONCAT(bb, '!');
ALTER TABLE columns_change MODIFY a BIGINT UNSIGNED NOT NULL, CHANGE bb b VARCHAR(300) CHARACTER SET latin1; UPDATE columns_change SET a = 18446744073709551615 WHERE id = 1;
UPDATE columns_change SET a = id WHERE id <> 1; ALTER TABLE columns_change DROP PRIMARY KEY, ADD PRIMARY KEY (a); UPDATE columns_change SET id = id + 50; CREATE UNIQUE INDEX ui ON columns_change (id, b); DROP INDEX ui ON columns_change;
ALTER TABLE columns_change CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci; INSERT INTO columns_change (a, id, b) VALUES (99, 99, '😀'); ALTER TABLE columns_change COMMENT 'done', AUTO_INCREMENT = 7;

--# exchanged_tables
CREATE TABLE exchanged (id INT PRIMARY KEY, v INT); INSERT INTO exchanged VALUES (1, 1);
--# then
CREATE TABLE _exchanged_gho LIKE exchanged; ALTER TABLE _exchanged_gho ADD COLUMN w INT DEFAULT 4; INSERT INTO _exchanged_gho (id, v) SELECT id, v FROM exchanged;
UPDATE exchanged SET v = 2; REPLACE INTO _exchanged_gho (id, v) SELECT id, v FROM exchanged; RENAME TABLE exchanged TO _exchanged_del, _exchanged_gho TO exchanged;
INSERT INTO exchanged VALUES (2, 2, 2); DROP TABLE IF EXISTS _exchanged_del; DROP TABLE IF EXISTS never_there;
CREATE TABLE exchanged_again (id INT PRIMARY KEY); INSERT INTO exchanged_again VALUES (1); DROP TABLE exchanged_again; CREATE TABLE exchanged_again (k VARCHAR(9) PRIMARY KEY); INSERT INTO exchanged_again VALUES ('1');
CREATE TABLE IF NOT EXISTS exchanged_again (x INT PRIMARY KEY); ALTER TABLE exchanged_again RENAME TO exchanged_last; INSERT INTO exchanged_last VALUES ('2');

--# temporary
CREATE TABLE from_temporary (id INT PRIMARY KEY, v INT);
--# then
CREATE TEMPORARY TABLE held (id INT, v INT); INSERT INTO held VALUES (1, 1), (2, 2); INSERT INTO from_temporary SELECT * FROM held; ALTER TABLE held ADD COLUMN w INT; DROP TEMPORARY TABLE held;
CREATE TEMPORARY TABLE held2 SELECT * FROM from_temporary; UPDATE from_temporary f JOIN held2 h USING (id) SET f.v = h.v + 5;

--# views_and_routines
CREATE TABLE viewed (id INT PRIMARY KEY, v INT); INSERT INTO viewed VALUES (1, 1);
--# then
CREATE DEFINER = 'multiactive'@'%' VIEW seen AS SELECT id, v + 1 AS w FROM viewed; CREATE OR REPLACE DEFINER = 'multiactive'@'%' VIEW seen AS SELECT id, v FROM viewed; UPDATE seen SET v = 5; DROP VIEW seen;
CREATE DEFINER = 'multiactive'@'%' PROCEDURE adds(n INT) SQL SECURITY INVOKER INSERT INTO viewed VALUES (n, n); CALL adds(7); CALL adds(8); DROP PROCEDURE adds;

--# functions pauses SET GLOBAL log_bin_trust_function_creators = 1
CREATE TABLE functions (id INT PRIMARY KEY, v INT);
--# then
CREATE DEFINER = 'multiactive'@'%' FUNCTION twice(n INT) RETURNS INT DETERMINISTIC NO SQL SQL SECURITY INVOKER RETURN n * 2; INSERT INTO functions VALUES (twice(50), twice(3)); DROP FUNCTION twice;
--# mend
SET GLOBAL log_bin_trust_function_creators = 1;

--# views_of_root from mysql to mysql halts SYSTEM_USER
--# then
CREATE DEFINER = 'root'@'localhost' VIEW seen_by_root AS SELECT 1;
--# mend
CREATE VIEW orders.seen_by_root AS SELECT 1;

--# quoting_modes
CREATE TABLE quoting_modes (id INT PRIMARY KEY, t VARCHAR(50));
--# then
SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,PIPES_AS_CONCAT'; INSERT INTO "quoting_modes" VALUES (1, 'a\' || 'b'); ALTER TABLE "quoting_modes" ADD COLUMN "c c" CHAR(5) DEFAULT 'x\'; INSERT INTO quoting_modes (id) VALUES (2); SET sql_mode = ''; INSERT INTO quoting_modes VALUES (3, "q\"\\'", 'abc');

--# checks
CREATE TABLE checks (id INT PRIMARY KEY, v INT, CONSTRAINT positive CHECK (v > 0)); INSERT INTO checks VALUES (1, 1), (2, NULL);
--# then
INSERT INTO checks VALUES (3, 3); ALTER TABLE checks DROP CONSTRAINT positive; INSERT INTO checks VALUES (4, -4); ALTER TABLE checks ADD CONSTRAINT small CHECK (v < 100); UPDATE checks SET v = 99 WHERE id = 3;

--# charsets
CREATE TABLE charsets (id INT PRIMARY KEY, gbk VARCHAR(60) CHARACTER SET gbk, big5 VARCHAR(60) CHARACTER SET big5, sjis CHAR(30) CHARACTER SET sjis, cp932 TEXT CHARACTER SET cp932, euckr VARCHAR(60) CHARACTER SET euckr, koi8r VARCHAR(60) CHARACTER SET koi8r, u2 VARCHAR(60) CHARACTER SET ucs2, u16 VARCHAR(60) CHARACTER SET utf16, u16le VARCHAR(60) CHARACTER SET utf16le, u32 CHAR(20) CHARACTER SET utf32, u3 VARCHAR(60) CHARACTER SET utf8mb3, l2 VARCHAR(60) CHARACTER SET latin2, swe7 VARCHAR(60) CHARACTER SET swe7, bin VARCHAR(60) CHARACTER SET binary, ascii_ VARCHAR(9) CHARACTER SET ascii, l1 VARCHAR(9) CHARACTER SET latin1 COLLATE latin1_german2_ci);
INSERT INTO charsets VALUES (1, '中文許', '許功蓋', 'ソ表能', 'ソ表能①', '한국', 'Привет', '日本', '日本😀', '日本😀', '日😀', '日本', 'žluť', 'abc', '\0\'\\', 'x', 'ÄÖ');
--# then
INSERT INTO charsets SELECT id + 1, gbk, big5, sjis, cp932, euckr, koi8r, u2, u16, u16le, u32, u3, l2, swe7, bin, ascii_, l1 FROM charsets;
INSERT INTO charsets (id, gbk, big5, sjis, cp932, swe7, l1, u2) VALUES (3, 0x815C5C27, 0xA55C27, 0x835C5C27, 0x815C, 0x5B5C5D7B, 0x80FF5C27, 0x005C0027);
UPDATE charsets SET gbk = CONCAT(gbk, gbk), u16 = CONCAT(u16, 'x '), sjis = CONCAT('\\', sjis, ' '); DELETE FROM charsets WHERE id = 2;

--# collations
CREATE TABLE collations (a VARCHAR(20) COLLATE utf8mb4_unicode_520_ci, b VARCHAR(20) COLLATE utf8mb4_german2_ci, c VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin, d VARCHAR(20) COLLATE utf8mb4_turkish_ci, PRIMARY KEY (a, b, c, d));
INSERT INTO collations VALUES ('ae', 'ä', 'é', 'I'), ('AE', 'ä', 'É', 'ı'), ('x ', 'y ', 'z ', 'w ');
--# then
UPDATE collations SET a = UPPER(a), d = CONCAT(d, 'i'); INSERT INTO collations VALUES ('ß', 'ß', 'ß', 'ß'); DELETE FROM collations WHERE a = 'X';

--# spatial
CREATE TABLE shapes (id INT PRIMARY KEY, g GEOMETRY NOT NULL, p POINT, SPATIAL INDEX (g)); INSERT INTO shapes VALUES (1, ST_GeomFromText('POINT(1 2)'), NULL);
--# then
INSERT INTO shapes VALUES (2, ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))'), POINT(-1.5, 1e10)); UPDATE shapes SET g = ST_GeomFromText('LINESTRING(0 0,5 5)') WHERE id = 1; DELETE FROM shapes WHERE id = 2;

--# increments
CREATE TABLE increments (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, v INT) AUTO_INCREMENT = 1000; INSERT INTO increments (v) VALUES (1), (2);
--# then
SET auto_increment_increment = 7, auto_increment_offset = 3; INSERT INTO increments (v) VALUES (3), (4); INSERT INTO increments VALUES (18446744073709551613, 5); DELETE FROM increments WHERE v = 2; UPDATE increments SET id = id - 1 ORDER BY id;

--# triggered
CREATE TABLE triggered (id INT PRIMARY KEY, v INT); CREATE TABLE triggered_log (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(40));
--# then
SET sql_log_bin = 0; CREATE TRIGGER triggered_ai AFTER INSERT ON triggered FOR EACH ROW INSERT INTO triggered_log (what) VALUES (CONCAT('new ', NEW.id)); CREATE TRIGGER triggered_bu BEFORE UPDATE ON triggered FOR EACH ROW SET NEW.v = NEW.v * 2; SET sql_log_bin = 1;
INSERT INTO triggered VALUES (1, 1), (2, 2); UPDATE triggered SET v = v + 1; SET sql_log_bin = 0; DROP TRIGGER triggered_ai; DROP TRIGGER triggered_bu;

--# session_settings
CREATE TABLE session_settings (id INT PRIMARY KEY, t VARCHAR(20), n DECIMAL(5,2));
--# then
SET NAMES latin1; INSERT INTO session_settings VALUES (1, 'é', 1); ALTER TABLE session_settings ADD COLUMN l VARCHAR(10) DEFAULT 'é' COMMENT 'é'; INSERT INTO session_settings (id) VALUES (2);
SET NAMES gbk; INSERT INTO session_settings VALUES (3, _gbk 0xD6D0, 3, 'x'); SET NAMES utf8mb4; SET unique_checks = 0, foreign_key_checks = 0; INSERT INTO session_settings VALUES (4, '中', 999.99, NULL); SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED; UPDATE session_settings SET n = n / 3;

--# expression_index from mysql to mysql
CREATE TABLE expression_index (id INT PRIMARY KEY, a INT, j JSON, KEY ((a + 1)), UNIQUE ((a * 2)), KEY ((CAST(j->'$.tags' AS UNSIGNED ARRAY)))); INSERT INTO expression_index VALUES (1, 2, '{"tags": [1, 2]}'), (2, NULL, NULL);
--# then
INSERT INTO expression_index VALUES (3, 4, '{"tags": [3]}'); UPDATE expression_index SET a = a + 1, j = JSON_SET(j, '$.tags', JSON_ARRAY(9)); ALTER TABLE expression_index ADD INDEX ((LOWER(CAST(a AS CHAR)))); DELETE FROM expression_index WHERE id = 1;

--# expression_index_there from mysql to mariadb halts KEY
--# then
CREATE TABLE expression_index_there (id INT PRIMARY KEY, a INT, KEY ((a + 1)));
--# mend
SET sql_log_bin = 0; CREATE TABLE orders.expression_index_there (id INT PRIMARY KEY, a INT);

--# vectors from mysql to mysql
CREATE TABLE vectors (id INT PRIMARY KEY, v VECTOR(3)); INSERT INTO vectors VALUES (1, STRING_TO_VECTOR('[1,2.5,-3]')), (2, NULL);
--# then
INSERT INTO vectors VALUES (3, STRING_TO_VECTOR('[1e-20,3.4e38,-1]')); UPDATE vectors SET v = STRING_TO_VECTOR('[4,5]') WHERE id = 1; DELETE FROM vectors WHERE id = 2;

--# vectors_there from mysql to mariadb halts VECTOR
--# then
CREATE TABLE vectors_there (id INT PRIMARY KEY, v VECTOR(3));
--# finally
SET sql_log_bin = 0; DROP TABLE vectors_there;

--# json_to_json from mysql to mysql
CREATE TABLE json_to_json (id INT PRIMARY KEY, j JSON);
INSERT INTO json_to_json VALUES (1, JSON_OBJECT('d', CAST(1.10 AS DECIMAL(10,2)), 'big', CAST(12345678901234567890.12 AS DECIMAL(40,2)), 'u', 18446744073709551615, 'f', 1e0, 'n', NULL)), (2, '[1.0, -0.0, 1e20, 0.1, true, "x\\"\\\\"]');
--# then
INSERT INTO json_to_json VALUES (3, JSON_SET('{"a": [1, {"b": 2}]}', '$.a[1].b', 1.50)), (4, JSON_ARRAY(CAST(-0.001 AS DECIMAL(65,30)), CAST(99999999999999999999999999999999999.999999999999999999999999999999 AS DECIMAL(65,30)), 5.0, 5.0e0)); UPDATE json_to_json SET j = JSON_SET(j, '$.price', 19.90) WHERE id IN (1, 3); INSERT INTO json_to_json SELECT 5, CAST(3.140 AS JSON); UPDATE json_to_json SET j = JSON_ARRAY(j, DATE'2020-01-02', TIME'-12:34:56.5', 7.00) WHERE id = 2;

--# json_to_text from mysql to mariadb
CREATE TABLE json_to_text (id INT PRIMARY KEY, j JSON);
INSERT INTO json_to_text VALUES (1, JSON_OBJECT('d', CAST(1.10 AS DECIMAL(10,2)), 'big', CAST(12345678901234567890.12 AS DECIMAL(40,2)))), (2, '[1.0, -0.0, 1e20, 0.1, true, "x\\"\\\\"]');
--# then
INSERT INTO json_to_text VALUES (3, JSON_SET('{"a": [1, {"b": 2}]}', '$.a[1].b', 1.50)); UPDATE json_to_text SET j = JSON_SET(j, '$.price', 19.90) WHERE id = 1;

--# own_primary_key from mysql
SET sql_generate_invisible_primary_key = 1; CREATE TABLE own_primary_key (a INT, b INT); INSERT INTO own_primary_key VALUES (1, 1), (1, 1), (2, 2);
--# then
UPDATE own_primary_key SET b = b + 1 WHERE a = 1; DELETE FROM own_primary_key WHERE a = 1 LIMIT 1; INSERT INTO own_primary_key VALUES (3, 3); SET sql_generate_invisible_primary_key = 1; CREATE TABLE own_primary_key_2 (a INT); INSERT INTO own_primary_key_2 VALUES (1), (1);

--# numbered_later
CREATE TABLE numbered_later (k VARCHAR(9) NOT NULL, v INT, UNIQUE (k)); INSERT INTO numbered_later VALUES ('c', 1), ('a', 2), ('b', 3);
--# then
ALTER TABLE numbered_later ADD COLUMN id INT AUTO_INCREMENT PRIMARY KEY; UPDATE numbered_later SET v = v + 1; SET auto_increment_increment = 10, auto_increment_offset = 5; ALTER TABLE numbered_later ADD COLUMN again INT, DROP COLUMN id; ALTER TABLE numbered_later ADD COLUMN id BIGINT AUTO_INCREMENT PRIMARY KEY; DELETE FROM numbered_later WHERE k = 'b';

--# narrowed
CREATE TABLE narrowed (id INT PRIMARY KEY, a DATETIME(6), b TIME(6), c DECIMAL(20,10), d DOUBLE, e VARCHAR(40)); INSERT INTO narrowed VALUES (1, '2024-01-01 00:00:00.5', '10:00:00.999999', 1.5555555555, 2.5, '17'), (2, '2024-12-31 23:59:59.999999', '-00:00:00.5', -0.05, 1e10, '3');
--# then
ALTER TABLE narrowed MODIFY a DATETIME(0), MODIFY b TIME(1); UPDATE narrowed SET d = d + 1; ALTER TABLE narrowed MODIFY c DECIMAL(20,1), MODIFY e INT; UPDATE narrowed SET e = e + 1; ALTER TABLE narrowed MODIFY d DECIMAL(20,0), MODIFY c VARCHAR(30); UPDATE narrowed SET d = d + 1 WHERE id = 1;

--# text_to_json from mariadb to mysql
--# then
CREATE TABLE text_to_json (id INT PRIMARY KEY, j JSON); INSERT INTO text_to_json VALUES (1, '{"price": 19.90, "big": 12345678901234567890.12, "b": [1, 2.50, {"x": "\\u00e9"}]}'), (2, '[]'), (3, NULL), (4, '"text"'), (5, '12345678901234567890123');

--# text_loses from mariadb to mysql halts MySQL would keep
--# then
CREATE TABLE text_loses (id INT PRIMARY KEY, j JSON); INSERT INTO text_loses VALUES (7, '{"a": 1, "a": 2}');
--# mend
ALTER TABLE orders.text_loses MODIFY j LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
