-- Records that sum several flows, because there were too many to list: how many, and the bits of their addresses that count.
-- Null in a record of one flow.
ALTER TABLE flow_records ADD COLUMN flow_count BIGINT;
ALTER TABLE flow_records ADD COLUMN source_prefix_length BIGINT;
ALTER TABLE flow_records ADD COLUMN destination_prefix_length BIGINT;
