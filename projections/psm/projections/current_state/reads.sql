-- Each read is one statement: it sees one snapshot of the database and holds its locks on every
-- table before it takes that snapshot, so an answer is never torn, not even by a rebuild's swap.
-- The documents are made here because numeric::text is exact and canonical as it was written; as json
-- and not as jsonb, which would order the fields by their length.
--
-- Keys of positions are those of `position_keys.py`.
--
-- `:versions`, `:state` and `:..._figures` stand for pairs of name and column, which follow from
-- the fields of the updates, `:stale_...` for the flags of an account with a key in quarantine (see
-- `reads.py` and `stale.py`). One json_build_object takes 50 pairs.

-- A part of the two queries with positions.

-- name: positions_of
SELECT coalesce(json_object_agg(p.key, json_build_object(
    :position_figures,
    :as_of_position
) ORDER BY p.key COLLATE "C"), '{}') AS positions
FROM (
    SELECT *,
    :position_key
    AS key
    FROM positions_view p
    WHERE p.account_id = b.account_id AND p.class <> 'asset'
) AS p

-- name: state
-- Two objects made one: together they have more pairs than a call takes.
SELECT left((CASE WHEN b.event_log_sequence IS NULL THEN json_build_object(
    :state
) ELSE json_build_object(
    :released_state
) END)::text, -1) || ', ' || substr(json_build_object(
    :as_of,
    'assets', a.assets,
    'positions', p.positions,
    'orders', o.orders
)::text, 2)
FROM balances_view b
CROSS JOIN LATERAL (
    :stale_state
) AS stale
CROSS JOIN LATERAL (
    SELECT coalesce(json_object_agg(a.asset, json_build_object(
        'quantity', a.quantity::text,
        'cost', a.cost::text,
        'entry_price', a.entry_price::text,
        'mark_price', a.mark_price::text,
        'value', a.value::text,
        'unrealized_pnl', a.unrealized_pnl::text,
        :as_of_asset
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
    :positions_of
) AS p
CROSS JOIN LATERAL (
    SELECT coalesce(json_object_agg(o.order_id, json_build_object(
        :order_figures
    ) ORDER BY o.order_id COLLATE "C"), '{}') AS orders
    FROM orders_view o
    WHERE o.account_id = b.account_id
    AND o.status IN ('submitted', 'accepted', 'partially_filled')
) AS o
WHERE b.account_id = $1;

-- Of the documents below, only those that lack something have flags.

-- name: positions
SELECT (CASE WHEN stale.flags IS NULL THEN json_build_object(
    :versions,
    :as_of,
    'positions', p.positions
) ELSE json_build_object(
    :versions,
    :as_of,
    'flags', stale.flags,
    'positions', p.positions
) END)::text
FROM balances_view b
CROSS JOIN LATERAL (
    :stale_positions
) AS stale
CROSS JOIN LATERAL (
    :positions_of
) AS p
WHERE b.account_id = $1;

-- name: orders
-- All open orders, and of the ended ones the 256 that changed last: an answer has a limit.
SELECT (CASE WHEN stale.flags IS NULL THEN json_build_object(
    :versions,
    :as_of,
    'orders', o.orders
) ELSE json_build_object(
    :versions,
    :as_of,
    'flags', stale.flags,
    'orders', o.orders
) END)::text
FROM balances_view b
CROSS JOIN LATERAL (
    :stale_orders
) AS stale
CROSS JOIN LATERAL (
    SELECT coalesce(json_object_agg(o.order_id, json_build_object(
        :order_figures
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

-- name: margin
SELECT (CASE WHEN stale.flags IS NULL THEN json_build_object(
    :versions,
    :as_of,
    :margin_figures
) ELSE json_build_object(
    :versions,
    :as_of,
    'flags', stale.flags,
    :margin_figures
) END)::text
FROM balances_view b
LEFT JOIN margin_view m USING (account_id)
CROSS JOIN LATERAL (
    :stale_margin
) AS stale
WHERE b.account_id = $1;

-- name: reconciliation
-- Made of its own row alone: there is a report about accounts that nothing was booked for, too.
SELECT json_build_object(
    :reconciliation,
    'differences', d.differences
)::text
FROM reconciliation_view b
CROSS JOIN LATERAL (
    :stale_reconciliation
) AS stale
CROSS JOIN LATERAL (
    SELECT coalesce(json_agg(json_build_object(
        :difference
    ) ORDER BY e.place), '[]') AS differences
    FROM jsonb_array_elements(b.differences) WITH ORDINALITY AS e (difference, place)
) AS d
WHERE b.account_id = $1 AND b.log_sequence >= $2;

-- The version that the balances have, and the first one that a key of these views lacks.

-- name: reached
SELECT
    (SELECT sequence_number FROM balances_view WHERE account_id = $1) AS sequence_number,
    (SELECT min(first_sequence_number) FROM current_state_quarantine
     WHERE stream_id = $1 AND view = ANY ($2)) AS stale_from;

-- name: counts
SELECT status, count(*) AS accounts FROM balances_view GROUP BY status;
