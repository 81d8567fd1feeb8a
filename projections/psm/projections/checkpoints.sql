-- name: read_one
SELECT partition, stream_sequence, event_hash, log_sequence, updated_at
FROM projection_checkpoints
WHERE projection = $1 AND partition = $2;

-- name: read_all
SELECT partition, stream_sequence, event_hash, log_sequence, updated_at
FROM projection_checkpoints
WHERE projection = $1
ORDER BY partition;

-- name: lock
LOCK TABLE projection_checkpoints IN SHARE ROW EXCLUSIVE MODE;

-- name: create
INSERT INTO projection_checkpoints
    (projection, partition, stream_sequence, event_hash, log_sequence)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (projection, partition) DO NOTHING;

-- name: advance
UPDATE projection_checkpoints
SET stream_sequence = $3, event_hash = $4, log_sequence = $5, updated_at = clock_timestamp()
WHERE projection = $1 AND partition = $2 AND stream_sequence = $6;

-- name: force
INSERT INTO projection_checkpoints
    (projection, partition, stream_sequence, event_hash, log_sequence)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (projection, partition) DO UPDATE
SET stream_sequence = excluded.stream_sequence, event_hash = excluded.event_hash,
    log_sequence = excluded.log_sequence, updated_at = clock_timestamp();
