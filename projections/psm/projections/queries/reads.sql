-- Each read is one statement: it sees one snapshot of the database and holds its locks on every
-- table before it takes that snapshot, so an answer is never torn, not even by a rebuild's swap.
-- The documents are made here because numeric::text is exact and canonical as it was written.

-- name: state
SELECT (jsonb_build_object(
    'account_id', b.account_id, 'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence, 'cause', b.cause, 'event_hash', b.event_hash,
    'chain_hash', b.chain_hash, 'flags', b.flags, 'status', b.status, 'currency', b.currency,
    'cash', b.cash, 'equity', b.equity::text, 'unrealized_pnl', b.unrealized_pnl::text,
    'realized_pnl', b.realized_pnl::text, 'realized_pnl_net', b.realized_pnl_net::text,
    'fees', b.fees::text, 'funding', b.funding::text, 'deposits', b.deposits::text,
    'withdrawals', b.withdrawals::text, 'exposure_gross', b.exposure_gross::text,
    'exposure_net', b.exposure_net::text, 'margin_initial', b.margin_initial::text,
    'margin_maintenance', b.margin_maintenance::text,
    'margin_available', b.margin_available::text, 'withdrawable', b.withdrawable::text,
    'leverage', b.leverage::text, 'leverage_limit', b.leverage_limit::text,
    'peak_equity', b.peak_equity::text, 'drawdown', b.drawdown::text,
    'open_positions', b.open_positions, 'open_orders', b.open_orders,
    'ledger_hash', b.ledger_hash, 'state_hash', b.state_hash
) || CASE
    WHEN b.event_log_sequence IS NULL THEN '{}'::jsonb
    ELSE jsonb_build_object('event_log_sequence', b.event_log_sequence)
END || jsonb_build_object(
    'positions', (
        SELECT coalesce(jsonb_object_agg(p.symbol, jsonb_build_object(
            'symbol', p.symbol, 'side', p.side, 'size', p.size::text,
            'entry_price', p.entry_price::text, 'break_even_price', p.break_even_price::text,
            'mark_price', p.mark_price::text, 'mark_source', p.mark_source,
            'notional', p.notional::text, 'unrealized_pnl', p.unrealized_pnl::text,
            'realized_pnl', p.realized_pnl::text, 'realized_pnl_net', p.realized_pnl_net::text,
            'fees', p.fees::text, 'funding', p.funding::text, 'cycle', p.cycle,
            'cycle_realized_pnl', p.cycle_realized_pnl::text,
            'liquidation_price', p.liquidation_price::text
        )), '{}'::jsonb)
        FROM positions_view p
        WHERE p.account_id = b.account_id
    ),
    'orders', (
        SELECT coalesce(jsonb_object_agg(o.order_id, jsonb_build_object(
            'order_id', o.order_id, 'symbol', o.symbol, 'side', o.side, 'type', o.type,
            'quantity', o.quantity::text, 'filled_quantity', o.filled_quantity::text,
            'average_price', o.average_price::text, 'status', o.status
        )), '{}'::jsonb)
        FROM orders_view o
        WHERE o.account_id = b.account_id
        AND o.status IN ('submitted', 'accepted', 'partially_filled')
    )
))::text
FROM balances_view b
WHERE b.account_id = $1;

-- name: positions
SELECT jsonb_build_object(
    'account_id', b.account_id, 'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence, 'status', b.status, 'currency', b.currency,
    'chain_hash', b.chain_hash, 'ledger_hash', b.ledger_hash, 'state_hash', b.state_hash,
    'positions', (
        SELECT coalesce(jsonb_object_agg(p.symbol, jsonb_build_object(
            'symbol', p.symbol, 'side', p.side, 'size', p.size::text,
            'entry_price', p.entry_price::text, 'break_even_price', p.break_even_price::text,
            'mark_price', p.mark_price::text, 'mark_source', p.mark_source,
            'notional', p.notional::text, 'unrealized_pnl', p.unrealized_pnl::text,
            'realized_pnl', p.realized_pnl::text, 'realized_pnl_net', p.realized_pnl_net::text,
            'fees', p.fees::text, 'funding', p.funding::text, 'cycle', p.cycle,
            'cycle_realized_pnl', p.cycle_realized_pnl::text,
            'liquidation_price', p.liquidation_price::text
        )), '{}'::jsonb)
        FROM positions_view p
        WHERE p.account_id = b.account_id
    )
)::text
FROM balances_view b
WHERE b.account_id = $1;

-- All open orders, and of the ended ones the 256 that changed last: an answer has a limit.

-- name: orders
SELECT jsonb_build_object(
    'account_id', b.account_id, 'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence, 'status', b.status, 'currency', b.currency,
    'chain_hash', b.chain_hash, 'ledger_hash', b.ledger_hash, 'state_hash', b.state_hash,
    'orders', (
        SELECT coalesce(jsonb_object_agg(o.order_id, jsonb_build_object(
            'order_id', o.order_id, 'symbol', o.symbol, 'side', o.side, 'type', o.type,
            'quantity', o.quantity::text, 'filled_quantity', o.filled_quantity::text,
            'average_price', o.average_price::text, 'status', o.status
        )), '{}'::jsonb)
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
    )
)::text
FROM balances_view b
WHERE b.account_id = $1;

-- name: margin
SELECT jsonb_build_object(
    'account_id', b.account_id, 'sequence_number', b.sequence_number,
    'log_sequence', b.log_sequence, 'status', b.status, 'currency', b.currency,
    'chain_hash', b.chain_hash, 'ledger_hash', b.ledger_hash, 'state_hash', b.state_hash,
    'equity', m.equity::text, 'margin_initial', m.margin_initial::text,
    'margin_maintenance', m.margin_maintenance::text,
    'margin_available', m.margin_available::text, 'margin_ratio', m.margin_ratio::text,
    'leverage', m.leverage::text, 'leverage_limit', m.leverage_limit::text
)::text
FROM balances_view b
LEFT JOIN margin_view m USING (account_id)
WHERE b.account_id = $1;

-- name: sequence_number
SELECT sequence_number FROM balances_view WHERE account_id = $1;

-- name: accounts
SELECT account_id FROM balances_view WHERE account_id > $1 ORDER BY account_id LIMIT $2;
