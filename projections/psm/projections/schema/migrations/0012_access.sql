-- Who may ask over HTTP. Of a token only the hash of its secret is kept; see docs/access.md.

CREATE SCHEMA access;

CREATE TABLE access.tokens (
    id            text        COLLATE "C" NOT NULL PRIMARY KEY CHECK (id ~ '^[0-9a-z]{8}$'),
    secret_sha256 bytea       NOT NULL CHECK (octet_length(secret_sha256) = 32),
    principal     text        COLLATE "C" NOT NULL,
    kind          text        COLLATE "C" NOT NULL CHECK (kind IN ('service', 'person')),
    roles         text[]      NOT NULL,
    patterns      text[]      NOT NULL,
    created_by    text        COLLATE "C" NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    -- To the minute, so that using a token writes next to nothing.
    last_used_at  timestamptz,
    revoked_at    timestamptz
);

CREATE INDEX tokens_by_principal ON access.tokens (principal);

-- Whoever keeps the table in memory hears of a change at once; it is also read every few seconds.
CREATE FUNCTION access.tell_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('psm_access', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER tokens_told AFTER INSERT OR DELETE OR UPDATE OF revoked_at, expires_at ON access.tokens
    FOR EACH STATEMENT EXECUTE FUNCTION access.tell_change();
