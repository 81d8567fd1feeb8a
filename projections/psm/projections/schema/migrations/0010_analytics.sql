-- Performance of every account: what its updates add up to; see docs/analytics.md. Times are log
-- times in UTC, which updates have in microseconds. Money is in the account's currency, of trades
-- and lots in the one that the instrument settles in. What is not defined is null, never zero.

-- One row per bucket in which something happened; a close holds until the next row.
-- A bucket is complete when its end is at or before `closed_through` in analytics_progress.
CREATE TABLE pnl_timeseries (
    account_id              text        COLLATE "C" NOT NULL,
    -- '*': all of them. Symbol '@account': what belongs to none.
    strategy_id             text        COLLATE "C" NOT NULL,
    symbol                  text        COLLATE "C" NOT NULL,
    timeframe               text        COLLATE "C" NOT NULL
                            CHECK (timeframe IN ('1m', '5m', '1h', '1d', '1w')),
    -- Its start.
    bucket                  timestamptz NOT NULL,
    epoch                   bigint      NOT NULL,
    equity                  numeric,
    nav                     numeric,
    ret                     numeric,
    realized                numeric     NOT NULL,
    unrealized_change       numeric,
    fees                    numeric     NOT NULL,
    funding                 numeric     NOT NULL,
    other                   numeric     NOT NULL,
    pnl                     numeric,
    pnl_corrected           numeric     NOT NULL,
    flows                   numeric     NOT NULL,
    turnover                numeric     NOT NULL,
    fills                   bigint      NOT NULL,
    peak_gross              numeric,
    contribution            numeric,
    return_on_gross         numeric,
    through_log_sequence    bigint      NOT NULL,
    through_bucket          timestamptz NOT NULL,
    rules                   integer     NOT NULL,
    PRIMARY KEY (account_id, strategy_id, symbol, timeframe, bucket)
);

-- Days that are over, and may have no figures yet.
CREATE INDEX pnl_timeseries_days ON pnl_timeseries (bucket, account_id)
WHERE timeframe = '1d' AND strategy_id = '*' AND symbol = '*';

CREATE INDEX pnl_timeseries_by_bucket ON pnl_timeseries (account_id, timeframe, bucket);

-- One row per position from flat to flat, and per correction of it: the row with the highest
-- `through_log_sequence` holds, those before it say what was known then.
CREATE TABLE trades (
    account_id              text        COLLATE "C" NOT NULL,
    symbol                  text        COLLATE "C" NOT NULL,
    position_side           text        COLLATE "C" NOT NULL
                            CHECK (position_side IN ('net', 'long', 'short')),
    strategy_id             text        COLLATE "C" NOT NULL,
    cycle                   bigint      NOT NULL,
    through_log_sequence    bigint      NOT NULL,
    side                    text        NOT NULL CHECK (side IN ('long', 'short')),
    currency                text        NOT NULL,
    opened                  timestamptz NOT NULL,
    closed                  timestamptz NOT NULL,
    peak_size               numeric     NOT NULL,
    gross                   numeric     NOT NULL,
    fees                    numeric     NOT NULL,
    funding                 numeric     NOT NULL,
    net                     numeric     NOT NULL,
    mae                     numeric,
    mfe                     numeric,
    return_on_peak_notional numeric,
    holding_s               numeric     NOT NULL,
    fills                   bigint      NOT NULL,
    revised_at              timestamptz,
    gone                    boolean     NOT NULL,
    PRIMARY KEY (account_id, symbol, position_side, strategy_id, cycle, through_log_sequence)
);

CREATE INDEX trades_by_time ON trades (account_id, closed, symbol, position_side, cycle);

-- One row per part of a fill that a later one closed, and per correction, as of trades.
CREATE TABLE lots (
    account_id              text        COLLATE "C" NOT NULL,
    symbol                  text        COLLATE "C" NOT NULL,
    position_side           text        COLLATE "C" NOT NULL
                            CHECK (position_side IN ('net', 'long', 'short')),
    lot                     bigint      NOT NULL,
    through_log_sequence    bigint      NOT NULL,
    side                    text        NOT NULL CHECK (side IN ('long', 'short')),
    currency                text        NOT NULL,
    opened                  timestamptz NOT NULL,
    closed                  timestamptz NOT NULL,
    quantity                numeric     NOT NULL,
    open_price              numeric     NOT NULL,
    close_price             numeric     NOT NULL,
    pnl                     numeric     NOT NULL,
    days_held               bigint      NOT NULL,
    revised_at              timestamptz,
    gone                    boolean     NOT NULL,
    PRIMARY KEY (account_id, symbol, position_side, lot, through_log_sequence)
);

CREATE INDEX lots_by_time ON lots (account_id, closed, symbol, position_side, lot);

