-- Tables to take away, each row by row; columns come out in this order. $1 accounts or null.

-- name: accounts
SELECT account_id, currency, status, equity, nav, nav_epoch, drawdown, max_drawdown, peak_equity,
    realized_pnl, realized_pnl_net, unrealized_pnl, fees, liquidation_fees, funding, deposits,
    withdrawals, transfers, interest, dividends, adjustments, taxes, losses_covered, flows,
    exposure_gross, exposure_net, margin_initial, margin_maintenance, margin_available,
    withdrawable, leverage, open_positions, open_orders, flags, cash, sequence_number,
    log_sequence, log_time, ledger_hash, state_hash
FROM balances_view
WHERE $1::text[] IS NULL OR account_id = ANY ($1)
ORDER BY account_id;

-- name: positions
SELECT account_id, class, symbol, position_side, side, size, currency, multiplier, entry_price,
    cost, mark_price, mark_time, notional, unrealized_pnl, realized_pnl, fees, funding,
    cycle_realized_pnl, cycle_fees, cycle_funding, cycle_opened_at, peak_size, cycle_mae,
    cycle_mfe, margin_mode, sequence_number, log_sequence, log_time
FROM positions_view
WHERE $1::text[] IS NULL OR account_id = ANY ($1)
ORDER BY account_id, class, symbol, position_side;

-- Buckets of one length that begin in [$3, $4).

-- name: pnl
SELECT r.account_id, r.strategy_id, r.symbol, r.timeframe, r.bucket,
    coalesce(r.bucket + CASE r.timeframe WHEN '1m' THEN interval '1 minute'
        WHEN '5m' THEN interval '5 minutes' WHEN '1h' THEN interval '1 hour'
        WHEN '1d' THEN interval '1 day' ELSE interval '7 days' END <= p.closed_through, false)
    AS complete,
    r.epoch, r.equity, r.nav, r.ret, r.realized, r.unrealized_change, r.fees, r.funding, r.other,
    r.pnl, r.pnl_corrected, r.flows, r.turnover, r.fills, r.peak_gross, r.contribution,
    r.return_on_gross, r.through_log_sequence, r.through_bucket, r.rules, r.max_drawdown
FROM pnl_timeseries r
LEFT JOIN analytics_accounts a USING (account_id)
LEFT JOIN analytics_progress p ON p.partition = a.partition
WHERE ($1::text[] IS NULL OR r.account_id = ANY ($1)) AND r.timeframe = $2
AND ($3::timestamptz IS NULL OR r.bucket >= $3)
AND ($4::timestamptz IS NULL OR r.bucket < $4)
ORDER BY r.account_id, r.bucket, r.strategy_id, r.symbol;

-- As they are known now: what a correction replaced or took away is left out.

-- name: trades
SELECT * FROM (SELECT DISTINCT ON (account_id, symbol, position_side, strategy_id, cycle)
    account_id, symbol, position_side, strategy_id, cycle, side, currency, opened, closed,
    peak_size, gross, fees, funding, net, mae, mfe, return_on_peak_notional, holding_s, fills,
    through_log_sequence, revised_at, gone
FROM trades
WHERE ($1::text[] IS NULL OR account_id = ANY ($1))
ORDER BY account_id, symbol, position_side, strategy_id, cycle, through_log_sequence DESC
) AS newest
WHERE NOT gone AND ($2::timestamptz IS NULL OR closed >= $2)
AND ($3::timestamptz IS NULL OR closed < $3);

-- name: lots
SELECT * FROM (SELECT DISTINCT ON (account_id, symbol, position_side, lot)
    account_id, symbol, position_side, lot, side, currency, opened, closed, quantity, open_price,
    close_price, pnl, days_held, through_log_sequence, revised_at, gone
FROM lots
WHERE ($1::text[] IS NULL OR account_id = ANY ($1))
ORDER BY account_id, symbol, position_side, lot, through_log_sequence DESC
) AS newest
WHERE NOT gone AND ($2::timestamptz IS NULL OR closed >= $2)
AND ($3::timestamptz IS NULL OR closed < $3);
