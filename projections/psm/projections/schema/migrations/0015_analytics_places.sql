-- Up to which place in the log the figures of a day know, and the rules of the fold that gave them;
-- `psm views rebuild analytics` fills them in for what was there before.

ALTER TABLE trade_statistics
    ADD COLUMN through_log_sequence bigint,
    ADD COLUMN rules                integer;

ALTER TABLE risk_metrics
    ADD COLUMN through_log_sequence bigint,
    ADD COLUMN rules                integer;
