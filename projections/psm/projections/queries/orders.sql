-- Rows come as one JSON array whose keys are columns; numerics travel as strings, so exactly.

-- name: upsert
INSERT INTO orders_view (
    account_id, order_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, symbol, side, type, quantity, filled_quantity, average_price, status,
    "timestamp", correlation_id, causation_id, trace_id
)
SELECT
    account_id, order_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, symbol, side, type, quantity, filled_quantity, average_price, status,
    "timestamp", correlation_id, causation_id, trace_id
FROM json_populate_recordset(NULL::orders_view, $1::json)
ON CONFLICT (account_id, order_id) DO UPDATE SET (
    sequence_number, log_sequence, event_log_sequence, cause, event_hash, chain_hash, flags,
    symbol, side, type, quantity, filled_quantity, average_price, status, "timestamp",
    correlation_id, causation_id, trace_id
) = (
    excluded.sequence_number, excluded.log_sequence, excluded.event_log_sequence,
    excluded.cause, excluded.event_hash, excluded.chain_hash, excluded.flags, excluded.symbol,
    excluded.side, excluded.type, excluded.quantity, excluded.filled_quantity,
    excluded.average_price, excluded.status, excluded."timestamp", excluded.correlation_id,
    excluded.causation_id, excluded.trace_id
);

-- name: delete
DELETE FROM orders_view o
USING json_to_recordset($1::json) AS gone (account_id text, order_id text)
WHERE o.account_id = gone.account_id AND o.order_id = gone.order_id;
