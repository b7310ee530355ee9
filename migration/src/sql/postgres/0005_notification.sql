-- Notifications: who gets them, what they say, and how they leave the server.

CREATE TABLE user_account (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key          text   NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 200),
    name         text   NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    locale       text,
    time_zone    text   NOT NULL DEFAULT 'UTC',
    -- Minutes of the local day, from and until when only what is critical leaves.
    quiet_from   smallint CHECK (quiet_from BETWEEN 0 AND 1439),
    quiet_until  smallint CHECK (quiet_until BETWEEN 0 AND 1439 AND quiet_until <> quiet_from),
    -- Whether what is critical comes although a preference says no.
    critical_overrides boolean NOT NULL DEFAULT true,
    -- Kept by triggers: what count(*) would say, without counting.
    unread_count bigint NOT NULL DEFAULT 0 CHECK (unread_count >= 0),
    CHECK ((quiet_from IS NULL) = (quiet_until IS NULL))
);
COMMENT ON TABLE user_account IS 'Who can be notified; key is what an authenticated caller is called.';

CREATE TABLE user_group (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key  text NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 200),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200)
);
CREATE TABLE user_group_member (
    group_id bigint NOT NULL REFERENCES user_group (id) ON DELETE CASCADE,
    user_id  bigint NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX user_group_member_user_id ON user_group_member (user_id);

CREATE TABLE topic_subscription (
    topic   text   NOT NULL CHECK (length(topic) BETWEEN 1 AND 200),
    user_id bigint NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    PRIMARY KEY (topic, user_id)
);
CREATE INDEX topic_subscription_user_id ON topic_subscription (user_id);
COMMENT ON TABLE topic_subscription IS 'Users who asked for all notifications of a topic.';

-- An empty category or channel stands for all; the most specific row decides,
-- a category before a channel.
CREATE TABLE notification_preference (
    user_id  bigint  NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    category text    NOT NULL DEFAULT '',
    channel  text    NOT NULL DEFAULT '' CHECK (channel IN ('', 'IN_APP', 'EMAIL', 'WEB_PUSH', 'FCM', 'WEBHOOK')),
    enabled  boolean NOT NULL,
    PRIMARY KEY (user_id, category, channel)
);

CREATE TABLE notification_throttle (
    user_id   bigint      NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    group_key text        NOT NULL,
    until     timestamptz NOT NULL,
    -- The one that passed.
    notification_id bigint NOT NULL,
    PRIMARY KEY (user_id, group_key)
);
CREATE INDEX notification_throttle_until ON notification_throttle (until);
COMMENT ON TABLE notification_throttle IS 'Until when a user gets nothing more of a group over channels that leave the server.';

CREATE TABLE endpoint (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id     bigint      NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    channel     text        NOT NULL CHECK (channel IN ('EMAIL', 'WEB_PUSH', 'FCM', 'WEBHOOK')),
    address     text        NOT NULL CHECK (length(address) BETWEEN 1 AND 4096),
    secret      text        NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL,
    disabled_at timestamptz,
    disabled_reason text
);
CREATE INDEX endpoint_user_id ON endpoint (user_id, channel);
-- A browser or device belongs to who registered it last; a user has one mail address.
CREATE UNIQUE INDEX endpoint_device ON endpoint (channel, address) WHERE channel IN ('WEB_PUSH', 'FCM');
CREATE UNIQUE INDEX endpoint_email ON endpoint (user_id) WHERE channel = 'EMAIL';
CREATE UNIQUE INDEX endpoint_webhook ON endpoint (user_id, address) WHERE channel = 'WEBHOOK';
COMMENT ON TABLE endpoint IS 'Where a user is reached on a channel that leaves the server.';

CREATE TABLE notification (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender       text        NOT NULL,
    title        text        NOT NULL,
    body         text        NOT NULL,
    severity     text        NOT NULL CHECK (severity IN ('INFO', 'WARNING', 'CRITICAL')),
    category     text        NOT NULL CHECK (length(category) BETWEEN 1 AND 100),
    data         text,
    link         text,
    -- A JSON array of channels.
    channels     text        NOT NULL,
    template     text,
    variables    text,
    group_key    text,
    throttle_seconds bigint CHECK (throttle_seconds > 0),
    created_at   timestamptz NOT NULL,
    not_before   timestamptz,
    expires_at   timestamptz,
    published_at timestamptz,
    withdrawn_at timestamptz,
    -- REVOKED by who sent it, EXPIRED by itself.
    withdrawal   text CHECK (withdrawal IN ('REVOKED', 'EXPIRED')),
    CHECK ((withdrawn_at IS NULL) = (withdrawal IS NULL))
);
CREATE INDEX notification_scheduled ON notification (not_before) WHERE published_at IS NULL AND withdrawn_at IS NULL;
CREATE INDEX notification_expiring ON notification (expires_at) WHERE expires_at IS NOT NULL AND withdrawn_at IS NULL;
CREATE INDEX notification_created_at ON notification (created_at);

CREATE TABLE notification_attachment (
    notification_id bigint   NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
    ordinal         smallint NOT NULL,
    file_name       text     NOT NULL,
    media_type      text     NOT NULL,
    content         bytea    NOT NULL,
    PRIMARY KEY (notification_id, ordinal)
);

CREATE TABLE notification_recipient (
    notification_id bigint  NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
    user_id         bigint  NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    -- When it came into the user's list; null while it is not there.
    arrived_at      timestamptz,
    read_at         timestamptz,
    deleted_at      timestamptz,
    withdrawn_at    timestamptz,
    PRIMARY KEY (notification_id, user_id)
);
CREATE INDEX notification_recipient_list ON notification_recipient (user_id, arrived_at, notification_id)
    WHERE arrived_at IS NOT NULL AND deleted_at IS NULL AND withdrawn_at IS NULL;
CREATE INDEX notification_recipient_unread ON notification_recipient (user_id, arrived_at, notification_id)
    WHERE arrived_at IS NOT NULL AND read_at IS NULL AND deleted_at IS NULL AND withdrawn_at IS NULL;
-- What was read or deleted by one statement.
CREATE INDEX notification_recipient_read_at ON notification_recipient (user_id, read_at) WHERE read_at IS NOT NULL;
CREATE INDEX notification_recipient_deleted_at ON notification_recipient (user_id, deleted_at) WHERE deleted_at IS NOT NULL;
COMMENT ON TABLE notification_recipient IS 'Whom a notification is for, and what became of it in their list.';

CREATE TABLE delivery (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    notification_id bigint      NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
    user_id         bigint      NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    channel         text        NOT NULL CHECK (channel IN ('EMAIL', 'WEB_PUSH', 'FCM', 'WEBHOOK')),
    -- Null once it is forgotten; then nothing waits for it.
    endpoint_id     bigint      REFERENCES endpoint (id) ON DELETE SET NULL,
    state           text        NOT NULL CHECK (state IN
        ('QUEUED', 'LEASED', 'SENT', 'FAILED', 'DEAD', 'UNKNOWN', 'SUPPRESSED', 'CANCELLED')),
    attempts        integer     NOT NULL DEFAULT 0,
    -- Due from then on, while it is QUEUED or FAILED.
    next_attempt_at timestamptz NOT NULL,
    -- Which lease holds it: what comes of a lease that was taken over counts for nothing.
    leased_by       text,
    leased_until    timestamptz,
    -- Since when it may be on the wire, on channels where it must not be there twice.
    begun_at        timestamptz,
    created_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    answer          text,
    last_error      text
);
CREATE INDEX delivery_due ON delivery (channel, next_attempt_at, id) WHERE state IN ('QUEUED', 'FAILED');
CREATE INDEX delivery_leased ON delivery (channel, leased_until, user_id) WHERE state = 'LEASED';
CREATE INDEX delivery_notification_id ON delivery (notification_id, id);
CREATE INDEX delivery_user_id ON delivery (user_id, id);
CREATE INDEX delivery_endpoint_id ON delivery (endpoint_id);
CREATE INDEX delivery_state ON delivery (state, id);
COMMENT ON TABLE delivery IS 'One notification for one user at one endpoint, and what came of it.';

-- What all replicas sign with, drawn by the first that needs it.
CREATE TABLE server_secret (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- One change a notification that came or was withdrawn, and one a user whose
-- notifications were read or deleted; never one a recipient. And the exact
-- count of what is unread, by what each statement did to it.
CREATE FUNCTION notification_unread(r notification_recipient) RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$ SELECT r.arrived_at IS NOT NULL AND r.read_at IS NULL AND r.deleted_at IS NULL AND r.withdrawn_at IS NULL $$;

DO $do$
DECLARE
    operation text;
    arrived   text;
    counted   text;
BEGIN
    FOR operation, arrived, counted IN VALUES
        ('insert',
         'SELECT n.notification_id, n.user_id FROM new_rows n WHERE n.arrived_at IS NOT NULL',
         'SELECT n.user_id, 1 AS delta FROM new_rows n WHERE notification_unread(n)'),
        ('update',
         'SELECT n.notification_id, n.user_id FROM new_rows n JOIN old_rows o USING (notification_id, user_id)
          WHERE n.arrived_at IS NOT NULL AND o.arrived_at IS NULL',
         'SELECT n.user_id, notification_unread(n)::int - notification_unread(o)::int AS delta
          FROM new_rows n JOIN old_rows o USING (notification_id, user_id)
          WHERE notification_unread(n) <> notification_unread(o)'),
        ('delete',
         'SELECT o.notification_id, o.user_id FROM old_rows o WHERE false',
         'SELECT o.user_id, -1 AS delta FROM old_rows o WHERE notification_unread(o)')
    LOOP
        EXECUTE format($f$
            CREATE FUNCTION capture_notification_recipient_%1$s() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
            AS $$
            BEGIN
                -- Planned each time, for as many rows as there are now: a plan that was made
                -- for one row and kept would look up ten thousand one by one in one another.
                -- Always in the same order, so that two statements cannot wait for each other.
                EXECUTE $q$
                    SELECT count(*) FROM (
                        SELECT 1 FROM user_account WHERE id IN (SELECT c.user_id FROM (%3$s) c) ORDER BY id FOR NO KEY UPDATE) l
                $q$;
                EXECUTE $q$
                    UPDATE user_account u SET unread_count = u.unread_count + c.delta
                    FROM (SELECT c.user_id, sum(c.delta) AS delta FROM (%3$s) c GROUP BY c.user_id) c WHERE u.id = c.user_id
                $q$;
                EXECUTE $q$
                    INSERT INTO change (entity, operation, notification_id, user_id)
                    SELECT 'NOTIFICATION', 'INSERT', a.notification_id, CASE WHEN count(*) = 1 THEN min(a.user_id) END
                    FROM (%2$s) a GROUP BY a.notification_id ORDER BY a.notification_id
                $q$;
                %4$s
                RETURN NULL;
            END
            $$ $f$, operation, arrived, counted,
            CASE operation
            WHEN 'update' THEN $u$
                EXECUTE $q$
                INSERT INTO change (entity, operation, notification_id, user_id)
                SELECT 'NOTIFICATION', 'DELETE', n.notification_id, CASE WHEN count(*) = 1 THEN min(n.user_id) END
                FROM new_rows n JOIN old_rows o USING (notification_id, user_id)
                WHERE n.withdrawn_at IS NOT NULL AND o.withdrawn_at IS NULL AND o.arrived_at IS NOT NULL
                GROUP BY n.notification_id ORDER BY n.notification_id
                $q$;
                EXECUTE $q$
                INSERT INTO change (entity, operation, user_id, marked_at)
                SELECT 'NOTIFICATION', 'UPDATE', n.user_id, n.read_at
                FROM new_rows n JOIN old_rows o USING (notification_id, user_id)
                WHERE n.read_at IS NOT NULL AND o.read_at IS NULL
                GROUP BY n.user_id, n.read_at ORDER BY n.user_id
                $q$;
                EXECUTE $q$
                INSERT INTO change (entity, operation, user_id, marked_at)
                SELECT 'NOTIFICATION', 'DELETE', n.user_id, n.deleted_at
                FROM new_rows n JOIN old_rows o USING (notification_id, user_id)
                WHERE n.deleted_at IS NOT NULL AND o.deleted_at IS NULL
                GROUP BY n.user_id, n.deleted_at ORDER BY n.user_id
                $q$;
            $u$
            WHEN 'delete' THEN $d$
                EXECUTE $q$
                INSERT INTO change (entity, operation, user_id)
                SELECT DISTINCT 'NOTIFICATION', 'DELETE', o.user_id
                FROM old_rows o JOIN user_account u ON u.id = o.user_id
                -- What goes with its notification has been there too long for anybody to be told.
                JOIN notification n ON n.id = o.notification_id
                WHERE o.arrived_at IS NOT NULL AND o.deleted_at IS NULL AND o.withdrawn_at IS NULL
                $q$;
            $d$
            ELSE '' END);
    END LOOP;
END
$do$;

CREATE TRIGGER capture_insert AFTER INSERT ON notification_recipient
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION capture_notification_recipient_insert();
CREATE TRIGGER capture_update AFTER UPDATE ON notification_recipient
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION capture_notification_recipient_update();
CREATE TRIGGER capture_delete AFTER DELETE ON notification_recipient
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION capture_notification_recipient_delete();

CREATE FUNCTION notification_recipient_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
BEGIN
    UPDATE user_account SET unread_count = 0 WHERE unread_count <> 0;
    INSERT INTO change (entity, operation) VALUES ('NOTIFICATION', 'RESYNC');
    RETURN NULL;
END
$$;
CREATE TRIGGER resync AFTER TRUNCATE ON notification_recipient
    FOR EACH STATEMENT EXECUTE FUNCTION notification_recipient_truncated();
