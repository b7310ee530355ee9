-- Notifications: who gets them, what they say, and how they leave the server.

CREATE TABLE user_account (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    key          TEXT   NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 200),
    name         TEXT   NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    locale       TEXT,
    time_zone    TEXT   NOT NULL DEFAULT 'UTC',
    -- Minutes of the local day, from and until when only what is critical leaves.
    quiet_from   INTEGER CHECK (quiet_from BETWEEN 0 AND 1439),
    quiet_until  INTEGER CHECK (quiet_until BETWEEN 0 AND 1439 AND quiet_until <> quiet_from),
    -- Whether what is critical comes although a preference says no.
    critical_overrides INTEGER NOT NULL DEFAULT 1 CHECK (critical_overrides IN (0, 1)),
    -- Kept by triggers: what count(*) would say, without counting.
    unread_count INTEGER NOT NULL DEFAULT 0 CHECK (unread_count >= 0),
    CHECK ((quiet_from IS NULL) = (quiet_until IS NULL))
) STRICT;

CREATE TABLE user_group (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    key  TEXT NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 200),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 200)
) STRICT;
CREATE TABLE user_group_member (
    group_id INTEGER NOT NULL REFERENCES user_group (id) ON DELETE CASCADE,
    user_id  INTEGER NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, user_id)
) STRICT;
CREATE INDEX user_group_member_user_id ON user_group_member (user_id);

CREATE TABLE topic_subscription (
    topic   TEXT   NOT NULL CHECK (length(topic) BETWEEN 1 AND 200),
    user_id INTEGER NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    PRIMARY KEY (topic, user_id)
) STRICT;
CREATE INDEX topic_subscription_user_id ON topic_subscription (user_id);

-- An empty category or channel stands for all; the most specific row decides,
-- a category before a channel.
CREATE TABLE notification_preference (
    user_id  INTEGER  NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    category TEXT    NOT NULL DEFAULT '',
    channel  TEXT    NOT NULL DEFAULT '' CHECK (channel IN ('', 'IN_APP', 'EMAIL', 'WEB_PUSH', 'FCM', 'WEBHOOK')),
    enabled  INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    PRIMARY KEY (user_id, category, channel)
) STRICT;

CREATE TABLE notification_throttle (
    user_id   INTEGER      NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    group_key TEXT        NOT NULL,
    until     TEXT NOT NULL,
    -- The one that passed.
    notification_id INTEGER NOT NULL,
    PRIMARY KEY (user_id, group_key)
) STRICT;
CREATE INDEX notification_throttle_until ON notification_throttle (until);

CREATE TABLE endpoint (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id     INTEGER      NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    channel     TEXT        NOT NULL CHECK (channel IN ('EMAIL', 'WEB_PUSH', 'FCM', 'WEBHOOK')),
    address     TEXT        NOT NULL CHECK (length(address) BETWEEN 1 AND 4096),
    secret      TEXT        NOT NULL DEFAULT '{}',
    created_at  TEXT NOT NULL,
    disabled_at TEXT,
    disabled_reason TEXT
) STRICT;
CREATE INDEX endpoint_user_id ON endpoint (user_id, channel);
-- A browser or device belongs to who registered it last; a user has one mail address.
CREATE UNIQUE INDEX endpoint_device ON endpoint (channel, address) WHERE channel IN ('WEB_PUSH', 'FCM');
CREATE UNIQUE INDEX endpoint_email ON endpoint (user_id) WHERE channel = 'EMAIL';
CREATE UNIQUE INDEX endpoint_webhook ON endpoint (user_id, address) WHERE channel = 'WEBHOOK';

CREATE TABLE notification (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    sender       TEXT        NOT NULL,
    title        TEXT        NOT NULL,
    body         TEXT        NOT NULL,
    severity     TEXT        NOT NULL CHECK (severity IN ('INFO', 'WARNING', 'CRITICAL')),
    category     TEXT        NOT NULL CHECK (length(category) BETWEEN 1 AND 100),
    data         TEXT,
    link         TEXT,
    -- A JSON array of channels.
    channels     TEXT        NOT NULL,
    template     TEXT,
    variables    TEXT,
    group_key    TEXT,
    throttle_seconds INTEGER CHECK (throttle_seconds > 0),
    created_at   TEXT NOT NULL,
    not_before   TEXT,
    expires_at   TEXT,
    published_at TEXT,
    withdrawn_at TEXT,
    -- REVOKED by who sent it, EXPIRED by itself.
    withdrawal   TEXT CHECK (withdrawal IN ('REVOKED', 'EXPIRED')),
    CHECK ((withdrawn_at IS NULL) = (withdrawal IS NULL))
) STRICT;
CREATE INDEX notification_scheduled ON notification (not_before) WHERE published_at IS NULL AND withdrawn_at IS NULL;
CREATE INDEX notification_expiring ON notification (expires_at) WHERE expires_at IS NOT NULL AND withdrawn_at IS NULL;
CREATE INDEX notification_created_at ON notification (created_at);

