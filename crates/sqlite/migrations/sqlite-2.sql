-- Version 2 of the file of a SqliteStore.
--
-- Ids of users may hold `|`, `+` and `=` too, as identity providers write them. What is checked changes, and nothing that is
-- stored: SQLite's own way for that is to write the checks anew, which takes no copy of the tables, however large they are.
-- Processes of the version before read the new checks as well. A user whom they cannot read is an error for them (503), and
-- never somebody else.

PRAGMA writable_schema = ON;

UPDATE sqlite_master SET sql = replace(sql, 'owner NOT GLOB ''*[^A-Za-z0-9._:@-]*''', 'owner NOT GLOB ''*[^A-Za-z0-9._:@|+=-]*''')
WHERE type = 'table' AND name IN ('keys', 'history');

UPDATE sqlite_master SET sql = replace(sql, 'user NOT GLOB ''*[^A-Za-z0-9._:@-]*''', 'user NOT GLOB ''*[^A-Za-z0-9._:@|+=-]*''')
WHERE type = 'table' AND name = 'people';

PRAGMA writable_schema = RESET;

-- Tells every open connection, this one too, that the schema is another.
CREATE TABLE schema_has_changed (number);
DROP TABLE schema_has_changed;
