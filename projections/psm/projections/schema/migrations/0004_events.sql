-- The event archive: every message of the recorded streams, for ever, and what became of it.
-- It is no view: nothing rebuilds it, nobody changes it. See docs/audit.md.

-- Columns are null where the message does not say, or is not JSON, or where no column can hold what
-- it says; `left_out` names those. `raw` is what was stored.
CREATE TABLE events (
    -- The order of archiving. One writer assigns it without a hole and never again.
    archive_sequence bigint      NOT NULL PRIMARY KEY CHECK (archive_sequence > 0),
    js_stream        text        COLLATE "C" NOT NULL,
    js_sequence      bigint      NOT NULL CHECK (js_sequence > 0),
    -- Logical time: the position in the log. Recorded streams have none, only a js_sequence.
    log_sequence     bigint,
    -- Exact, unless `subject_bytes` has it: then what is no text in it is escaped here.
    subject          text        COLLATE "C" NOT NULL,
    subject_bytes    bytea,
    stored_at        timestamptz NOT NULL,
    -- The same to the nanosecond since 1970: a replay's clock.
    stored_ns        bigint      NOT NULL,
    raw              bytea       NOT NULL,
    event_hash       text        COLLATE "C" NOT NULL,
    event_id         text        COLLATE "C",
    event_type       text        COLLATE "C",
    stream_id        text        COLLATE "C",
    sequence_number  bigint,
    "timestamp"      timestamptz,
    schema_version   text        COLLATE "C",
    causation_id     text        COLLATE "C",
    correlation_id   text        COLLATE "C",
    source_service   text        COLLATE "C",
    user_id          text        COLLATE "C",
    -- The business key of an account's event, read from the bytes as the fold reads them.
    key_kind         text        COLLATE "C" CHECK (key_kind IN ('fill', 'transfer', 'reference')),
    key              text        COLLATE "C",
    key_symbol       text        COLLATE "C",
    -- JSON as JSONB holds it. A number never takes more room than the message had for all of them.
    headers          jsonb,
    metadata         jsonb,
    payload          jsonb,
    left_out         text[]      NOT NULL DEFAULT '{}',
    UNIQUE (js_stream, js_sequence),
    CHECK (log_sequence IS NOT DISTINCT FROM CASE js_stream WHEN 'TRADES' THEN js_sequence END)
);

CREATE INDEX events_by_event_id ON events (event_id);
CREATE INDEX events_by_stream ON events (stream_id, archive_sequence);
CREATE INDEX events_by_type ON events (event_type, archive_sequence);
-- A cause may arrive after its effect, or expire unarchived: an index, no foreign key.
CREATE INDEX events_by_causation ON events (causation_id, archive_sequence)
    WHERE causation_id IS NOT NULL;
CREATE INDEX events_by_correlation ON events (correlation_id, archive_sequence)
    WHERE correlation_id IS NOT NULL;
CREATE INDEX events_by_stored_at ON events USING brin (stored_at) WITH (pages_per_range = 32);

-- What the fold made of an event that took a place in its stream, as PSM published it. It is known
-- only after the event was archived, so it stands beside `events`, which never changes.
CREATE TABLE event_chain (
    psm_sequence        bigint NOT NULL PRIMARY KEY,
    stream_id           text   COLLATE "C" NOT NULL,
    sequence_number     bigint NOT NULL,
    -- Of the event itself; it may have been folded later, released by another message.
    log_sequence        bigint NOT NULL,
    folded_log_sequence bigint NOT NULL,
    event_hash          text   COLLATE "C" NOT NULL,
    chain_hash          text   COLLATE "C" NOT NULL,
    ledger_hash         text   COLLATE "C" NOT NULL,
    state_hash          text   COLLATE "C" NOT NULL
);

CREATE INDEX event_chain_by_log_sequence ON event_chain (log_sequence, psm_sequence);
CREATE INDEX event_chain_by_stream ON event_chain (stream_id, sequence_number);

