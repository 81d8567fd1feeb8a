-- name: of_partition
SELECT
    stream_id, partition, sequence_number, log_sequence, event_log_sequence, event_hash,
    chain_hash, ledger_hash
FROM chain_heads
WHERE partition = $1;

-- name: first_behind
SELECT
    stream_id, partition, sequence_number, log_sequence, event_log_sequence, event_hash,
    chain_hash, ledger_hash
FROM chain_heads
WHERE partition = $1 AND log_sequence > $2
ORDER BY log_sequence, sequence_number, stream_id
LIMIT 1;

-- The newest row moves while it stays within its thousand; then it stays as history.

-- name: record
WITH newest AS (
    SELECT max(log_sequence) AS log_sequence FROM log_heads WHERE partition = $1
), moved AS (
    UPDATE log_heads AS h
    SET log_sequence = $2, event_hash = $3, stream_sequence = $4,
        recorded_at = clock_timestamp()
    FROM newest
    WHERE h.partition = $1 AND h.log_sequence = newest.log_sequence
    AND newest.log_sequence / 1000 = $2::bigint / 1000
    RETURNING 1
)
INSERT INTO log_heads (partition, log_sequence, event_hash, stream_sequence)
SELECT $1, $2, $3, $4
WHERE NOT EXISTS (SELECT FROM moved);

-- name: forget
DELETE FROM log_heads WHERE partition = $1;

-- name: log_heads
SELECT partition, log_sequence, event_hash, stream_sequence, recorded_at
FROM log_heads
WHERE partition = $1
ORDER BY log_sequence;

-- name: newest
SELECT partition, log_sequence, event_hash, stream_sequence, recorded_at
FROM log_heads
WHERE partition = $1
ORDER BY log_sequence DESC
LIMIT 1;
