--
-- PostgreSQL database dump
--


-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: tower_api_key; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA tower_api_key;


--
-- Name: digest; Type: DOMAIN; Schema: tower_api_key; Owner: -
--

CREATE DOMAIN tower_api_key.digest AS bytea
	CONSTRAINT digest_check CHECK ((octet_length(VALUE) = 32));


--
-- Name: free_text; Type: DOMAIN; Schema: tower_api_key; Owner: -
--

CREATE DOMAIN tower_api_key.free_text AS text COLLATE pg_catalog."C"
	CONSTRAINT free_text_check CHECK ((json_typeof((VALUE)::json) = 'string'::text));


--
-- Name: id; Type: DOMAIN; Schema: tower_api_key; Owner: -
--

CREATE DOMAIN tower_api_key.id AS text COLLATE pg_catalog."C";


--
-- Name: list; Type: DOMAIN; Schema: tower_api_key; Owner: -
--

CREATE DOMAIN tower_api_key.list AS text COLLATE pg_catalog."C"
	CONSTRAINT list_check CHECK ((json_typeof((VALUE)::json) = 'array'::text));


--
-- Name: map; Type: DOMAIN; Schema: tower_api_key; Owner: -
--

CREATE DOMAIN tower_api_key.map AS text COLLATE pg_catalog."C"
	CONSTRAINT map_check CHECK ((json_typeof((VALUE)::json) = 'object'::text));


--
-- Name: word; Type: DOMAIN; Schema: tower_api_key; Owner: -
--

CREATE DOMAIN tower_api_key.word AS text COLLATE pg_catalog."C";


--
-- Name: era(); Type: FUNCTION; Schema: tower_api_key; Owner: -
--

CREATE FUNCTION tower_api_key.era() RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint
$$;


--
-- Name: log_account(); Type: FUNCTION; Schema: tower_api_key; Owner: -
--

CREATE FUNCTION tower_api_key.log_account() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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


--
-- Name: log_everything(); Type: FUNCTION; Schema: tower_api_key; Owner: -
--

CREATE FUNCTION tower_api_key.log_everything() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    INSERT INTO tower_api_key.changes DEFAULT VALUES;
    PERFORM pg_notify('tower_api_key', '');
    RETURN NULL;
END
$$;


--
-- Name: log_key(); Type: FUNCTION; Schema: tower_api_key; Owner: -
--

CREATE FUNCTION tower_api_key.log_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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


--
-- Name: log_person(); Type: FUNCTION; Schema: tower_api_key; Owner: -
--

CREATE FUNCTION tower_api_key.log_person() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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


--
-- Name: refuse(); Type: FUNCTION; Schema: tower_api_key; Owner: -
--

CREATE FUNCTION tower_api_key.refuse() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END
$$;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: access; Type: TABLE; Schema: tower_api_key; Owner: -
--

CREATE TABLE tower_api_key.access (
    user_id tower_api_key.id NOT NULL,
    account tower_api_key.id NOT NULL,
    project tower_api_key.id NOT NULL
);


--
-- Name: accounts; Type: TABLE; Schema: tower_api_key; Owner: -
--

CREATE TABLE tower_api_key.accounts (
    id tower_api_key.id NOT NULL,
    suspended boolean NOT NULL
);


--
-- Name: changes; Type: TABLE; Schema: tower_api_key; Owner: -
--

CREATE TABLE tower_api_key.changes (
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    digest bytea,
    owner text COLLATE pg_catalog."C",
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);


--
-- Name: history; Type: TABLE; Schema: tower_api_key; Owner: -
--

CREATE TABLE tower_api_key.history (
    number bigint NOT NULL,
    key tower_api_key.id NOT NULL,
    owner tower_api_key.id NOT NULL,
    at bigint NOT NULL,
    by tower_api_key.word NOT NULL,
    event tower_api_key.word NOT NULL,
    CONSTRAINT history_by_check CHECK (((length((by)::text) >= 1) AND (length((by)::text) <= 256))),
    CONSTRAINT history_event_check CHECK (((length((event)::text) >= 1) AND (length((event)::text) <= 256)))
);


--
-- Name: history_number_seq; Type: SEQUENCE; Schema: tower_api_key; Owner: -
--

ALTER TABLE tower_api_key.history ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME tower_api_key.history_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: keys; Type: TABLE; Schema: tower_api_key; Owner: -
--

