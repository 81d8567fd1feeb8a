-- Reads of the event archive. Documents are made by the functions of the migration.

-- name: by_sequence
SELECT archive_sequence FROM events WHERE archive_sequence = $1;

-- name: by_event_id
SELECT archived_event($1);

-- `raw_base64` is what was stored, byte for byte; `deliveries` are all rows with this event_id.

-- name: one
SELECT (event_document(e.archive_sequence)::jsonb || jsonb_build_object(
    'headers', e.headers,
    'raw_base64', translate(encode(e.raw, 'base64'), E'\n', ''),
    'deliveries', (SELECT coalesce(jsonb_agg(d.archive_sequence ORDER BY d.archive_sequence), '[]')
                   FROM events d WHERE d.event_id = e.event_id)
))::text
FROM events e WHERE e.archive_sequence = $1;

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
    'events', json_agg(json_build_object('relation', t.relation, 'event',
        event_document(t.archive_sequence)) ORDER BY t.archive_sequence)
)::text
FROM trace_correlation($1) t
HAVING count(*) > 0;

-- name: correlation_of
SELECT correlation_id FROM events WHERE archive_sequence = archived_event($1);

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
