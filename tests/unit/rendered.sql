-- Written by `python -m tests.support.make_rendered_sql`; compared by a test.

-- balances_view.upsert
INSERT INTO balances_view (
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, status, currency, cash, equity, unrealized_pnl, realized_pnl,
    realized_pnl_net, fees, liquidation_fees, funding, deposits, withdrawals, transfers,
    interest, dividends, adjustments, taxes, losses_covered, borrowed, flows, flows_cost,
    unrated_cost, exposure_gross, exposure_net, margin_initial, margin_maintenance,
    margin_available, withdrawable, leverage, leverage_limit, peak_equity, drawdown,
    max_drawdown, nav, nav_epoch, open_positions, open_orders, ledger_hash, state_hash,
    log_time, correlation_id, causation_id, trace_id
)
SELECT
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, status, currency, cash, equity, unrealized_pnl, realized_pnl,
    realized_pnl_net, fees, liquidation_fees, funding, deposits, withdrawals, transfers,
    interest, dividends, adjustments, taxes, losses_covered, borrowed, flows, flows_cost,
    unrated_cost, exposure_gross, exposure_net, margin_initial, margin_maintenance,
    margin_available, withdrawable, leverage, leverage_limit, peak_equity, drawdown,
    max_drawdown, nav, nav_epoch, open_positions, open_orders, ledger_hash, state_hash,
    log_time, correlation_id, causation_id, trace_id
FROM json_populate_recordset(NULL::balances_view, $1::json)
ON CONFLICT (account_id) DO UPDATE SET (
    sequence_number, log_sequence, event_log_sequence, cause, event_hash, chain_hash, flags,
    status, currency, cash, equity, unrealized_pnl, realized_pnl, realized_pnl_net, fees,
    liquidation_fees, funding, deposits, withdrawals, transfers, interest, dividends,
    adjustments, taxes, losses_covered, borrowed, flows, flows_cost, unrated_cost,
    exposure_gross, exposure_net, margin_initial, margin_maintenance, margin_available,
    withdrawable, leverage, leverage_limit, peak_equity, drawdown, max_drawdown, nav, nav_epoch,
    open_positions, open_orders, ledger_hash, state_hash, log_time, correlation_id,
    causation_id, trace_id
) = ROW (
    excluded.sequence_number, excluded.log_sequence, excluded.event_log_sequence,
    excluded.cause, excluded.event_hash, excluded.chain_hash, excluded.flags, excluded.status,
    excluded.currency, excluded.cash, excluded.equity, excluded.unrealized_pnl,
    excluded.realized_pnl, excluded.realized_pnl_net, excluded.fees, excluded.liquidation_fees,
    excluded.funding, excluded.deposits, excluded.withdrawals, excluded.transfers,
    excluded.interest, excluded.dividends, excluded.adjustments, excluded.taxes,
    excluded.losses_covered, excluded.borrowed, excluded.flows, excluded.flows_cost,
    excluded.unrated_cost, excluded.exposure_gross, excluded.exposure_net,
    excluded.margin_initial, excluded.margin_maintenance, excluded.margin_available,
    excluded.withdrawable, excluded.leverage, excluded.leverage_limit, excluded.peak_equity,
    excluded.drawdown, excluded.max_drawdown, excluded.nav, excluded.nav_epoch,
    excluded.open_positions, excluded.open_orders, excluded.ledger_hash, excluded.state_hash,
    excluded.log_time, excluded.correlation_id, excluded.causation_id, excluded.trace_id
);

-- balances_view.set_status
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

-- positions_view.upsert
INSERT INTO positions_view (
    account_id, class, symbol, position_side, sequence_number, log_sequence, event_log_sequence,
    cause, event_hash, chain_hash, flags, change, kind, currency, multiplier, margin_mode, side,
    size, peak_size, entry_price, break_even_price, cost, cost_quote, mark_price, mark_source,
    mark_log_sequence, mark_time, notional, unrealized_pnl, unrealized_pnl_account,
    realized_pnl, realized_pnl_account, realized_pnl_net, fees, funding, cycle, cycle_opened_at,
    cycle_realized_pnl, cycle_fees, cycle_funding, cycle_mae, cycle_mfe, isolated_margin,
    liquidation_price, bankruptcy_price, log_time, correlation_id, causation_id, trace_id
)
SELECT
    account_id, class, symbol, position_side, sequence_number, log_sequence, event_log_sequence,
    cause, event_hash, chain_hash, flags, change, kind, currency, multiplier, margin_mode, side,
    size, peak_size, entry_price, break_even_price, cost, cost_quote, mark_price, mark_source,
    mark_log_sequence, mark_time, notional, unrealized_pnl, unrealized_pnl_account,
    realized_pnl, realized_pnl_account, realized_pnl_net, fees, funding, cycle, cycle_opened_at,
    cycle_realized_pnl, cycle_fees, cycle_funding, cycle_mae, cycle_mfe, isolated_margin,
    liquidation_price, bankruptcy_price, log_time, correlation_id, causation_id, trace_id
FROM json_populate_recordset(NULL::positions_view, $1::json)
ON CONFLICT (account_id, class, symbol, position_side) DO UPDATE SET (
    sequence_number, log_sequence, event_log_sequence, cause, event_hash, chain_hash, flags,
    change, kind, currency, multiplier, margin_mode, side, size, peak_size, entry_price,
    break_even_price, cost, cost_quote, mark_price, mark_source, mark_log_sequence, mark_time,
    notional, unrealized_pnl, unrealized_pnl_account, realized_pnl, realized_pnl_account,
    realized_pnl_net, fees, funding, cycle, cycle_opened_at, cycle_realized_pnl, cycle_fees,
    cycle_funding, cycle_mae, cycle_mfe, isolated_margin, liquidation_price, bankruptcy_price,
    log_time, correlation_id, causation_id, trace_id
) = ROW (
    excluded.sequence_number, excluded.log_sequence, excluded.event_log_sequence,
    excluded.cause, excluded.event_hash, excluded.chain_hash, excluded.flags, excluded.change,
    excluded.kind, excluded.currency, excluded.multiplier, excluded.margin_mode, excluded.side,
    excluded.size, excluded.peak_size, excluded.entry_price, excluded.break_even_price,
    excluded.cost, excluded.cost_quote, excluded.mark_price, excluded.mark_source,
    excluded.mark_log_sequence, excluded.mark_time, excluded.notional, excluded.unrealized_pnl,
    excluded.unrealized_pnl_account, excluded.realized_pnl, excluded.realized_pnl_account,
    excluded.realized_pnl_net, excluded.fees, excluded.funding, excluded.cycle,
    excluded.cycle_opened_at, excluded.cycle_realized_pnl, excluded.cycle_fees,
    excluded.cycle_funding, excluded.cycle_mae, excluded.cycle_mfe, excluded.isolated_margin,
    excluded.liquidation_price, excluded.bankruptcy_price, excluded.log_time,
    excluded.correlation_id, excluded.causation_id, excluded.trace_id
);

-- positions_view.delete
DELETE FROM positions_view
USING json_to_recordset($1::json) AS gone (account_id text, class text, symbol text, position_side text)
WHERE positions_view.account_id = gone.account_id AND positions_view.class = gone.class AND positions_view.symbol = gone.symbol AND positions_view.position_side = gone.position_side;

