-- One file per partition: everything a partition's fold makes, moved together with its offset.
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- The rows the mapping needs. dossier: key of the dossier it belongs to, NULL for reference rows and orphans.
-- snapshot: number of the last snapshot that read it, or of the one that was open when it changed.
CREATE TABLE IF NOT EXISTS rows (
    tbl TEXT NOT NULL, key TEXT NOT NULL, dossier TEXT, data BLOB NOT NULL, snapshot INTEGER NOT NULL,
    PRIMARY KEY (tbl, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rows_of_dossier ON rows (dossier, tbl) WHERE dossier IS NOT NULL;

-- Reference rows by the columns the mapping looks them up with.
CREATE TABLE IF NOT EXISTS lookups (
    tbl TEXT NOT NULL, col TEXT NOT NULL, value TEXT NOT NULL, key TEXT NOT NULL,
    PRIMARY KEY (tbl, col, value, key)
) WITHOUT ROWID;

-- What EMC has been told of each dossier, or is taken as told.
CREATE TABLE IF NOT EXISTS told (dossier TEXT PRIMARY KEY, told BLOB NOT NULL) WITHOUT ROWID;

-- Dossiers that owe an event which cannot be made yet.
CREATE TABLE IF NOT EXISTS held (
    dossier TEXT PRIMARY KEY, code TEXT NOT NULL, reason TEXT NOT NULL, since REAL NOT NULL
) WITHOUT ROWID;

-- Outbox and ledger. state: waiting, sent (an attempt is out), delivered, parked.
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, dossier TEXT NOT NULL, code TEXT NOT NULL, status INTEGER NOT NULL, event BLOB NOT NULL,
    state TEXT NOT NULL, position TEXT NOT NULL, transaction_id TEXT, mapping TEXT NOT NULL,
    commit_time_us INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, ambiguous INTEGER NOT NULL DEFAULT 0,
    sent_at REAL, ended_at REAL, reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS events_open ON events (dossier, id) WHERE state <> 'delivered';
CREATE INDEX IF NOT EXISTS events_done ON events (ended_at) WHERE state = 'delivered';
