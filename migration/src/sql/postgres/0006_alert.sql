-- Alert rules: what somebody wants to be told of, how each stands, and how far
-- the change log has been looked at for them.

CREATE TABLE alert_rule (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id     bigint      NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    name         text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- The series, or of a group or company the sum of its plants' series.
    unit_id      bigint      NOT NULL REFERENCES unit (id) ON DELETE CASCADE,
    provider_id  bigint      NOT NULL REFERENCES provider (id) ON DELETE CASCADE,
    resolution   text        NOT NULL CHECK (resolution IN ('PT15M', 'PT30M', 'PT1H')),
    -- Such as REVISION; kinds to come need no migration.
    kind         text        NOT NULL CHECK (length(kind) BETWEEN 1 AND 50),
    -- A JSON object: what the kind needs.
    parameters   text        NOT NULL,
    -- A JSON object: keys of users and groups, and topics.
    recipients   text        NOT NULL,
    -- A JSON array of channels.
    channels     text        NOT NULL,
    severity     text        NOT NULL CHECK (severity IN ('INFO', 'WARNING', 'CRITICAL')),
    throttle_seconds bigint  CHECK (throttle_seconds > 0),
    muted_until  timestamptz,
    enabled      boolean     NOT NULL DEFAULT true,
    -- The head of the change log when it was made: what is older is what new
    -- runs are compared with, and never news.
    since_epoch    bigint    NOT NULL,
    since_position bigint    NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL
);
CREATE INDEX alert_rule_owner_id ON alert_rule (owner_id, id);
CREATE INDEX alert_rule_unit_id ON alert_rule (unit_id, provider_id);
CREATE INDEX alert_rule_provider_id ON alert_rule (provider_id);
CREATE INDEX alert_rule_kind ON alert_rule (kind);
COMMENT ON TABLE alert_rule IS 'What somebody wants to be told of.';

CREATE TABLE alert_state (
    rule_id       bigint PRIMARY KEY REFERENCES alert_rule (id) ON DELETE CASCADE,
    -- A JSON object: what the kind remembers, so that it fires once.
    state         text   NOT NULL,
    firings       bigint NOT NULL DEFAULT 0 CHECK (firings >= 0),
    last_fired_at timestamptz,
    last_value    double precision
);
COMMENT ON TABLE alert_state IS 'How a rule stands; a rule without a row has not fired since it was made or changed.';

CREATE TABLE alert_cursor (
    id         smallint    PRIMARY KEY CHECK (id = 1),
    -- The change log has been evaluated up to here.
    epoch      bigint      NOT NULL,
    position   bigint      NOT NULL,
    -- Goes up with each write of the cursor and of any rule: what was worked out
    -- under another version counts for nothing.
    version    bigint      NOT NULL,
    -- When what goes by the clock was last looked at.
    checked_at timestamptz NOT NULL
);
INSERT INTO alert_cursor (id, epoch, position, version, checked_at)
SELECT 1, epoch, head, 0, clock_timestamp() FROM tick ORDER BY id DESC LIMIT 1;
COMMENT ON TABLE alert_cursor IS 'One row: up to where the change log has been evaluated, for all replicas.';
