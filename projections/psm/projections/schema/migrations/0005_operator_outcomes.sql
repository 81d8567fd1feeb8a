-- An operator's event that released others takes no place of its own, so nothing in `event_chain` is
-- its own: that it was applied is seen by what it released.

CREATE INDEX event_chain_released ON event_chain (folded_log_sequence)
WHERE folded_log_sequence <> log_sequence;

-- Every event with what became of it. `outcome` is null for recorded streams, for marks, for
-- duplicates, and for what is parked, held or not folded yet.
CREATE OR REPLACE VIEW archived_events AS
SELECT
    e.archive_sequence, e.js_stream, e.js_sequence, e.log_sequence, e.subject, e.stored_at,
    e.event_id, e.event_type, e.stream_id, e.sequence_number, e."timestamp", e.schema_version,
    e.source_service, e.user_id, e.correlation_id, e.causation_id, e.event_hash,
    c.chain_hash, c.ledger_hash, c.state_hash,
    coalesce(
        r.outcome,
        CASE
            WHEN c.chain_hash IS NOT NULL THEN 'applied'
            WHEN e.event_type IN ('EventDismissed', 'StreamRetried') AND EXISTS (
                SELECT FROM event_chain f
                WHERE f.folded_log_sequence = e.log_sequence
                AND f.folded_log_sequence <> f.log_sequence
            ) THEN 'applied'
        END
    ) AS outcome,
    r.reason AS refusal_reason, r.detail AS refusal_detail,
    e.metadata, e.payload, e.headers, e.raw, e.subject_bytes, e.left_out
FROM events e
LEFT JOIN LATERAL (
    SELECT chain_hash, ledger_hash, state_hash FROM event_chain
    WHERE log_sequence = e.log_sequence
    ORDER BY psm_sequence LIMIT 1
) c ON true
LEFT JOIN LATERAL (
    SELECT outcome, reason, detail FROM event_refusals
    WHERE log_sequence = e.log_sequence
    ORDER BY psm_sequence LIMIT 1
) r ON true;
