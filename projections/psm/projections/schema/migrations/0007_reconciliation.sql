-- The answer to the last report about every account, as of the last update read from the stream PSM.
-- An account that nothing was booked for has a row too: somebody reported about it.

CREATE TABLE reconciliation_view (
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
    ledger_hash         text        NOT NULL,
    state_hash          text        NOT NULL,
    event_id            text        NOT NULL,
    as_of               text        NOT NULL,
    through             text,
    matches             boolean,
    reason              text,
    differences         jsonb       NOT NULL DEFAULT '[]',
    differences_total   integer     NOT NULL DEFAULT 0,
    not_compared        text[]      NOT NULL DEFAULT '{}',
    log_time            timestamptz NOT NULL,
    correlation_id      text,
    causation_id        text,
    trace_id            text        CHECK (trace_id ~ '^[0-9a-f]{32}$')
);
