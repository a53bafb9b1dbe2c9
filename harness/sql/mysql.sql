-- The accounts on a MySQL server. What the product's own account needs is exactly this; the user's
-- documents state the same list.
CREATE USER 'multiactive'@'%' IDENTIFIED BY 'multiactive-password';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, CREATE ROUTINE,
  ALTER ROUTINE, EXECUTE, EVENT, TRIGGER, CREATE VIEW, SHOW VIEW, LOCK TABLES, RELOAD, PROCESS,
  REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'multiactive'@'%';
GRANT CONNECTION_ADMIN, SYSTEM_VARIABLES_ADMIN, PERSIST_RO_VARIABLES_ADMIN,
  SESSION_VARIABLES_ADMIN, REPLICATION_APPLIER, BINLOG_ADMIN, TRANSACTION_GTID_TAG,
  XA_RECOVER_ADMIN ON *.* TO 'multiactive'@'%';

-- An application: no privilege that passes read_only by.
CREATE DATABASE orders;
CREATE USER 'app'@'%' IDENTIFIED BY 'app-password';
GRANT ALL ON orders.* TO 'app'@'%';
