-- Correlation runs that were started and not called off: one that kills the process is not repeated forever.
ALTER TABLE captures ADD COLUMN runs BIGINT NOT NULL DEFAULT 0;
