-- Version 2 of the file of a SqliteStore.
--
-- Ids of users may also contain `|`, `+` and `=`, as identity providers use them. Only the checks change, not the
-- stored data: as SQLite recommends, the text of the checks is rewritten, so that no table is copied. Processes of
-- the previous version read the new checks, too. A user with such an id is an error for them (503), and never another
-- user.

PRAGMA writable_schema = ON;

UPDATE sqlite_master SET sql = replace(sql, 'owner NOT GLOB ''*[^A-Za-z0-9._:@-]*''', 'owner NOT GLOB ''*[^A-Za-z0-9._:@|+=-]*''')
WHERE type = 'table' AND name IN ('keys', 'history');

UPDATE sqlite_master SET sql = replace(sql, 'user NOT GLOB ''*[^A-Za-z0-9._:@-]*''', 'user NOT GLOB ''*[^A-Za-z0-9._:@|+=-]*''')
WHERE type = 'table' AND name = 'people';

PRAGMA writable_schema = RESET;

-- Tells every open connection, including this one, that the schema has changed.
CREATE TABLE schema_has_changed (number);
DROP TABLE schema_has_changed;