CREATE TABLE tower_api_key.keys (
    digest tower_api_key.digest NOT NULL,
    digested_by tower_api_key.word NOT NULL,
    id tower_api_key.id NOT NULL,
    owner tower_api_key.id NOT NULL,
    level tower_api_key.word NOT NULL,
    project tower_api_key.id,
    environment tower_api_key.word NOT NULL,
    name tower_api_key.free_text NOT NULL,
    prefix tower_api_key.word NOT NULL,
    last4 tower_api_key.word NOT NULL,
    scopes tower_api_key.list NOT NULL,
    metadata tower_api_key.map NOT NULL,
    restrictions tower_api_key.map NOT NULL,
    limits tower_api_key.word NOT NULL,
    family tower_api_key.id NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    replaced_by tower_api_key.id,
    replaced_at bigint,
    CONSTRAINT keys_check CHECK ((((prefix)::text = ''::text) OR ("right"((prefix)::text, 6) = (('_'::text || (environment)::text) || '_'::text)))),
    CONSTRAINT keys_check1 CHECK ((((last4)::text = ''::text) OR (((prefix)::text <> ''::text) AND (length((last4)::text) = 4)))),
    CONSTRAINT keys_check2 CHECK (((replaced_by)::text <> (id)::text)),
    CONSTRAINT keys_check3 CHECK (((replaced_by IS NULL) = (replaced_at IS NULL))),
    CONSTRAINT keys_check4 CHECK ((((level)::text = 'PROJECT'::text) = (project IS NOT NULL))),
    CONSTRAINT keys_created_at_check CHECK ((created_at >= 0)),
    CONSTRAINT keys_digested_by_check CHECK (((length((digested_by)::text) >= 1) AND (length((digested_by)::text) <= 512))),
    CONSTRAINT keys_environment_check CHECK (((environment)::text = ANY (ARRAY['live'::text, 'test'::text]))),
    CONSTRAINT keys_expires_at_check CHECK ((expires_at >= 0)),
    CONSTRAINT keys_level_check CHECK (((level)::text = ANY (ARRAY['USER'::text, 'PROJECT'::text]))),
    CONSTRAINT keys_limits_check CHECK ((((limits)::text = 'none'::text) OR (((length((limits)::text) >= 3) AND (length((limits)::text) <= 512)) AND ((limits)::text ~ '^[A-Za-z0-9_/=,-]+$'::text) AND ((limits)::text ~ '[0-9]/'::text)))),
    CONSTRAINT keys_replaced_at_check CHECK ((replaced_at >= 0))
);


--
-- Name: nodes; Type: TABLE; Schema: tower_api_key; Owner: -
--

CREATE TABLE tower_api_key.nodes (
    node text NOT NULL COLLATE pg_catalog."C",
    acked pg_snapshot NOT NULL,
    era bigint NOT NULL,
    lease_ms bigint NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT nodes_lease_ms_check CHECK (((lease_ms >= 1) AND (lease_ms <= 60000))),
    CONSTRAINT nodes_node_check CHECK (((length(node) >= 1) AND (length(node) <= 128)))
);


--
-- Name: people; Type: TABLE; Schema: tower_api_key; Owner: -
--

CREATE TABLE tower_api_key.people (
    user_id tower_api_key.id NOT NULL,
    account tower_api_key.id NOT NULL,
    role tower_api_key.word NOT NULL,
    CONSTRAINT people_role_check CHECK (((role)::text = ANY (ARRAY['OWNER'::text, 'FULL'::text, 'READONLY'::text])))
);


--
-- Name: projects; Type: TABLE; Schema: tower_api_key; Owner: -
--

CREATE TABLE tower_api_key.projects (
    account tower_api_key.id NOT NULL,
    id tower_api_key.id NOT NULL,
    name tower_api_key.free_text NOT NULL,
    deleted boolean NOT NULL
);


--
-- Name: pruned; Type: TABLE; Schema: tower_api_key; Owner: -
--

CREATE TABLE tower_api_key.pruned (
    one boolean NOT NULL,
    before xid8 NOT NULL,
    CONSTRAINT pruned_one_check CHECK (one)
);


--
-- Name: usage; Type: TABLE; Schema: tower_api_key; Owner: -
--

