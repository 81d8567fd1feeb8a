-- Where the folds of accounts stand, and how far a partition is.

-- A version is that of the row: who wrote it last. What one remembers of another is out of date.

-- name: versions
SELECT account_id, xmin::text AS version FROM analytics_accounts WHERE account_id = ANY($1);

-- name: states
SELECT account_id, xmin::text AS version, sequence_number, log_sequence, log_time, told, state
FROM analytics_accounts
WHERE account_id = ANY($1);

-- name: put_states
INSERT INTO analytics_accounts (
    account_id, partition, sequence_number, log_sequence, log_time, told, state
)
SELECT
    n.account_id, $1::integer, n.sequence_number, n.log_sequence, n.log_time::timestamptz,
    n.told::timestamptz, n.state
FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::bytea[])
    AS n (account_id, sequence_number, log_sequence, log_time, told, state)
ON CONFLICT (account_id) DO UPDATE SET (
    partition, sequence_number, log_sequence, log_time, told, state
) = ROW (
    excluded.partition, excluded.sequence_number, excluded.log_sequence, excluded.log_time,
    excluded.told, excluded.state
)
RETURNING account_id, xmin::text AS version;

-- name: journal
SELECT account_id, n, entry FROM analytics_journal WHERE account_id = $1 ORDER BY n;

-- name: progress
SELECT
    p.reached, p.closed_through, p.stated_through,
    ARRAY(SELECT DISTINCT q.key[1] FROM analytics_quarantine q ORDER BY 1) AS stopped
FROM (SELECT $1::integer AS partition) AS own
LEFT JOIN analytics_progress p USING (partition);

-- name: put_progress
INSERT INTO analytics_progress (partition, reached, closed_through, stated_through)
VALUES ($1, $2, $3, $4)
ON CONFLICT (partition) DO UPDATE SET
    reached = excluded.reached, closed_through = excluded.closed_through,
    stated_through = excluded.stated_through;

-- Those of which a minute that ends at $2 or before may have no row.

-- name: untold
SELECT account_id
FROM analytics_accounts
WHERE partition = $1 AND (told IS NULL OR log_time >= told) AND (told IS NULL OR told < $2)
    AND account_id <> ALL($3::text[])
ORDER BY told NULLS FIRST, account_id
LIMIT $4;
