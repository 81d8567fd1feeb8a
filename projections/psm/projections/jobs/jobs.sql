-- Statements of the runs of jobs.

-- name: record
INSERT INTO job_runs (job, ended_at, succeeded_at, findings)
VALUES ($1, now(), CASE WHEN $2 = 0 THEN now() END, $2)
ON CONFLICT (job) DO UPDATE SET
    ended_at = excluded.ended_at,
    succeeded_at = coalesce(excluded.succeeded_at, job_runs.succeeded_at),
    findings = excluded.findings;

-- name: list
SELECT job, ended_at, succeeded_at, findings FROM job_runs ORDER BY job;
