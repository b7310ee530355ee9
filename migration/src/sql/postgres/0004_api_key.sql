CREATE TABLE api_key (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    user_key     text        NOT NULL CHECK (length(user_key) BETWEEN 1 AND 200),
    roles        text        NOT NULL,
    companies    text        NOT NULL,
    hash         text        NOT NULL UNIQUE CHECK (hash ~ '^[0-9a-f]{64}$'),
    prefix       text        NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);
COMMENT ON TABLE api_key IS 'Keys that let programs in. Of the secret there is only its hash.';
COMMENT ON COLUMN api_key.roles IS 'Words with commas between them; one that is unknown grants nothing.';
COMMENT ON COLUMN api_key.companies IS 'Unit keys of companies with commas between them.';
COMMENT ON COLUMN api_key.hash IS 'SHA-256 of the whole secret, in hexadecimal.';
COMMENT ON COLUMN api_key.prefix IS 'How the secret begins, for people to know it by.';
