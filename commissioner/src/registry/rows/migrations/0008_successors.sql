-- Version 8: what there is to say of a key that is not settled.
--   'nothing'      nobody vouches for it: a first key, or a key change
--   'word'         its device made it when we asked for it, under a key that was ours and does not count: it waits for the user
--   'given-up'     it was settled until the device was given up
--   'report'       the trusted place reported it, and no certificate is meant: it is active by that
--   'certificate'  it is active from when its certificate is installed
ALTER TABLE keys RENAME COLUMN counts_by TO counted_by;
ALTER TABLE keys ADD COLUMN counts_by TEXT NOT NULL DEFAULT 'nothing'
    CHECK (counts_by IN ('nothing', 'word', 'given-up', 'report', 'certificate'));
UPDATE keys SET counts_by = counted_by;
ALTER TABLE keys DROP COLUMN counted_by;

-- What was given up is in the trail.
UPDATE keys SET counts_by = 'given-up' WHERE status = 'pending' AND counts_by = 'nothing' AND EXISTS (
    SELECT 1 FROM audit WHERE audit.device = keys.device AND event = 'released'
    AND payload = '{"key":"' || keys.thumbprint || '"}');
