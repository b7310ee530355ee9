-- Alert rules: what somebody wants to be told of, how each stands, and how far
-- the change log has been looked at for them.

CREATE TABLE alert_rule (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    owner_id     INTEGER NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- The series, or of a group or company the sum of its plants' series.
    unit_id      INTEGER NOT NULL REFERENCES unit (id) ON DELETE CASCADE,
    provider_id  INTEGER NOT NULL REFERENCES provider (id) ON DELETE CASCADE,
    resolution   TEXT    NOT NULL CHECK (resolution IN ('PT15M', 'PT30M', 'PT1H')),
    -- Such as REVISION; kinds to come need no migration.
    kind         TEXT    NOT NULL CHECK (length(kind) BETWEEN 1 AND 50),
    -- A JSON object: what the kind needs.
    parameters   TEXT    NOT NULL,
    -- A JSON object: keys of users and groups, and topics.
    recipients   TEXT    NOT NULL,
    -- A JSON array of channels.
    channels     TEXT    NOT NULL,
    severity     TEXT    NOT NULL CHECK (severity IN ('INFO', 'WARNING', 'CRITICAL')),
    throttle_seconds INTEGER CHECK (throttle_seconds > 0),
    muted_until  TEXT,
    enabled      INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    -- The head of the change log when it was made: what is older is what new
    -- runs are compared with, and never news.
    since_epoch    INTEGER NOT NULL,
    since_position INTEGER NOT NULL,
    created_at   TEXT    NOT NULL,
    updated_at   TEXT    NOT NULL
) STRICT;
CREATE INDEX alert_rule_owner_id ON alert_rule (owner_id, id);
CREATE INDEX alert_rule_unit_id ON alert_rule (unit_id, provider_id);
CREATE INDEX alert_rule_provider_id ON alert_rule (provider_id);
CREATE INDEX alert_rule_kind ON alert_rule (kind);

CREATE TABLE alert_state (
    rule_id       INTEGER PRIMARY KEY REFERENCES alert_rule (id) ON DELETE CASCADE,
    -- A JSON object: what the kind remembers, so that it fires once.
    state         TEXT    NOT NULL,
    firings       INTEGER NOT NULL DEFAULT 0 CHECK (firings >= 0),
    last_fired_at TEXT,
    last_value    REAL
) STRICT;

CREATE TABLE alert_cursor (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    -- The change log has been evaluated up to here.
    epoch      INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    -- Goes up with each write of the cursor and of any rule: what was worked out
    -- under another version counts for nothing.
    version    INTEGER NOT NULL,
    -- When what goes by the clock was last looked at.
    checked_at TEXT    NOT NULL
) STRICT;
INSERT INTO alert_cursor (id, epoch, position, version, checked_at)
SELECT 1, epoch, head, 0, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now') FROM tick ORDER BY id DESC LIMIT 1;