-- margin_view.upsert
INSERT INTO margin_view (
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, equity, margin_initial, margin_maintenance, margin_available,
    margin_ratio, leverage, leverage_limit, log_time, correlation_id, causation_id, trace_id
)
SELECT
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, equity, margin_initial, margin_maintenance, margin_available,
    margin_ratio, leverage, leverage_limit, log_time, correlation_id, causation_id, trace_id
FROM json_populate_recordset(NULL::margin_view, $1::json)
ON CONFLICT (account_id) DO UPDATE SET (
    sequence_number, log_sequence, event_log_sequence, cause, event_hash, chain_hash, flags,
    equity, margin_initial, margin_maintenance, margin_available, margin_ratio, leverage,
    leverage_limit, log_time, correlation_id, causation_id, trace_id
) = ROW (
    excluded.sequence_number, excluded.log_sequence, excluded.event_log_sequence,
    excluded.cause, excluded.event_hash, excluded.chain_hash, excluded.flags, excluded.equity,
    excluded.margin_initial, excluded.margin_maintenance, excluded.margin_available,
    excluded.margin_ratio, excluded.leverage, excluded.leverage_limit, excluded.log_time,
    excluded.correlation_id, excluded.causation_id, excluded.trace_id
);

-- orders_view.upsert
INSERT INTO orders_view (
    account_id, order_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, symbol, position_side, side, type, quantity, price, stop_price,
    reduce_only, time_in_force, strategy_id, filled_quantity, average_price, status, log_time,
    correlation_id, causation_id, trace_id
)
SELECT
    account_id, order_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, symbol, position_side, side, type, quantity, price, stop_price,
    reduce_only, time_in_force, strategy_id, filled_quantity, average_price, status, log_time,
    correlation_id, causation_id, trace_id
FROM json_populate_recordset(NULL::orders_view, $1::json)
ON CONFLICT (account_id, order_id) DO UPDATE SET (
    sequence_number, log_sequence, event_log_sequence, cause, event_hash, chain_hash, flags,
    symbol, position_side, side, type, quantity, price, stop_price, reduce_only, time_in_force,
    strategy_id, filled_quantity, average_price, status, log_time, correlation_id, causation_id,
    trace_id
) = ROW (
    excluded.sequence_number, excluded.log_sequence, excluded.event_log_sequence,
    excluded.cause, excluded.event_hash, excluded.chain_hash, excluded.flags, excluded.symbol,
    excluded.position_side, excluded.side, excluded.type, excluded.quantity, excluded.price,
    excluded.stop_price, excluded.reduce_only, excluded.time_in_force, excluded.strategy_id,
    excluded.filled_quantity, excluded.average_price, excluded.status, excluded.log_time,
    excluded.correlation_id, excluded.causation_id, excluded.trace_id
);

-- orders_view.delete
DELETE FROM orders_view
USING json_to_recordset($1::json) AS gone (account_id text, order_id text)
WHERE orders_view.account_id = gone.account_id AND orders_view.order_id = gone.order_id;

-- reconciliation_view.upsert
INSERT INTO reconciliation_view (
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, status, currency, ledger_hash, state_hash, event_id, as_of, through,
    matches, reason, differences, differences_total, not_compared, log_time, correlation_id,
    causation_id, trace_id
)
SELECT
    account_id, sequence_number, log_sequence, event_log_sequence, cause, event_hash,
    chain_hash, flags, status, currency, ledger_hash, state_hash, event_id, as_of, through,
    matches, reason, differences, differences_total, not_compared, log_time, correlation_id,
    causation_id, trace_id
FROM json_populate_recordset(NULL::reconciliation_view, $1::json)
ON CONFLICT (account_id) DO UPDATE SET (
    sequence_number, log_sequence, event_log_sequence, cause, event_hash, chain_hash, flags,
    status, currency, ledger_hash, state_hash, event_id, as_of, through, matches, reason,
    differences, differences_total, not_compared, log_time, correlation_id, causation_id,
    trace_id
) = ROW (
    excluded.sequence_number, excluded.log_sequence, excluded.event_log_sequence,
    excluded.cause, excluded.event_hash, excluded.chain_hash, excluded.flags, excluded.status,
    excluded.currency, excluded.ledger_hash, excluded.state_hash, excluded.event_id,
    excluded.as_of, excluded.through, excluded.matches, excluded.reason, excluded.differences,
    excluded.differences_total, excluded.not_compared, excluded.log_time,
    excluded.correlation_id, excluded.causation_id, excluded.trace_id
);

-- chain_heads.upsert
INSERT INTO chain_heads (
    stream_id, partition, sequence_number, log_sequence, event_log_sequence, event_hash,
    chain_hash, ledger_hash
)
SELECT
    stream_id, partition, sequence_number, log_sequence, event_log_sequence, event_hash,
    chain_hash, ledger_hash
FROM json_populate_recordset(NULL::chain_heads, $1::json)
ON CONFLICT (stream_id) DO UPDATE SET (
    partition, sequence_number, log_sequence, event_log_sequence, event_hash, chain_hash,
    ledger_hash
) = ROW (
    excluded.partition, excluded.sequence_number, excluded.log_sequence,
    excluded.event_log_sequence, excluded.event_hash, excluded.chain_hash, excluded.ledger_hash
);

-- risk_decisions.upsert
INSERT INTO risk_decisions (
    account_id, risk_sequence, slot, n, event_id, decision_hash, previous, decision, reason,
    failed, record, command, order_id, order_hash, strategy_id, symbol, side, quantity,
    approved_quantity, max_quantity, risk_group, mode, engine, orders_sequence,
    rulebook_sequence, marks_log_sequence, log_time
)
SELECT
    account_id, risk_sequence, slot, n, event_id, decision_hash, previous, decision, reason,
    failed, record, command, order_id, order_hash, strategy_id, symbol, side, quantity,
    approved_quantity, max_quantity, risk_group, mode, engine, orders_sequence,
    rulebook_sequence, marks_log_sequence, log_time
FROM json_populate_recordset(NULL::risk_decisions, $1::json)
ON CONFLICT (account_id, risk_sequence) DO UPDATE SET (
    slot, n, event_id, decision_hash, previous, decision, reason, failed, record, command,
    order_id, order_hash, strategy_id, symbol, side, quantity, approved_quantity, max_quantity,
    risk_group, mode, engine, orders_sequence, rulebook_sequence, marks_log_sequence, log_time
) = ROW (
    excluded.slot, excluded.n, excluded.event_id, excluded.decision_hash, excluded.previous,
    excluded.decision, excluded.reason, excluded.failed, excluded.record, excluded.command,
    excluded.order_id, excluded.order_hash, excluded.strategy_id, excluded.symbol,
    excluded.side, excluded.quantity, excluded.approved_quantity, excluded.max_quantity,
    excluded.risk_group, excluded.mode, excluded.engine, excluded.orders_sequence,
    excluded.rulebook_sequence, excluded.marks_log_sequence, excluded.log_time
);

-- risk_state.upsert
INSERT INTO risk_state (
    entry, kind, slot, n, risk_sequence, scope, code, mode, risk_value, risk_limit, since,
    until, record_hash, figures, log_time
)
SELECT
    entry, kind, slot, n, risk_sequence, scope, code, mode, risk_value, risk_limit, since,
    until, record_hash, figures, log_time
