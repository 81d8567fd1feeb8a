-- Reads of the event archive. Documents are made by the functions of the migration.

-- name: by_sequence
SELECT archive_sequence FROM events WHERE archive_sequence = $1;

-- name: by_event_id
SELECT archived_event($1);

-- name: whose
SELECT stream_id, js_stream FROM events WHERE archive_sequence = $1;

-- `raw_base64` is what was stored, byte for byte; `deliveries` are the rows with this event_id.
-- A message of more than a megabyte is read in pieces: `bytes`.

-- name: one
SELECT left(event_document(e.archive_sequence, 1048576)::text, -1) || ', ' || substr(json_build_object(
    'headers', e.headers,
    'subject_base64', translate(encode(e.subject_bytes, 'base64'), E'\n', ''),
    'raw_base64', CASE WHEN octet_length(e.raw) <= 1048576
                       THEN translate(encode(e.raw, 'base64'), E'\n', '') END,
    'deliveries', (
        SELECT coalesce(json_agg(d.archive_sequence ORDER BY d.archive_sequence), '[]')
        FROM (
            SELECT d.archive_sequence FROM events d WHERE d.event_id = e.event_id
            ORDER BY d.archive_sequence LIMIT 1000
        ) d
    )
)::text, 2)
FROM events e WHERE e.archive_sequence = $1;

-- name: bytes
SELECT substring(raw FROM $2 + 1 FOR $3) AS piece, octet_length(raw) AS bytes
FROM events WHERE archive_sequence = $1;

-- name: causation
SELECT json_build_object(
    'event_id', $1::text,
    'chain', e -> 'causation_chain',
    'effects', e -> 'effects',
    'missing_cause', e -> 'missing_cause'
)::text
FROM explain_decision($1) AS e WHERE e IS NOT NULL;

-- name: explain
SELECT explain_decision($1)::text;

-- name: correlation
SELECT json_build_object(
    'correlation_id', $1::text,
    'events', json_agg(json_build_object('relation', t.relation, 'event', d.document)
        ORDER BY t.archive_sequence)
)::text
FROM (
    SELECT array_agg(archive_sequence ORDER BY archive_sequence) AS sequences,
        array_agg(relation ORDER BY archive_sequence) AS relations
    FROM trace_correlation($1)
) found
CROSS JOIN LATERAL unnest(found.sequences, found.relations) AS t (archive_sequence, relation)
JOIN event_documents(found.sequences) d ON d.archive_sequence = t.archive_sequence
HAVING count(*) > 0;

-- name: correlation_of
SELECT correlation_id FROM events WHERE archive_sequence = archived_event($1);

-- The newest first. `before` is the psm_sequence that the page before ended with.

-- name: refusals
SELECT r.psm_sequence, r.refused_at, r.stream_id, r.outcome, r.reason, r.detail, r.field,
    r.log_sequence, r.folded_log_sequence, e.archive_sequence, e.subject, e.event_id, e.event_type,
    e.sequence_number, e.source_service
FROM (
    SELECT * FROM event_refusals
    WHERE ($1::text IS NULL OR stream_id = $1)
    AND ($2::text IS NULL OR reason = $2)
    AND ($3::timestamptz IS NULL OR refused_at >= $3)
    AND ($4::bigint IS NULL OR (refused_at, psm_sequence) < (
        SELECT b.refused_at, b.psm_sequence FROM event_refusals b
        WHERE b.psm_sequence = $4 AND ($6::text[] IS NULL OR b.stream_id LIKE ANY ($6))
    ))
    AND ($6::text[] IS NULL OR stream_id LIKE ANY ($6))
    ORDER BY refused_at DESC, psm_sequence DESC
    LIMIT $5
) r
LEFT JOIN events e ON e.js_stream = 'TRADES' AND e.js_sequence = r.log_sequence
ORDER BY r.refused_at DESC, r.psm_sequence DESC;

-- name: stats
SELECT js_stream, event_type, source_service, events, streams, bytes, first_at, last_at
FROM get_event_stats($1);

-- name: incident_counts
SELECT kind, count(*) AS incidents FROM archive_incidents
WHERE $1::interval IS NULL OR found_at >= now() - $1::interval
GROUP BY kind ORDER BY kind;

-- name: dangling
SELECT archive_sequence, event_id, event_type, causation_id, stored_at
FROM get_dangling_causations() LIMIT $1;

-- name: incidents
SELECT incident_id, found_at, kind, js_stream, first_sequence, last_sequence, archive_sequence,
    first_archive_sequence, detail
FROM archive_incidents ORDER BY incident_id DESC LIMIT $1;

-- name: event_ids_of
SELECT event_id FROM events
WHERE stream_id = $1 AND js_stream = 'TRADES' AND event_id IS NOT NULL;

-- name: keys_of
SELECT kind, key, symbol FROM event_keys WHERE stream_id = $1;

-- Of a stream, as it was stored; what had no text for its subject is not there.

-- name: messages_of_stream
SELECT js_sequence, subject, raw, stored_ns FROM events
WHERE js_stream = $1 AND js_sequence > $2 AND js_sequence <= $3
ORDER BY js_sequence LIMIT $4;

-- The same on some subjects, as regular expressions.

-- name: messages_on
SELECT js_sequence, subject, raw, stored_ns FROM events
WHERE js_stream = $1 AND js_sequence > $2 AND js_sequence <= $3 AND subject ~ ANY ($4::text[])
ORDER BY js_sequence LIMIT $5;

-- name: last_of_stream
SELECT max(js_sequence) FROM events WHERE js_stream = $1 AND js_sequence < $2;

-- name: hash_of_message
SELECT event_hash FROM events WHERE js_stream = $1 AND js_sequence = $2;

-- The mark that a decision was made with: the newest of a symbol up to a place of the log. Of one
-- stream the order of archiving is the stream's.

-- name: mark_at
SELECT event_document(e.archive_sequence)::text FROM events e
WHERE e.stream_id = $1 AND e.event_type = 'MarkPriceUpdated' AND e.js_stream = 'TRADES'
AND e.archive_sequence <= (
    SELECT m.archive_sequence FROM events m WHERE m.js_stream = 'TRADES' AND m.js_sequence = $2
)
ORDER BY e.archive_sequence DESC LIMIT 1;
