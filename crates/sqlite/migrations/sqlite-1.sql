-- Version 1 of the file of a SqliteStore.
--
-- Texts are compared byte by byte (BINARY, SQLite's default), times are microseconds since 1970 in UTC, and every id
-- has 1 to 128 characters of `A-Z a-z 0-9 . _ : @ -`. Values that pass the checks are parsed again, strictly, when
-- they are read.

-- A look-up by digest is one descent, because the table itself is ordered by digest.
CREATE TABLE keys (
    digest      BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    -- How the digest is made of a key's text; what is particular to one key stands behind a `$`.
    digested_by TEXT NOT NULL CHECK (length(digested_by) BETWEEN 1 AND 512),
    id          TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 128 AND id NOT GLOB '*[^A-Za-z0-9._:@-]*'),
    owner       TEXT NOT NULL CHECK (length(owner) BETWEEN 1 AND 128 AND owner NOT GLOB '*[^A-Za-z0-9._:@-]*'),
    -- Said twice, by `level` and by `project`: a project that is lost must not leave a key for all projects.
    level       TEXT NOT NULL CHECK (level IN ('USER', 'PROJECT')),
    project     TEXT CHECK (length(project) BETWEEN 1 AND 128 AND project NOT GLOB '*[^A-Za-z0-9._:@-]*'),
    environment TEXT NOT NULL CHECK (environment IN ('live', 'test')),
    name        TEXT NOT NULL,
    prefix      TEXT NOT NULL CHECK (prefix = '' OR substr(prefix, -6) = '_' || environment || '_'),
    last4       TEXT NOT NULL CHECK (last4 = '' OR (prefix <> '' AND length(last4) = 4)),
    scopes      TEXT NOT NULL CHECK (json_valid(scopes) AND json_type(scopes) = 'array'),
    metadata    TEXT NOT NULL CHECK (json_valid(metadata) AND json_type(metadata) = 'object'),
    -- Never NULL: restrictions that are lost must not leave a key without any.
    restrictions TEXT NOT NULL CHECK (json_valid(restrictions) AND json_type(restrictions) = 'object'),
    -- Nor this, for the same reason.
    limits      TEXT NOT NULL CHECK (limits = 'none' OR (
        length(limits) BETWEEN 3 AND 512 AND limits NOT GLOB '*[^A-Za-z0-9_/=,-]*' AND limits GLOB '*[0-9]/*'
    )),
    -- The first of the keys that replaced each other: they are counted together.
    family      TEXT NOT NULL CHECK (length(family) BETWEEN 1 AND 128 AND family NOT GLOB '*[^A-Za-z0-9._:@-]*'),
    created_at  INTEGER NOT NULL CHECK (created_at >= 0),
    expires_at  INTEGER CHECK (expires_at >= 0),
    -- Any number: a broken clock must not stop a revocation.
    revoked_at  INTEGER,
    replaced_by TEXT CHECK (
        length(replaced_by) BETWEEN 1 AND 128
        AND replaced_by NOT GLOB '*[^A-Za-z0-9._:@-]*'
        AND replaced_by <> id
    ),
    replaced_at INTEGER CHECK (replaced_at >= 0),
    CHECK ((replaced_by IS NULL) = (replaced_at IS NULL)),
    CHECK ((level = 'PROJECT') = (project IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX keys_of_owner ON keys (owner, environment, created_at, id);

-- Ended keys are never deleted, and a user may have very many. Queries for active keys must not read them.
CREATE INDEX unrevoked_keys ON keys (owner, environment, expires_at, created_at, id) WHERE revoked_at IS NULL;

-- A revoked key never becomes active again, whatever UPDATE is made.
CREATE TRIGGER keys_stay_revoked BEFORE UPDATE ON keys
WHEN OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NOT OLD.revoked_at
BEGIN
    SELECT RAISE(ABORT, 'a revoked key stays revoked');
END;

-- It cannot become another key either: the columns that are fixed when a key is issued cannot be updated.
CREATE TRIGGER keys_keep_what_they_are BEFORE UPDATE ON keys
WHEN (NEW.digest IS NOT OLD.digest AND NEW.digested_by IS OLD.digested_by)
    OR NEW.id IS NOT OLD.id
    OR NEW.owner IS NOT OLD.owner
    OR NEW.level IS NOT OLD.level
    OR NEW.project IS NOT OLD.project
    OR NEW.environment IS NOT OLD.environment
    OR NEW.created_at IS NOT OLD.created_at
    OR NEW.family IS NOT OLD.family
    OR (OLD.replaced_by IS NOT NULL AND NEW.replaced_by IS NOT OLD.replaced_by)
    OR (OLD.replaced_at IS NOT NULL AND NEW.replaced_at IS NOT OLD.replaced_at)
BEGIN
    SELECT RAISE(ABORT, 'what a key is was fixed when it was issued');
END;

-- REPLACE would delete a row without running the triggers above.
CREATE TRIGGER keys_are_not_overwritten BEFORE INSERT ON keys
WHEN EXISTS (SELECT 1 FROM keys WHERE id = NEW.id) OR EXISTS (SELECT 1 FROM keys WHERE digest = NEW.digest)
BEGIN
    SELECT RAISE(ABORT, 'a key of that id or digest exists');
END;

-- The audit log of keys, written in the transaction that makes the change.
CREATE TABLE history (
    number INTEGER NOT NULL PRIMARY KEY CHECK (number > 0),
    key    TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 128 AND key NOT GLOB '*[^A-Za-z0-9._:@-]*'),
    owner  TEXT NOT NULL CHECK (length(owner) BETWEEN 1 AND 128 AND owner NOT GLOB '*[^A-Za-z0-9._:@-]*'),
    -- Any number: a broken clock must not stop a revocation.
    at     INTEGER NOT NULL,
    by     TEXT NOT NULL CHECK (length(by) BETWEEN 1 AND 256),
    event  TEXT NOT NULL CHECK (length(event) BETWEEN 1 AND 256)
) STRICT;

CREATE INDEX history_of_key ON history (key, number);

CREATE TRIGGER history_is_not_rewritten BEFORE UPDATE ON history
BEGIN
    SELECT RAISE(ABORT, 'what has happened stays as it was written');
END;

CREATE TRIGGER history_is_not_forgotten BEFORE DELETE ON history
BEGIN
    SELECT RAISE(ABORT, 'what has happened stays written');
END;

-- REPLACE would delete a row without running the trigger above.
CREATE TRIGGER history_is_not_overwritten BEFORE INSERT ON history
WHEN EXISTS (SELECT 1 FROM history WHERE number = NEW.number)
BEGIN
    SELECT RAISE(ABORT, 'what has happened stays written');
END;

-- When keys were last used. This is separate from the keys, so that a late write cannot restore anything of a key.
CREATE TABLE usage (
    key     TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 128 AND key NOT GLOB '*[^A-Za-z0-9._:@-]*'),
    through TEXT NOT NULL CHECK (length(through) BETWEEN 1 AND 256),
    last    INTEGER NOT NULL,
    count   INTEGER NOT NULL CHECK (count >= 0),
    PRIMARY KEY (key, through)
) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (
    id        TEXT NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128 AND id NOT GLOB '*[^A-Za-z0-9._:@-]*'),
    suspended INTEGER NOT NULL CHECK (suspended IN (0, 1))
) STRICT, WITHOUT ROWID;

