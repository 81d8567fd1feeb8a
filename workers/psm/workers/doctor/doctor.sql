-- What the doctor asks of the database itself.

-- name: facts
SELECT current_setting('server_version') AS version, current_database() AS name,
    pg_database_size(current_database()) AS bytes,
    pg_is_in_recovery() AS standby,
    current_setting('default_transaction_read_only') = 'on' AS read_only;

-- When an audit last found nothing, and how much the last one found.

-- name: audit
SELECT succeeded_at, findings FROM job_runs WHERE job = 'audit';

-- Messages of the last hour that changed nothing, by reason.

-- name: refusals
SELECT reason, count(*) AS refused FROM event_refusals
WHERE refused_at > now() - interval '1 hour' GROUP BY reason ORDER BY 2 DESC, 1;

-- Accounts whose last report differs from the books.

-- name: differing
SELECT account_id FROM reconciliation_view WHERE matches = false ORDER BY account_id;
