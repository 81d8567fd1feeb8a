-- Reads of analytics; each is one statement, so one snapshot. Columns are those of the rows in
-- `psm.analytics.rows`; numbers come as they were written, exactly.

-- Where an account stands. `closed_through` is null before the first minute.

-- name: standing
SELECT a.account_id, p.closed_through, b.currency
FROM analytics_accounts a
LEFT JOIN analytics_progress p USING (partition)
LEFT JOIN balances_view b USING (account_id)
WHERE a.account_id = ANY ($1::text[])
ORDER BY a.account_id;

-- Accounts of a group of the rulebook, those of the groups below it included.

-- name: members
WITH RECURSIVE below (group_name, members) AS (
    SELECT group_name, members FROM risk_groups WHERE group_name = $1
    UNION
    SELECT g.group_name, g.members FROM risk_groups g JOIN below ON g.parent = below.group_name
)
SELECT DISTINCT account_id
FROM below CROSS JOIN unnest(members) AS account_id
ORDER BY account_id;

-- Rows that one series of closes is made of, from the last one at or before the start on, because a
-- close holds until the next row; of an account the last one that has a nav, to measure against.

-- name: closes
SELECT r.*
FROM pnl_timeseries r
WHERE r.account_id = $1 AND r.strategy_id = $2 AND r.symbol = $3 AND r.timeframe = $4
AND ($5::timestamptz IS NULL OR r.bucket >= coalesce((
    SELECT max(b.bucket) FROM pnl_timeseries b
    WHERE b.account_id = $1 AND b.strategy_id = $2 AND b.symbol = $3 AND b.timeframe = $4
    AND b.bucket < $5 AND (b.nav IS NOT NULL OR ($2, $3) <> ('*', '*'))
), '-infinity'))
AND ($6::timestamptz IS NULL OR r.bucket < $6)
ORDER BY r.bucket
LIMIT $7;

-- What each symbol ($5 'symbol') or strategy ($5 'strategy') brought.

-- name: parts
SELECT CASE $5 WHEN 'symbol' THEN symbol ELSE strategy_id END AS name,
    sum(realized) AS realized, sum(unrealized_change) AS unrealized_change, sum(fees) AS fees,
    sum(funding) AS funding, sum(other) AS other, sum(pnl) AS pnl, sum(turnover) AS turnover,
    sum(fills)::bigint AS fills
FROM pnl_timeseries
WHERE account_id = ANY ($1::text[]) AND timeframe = $2
AND ($3::timestamptz IS NULL OR bucket >= $3)
AND ($4::timestamptz IS NULL OR bucket < $4)
AND CASE $5 WHEN 'symbol' THEN strategy_id = '*' AND symbol <> '*'
    ELSE strategy_id <> '*' AND symbol = '*' END
GROUP BY 1
ORDER BY 1;

-- A page of buckets, ascending. `by` is total, symbol or strategy: which of both goes over all.

-- name: pnl
SELECT *
FROM pnl_timeseries
WHERE account_id = $1 AND timeframe = $2
AND CASE $3 WHEN 'strategy' THEN strategy_id <> '*' ELSE strategy_id = $4 END
AND CASE $3 WHEN 'symbol' THEN symbol <> '*' ELSE symbol = $5 END
AND ($6::timestamptz IS NULL OR bucket >= $6)
AND ($7::timestamptz IS NULL OR bucket < $7)
AND ($8::timestamptz IS NULL OR
    (bucket, CASE $3 WHEN 'strategy' THEN strategy_id ELSE symbol END)
    > ($8, $9::text COLLATE "C"))
ORDER BY bucket, CASE $3 WHEN 'strategy' THEN strategy_id ELSE symbol END
LIMIT $10;

-- A page of trades as they were known at a place in the log, in the order in which they closed.

-- name: trades
SELECT t.*
FROM trades t
WHERE t.account_id = $1 AND t.strategy_id = $2 AND NOT t.gone
AND ($3::text IS NULL OR t.symbol = $3)
AND ($4::timestamptz IS NULL OR t.closed >= $4)
AND ($5::timestamptz IS NULL OR t.closed < $5)
AND t.through_log_sequence <= $6
AND NOT EXISTS (
    SELECT FROM trades n
    WHERE n.account_id = t.account_id AND n.symbol = t.symbol
    AND n.position_side = t.position_side AND n.strategy_id = t.strategy_id AND n.cycle = t.cycle
    AND n.through_log_sequence > t.through_log_sequence AND n.through_log_sequence <= $6
)
AND ($7::timestamptz IS NULL OR
    (t.closed, t.symbol, t.position_side, t.cycle)
    > ($7, $8::text COLLATE "C", $9::text COLLATE "C", $10::bigint))
ORDER BY t.closed, t.symbol, t.position_side, t.cycle
LIMIT $11;

-- The same of lots.

-- name: lots
SELECT t.*
FROM lots t
WHERE t.account_id = $1 AND NOT t.gone
AND ($2::text IS NULL OR t.symbol = $2)
AND ($3::timestamptz IS NULL OR t.closed >= $3)
AND ($4::timestamptz IS NULL OR t.closed < $4)
AND t.through_log_sequence <= $5
AND NOT EXISTS (
    SELECT FROM lots n
    WHERE n.account_id = t.account_id AND n.symbol = t.symbol
    AND n.position_side = t.position_side AND n.lot = t.lot
    AND n.through_log_sequence > t.through_log_sequence AND n.through_log_sequence <= $5
)
AND ($6::timestamptz IS NULL OR
    (t.closed, t.symbol, t.position_side, t.lot)
    > ($6, $7::text COLLATE "C", $8::text COLLATE "C", $9::bigint))
ORDER BY t.closed, t.symbol, t.position_side, t.lot
LIMIT $10;
