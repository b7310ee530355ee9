CREATE TABLE unit (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    unit_type   text   NOT NULL CHECK (unit_type IN ('COMPANY', 'GROUP', 'PLANT')),
    unit_number bigint NOT NULL CHECK (unit_number > 0),
    name        text   NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    time_zone   text   NOT NULL,
    parent_id   bigint REFERENCES unit (id) ON DELETE SET NULL CHECK (parent_id <> id),
    UNIQUE (unit_type, unit_number)
);
CREATE INDEX unit_parent_id ON unit (parent_id);
COMMENT ON TABLE unit IS 'What produces: a plant, a group of units, a company.';

CREATE TABLE unit_capacity (
    unit_id     bigint           NOT NULL REFERENCES unit (id) ON DELETE CASCADE,
    valid_from  timestamptz      NOT NULL,
    capacity_mw double precision NOT NULL CHECK (capacity_mw >= 0 AND capacity_mw < 'Infinity'),
    PRIMARY KEY (unit_id, valid_from)
);
COMMENT ON TABLE unit_capacity IS 'History of installed capacity: each row holds from valid_from until the next.';

CREATE TABLE provider (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key  text   NOT NULL UNIQUE CHECK (key ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    name text   NOT NULL CHECK (length(name) BETWEEN 1 AND 200)
);
COMMENT ON TABLE provider IS 'Who forecasts.';

CREATE TABLE series (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    unit_id     bigint NOT NULL REFERENCES unit (id),
    provider_id bigint NOT NULL REFERENCES provider (id),
    resolution  text   NOT NULL CHECK (resolution IN ('PT15M', 'PT30M', 'PT1H')),
    level       text   NOT NULL DEFAULT 'EXPECTED' CHECK (level = 'EXPECTED' OR level ~ '^P[1-9][0-9]?$'),
    UNIQUE (unit_id, provider_id, resolution, level)
);
CREATE INDEX series_provider_id ON series (provider_id);
COMMENT ON TABLE series IS 'One unit, provider, resolution and level (the expected value, or a quantile such as P10).';

CREATE TABLE idempotency_key (
    viewer       text        NOT NULL,
    key          text        NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    request_hash text        NOT NULL,
    response     text        NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (viewer, key)
);
CREATE INDEX idempotency_key_created_at ON idempotency_key (created_at);
COMMENT ON TABLE idempotency_key IS 'What was answered to a save that carried an idempotency key, kept 24 hours.';