CREATE TABLE notification_attachment (
    notification_id INTEGER   NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
    ordinal         INTEGER NOT NULL,
    file_name       TEXT     NOT NULL,
    media_type      TEXT     NOT NULL,
    content         BLOB    NOT NULL,
    PRIMARY KEY (notification_id, ordinal)
) STRICT;

CREATE TABLE notification_recipient (
    notification_id INTEGER  NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
    user_id         INTEGER  NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    -- When it came into the user's list; null while it is not there.
    arrived_at      TEXT,
    read_at         TEXT,
    deleted_at      TEXT,
    withdrawn_at    TEXT,
    PRIMARY KEY (notification_id, user_id)
) STRICT;
CREATE INDEX notification_recipient_list ON notification_recipient (user_id, arrived_at, notification_id)
    WHERE arrived_at IS NOT NULL AND deleted_at IS NULL AND withdrawn_at IS NULL;
CREATE INDEX notification_recipient_unread ON notification_recipient (user_id, arrived_at, notification_id)
    WHERE arrived_at IS NOT NULL AND read_at IS NULL AND deleted_at IS NULL AND withdrawn_at IS NULL;
-- What was read or deleted by one statement.
CREATE INDEX notification_recipient_read_at ON notification_recipient (user_id, read_at) WHERE read_at IS NOT NULL;
CREATE INDEX notification_recipient_deleted_at ON notification_recipient (user_id, deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE delivery (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    notification_id INTEGER      NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
    user_id         INTEGER      NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    channel         TEXT        NOT NULL CHECK (channel IN ('EMAIL', 'WEB_PUSH', 'FCM', 'WEBHOOK')),
    -- Null once it is forgotten; then nothing waits for it.
    endpoint_id     INTEGER REFERENCES endpoint (id) ON DELETE SET NULL,
    state           TEXT        NOT NULL CHECK (state IN
        ('QUEUED', 'LEASED', 'SENT', 'FAILED', 'DEAD', 'UNKNOWN', 'SUPPRESSED', 'CANCELLED')),
    attempts        INTEGER     NOT NULL DEFAULT 0,
    -- Due from then on, while it is QUEUED or FAILED.
    next_attempt_at TEXT NOT NULL,
    -- Which lease holds it: what comes of a lease that was taken over counts for nothing.
    leased_by       TEXT,
    leased_until    TEXT,
    -- Since when it may be on the wire, on channels where it must not be there twice.
    begun_at        TEXT,
    created_at      TEXT NOT NULL,
    finished_at     TEXT,
    answer          TEXT,
    last_error      TEXT
) STRICT;
CREATE INDEX delivery_due ON delivery (channel, next_attempt_at, id) WHERE state IN ('QUEUED', 'FAILED');
CREATE INDEX delivery_leased ON delivery (channel, leased_until, user_id) WHERE state = 'LEASED';
CREATE INDEX delivery_notification_id ON delivery (notification_id, id);
CREATE INDEX delivery_user_id ON delivery (user_id, id);
CREATE INDEX delivery_endpoint_id ON delivery (endpoint_id);
CREATE INDEX delivery_state ON delivery (state, id);

-- What all replicas sign with, drawn by the first that needs it.
CREATE TABLE server_secret (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- Rows of one statement look for the change that they fold into.
CREATE INDEX change_unnumbered_notification ON change (notification_id) WHERE position IS NULL AND notification_id IS NOT NULL;

-- One change a notification that came or was withdrawn, and one a user whose
-- notifications were read or deleted; never one a recipient: rows fold into a
-- change that has no position yet. And the exact count of what is unread.

CREATE TRIGGER notification_recipient_inserted AFTER INSERT ON notification_recipient
WHEN NEW.arrived_at IS NOT NULL BEGIN
    UPDATE user_account SET unread_count = unread_count + 1
    WHERE id = NEW.user_id AND NEW.read_at IS NULL AND NEW.deleted_at IS NULL AND NEW.withdrawn_at IS NULL;
    UPDATE change SET user_id = NULL
    WHERE position IS NULL AND entity = 'NOTIFICATION' AND operation = 'INSERT' AND notification_id = NEW.notification_id AND user_id IS NOT NULL;
    INSERT INTO change (entity, operation, notification_id, user_id)
    SELECT 'NOTIFICATION', 'INSERT', NEW.notification_id, NEW.user_id
    WHERE NOT EXISTS (SELECT 1 FROM change
        WHERE position IS NULL AND entity = 'NOTIFICATION' AND operation = 'INSERT' AND notification_id = NEW.notification_id);
END;

CREATE TRIGGER notification_recipient_counted AFTER UPDATE ON notification_recipient
WHEN (NEW.arrived_at IS NOT NULL AND NEW.read_at IS NULL AND NEW.deleted_at IS NULL AND NEW.withdrawn_at IS NULL)
  <> (OLD.arrived_at IS NOT NULL AND OLD.read_at IS NULL AND OLD.deleted_at IS NULL AND OLD.withdrawn_at IS NULL) BEGIN
    UPDATE user_account SET unread_count = unread_count
        + CASE WHEN NEW.arrived_at IS NOT NULL AND NEW.read_at IS NULL AND NEW.deleted_at IS NULL AND NEW.withdrawn_at IS NULL
          THEN 1 ELSE -1 END
    WHERE id = NEW.user_id;
END;

CREATE TRIGGER notification_recipient_arrived AFTER UPDATE ON notification_recipient
WHEN NEW.arrived_at IS NOT NULL AND OLD.arrived_at IS NULL BEGIN
    UPDATE change SET user_id = NULL
    WHERE position IS NULL AND entity = 'NOTIFICATION' AND operation = 'INSERT' AND notification_id = NEW.notification_id AND user_id IS NOT NULL;
    INSERT INTO change (entity, operation, notification_id, user_id)
    SELECT 'NOTIFICATION', 'INSERT', NEW.notification_id, NEW.user_id
    WHERE NOT EXISTS (SELECT 1 FROM change
        WHERE position IS NULL AND entity = 'NOTIFICATION' AND operation = 'INSERT' AND notification_id = NEW.notification_id);
END;

CREATE TRIGGER notification_recipient_withdrawn AFTER UPDATE ON notification_recipient
WHEN NEW.withdrawn_at IS NOT NULL AND OLD.withdrawn_at IS NULL AND OLD.arrived_at IS NOT NULL BEGIN
    UPDATE change SET user_id = NULL
    WHERE position IS NULL AND entity = 'NOTIFICATION' AND operation = 'DELETE' AND notification_id = NEW.notification_id AND user_id IS NOT NULL;
    INSERT INTO change (entity, operation, notification_id, user_id)
    SELECT 'NOTIFICATION', 'DELETE', NEW.notification_id, NEW.user_id
    WHERE NOT EXISTS (SELECT 1 FROM change
        WHERE position IS NULL AND entity = 'NOTIFICATION' AND operation = 'DELETE' AND notification_id = NEW.notification_id);
END;

CREATE TRIGGER notification_recipient_read AFTER UPDATE ON notification_recipient
WHEN NEW.read_at IS NOT NULL AND OLD.read_at IS NULL BEGIN
    INSERT INTO change (entity, operation, user_id, marked_at)
    SELECT 'NOTIFICATION', 'UPDATE', NEW.user_id, NEW.read_at
    WHERE NOT EXISTS (SELECT 1 FROM change WHERE position IS NULL AND entity = 'NOTIFICATION' AND operation = 'UPDATE'
        AND user_id = NEW.user_id AND marked_at = NEW.read_at);
END;

CREATE TRIGGER notification_recipient_removed AFTER UPDATE ON notification_recipient
WHEN NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL BEGIN
    INSERT INTO change (entity, operation, user_id, marked_at)
    SELECT 'NOTIFICATION', 'DELETE', NEW.user_id, NEW.deleted_at
    WHERE NOT EXISTS (SELECT 1 FROM change WHERE position IS NULL AND entity = 'NOTIFICATION' AND operation = 'DELETE'
        AND notification_id IS NULL AND user_id = NEW.user_id AND marked_at = NEW.deleted_at);
END;

CREATE TRIGGER notification_recipient_deleted AFTER DELETE ON notification_recipient
WHEN OLD.arrived_at IS NOT NULL AND OLD.deleted_at IS NULL AND OLD.withdrawn_at IS NULL BEGIN
    UPDATE user_account SET unread_count = unread_count - 1 WHERE id = OLD.user_id AND OLD.read_at IS NULL;
    INSERT INTO change (entity, operation, user_id)
    SELECT 'NOTIFICATION', 'DELETE', OLD.user_id
    WHERE EXISTS (SELECT 1 FROM user_account WHERE id = OLD.user_id)
    -- What goes with its notification has been there too long for anybody to be told.
    AND EXISTS (SELECT 1 FROM notification WHERE id = OLD.notification_id)
    AND NOT EXISTS (SELECT 1 FROM change WHERE position IS NULL AND entity = 'NOTIFICATION' AND operation = 'DELETE'
        AND notification_id IS NULL AND user_id = OLD.user_id AND marked_at IS NULL);
END;
