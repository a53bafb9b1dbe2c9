-- The accounts on a MariaDB server. What the product's own account needs is exactly this; the
-- user's documents state the same list.
CREATE USER 'multiactive'@'%' IDENTIFIED BY 'multiactive-password';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, CREATE ROUTINE,
  ALTER ROUTINE, EXECUTE, EVENT, TRIGGER, CREATE VIEW, SHOW VIEW, LOCK TABLES, RELOAD, PROCESS,
  REPLICATION SLAVE, REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN, BINLOG ADMIN,
  BINLOG MONITOR, BINLOG REPLAY, READ_ONLY ADMIN, CONNECTION ADMIN, SLAVE MONITOR
  ON *.* TO 'multiactive'@'%';

-- An application: no privilege that passes read_only by.
CREATE DATABASE orders;
CREATE USER 'app'@'%' IDENTIFIED BY 'app-password';
GRANT ALL ON orders.* TO 'app'@'%';
