-- Times are nanoseconds since 1970 on the coordinator's clock. 64-bit unsigned numbers are stored as their signed twins.

CREATE TABLE nodes (
    name          TEXT PRIMARY KEY NOT NULL,
    agent_version TEXT NOT NULL,
    kernel        TEXT NOT NULL,
    incarnation   BIGINT NOT NULL,
    last_seen     BIGINT NOT NULL,
    capabilities  TEXT NOT NULL,
    topology      BLOB NOT NULL
);

CREATE TABLE captures (
    id            TEXT PRIMARY KEY NOT NULL,
    state         BIGINT NOT NULL,
    reason        TEXT NOT NULL,
    spec          TEXT NOT NULL,
    identity_key  BLOB NOT NULL,
    created_at    BIGINT NOT NULL,
    created_by    TEXT NOT NULL,
    window_start  BIGINT,
    window_end    BIGINT
);
CREATE INDEX captures_by_age ON captures (created_at, id);

CREATE TABLE capture_nodes (
    capture_id    TEXT NOT NULL REFERENCES captures (id) ON DELETE CASCADE,
    node          TEXT NOT NULL,
    state         BIGINT NOT NULL,
    reason        TEXT NOT NULL,
    armed_at      BIGINT,
    incarnation   BIGINT,
    clock_start   TEXT,
    clock_end     TEXT,
    coverage      TEXT NOT NULL,
    topology      BLOB,
    PRIMARY KEY (capture_id, node)
);

CREATE TABLE capture_points (
    id              INTEGER PRIMARY KEY NOT NULL,
    capture_id      TEXT NOT NULL REFERENCES captures (id) ON DELETE CASCADE,
    node            TEXT NOT NULL,
    netns           TEXT NOT NULL,
    interface       TEXT NOT NULL,
    interface_index BIGINT NOT NULL,
    direction       BIGINT NOT NULL,
    kind            BIGINT NOT NULL,
    mtu             BIGINT NOT NULL,
    gso_known       BIGINT NOT NULL,
    received        BIGINT NOT NULL DEFAULT 0,
    kernel_drops    BIGINT NOT NULL DEFAULT 0,
    agent_drops     BIGINT NOT NULL DEFAULT 0,
    filtered        BIGINT NOT NULL DEFAULT 0,
    own_connections BIGINT NOT NULL DEFAULT 0,
    undecoded       BIGINT NOT NULL DEFAULT 0,
    bytes           BIGINT NOT NULL DEFAULT 0,
    batches         BIGINT NOT NULL DEFAULT 0,
    UNIQUE (capture_id, node, netns, interface, interface_index, direction)
);

-- A batch is where its bytes are. Written in the transaction that precedes its acknowledgement.
CREATE TABLE batches (
    point_id     BIGINT NOT NULL REFERENCES capture_points (id) ON DELETE CASCADE,
    incarnation  BIGINT NOT NULL,
    sequence     BIGINT NOT NULL,
    file         TEXT NOT NULL,
    position     BIGINT NOT NULL,
    length       BIGINT NOT NULL,
    checksum     BIGINT NOT NULL,
    observations BIGINT NOT NULL,
    PRIMARY KEY (point_id, incarnation, sequence)
) WITHOUT ROWID;

CREATE TABLE reports (
    capture_id  TEXT PRIMARY KEY NOT NULL REFERENCES captures (id) ON DELETE CASCADE,
    report      BLOB NOT NULL
);

-- One row per flow and observation point. The names are those of the IPFIX information elements where one exists;
-- direction is `in` or `out`, overlay_kind is null where the flow was seen bare.
CREATE TABLE flow_records (
    capture_id                 TEXT NOT NULL REFERENCES captures (id) ON DELETE CASCADE,
    ordinal                    BIGINT NOT NULL,
    node                       TEXT NOT NULL,
    interface                  TEXT NOT NULL,
    direction                  TEXT NOT NULL,
    source_address             TEXT NOT NULL,
    destination_address        TEXT NOT NULL,
    protocol_identifier        BIGINT NOT NULL,
    source_transport_port      BIGINT NOT NULL,
    destination_transport_port BIGINT NOT NULL,
    overlay_kind               TEXT,
    overlay_id                 BIGINT,
    packet_delta_count         BIGINT NOT NULL,
    octet_delta_count          BIGINT NOT NULL,
    segments                   BIGINT NOT NULL,
    flow_start                 BIGINT NOT NULL,
    flow_end                   BIGINT NOT NULL,
    tcp_control_bits           BIGINT NOT NULL,
    retransmissions            BIGINT NOT NULL,
    out_of_order               BIGINT NOT NULL,
    minimum_ip_total_length    BIGINT NOT NULL,
    maximum_ip_total_length    BIGINT NOT NULL,
    minimum_ttl                BIGINT NOT NULL,
    maximum_ttl                BIGINT NOT NULL,
    PRIMARY KEY (capture_id, ordinal)
) WITHOUT ROWID;

CREATE TABLE lost_packets (
    capture_id  TEXT NOT NULL REFERENCES captures (id) ON DELETE CASCADE,
    ordinal     BIGINT NOT NULL,
    record      BLOB NOT NULL,
    PRIMARY KEY (capture_id, ordinal)
) WITHOUT ROWID;
