-- Statements of the tokens.

-- name: holding
SELECT id, secret_sha256, principal, kind, roles, patterns, created_by, created_at, expires_at,
    last_used_at, revoked_at
FROM access.tokens WHERE (revoked_at IS NULL OR revoked_at > now()) AND expires_at > now();

-- name: listed
SELECT id, secret_sha256, principal, kind, roles, patterns, created_by, created_at, expires_at,
    last_used_at, revoked_at
FROM access.tokens
WHERE ($1::boolean OR ((revoked_at IS NULL OR revoked_at > now()) AND expires_at > now()))
ORDER BY created_at, id;

-- name: one
SELECT id, secret_sha256, principal, kind, roles, patterns, created_by, created_at, expires_at,
    last_used_at, revoked_at
FROM access.tokens WHERE id = $1;

-- name: add
INSERT INTO access.tokens (id, secret_sha256, principal, kind, roles, patterns, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id, secret_sha256, principal, kind, roles, patterns, created_by, created_at, expires_at,
    last_used_at, revoked_at;

-- A token ends once; when, is not changed by ending it again.

-- name: revoke
UPDATE access.tokens SET revoked_at = least(coalesce(revoked_at, $2), $2) WHERE id = $1
RETURNING id, secret_sha256, principal, kind, roles, patterns, created_by, created_at, expires_at,
    last_used_at, revoked_at;

-- name: used
UPDATE access.tokens SET last_used_at = date_trunc('minute', now()) WHERE id = ANY ($1)
AND (last_used_at IS NULL OR last_used_at < date_trunc('minute', now()));

-- The first token of all: once, and only while no administrator has one.

-- name: has_admin
SELECT EXISTS (
    SELECT FROM access.tokens
    WHERE 'admin' = ANY (roles) AND (revoked_at IS NULL OR revoked_at > now()) AND expires_at > now()
);

-- name: revoke_bootstraps
UPDATE access.tokens SET revoked_at = now()
WHERE 'bootstrap' = ANY (roles) AND revoked_at IS NULL;

-- Whoever made a token for somebody does not approve what that one asks for.

-- name: creators
SELECT DISTINCT created_by FROM access.tokens WHERE principal = $1;
