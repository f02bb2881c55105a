-- Version 3 of the schema of a PostgresStore. `tower_api_key` stands for the schema's name.
--
-- Nodes of the previous version continue to work: their changes are logged and take effect as before.

-- Logs all keys that one statement adds at once, because an import adds some hundred at a time.
CREATE FUNCTION tower_api_key.log_new_keys() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO tower_api_key.changes (digest) SELECT digest FROM added;
    IF FOUND THEN
        PERFORM pg_notify('tower_api_key', '');
    END IF;
    RETURN NULL;
END
$$;

DROP TRIGGER changes_of_keys ON tower_api_key.keys;
CREATE TRIGGER changes_of_keys AFTER UPDATE OR DELETE ON tower_api_key.keys
    FOR EACH ROW EXECUTE FUNCTION tower_api_key.log_key();
ALTER TABLE tower_api_key.keys ENABLE ALWAYS TRIGGER changes_of_keys;
CREATE TRIGGER changes_of_new_keys AFTER INSERT ON tower_api_key.keys REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION tower_api_key.log_new_keys();
-- For rows that are added by replication, or by a restore that disables triggers: then the trigger above does not fire.
CREATE TRIGGER changes_of_copied_keys AFTER INSERT ON tower_api_key.keys
    FOR EACH ROW EXECUTE FUNCTION tower_api_key.log_key();
ALTER TABLE tower_api_key.keys ENABLE REPLICA TRIGGER changes_of_copied_keys;

-- Removed members who had too many keys to revoke all in one transaction. Their access ended with the membership; a row
-- here means that some of their keys are still to be revoked. Nodes of the previous version revoke all keys in one
-- transaction, and do not use this table.
CREATE TABLE tower_api_key.leaving (
    user_id tower_api_key.id NOT NULL PRIMARY KEY,
    account tower_api_key.id NOT NULL REFERENCES tower_api_key.accounts (id),
    -- When the member was removed. Any number: a broken clock must not stop a removal.
    at      bigint NOT NULL
);

-- Nobody joins an account before the keys of an earlier membership are revoked. Nodes of this version revoke them before,
-- so that this trigger finds nothing; it is for nodes of the previous version and for an operator's SQL.
CREATE FUNCTION tower_api_key.end_what_is_left() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    removed bigint;
BEGIN
    DELETE FROM tower_api_key.leaving WHERE user_id = NEW.user_id RETURNING at INTO removed;
    IF FOUND THEN
        INSERT INTO tower_api_key.history (key, owner, at, by, event)
        SELECT id, owner, removed, 'system', 'revoked:member_removed' FROM tower_api_key.keys
        WHERE owner = NEW.user_id AND revoked_at IS NULL;
        UPDATE tower_api_key.keys SET revoked_at = removed WHERE owner = NEW.user_id AND revoked_at IS NULL;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER people_take_no_keys_back BEFORE INSERT OR UPDATE OF user_id ON tower_api_key.people
    FOR EACH ROW EXECUTE FUNCTION tower_api_key.end_what_is_left();

-- Roles that may remove people need rights on the new table, too.
DO $$
DECLARE
    who text;
BEGIN
    FOR who IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
        FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'tower_api_key.people'::regclass AND privilege_type = 'DELETE'
    LOOP
        EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON tower_api_key.leaving TO ' || who;
    END LOOP;
END
$$;