-- Figures of the trades that closed in the days up to `day`, as they were known at its end. Of `*`,
-- of each strategy and of each symbol.
CREATE TABLE trade_statistics (
    account_id              text        COLLATE "C" NOT NULL,
    strategy_id             text        COLLATE "C" NOT NULL,
    symbol                  text        COLLATE "C" NOT NULL,
    time_window             text        COLLATE "C" NOT NULL
                            CHECK (time_window IN ('all', '30d', '90d', '365d')),
    day                     date        NOT NULL,
    -- Of the trades; figures of several currencies are not added up.
    currency                text        COLLATE "C" NOT NULL,
    n                       bigint      NOT NULL,
    wins                    bigint      NOT NULL,
    losses                  bigint      NOT NULL,
    breakeven               bigint      NOT NULL,
    win_rate                numeric,
    win_rate_decided        numeric,
    profit_factor           numeric,
    payoff                  numeric,
    avg_win                 numeric,
    avg_loss                numeric,
    expectancy              numeric,
    longest_win_streak      bigint      NOT NULL,
    longest_loss_streak     bigint      NOT NULL,
    holding_mean_s          numeric,
    holding_median_s        numeric,
    best                    numeric,
    worst                   numeric,
    net                     numeric     NOT NULL,
    kelly                   numeric,
    PRIMARY KEY (account_id, strategy_id, symbol, time_window, day, currency)
);

-- Figures of the daily returns up to `day`: of the account's unit, of a strategy's and a symbol's
-- contributions to it.
CREATE TABLE risk_metrics (
    account_id              text        COLLATE "C" NOT NULL,
    strategy_id             text        COLLATE "C" NOT NULL,
    symbol                  text        COLLATE "C" NOT NULL,
    time_window             text        COLLATE "C" NOT NULL
                            CHECK (time_window IN ('all', '30d', '90d', '365d')),
    day                     date        NOT NULL,
    epoch                   bigint      NOT NULL,
    periods_per_year        integer     NOT NULL,
    n                       bigint      NOT NULL,
    few                     boolean     NOT NULL,
    ruined                  boolean     NOT NULL,
    mean                    numeric,
    volatility              numeric,
    sharpe                  numeric,
    sortino                 numeric,
    cagr                    numeric,
    total_return            numeric,
    max_drawdown            numeric,
    max_drawdown_days       bigint      NOT NULL,
    calmar                  numeric,
    var_hist_95             numeric,
    var_hist_99             numeric,
    es_hist_95              numeric,
    es_hist_99              numeric,
    var_param_95            numeric,
    var_param_99            numeric,
    es_param_95             numeric,
    es_param_99             numeric,
    ewma_vol_daily          numeric,
    skew                    numeric,
    kurtosis_excess         numeric,
    PRIMARY KEY (account_id, strategy_id, symbol, time_window, day)
);

-- What each event did to positions: a correction books the past of its account again.
CREATE TABLE analytics_journal (
    account_id              text        COLLATE "C" NOT NULL,
    n                       bigint      NOT NULL,
    entry                   text        NOT NULL,
    PRIMARY KEY (account_id, n)
);

-- Where each account's fold stands: what its next rows are made of.
CREATE TABLE analytics_accounts (
    account_id              text        COLLATE "C" NOT NULL PRIMARY KEY,
    partition               integer     NOT NULL CHECK (partition >= 0),
    sequence_number         bigint      NOT NULL,
    log_sequence            bigint      NOT NULL,
    -- Of its last update.
    log_time                timestamptz NOT NULL,
    -- Minutes that end up to here have their rows; null before the first.
    told                    timestamptz,
    state                   bytea       NOT NULL
);

-- Accounts of which a minute may have no row yet.
CREATE INDEX analytics_accounts_untold ON analytics_accounts (partition, told NULLS FIRST)
WHERE told IS NULL OR log_time >= told;

-- Up to where each partition's buckets are complete, and have their rows. `reached` is what the
-- log says: the rows follow, account by account. Of days before `stated_through` all figures are
-- there. Null before the first.
CREATE TABLE analytics_progress (
    partition               integer     NOT NULL PRIMARY KEY CHECK (partition >= 0),
    reached                 timestamptz,
    closed_through          timestamptz,
    stated_through          timestamptz
);

-- Groups of the rulebook as they are; the projection `rulebook` writes them. `parent` is a group
-- without members, whose accounts are those of the groups below it.
CREATE TABLE risk_groups (
    group_name              text        COLLATE "C" NOT NULL PRIMARY KEY,
    members                 text[]      COLLATE "C" NOT NULL,
    currency                text        NOT NULL,
    parent                  text        COLLATE "C",
    rulebook_sequence       bigint      NOT NULL,
    log_time                timestamptz NOT NULL
);

CREATE TABLE analytics_quarantine (LIKE current_state_quarantine INCLUDING ALL);
