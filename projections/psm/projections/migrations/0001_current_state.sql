-- The current state of every account, as of the last update read from the stream PSM.
-- Columns are named as the updates' fields. Money is numeric without a declared scale: it keeps
-- the digits it was given. Figures that do not exist are null, never zero.

CREATE TABLE balances_view (
    account_id          text        NOT NULL PRIMARY KEY,
    sequence_number     bigint      NOT NULL,
    log_sequence        bigint      NOT NULL,
    event_log_sequence  bigint,
    cause               text        NOT NULL,
    event_hash          text,
    chain_hash          text        NOT NULL,
    flags               text[]      NOT NULL DEFAULT '{}',
    status              text        NOT NULL CHECK (status IN ('open', 'gap', 'blocked')),
    currency            text,
    cash                jsonb       NOT NULL DEFAULT '{}',
    equity              numeric,
    unrealized_pnl      numeric,
    realized_pnl        numeric     NOT NULL DEFAULT 0,
    realized_pnl_net    numeric     NOT NULL DEFAULT 0,
    fees                numeric     NOT NULL DEFAULT 0,
    funding             numeric     NOT NULL DEFAULT 0,
    deposits            numeric     NOT NULL DEFAULT 0,
    withdrawals         numeric     NOT NULL DEFAULT 0,
    exposure_gross      numeric,
    exposure_net        numeric,
    margin_initial      numeric,
    margin_maintenance  numeric,
    margin_available    numeric,
    withdrawable        numeric,
    leverage            numeric,
    leverage_limit      numeric,
    peak_equity         numeric,
    drawdown            numeric,
    open_positions      bigint      NOT NULL DEFAULT 0,
    open_orders         bigint      NOT NULL DEFAULT 0,
    -- Null only for an account that waits for its first event: nothing of it was applied yet.
    ledger_hash         text,
    state_hash          text,
    "timestamp"         timestamptz NOT NULL,
    correlation_id      text,
    causation_id        text,
    -- From the message's header, not from the log's content: a rebuild does not compare it.
    trace_id            text        CHECK (trace_id ~ '^[0-9a-f]{32}$')
);

CREATE TABLE positions_view (
    account_id          text        NOT NULL,
    symbol              text        NOT NULL,
    sequence_number     bigint      NOT NULL,
    log_sequence        bigint      NOT NULL,
    event_log_sequence  bigint,
    cause               text        NOT NULL,
    event_hash          text,
    chain_hash          text        NOT NULL,
    flags               text[]      NOT NULL DEFAULT '{}',
    change              text        NOT NULL,
    side                text        NOT NULL CHECK (side IN ('long', 'short', 'flat')),
    size                numeric     NOT NULL,
    entry_price         numeric,
    break_even_price    numeric,
    mark_price          numeric,
    mark_source         text,
    notional            numeric,
    unrealized_pnl      numeric,
    realized_pnl        numeric     NOT NULL,
    realized_pnl_net    numeric     NOT NULL,
    fees                numeric     NOT NULL,
    funding             numeric     NOT NULL,
    cycle               bigint      NOT NULL,
    cycle_realized_pnl  numeric     NOT NULL,
    liquidation_price   numeric,
    "timestamp"         timestamptz NOT NULL,
    correlation_id      text,
    causation_id        text,
    trace_id            text        CHECK (trace_id ~ '^[0-9a-f]{32}$'),
    PRIMARY KEY (account_id, symbol)
);

CREATE TABLE margin_view (
    account_id          text        NOT NULL PRIMARY KEY,
    sequence_number     bigint      NOT NULL,
    log_sequence        bigint      NOT NULL,
    event_log_sequence  bigint,
    cause               text        NOT NULL,
    event_hash          text,
    chain_hash          text        NOT NULL,
    flags               text[]      NOT NULL DEFAULT '{}',
    equity              numeric,
    margin_initial      numeric,
    margin_maintenance  numeric,
    margin_available    numeric,
    margin_ratio        numeric,
    leverage            numeric,
    leverage_limit      numeric,
    "timestamp"         timestamptz NOT NULL,
    correlation_id      text,
    causation_id        text,
    trace_id            text        CHECK (trace_id ~ '^[0-9a-f]{32}$')
);

-- How far each projection has read the stream PSM. `event_hash` is the SHA-256 of the message at
-- `stream_sequence`; a log that has other bytes there is not the log this view was made from.
CREATE TABLE projection_checkpoints (
    projection          text        NOT NULL,
    partition           integer     NOT NULL CHECK (partition >= 0),
    stream_sequence     bigint      NOT NULL CHECK (stream_sequence > 0),
    event_hash          text        NOT NULL,
    log_sequence        bigint      NOT NULL,
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, partition)
);
