-- Version 2 of the schema of a PostgresStore. `tower_api_key` stands for the schema's name.
--
-- Ids of users may also contain `|`, `+` and `=`, as identity providers use them. The domain of all ids is widened,
-- and the columns of all other ids get the previous check. No row is read or rewritten: NOT VALID applies to new
-- rows, and existing rows were checked when they were inserted. Nodes of the previous version continue; a user with
-- such an id is an error for them (503), or `Everything` in their log, and never another user.

ALTER TABLE tower_api_key.keys
    ADD CONSTRAINT ids_of_keys CHECK (
        id ~ '^[A-Za-z0-9._:@-]+$'
        AND family ~ '^[A-Za-z0-9._:@-]+$'
        AND (project IS NULL OR project ~ '^[A-Za-z0-9._:@-]+$')
        AND (replaced_by IS NULL OR replaced_by ~ '^[A-Za-z0-9._:@-]+$')
    ) NOT VALID;
ALTER TABLE tower_api_key.history ADD CONSTRAINT ids_of_keys CHECK (key ~ '^[A-Za-z0-9._:@-]+$') NOT VALID;
ALTER TABLE tower_api_key.usage ADD CONSTRAINT ids_of_keys CHECK (key ~ '^[A-Za-z0-9._:@-]+$') NOT VALID;
ALTER TABLE tower_api_key.accounts ADD CONSTRAINT ids_of_accounts CHECK (id ~ '^[A-Za-z0-9._:@-]+$') NOT VALID;
ALTER TABLE tower_api_key.projects ADD CONSTRAINT ids_of_projects CHECK (id ~ '^[A-Za-z0-9._:@-]+$') NOT VALID;

ALTER DOMAIN tower_api_key.id DROP CONSTRAINT id_check;
ALTER DOMAIN tower_api_key.id ADD CONSTRAINT id_check CHECK (VALUE ~ '^[A-Za-z0-9._:@|+=-]{1,128}$') NOT VALID;