FROM json_populate_recordset(NULL::risk_state, $1::json)
ON CONFLICT (entry) DO UPDATE SET (
    kind, slot, n, risk_sequence, scope, code, mode, risk_value, risk_limit, since, until,
    record_hash, figures, log_time
) = ROW (
    excluded.kind, excluded.slot, excluded.n, excluded.risk_sequence, excluded.scope,
    excluded.code, excluded.mode, excluded.risk_value, excluded.risk_limit, excluded.since,
    excluded.until, excluded.record_hash, excluded.figures, excluded.log_time
);

-- risk_state.delete
DELETE FROM risk_state
USING json_to_recordset($1::json) AS gone (entry text)
WHERE risk_state.entry = gone.entry;

-- risk_limits.upsert
INSERT INTO risk_limits (
    scope, version, status, limits, proposal_hash, proposed_by, proposed_because,
    proposed_sequence, rulebook_sequence, valid_from, valid_until, approved_by, agreed_sequence,
    log_time
)
SELECT
    scope, version, status, limits, proposal_hash, proposed_by, proposed_because,
    proposed_sequence, rulebook_sequence, valid_from, valid_until, approved_by, agreed_sequence,
    log_time
FROM json_populate_recordset(NULL::risk_limits, $1::json)
ON CONFLICT (scope, version) DO UPDATE SET (
    status, limits, proposal_hash, proposed_by, proposed_because, proposed_sequence,
    rulebook_sequence, valid_from, valid_until, approved_by, agreed_sequence, log_time
) = ROW (
    excluded.status, excluded.limits, excluded.proposal_hash, excluded.proposed_by,
    excluded.proposed_because, excluded.proposed_sequence, excluded.rulebook_sequence,
    excluded.valid_from, excluded.valid_until, excluded.approved_by, excluded.agreed_sequence,
    excluded.log_time
);

-- risk_halts.upsert
INSERT INTO risk_halts (
    scope, halt_hash, mode, code, set_by, set_because, set_sequence, since, rulebook_sequence,
    until, lifted_by, lifted_sequence, log_time
)
SELECT
    scope, halt_hash, mode, code, set_by, set_because, set_sequence, since, rulebook_sequence,
    until, lifted_by, lifted_sequence, log_time
FROM json_populate_recordset(NULL::risk_halts, $1::json)
ON CONFLICT (scope, halt_hash) DO UPDATE SET (
    mode, code, set_by, set_because, set_sequence, since, rulebook_sequence, until, lifted_by,
    lifted_sequence, log_time
) = ROW (
    excluded.mode, excluded.code, excluded.set_by, excluded.set_because, excluded.set_sequence,
    excluded.since, excluded.rulebook_sequence, excluded.until, excluded.lifted_by,
    excluded.lifted_sequence, excluded.log_time
);

-- risk_groups.upsert
INSERT INTO risk_groups (
    group_name, members, currency, parent, rulebook_sequence, log_time
)
SELECT
    group_name, members, currency, parent, rulebook_sequence, log_time
FROM json_populate_recordset(NULL::risk_groups, $1::json)
ON CONFLICT (group_name) DO UPDATE SET (
    members, currency, parent, rulebook_sequence, log_time
) = ROW (
    excluded.members, excluded.currency, excluded.parent, excluded.rulebook_sequence,
    excluded.log_time
);

-- orderbook_snapshot.upsert
INSERT INTO orderbook_snapshot (
    exchange, symbol, bucket, log_time, state, since, market_sequence, last_id, bids, asks,
    bid_levels, ask_levels, mid, spread, microprice, imbalance, top_hash, checksum_failures,
    unread
)
SELECT
    exchange, symbol, bucket, log_time, state, since, market_sequence, last_id, bids, asks,
    bid_levels, ask_levels, mid, spread, microprice, imbalance, top_hash, checksum_failures,
    unread
FROM json_populate_recordset(NULL::orderbook_snapshot, $1::json)
ON CONFLICT (exchange, symbol, bucket) DO UPDATE SET (
    log_time, state, since, market_sequence, last_id, bids, asks, bid_levels, ask_levels, mid,
    spread, microprice, imbalance, top_hash, checksum_failures, unread
) = ROW (
    excluded.log_time, excluded.state, excluded.since, excluded.market_sequence,
    excluded.last_id, excluded.bids, excluded.asks, excluded.bid_levels, excluded.ask_levels,
    excluded.mid, excluded.spread, excluded.microprice, excluded.imbalance, excluded.top_hash,
    excluded.checksum_failures, excluded.unread
);

-- orderbook_snapshot.trim
DELETE FROM orderbook_snapshot
USING json_to_recordset($1::json) AS kept (before timestamptz)
WHERE orderbook_snapshot.bucket < kept.before;

-- Every book, with what was saved of it.;

-- orderbook_latest.upsert
INSERT INTO orderbook_latest (
    exchange, symbol, log_time, state, since, market_sequence, last_id, bids, asks, bid_levels,
    ask_levels, mid, spread, microprice, imbalance, top_hash, checksum_failures, unread
)
SELECT
    exchange, symbol, log_time, state, since, market_sequence, last_id, bids, asks, bid_levels,
    ask_levels, mid, spread, microprice, imbalance, top_hash, checksum_failures, unread
FROM json_populate_recordset(NULL::orderbook_latest, $1::json)
ON CONFLICT (exchange, symbol) DO UPDATE SET (
    log_time, state, since, market_sequence, last_id, bids, asks, bid_levels, ask_levels, mid,
    spread, microprice, imbalance, top_hash, checksum_failures, unread
) = ROW (
    excluded.log_time, excluded.state, excluded.since, excluded.market_sequence,
    excluded.last_id, excluded.bids, excluded.asks, excluded.bid_levels, excluded.ask_levels,
    excluded.mid, excluded.spread, excluded.microprice, excluded.imbalance, excluded.top_hash,
    excluded.checksum_failures, excluded.unread
);

-- orderbook_latest.delete
DELETE FROM orderbook_latest
USING json_to_recordset($1::json) AS gone (exchange text, symbol text)
WHERE orderbook_latest.exchange = gone.exchange AND orderbook_latest.symbol = gone.symbol;

-- orderbook_saved.upsert
INSERT INTO orderbook_saved (
    exchange, symbol, market_sequence, log_time, saved
)
SELECT
    exchange, symbol, market_sequence, log_time, saved
FROM json_populate_recordset(NULL::orderbook_saved, $1::json)
ON CONFLICT (exchange, symbol) DO UPDATE SET (
    market_sequence, log_time, saved
) = ROW (
    excluded.market_sequence, excluded.log_time, excluded.saved
);

-- orderbook_saved.delete
DELETE FROM orderbook_saved
USING json_to_recordset($1::json) AS gone (exchange text, symbol text)
WHERE orderbook_saved.exchange = gone.exchange AND orderbook_saved.symbol = gone.symbol;

-- pnl_timeseries.upsert
INSERT INTO pnl_timeseries (
    account_id, strategy_id, symbol, timeframe, bucket, epoch, equity, nav, ret, realized,
    unrealized_change, fees, funding, other, pnl, pnl_corrected, flows, turnover, fills,
    peak_gross, contribution, return_on_gross, max_drawdown, through_log_sequence,
    through_bucket, rules
)
SELECT
    account_id, strategy_id, symbol, timeframe, bucket, epoch, equity, nav, ret, realized,
    unrealized_change, fees, funding, other, pnl, pnl_corrected, flows, turnover, fills,
    peak_gross, contribution, return_on_gross, max_drawdown, through_log_sequence,
    through_bucket, rules
