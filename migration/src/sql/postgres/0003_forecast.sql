CREATE TABLE forecast_run (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider_id bigint      NOT NULL REFERENCES provider (id),
    issued_at   timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX forecast_run_provider_id ON forecast_run (provider_id, issued_at);
COMMENT ON TABLE forecast_run IS 'One submission by a provider: when it was made, and when we got it.';

-- series_id and run_id refer to series and forecast_run. Foreign keys would
-- check each row by a query of its own, a quarter of what a save costs; the
-- triggers below check a statement's rows at once, with the same locks.
CREATE TABLE forecast_curve (
    series_id    bigint      NOT NULL,
    day          date        NOT NULL,
    issued_at    timestamptz NOT NULL,
    run_id       bigint      NOT NULL,
    first_period smallint    NOT NULL CHECK (first_period >= 0),
    "values"     json        NOT NULL,
    PRIMARY KEY (series_id, day, issued_at, run_id),
    CHECK (json_typeof("values") = 'array' AND json_array_length("values") BETWEEN 1 AND 96)
);
COMMENT ON TABLE forecast_curve IS
    'Versions of day curves: the MWh that one run gave for one UTC day of one series. Append-only. '
    'values holds numbers and nulls, from period first_period of the day on; a null says nothing about its period.';

CREATE FUNCTION forecast_curve_refuse(series_id bigint, run_id bigint) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING MESSAGE = format(
        'forecast_curve of series %s, run %s is malformed: both must exist, and values must be numbers or nulls, end with the day, and carry their run''s issued_at',
        series_id, run_id);
END
$$;

-- One change a series, run and month of a statement, with the touched delivery
-- range. In the same pass what a CHECK cannot say, because it needs the series
-- and the run: no period beyond the day's end, numbers only, and the run's own
-- issue time. A function for each kind of statement, from one text: they differ
-- in the rows they look at.
DO $do$
DECLARE
    operation text;
    touched   text;
BEGIN
    FOR operation, touched IN VALUES
        ('insert', 'new_rows'),
        ('update', '(SELECT * FROM old_rows UNION ALL SELECT * FROM new_rows)'),
        ('delete', 'old_rows')
    LOOP
        EXECUTE format($f$
            CREATE FUNCTION capture_forecast_curve_%1$s() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
            AS $$
            BEGIN
                IF TG_OP <> 'DELETE' THEN
                    -- Nobody deletes them before we commit; rows of our own transaction nobody can.
                    PERFORM 1 FROM series r WHERE r.id IN (SELECT n.series_id FROM %2$s n)
                        AND r.xmin <> pg_current_xact_id()::xid FOR KEY SHARE;
                    PERFORM 1 FROM forecast_run r WHERE r.id IN (SELECT n.run_id FROM %2$s n)
                        AND r.xmin <> pg_current_xact_id()::xid FOR KEY SHARE;
                END IF;
                INSERT INTO change (entity, operation, unit_type, unit_number, provider_key, resolution,
                                    series_id, run_id, range_start, range_end)
                SELECT 'FORECAST',
                       CASE WHEN c.malformed AND TG_OP <> 'DELETE' THEN forecast_curve_refuse(c.series_id, c.run_id) ELSE TG_OP END,
                       u.unit_type, u.unit_number, p.key, s.resolution, c.series_id, c.run_id, c.range_start, c.range_end
                FROM (
                    SELECT n.series_id, n.run_id,
                           min(n.day::timestamp + n.first_period * z.period) AT TIME ZONE 'UTC' AS range_start,
                           max(n.day::timestamp + (n.first_period + n.periods) * z.period) AT TIME ZONE 'UTC' AS range_end,
                           bool_or(z.id IS NULL
                                   OR n.first_period + n.periods > z.periods
                                   OR n.issued_at IS DISTINCT FROM r.issued_at
                                   -- Nothing nested, no string, no true or false, nothing beyond a double.
                                   OR btrim(n."values"::text, E' \t\n\r') ~ '.[][{"tf].|[eE][+]?[0-9]{3}|[0-9]{40}') AS malformed
                    -- OFFSET keeps the planner from counting again wherever the count is used.
                    FROM (SELECT *, json_array_length("values") AS periods FROM %2$s AS touched OFFSET 0) n
                    LEFT JOIN (SELECT id,
                                 CASE resolution WHEN 'PT15M' THEN 96 WHEN 'PT30M' THEN 48 ELSE 24 END AS periods,
                                 resolution::interval AS period
                          FROM series) z ON z.id = n.series_id
                    LEFT JOIN forecast_run r ON r.id = n.run_id
                    GROUP BY n.series_id, n.run_id, date_trunc('month', n.day::timestamp)
                ) c
                LEFT JOIN series s ON s.id = c.series_id
                LEFT JOIN unit u ON u.id = s.unit_id
                LEFT JOIN provider p ON p.id = s.provider_id
                ORDER BY c.run_id, c.series_id, c.range_start;
                RETURN NULL;
            END
            $$ $f$, operation, touched);
    END LOOP;
END
$do$;

CREATE TRIGGER capture_insert AFTER INSERT ON forecast_curve
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION capture_forecast_curve_insert();
CREATE TRIGGER capture_update AFTER UPDATE ON forecast_curve
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION capture_forecast_curve_update();
CREATE TRIGGER capture_delete AFTER DELETE ON forecast_curve
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION capture_forecast_curve_delete();
CREATE FUNCTION forecast_curve_referenced() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
BEGIN
    IF TG_TABLE_NAME = 'series' AND EXISTS (SELECT 1 FROM forecast_curve c JOIN old_rows o ON o.id = c.series_id)
       OR TG_TABLE_NAME = 'forecast_run' AND EXISTS (SELECT 1 FROM forecast_curve c JOIN old_rows o ON o.id = c.run_id) THEN
        RAISE foreign_key_violation USING MESSAGE = format('%s is still referred to by forecast_curve', TG_TABLE_NAME);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER referenced AFTER DELETE ON series
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION forecast_curve_referenced();
CREATE TRIGGER referenced AFTER DELETE ON forecast_run
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION forecast_curve_referenced();

CREATE TRIGGER resync AFTER TRUNCATE ON forecast_curve
    FOR EACH STATEMENT EXECUTE FUNCTION capture_resync('FORECAST');
CREATE TRIGGER resync AFTER UPDATE ON forecast_run
    FOR EACH STATEMENT EXECUTE FUNCTION capture_resync('FORECAST');

CREATE VIEW forecast_value AS
SELECT c.series_id, u.unit_type, u.unit_number, p.key AS provider_key, s.resolution, s.level, c.run_id, c.issued_at,
       (c.day::timestamp + (c.first_period + v.ordinal - 1) * s.resolution::interval) AT TIME ZONE 'UTC' AS delivery_start,
       (c.day::timestamp + (c.first_period + v.ordinal) * s.resolution::interval) AT TIME ZONE 'UTC' AS delivery_end,
       v.value::text::double precision AS mwh
FROM forecast_curve c
JOIN series s ON s.id = c.series_id
JOIN unit u ON u.id = s.unit_id
JOIN provider p ON p.id = s.provider_id
CROSS JOIN LATERAL json_array_elements(c."values") WITH ORDINALITY AS v (value, ordinal)
WHERE json_typeof(v.value) = 'number';
COMMENT ON VIEW forecast_value IS 'Every version of every value, a row each; mwh is MWh in [delivery_start, delivery_end).';
