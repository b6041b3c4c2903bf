-- Version 6: stations elsewhere.

-- Tokens for them: written down before they are signed, and kept until long after, since a revoked one is told to others.
CREATE TABLE tokens (
    id TEXT PRIMARY KEY NOT NULL,
    -- The thumbprint of the station's key.
    station TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('commission', 'distribute', 'everything')),
    issued_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT,
    -- The signed token.
    object BYTEA
);

CREATE INDEX tokens_by_station ON tokens (station);

-- At a station without the issuer's key: the transcript hash (TH_4, RFC 9528) of the handshake that proved the key of a
-- certificate that is to be signed elsewhere.
ALTER TABLE certificates ADD COLUMN transcript BYTEA;

-- ... and whether a list was signed there: then it vouches for the audit trail there, and not for ours.
ALTER TABLE lists ADD COLUMN elsewhere BIGINT NOT NULL DEFAULT 0;
