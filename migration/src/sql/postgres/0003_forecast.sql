CREATE TABLE forecast_run (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider_id bigint      NOT NULL REFERENCES provider (id),
    issued_at   timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX forecast_run_provider_id ON forecast_run (provider_id, issued_at);
COMMENT ON TABLE forecast_run IS 'One submission by a provider: when it was made, and when we got it.';

CREATE TABLE forecast_curve (
    series_id    bigint      NOT NULL REFERENCES series (id),
    day          date        NOT NULL,
    issued_at    timestamptz NOT NULL,
    run_id       bigint      NOT NULL REFERENCES forecast_run (id),
    first_period smallint    NOT NULL CHECK (first_period >= 0),
    "values"     json        NOT NULL,
    PRIMARY KEY (series_id, day, issued_at, run_id),
    CHECK (json_typeof("values") = 'array' AND json_array_length("values") BETWEEN 1 AND 96)
);
COMMENT ON TABLE forecast_curve IS
    'Versions of day curves: the MWh that one run gave for one UTC day of one series. Append-only. '
    'values holds numbers and nulls, from period first_period of the day on; a null says nothing about its period.';

CREATE TYPE forecast_curve_extent AS (series_id bigint, run_id bigint, day date, first_period integer, periods integer);

-- One change a series, run and month, with the touched delivery range.
CREATE FUNCTION forecast_curve_changes(operation text, extents forecast_curve_extent[])
RETURNS TABLE (entity text, op text, unit_type text, unit_number bigint, provider_key text, resolution text,
               series_id bigint, run_id bigint, range_start timestamptz, range_end timestamptz)
LANGUAGE sql STABLE SET search_path = {schema}, pg_temp
AS $$
    SELECT 'FORECAST', operation, u.unit_type, u.unit_number, p.key, s.resolution, c.series_id, c.run_id, c.range_start, c.range_end
    FROM (
        SELECT e.series_id, e.run_id,
               min(e.day::timestamp + e.first_period * z.resolution::interval) AT TIME ZONE 'UTC' AS range_start,
               max(e.day::timestamp + (e.first_period + e.periods) * z.resolution::interval) AT TIME ZONE 'UTC' AS range_end
        FROM unnest(extents) e JOIN series z ON z.id = e.series_id
        GROUP BY e.series_id, e.run_id, date_trunc('month', e.day::timestamp)
    ) c
    JOIN series s ON s.id = c.series_id
    JOIN unit u ON u.id = s.unit_id
    JOIN provider p ON p.id = s.provider_id
    ORDER BY c.run_id, c.series_id, c.range_start
$$;

-- What a CHECK cannot say, because it needs the series and the run: no period
-- beyond the day's end, numbers only, and the run's own issue time.
CREATE FUNCTION capture_forecast_curve() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
DECLARE
    bad record;
BEGIN
    IF TG_OP <> 'DELETE' THEN
        SELECT n.series_id, n.day, n.run_id INTO bad
        FROM new_rows n
        JOIN series s ON s.id = n.series_id
        JOIN forecast_run r ON r.id = n.run_id
        WHERE n.first_period + json_array_length(n."values") > 86400 / extract(epoch FROM s.resolution::interval)
           OR n.issued_at <> r.issued_at
           -- Numbers and nulls: nothing nested, no string, no true or false, nothing beyond a double.
           OR n."values"::text !~ '^\s*\[[^]["{tf]*\]\s*$'
           OR n."values"::text ~ '[eE][+]?[0-9]{3}'
        LIMIT 1;
        IF FOUND THEN
            RAISE check_violation USING MESSAGE = format(
                'forecast_curve of series %s, day %s, run %s is malformed: values must be numbers or nulls, end with the day, and carry their run''s issued_at',
                bad.series_id, bad.day, bad.run_id);
        END IF;
    END IF;
    IF TG_OP = 'INSERT' THEN
        INSERT INTO change (entity, operation, unit_type, unit_number, provider_key, resolution, series_id, run_id, range_start, range_end)
        SELECT * FROM forecast_curve_changes(TG_OP, (SELECT array_agg((n.series_id, n.run_id, n.day, n.first_period, json_array_length(n."values"))::forecast_curve_extent) FROM new_rows n));
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO change (entity, operation, unit_type, unit_number, provider_key, resolution, series_id, run_id, range_start, range_end)
        SELECT * FROM forecast_curve_changes(TG_OP, (SELECT array_agg((o.series_id, o.run_id, o.day, o.first_period, json_array_length(o."values"))::forecast_curve_extent) FROM old_rows o));
    ELSE
        INSERT INTO change (entity, operation, unit_type, unit_number, provider_key, resolution, series_id, run_id, range_start, range_end)
        SELECT * FROM forecast_curve_changes(TG_OP, (SELECT array_agg(e) FROM (
            SELECT (o.series_id, o.run_id, o.day, o.first_period, json_array_length(o."values"))::forecast_curve_extent AS e FROM old_rows o
            UNION ALL
            SELECT (n.series_id, n.run_id, n.day, n.first_period, json_array_length(n."values"))::forecast_curve_extent FROM new_rows n) x));
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER capture_insert AFTER INSERT ON forecast_curve
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION capture_forecast_curve();
CREATE TRIGGER capture_update AFTER UPDATE ON forecast_curve
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION capture_forecast_curve();
CREATE TRIGGER capture_delete AFTER DELETE ON forecast_curve
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION capture_forecast_curve();
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
