-- Several coordinators share this database. Times of leases are those of the server's clock, in nanoseconds since 1970.

CREATE FUNCTION lastseen_now() RETURNS BIGINT LANGUAGE SQL VOLATILE AS
    $$ SELECT (EXTRACT(EPOCH FROM clock_timestamp())::NUMERIC * 1000000000)::BIGINT $$;

-- What the caller named its call, so that a repeated one finds the capture of the first; how often a row was written.
ALTER TABLE captures ADD COLUMN request_id TEXT COLLATE "C";
ALTER TABLE captures ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX captures_by_request ON captures (created_by, request_id);

-- Who leads a capture, until when unless it renews that, and a number that grows with each change of hands: a write
-- that rests on an older one is refused.
ALTER TABLE captures ADD COLUMN owner BIGINT;
ALTER TABLE captures ADD COLUMN token BIGINT NOT NULL DEFAULT 0;
ALTER TABLE captures ADD COLUMN lease_until BIGINT NOT NULL DEFAULT 0;

-- Processes that serve.
CREATE TABLE coordinators (
    id           BIGINT PRIMARY KEY,
    alive_until  BIGINT NOT NULL
);

-- Which of them has which agent, and how its clock stands to the server's.
CREATE TABLE links (
    node         TEXT COLLATE "C" NOT NULL,
    coordinator  BIGINT NOT NULL REFERENCES coordinators (id) ON DELETE CASCADE,
    session      BIGINT NOT NULL,
    connected_at BIGINT NOT NULL,
    detail       TEXT NOT NULL,
    PRIMARY KEY (node, coordinator)
);

-- What whoever leads a capture has for agents of others. Taken by who has the session.
CREATE TABLE commands (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session      BIGINT NOT NULL,
    node         TEXT COLLATE "C" NOT NULL,
    command      TEXT NOT NULL,
    sent_at      BIGINT NOT NULL DEFAULT lastseen_now()
);
CREATE INDEX commands_by_session ON commands (session);

-- What happens to a capture where it is not led. The last of a kind counts.
CREATE SEQUENCE mail_numbers;
CREATE TABLE mail (
    capture_id   TEXT COLLATE "C" NOT NULL,
    node         TEXT COLLATE "C" NOT NULL,
    kind         TEXT COLLATE "C" NOT NULL,
    subject      TEXT COLLATE "C" NOT NULL,
    -- Of the control stream it came on, where it came on one.
    connected_at BIGINT NOT NULL,
    number       BIGINT NOT NULL DEFAULT nextval('mail_numbers'),
    content      TEXT NOT NULL,
    attachment   BYTEA,
    posted_at    BIGINT NOT NULL DEFAULT lastseen_now(),
    PRIMARY KEY (capture_id, node, kind, subject)
);