CREATE TABLE tower_api_key.usage (
    key tower_api_key.id NOT NULL,
    through tower_api_key.word NOT NULL,
    last bigint NOT NULL,
    count bigint NOT NULL,
    CONSTRAINT usage_count_check CHECK ((count >= 0)),
    CONSTRAINT usage_through_check CHECK (((length((through)::text) >= 1) AND (length((through)::text) <= 256)))
);


--
-- Name: version; Type: TABLE; Schema: tower_api_key; Owner: -
--

CREATE TABLE tower_api_key.version (
    one boolean NOT NULL,
    version integer NOT NULL,
    CONSTRAINT version_one_check CHECK (one)
);


--
-- Data for Name: access; Type: TABLE DATA; Schema: tower_api_key; Owner: -
--

INSERT INTO tower_api_key.access VALUES ('bob', 'acme', 'p1');
INSERT INTO tower_api_key.access VALUES ('auth0|carol+=', 'acme', 'p1');
INSERT INTO tower_api_key.access VALUES ('auth0|carol+=', 'acme', 'p2');


--
-- Data for Name: accounts; Type: TABLE DATA; Schema: tower_api_key; Owner: -
--

INSERT INTO tower_api_key.accounts VALUES ('acme', false);
INSERT INTO tower_api_key.accounts VALUES ('gone', true);


--
-- Data for Name: changes; Type: TABLE DATA; Schema: tower_api_key; Owner: -
--

INSERT INTO tower_api_key.changes VALUES ('790', NULL, 'alice', '2026-11-28 06:05:20.983677+00');
INSERT INTO tower_api_key.changes VALUES ('791', NULL, 'mallory', '2026-11-28 06:05:20.990916+00');
INSERT INTO tower_api_key.changes VALUES ('792', NULL, 'alice', '2026-11-28 06:05:20.997108+00');
INSERT INTO tower_api_key.changes VALUES ('793', NULL, 'alice', '2026-11-28 06:05:21.00218+00');
INSERT INTO tower_api_key.changes VALUES ('794', NULL, 'bob', '2026-11-28 06:05:21.005687+00');
INSERT INTO tower_api_key.changes VALUES ('794', NULL, 'bob', '2026-11-28 06:05:21.006737+00');
INSERT INTO tower_api_key.changes VALUES ('795', NULL, 'auth0|carol+=', '2026-11-28 06:05:21.009675+00');
INSERT INTO tower_api_key.changes VALUES ('795', NULL, 'auth0|carol+=', '2026-11-28 06:05:21.010011+00');
INSERT INTO tower_api_key.changes VALUES ('795', NULL, 'auth0|carol+=', '2026-11-28 06:05:21.010197+00');
INSERT INTO tower_api_key.changes VALUES ('796', '\xba623880485dfbe8486517ad31f4c36a6473e9ec86536f1c483e8000a470f63b', NULL, '2026-11-28 06:05:21.015634+00');
INSERT INTO tower_api_key.changes VALUES ('797', '\x95e16b756802ddbfa605e0112c1ded603b7bd60dbcac2406c258ce2d316226d0', NULL, '2026-11-28 06:05:21.022341+00');
INSERT INTO tower_api_key.changes VALUES ('798', '\x846b72a9f140ca5980eea302f1bd8ddd9f6cb75009db985f685d00e502762e52', NULL, '2026-11-28 06:05:21.043293+00');
INSERT INTO tower_api_key.changes VALUES ('799', '\x2670302a6d7b672fd75117a6807ba8f5b967c4df4e1f2d11f5e9401501fb2e59', NULL, '2026-11-28 06:05:21.048624+00');
INSERT INTO tower_api_key.changes VALUES ('800', '\x139d793b9236254d60520a1e36cd9fcd434585ce25b8983646c09ea20ae1fade', NULL, '2026-11-28 06:05:21.053552+00');
INSERT INTO tower_api_key.changes VALUES ('801', '\xda42183f4f667ff5b995da402d9ce6ca5fd885399a08bd96b117163157d74fc4', NULL, '2026-11-28 06:05:21.057533+00');
INSERT INTO tower_api_key.changes VALUES ('802', '\xda42183f4f667ff5b995da402d9ce6ca5fd885399a08bd96b117163157d74fc4', NULL, '2026-11-28 06:05:21.062425+00');
INSERT INTO tower_api_key.changes VALUES ('803', '\x53518a813ae43e1e9cf6cab909d859722c2c275dfb3146e67bbe5729a9eaea03', NULL, '2026-11-28 06:05:21.069187+00');
INSERT INTO tower_api_key.changes VALUES ('804', '\x53518a813ae43e1e9cf6cab909d859722c2c275dfb3146e67bbe5729a9eaea03', NULL, '2026-11-28 06:05:21.070876+00');
INSERT INTO tower_api_key.changes VALUES ('805', '\x8cebe164d360c03709284dd9195bf4d9b23dd78d0edcdc3f8433221cd8fe9cf2', NULL, '2026-11-28 06:05:21.077141+00');
INSERT INTO tower_api_key.changes VALUES ('806', '\xc0b9a244235c3a8ca858d96323f6b438b59a36accc7a4dc3559ac91314968188', NULL, '2026-11-28 06:05:21.080536+00');
INSERT INTO tower_api_key.changes VALUES ('807', NULL, 'mallory', '2026-11-28 06:05:21.084762+00');
INSERT INTO tower_api_key.changes VALUES ('808', '\x0000000000000000000000000000000000000000000000000000000000000000', NULL, '2026-11-28 06:05:21.089122+00');


