-- Probes, the parts of their sources, and what those reported. A state is a number of `ProbeState`.
CREATE TABLE probes (
    id          TEXT PRIMARY KEY NOT NULL,
    spec        TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    created_by  TEXT NOT NULL,
    request_id  TEXT,
    start_at    BIGINT NOT NULL,
    is_single   BIGINT NOT NULL,
    ended_at    BIGINT,
    stopped     TEXT NOT NULL DEFAULT ''
);
CREATE INDEX probes_by_age ON probes (created_at, id);
CREATE UNIQUE INDEX probes_by_request ON probes (created_by, request_id);
CREATE INDEX probes_open ON probes (id) WHERE ended_at IS NULL;

CREATE TABLE probe_parts (
    probe_id    TEXT NOT NULL REFERENCES probes (id) ON DELETE CASCADE,
    part        BIGINT NOT NULL,
    node        TEXT NOT NULL,
    netns       TEXT NOT NULL,
    state       BIGINT NOT NULL,
    reason      TEXT NOT NULL DEFAULT '',
    runs        BIGINT NOT NULL DEFAULT 0,
    last_run    BIGINT,
    PRIMARY KEY (probe_id, part),
    UNIQUE (probe_id, node, netns)
);

CREATE TABLE probe_reports (
    probe_id    TEXT NOT NULL REFERENCES probes (id) ON DELETE CASCADE,
    run         BIGINT NOT NULL,
    part        BIGINT NOT NULL,
    report      BLOB NOT NULL,
    PRIMARY KEY (probe_id, run, part)
);
