-- The current state of every account, as of the last update read from the stream PSM.
-- Columns are named as the updates' fields. Money is numeric without a declared scale: it keeps
-- the digits it was given. Figures that do not exist are null, never zero.
--
-- A row is as of `log_sequence` and `log_time`: the message of the log at which it was valued, and the
-- time of that message. Rows of one account differ in age; see docs/marks.md.

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
    liquidation_fees    numeric     NOT NULL DEFAULT 0,
    funding             numeric     NOT NULL DEFAULT 0,
    deposits            numeric     NOT NULL DEFAULT 0,
    withdrawals         numeric     NOT NULL DEFAULT 0,
    transfers           numeric     NOT NULL DEFAULT 0,
    interest            numeric     NOT NULL DEFAULT 0,
    dividends           numeric     NOT NULL DEFAULT 0,
    adjustments         numeric     NOT NULL DEFAULT 0,
    taxes               numeric     NOT NULL DEFAULT 0,
    losses_covered      numeric     NOT NULL DEFAULT 0,
    borrowed            jsonb       NOT NULL DEFAULT '{}',
    flows               numeric     NOT NULL DEFAULT 0,
    flows_cost          numeric     NOT NULL DEFAULT 0,
    unrated_cost        numeric,
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
    max_drawdown        numeric,
    nav                 numeric,
    nav_epoch           bigint      NOT NULL DEFAULT 0,
    open_positions      bigint      NOT NULL DEFAULT 0,
    open_orders         bigint      NOT NULL DEFAULT 0,
    -- Null only for an account that waits for its first event: nothing of it was applied yet.
    ledger_hash         text,
    state_hash          text,
    log_time            timestamptz NOT NULL,
    correlation_id      text,
    causation_id        text,
    -- From the message's header, not from the log's content: a rebuild does not compare it.
    trace_id            text        CHECK (trace_id ~ '^[0-9a-f]{32}$')
);

CREATE TABLE positions_view (
    account_id          text        NOT NULL,
    class               text        NOT NULL CHECK (class IN ('asset', 'contract', 'share')),
    symbol              text        NOT NULL,
    position_side       text        NOT NULL CHECK (position_side IN ('net', 'long', 'short')),
    sequence_number     bigint      NOT NULL,
    log_sequence        bigint      NOT NULL,
    event_log_sequence  bigint,
    cause               text        NOT NULL,
    event_hash          text,
    chain_hash          text        NOT NULL,
    flags               text[]      NOT NULL DEFAULT '{}',
    change              text        NOT NULL,
    kind                text,
    currency            text        NOT NULL,
    multiplier          numeric     NOT NULL,
    margin_mode         text        CHECK (margin_mode IN ('cross', 'isolated')),
    side                text        NOT NULL CHECK (side IN ('long', 'short', 'flat')),
    size                numeric     NOT NULL,
    peak_size           numeric,
    entry_price         numeric,
    break_even_price    numeric,
    cost                numeric,
    cost_quote          numeric,
    mark_price          numeric,
    mark_source         text,
    mark_log_sequence   bigint,
    mark_time           text,
    notional            numeric,
    unrealized_pnl      numeric,
    unrealized_pnl_account numeric,
    realized_pnl        numeric,
    realized_pnl_account numeric,
    realized_pnl_net    numeric,
    fees                numeric,
    funding             numeric,
    cycle               bigint,
    cycle_opened_at     text,
    cycle_realized_pnl  numeric,
    cycle_fees          numeric,
    cycle_funding       numeric,
    cycle_mae           numeric,
    cycle_mfe           numeric,
    isolated_margin     numeric,
    liquidation_price   numeric,
    bankruptcy_price    numeric,
    log_time            timestamptz NOT NULL,
    correlation_id      text,
    causation_id        text,
    trace_id            text        CHECK (trace_id ~ '^[0-9a-f]{32}$'),
    PRIMARY KEY (account_id, class, symbol, position_side)
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
    log_time            timestamptz NOT NULL,
    correlation_id      text,
    causation_id        text,
    trace_id            text        CHECK (trace_id ~ '^[0-9a-f]{32}$')
);

COMMENT ON COLUMN balances_view.log_sequence IS 'as of: last message of the log that is in this row';
COMMENT ON COLUMN balances_view.log_time IS 'as of: time of the message at log_sequence';
COMMENT ON COLUMN positions_view.log_sequence IS 'as of: message of the log at which this position was valued';
COMMENT ON COLUMN positions_view.log_time IS 'as of: time of the message at log_sequence; a row older than a slow and a middle period of the valuation clock is unchanged since';
COMMENT ON COLUMN margin_view.log_sequence IS 'as of: message of the log at which a figure became another one';
COMMENT ON COLUMN margin_view.log_time IS 'as of: time of the message at log_sequence; the figures still hold as of the row in balances_view';

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
