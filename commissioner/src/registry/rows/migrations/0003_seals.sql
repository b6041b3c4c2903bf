-- Version 3: signed heads of the audit trail.

CREATE TABLE seals (
    -- The last entry that is sealed.
    seq BIGINT PRIMARY KEY NOT NULL,
    -- The signed seal.
    object BYTEA NOT NULL
);

CREATE INDEX audit_by_hash ON audit (hash);
