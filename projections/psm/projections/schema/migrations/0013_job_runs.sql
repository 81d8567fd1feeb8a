-- When work that somebody starts now and then was last done: it has no process that could be asked.

CREATE TABLE job_runs (
    job          text        COLLATE "C" NOT NULL PRIMARY KEY,
    ended_at     timestamptz NOT NULL,
    -- The last time that it found nothing; null while it never did.
    succeeded_at timestamptz,
    findings     integer     NOT NULL CHECK (findings >= 0)
);
