-- The name of the place of the observation files, by whoever started first: coordinators that keep theirs elsewhere would not
-- find each other's.
ALTER TABLE fabric ADD COLUMN place TEXT;
