-- Version 1 of the schema of a PostgresStore. `tower_api_key` stands for the schema's name.
--
-- Texts are compared byte by byte, times are microseconds since 1970 in UTC, and every id has 1 to 128 characters of
-- `A-Z a-z 0-9 . _ : @ -`. Values that pass the checks are parsed again, strictly, when they are read.

CREATE DOMAIN tower_api_key.word AS text COLLATE "C";
CREATE DOMAIN tower_api_key.id AS text COLLATE "C" CHECK (VALUE ~ '^[A-Za-z0-9._:@-]{1,128}$');
-- Texts that people write are stored as JSON strings, because PostgreSQL's texts cannot contain NUL.
CREATE DOMAIN tower_api_key.free_text AS text COLLATE "C" CHECK (json_typeof(VALUE::json) = 'string');
CREATE DOMAIN tower_api_key.list AS text COLLATE "C" CHECK (json_typeof(VALUE::json) = 'array');
CREATE DOMAIN tower_api_key.map AS text COLLATE "C" CHECK (json_typeof(VALUE::json) = 'object');
CREATE DOMAIN tower_api_key.digest AS bytea CHECK (octet_length(VALUE) = 32);

CREATE TABLE tower_api_key.keys (
    digest       tower_api_key.digest NOT NULL PRIMARY KEY,
    -- How the digest is made of a key's text; what is particular to one key stands behind a `$`.
    digested_by  tower_api_key.word NOT NULL CHECK (length(digested_by) BETWEEN 1 AND 512),
    id           tower_api_key.id NOT NULL UNIQUE,
    owner        tower_api_key.id NOT NULL,
    -- Said twice, by `level` and by `project`: a project that is lost must not leave a key for all projects.
    level        tower_api_key.word NOT NULL CHECK (level IN ('USER', 'PROJECT')),
    project      tower_api_key.id,
    environment  tower_api_key.word NOT NULL CHECK (environment IN ('live', 'test')),
    name         tower_api_key.free_text NOT NULL,
    prefix       tower_api_key.word NOT NULL CHECK (prefix = '' OR right(prefix, 6) = '_' || environment || '_'),
    last4        tower_api_key.word NOT NULL CHECK (last4 = '' OR (prefix <> '' AND length(last4) = 4)),
    scopes       tower_api_key.list NOT NULL,
    metadata     tower_api_key.map NOT NULL,
    -- Never NULL: restrictions that are lost must not leave a key without any.
    restrictions tower_api_key.map NOT NULL,
    -- Nor this, for the same reason.
    limits       tower_api_key.word NOT NULL CHECK (limits = 'none' OR (
        length(limits) BETWEEN 3 AND 512 AND limits ~ '^[A-Za-z0-9_/=,-]+$' AND limits ~ '[0-9]/'
    )),
    -- The first of the keys that replaced each other: they are counted together.
    family       tower_api_key.id NOT NULL,
    created_at   bigint NOT NULL CHECK (created_at >= 0),
    expires_at   bigint CHECK (expires_at >= 0),
    -- Any number: a broken clock must not stop a revocation.
    revoked_at   bigint,
    replaced_by  tower_api_key.id CHECK (replaced_by <> id),
    replaced_at  bigint CHECK (replaced_at >= 0),
    CHECK ((replaced_by IS NULL) = (replaced_at IS NULL)),
    CHECK ((level = 'PROJECT') = (project IS NOT NULL))
);

CREATE INDEX keys_of_owner ON tower_api_key.keys (owner, created_at, id);

-- Ended keys are never deleted, and a user may have very many. Queries for active keys must not read them.
CREATE INDEX unrevoked_keys ON tower_api_key.keys (owner, environment, expires_at, created_at, id)
    WHERE revoked_at IS NULL;

-- Raises an error with the text in the trigger's definition.
CREATE FUNCTION tower_api_key.refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END
$$;

