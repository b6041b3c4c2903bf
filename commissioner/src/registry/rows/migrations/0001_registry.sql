-- Version 1. One text for SQLite and PostgreSQL: TEXT, BIGINT and BYTEA only. Never edited once released: later versions
-- add files. Times are seconds since 1970-01-01T00:00:00Z, thumbprints and hashes lower-case hex.

-- What is true of the registry as a whole, such as the issuer it belongs to.
CREATE TABLE meta (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);

CREATE TABLE devices (
    device TEXT PRIMARY KEY NOT NULL,
    nickname TEXT UNIQUE,
    -- 'full' once the device, or anybody in its name, was seen so: it never counts as minimal again.
    profile TEXT NOT NULL CHECK (profile IN ('full', 'minimal')),
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL
);

-- A key is its x-coordinate, and belongs to one device for good.
CREATE TABLE keys (
    x BYTEA PRIMARY KEY NOT NULL,
    thumbprint TEXT NOT NULL UNIQUE,
    device TEXT NOT NULL REFERENCES devices (device),
    -- 0 for the first key of its device, 1 for the second, ...
    ordinal BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'pending', 'revoked')),
    provenance TEXT NOT NULL CHECK (provenance IN ('programming', 'proved', 'reported')),
    -- Whether the device ever proved by EDHOC that it has the private key.
    proof TEXT NOT NULL CHECK (proof IN ('proved', 'unproven')),
    generation BIGINT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    revoked_at BIGINT,
    revoked_reason TEXT,
    CHECK ((status = 'revoked') = (revoked_at IS NOT NULL))
);

CREATE UNIQUE INDEX keys_one_active ON keys (device) WHERE status = 'active';
CREATE UNIQUE INDEX keys_in_order ON keys (device, ordinal);

-- Device certificates, and the journal of issuing them: 'intended' before anything is signed, 'issued' before anything is
-- sent, 'installed' after the receipt.
CREATE TABLE certificates (
    cti BYTEA PRIMARY KEY NOT NULL,
    x BYTEA NOT NULL REFERENCES keys (x),
    slot TEXT NOT NULL CHECK (slot IN ('factory', 'owner')),
    status TEXT NOT NULL CHECK (status IN ('intended', 'issued', 'installed', 'replaced', 'removed', 'revoked', 'void')),
    issued_at BIGINT NOT NULL,
    key_origin TEXT NOT NULL CHECK (key_origin IN ('generated', 'injected', 'derived')),
    proof TEXT NOT NULL CHECK (proof IN ('proved', 'unproven')),
    -- The signed object, from 'issued' on.
    object BYTEA,
    -- The device's receipt, CBOR.
    receipt BYTEA,
    CHECK (object IS NOT NULL OR status IN ('intended', 'revoked', 'void'))
);

CREATE INDEX certificates_by_key ON certificates (x);
CREATE UNIQUE INDEX certificates_one_open ON certificates (x, slot) WHERE status IN ('intended', 'issued');

-- What happened, in order; each entry's hash covers the one before. Entries are only ever added.
CREATE TABLE audit (
    seq BIGINT PRIMARY KEY NOT NULL,
    time BIGINT NOT NULL,
    device TEXT NOT NULL,
    event TEXT NOT NULL,
    payload TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL
);

CREATE INDEX audit_by_device ON audit (device, seq);

-- The end of the chain, in one row. Each transaction that changes anything writes this row first, so that writers wait for
-- each other here; 'believed' is the newest time that the clock rule accepted.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY NOT NULL CHECK (id = 1),
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL,
    believed BIGINT NOT NULL
);

INSERT INTO audit_head (id, seq, hash, believed)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000', 0);
