-- Which fabric this is. The place of its observation files names it too, so that no database takes the files of another for
-- garbage.
CREATE TABLE fabric (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    id  TEXT NOT NULL
);
INSERT INTO fabric (one, id) VALUES (1, replace(gen_random_uuid()::text, '-', ''));