-- A revoked key never becomes active again, whatever UPDATE is made.
CREATE TRIGGER keys_stay_revoked BEFORE UPDATE ON tower_api_key.keys FOR EACH ROW
WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
EXECUTE FUNCTION tower_api_key.refuse('a revoked key stays revoked');

-- It cannot become another key either: the columns that are fixed when a key is issued cannot be updated.
CREATE TRIGGER keys_keep_what_they_are BEFORE UPDATE ON tower_api_key.keys FOR EACH ROW
WHEN ((NEW.digest IS DISTINCT FROM OLD.digest AND NEW.digested_by IS NOT DISTINCT FROM OLD.digested_by)
    OR NEW.id IS DISTINCT FROM OLD.id
    OR NEW.owner IS DISTINCT FROM OLD.owner
    OR NEW.level IS DISTINCT FROM OLD.level
    OR NEW.project IS DISTINCT FROM OLD.project
    OR NEW.environment IS DISTINCT FROM OLD.environment
    OR NEW.created_at IS DISTINCT FROM OLD.created_at
    OR NEW.family IS DISTINCT FROM OLD.family
    OR (OLD.replaced_by IS NOT NULL AND NEW.replaced_by IS DISTINCT FROM OLD.replaced_by)
    OR (OLD.replaced_at IS NOT NULL AND NEW.replaced_at IS DISTINCT FROM OLD.replaced_at))
EXECUTE FUNCTION tower_api_key.refuse('what a key is was fixed when it was issued');

-- The audit log of keys, written in the transaction that makes the change.
CREATE TABLE tower_api_key.history (
    number bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key    tower_api_key.id NOT NULL,
    owner  tower_api_key.id NOT NULL,
    -- Any number: a broken clock must not stop a revocation.
    at     bigint NOT NULL,
    by     tower_api_key.word NOT NULL CHECK (length(by) BETWEEN 1 AND 256),
    event  tower_api_key.word NOT NULL CHECK (length(event) BETWEEN 1 AND 256)
);

CREATE INDEX history_of_key ON tower_api_key.history (key, number);

CREATE TRIGGER history_is_not_rewritten BEFORE UPDATE OR DELETE OR TRUNCATE ON tower_api_key.history
FOR EACH STATEMENT EXECUTE FUNCTION tower_api_key.refuse('what has happened stays as it was written');

-- When keys were last used. This is separate from the keys, so that a late write cannot restore anything of a key.
CREATE TABLE tower_api_key.usage (
    key     tower_api_key.id NOT NULL,
    through tower_api_key.word NOT NULL CHECK (length(through) BETWEEN 1 AND 256),
    last    bigint NOT NULL,
    count   bigint NOT NULL CHECK (count >= 0),
    PRIMARY KEY (key, through)
);

CREATE TABLE tower_api_key.accounts (
    id        tower_api_key.id NOT NULL PRIMARY KEY,
    suspended boolean NOT NULL
);

-- Deleted projects stay as tombstones: if an id were used again, old keys would give access to the new project.
CREATE TABLE tower_api_key.projects (
    account tower_api_key.id NOT NULL REFERENCES tower_api_key.accounts (id),
    id      tower_api_key.id NOT NULL,
    name    tower_api_key.free_text NOT NULL,
    deleted boolean NOT NULL,
    PRIMARY KEY (account, id)
);

CREATE TRIGGER projects_stay_deleted BEFORE UPDATE ON tower_api_key.projects FOR EACH ROW
WHEN ((OLD.deleted AND NEW.deleted IS DISTINCT FROM OLD.deleted)
    OR NEW.account IS DISTINCT FROM OLD.account
    OR NEW.id IS DISTINCT FROM OLD.id)
EXECUTE FUNCTION tower_api_key.refuse('a deleted project stays deleted');

CREATE TRIGGER projects_leave_a_tombstone BEFORE DELETE OR TRUNCATE ON tower_api_key.projects FOR EACH STATEMENT
EXECUTE FUNCTION tower_api_key.refuse('projects are marked as deleted');