--
-- Data for Name: history; Type: TABLE DATA; Schema: tower_api_key; Owner: -
--

INSERT INTO tower_api_key.history OVERRIDING SYSTEM VALUE VALUES (1, 'key_alice', 'alice', 1790000000000000, 'system', 'imported');
INSERT INTO tower_api_key.history OVERRIDING SYSTEM VALUE VALUES (2, 'key_bob', 'bob', 1790000000000000, 'system', 'imported');
INSERT INTO tower_api_key.history OVERRIDING SYSTEM VALUE VALUES (3, 'key_carol', 'auth0|carol+=', 1790000000000000, 'system', 'imported');
INSERT INTO tower_api_key.history OVERRIDING SYSTEM VALUE VALUES (4, 'key_mallory', 'mallory', 1790000000000000, 'system', 'imported');
INSERT INTO tower_api_key.history OVERRIDING SYSTEM VALUE VALUES (5, 'key_alice-p1', 'alice', 1790000000000000, 'system', 'imported');
INSERT INTO tower_api_key.history OVERRIDING SYSTEM VALUE VALUES (6, 'key_narrow', 'alice', 1790000000000000, 'system', 'imported');
INSERT INTO tower_api_key.history OVERRIDING SYSTEM VALUE VALUES (7, 'key_narrow', 'alice', 1790000060000000, 'system', 'amended:name');
INSERT INTO tower_api_key.history OVERRIDING SYSTEM VALUE VALUES (8, 'key_revoked', 'alice', 1790000000000000, 'system', 'imported');
INSERT INTO tower_api_key.history OVERRIDING SYSTEM VALUE VALUES (9, 'key_revoked', 'alice', 1790000070000000, 'system', 'revoked:by_hand');
INSERT INTO tower_api_key.history OVERRIDING SYSTEM VALUE VALUES (10, 'key_expired', 'alice', 1790000000000000, 'system', 'imported');
INSERT INTO tower_api_key.history OVERRIDING SYSTEM VALUE VALUES (11, 'key_old', 'alice', 1790000000000000, 'system', 'issued');
INSERT INTO tower_api_key.history OVERRIDING SYSTEM VALUE VALUES (12, 'key_shaped', 'alice', 1790000000000000, 'system', 'issued');


--
-- Data for Name: keys; Type: TABLE DATA; Schema: tower_api_key; Owner: -
--

