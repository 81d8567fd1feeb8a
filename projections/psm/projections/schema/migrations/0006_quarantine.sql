-- Keys of the views of `current_state` whose last row PostgreSQL cannot hold; see docs/projections.md.
-- The row is as of before `first_sequence_number`, or absent. `key` may be escaped or shortened.

CREATE TABLE current_state_quarantine (
    view                    text        NOT NULL,
    key                     text[]      NOT NULL,
    partition               integer     NOT NULL CHECK (partition >= 0),
    stream_id               text        NOT NULL,
    first_sequence_number   bigint      NOT NULL,
    sequence_number         bigint      NOT NULL,
    log_sequence            bigint      NOT NULL,
    column_name             text        NOT NULL,
    sqlstate                text        NOT NULL,
    found_at                timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (view, key)
);
