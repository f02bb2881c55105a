-- Version 3 of the file of a SqliteStore.
--
-- Removed members who had too many keys to revoke all in one transaction. Their access ended with the membership; a row
-- here means that some of their keys are still to be revoked. Processes of the previous version revoke all keys in one
-- transaction, and do not use this table.

CREATE TABLE leaving (
    user    TEXT NOT NULL PRIMARY KEY
            CHECK (length(user) BETWEEN 1 AND 128 AND user NOT GLOB '*[^A-Za-z0-9._:@|+=-]*'),
    account TEXT NOT NULL REFERENCES accounts (id),
    -- When the member was removed. Any number: a broken clock must not stop a removal.
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Nobody joins an account before the keys of an earlier membership are revoked. Processes of this version revoke them
-- before, so that this trigger finds nothing; it is for processes of the previous version and for an operator's SQL.
CREATE TRIGGER people_take_no_keys_back BEFORE INSERT ON people
WHEN EXISTS (SELECT 1 FROM leaving WHERE user = NEW.user)
BEGIN
    INSERT INTO history (key, owner, at, by, event)
    SELECT keys.id, keys.owner, leaving.at, 'system', 'revoked:member_removed'
    FROM leaving JOIN keys ON keys.owner = leaving.user
    WHERE leaving.user = NEW.user AND keys.revoked_at IS NULL;
    UPDATE keys SET revoked_at = (SELECT at FROM leaving WHERE user = NEW.user)
    WHERE owner = NEW.user AND revoked_at IS NULL;
    DELETE FROM leaving WHERE user = NEW.user;
END;

-- The number of unrevoked keys by method of digest, so that counting need not read all keys. Triggers maintain it, also for
-- changes by processes of the previous version.
CREATE TABLE digest_counts (
    kind  TEXT NOT NULL PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO digest_counts (kind, count)
SELECT substr(digested_by, 1, instr(digested_by || '$', '$') - 1), count(*) FROM keys WHERE revoked_at IS NULL GROUP BY 1;

CREATE TRIGGER keys_are_counted AFTER INSERT ON keys WHEN NEW.revoked_at IS NULL
BEGIN
    INSERT INTO digest_counts (kind, count)
    VALUES (substr(NEW.digested_by, 1, instr(NEW.digested_by || '$', '$') - 1), 1)
    ON CONFLICT (kind) DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER ended_keys_are_not_counted AFTER UPDATE OF revoked_at, digested_by ON keys
WHEN OLD.revoked_at IS NULL AND (NEW.revoked_at IS NOT NULL OR NEW.digested_by IS NOT OLD.digested_by)
BEGIN
    UPDATE digest_counts SET count = count - 1
    WHERE kind = substr(OLD.digested_by, 1, instr(OLD.digested_by || '$', '$') - 1);
END;

CREATE TRIGGER rehashed_keys_are_counted AFTER UPDATE OF digested_by ON keys
WHEN NEW.revoked_at IS NULL AND NEW.digested_by IS NOT OLD.digested_by
BEGIN
    INSERT INTO digest_counts (kind, count)
    VALUES (substr(NEW.digested_by, 1, instr(NEW.digested_by || '$', '$') - 1), 1)
    ON CONFLICT (kind) DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER deleted_keys_are_not_counted AFTER DELETE ON keys WHEN OLD.revoked_at IS NULL
BEGIN
    UPDATE digest_counts SET count = count - 1
    WHERE kind = substr(OLD.digested_by, 1, instr(OLD.digested_by || '$', '$') - 1);
END;