INSERT INTO tower_api_key.keys VALUES ('\xba623880485dfbe8486517ad31f4c36a6473e9ec86536f1c483e8000a470f63b', 'sha256', 'key_alice', 'alice', 'USER', NULL, 'live', '"The key of alice"', '', '', '[]', '{}', '{}', 'none', 'key_alice', 1790000000000000, NULL, NULL, NULL, NULL);
INSERT INTO tower_api_key.keys VALUES ('\x95e16b756802ddbfa605e0112c1ded603b7bd60dbcac2406c258ce2d316226d0', 'sha256', 'key_bob', 'bob', 'USER', NULL, 'live', '"The key of bob"', '', '', '[]', '{}', '{}', 'none', 'key_bob', 1790000000000000, NULL, NULL, NULL, NULL);
INSERT INTO tower_api_key.keys VALUES ('\x846b72a9f140ca5980eea302f1bd8ddd9f6cb75009db985f685d00e502762e52', 'sha256', 'key_carol', 'auth0|carol+=', 'USER', NULL, 'live', '"The key of carol"', '', '', '[]', '{}', '{}', 'none', 'key_carol', 1790000000000000, NULL, NULL, NULL, NULL);
INSERT INTO tower_api_key.keys VALUES ('\x2670302a6d7b672fd75117a6807ba8f5b967c4df4e1f2d11f5e9401501fb2e59', 'sha256', 'key_mallory', 'mallory', 'USER', NULL, 'live', '"The key of mallory"', '', '', '[]', '{}', '{}', 'none', 'key_mallory', 1790000000000000, NULL, NULL, NULL, NULL);
INSERT INTO tower_api_key.keys VALUES ('\x139d793b9236254d60520a1e36cd9fcd434585ce25b8983646c09ea20ae1fade', 'sha256', 'key_alice-p1', 'alice', 'PROJECT', 'p1', 'test', '"The key of alice-p1"', '', '', '["charges:read","x \"y\""]', '{"plan":"gold 🔑"}', '{}', 'burst=12/min,200/30d', 'key_alice-p1', 1790000000000000, 4000000000000000, NULL, NULL, NULL);
INSERT INTO tower_api_key.keys VALUES ('\xda42183f4f667ff5b995da402d9ce6ca5fd885399a08bd96b117163157d74fc4', 'sha256', 'key_narrow', 'alice', 'USER', NULL, 'live', '"Renamed"', '', '', '[]', '{}', '{"ip":{"mode":"enforce","allow":["203.0.113.0/24","2001:db8::/32"]},"endpoints":{"mode":"enforce","allow":["GET /v1/charges"]}}', 'none', 'key_narrow', 1790000000000000, NULL, NULL, NULL, NULL);
INSERT INTO tower_api_key.keys VALUES ('\x53518a813ae43e1e9cf6cab909d859722c2c275dfb3146e67bbe5729a9eaea03', 'sha256', 'key_revoked', 'alice', 'USER', NULL, 'live', '"The key of revoked"', '', '', '[]', '{}', '{}', 'none', 'key_revoked', 1790000000000000, NULL, 1790000070000000, NULL, NULL);
INSERT INTO tower_api_key.keys VALUES ('\x8cebe164d360c03709284dd9195bf4d9b23dd78d0edcdc3f8433221cd8fe9cf2', 'sha256', 'key_expired', 'alice', 'USER', NULL, 'live', '"The key of expired"', '', '', '[]', '{}', '{}', 'none', 'key_expired', 1790000000000000, 1790000010000000, NULL, NULL, NULL);
INSERT INTO tower_api_key.keys VALUES ('\xc0b9a244235c3a8ca858d96323f6b438b59a36accc7a4dc3559ac91314968188', 'sha256', 'key_old', 'alice', 'USER', NULL, 'live', '"The key of old"', 'sk_live_', '0000', '[]', '{}', '{}', 'none', 'key_old', 1790000000000000, NULL, NULL, NULL, NULL);
INSERT INTO tower_api_key.keys VALUES ('\x0000000000000000000000000000000000000000000000000000000000000000', 'sha256', 'key_shaped', 'alice', 'USER', NULL, 'live', '"The key of shaped"', 'sk_live_', '0000', '[]', '{}', '{}', 'none', 'key_shaped', 1790000000000000, NULL, NULL, NULL, NULL);


--
-- Data for Name: nodes; Type: TABLE DATA; Schema: tower_api_key; Owner: -
--



--
-- Data for Name: people; Type: TABLE DATA; Schema: tower_api_key; Owner: -
--

INSERT INTO tower_api_key.people VALUES ('alice', 'acme', 'OWNER');
INSERT INTO tower_api_key.people VALUES ('mallory', 'gone', 'OWNER');
INSERT INTO tower_api_key.people VALUES ('bob', 'acme', 'READONLY');
INSERT INTO tower_api_key.people VALUES ('auth0|carol+=', 'acme', 'FULL');


--
-- Data for Name: projects; Type: TABLE DATA; Schema: tower_api_key; Owner: -
--

INSERT INTO tower_api_key.projects VALUES ('acme', 'p1', '"Project p1 é"', false);
INSERT INTO tower_api_key.projects VALUES ('acme', 'p2', '"Project p2 é"', false);


