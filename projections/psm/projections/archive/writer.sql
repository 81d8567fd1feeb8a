-- Statements of the archive's one writer.

-- name: head
SELECT archive_sequence FROM archive_head;

-- name: move_head
UPDATE archive_head SET archive_sequence = $1 WHERE archive_sequence = $2;

-- name: checkpoints
SELECT js_stream, js_sequence, event_hash, updated_at FROM archive_checkpoints ORDER BY js_stream;

-- name: create_checkpoint
INSERT INTO archive_checkpoints (js_stream, js_sequence, event_hash) VALUES ($1, $2, $3)
ON CONFLICT (js_stream) DO NOTHING;

-- name: move_checkpoint
UPDATE archive_checkpoints
SET js_sequence = $2, event_hash = $3, updated_at = clock_timestamp()
WHERE js_stream = $1 AND js_sequence = $4 AND event_hash = $5;

-- name: add_incident
INSERT INTO archive_incidents (
    kind, js_stream, first_sequence, last_sequence, archive_sequence, detail
) VALUES ($1, $2, $3, $4, $5, $6);

-- name: claim_keys
WITH claims AS MATERIALIZED (
    SELECT kind, key, stream_id, symbol, archive_sequence FROM archive_claims($1, $2)
), claimed AS (
    INSERT INTO event_keys (kind, key, stream_id, symbol, archive_sequence)
    SELECT * FROM claims ORDER BY archive_sequence
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT (SELECT count(*) FROM claims) - (SELECT count(*) FROM claimed);

-- The same bytes delivered again are no incident; an event that was applied twice is.

-- name: report_clashes
INSERT INTO archive_incidents (
    kind, js_stream, first_sequence, last_sequence, archive_sequence, first_archive_sequence, detail
)
SELECT CASE c.kind WHEN 'event_id' THEN 'event_id_reused' ELSE 'duplicate_' || c.kind END,
    e.js_stream, e.js_sequence, e.js_sequence, e.archive_sequence, f.archive_sequence,
    format('%s %s%s of %s message %s was first that of %s message %s (event %s)',
        CASE c.kind WHEN 'event_id' THEN 'event_id' WHEN 'fill' THEN 'fill_id'
            WHEN 'transfer' THEN 'transfer_id' ELSE 'reference' END,
        c.key, CASE WHEN c.symbol = '' THEN '' ELSE ' in ' || c.symbol END,
        e.js_stream, e.js_sequence, f.js_stream, f.js_sequence, f.event_id)
FROM archive_claims($1, $2) c
JOIN event_keys k ON (k.kind, k.key, k.stream_id, k.symbol) = (c.kind, c.key, c.stream_id, c.symbol)
JOIN events e ON e.archive_sequence = c.archive_sequence
JOIN events f ON f.archive_sequence = k.archive_sequence
WHERE k.archive_sequence <> c.archive_sequence AND (c.applied OR e.event_hash <> f.event_hash)
ORDER BY e.archive_sequence;
