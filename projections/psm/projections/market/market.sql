-- Rows older than is kept; of a batch the last word counts.

-- name: trim
DELETE FROM orderbook_snapshot
USING json_to_recordset($1::json) AS kept (before timestamptz)
WHERE orderbook_snapshot.bucket < kept.before;

-- Every book, with what was saved of it.

-- name: saved
SELECT
    exchange, symbol, coalesce(saved.market_sequence, 0) AS market_sequence,
    coalesce(saved.saved, '') AS saved,
    to_char(latest.log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS log_time
FROM orderbook_latest AS latest
LEFT JOIN orderbook_saved AS saved USING (exchange, symbol)
ORDER BY exchange, symbol;

-- One book, as a document.

-- name: book
SELECT json_build_object(
    'exchange', exchange,
    'symbol', symbol,
    'state', state,
    'since', to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'last_id', last_id,
    'bids', bids,
    'asks', asks,
    'bid_levels', bid_levels,
    'ask_levels', ask_levels,
    'mid', mid::text,
    'spread', spread::text,
    'microprice', microprice::text,
    'imbalance', imbalance::text,
    'top_hash', top_hash,
    'checksum_failures', checksum_failures,
    'unread', unread,
    'as_of', json_build_object(
        'market_sequence', market_sequence,
        'time', to_char(log_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    )
)
FROM orderbook_latest
WHERE exchange = $1 AND symbol = $2;

-- How many books are in each state; of those that are not synced although changes come, the age of
-- the oldest.

-- name: counts
SELECT
    state,
    count(*)::int AS books,
    coalesce(max(extract(epoch FROM now() - since)) FILTER (
        WHERE state <> 'synced' AND log_time > now() - interval '10 minutes'
    ), 0)::float AS age_s
FROM orderbook_latest
GROUP BY state;