--
-- Data for Name: pruned; Type: TABLE DATA; Schema: tower_api_key; Owner: -
--

INSERT INTO tower_api_key.pruned VALUES (true, '0');


--
-- Data for Name: usage; Type: TABLE DATA; Schema: tower_api_key; Owner: -
--

INSERT INTO tower_api_key.usage VALUES ('key_alice', 'direct', 1790000091000000, 1);
INSERT INTO tower_api_key.usage VALUES ('key_alice', 'scheme:bearer', 1790000090000000, 3);


--
-- Data for Name: version; Type: TABLE DATA; Schema: tower_api_key; Owner: -
--

INSERT INTO tower_api_key.version VALUES (true, 2);


--
-- Name: history_number_seq; Type: SEQUENCE SET; Schema: tower_api_key; Owner: -
--

SELECT pg_catalog.setval('tower_api_key.history_number_seq', 12, true);


--
-- Name: access access_pkey; Type: CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.access
    ADD CONSTRAINT access_pkey PRIMARY KEY (user_id, project);


--
-- Name: accounts accounts_pkey; Type: CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (id);


--
-- Name: history history_pkey; Type: CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.history
    ADD CONSTRAINT history_pkey PRIMARY KEY (number);


--
-- Name: id id_check; Type: CHECK CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER DOMAIN tower_api_key.id
    ADD CONSTRAINT id_check CHECK ((VALUE ~ '^[A-Za-z0-9._:@|+=-]{1,128}$'::text)) NOT VALID;


--
-- Name: accounts ids_of_accounts; Type: CHECK CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE tower_api_key.accounts
    ADD CONSTRAINT ids_of_accounts CHECK (((id)::text ~ '^[A-Za-z0-9._:@-]+$'::text)) NOT VALID;


--
-- Name: history ids_of_keys; Type: CHECK CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE tower_api_key.history
    ADD CONSTRAINT ids_of_keys CHECK (((key)::text ~ '^[A-Za-z0-9._:@-]+$'::text)) NOT VALID;


--
-- Name: keys ids_of_keys; Type: CHECK CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE tower_api_key.keys
    ADD CONSTRAINT ids_of_keys CHECK ((((id)::text ~ '^[A-Za-z0-9._:@-]+$'::text) AND ((family)::text ~ '^[A-Za-z0-9._:@-]+$'::text) AND ((project IS NULL) OR ((project)::text ~ '^[A-Za-z0-9._:@-]+$'::text)) AND ((replaced_by IS NULL) OR ((replaced_by)::text ~ '^[A-Za-z0-9._:@-]+$'::text)))) NOT VALID;


--
-- Name: usage ids_of_keys; Type: CHECK CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE tower_api_key.usage
    ADD CONSTRAINT ids_of_keys CHECK (((key)::text ~ '^[A-Za-z0-9._:@-]+$'::text)) NOT VALID;


--
-- Name: projects ids_of_projects; Type: CHECK CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE tower_api_key.projects
    ADD CONSTRAINT ids_of_projects CHECK (((id)::text ~ '^[A-Za-z0-9._:@-]+$'::text)) NOT VALID;


--
-- Name: keys keys_id_key; Type: CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.keys
    ADD CONSTRAINT keys_id_key UNIQUE (id);


--
-- Name: keys keys_pkey; Type: CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.keys
    ADD CONSTRAINT keys_pkey PRIMARY KEY (digest);


--
-- Name: nodes nodes_pkey; Type: CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (node);


--
-- Name: people people_pkey; Type: CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.people
    ADD CONSTRAINT people_pkey PRIMARY KEY (user_id);


--
-- Name: people people_user_id_account_key; Type: CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.people
    ADD CONSTRAINT people_user_id_account_key UNIQUE (user_id, account);


--
-- Name: projects projects_pkey; Type: CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.projects
    ADD CONSTRAINT projects_pkey PRIMARY KEY (account, id);


--
-- Name: pruned pruned_pkey; Type: CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.pruned
    ADD CONSTRAINT pruned_pkey PRIMARY KEY (one);


--
-- Name: usage usage_pkey; Type: CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.usage
    ADD CONSTRAINT usage_pkey PRIMARY KEY (key, through);


--
-- Name: version version_pkey; Type: CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.version
    ADD CONSTRAINT version_pkey PRIMARY KEY (one);


--
-- Name: access_to_project; Type: INDEX; Schema: tower_api_key; Owner: -
--

