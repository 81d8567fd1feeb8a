-- Rows come as one JSON array whose keys are columns; numerics travel as strings, so exactly.

-- name: upsert
INSERT INTO balances_view (
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, status, currency, cash, equity, unrealized_pnl, realized_pnl,
    realized_pnl_net, fees, funding, deposits, withdrawals, exposure_gross, exposure_net,
    margin_initial, margin_maintenance, margin_available, withdrawable, leverage,
    leverage_limit, peak_equity, drawdown, open_positions, open_orders, ledger_hash, state_hash,
    "timestamp", correlation_id, causation_id, trace_id
)
SELECT
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, status, currency, cash, equity, unrealized_pnl, realized_pnl,
    realized_pnl_net, fees, funding, deposits, withdrawals, exposure_gross, exposure_net,
    margin_initial, margin_maintenance, margin_available, withdrawable, leverage,
    leverage_limit, peak_equity, drawdown, open_positions, open_orders, ledger_hash, state_hash,
    "timestamp", correlation_id, causation_id, trace_id
FROM json_populate_recordset(NULL::balances_view, $1::json)
ON CONFLICT (account_id) DO UPDATE SET (
    sequence_number, log_sequence, event_log_sequence, cause, event_hash, chain_hash, flags,
    status, currency, cash, equity, unrealized_pnl, realized_pnl, realized_pnl_net, fees,
    funding, deposits, withdrawals, exposure_gross, exposure_net, margin_initial,
    margin_maintenance, margin_available, withdrawable, leverage, leverage_limit, peak_equity,
    drawdown, open_positions, open_orders, ledger_hash, state_hash, "timestamp", correlation_id,
    causation_id, trace_id
) = (
    excluded.sequence_number, excluded.log_sequence, excluded.event_log_sequence,
    excluded.cause, excluded.event_hash, excluded.chain_hash, excluded.flags, excluded.status,
    excluded.currency, excluded.cash, excluded.equity, excluded.unrealized_pnl,
    excluded.realized_pnl, excluded.realized_pnl_net, excluded.fees, excluded.funding,
    excluded.deposits, excluded.withdrawals, excluded.exposure_gross, excluded.exposure_net,
    excluded.margin_initial, excluded.margin_maintenance, excluded.margin_available,
    excluded.withdrawable, excluded.leverage, excluded.leverage_limit, excluded.peak_equity,
    excluded.drawdown, excluded.open_positions, excluded.open_orders, excluded.ledger_hash,
    excluded.state_hash, excluded."timestamp", excluded.correlation_id, excluded.causation_id,
    excluded.trace_id
);

-- A stream that was blocked or resumed: everything but the status stays as of the last
-- StateUpdated, whose hashes the row carries. An account that has had none yet gets a row too,
-- so that an operator sees who waits.

-- name: set_status
INSERT INTO balances_view (
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, status, "timestamp", correlation_id, causation_id, trace_id
)
SELECT
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, status, "timestamp", correlation_id, causation_id, trace_id
FROM json_populate_recordset(NULL::balances_view, $1::json)
ON CONFLICT (account_id) DO UPDATE SET status = excluded.status;
