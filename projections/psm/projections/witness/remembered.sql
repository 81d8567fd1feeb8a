-- Memory of streams that were lost: read before they are made again.

-- name: psm_end
SELECT greatest(
    (SELECT max(js_sequence) FROM archive_checkpoints WHERE js_stream = 'PSM'),
    (SELECT max(psm_sequence) FROM event_chain),
    (SELECT max(psm_sequence) FROM event_refusals),
    (SELECT max(stream_sequence) FROM projection_checkpoints),
    (SELECT max(stream_sequence) FROM log_heads),
    0
);

-- name: log_behind
SELECT
    (SELECT count(*) FROM events WHERE js_stream = 'TRADES' AND js_sequence > $1) AS messages,
    (SELECT coalesce(max(js_sequence), 0) FROM events WHERE js_stream = 'TRADES') AS last;

-- name: log_messages
SELECT js_sequence AS log_sequence,
    coalesce(subject_bytes, convert_to(subject, 'UTF8')) AS subject, headers, raw AS data, event_hash
FROM events
WHERE js_stream = 'TRADES' AND js_sequence BETWEEN $1 AND $2
ORDER BY js_sequence;