CREATE INDEX access_to_project ON tower_api_key.access USING btree (account, project);


--
-- Name: changes_by_transaction; Type: INDEX; Schema: tower_api_key; Owner: -
--

CREATE INDEX changes_by_transaction ON tower_api_key.changes USING btree (xid);


--
-- Name: history_of_key; Type: INDEX; Schema: tower_api_key; Owner: -
--

CREATE INDEX history_of_key ON tower_api_key.history USING btree (key, number);


--
-- Name: keys_of_owner; Type: INDEX; Schema: tower_api_key; Owner: -
--

CREATE INDEX keys_of_owner ON tower_api_key.keys USING btree (owner, created_at, id);


--
-- Name: one_owner_of_account; Type: INDEX; Schema: tower_api_key; Owner: -
--

CREATE UNIQUE INDEX one_owner_of_account ON tower_api_key.people USING btree (account) WHERE ((role)::text = 'OWNER'::text);


--
-- Name: people_of_account; Type: INDEX; Schema: tower_api_key; Owner: -
--

CREATE INDEX people_of_account ON tower_api_key.people USING btree (account);


--
-- Name: unrevoked_keys; Type: INDEX; Schema: tower_api_key; Owner: -
--

CREATE INDEX unrevoked_keys ON tower_api_key.keys USING btree (owner, environment, expires_at, created_at, id) WHERE (revoked_at IS NULL);


--
-- Name: access all_of_access; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER all_of_access AFTER TRUNCATE ON tower_api_key.access FOR EACH STATEMENT EXECUTE FUNCTION tower_api_key.log_everything();

ALTER TABLE tower_api_key.access ENABLE ALWAYS TRIGGER all_of_access;


--
-- Name: accounts all_of_accounts; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER all_of_accounts AFTER TRUNCATE ON tower_api_key.accounts FOR EACH STATEMENT EXECUTE FUNCTION tower_api_key.log_everything();

ALTER TABLE tower_api_key.accounts ENABLE ALWAYS TRIGGER all_of_accounts;


--
-- Name: keys all_of_keys; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER all_of_keys AFTER TRUNCATE ON tower_api_key.keys FOR EACH STATEMENT EXECUTE FUNCTION tower_api_key.log_everything();

ALTER TABLE tower_api_key.keys ENABLE ALWAYS TRIGGER all_of_keys;


--
-- Name: people all_of_people; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER all_of_people AFTER TRUNCATE ON tower_api_key.people FOR EACH STATEMENT EXECUTE FUNCTION tower_api_key.log_everything();

ALTER TABLE tower_api_key.people ENABLE ALWAYS TRIGGER all_of_people;


--
-- Name: access changes_of_access; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER changes_of_access AFTER INSERT OR DELETE OR UPDATE ON tower_api_key.access FOR EACH ROW EXECUTE FUNCTION tower_api_key.log_person();

ALTER TABLE tower_api_key.access ENABLE ALWAYS TRIGGER changes_of_access;


--
-- Name: accounts changes_of_accounts; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER changes_of_accounts AFTER INSERT OR DELETE OR UPDATE ON tower_api_key.accounts FOR EACH ROW EXECUTE FUNCTION tower_api_key.log_account('id');

ALTER TABLE tower_api_key.accounts ENABLE ALWAYS TRIGGER changes_of_accounts;


--
-- Name: keys changes_of_keys; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER changes_of_keys AFTER INSERT OR DELETE OR UPDATE ON tower_api_key.keys FOR EACH ROW EXECUTE FUNCTION tower_api_key.log_key();

ALTER TABLE tower_api_key.keys ENABLE ALWAYS TRIGGER changes_of_keys;


--
-- Name: people changes_of_people; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER changes_of_people AFTER INSERT OR DELETE OR UPDATE ON tower_api_key.people FOR EACH ROW EXECUTE FUNCTION tower_api_key.log_person();

ALTER TABLE tower_api_key.people ENABLE ALWAYS TRIGGER changes_of_people;


--
-- Name: projects changes_of_projects; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER changes_of_projects AFTER INSERT OR DELETE OR UPDATE ON tower_api_key.projects FOR EACH ROW EXECUTE FUNCTION tower_api_key.log_account('account');

ALTER TABLE tower_api_key.projects ENABLE ALWAYS TRIGGER changes_of_projects;


