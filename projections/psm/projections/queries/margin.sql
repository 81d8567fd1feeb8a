-- Rows come as one JSON array whose keys are columns; numerics travel as strings, so exactly.

-- name: upsert
INSERT INTO margin_view (
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, equity, margin_initial, margin_maintenance, margin_available,
    margin_ratio, leverage, leverage_limit, "timestamp", correlation_id, causation_id, trace_id
)
SELECT
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, equity, margin_initial, margin_maintenance, margin_available,
    margin_ratio, leverage, leverage_limit, "timestamp", correlation_id, causation_id, trace_id
FROM json_populate_recordset(NULL::margin_view, $1::json)
ON CONFLICT (account_id) DO UPDATE SET (
    sequence_number, log_sequence, event_log_sequence, cause, event_hash, chain_hash, flags,
    equity, margin_initial, margin_maintenance, margin_available, margin_ratio, leverage,
    leverage_limit, "timestamp", correlation_id, causation_id, trace_id
) = (
    excluded.sequence_number, excluded.log_sequence, excluded.event_log_sequence,
    excluded.cause, excluded.event_hash, excluded.chain_hash, excluded.flags, excluded.equity,
    excluded.margin_initial, excluded.margin_maintenance, excluded.margin_available,
    excluded.margin_ratio, excluded.leverage, excluded.leverage_limit, excluded."timestamp",
    excluded.correlation_id, excluded.causation_id, excluded.trace_id
);
