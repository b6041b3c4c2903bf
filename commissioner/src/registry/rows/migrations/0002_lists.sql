-- Version 2: device lists.

-- Every list that was to be signed, as it was written down before: the claims, CBOR. The newest version is in force.
CREATE TABLE lists (
    version BIGINT PRIMARY KEY NOT NULL,
    mode TEXT NOT NULL CHECK (mode IN ('members', 'revoked')),
    keys BIGINT NOT NULL,
    claims BYTEA NOT NULL,
    -- The signed list.
    object BYTEA
);

-- The version that a device was last seen to hold.
ALTER TABLE devices ADD COLUMN list_version BIGINT;

-- A device showed a newer list than any in here: nothing is signed until that is settled. The version, and the device.
ALTER TABLE audit_head ADD COLUMN newer_list BIGINT;
ALTER TABLE audit_head ADD COLUMN newer_list_at TEXT;
