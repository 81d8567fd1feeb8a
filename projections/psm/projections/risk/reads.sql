-- Reads of the views about risk; each is one statement, so one snapshot. Numbers are texts: exact.

-- The newest first. `before` is the risk_sequence with which the page before ended. The last
-- parameter of a list has patterns of the names that the reader may know of, or null.

-- name: decisions
SELECT log_time AS decided_at, account_id, order_id, command, decision, reason, failed, symbol,
    side, quantity::text, approved_quantity::text, max_quantity::text, strategy_id, risk_group, mode,
    decision_hash, slot, n, risk_sequence, orders_sequence, rulebook_sequence, marks_log_sequence
FROM risk_decisions
WHERE ($1::text IS NULL OR account_id = $1)
AND ($2::text IS NULL OR order_id = $2)
AND ($3::text IS NULL OR strategy_id = $3)
AND ($4::text IS NULL OR symbol = $4)
AND ($5::text IS NULL OR decision = $5)
AND ($6::text IS NULL OR failed @> ARRAY[$6::text])
AND ($7::timestamptz IS NULL OR log_time >= $7)
AND ($8::bigint IS NULL OR risk_sequence < $8)
AND ($10::text[] IS NULL OR account_id LIKE ANY ($10))
ORDER BY risk_sequence DESC
LIMIT $9;

-- name: decision
SELECT risk_sequence, decision_hash, record, account_id FROM risk_decisions
WHERE decision_hash = $1
ORDER BY risk_sequence LIMIT 1;

-- Which version of a scope holds: of those in force the one that was agreed on last.

-- name: limits
SELECT l.scope, l.version, l.status, l.limits::text AS limits, l.valid_from, l.valid_until,
    l.proposal_hash, l.proposed_by, l.proposed_because, l.proposed_sequence, l.approved_by,
    l.agreed_sequence, l.rulebook_sequence, l.log_time AS changed_at,
    l.status = 'agreed' AND l.agreed_sequence = h.agreed_sequence AS in_force
FROM risk_limits l
LEFT JOIN (
    SELECT scope, max(agreed_sequence) AS agreed_sequence FROM risk_limits
    WHERE status = 'agreed'
    AND (valid_from IS NULL OR valid_from <= now())
    AND (valid_until IS NULL OR valid_until > now())
    GROUP BY scope
) AS h USING (scope)
WHERE ($1::text IS NULL OR l.scope = $1)
AND ($2::text IS NULL OR l.status = $2)
AND (NOT $3::boolean OR l.agreed_sequence = h.agreed_sequence AND l.status = 'agreed')
AND ($4::text IS NULL OR (l.scope, l.version) > ($4::text, $5::bigint))
AND ($7::text[] IS NULL OR l.scope LIKE ANY ($7))
ORDER BY l.scope, l.version
LIMIT $6;

-- What the engine remembers, and the halts of persons that hold.

-- name: state
SELECT * FROM (
    SELECT entry, kind, scope, code, mode, risk_value, risk_limit, since, until, record_hash,
        figures::text AS figures, NULL::text AS set_by, NULL::text AS set_because, slot,
        risk_sequence, NULL::bigint AS rulebook_sequence
    FROM risk_state
    UNION ALL
    SELECT 'halt/' || scope || '/' || halt_hash, 'halt', scope, code, mode, NULL, NULL, since, until,
        halt_hash, NULL, set_by, set_because, NULL, NULL, set_sequence
    FROM risk_halts
    WHERE lifted_sequence IS NULL AND (until IS NULL OR until > now())
) AS s
WHERE ($1::text IS NULL OR scope = $1)
AND ($2::text IS NULL OR kind = $2)
AND ($3::text IS NULL OR entry > $3 COLLATE "C")
AND ($5::text[] IS NULL OR scope LIKE ANY ($5))
ORDER BY entry COLLATE "C"
LIMIT $4;

-- How many of what is worth an alarm there are; few rows, and an index of them.

-- name: counts
SELECT kind, code, count(*) AS entries FROM risk_state
WHERE kind IN ('latch', 'near_limit')
GROUP BY kind, code;
