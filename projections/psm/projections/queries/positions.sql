-- Rows come as one JSON array whose keys are columns; numerics travel as strings, so exactly.

-- name: upsert
INSERT INTO positions_view (
    account_id, symbol, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, change, side, size, entry_price, break_even_price, mark_price,
    mark_source, notional, unrealized_pnl, realized_pnl, realized_pnl_net, fees, funding, cycle,
    cycle_realized_pnl, liquidation_price, "timestamp", correlation_id, causation_id, trace_id
)
SELECT
    account_id, symbol, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, change, side, size, entry_price, break_even_price, mark_price,
    mark_source, notional, unrealized_pnl, realized_pnl, realized_pnl_net, fees, funding, cycle,
    cycle_realized_pnl, liquidation_price, "timestamp", correlation_id, causation_id, trace_id
FROM json_populate_recordset(NULL::positions_view, $1::json)
ON CONFLICT (account_id, symbol) DO UPDATE SET (
    sequence_number, log_sequence, event_log_sequence, cause, event_hash, chain_hash, flags,
    change, side, size, entry_price, break_even_price, mark_price, mark_source, notional,
    unrealized_pnl, realized_pnl, realized_pnl_net, fees, funding, cycle, cycle_realized_pnl,
    liquidation_price, "timestamp", correlation_id, causation_id, trace_id
) = (
    excluded.sequence_number, excluded.log_sequence, excluded.event_log_sequence,
    excluded.cause, excluded.event_hash, excluded.chain_hash, excluded.flags, excluded.change,
    excluded.side, excluded.size, excluded.entry_price, excluded.break_even_price,
    excluded.mark_price, excluded.mark_source, excluded.notional, excluded.unrealized_pnl,
    excluded.realized_pnl, excluded.realized_pnl_net, excluded.fees, excluded.funding,
    excluded.cycle, excluded.cycle_realized_pnl, excluded.liquidation_price,
    excluded."timestamp", excluded.correlation_id, excluded.causation_id, excluded.trace_id
);

-- name: delete
DELETE FROM positions_view p
USING json_to_recordset($1::json) AS gone (account_id text, symbol text)
WHERE p.account_id = gone.account_id AND p.symbol = gone.symbol;