-- Messages that changed nothing, and why. `refused_at` is the log's time of the message whose folding
-- decided it.
CREATE TABLE event_refusals (
    psm_sequence        bigint NOT NULL PRIMARY KEY,
    refused_at          timestamptz NOT NULL,
    stream_id           text   COLLATE "C" NOT NULL,
    log_sequence        bigint NOT NULL,
    folded_log_sequence bigint NOT NULL,
    outcome             text   COLLATE "C" NOT NULL,
    reason              text   COLLATE "C" NOT NULL,
    detail              text   NOT NULL,
    field               text
);

CREATE INDEX event_refusals_by_log_sequence ON event_refusals (log_sequence, psm_sequence);
-- Lists go from the newest back, of all, of a stream or of a reason: each finds its own at once.
CREATE INDEX event_refusals_by_time ON event_refusals (refused_at, psm_sequence);
CREATE INDEX event_refusals_by_stream ON event_refusals (stream_id, refused_at, psm_sequence);
CREATE INDEX event_refusals_by_reason ON event_refusals (reason, refused_at, psm_sequence);

-- Who had an identity or a business key first. Account events get here when they are applied, the
-- others when they are archived. `symbol` is empty where the kind has none.
CREATE TABLE event_keys (
    kind             text   COLLATE "C" NOT NULL
                     CHECK (kind IN ('event_id', 'fill', 'transfer', 'reference')),
    key              text   COLLATE "C" NOT NULL,
    stream_id        text   COLLATE "C" NOT NULL,
    symbol           text   COLLATE "C" NOT NULL,
    archive_sequence bigint NOT NULL,
    PRIMARY KEY (kind, key, stream_id, symbol),
    CHECK (kind <> 'event_id' OR (stream_id = '' AND symbol = ''))
);

-- What should not have happened: holes, keys booked twice, bodies that JSONB cannot hold.
CREATE TABLE archive_incidents (
    incident_id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind                   text        NOT NULL,
    js_stream              text        NOT NULL,
    first_sequence         bigint      NOT NULL,
    last_sequence          bigint      NOT NULL,
    archive_sequence       bigint,
    first_archive_sequence bigint,
    detail                 text        NOT NULL,
    found_at               timestamptz NOT NULL DEFAULT now()
);

