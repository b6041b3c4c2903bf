-- Version 4: what is to happen when a device loses its key, and sealed copies of keys.

ALTER TABLE devices ADD COLUMN policy TEXT NOT NULL DEFAULT 'rotate'
    CHECK (policy IN ('rotate', 'keep', 'restore', 'derive'));

-- Keys that were made here for a device, sealed by age. A key is here before the device is asked to take it.
CREATE TABLE escrow (
    x BYTEA PRIMARY KEY NOT NULL,
    device TEXT NOT NULL REFERENCES devices (device),
    sealed BYTEA NOT NULL
);

CREATE INDEX escrow_by_device ON escrow (device);
