-- The change log: what was committed, and each change's position. Triggers
-- write it, so that no code path can forget it and a plain SQL write of another
-- program is seen like our own. Our transactions number their rows before they
-- commit (there is one writer at a time); a timer numbers those of others.

CREATE TABLE change (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    position     INTEGER CHECK (position > 0),
    entity       TEXT NOT NULL CHECK (entity IN ('UNIT', 'PROVIDER', 'FORECAST', 'NOTIFICATION')),
    operation    TEXT NOT NULL CHECK (operation IN ('INSERT', 'UPDATE', 'DELETE', 'RESYNC')),
    unit_type    TEXT,
    unit_number  INTEGER,
    provider_key TEXT,
    resolution   TEXT,
    series_id    INTEGER,
    run_id       INTEGER,
    -- The touched delivery range, half-open, within one UTC month.
    range_start  TEXT,
    range_end    TEXT,
    notification_id INTEGER,
    -- Whose; of a notification for several, null.
    user_id      INTEGER,
    -- The instant that the touched rows of the user were marked with.
    marked_at    TEXT,
    changed_at   TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
) STRICT;
-- Partial, so that it never serves a search for rows without a position.
CREATE UNIQUE INDEX change_position ON change (position) WHERE position IS NOT NULL;
CREATE INDEX change_unnumbered ON change (id) WHERE position IS NULL;

-- One row: the head of the log. A restore begins a new epoch.
CREATE TABLE tick (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    epoch     INTEGER NOT NULL,
    head      INTEGER NOT NULL,
    ticked_at TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
) STRICT;
INSERT INTO tick (id, epoch, head) VALUES (1, random() & 2147483647, 0);

-- Reference data: one change a touched row. Another key voids everything that
-- was known under the old one.

CREATE TRIGGER unit_inserted AFTER INSERT ON unit BEGIN
    INSERT INTO change (entity, operation, unit_type, unit_number) VALUES ('UNIT', 'INSERT', NEW.unit_type, NEW.unit_number);
END;
CREATE TRIGGER unit_updated AFTER UPDATE ON unit
WHEN OLD.name IS NOT NEW.name OR OLD.time_zone IS NOT NEW.time_zone OR OLD.parent_id IS NOT NEW.parent_id BEGIN
    INSERT INTO change (entity, operation, unit_type, unit_number) VALUES ('UNIT', 'UPDATE', NEW.unit_type, NEW.unit_number);
END;
CREATE TRIGGER unit_rekeyed AFTER UPDATE ON unit
WHEN OLD.id IS NOT NEW.id OR OLD.unit_type IS NOT NEW.unit_type OR OLD.unit_number IS NOT NEW.unit_number BEGIN
    INSERT INTO change (entity, operation) VALUES ('UNIT', 'RESYNC');
END;
CREATE TRIGGER unit_deleted AFTER DELETE ON unit BEGIN
    INSERT INTO change (entity, operation, unit_type, unit_number) VALUES ('UNIT', 'DELETE', OLD.unit_type, OLD.unit_number);
END;

CREATE TRIGGER unit_capacity_inserted AFTER INSERT ON unit_capacity BEGIN
    INSERT INTO change (entity, operation, unit_type, unit_number)
    SELECT 'UNIT', 'UPDATE', unit_type, unit_number FROM unit WHERE id = NEW.unit_id;
END;
CREATE TRIGGER unit_capacity_updated AFTER UPDATE ON unit_capacity
WHEN OLD.unit_id IS NOT NEW.unit_id OR OLD.valid_from IS NOT NEW.valid_from OR OLD.capacity_mw IS NOT NEW.capacity_mw BEGIN
    INSERT INTO change (entity, operation, unit_type, unit_number)
    SELECT 'UNIT', 'UPDATE', unit_type, unit_number FROM unit WHERE id IN (OLD.unit_id, NEW.unit_id);
END;
CREATE TRIGGER unit_capacity_deleted AFTER DELETE ON unit_capacity BEGIN
    INSERT INTO change (entity, operation, unit_type, unit_number)
    SELECT 'UNIT', 'UPDATE', unit_type, unit_number FROM unit WHERE id = OLD.unit_id;
END;

CREATE TRIGGER provider_inserted AFTER INSERT ON provider BEGIN
    INSERT INTO change (entity, operation, provider_key) VALUES ('PROVIDER', 'INSERT', NEW.key);
END;
CREATE TRIGGER provider_updated AFTER UPDATE ON provider WHEN OLD.name IS NOT NEW.name BEGIN
    INSERT INTO change (entity, operation, provider_key) VALUES ('PROVIDER', 'UPDATE', NEW.key);
END;
CREATE TRIGGER provider_rekeyed AFTER UPDATE ON provider WHEN OLD.id IS NOT NEW.id OR OLD.key IS NOT NEW.key BEGIN
    INSERT INTO change (entity, operation) VALUES ('PROVIDER', 'RESYNC');
END;
CREATE TRIGGER provider_deleted AFTER DELETE ON provider BEGIN
    INSERT INTO change (entity, operation, provider_key) VALUES ('PROVIDER', 'DELETE', OLD.key);
END;

-- Series are drawn once and never change; whoever rewrites them by hand voids what is cached.
CREATE TRIGGER series_updated AFTER UPDATE ON series BEGIN
    INSERT INTO change (entity, operation) VALUES ('FORECAST', 'RESYNC');
END;
CREATE TRIGGER series_deleted AFTER DELETE ON series BEGIN
    INSERT INTO change (entity, operation) VALUES ('FORECAST', 'RESYNC');
END;
