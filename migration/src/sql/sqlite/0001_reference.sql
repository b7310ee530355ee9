-- Instants are text of one fixed width in UTC, microseconds included, so that
-- they sort as text; the checks hold every writer to it.

CREATE TABLE unit (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    unit_type   TEXT    NOT NULL CHECK (unit_type IN ('COMPANY', 'GROUP', 'PLANT')),
    unit_number INTEGER NOT NULL CHECK (unit_number > 0),
    name        TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    time_zone   TEXT    NOT NULL,
    parent_id   INTEGER REFERENCES unit (id) ON DELETE SET NULL CHECK (parent_id <> id),
    UNIQUE (unit_type, unit_number)
) STRICT;
CREATE INDEX unit_parent_id ON unit (parent_id);

CREATE TABLE unit_capacity (
    unit_id     INTEGER NOT NULL REFERENCES unit (id) ON DELETE CASCADE,
    valid_from  TEXT    NOT NULL CHECK (valid_from GLOB '[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z'),
    capacity_mw REAL    NOT NULL CHECK (capacity_mw >= 0 AND capacity_mw < 9e999),
    PRIMARY KEY (unit_id, valid_from)
) STRICT;

CREATE TABLE provider (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    key  TEXT    NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 64 AND key NOT GLOB '*[^a-z0-9._-]*' AND key GLOB '[a-z0-9]*'),
    name TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 200)
) STRICT;

CREATE TABLE series (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    unit_id     INTEGER NOT NULL REFERENCES unit (id),
    provider_id INTEGER NOT NULL REFERENCES provider (id),
    resolution  TEXT    NOT NULL CHECK (resolution IN ('PT15M', 'PT30M', 'PT1H')),
    level       TEXT    NOT NULL DEFAULT 'EXPECTED' CHECK (level = 'EXPECTED' OR level GLOB 'P[1-9]' OR level GLOB 'P[1-9][0-9]'),
    UNIQUE (unit_id, provider_id, resolution, level)
) STRICT;
CREATE INDEX series_provider_id ON series (provider_id);

CREATE TABLE idempotency_key (
    viewer       TEXT NOT NULL,
    key          TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    request_hash TEXT NOT NULL,
    response     TEXT NOT NULL,
    created_at   TEXT NOT NULL CHECK (created_at GLOB '[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z'),
    PRIMARY KEY (viewer, key)
) STRICT;
CREATE INDEX idempotency_key_created_at ON idempotency_key (created_at);
