-- Version 5: the histories of other state directories of the same issuer.

-- Their entries, but for those that are in our own trail, too. An entry `imported` of our own trail names the end of each
-- chain, so that none of them can be changed or dropped unseen.
CREATE TABLE imported (
    hash TEXT PRIMARY KEY NOT NULL,
    seq BIGINT NOT NULL,
    time BIGINT NOT NULL,
    device TEXT NOT NULL,
    event TEXT NOT NULL,
    payload TEXT NOT NULL,
    previous TEXT NOT NULL
);

CREATE INDEX imported_by_device ON imported (device, time);