--
-- Name: history history_is_not_rewritten; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER history_is_not_rewritten BEFORE DELETE OR UPDATE OR TRUNCATE ON tower_api_key.history FOR EACH STATEMENT EXECUTE FUNCTION tower_api_key.refuse('what has happened stays as it was written');

ALTER TABLE tower_api_key.history ENABLE ALWAYS TRIGGER history_is_not_rewritten;


--
-- Name: keys keys_keep_what_they_are; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER keys_keep_what_they_are BEFORE UPDATE ON tower_api_key.keys FOR EACH ROW WHEN (((((new.digest)::bytea IS DISTINCT FROM (old.digest)::bytea) AND (NOT ((new.digested_by)::text IS DISTINCT FROM (old.digested_by)::text))) OR ((new.id)::text IS DISTINCT FROM (old.id)::text) OR ((new.owner)::text IS DISTINCT FROM (old.owner)::text) OR ((new.level)::text IS DISTINCT FROM (old.level)::text) OR ((new.project)::text IS DISTINCT FROM (old.project)::text) OR ((new.environment)::text IS DISTINCT FROM (old.environment)::text) OR (new.created_at IS DISTINCT FROM old.created_at) OR ((new.family)::text IS DISTINCT FROM (old.family)::text) OR ((old.replaced_by IS NOT NULL) AND ((new.replaced_by)::text IS DISTINCT FROM (old.replaced_by)::text)) OR ((old.replaced_at IS NOT NULL) AND (new.replaced_at IS DISTINCT FROM old.replaced_at)))) EXECUTE FUNCTION tower_api_key.refuse('what a key is was fixed when it was issued');

ALTER TABLE tower_api_key.keys ENABLE ALWAYS TRIGGER keys_keep_what_they_are;


--
-- Name: keys keys_stay_revoked; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER keys_stay_revoked BEFORE UPDATE ON tower_api_key.keys FOR EACH ROW WHEN (((old.revoked_at IS NOT NULL) AND (new.revoked_at IS DISTINCT FROM old.revoked_at))) EXECUTE FUNCTION tower_api_key.refuse('a revoked key stays revoked');

ALTER TABLE tower_api_key.keys ENABLE ALWAYS TRIGGER keys_stay_revoked;


--
-- Name: projects projects_leave_a_tombstone; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER projects_leave_a_tombstone BEFORE DELETE OR TRUNCATE ON tower_api_key.projects FOR EACH STATEMENT EXECUTE FUNCTION tower_api_key.refuse('projects are marked as deleted');

ALTER TABLE tower_api_key.projects ENABLE ALWAYS TRIGGER projects_leave_a_tombstone;


--
-- Name: projects projects_stay_deleted; Type: TRIGGER; Schema: tower_api_key; Owner: -
--

CREATE TRIGGER projects_stay_deleted BEFORE UPDATE ON tower_api_key.projects FOR EACH ROW WHEN (((old.deleted AND (new.deleted IS DISTINCT FROM old.deleted)) OR ((new.account)::text IS DISTINCT FROM (old.account)::text) OR ((new.id)::text IS DISTINCT FROM (old.id)::text))) EXECUTE FUNCTION tower_api_key.refuse('a deleted project stays deleted');

ALTER TABLE tower_api_key.projects ENABLE ALWAYS TRIGGER projects_stay_deleted;


--
-- Name: access access_account_project_fkey; Type: FK CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.access
    ADD CONSTRAINT access_account_project_fkey FOREIGN KEY (account, project) REFERENCES tower_api_key.projects(account, id);


--
-- Name: access access_user_id_account_fkey; Type: FK CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.access
    ADD CONSTRAINT access_user_id_account_fkey FOREIGN KEY (user_id, account) REFERENCES tower_api_key.people(user_id, account) ON DELETE CASCADE;


--
-- Name: people people_account_fkey; Type: FK CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.people
    ADD CONSTRAINT people_account_fkey FOREIGN KEY (account) REFERENCES tower_api_key.accounts(id);


--
-- Name: projects projects_account_fkey; Type: FK CONSTRAINT; Schema: tower_api_key; Owner: -
--

ALTER TABLE ONLY tower_api_key.projects
    ADD CONSTRAINT projects_account_fkey FOREIGN KEY (account) REFERENCES tower_api_key.accounts(id);


--
-- PostgreSQL database dump complete
--


