-- What the risk engine decided and remembers, and what the rulebook says; see docs/risk.md. They
-- follow from the streams RISK and RULEBOOK.

-- One row per stored decision.
CREATE TABLE risk_decisions (
    account_id          text        COLLATE "C" NOT NULL,
    risk_sequence       bigint      NOT NULL CHECK (risk_sequence > 0),
    slot                integer     NOT NULL CHECK (slot >= 0),
    n                   bigint      NOT NULL CHECK (n > 0),
    event_id            text        COLLATE "C" NOT NULL,
    decision_hash       text        COLLATE "C" NOT NULL,
    previous            text        COLLATE "C" NOT NULL,
    command             text        COLLATE "C",
    order_id            text        COLLATE "C",
    order_hash          text        COLLATE "C",
    decision            text        COLLATE "C" NOT NULL,
    reason              text        NOT NULL,
    strategy_id         text        COLLATE "C",
    symbol              text        COLLATE "C",
    side                text,
    quantity            numeric,
    approved_quantity   numeric,
    max_quantity        numeric,
    risk_group          text        COLLATE "C",
    mode                text,
    -- Names of the checks that did not pass, in the order of the record.
    failed              text[]      COLLATE "C" NOT NULL,
    engine              text,
    orders_sequence     bigint,
    rulebook_sequence   bigint,
    marks_log_sequence  bigint,
    -- The record, byte for byte: `decision_hash` is made of it.
    record              text        NOT NULL,
    -- The risk clock, not the machine's.
    log_time            timestamptz NOT NULL,
    PRIMARY KEY (account_id, risk_sequence)
);

-- Lists go from the newest back, of all, of an account, of a symbol or of a check.
CREATE UNIQUE INDEX risk_decisions_by_sequence ON risk_decisions (risk_sequence);
CREATE INDEX risk_decisions_by_hash ON risk_decisions (decision_hash);
CREATE INDEX risk_decisions_by_order ON risk_decisions (order_id, risk_sequence);
CREATE INDEX risk_decisions_by_strategy ON risk_decisions (strategy_id, risk_sequence);
CREATE INDEX risk_decisions_by_time ON risk_decisions (log_time, risk_sequence);
CREATE INDEX risk_decisions_by_check ON risk_decisions USING gin (failed);

-- What the engine remembers of a scope: latches that hold, limits that are near, figures of the last
-- decision. `entry` names it: slot, kind, key.
CREATE TABLE risk_state (
    entry               text        COLLATE "C" NOT NULL PRIMARY KEY,
    kind                text        COLLATE "C" NOT NULL
                        CHECK (kind IN ('latch', 'near_limit', 'figures')),
    scope               text        COLLATE "C" NOT NULL,
    code                text        COLLATE "C" NOT NULL,
    mode                text,
    risk_value          text,
    risk_limit          text,
    since               timestamptz,
    until               timestamptz,
    -- Of a latch: by it two persons lift it.
    record_hash         text        COLLATE "C",
    figures             jsonb,
    slot                integer     NOT NULL,
    n                   bigint      NOT NULL,
    risk_sequence       bigint      NOT NULL,
    log_time            timestamptz NOT NULL
);

CREATE INDEX risk_state_by_scope ON risk_state (scope, entry);

CREATE TABLE risk_quarantine (LIKE current_state_quarantine INCLUDING ALL);

-- One row per scope and version of its limits.
CREATE TABLE risk_limits (
    scope               text        COLLATE "C" NOT NULL,
    version             bigint      NOT NULL CHECK (version > 0),
    status              text        COLLATE "C" NOT NULL CHECK (
        status IN ('proposed', 'agreed', 'superseded', 'withdrawn', 'revoked')
    ),
    -- As they were proposed, text for text.
    limits              jsonb       NOT NULL,
    valid_from          timestamptz,
    valid_until         timestamptz,
    proposal_hash       text        COLLATE "C" NOT NULL,
    proposed_by         text        COLLATE "C" NOT NULL,
    proposed_because    text        NOT NULL,
    proposed_sequence   bigint      NOT NULL,
    -- The other person; null where it only tightened, and so held at once.
    approved_by         text        COLLATE "C",
    -- Since when it holds: documents of a scope took effect in this order.
    agreed_sequence     bigint,
    rulebook_sequence   bigint      NOT NULL,
    log_time            timestamptz NOT NULL,
    PRIMARY KEY (scope, version)
);

-- One row per halt that a person set.
CREATE TABLE risk_halts (
    scope               text        COLLATE "C" NOT NULL,
    halt_hash           text        COLLATE "C" NOT NULL,
    mode                text        NOT NULL,
    code                text        COLLATE "C" NOT NULL,
    until               timestamptz,
    set_by              text        COLLATE "C" NOT NULL,
    set_because         text        NOT NULL,
    set_sequence        bigint      NOT NULL,
    -- The second person, whose word lifted it.
    lifted_by           text        COLLATE "C",
    lifted_sequence     bigint,
    since               timestamptz NOT NULL,
    rulebook_sequence   bigint      NOT NULL,
    log_time            timestamptz NOT NULL,
    PRIMARY KEY (scope, halt_hash)
);

CREATE TABLE rulebook_quarantine (LIKE current_state_quarantine INCLUDING ALL);
