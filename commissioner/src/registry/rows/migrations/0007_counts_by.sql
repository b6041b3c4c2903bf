-- Version 7: by what a key counts, once it is settled that it is the device's key. Only one key of a device is settled.
--   'nothing'      it is not settled: a first key, a key change that nobody vouched for, a device that was given up
--   'report'       the trusted place reported it, and no certificate is meant: it is active by that
--   'certificate'  it is active from when its certificate is installed
ALTER TABLE keys ADD COLUMN counts_by TEXT NOT NULL DEFAULT 'nothing'
    CHECK (counts_by IN ('nothing', 'report', 'certificate'));

-- What is active was settled. Of those without a certificate, a report made active what was never visited; the others had
-- refused theirs, or wait for it.
UPDATE keys SET counts_by = 'certificate' WHERE status = 'active';
UPDATE keys SET counts_by = 'report' WHERE status = 'active' AND provenance = 'programming' AND proof = 'unproven'
    AND NOT EXISTS (SELECT 1 FROM certificates c WHERE c.x = keys.x);
UPDATE keys SET status = 'pending' WHERE counts_by = 'certificate'
    AND NOT EXISTS (SELECT 1 FROM certificates c WHERE c.x = keys.x AND c.status = 'installed');
