-- What days are made of that are over.

-- name: unstated
SELECT p.account_id, p.bucket
FROM pnl_timeseries p
JOIN analytics_accounts a USING (account_id)
WHERE a.partition = $1 AND p.strategy_id = '*' AND p.symbol = '*' AND p.timeframe = '1d'
    AND p.bucket >= coalesce($2::timestamptz, '-infinity') AND p.bucket < $3
    AND NOT EXISTS (
        SELECT FROM risk_metrics m
        WHERE m.account_id = p.account_id AND m.strategy_id = '*' AND m.symbol = '*'
            AND m.time_window = 'all' AND m.day = (p.bucket AT TIME ZONE 'UTC')::date
    )
ORDER BY p.bucket, p.account_id
LIMIT $4;

-- name: buckets
SELECT *
FROM pnl_timeseries
WHERE account_id = $1 AND timeframe = '1d' AND bucket < $2
    AND (strategy_id = '*' OR symbol = '*')
ORDER BY bucket;

-- Trades as they were known at a time, in the order in which they closed.

-- name: trades
SELECT *
FROM (
    SELECT DISTINCT ON (symbol, position_side, strategy_id, cycle) *
    FROM trades
    WHERE account_id = $1 AND closed < $2 AND (revised_at IS NULL OR revised_at < $2)
    ORDER BY symbol, position_side, strategy_id, cycle, through_log_sequence DESC
) AS known
WHERE NOT gone
ORDER BY closed, symbol, position_side, strategy_id, cycle;