-- Deleted projects stay as tombstones: if an id were used again, old keys would give access to the new project.
CREATE TABLE projects (
    account TEXT NOT NULL REFERENCES accounts (id),
    id      TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 128 AND id NOT GLOB '*[^A-Za-z0-9._:@-]*'),
    name    TEXT NOT NULL,
    deleted INTEGER NOT NULL CHECK (deleted IN (0, 1)),
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER projects_stay_deleted BEFORE UPDATE ON projects
WHEN (OLD.deleted <> 0 AND NEW.deleted IS NOT OLD.deleted)
    OR NEW.account IS NOT OLD.account
    OR NEW.id IS NOT OLD.id
BEGIN
    SELECT RAISE(ABORT, 'a deleted project stays deleted');
END;

CREATE TRIGGER projects_leave_a_tombstone BEFORE DELETE ON projects
BEGIN
    SELECT RAISE(ABORT, 'projects are marked as deleted');
END;

-- Each user belongs to one account, and has one role and a list of projects.
CREATE TABLE people (
    user    TEXT NOT NULL PRIMARY KEY
            CHECK (length(user) BETWEEN 1 AND 128 AND user NOT GLOB '*[^A-Za-z0-9._:@-]*'),
    account TEXT NOT NULL REFERENCES accounts (id),
    role    TEXT NOT NULL CHECK (role IN ('OWNER', 'FULL', 'READONLY')),
    UNIQUE (user, account)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX one_owner_of_account ON people (account) WHERE role = 'OWNER';

-- The two references make it impossible to give access to another account's project.
CREATE TABLE access (
    user    TEXT NOT NULL,
    account TEXT NOT NULL,
    project TEXT NOT NULL,
    PRIMARY KEY (user, project),
    FOREIGN KEY (user, account) REFERENCES people (user, account) ON DELETE CASCADE,
    FOREIGN KEY (account, project) REFERENCES projects (account, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX access_to_project ON access (account, project);
