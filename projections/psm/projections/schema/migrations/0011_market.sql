-- Order books; see docs/analytics.md. They follow from the depth events of MARKETDATA.

-- The last state of a book in each 100 ms of log time in which an event of it came.
CREATE TABLE orderbook_snapshot (
    exchange            text        COLLATE "C" NOT NULL,
    symbol              text        COLLATE "C" NOT NULL,
    -- Begin of the 100 ms.
    bucket              timestamptz NOT NULL,
    state               text        COLLATE "C" NOT NULL CHECK (
        state IN ('empty', 'buffering', 'synced', 'gap', 'crossed', 'bad_checksum')
    ),
    -- Since when it is in this state.
    since               timestamptz NOT NULL,
    last_id             bigint,
    -- The best 20 levels, [price, quantity] as the venue wrote them; none unless synced.
    bids                jsonb       NOT NULL,
    asks                jsonb       NOT NULL,
    bid_levels          integer     NOT NULL,
    ask_levels          integer     NOT NULL,
    mid                 numeric,
    spread              numeric,
    microprice          numeric,
    imbalance           numeric,
    top_hash            text        COLLATE "C",
    checksum_failures   bigint      NOT NULL,
    -- Events of this book that nobody could read.
    unread              bigint      NOT NULL,
    -- Of the last event in it, in MARKETDATA.
    market_sequence     bigint      NOT NULL,
    log_time            timestamptz NOT NULL,
    PRIMARY KEY (exchange, symbol, bucket)
);

-- Old rows go by time, of all books.
CREATE INDEX orderbook_snapshot_by_time ON orderbook_snapshot (bucket);

-- The latest state of every book.
CREATE TABLE orderbook_latest (LIKE orderbook_snapshot INCLUDING CONSTRAINTS);
ALTER TABLE orderbook_latest DROP COLUMN bucket;
ALTER TABLE orderbook_latest ADD PRIMARY KEY (exchange, symbol);

-- Books whole, as of before a message: a projector takes the stream again from there on.
CREATE TABLE orderbook_saved (
    exchange            text        COLLATE "C" NOT NULL,
    symbol              text        COLLATE "C" NOT NULL,
    market_sequence     bigint      NOT NULL,
    saved               text        NOT NULL,
    log_time            timestamptz NOT NULL,
    PRIMARY KEY (exchange, symbol)
);

CREATE TABLE market_quarantine (LIKE current_state_quarantine INCLUDING ALL);