-- How far each JetStream stream is archived. `event_hash` is that of the message at `js_sequence`.
CREATE TABLE archive_checkpoints (
    js_stream   text        COLLATE "C" NOT NULL PRIMARY KEY,
    js_sequence bigint      NOT NULL CHECK (js_sequence > 0),
    event_hash  text        NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- The last archive_sequence. Every transaction of the writer moves it from where it believes it to
-- be: of two writers one is refused.
CREATE TABLE archive_head (
    one              boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    archive_sequence bigint  NOT NULL
);
INSERT INTO archive_head (archive_sequence) VALUES (0);

-- Append-only. ENABLE ALWAYS: also for a session that plays a replica. Grants: docs/audit.md.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are immutable'
        USING ERRCODE = 'restrict_violation',
              DETAIL = format('%s on %s was refused', TG_OP, TG_TABLE_NAME);
END
$$;

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON event_chain
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON event_refusals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON event_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON archive_incidents
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE events ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE event_chain ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE event_refusals ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE event_keys ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE archive_incidents ENABLE ALWAYS TRIGGER immutable;

-- Every event with what became of it. `outcome` is null for recorded streams, for marks, for
-- duplicates, and for what is parked, held or not folded yet.
CREATE VIEW archived_events AS
SELECT
    e.archive_sequence, e.js_stream, e.js_sequence, e.log_sequence, e.subject, e.stored_at,
    e.event_id, e.event_type, e.stream_id, e.sequence_number, e."timestamp", e.schema_version,
    e.source_service, e.user_id, e.correlation_id, e.causation_id, e.event_hash,
    c.chain_hash, c.ledger_hash, c.state_hash,
    coalesce(r.outcome, CASE WHEN c.chain_hash IS NOT NULL THEN 'applied' END) AS outcome,
    r.reason AS refusal_reason, r.detail AS refusal_detail,
    e.metadata, e.payload, e.headers, e.raw, e.subject_bytes, e.left_out
FROM events e
LEFT JOIN LATERAL (
    SELECT chain_hash, ledger_hash, state_hash FROM event_chain
    WHERE log_sequence = e.log_sequence
    ORDER BY psm_sequence LIMIT 1
) c ON true
LEFT JOIN LATERAL (
    SELECT outcome, reason, detail FROM event_refusals
    WHERE log_sequence = e.log_sequence
    ORDER BY psm_sequence LIMIT 1
) r ON true;

-- An id as the archive writes it: a UUID in small letters.
CREATE FUNCTION archive_id(id text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN lower(id) ELSE id END
$$;

-- The archive_sequence of an event: the applied one where an id came more than once.
CREATE FUNCTION archived_event(event_id text) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        (SELECT k.archive_sequence FROM event_keys k
         WHERE k.kind = 'event_id' AND k.key = archive_id($1) AND k.stream_id = ''
         AND k.symbol = ''),
        (SELECT min(e.archive_sequence) FROM events e WHERE e.event_id = archive_id($1))
    )
$$;

-- The keys that events claim: `archived` names what is no account event by archive_sequence, `folded`
-- the account events that took a place by log_sequence; of those only applied ones claim any.
CREATE FUNCTION archive_claims(archived bigint[], folded bigint[]) RETURNS TABLE (
    kind text, key text, stream_id text, symbol text, archive_sequence bigint, applied boolean
) LANGUAGE sql STABLE AS $$
    SELECT 'event_id', e.event_id, '', '', e.archive_sequence, false
    FROM events e
    WHERE e.archive_sequence = ANY ($1) AND e.event_id IS NOT NULL
    UNION ALL
    SELECT k.kind, k.key, k.stream_id, k.symbol, e.archive_sequence, true
    FROM unnest($2) AS f (log_sequence)
    JOIN events e ON e.js_stream = 'TRADES' AND e.js_sequence = f.log_sequence
    CROSS JOIN LATERAL (VALUES
        ('event_id', e.event_id, '', ''), (e.key_kind, e.key, e.stream_id, e.key_symbol)
    ) AS k (kind, key, stream_id, symbol)
    WHERE k.key IS NOT NULL AND k.stream_id IS NOT NULL
    AND NOT EXISTS (
        SELECT FROM event_refusals r
        WHERE r.log_sequence = f.log_sequence AND r.outcome = 'refused'
    )
$$;

-- What part an event plays in a decision.
CREATE FUNCTION event_role(event_type text, subject text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN event_type = 'risk_decision' OR subject LIKE 'risk.decision.%' THEN 'decision'
        WHEN event_type = 'signal_generated' OR subject LIKE 'signals.%' THEN 'signal'
        WHEN event_type IN ('market_data', 'MarkPriceUpdated') OR subject LIKE 'marketdata.%'
            THEN 'market_data'
        WHEN event_type = 'alert' OR subject LIKE 'risk.alert.%' THEN 'alert'
        WHEN event_type = 'order_request' OR subject LIKE 'orders.command.%' THEN 'order_request'
        WHEN event_type = 'order_result' OR subject LIKE 'orders.status.%' THEN 'order_result'
        WHEN event_type = 'position_update' OR subject LIKE 'fills.internal.%'
            THEN 'position_update'
        WHEN event_type = 'TradeExecuted' OR subject LIKE 'fills.exchange.%' THEN 'trade'
    END
$$;

-- LATERAL with a LIMIT below: one index lookup per step, also where the tables have no statistics.

-- The event (depth 0), its cause (1), the cause's cause (2) ... as far as they are archived, the
-- first cause first. A circle ends where it closes.
CREATE FUNCTION causation_path(event_id text)
RETURNS TABLE (depth integer, archive_sequence bigint)
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE up AS (
        SELECT 0 AS depth, e.archive_sequence, e.causation_id, ARRAY[e.archive_sequence] AS path
        FROM events e WHERE e.archive_sequence = archived_event($1)
        UNION ALL
        SELECT up.depth + 1, e.archive_sequence, e.causation_id, up.path || e.archive_sequence
        FROM up CROSS JOIN LATERAL (
            SELECT c.archive_sequence, c.causation_id FROM events c
            WHERE c.archive_sequence = archived_event(up.causation_id) LIMIT 1
        ) e
        WHERE up.depth < 1000 AND e.archive_sequence <> ALL (up.path)
    )
    SELECT up.depth, up.archive_sequence FROM up ORDER BY up.depth DESC
$$;

-- What an event caused (depth 1), what that caused (2) ...; at most 1000 events. A repeated delivery
-- is not another effect.
CREATE FUNCTION causation_effects(event_id text)
RETURNS TABLE (depth integer, archive_sequence bigint)
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE down AS (
        SELECT 0 AS depth, e.archive_sequence, e.event_id, ARRAY[e.archive_sequence] AS path
        FROM events e WHERE e.archive_sequence = archived_event($1)
        UNION ALL
        SELECT down.depth + 1, e.archive_sequence, e.event_id, down.path || e.archive_sequence
        FROM down CROSS JOIN LATERAL (
            SELECT c.archive_sequence, c.event_id FROM events c
            WHERE c.causation_id = down.event_id
            AND (c.event_id IS NULL OR c.archive_sequence = archived_event(c.event_id))
            LIMIT 1000
        ) e
        WHERE down.depth < 1000 AND e.archive_sequence <> ALL (down.path)
    ), found AS (
        SELECT down.depth, down.archive_sequence FROM down WHERE down.depth > 0 LIMIT 1000
    )
    SELECT found.depth, found.archive_sequence FROM found ORDER BY found.archive_sequence
$$;

-- The chain of causes of an event, the first cause first, the event itself (depth 0) last.
CREATE FUNCTION get_causation_chain(event_id text) RETURNS TABLE (
    depth integer, archive_sequence bigint, event_id text, event_type text, stream_id text,
    sequence_number bigint, log_sequence bigint, "timestamp" timestamptz, source_service text,
    correlation_id text, causation_id text, outcome text, event_hash text, chain_hash text,
    payload jsonb
) LANGUAGE sql STABLE AS $$
    SELECT p.depth, e.archive_sequence, e.event_id, e.event_type, e.stream_id, e.sequence_number,
        e.log_sequence, e."timestamp", e.source_service, e.correlation_id, e.causation_id,
        e.outcome, e.event_hash, e.chain_hash, e.payload
    FROM causation_path($1) p JOIN archived_events e ON e.archive_sequence = p.archive_sequence
    ORDER BY p.depth DESC
$$;

-- All events of a correlation, in the order of archiving.
CREATE FUNCTION get_correlation_events(correlation_id text) RETURNS SETOF archived_events
LANGUAGE sql STABLE AS $$
    SELECT e.* FROM archived_events e
    WHERE e.correlation_id = archive_id($1)
    ORDER BY e.archive_sequence
$$;

-- The events of a correlation, with their causes and effects that do not carry its id themselves;
-- at most 1000 of each. A repeated delivery is left out.
CREATE FUNCTION trace_correlation(correlation_id text)
RETURNS TABLE (relation text, archive_sequence bigint)
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE own AS MATERIALIZED (
        SELECT e.archive_sequence, e.event_id, e.causation_id FROM events e
        WHERE e.correlation_id = archive_id($1)
        AND (e.event_id IS NULL OR e.archive_sequence = archived_event(e.event_id))
        ORDER BY e.archive_sequence LIMIT 1000
    ), up AS (
        SELECT own.archive_sequence, own.causation_id FROM own
        UNION
        SELECT e.archive_sequence, e.causation_id
        FROM up CROSS JOIN LATERAL (
            SELECT c.archive_sequence, c.causation_id FROM events c
            WHERE c.archive_sequence = archived_event(up.causation_id) LIMIT 1
        ) e
    ), down AS (
        SELECT own.archive_sequence, own.event_id FROM own
        UNION
        SELECT e.archive_sequence, e.event_id
        FROM down CROSS JOIN LATERAL (
            SELECT c.archive_sequence, c.event_id FROM events c
            WHERE c.causation_id = down.event_id
            AND (c.event_id IS NULL OR c.archive_sequence = archived_event(c.event_id))
            LIMIT 1000
        ) e
    )
    SELECT 'correlated', own.archive_sequence FROM own
    UNION ALL
    (SELECT 'cause', up.archive_sequence FROM up
     WHERE up.archive_sequence NOT IN (SELECT own.archive_sequence FROM own) LIMIT 1000)
    UNION ALL
    (SELECT 'effect', down.archive_sequence FROM down
     WHERE down.archive_sequence NOT IN (SELECT own.archive_sequence FROM own) LIMIT 1000)
$$;

-- An event as JSON, as every answer shows it; without its bytes and headers. A message of more than
-- `content_max` bytes is shown without metadata and payload, and `left_out` names them.
CREATE FUNCTION event_document(archive_sequence bigint, content_max integer DEFAULT 262144)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'archive_sequence', e.archive_sequence, 'js_stream', e.js_stream,
        'js_sequence', e.js_sequence, 'log_sequence', e.log_sequence, 'subject', e.subject,
        'stored_at', e.stored_at, 'event_id', e.event_id, 'event_type', e.event_type,
        'role', event_role(e.event_type, e.subject), 'stream_id', e.stream_id,
        'sequence_number', e.sequence_number, 'timestamp', e."timestamp",
        'schema_version', e.schema_version, 'source_service', e.source_service,
        'user_id', e.user_id, 'correlation_id', e.correlation_id,
        'causation_id', e.causation_id, 'event_hash', e.event_hash,
        'chain_hash', e.chain_hash, 'ledger_hash', e.ledger_hash, 'state_hash', e.state_hash,
        'outcome', e.outcome, 'refusal_reason', e.refusal_reason,
        'refusal_detail', left(e.refusal_detail, 2048), 'bytes', octet_length(e.raw),
        'left_out', CASE
            WHEN octet_length(e.raw) <= $2 THEN e.left_out
            ELSE e.left_out || array_remove(ARRAY[
                CASE WHEN e.metadata IS NOT NULL THEN 'metadata' END,
                CASE WHEN e.payload IS NOT NULL THEN 'payload' END
            ], NULL)
        END,
        'metadata', CASE WHEN octet_length(e.raw) <= $2 THEN e.metadata END,
        'payload', CASE WHEN octet_length(e.raw) <= $2 THEN e.payload END
    )
    FROM archived_events e WHERE e.archive_sequence = $1
$$;

-- The same of several events, in their order: metadata and payload of as many as are together no
-- more than a megabyte, so that no answer is without a limit.
CREATE FUNCTION event_documents(sequences bigint[])
RETURNS TABLE (archive_sequence bigint, document json) LANGUAGE sql STABLE AS $$
    SELECT s.archive_sequence, CASE
        WHEN s.bytes <= 1048576 THEN event_document(s.archive_sequence)
        ELSE event_document(s.archive_sequence, -1)
    END
    FROM (
        SELECT e.archive_sequence, sum(CASE
            WHEN octet_length(e.raw) <= 262144 THEN octet_length(e.raw) ELSE 0
        END) OVER (ORDER BY w.place) AS bytes
        FROM unnest($1) WITH ORDINALITY AS w (archive_sequence, place)
        JOIN events e ON e.archive_sequence = w.archive_sequence
    ) s
$$;

-- Why an event is there: the decision, the signal and the market data behind it, with the chain of
-- causes and what followed. Each is looked for among the causes first (the nearest wins), then
-- among the effects, then in the correlation; `found_by` says where. Null for an unknown event.
CREATE FUNCTION explain_decision(event_id text) RETURNS json
LANGUAGE sql STABLE AS $$
    WITH wanted AS (
        SELECT e.archive_sequence, e.correlation_id, e.stored_ns
        FROM events e WHERE e.archive_sequence = archived_event($1)
    ), causes AS MATERIALIZED (
        SELECT p.depth, p.archive_sequence FROM causation_path($1) p
    ), effects AS MATERIALIZED (
        SELECT f.depth, f.archive_sequence FROM causation_effects($1) f
    ), candidates AS (
        SELECT 'causation' AS found_by, 1 AS place, causes.depth AS distance,
            causes.archive_sequence
        FROM causes
        UNION ALL
        SELECT 'effect', 2, effects.depth, effects.archive_sequence FROM effects
        UNION ALL
        -- What came before the event explains it better than what came later.
        (SELECT 'correlation', CASE WHEN e.stored_ns < w.stored_ns THEN 3 ELSE 4 END,
            abs(e.stored_ns - w.stored_ns), e.archive_sequence
        FROM wanted w JOIN events e ON e.correlation_id = w.correlation_id
        ORDER BY abs(e.stored_ns - w.stored_ns) LIMIT 1000)
    ), roles AS MATERIALIZED (
        SELECT DISTINCT ON (role) event_role(e.event_type, e.subject) AS role, c.found_by,
            c.archive_sequence
        FROM candidates c JOIN events e ON e.archive_sequence = c.archive_sequence
        ORDER BY role, c.place, c.distance, c.archive_sequence
    ), documents AS MATERIALIZED (
        SELECT d.archive_sequence, d.document FROM event_documents(ARRAY(
            SELECT shown.archive_sequence FROM (
                SELECT 1 AS place, wanted.archive_sequence FROM wanted
                UNION ALL SELECT 2, roles.archive_sequence FROM roles
                UNION ALL SELECT 3, causes.archive_sequence FROM causes
                UNION ALL SELECT 4, effects.archive_sequence FROM effects
            ) AS shown
            GROUP BY shown.archive_sequence ORDER BY min(shown.place), shown.archive_sequence
        )) d
    ), behind AS (
        SELECT r.role, d.document FROM roles r JOIN documents d USING (archive_sequence)
    ), decision AS (
        SELECT behind.document -> 'payload' AS payload FROM behind WHERE behind.role = 'decision'
    ), root AS (
        SELECT e.causation_id FROM causes JOIN events e
            ON e.archive_sequence = causes.archive_sequence
        ORDER BY causes.depth DESC LIMIT 1
    )
    SELECT json_build_object(
        'event', (SELECT d.document FROM documents d
                  WHERE d.archive_sequence = w.archive_sequence),
        'decision', (SELECT behind.document FROM behind WHERE behind.role = 'decision'),
        'signal', (SELECT behind.document FROM behind WHERE behind.role = 'signal'),
        'market_data', (SELECT behind.document FROM behind WHERE behind.role = 'market_data'),
        'checks', coalesce((SELECT d.payload -> 'checks' FROM decision d), '[]'),
        'risk_state', (SELECT d.payload -> 'risk_state' FROM decision d),
        'found_by', (SELECT coalesce(json_object_agg(r.role, r.found_by), '{}') FROM roles r
                     WHERE r.role IN ('decision', 'signal', 'market_data')),
        'causation_chain', (
            SELECT json_agg(json_build_object('depth', causes.depth, 'event', d.document)
                ORDER BY causes.depth DESC)
            FROM causes JOIN documents d USING (archive_sequence)
        ),
        'effects', (
            SELECT coalesce(json_agg(json_build_object('depth', effects.depth, 'event', d.document)
                ORDER BY effects.archive_sequence), '[]')
            FROM effects JOIN documents d USING (archive_sequence)
        ),
        'missing_cause', (
            SELECT root.causation_id FROM root
            WHERE archived_event(root.causation_id) IS NULL
        )
    )
    FROM wanted w
$$;

-- What the archive holds per type and service, of all time or stored within the last `since`.
CREATE FUNCTION get_event_stats(since interval DEFAULT NULL) RETURNS TABLE (
    js_stream text, event_type text, source_service text, events bigint, streams bigint,
    bytes bigint, first_at timestamptz, last_at timestamptz
) LANGUAGE sql STABLE AS $$
    SELECT e.js_stream, e.event_type, e.source_service, count(*), count(DISTINCT e.stream_id),
        sum(octet_length(e.raw))::bigint, min(e.stored_at), max(e.stored_at)
    FROM events e
    WHERE since IS NULL OR e.stored_at >= now() - since
    GROUP BY e.js_stream, e.event_type, e.source_service
    ORDER BY e.js_stream, count(*) DESC, e.event_type, e.source_service
$$;

-- Events that name a cause which is not in the archive (yet).
CREATE FUNCTION get_dangling_causations() RETURNS TABLE (
    archive_sequence bigint, event_id text, event_type text, causation_id text,
    stored_at timestamptz
) LANGUAGE sql STABLE AS $$
    SELECT e.archive_sequence, e.event_id, e.event_type, e.causation_id, e.stored_at
    FROM events e
    WHERE e.causation_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM events c WHERE c.event_id = e.causation_id)
    ORDER BY e.archive_sequence
$$;
