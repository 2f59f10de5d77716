-- Packets that were left out because hash-based selection did not select them.
ALTER TABLE capture_points ADD COLUMN sampled_out BIGINT NOT NULL DEFAULT 0;
