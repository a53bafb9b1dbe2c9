-- The accounts on a MySQL server. What the product's own account needs is exactly this; the user's
-- documents state the same list.
CREATE USER 'multiactive'@'%' IDENTIFIED BY 'multiactive-password';
GRANT PROCESS, REPLICATION SLAVE ON *.* TO 'multiactive'@'%';
GRANT CONNECTION_ADMIN, SYSTEM_VARIABLES_ADMIN, PERSIST_RO_VARIABLES_ADMIN, REPLICATION_APPLIER,
  TRANSACTION_GTID_TAG, XA_RECOVER_ADMIN, SET_ANY_DEFINER ON *.* TO 'multiactive'@'%';
GRANT SELECT ON `mysql`.* TO 'multiactive'@'%';
GRANT SELECT ON performance_schema.metadata_locks TO 'multiactive'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, CREATE ROUTINE, ALTER ROUTINE, EXECUTE
  ON `multiactive`.* TO 'multiactive'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, CREATE VIEW,
  SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, TRIGGER, EVENT ON `orders`.* TO 'multiactive'@'%';

-- An application: no privilege that passes read_only by.
-- The engines' own defaults differ.
CREATE DATABASE orders CHARACTER SET utf8mb4;
CREATE USER 'app'@'%' IDENTIFIED BY 'app-password';
GRANT ALL ON orders.* TO 'app'@'%';