FROM json_populate_recordset(NULL::pnl_timeseries, $1::json)
ON CONFLICT (account_id, strategy_id, symbol, timeframe, bucket) DO UPDATE SET (
    epoch, equity, nav, ret, realized, unrealized_change, fees, funding, other, pnl,
    pnl_corrected, flows, turnover, fills, peak_gross, contribution, return_on_gross,
    max_drawdown, through_log_sequence, through_bucket, rules
) = ROW (
    excluded.epoch, excluded.equity, excluded.nav, excluded.ret, excluded.realized,
    excluded.unrealized_change, excluded.fees, excluded.funding, excluded.other, excluded.pnl,
    excluded.pnl_corrected, excluded.flows, excluded.turnover, excluded.fills,
    excluded.peak_gross, excluded.contribution, excluded.return_on_gross, excluded.max_drawdown,
    excluded.through_log_sequence, excluded.through_bucket, excluded.rules
);

-- trades.upsert
INSERT INTO trades (
    account_id, symbol, position_side, strategy_id, cycle, through_log_sequence, side, currency,
    opened, closed, peak_size, gross, fees, funding, net, mae, mfe, return_on_peak_notional,
    holding_s, fills, revised_at, gone
)
SELECT
    account_id, symbol, position_side, strategy_id, cycle, through_log_sequence, side, currency,
    opened, closed, peak_size, gross, fees, funding, net, mae, mfe, return_on_peak_notional,
    holding_s, fills, revised_at, gone
FROM json_populate_recordset(NULL::trades, $1::json)
ON CONFLICT (account_id, symbol, position_side, strategy_id, cycle, through_log_sequence) DO UPDATE SET (
    side, currency, opened, closed, peak_size, gross, fees, funding, net, mae, mfe,
    return_on_peak_notional, holding_s, fills, revised_at, gone
) = ROW (
    excluded.side, excluded.currency, excluded.opened, excluded.closed, excluded.peak_size,
    excluded.gross, excluded.fees, excluded.funding, excluded.net, excluded.mae, excluded.mfe,
    excluded.return_on_peak_notional, excluded.holding_s, excluded.fills, excluded.revised_at,
    excluded.gone
);

-- lots.upsert
INSERT INTO lots (
    account_id, symbol, position_side, lot, through_log_sequence, side, currency, opened,
    closed, quantity, open_price, close_price, pnl, days_held, revised_at, gone
)
SELECT
    account_id, symbol, position_side, lot, through_log_sequence, side, currency, opened,
    closed, quantity, open_price, close_price, pnl, days_held, revised_at, gone
FROM json_populate_recordset(NULL::lots, $1::json)
ON CONFLICT (account_id, symbol, position_side, lot, through_log_sequence) DO UPDATE SET (
    side, currency, opened, closed, quantity, open_price, close_price, pnl, days_held,
    revised_at, gone
) = ROW (
    excluded.side, excluded.currency, excluded.opened, excluded.closed, excluded.quantity,
    excluded.open_price, excluded.close_price, excluded.pnl, excluded.days_held,
    excluded.revised_at, excluded.gone
);

-- analytics_journal.upsert
INSERT INTO analytics_journal (
    account_id, n, entry
)
SELECT
    account_id, n, entry
FROM json_populate_recordset(NULL::analytics_journal, $1::json)
ON CONFLICT (account_id, n) DO UPDATE SET (
    entry
) = ROW (
    excluded.entry
);

-- trade_statistics.upsert
INSERT INTO trade_statistics (
    account_id, strategy_id, symbol, time_window, day, currency, through_log_sequence, rules, n,
    wins, losses, breakeven, win_rate, win_rate_decided, profit_factor, payoff, avg_win,
    avg_loss, expectancy, longest_win_streak, longest_loss_streak, holding_mean_s,
    holding_median_s, best, worst, net, kelly, no_losses
)
SELECT
    account_id, strategy_id, symbol, time_window, day, currency, through_log_sequence, rules, n,
    wins, losses, breakeven, win_rate, win_rate_decided, profit_factor, payoff, avg_win,
    avg_loss, expectancy, longest_win_streak, longest_loss_streak, holding_mean_s,
    holding_median_s, best, worst, net, kelly, no_losses
FROM json_populate_recordset(NULL::trade_statistics, $1::json)
ON CONFLICT (account_id, strategy_id, symbol, time_window, day, currency) DO UPDATE SET (
    through_log_sequence, rules, n, wins, losses, breakeven, win_rate, win_rate_decided,
    profit_factor, payoff, avg_win, avg_loss, expectancy, longest_win_streak,
    longest_loss_streak, holding_mean_s, holding_median_s, best, worst, net, kelly, no_losses
) = ROW (
    excluded.through_log_sequence, excluded.rules, excluded.n, excluded.wins, excluded.losses,
    excluded.breakeven, excluded.win_rate, excluded.win_rate_decided, excluded.profit_factor,
    excluded.payoff, excluded.avg_win, excluded.avg_loss, excluded.expectancy,
    excluded.longest_win_streak, excluded.longest_loss_streak, excluded.holding_mean_s,
    excluded.holding_median_s, excluded.best, excluded.worst, excluded.net, excluded.kelly,
    excluded.no_losses
);

-- risk_metrics.upsert
INSERT INTO risk_metrics (
    account_id, strategy_id, symbol, time_window, day, epoch, periods_per_year,
    through_log_sequence, rules, n, few, ruined, mean, volatility, sharpe, sortino, cagr,
    total_return, max_drawdown, max_drawdown_days, calmar, var_hist_95, var_hist_99, es_hist_95,
    es_hist_99, var_param_95, var_param_99, es_param_95, es_param_99, ewma_vol_daily, skew,
    kurtosis_excess, max_drawdown_intraday, var_hist_95_money, var_hist_99_money,
    es_hist_95_money, es_hist_99_money, var_param_95_money, var_param_99_money,
    es_param_95_money, es_param_99_money
)
SELECT
    account_id, strategy_id, symbol, time_window, day, epoch, periods_per_year,
    through_log_sequence, rules, n, few, ruined, mean, volatility, sharpe, sortino, cagr,
    total_return, max_drawdown, max_drawdown_days, calmar, var_hist_95, var_hist_99, es_hist_95,
    es_hist_99, var_param_95, var_param_99, es_param_95, es_param_99, ewma_vol_daily, skew,
    kurtosis_excess, max_drawdown_intraday, var_hist_95_money, var_hist_99_money,
    es_hist_95_money, es_hist_99_money, var_param_95_money, var_param_99_money,
    es_param_95_money, es_param_99_money
FROM json_populate_recordset(NULL::risk_metrics, $1::json)
ON CONFLICT (account_id, strategy_id, symbol, time_window, day) DO UPDATE SET (
    epoch, periods_per_year, through_log_sequence, rules, n, few, ruined, mean, volatility,
    sharpe, sortino, cagr, total_return, max_drawdown, max_drawdown_days, calmar, var_hist_95,
    var_hist_99, es_hist_95, es_hist_99, var_param_95, var_param_99, es_param_95, es_param_99,
    ewma_vol_daily, skew, kurtosis_excess, max_drawdown_intraday, var_hist_95_money,
    var_hist_99_money, es_hist_95_money, es_hist_99_money, var_param_95_money,
    var_param_99_money, es_param_95_money, es_param_99_money
) = ROW (
    excluded.epoch, excluded.periods_per_year, excluded.through_log_sequence, excluded.rules,
    excluded.n, excluded.few, excluded.ruined, excluded.mean, excluded.volatility,
    excluded.sharpe, excluded.sortino, excluded.cagr, excluded.total_return,
    excluded.max_drawdown, excluded.max_drawdown_days, excluded.calmar, excluded.var_hist_95,
    excluded.var_hist_99, excluded.es_hist_95, excluded.es_hist_99, excluded.var_param_95,
    excluded.var_param_99, excluded.es_param_95, excluded.es_param_99, excluded.ewma_vol_daily,
    excluded.skew, excluded.kurtosis_excess, excluded.max_drawdown_intraday,
    excluded.var_hist_95_money, excluded.var_hist_99_money, excluded.es_hist_95_money,
    excluded.es_hist_99_money, excluded.var_param_95_money, excluded.var_param_99_money,
    excluded.es_param_95_money, excluded.es_param_99_money
);

