-- One file per partition: everything a partition's fold makes, moved together with its offset.
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- The rows the mapping needs. dossier: key of the dossier it belongs to, NULL for reference rows and orphans.
-- snapshot: number of the last snapshot that read it, or of the one that was the latest when it changed.
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
CREATE INDEX IF NOT EXISTS lookups_of_row ON lookups (tbl, key);

-- What EMC has been told of each dossier, or is taken as told.
CREATE TABLE IF NOT EXISTS told (dossier TEXT PRIMARY KEY, told BLOB NOT NULL) WITHOUT ROWID;

-- Dossiers that owe an event which cannot be made yet. since_us: commit time, microseconds since the epoch.
CREATE TABLE IF NOT EXISTS held (
    dossier TEXT PRIMARY KEY, code TEXT NOT NULL, reason TEXT NOT NULL, since_us INTEGER NOT NULL
) WITHOUT ROWID;

-- While a snapshot is read: the dossiers that are judged at its end, and those that the stream has brought since its begin.
CREATE TABLE IF NOT EXISTS waiting (dossier TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS born (dossier TEXT PRIMARY KEY) WITHOUT ROWID;

-- Outbox and ledger. state: waiting, sent (an attempt is out), delivered, parked.
-- position, transaction_id, commit_time_us, mapping: why it was due; attempts: begun; ambiguous: how many of them
-- EMC may have taken without our knowing; sent_at, ended_at: seconds since the epoch, of the last attempt and of the end;
-- ordinal: number of the event, from 1, among those of its position; (position, ordinal) rises with id, and names the event
-- also in a state that was made anew;
-- recovered: 1 when it is due by what a snapshot has found, after a gap of the stream.
-- reason: of the last failure; detail: what EMC said, which may name a person and is shown to operators only.
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, dossier TEXT NOT NULL, code TEXT NOT NULL, status INTEGER NOT NULL, event TEXT NOT NULL,
    state TEXT NOT NULL, position TEXT NOT NULL, transaction_id TEXT, mapping TEXT NOT NULL,
    commit_time_us INTEGER NOT NULL, attempts INTEGER NOT NULL, ambiguous INTEGER NOT NULL,
    sent_at REAL, ended_at REAL, reason TEXT NOT NULL, detail TEXT NOT NULL, recovered INTEGER NOT NULL DEFAULT 0,
    ordinal INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS events_open ON events (state, id) WHERE state <> 'delivered';
CREATE INDEX IF NOT EXISTS events_open_of_dossier ON events (dossier) WHERE state <> 'delivered';
CREATE INDEX IF NOT EXISTS events_done ON events (ended_at) WHERE state = 'delivered';
CREATE INDEX IF NOT EXISTS events_ambiguous ON events (id) WHERE ambiguous > 0;
CREATE INDEX IF NOT EXISTS events_recovered ON events (id) WHERE recovered > 0;

-- Which of these rows changed since it was last recorded (connector.delivery.journal): tbl is told, held, waiting, born or
-- events, key its primary key.
CREATE TABLE IF NOT EXISTS journal (seq INTEGER PRIMARY KEY AUTOINCREMENT, tbl TEXT NOT NULL, key TEXT NOT NULL);
