-- Roles of the database, one per kind of access, to be run by the owner of the schema after the
-- migrations. `psm migrate up --roles` does it and makes logins, too; by hand:
--
--   psm migrate roles | psql "$POSTGRES_DSN"
--   GRANT psm_views_writer TO projector;     -- the login role of `psm projector`
--   GRANT psm_archive_writer TO archiver;    -- of `psm archive`
--   GRANT psm_heads_reader TO worker;        -- of `psm worker`
--   GRANT psm_views_reader, psm_archive_reader, psm_access TO api;    -- of `psm serve`
--   GRANT psm_people_writer, psm_archive_reader TO importer;   -- of `psm import`
--   GRANT psm_views_reader, psm_heads_reader, psm_archive_reader, psm_jobs TO operator;
--
-- Nobody but the owner may change or delete an archived event, and the triggers refuse even that.
-- Nobody but the owner may make, alter or drop anything; `psm views rebuild` does, and needs it.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'psm_views_writer', 'psm_views_reader', 'psm_heads_reader',
        'psm_archive_writer', 'psm_archive_reader', 'psm_people_writer', 'psm_access', 'psm_jobs'
    ] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles are the cluster's: another database's owner was faster
        END;
    END LOOP;
END
$$;

REVOKE ALL ON balances_view, positions_view, margin_view, orders_view, reconciliation_view,
    projection_checkpoints, chain_heads, log_heads, current_state_quarantine,
    risk_decisions, risk_state, risk_quarantine, risk_limits, risk_halts, risk_groups,
    rulebook_quarantine,
    orderbook_snapshot, orderbook_latest, orderbook_saved, market_quarantine,
    pnl_timeseries, trades, lots, trade_statistics, risk_metrics, analytics_accounts,
    analytics_journal, analytics_progress, analytics_quarantine
    FROM PUBLIC, psm_views_writer, psm_views_reader, psm_heads_reader;

GRANT SELECT, INSERT, UPDATE, DELETE
    ON balances_view, positions_view, margin_view, orders_view, reconciliation_view,
    current_state_quarantine,
    risk_decisions, risk_state, risk_quarantine, risk_limits, risk_halts, risk_groups,
    rulebook_quarantine,
    orderbook_snapshot, orderbook_latest, orderbook_saved, market_quarantine,
    pnl_timeseries, trades, lots, trade_statistics, risk_metrics, analytics_accounts,
    analytics_journal, analytics_progress, analytics_quarantine
    TO psm_views_writer;
GRANT SELECT, INSERT, UPDATE ON projection_checkpoints, chain_heads, log_heads TO psm_views_writer;
GRANT SELECT ON balances_view, positions_view, margin_view, orders_view, reconciliation_view,
    projection_checkpoints, current_state_quarantine,
    risk_decisions, risk_state, risk_quarantine, risk_limits, risk_halts, risk_groups,
    rulebook_quarantine,
    orderbook_snapshot, orderbook_latest, orderbook_saved, market_quarantine,
    pnl_timeseries, trades, lots, trade_statistics, risk_metrics,
    analytics_accounts, analytics_journal, analytics_progress, analytics_quarantine
    TO psm_views_reader;
GRANT SELECT ON chain_heads, log_heads TO psm_heads_reader;

REVOKE ALL ON events, event_chain, event_refusals, event_keys, archive_incidents,
    archive_checkpoints, archive_head, archived_events
    FROM PUBLIC, psm_archive_writer, psm_archive_reader;

GRANT SELECT, INSERT ON events, event_chain, event_refusals, event_keys, archive_incidents
    TO psm_archive_writer;
GRANT SELECT, INSERT, UPDATE ON archive_checkpoints TO psm_archive_writer;
GRANT SELECT, UPDATE ON archive_head TO psm_archive_writer;

GRANT SELECT ON events, event_chain, event_refusals, event_keys, archive_incidents,
    archive_checkpoints, archive_head, archived_events
    TO psm_archive_reader;

-- Whom a pseudonym stands for: nobody reads it but who imports, and nobody takes a row away.
REVOKE ALL ON people
    FROM PUBLIC, psm_views_writer, psm_views_reader, psm_heads_reader, psm_archive_writer,
    psm_archive_reader, psm_people_writer;
GRANT SELECT, INSERT ON people TO psm_people_writer;
GRANT UPDATE (identity, account) ON people TO psm_people_writer;

-- Tokens: nobody takes one away or changes what it may do; it ends, and that is all.
REVOKE ALL ON access.tokens
    FROM PUBLIC, psm_views_writer, psm_views_reader, psm_heads_reader, psm_archive_writer,
    psm_archive_reader, psm_people_writer, psm_access;
GRANT USAGE ON SCHEMA access TO psm_access;
GRANT SELECT, INSERT, UPDATE (last_used_at, revoked_at) ON access.tokens TO psm_access;
-- Four eyes: who approves must not have made the tokens of who asks.
GRANT USAGE ON SCHEMA access TO psm_heads_reader, psm_views_reader, psm_archive_reader;
GRANT SELECT (principal, created_by) ON access.tokens
    TO psm_heads_reader, psm_views_reader, psm_archive_reader;

-- When jobs were done: whoever does them notes it, the projector tells the metrics.
REVOKE ALL ON job_runs FROM PUBLIC, psm_views_writer, psm_jobs;
GRANT SELECT ON job_runs TO psm_views_writer;
GRANT SELECT, INSERT, UPDATE ON job_runs TO psm_jobs;