-- Each user belongs to one account, and has one role and a list of projects.
CREATE TABLE tower_api_key.people (
    user_id tower_api_key.id NOT NULL PRIMARY KEY,
    account tower_api_key.id NOT NULL REFERENCES tower_api_key.accounts (id),
    role    tower_api_key.word NOT NULL CHECK (role IN ('OWNER', 'FULL', 'READONLY')),
    UNIQUE (user_id, account)
);

CREATE UNIQUE INDEX one_owner_of_account ON tower_api_key.people (account) WHERE role = 'OWNER';
CREATE INDEX people_of_account ON tower_api_key.people (account);

-- The two references make it impossible to give access to another account's project.
CREATE TABLE tower_api_key.access (
    user_id tower_api_key.id NOT NULL,
    account tower_api_key.id NOT NULL,
    project tower_api_key.id NOT NULL,
    PRIMARY KEY (user_id, project),
    FOREIGN KEY (user_id, account) REFERENCES tower_api_key.people (user_id, account) ON DELETE CASCADE,
    FOREIGN KEY (account, project) REFERENCES tower_api_key.projects (account, id)
);

CREATE INDEX access_to_project ON tower_api_key.access (account, project);

-- The change log, for nodes that remember data. Triggers write it, so that it includes changes by plain SQL.

-- A row with neither a key nor an owner means `Everything`.
CREATE TABLE tower_api_key.changes (
    xid    xid8 NOT NULL DEFAULT pg_current_xact_id(),
    digest bytea,
    owner  text COLLATE "C",
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX changes_by_transaction ON tower_api_key.changes (xid);

-- Changes of transactions before this one may have been pruned from the log.
CREATE TABLE tower_api_key.pruned (
    one    boolean NOT NULL PRIMARY KEY CHECK (one),
    before xid8 NOT NULL
);

INSERT INTO tower_api_key.pruned VALUES (true, '0');

-- The nodes that a change waits for, and the position of each. `era` is one run of the server; a snapshot is
-- worthless in another run.
CREATE TABLE tower_api_key.nodes (
    node     text COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(node) BETWEEN 1 AND 128),
    acked    pg_snapshot NOT NULL,
    era      bigint NOT NULL,
    lease_ms bigint NOT NULL CHECK (lease_ms BETWEEN 1 AND 60000),
    seen_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION tower_api_key.era() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint
$$;

-- These functions run as the owner of the schema, because a role that may change a table needs no rights on the log.
CREATE FUNCTION tower_api_key.log_key() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO tower_api_key.changes (digest) VALUES (OLD.digest);
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND NEW.digest <> OLD.digest) THEN
        INSERT INTO tower_api_key.changes (digest) VALUES (NEW.digest);
    END IF;
    PERFORM pg_notify('tower_api_key', '');
    RETURN NULL;
END
$$;

-- For rows of people and of access.
CREATE FUNCTION tower_api_key.log_person() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO tower_api_key.changes (owner) VALUES (OLD.user_id);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        -- Whoever changes the whole account meanwhile sees this person, or this waits and sees that change.
        PERFORM 1 FROM tower_api_key.accounts WHERE id = NEW.account FOR SHARE;
        INSERT INTO tower_api_key.changes (owner) VALUES (NEW.user_id);
    END IF;
    PERFORM pg_notify('tower_api_key', '');
    RETURN NULL;
END
$$;

-- For changes that affect everybody in an account; the trigger names the column with the account.
CREATE FUNCTION tower_api_key.log_account() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := to_jsonb(OLD) ->> TG_ARGV[0];
    ELSE
        changed := to_jsonb(NEW) ->> TG_ARGV[0];
    END IF;
    PERFORM 1 FROM tower_api_key.accounts WHERE id = changed FOR NO KEY UPDATE;
    IF current_setting('transaction_isolation') = 'read committed' THEN
        INSERT INTO tower_api_key.changes (owner) SELECT user_id FROM tower_api_key.people WHERE account = changed;
    ELSE
        -- Its view of the people may be an old one.
        INSERT INTO tower_api_key.changes DEFAULT VALUES;
    END IF;
    PERFORM pg_notify('tower_api_key', '');
    RETURN NULL;
