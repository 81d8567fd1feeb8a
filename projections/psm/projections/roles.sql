-- Roles for the event archive, to be run by the owner of the schema after `psm migrate up`:
--
--   psm migrate roles | psql "$POSTGRES_DSN"
--   GRANT psm_archive_writer TO archiver;    -- the login role of `psm archive`
--   GRANT psm_archive_reader TO auditor;     -- login roles of `psm serve`, `psm explain`, people
--
-- Nobody but the owner may change or delete an archived event, and the triggers refuse even that.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'psm_archive_writer') THEN
        CREATE ROLE psm_archive_writer NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'psm_archive_reader') THEN
        CREATE ROLE psm_archive_reader NOLOGIN;
    END IF;
END
$$;

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
