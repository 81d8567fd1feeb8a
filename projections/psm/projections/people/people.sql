-- Statements of the pseudonyms.

-- name: owner
SELECT pseudonym, identity, account FROM people WHERE venue = $1 AND account = $2 FOR UPDATE;

-- name: one
SELECT pseudonym, identity, account FROM people WHERE venue = $1 AND identity = $2;

-- name: add
INSERT INTO people (venue, identity, account) VALUES ($1, $2, $3) RETURNING pseudonym;

-- name: name
UPDATE people SET identity = $2, account = $3 WHERE pseudonym = $1;

-- name: add_all
INSERT INTO people (venue, identity) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING;

-- name: all
SELECT identity, pseudonym FROM people WHERE venue = $1 AND identity = ANY($2);