END
$$;

CREATE FUNCTION tower_api_key.log_everything() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO tower_api_key.changes DEFAULT VALUES;
    PERFORM pg_notify('tower_api_key', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER changes_of_keys AFTER INSERT OR UPDATE OR DELETE ON tower_api_key.keys
    FOR EACH ROW EXECUTE FUNCTION tower_api_key.log_key();
CREATE TRIGGER changes_of_people AFTER INSERT OR UPDATE OR DELETE ON tower_api_key.people
    FOR EACH ROW EXECUTE FUNCTION tower_api_key.log_person();
CREATE TRIGGER changes_of_access AFTER INSERT OR UPDATE OR DELETE ON tower_api_key.access
    FOR EACH ROW EXECUTE FUNCTION tower_api_key.log_person();
CREATE TRIGGER changes_of_accounts AFTER INSERT OR UPDATE OR DELETE ON tower_api_key.accounts
    FOR EACH ROW EXECUTE FUNCTION tower_api_key.log_account('id');
CREATE TRIGGER changes_of_projects AFTER INSERT OR UPDATE OR DELETE ON tower_api_key.projects
    FOR EACH ROW EXECUTE FUNCTION tower_api_key.log_account('account');
CREATE TRIGGER all_of_keys AFTER TRUNCATE ON tower_api_key.keys
    FOR EACH STATEMENT EXECUTE FUNCTION tower_api_key.log_everything();
CREATE TRIGGER all_of_people AFTER TRUNCATE ON tower_api_key.people
    FOR EACH STATEMENT EXECUTE FUNCTION tower_api_key.log_everything();
CREATE TRIGGER all_of_access AFTER TRUNCATE ON tower_api_key.access
    FOR EACH STATEMENT EXECUTE FUNCTION tower_api_key.log_everything();
CREATE TRIGGER all_of_accounts AFTER TRUNCATE ON tower_api_key.accounts
    FOR EACH STATEMENT EXECUTE FUNCTION tower_api_key.log_everything();

-- The triggers also run for replicated rows, and during a restore that disables triggers.
ALTER TABLE tower_api_key.keys ENABLE ALWAYS TRIGGER changes_of_keys;
ALTER TABLE tower_api_key.keys ENABLE ALWAYS TRIGGER all_of_keys;
ALTER TABLE tower_api_key.keys ENABLE ALWAYS TRIGGER keys_stay_revoked;
ALTER TABLE tower_api_key.keys ENABLE ALWAYS TRIGGER keys_keep_what_they_are;
ALTER TABLE tower_api_key.history ENABLE ALWAYS TRIGGER history_is_not_rewritten;
ALTER TABLE tower_api_key.people ENABLE ALWAYS TRIGGER changes_of_people;
ALTER TABLE tower_api_key.people ENABLE ALWAYS TRIGGER all_of_people;
ALTER TABLE tower_api_key.access ENABLE ALWAYS TRIGGER changes_of_access;
ALTER TABLE tower_api_key.access ENABLE ALWAYS TRIGGER all_of_access;
ALTER TABLE tower_api_key.accounts ENABLE ALWAYS TRIGGER changes_of_accounts;
ALTER TABLE tower_api_key.accounts ENABLE ALWAYS TRIGGER all_of_accounts;
ALTER TABLE tower_api_key.projects ENABLE ALWAYS TRIGGER changes_of_projects;
ALTER TABLE tower_api_key.projects ENABLE ALWAYS TRIGGER projects_stay_deleted;
ALTER TABLE tower_api_key.projects ENABLE ALWAYS TRIGGER projects_leave_a_tombstone;
