-- The change log: what was committed, and the position each change was given
-- after its commit. Triggers write it, so that no code path can forget it and
-- a plain SQL write of another program is seen like our own.

CREATE TABLE change (
    id           bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    -- The writing transaction: new rows are found by the difference of two snapshots.
    xid          xid8   NOT NULL DEFAULT pg_current_xact_id(),
    position     bigint UNIQUE CHECK (position > 0),
    entity       text   NOT NULL CHECK (entity IN ('UNIT', 'PROVIDER', 'FORECAST', 'NOTIFICATION')),
    operation    text   NOT NULL CHECK (operation IN ('INSERT', 'UPDATE', 'DELETE', 'RESYNC')),
    unit_type    text,
    unit_number  bigint,
    provider_key text,
    resolution   text,
    series_id    bigint,
    run_id       bigint,
    -- The touched delivery range, half-open, within one UTC month.
    range_start  timestamptz,
    range_end    timestamptz,
    notification_id bigint,
    -- Whose; of a notification for several, null.
    user_id      bigint,
    -- The instant that the touched rows of the user were marked with.
    marked_at    timestamptz,
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX change_xid ON change (xid);
CREATE INDEX change_unnumbered ON change (id) WHERE position IS NULL;
COMMENT ON TABLE change IS 'The change log. Written by triggers; numbered by change_log_tick.';

-- The newest row is the head of the log and the snapshot that numbered it.
CREATE TABLE tick (
    id        bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    epoch     bigint      NOT NULL,
    head      bigint      NOT NULL,
    snapshot  pg_snapshot NOT NULL,
    -- Which history this is: system identifier, WAL timeline, database.
    history   text        NOT NULL,
    ticked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tick IS 'One row per numbering of the change log; the newest holds its head.';

CREATE FUNCTION change_log_history() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
    SELECT concat_ws('/',
        (SELECT system_identifier FROM pg_control_system()),
        left(pg_walfile_name(pg_current_wal_lsn()), 8),
        (SELECT oid FROM pg_database WHERE datname = current_database()))
$$;

-- Thirty-one random bits: a restored database that lives on twice must not
-- give the same name to two histories.
CREATE FUNCTION change_log_new_epoch() RETURNS bigint
LANGUAGE sql VOLATILE
AS $$ SELECT ('x' || left(replace(gen_random_uuid()::text, '-', ''), 8))::bit(32)::bigint & 2147483647 $$;

INSERT INTO tick (epoch, head, snapshot, history)
VALUES (change_log_new_epoch(), 0, pg_current_snapshot(), change_log_history());

-- Gives every change that has committed since the last tick its position.
--
-- The lock makes ticks one after the other. What follows runs in statements of
-- their own, whose snapshots are taken after the lock: a commit before the
-- call is therefore always seen. New rows are those that the previous tick's
-- snapshot did not show: found by the transaction's number, not by
-- "position IS NULL", whose dead index entries pile up under one long
-- transaction and make each tick slower without bound.
--
-- It returns the head it leaves, and with it the changes it has numbered, up to
-- a page of them: whoever ticks need not read them again. Without any, one row.
--
-- tick_mode: 'wait' takes its turn, 'try' returns no row when another tick
-- runs, 'scan' waits and then looks for unnumbered rows the slow way (at
-- start, and now and then as an alarm).
CREATE FUNCTION change_log_tick(tick_mode text)
RETURNS TABLE (epoch bigint, head bigint, numbered bigint, xid bigint, "position" bigint, entity text, operation text,
               unit_type text, unit_number bigint, provider_key text, resolution text, series_id bigint, run_id bigint,
               range_start timestamptz, range_end timestamptz,
               notification_id bigint, user_id bigint, marked_at timestamptz, changed_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = {schema}, pg_temp
SET lock_timeout = '2s'
SET jit = off
-- Plans made while the log was empty would read all of it later.
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    last    record;
    history text;
    scan    boolean := tick_mode = 'scan';
    fresh   bigint[];
    seen    pg_snapshot;
    begun   boolean := false;
BEGIN
    IF tick_mode = 'try' THEN
        IF NOT pg_try_advisory_xact_lock(hashtext('smartpulse'), hashtext('change_log')) THEN
            RETURN;
        END IF;
    ELSE
        PERFORM pg_advisory_xact_lock(hashtext('smartpulse'), hashtext('change_log'));
    END IF;
    -- Until the end of this transaction: a position that a client has seen must survive a crash.
    PERFORM set_config('synchronous_commit', 'on', true);

    SELECT t.epoch, t.head, t.snapshot, t.history INTO last FROM tick t ORDER BY t.id DESC LIMIT 1;
    history := change_log_history();
    IF last.history <> history THEN
        -- Restored, or failed over to a server that may have lost writes. Nobody
        -- can resume from positions of the old epoch, and its transaction
        -- numbers mean nothing here: the numbered part of the log goes.
        last.epoch := change_log_new_epoch();
        begun := true;
        scan := true;
        DELETE FROM change c WHERE c.position IS NOT NULL;
    END IF;

    IF scan THEN
        SELECT coalesce(array_agg(c.id ORDER BY c.id), '{}'), pg_current_snapshot() INTO fresh, seen
        FROM change c WHERE c.position IS NULL;
    ELSE
        -- The filter stands outside: as a condition it would lead to the index of
        -- unnumbered rows, and to its dead entries.
        SELECT coalesce(array_agg(x.id ORDER BY x.id) FILTER (WHERE x.position IS NULL), '{}'), pg_current_snapshot()
        INTO fresh, seen
        FROM (
            SELECT c.id, c.position FROM change c WHERE c.xid >= pg_snapshot_xmax(last.snapshot)
            UNION ALL
            SELECT c.id, c.position FROM change c WHERE c.xid = ANY (ARRAY(SELECT pg_snapshot_xip(last.snapshot)))
        ) x;
    END IF;
    UPDATE change c SET position = last.head + f.ordinal
    FROM unnest(fresh) WITH ORDINALITY AS f (id, ordinal) WHERE c.id = f.id;

    IF cardinality(fresh) > 0 OR begun THEN
        INSERT INTO tick (epoch, head, snapshot, history)
        VALUES (last.epoch, last.head + cardinality(fresh), seen, history);
    END IF;
    RETURN QUERY
        SELECT last.epoch::bigint, last.head + cardinality(fresh), cardinality(fresh)::bigint,
               c.xid::text::bigint, c.position, c.entity, c.operation, c.unit_type, c.unit_number, c.provider_key,
               c.resolution, c.series_id, c.run_id, c.range_start, c.range_end,
               c.notification_id, c.user_id, c.marked_at, c.changed_at
        FROM (VALUES (1)) AS one
        LEFT JOIN change c ON c.position > last.head AND cardinality(fresh) <= 1000
        ORDER BY c.position;
END
$$;

-- Reference data: one change a touched row.

CREATE FUNCTION capture_unit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.id, OLD.unit_type, OLD.unit_number) IS DISTINCT FROM (NEW.id, NEW.unit_type, NEW.unit_number) THEN
        -- Another key: everything that was known under the old one is void.
        INSERT INTO change (entity, operation) VALUES ('UNIT', 'RESYNC');
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO change (entity, operation, unit_type, unit_number)
        VALUES ('UNIT', TG_OP, OLD.unit_type, OLD.unit_number);
    ELSIF TG_OP = 'INSERT' OR OLD IS DISTINCT FROM NEW THEN
        INSERT INTO change (entity, operation, unit_type, unit_number)
        VALUES ('UNIT', TG_OP, NEW.unit_type, NEW.unit_number);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON unit
    FOR EACH ROW EXECUTE FUNCTION capture_unit();

CREATE FUNCTION capture_unit_capacity() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD IS NOT DISTINCT FROM NEW THEN
        RETURN NULL;
    END IF;
    INSERT INTO change (entity, operation, unit_type, unit_number)
    SELECT 'UNIT', 'UPDATE', u.unit_type, u.unit_number FROM unit u
    WHERE u.id IN (CASE WHEN TG_OP <> 'INSERT' THEN OLD.unit_id END, CASE WHEN TG_OP <> 'DELETE' THEN NEW.unit_id END);
    RETURN NULL;
END
$$;
CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON unit_capacity
    FOR EACH ROW EXECUTE FUNCTION capture_unit_capacity();

CREATE FUNCTION capture_provider() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.id, OLD.key) IS DISTINCT FROM (NEW.id, NEW.key) THEN
        INSERT INTO change (entity, operation) VALUES ('PROVIDER', 'RESYNC');
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO change (entity, operation, provider_key) VALUES ('PROVIDER', TG_OP, OLD.key);
    ELSIF TG_OP = 'INSERT' OR OLD IS DISTINCT FROM NEW THEN
        INSERT INTO change (entity, operation, provider_key) VALUES ('PROVIDER', TG_OP, NEW.key);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON provider
    FOR EACH ROW EXECUTE FUNCTION capture_provider();

-- Series are drawn once and never change; whoever rewrites them by hand voids what is cached.
CREATE FUNCTION capture_resync() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
BEGIN
    INSERT INTO change (entity, operation) VALUES (TG_ARGV[0], 'RESYNC');
    RETURN NULL;
END
$$;
CREATE TRIGGER resync AFTER UPDATE OR DELETE OR TRUNCATE ON series
    FOR EACH STATEMENT EXECUTE FUNCTION capture_resync('FORECAST');
CREATE TRIGGER resync AFTER TRUNCATE ON unit
    FOR EACH STATEMENT EXECUTE FUNCTION capture_resync('UNIT');
CREATE TRIGGER resync AFTER TRUNCATE ON unit_capacity
    FOR EACH STATEMENT EXECUTE FUNCTION capture_resync('UNIT');
CREATE TRIGGER resync AFTER TRUNCATE ON provider
    FOR EACH STATEMENT EXECUTE FUNCTION capture_resync('PROVIDER');
