-- What PostgreSQL remembers of the log, so that a log which lost or changed something is noticed:
-- the head of every stream's hash chain, and for each partition the last message that was
-- committed against, one row per thousand log sequences. Written in the transaction of the views.

CREATE TABLE chain_heads (
    stream_id           text        NOT NULL PRIMARY KEY,
    partition           integer     NOT NULL CHECK (partition >= 0),
    sequence_number     bigint      NOT NULL,
    -- Of the message whose folding gave the stream this number, and of the event itself where
    -- that is another one (it had waited behind a gap).
    log_sequence        bigint      NOT NULL,
    event_log_sequence  bigint,
    event_hash          text        NOT NULL,
    chain_hash          text        NOT NULL,
    ledger_hash         text        NOT NULL
);

CREATE INDEX chain_heads_partition ON chain_heads (partition, log_sequence);

-- `event_hash` is the SHA-256 of the message at `log_sequence` of the log; `stream_sequence` is
-- where in PSM the commit ended that says so.
CREATE TABLE log_heads (
    partition           integer     NOT NULL CHECK (partition >= 0),
    log_sequence        bigint      NOT NULL CHECK (log_sequence > 0),
    event_hash          text        NOT NULL,
    stream_sequence     bigint      NOT NULL,
    recorded_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (partition, log_sequence)
);