-- read.state
-- Two objects made one: together they have more pairs than a call takes.
SELECT left((CASE WHEN b.event_log_sequence IS NULL THEN json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'cause', b.cause,
    'event_hash', b.event_hash,
    'chain_hash', b.chain_hash,
    'flags', coalesce(stale.flags, b.flags),
    'status', b.status,
    'currency', b.currency,
    'cash', (
        SELECT coalesce(json_object_agg(e.key, e.value ORDER BY e.key COLLATE "C"), '{}')
        FROM jsonb_each(b.cash) AS e
    ),
    'equity', b.equity::text,
    'unrealized_pnl', b.unrealized_pnl::text,
    'realized_pnl', b.realized_pnl::text,
    'realized_pnl_net', b.realized_pnl_net::text,
    'fees', b.fees::text,
    'liquidation_fees', b.liquidation_fees::text,
    'funding', b.funding::text,
    'deposits', b.deposits::text,
    'withdrawals', b.withdrawals::text,
    'transfers', b.transfers::text,
    'interest', b.interest::text,
    'dividends', b.dividends::text,
    'adjustments', b.adjustments::text,
    'taxes', b.taxes::text,
    'losses_covered', b.losses_covered::text,
    'borrowed', (
        SELECT coalesce(json_object_agg(e.key, e.value ORDER BY e.key COLLATE "C"), '{}')
        FROM jsonb_each(b.borrowed) AS e
    ),
    'flows', b.flows::text,
    'flows_cost', b.flows_cost::text,
    'unrated_cost', b.unrated_cost::text,
    'exposure_gross', b.exposure_gross::text,
    'exposure_net', b.exposure_net::text,
    'margin_initial', b.margin_initial::text,
    'margin_maintenance', b.margin_maintenance::text,
    'margin_available', b.margin_available::text,
    'withdrawable', b.withdrawable::text,
    'leverage', b.leverage::text,
    'leverage_limit', b.leverage_limit::text,
    'peak_equity', b.peak_equity::text,
    'drawdown', b.drawdown::text,
    'max_drawdown', b.max_drawdown::text,
    'nav', b.nav::text,
    'nav_epoch', b.nav_epoch,
    'open_positions', b.open_positions,
    'open_orders', b.open_orders,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash
) ELSE json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'event_log_sequence', b.event_log_sequence,
    'cause', b.cause,
    'event_hash', b.event_hash,
    'chain_hash', b.chain_hash,
    'flags', coalesce(stale.flags, b.flags),
    'status', b.status,
    'currency', b.currency,
    'cash', (
        SELECT coalesce(json_object_agg(e.key, e.value ORDER BY e.key COLLATE "C"), '{}')
        FROM jsonb_each(b.cash) AS e
    ),
    'equity', b.equity::text,
    'unrealized_pnl', b.unrealized_pnl::text,
    'realized_pnl', b.realized_pnl::text,
    'realized_pnl_net', b.realized_pnl_net::text,
    'fees', b.fees::text,
    'liquidation_fees', b.liquidation_fees::text,
    'funding', b.funding::text,
    'deposits', b.deposits::text,
    'withdrawals', b.withdrawals::text,
    'transfers', b.transfers::text,
    'interest', b.interest::text,
    'dividends', b.dividends::text,
    'adjustments', b.adjustments::text,
    'taxes', b.taxes::text,
    'losses_covered', b.losses_covered::text,
    'borrowed', (
        SELECT coalesce(json_object_agg(e.key, e.value ORDER BY e.key COLLATE "C"), '{}')
        FROM jsonb_each(b.borrowed) AS e
    ),
    'flows', b.flows::text,
    'flows_cost', b.flows_cost::text,
    'unrated_cost', b.unrated_cost::text,
    'exposure_gross', b.exposure_gross::text,
    'exposure_net', b.exposure_net::text,
    'margin_initial', b.margin_initial::text,
    'margin_maintenance', b.margin_maintenance::text,
    'margin_available', b.margin_available::text,
    'withdrawable', b.withdrawable::text,
    'leverage', b.leverage::text,
    'leverage_limit', b.leverage_limit::text,
    'peak_equity', b.peak_equity::text,
    'drawdown', b.drawdown::text,
    'max_drawdown', b.max_drawdown::text,
    'nav', b.nav::text,
    'nav_epoch', b.nav_epoch,
    'open_positions', b.open_positions,
    'open_orders', b.open_orders,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash
) END)::text, -1) || ', ' || substr(json_build_object(
    'as_of', json_build_object(
        'log_sequence', b.log_sequence,
        'time', to_char(b.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ),
    'assets', a.assets,
    'positions', p.positions,
    'orders', o.orders
)::text, 2)
FROM balances_view b
CROSS JOIN LATERAL (
    SELECT CASE WHEN EXISTS (
        SELECT FROM current_state_quarantine q
        WHERE q.stream_id = b.account_id AND q.view IN ('balances_view', 'positions_view', 'orders_view')
    ) THEN ARRAY(
        SELECT flag FROM unnest(b.flags || 'view_stale'::text) AS flag ORDER BY flag COLLATE "C"
    ) END AS flags
) AS stale
CROSS JOIN LATERAL (
    SELECT coalesce(json_object_agg(a.asset, json_build_object(
        'quantity', a.quantity::text,
        'cost', a.cost::text,
        'entry_price', a.entry_price::text,
        'mark_price', a.mark_price::text,
        'value', a.value::text,
        'unrealized_pnl', a.unrealized_pnl::text,
        'as_of', json_build_object(
            'log_sequence', a.log_sequence,
            'time', to_char(a.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        )
    ) ORDER BY a.asset COLLATE "C"), '{}') AS assets
    FROM (
        SELECT p.symbol AS asset,
        CASE p.side WHEN 'short' THEN -p.size ELSE p.size END AS quantity,
        p.cost, p.entry_price, p.mark_price,
        CASE p.side WHEN 'short' THEN -p.notional ELSE p.notional END AS value,
        p.unrealized_pnl, p.log_sequence, p.log_time
        FROM positions_view p
        WHERE p.account_id = b.account_id AND p.class = 'asset' AND p.side <> 'flat'
        UNION ALL  -- the account currency is worth what it is, and costs that
        SELECT b.currency, h.money, h.money, 1, 1, h.money, 0, b.log_sequence, b.log_time
        FROM (SELECT (b.cash ->> b.currency)::numeric AS money) AS h
        WHERE h.money <> 0
    ) AS a
) AS a
CROSS JOIN LATERAL (
    SELECT coalesce(json_object_agg(p.key, json_build_object(
        'class', p.class,
        'symbol', p.symbol,
        'position_side', p.position_side,
        'kind', p.kind,
        'currency', p.currency,
        'multiplier', p.multiplier::text,
        'margin_mode', p.margin_mode,
        'side', p.side,
        'size', p.size::text,
        'peak_size', p.peak_size::text,
        'entry_price', p.entry_price::text,
        'break_even_price', p.break_even_price::text,
        'cost', p.cost::text,
        'cost_quote', p.cost_quote::text,
        'mark_price', p.mark_price::text,
        'mark_source', p.mark_source,
        'mark_log_sequence', p.mark_log_sequence,
        'mark_time', p.mark_time,
        'notional', p.notional::text,
        'unrealized_pnl', p.unrealized_pnl::text,
        'unrealized_pnl_account', p.unrealized_pnl_account::text,
        'realized_pnl', p.realized_pnl::text,
        'realized_pnl_account', p.realized_pnl_account::text,
        'realized_pnl_net', p.realized_pnl_net::text,
        'fees', p.fees::text,
        'funding', p.funding::text,
        'cycle', p.cycle,
        'cycle_opened_at', p.cycle_opened_at,
        'cycle_realized_pnl', p.cycle_realized_pnl::text,
        'cycle_fees', p.cycle_fees::text,
        'cycle_funding', p.cycle_funding::text,
        'cycle_mae', p.cycle_mae::text,
        'cycle_mfe', p.cycle_mfe::text,
        'isolated_margin', p.isolated_margin::text,
        'liquidation_price', p.liquidation_price::text,
        'bankruptcy_price', p.bankruptcy_price::text,
        'as_of', json_build_object(
            'log_sequence', p.log_sequence,
            'time', to_char(p.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        )
    ) ORDER BY p.key COLLATE "C"), '{}') AS positions
    FROM (
        SELECT *,
        CASE WHEN p.position_side <> 'net' OR p.symbol ~ '#(net|long|short)$'
        THEN p.symbol || '#' || p.position_side ELSE p.symbol END
        AS key
        FROM positions_view p
        WHERE p.account_id = b.account_id AND p.class <> 'asset'
    ) AS p
) AS p
CROSS JOIN LATERAL (
    SELECT coalesce(json_object_agg(o.order_id, json_build_object(
        'order_id', o.order_id,
        'symbol', o.symbol,
        'position_side', o.position_side,
        'side', o.side,
        'type', o.type,
        'quantity', o.quantity::text,
        'price', o.price::text,
        'stop_price', o.stop_price::text,
        'reduce_only', o.reduce_only,
        'time_in_force', o.time_in_force,
        'strategy_id', o.strategy_id,
        'filled_quantity', o.filled_quantity::text,
        'average_price', o.average_price::text,
        'status', o.status
    ) ORDER BY o.order_id COLLATE "C"), '{}') AS orders
    FROM orders_view o
    WHERE o.account_id = b.account_id
    AND o.status IN ('submitted', 'accepted', 'partially_filled')
) AS o
WHERE b.account_id = $1;

-- Of the documents below, only those that lack something have flags.;

-- read.positions
SELECT (CASE WHEN stale.flags IS NULL THEN json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'status', b.status,
    'currency', b.currency,
    'chain_hash', b.chain_hash,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash,
    'as_of', json_build_object(
        'log_sequence', b.log_sequence,
        'time', to_char(b.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ),
    'positions', p.positions
) ELSE json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'status', b.status,
    'currency', b.currency,
    'chain_hash', b.chain_hash,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash,
    'as_of', json_build_object(
        'log_sequence', b.log_sequence,
        'time', to_char(b.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ),
    'flags', stale.flags,
    'positions', p.positions
) END)::text
FROM balances_view b
CROSS JOIN LATERAL (
    SELECT CASE WHEN EXISTS (
        SELECT FROM current_state_quarantine q
        WHERE q.stream_id = b.account_id AND q.view IN ('balances_view', 'positions_view')
    ) THEN ARRAY(
        SELECT flag FROM unnest(b.flags || 'view_stale'::text) AS flag ORDER BY flag COLLATE "C"
    ) END AS flags
) AS stale
CROSS JOIN LATERAL (
    SELECT coalesce(json_object_agg(p.key, json_build_object(
        'class', p.class,
        'symbol', p.symbol,
        'position_side', p.position_side,
        'kind', p.kind,
        'currency', p.currency,
        'multiplier', p.multiplier::text,
        'margin_mode', p.margin_mode,
        'side', p.side,
        'size', p.size::text,
        'peak_size', p.peak_size::text,
        'entry_price', p.entry_price::text,
        'break_even_price', p.break_even_price::text,
        'cost', p.cost::text,
        'cost_quote', p.cost_quote::text,
        'mark_price', p.mark_price::text,
        'mark_source', p.mark_source,
        'mark_log_sequence', p.mark_log_sequence,
        'mark_time', p.mark_time,
        'notional', p.notional::text,
        'unrealized_pnl', p.unrealized_pnl::text,
        'unrealized_pnl_account', p.unrealized_pnl_account::text,
        'realized_pnl', p.realized_pnl::text,
        'realized_pnl_account', p.realized_pnl_account::text,
        'realized_pnl_net', p.realized_pnl_net::text,
        'fees', p.fees::text,
        'funding', p.funding::text,
        'cycle', p.cycle,
        'cycle_opened_at', p.cycle_opened_at,
        'cycle_realized_pnl', p.cycle_realized_pnl::text,
        'cycle_fees', p.cycle_fees::text,
        'cycle_funding', p.cycle_funding::text,
        'cycle_mae', p.cycle_mae::text,
        'cycle_mfe', p.cycle_mfe::text,
        'isolated_margin', p.isolated_margin::text,
        'liquidation_price', p.liquidation_price::text,
        'bankruptcy_price', p.bankruptcy_price::text,
        'as_of', json_build_object(
            'log_sequence', p.log_sequence,
            'time', to_char(p.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        )
    ) ORDER BY p.key COLLATE "C"), '{}') AS positions
    FROM (
        SELECT *,
        CASE WHEN p.position_side <> 'net' OR p.symbol ~ '#(net|long|short)$'
        THEN p.symbol || '#' || p.position_side ELSE p.symbol END
        AS key
        FROM positions_view p
        WHERE p.account_id = b.account_id AND p.class <> 'asset'
    ) AS p
) AS p
WHERE b.account_id = $1;

-- read.orders
-- All open orders, and of the ended ones the 256 that changed last: an answer has a limit.
SELECT (CASE WHEN stale.flags IS NULL THEN json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'status', b.status,
    'currency', b.currency,
    'chain_hash', b.chain_hash,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash,
    'as_of', json_build_object(
        'log_sequence', b.log_sequence,
        'time', to_char(b.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ),
    'orders', o.orders
) ELSE json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'status', b.status,
    'currency', b.currency,
    'chain_hash', b.chain_hash,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash,
    'as_of', json_build_object(
        'log_sequence', b.log_sequence,
        'time', to_char(b.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ),
    'flags', stale.flags,
    'orders', o.orders
) END)::text
FROM balances_view b
CROSS JOIN LATERAL (
    SELECT CASE WHEN EXISTS (
        SELECT FROM current_state_quarantine q
        WHERE q.stream_id = b.account_id AND q.view IN ('balances_view', 'orders_view')
    ) THEN ARRAY(
        SELECT flag FROM unnest(b.flags || 'view_stale'::text) AS flag ORDER BY flag COLLATE "C"
    ) END AS flags
) AS stale
CROSS JOIN LATERAL (
    SELECT coalesce(json_object_agg(o.order_id, json_build_object(
        'order_id', o.order_id,
        'symbol', o.symbol,
        'position_side', o.position_side,
        'side', o.side,
        'type', o.type,
        'quantity', o.quantity::text,
        'price', o.price::text,
        'stop_price', o.stop_price::text,
        'reduce_only', o.reduce_only,
        'time_in_force', o.time_in_force,
        'strategy_id', o.strategy_id,
        'filled_quantity', o.filled_quantity::text,
        'average_price', o.average_price::text,
        'status', o.status
    ) ORDER BY o.order_id COLLATE "C"), '{}') AS orders
    FROM (
        SELECT * FROM orders_view o
        WHERE o.account_id = b.account_id
        AND o.status IN ('submitted', 'accepted', 'partially_filled')
        UNION ALL (
            SELECT * FROM orders_view o
            WHERE o.account_id = b.account_id
            AND o.status IN ('filled', 'cancelled', 'rejected', 'expired')
            ORDER BY o.log_sequence DESC, o.order_id
            LIMIT 256
        )
    ) AS o
) AS o
WHERE b.account_id = $1;

-- read.margin
SELECT (CASE WHEN stale.flags IS NULL THEN json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'status', b.status,
    'currency', b.currency,
    'chain_hash', b.chain_hash,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash,
    'as_of', json_build_object(
        'log_sequence', b.log_sequence,
        'time', to_char(b.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ),
    'equity', m.equity::text,
    'margin_initial', m.margin_initial::text,
    'margin_maintenance', m.margin_maintenance::text,
    'margin_available', m.margin_available::text,
    'margin_ratio', m.margin_ratio::text,
    'leverage', m.leverage::text,
    'leverage_limit', m.leverage_limit::text
) ELSE json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'status', b.status,
    'currency', b.currency,
    'chain_hash', b.chain_hash,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash,
    'as_of', json_build_object(
        'log_sequence', b.log_sequence,
        'time', to_char(b.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ),
    'flags', stale.flags,
    'equity', m.equity::text,
    'margin_initial', m.margin_initial::text,
    'margin_maintenance', m.margin_maintenance::text,
    'margin_available', m.margin_available::text,
    'margin_ratio', m.margin_ratio::text,
    'leverage', m.leverage::text,
    'leverage_limit', m.leverage_limit::text
) END)::text
FROM balances_view b
LEFT JOIN margin_view m USING (account_id)
CROSS JOIN LATERAL (
    SELECT CASE WHEN EXISTS (
        SELECT FROM current_state_quarantine q
        WHERE q.stream_id = b.account_id AND q.view IN ('balances_view', 'margin_view')
    ) THEN ARRAY(
        SELECT flag FROM unnest(b.flags || 'view_stale'::text) AS flag ORDER BY flag COLLATE "C"
    ) END AS flags
) AS stale
WHERE b.account_id = $1;

-- read.reconciliation
-- Made of its own row alone: there is a report about accounts that nothing was booked for, too.
SELECT json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'cause', b.cause,
    'event_hash', b.event_hash,
    'chain_hash', b.chain_hash,
    'flags', coalesce(stale.flags, b.flags),
    'status', b.status,
    'currency', b.currency,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash,
    'event_id', b.event_id,
    'as_of', b.as_of,
    'through', b.through,
    'matches', b.matches,
    'reason', b.reason,
    'differences_total', b.differences_total,
    'not_compared', b.not_compared,
    'differences', d.differences
)::text
FROM reconciliation_view b
CROSS JOIN LATERAL (
    SELECT CASE WHEN EXISTS (
        SELECT FROM current_state_quarantine q
        WHERE q.stream_id = b.account_id AND q.view IN ('reconciliation_view')
    ) THEN ARRAY(
        SELECT flag FROM unnest(b.flags || 'view_stale'::text) AS flag ORDER BY flag COLLATE "C"
    ) END AS flags
) AS stale
CROSS JOIN LATERAL (
    SELECT coalesce(json_agg(json_build_object(
        'what', e.difference->'what',
        'symbol', e.difference->'symbol',
        'position_side', e.difference->'position_side',
        'expected', e.difference->'expected',
        'reported', e.difference->'reported',
        'difference', e.difference->'difference'
    ) ORDER BY e.place), '[]') AS differences
    FROM jsonb_array_elements(b.differences) WITH ORDINALITY AS e (difference, place)
) AS d
WHERE b.account_id = $1 AND b.log_sequence >= $2;

-- The version that the balances have, and the first one that a key of these views lacks.;

-- read.reached
SELECT
    (SELECT sequence_number FROM balances_view WHERE account_id = $1) AS sequence_number,
    (SELECT min(first_sequence_number) FROM current_state_quarantine
     WHERE stream_id = $1 AND view = ANY ($2)) AS stale_from;

-- read.counts
SELECT status, count(*) AS accounts FROM balances_view GROUP BY status;

-- accounts.account
SELECT json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'status', b.status,
    'currency', b.currency,
    'chain_hash', b.chain_hash,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash,
    'flags', coalesce(stale.flags, b.flags),
    'equity', b.equity::text,
    'unrealized_pnl', b.unrealized_pnl::text,
    'realized_pnl_net', b.realized_pnl_net::text,
    'peak_equity', b.peak_equity::text,
    'drawdown', b.drawdown::text,
    'exposure_gross', b.exposure_gross::text,
    'exposure_net', b.exposure_net::text,
    'leverage', b.leverage::text,
    'open_positions', b.open_positions,
    'open_orders', b.open_orders,
    'margin_maintenance', m.margin_maintenance::text,
    'margin_available', m.margin_available::text,
    'margin_ratio', m.margin_ratio::text,
    'as_of', json_build_object(
        'log_sequence', b.log_sequence,
        'time', to_char(b.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    )
)::text AS document, '0' AS place, b.account_id
FROM balances_view b
LEFT JOIN margin_view m USING (account_id)
CROSS JOIN LATERAL (
    SELECT CASE WHEN EXISTS (
        SELECT FROM current_state_quarantine q
        WHERE q.stream_id = b.account_id AND q.view IN ('balances_view', 'positions_view', 'orders_view', 'margin_view')
    ) THEN ARRAY(
        SELECT flag FROM unnest(b.flags || 'view_stale'::text) AS flag ORDER BY flag COLLATE "C"
    ) END AS flags
) AS stale
WHERE ($1::text IS NULL OR $1 = ANY (coalesce(stale.flags, b.flags)))
AND ($5::text[] IS NULL OR b.account_id LIKE ANY ($5))
AND $2::numeric IS NOT NULL
AND b.account_id > $3::text
ORDER BY b.account_id
LIMIT $4;

-- accounts.drawdown
SELECT json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'status', b.status,
    'currency', b.currency,
    'chain_hash', b.chain_hash,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash,
    'flags', coalesce(stale.flags, b.flags),
    'equity', b.equity::text,
    'unrealized_pnl', b.unrealized_pnl::text,
    'realized_pnl_net', b.realized_pnl_net::text,
    'peak_equity', b.peak_equity::text,
    'drawdown', b.drawdown::text,
    'exposure_gross', b.exposure_gross::text,
    'exposure_net', b.exposure_net::text,
    'leverage', b.leverage::text,
    'open_positions', b.open_positions,
    'open_orders', b.open_orders,
    'margin_maintenance', m.margin_maintenance::text,
    'margin_available', m.margin_available::text,
    'margin_ratio', m.margin_ratio::text,
    'as_of', json_build_object(
        'log_sequence', b.log_sequence,
        'time', to_char(b.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    )
)::text AS document, page.place::text AS place, page.account_id
FROM (
    SELECT placed.account_id, placed.place
    FROM (
        SELECT b.account_id, (
            coalesce(-b.drawdown, 'Infinity')
        ) AS place
        FROM balances_view b
        LEFT JOIN margin_view m USING (account_id)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN EXISTS (
                SELECT FROM current_state_quarantine q
                WHERE q.stream_id = b.account_id AND q.view IN ('balances_view', 'positions_view', 'orders_view', 'margin_view')
            ) THEN ARRAY(
                SELECT flag FROM unnest(b.flags || 'view_stale'::text) AS flag ORDER BY flag COLLATE "C"
            ) END AS flags
        ) AS stale
        WHERE ($1::text IS NULL OR $1 = ANY (coalesce(stale.flags, b.flags)))
        AND ($5::text[] IS NULL OR b.account_id LIKE ANY ($5))
    ) AS placed
    WHERE (placed.place, placed.account_id) > ($2::numeric, $3::text)
    ORDER BY placed.place, placed.account_id
    LIMIT $4
) AS page
JOIN balances_view b USING (account_id)
LEFT JOIN margin_view m USING (account_id)
CROSS JOIN LATERAL (
    SELECT CASE WHEN EXISTS (
        SELECT FROM current_state_quarantine q
        WHERE q.stream_id = b.account_id AND q.view IN ('balances_view', 'positions_view', 'orders_view', 'margin_view')
    ) THEN ARRAY(
        SELECT flag FROM unnest(b.flags || 'view_stale'::text) AS flag ORDER BY flag COLLATE "C"
    ) END AS flags
) AS stale
ORDER BY page.place, page.account_id;

-- accounts.margin
SELECT json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'status', b.status,
    'currency', b.currency,
    'chain_hash', b.chain_hash,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash,
    'flags', coalesce(stale.flags, b.flags),
    'equity', b.equity::text,
    'unrealized_pnl', b.unrealized_pnl::text,
    'realized_pnl_net', b.realized_pnl_net::text,
    'peak_equity', b.peak_equity::text,
    'drawdown', b.drawdown::text,
    'exposure_gross', b.exposure_gross::text,
    'exposure_net', b.exposure_net::text,
    'leverage', b.leverage::text,
    'open_positions', b.open_positions,
    'open_orders', b.open_orders,
    'margin_maintenance', m.margin_maintenance::text,
    'margin_available', m.margin_available::text,
    'margin_ratio', m.margin_ratio::text,
    'as_of', json_build_object(
        'log_sequence', b.log_sequence,
        'time', to_char(b.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    )
)::text AS document, page.place::text AS place, page.account_id
FROM (
    SELECT placed.account_id, placed.place
    FROM (
        SELECT b.account_id, (
            CASE WHEN b.equity <= 0 AND b.open_positions > 0 THEN '-Infinity'
                ELSE coalesce(-m.margin_ratio, 'Infinity') END
        ) AS place
        FROM balances_view b
        LEFT JOIN margin_view m USING (account_id)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN EXISTS (
                SELECT FROM current_state_quarantine q
                WHERE q.stream_id = b.account_id AND q.view IN ('balances_view', 'positions_view', 'orders_view', 'margin_view')
            ) THEN ARRAY(
                SELECT flag FROM unnest(b.flags || 'view_stale'::text) AS flag ORDER BY flag COLLATE "C"
            ) END AS flags
        ) AS stale
        WHERE ($1::text IS NULL OR $1 = ANY (coalesce(stale.flags, b.flags)))
        AND ($5::text[] IS NULL OR b.account_id LIKE ANY ($5))
    ) AS placed
    WHERE (placed.place, placed.account_id) > ($2::numeric, $3::text)
    ORDER BY placed.place, placed.account_id
    LIMIT $4
) AS page
JOIN balances_view b USING (account_id)
LEFT JOIN margin_view m USING (account_id)
CROSS JOIN LATERAL (
    SELECT CASE WHEN EXISTS (
        SELECT FROM current_state_quarantine q
        WHERE q.stream_id = b.account_id AND q.view IN ('balances_view', 'positions_view', 'orders_view', 'margin_view')
    ) THEN ARRAY(
        SELECT flag FROM unnest(b.flags || 'view_stale'::text) AS flag ORDER BY flag COLLATE "C"
    ) END AS flags
) AS stale
ORDER BY page.place, page.account_id;

-- accounts.equity
SELECT json_build_object(
    'account_id', b.account_id,
    'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence,
    'status', b.status,
    'currency', b.currency,
    'chain_hash', b.chain_hash,
    'ledger_hash', b.ledger_hash,
    'state_hash', b.state_hash,
    'flags', coalesce(stale.flags, b.flags),
    'equity', b.equity::text,
    'unrealized_pnl', b.unrealized_pnl::text,
    'realized_pnl_net', b.realized_pnl_net::text,
    'peak_equity', b.peak_equity::text,
    'drawdown', b.drawdown::text,
    'exposure_gross', b.exposure_gross::text,
    'exposure_net', b.exposure_net::text,
    'leverage', b.leverage::text,
    'open_positions', b.open_positions,
    'open_orders', b.open_orders,
    'margin_maintenance', m.margin_maintenance::text,
    'margin_available', m.margin_available::text,
    'margin_ratio', m.margin_ratio::text,
    'as_of', json_build_object(
        'log_sequence', b.log_sequence,
        'time', to_char(b.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    )
)::text AS document, page.place::text AS place, page.account_id
FROM (
    SELECT placed.account_id, placed.place
    FROM (
        SELECT b.account_id, (
            coalesce(b.equity, 'Infinity')
        ) AS place
        FROM balances_view b
        LEFT JOIN margin_view m USING (account_id)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN EXISTS (
                SELECT FROM current_state_quarantine q
                WHERE q.stream_id = b.account_id AND q.view IN ('balances_view', 'positions_view', 'orders_view', 'margin_view')
            ) THEN ARRAY(
                SELECT flag FROM unnest(b.flags || 'view_stale'::text) AS flag ORDER BY flag COLLATE "C"
            ) END AS flags
        ) AS stale
        WHERE ($1::text IS NULL OR $1 = ANY (coalesce(stale.flags, b.flags)))
        AND ($5::text[] IS NULL OR b.account_id LIKE ANY ($5))
    ) AS placed
    WHERE (placed.place, placed.account_id) > ($2::numeric, $3::text)
    ORDER BY placed.place, placed.account_id
    LIMIT $4
) AS page
JOIN balances_view b USING (account_id)
LEFT JOIN margin_view m USING (account_id)
CROSS JOIN LATERAL (
    SELECT CASE WHEN EXISTS (
        SELECT FROM current_state_quarantine q
        WHERE q.stream_id = b.account_id AND q.view IN ('balances_view', 'positions_view', 'orders_view', 'margin_view')
    ) THEN ARRAY(
        SELECT flag FROM unnest(b.flags || 'view_stale'::text) AS flag ORDER BY flag COLLATE "C"
    ) END AS flags
) AS stale
ORDER BY page.place, page.account_id;
