-- Packets cut short or malformed, which were not counted by themselves before.
ALTER TABLE capture_points ADD COLUMN unreadable BIGINT NOT NULL DEFAULT 0;
