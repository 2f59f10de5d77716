-- What the caller named its call, so that a repeated one finds the capture of the first; how often a row was written.
ALTER TABLE captures ADD COLUMN request_id TEXT;
ALTER TABLE captures ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX captures_by_request ON captures (created_by, request_id);
