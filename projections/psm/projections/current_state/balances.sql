-- name: set_status
-- A stream that was blocked or resumed: everything but the status stays as of the last
-- StateUpdated, whose hashes the row carries. An account that has had none yet gets a row too,
-- so that an operator sees who waits. Rows come as one JSON array whose keys are columns.
INSERT INTO balances_view (
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, status, log_time, correlation_id, causation_id, trace_id
)
SELECT
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, status, log_time, correlation_id, causation_id, trace_id
FROM json_populate_recordset(NULL::balances_view, $1::json)
ON CONFLICT (account_id) DO UPDATE SET status = excluded.status;
