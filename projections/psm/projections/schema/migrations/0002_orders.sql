-- The last OrderUpdated of every order, open and ended; `psm views rebuild` fills it for the orders
-- of before. Only an order that never was has no row: nobody announced it, and a bust took its fill.

CREATE TABLE orders_view (
    account_id          text        NOT NULL,
    order_id            text        NOT NULL,
    sequence_number     bigint      NOT NULL,
    log_sequence        bigint      NOT NULL,
    event_log_sequence  bigint,
    cause               text        NOT NULL,
    event_hash          text,
    chain_hash          text        NOT NULL,
    flags               text[]      NOT NULL DEFAULT '{}',
    symbol              text        NOT NULL,
    position_side       text        CHECK (position_side IN ('net', 'long', 'short')),
    side                text        NOT NULL CHECK (side IN ('buy', 'sell')),
    type                text        NOT NULL,
    quantity            numeric     NOT NULL,
    price               numeric,
    stop_price          numeric,
    reduce_only         boolean     NOT NULL,
    time_in_force       text,
    strategy_id         text,
    filled_quantity     numeric     NOT NULL,
    average_price       numeric,
    status              text        NOT NULL CHECK (status IN (
        'submitted', 'accepted', 'partially_filled', 'filled', 'cancelled', 'rejected', 'expired'
    )),
    log_time            timestamptz NOT NULL,
    correlation_id      text,
    causation_id        text,
    trace_id            text        CHECK (trace_id ~ '^[0-9a-f]{32}$'),
    PRIMARY KEY (account_id, order_id)
);

-- Open orders are few, ended ones pile up: each read must find its own without the others.
CREATE INDEX orders_view_open ON orders_view (account_id)
    WHERE status IN ('submitted', 'accepted', 'partially_filled');
CREATE INDEX orders_view_ended ON orders_view (account_id, log_sequence DESC, order_id)
    WHERE status IN ('filled', 'cancelled', 'rejected', 'expired');
