CREATE TABLE forecast_run (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    provider_id INTEGER NOT NULL REFERENCES provider (id),
    issued_at   TEXT    NOT NULL CHECK (strftime('%Y-%m-%dT%H:%M:%S', issued_at) IS substr(issued_at, 1, 19) AND issued_at GLOB '[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z'),
    received_at TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                        CHECK (received_at GLOB '[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z')
) STRICT;
CREATE INDEX forecast_run_provider_id ON forecast_run (provider_id, issued_at);

-- Versions of day curves: the MWh that one run gave for one UTC day of one
-- series. Append-only. "values" holds numbers and nulls, from period
-- first_period of the day on; a null says nothing about its period.
CREATE TABLE forecast_curve (
    series_id    INTEGER NOT NULL REFERENCES series (id),
    day          TEXT    NOT NULL CHECK (day IS date(day)),
    issued_at    TEXT    NOT NULL,
    run_id       INTEGER NOT NULL REFERENCES forecast_run (id),
    first_period INTEGER NOT NULL CHECK (first_period >= 0),
    "values"     TEXT    NOT NULL CHECK (json_valid("values") AND json_array_length("values") BETWEEN 1 AND 96),
    PRIMARY KEY (series_id, day, issued_at, run_id)
) STRICT, WITHOUT ROWID;

-- Row triggers only note what was touched, which costs next to nothing; who
-- numbers changes folds the notes first, in the same transaction if it is ours.
CREATE TABLE touched_forecast_curve (
    id           INTEGER PRIMARY KEY,
    operation    TEXT    NOT NULL,
    series_id    INTEGER NOT NULL,
    run_id       INTEGER NOT NULL,
    day          TEXT    NOT NULL,
    first_period INTEGER NOT NULL,
    periods      INTEGER NOT NULL,
    touched_at   REAL    NOT NULL DEFAULT (julianday('now'))
) STRICT;

-- In the same statement, which parses the values once, they refuse what a CHECK
-- cannot, because it needs the series and the run: a period beyond the day's
-- end, what is no number, another issue time than the run's.
-- What is malformed stands in 0003_malformed_curve.sql.
CREATE TRIGGER forecast_curve_inserted AFTER INSERT ON forecast_curve BEGIN
    INSERT INTO touched_forecast_curve (operation, series_id, run_id, day, first_period, periods)
    SELECT CASE
        WHEN {malformed}
        THEN RAISE(ABORT, 'forecast_curve is malformed: series and run must exist, and values must be numbers or nulls, end with the day, and carry their run''s issued_at')
        ELSE 'INSERT' END,
        NEW.series_id, NEW.run_id, NEW.day, NEW.first_period, json_array_length(NEW."values");
END;
CREATE TRIGGER forecast_curve_updated AFTER UPDATE ON forecast_curve BEGIN
    INSERT INTO touched_forecast_curve (operation, series_id, run_id, day, first_period, periods)
    VALUES ('UPDATE', OLD.series_id, OLD.run_id, OLD.day, OLD.first_period, json_array_length(OLD."values"));
    INSERT INTO touched_forecast_curve (operation, series_id, run_id, day, first_period, periods)
    SELECT CASE
        WHEN {malformed}
        THEN RAISE(ABORT, 'forecast_curve is malformed: series and run must exist, and values must be numbers or nulls, end with the day, and carry their run''s issued_at')
        ELSE 'UPDATE' END,
        NEW.series_id, NEW.run_id, NEW.day, NEW.first_period, json_array_length(NEW."values");
END;
CREATE TRIGGER forecast_curve_deleted AFTER DELETE ON forecast_curve BEGIN
    INSERT INTO touched_forecast_curve (operation, series_id, run_id, day, first_period, periods)
    VALUES ('DELETE', OLD.series_id, OLD.run_id, OLD.day, OLD.first_period, json_array_length(OLD."values"));
END;

-- The notes as changes: one a series, run and month, with the touched delivery
-- range, in the order they were touched. The notes are grouped before anything
-- is looked up or formatted: a day and a period in it sort as one number, and
-- what is folded together changed together.
CREATE VIEW touched_forecast_range AS
SELECT t.operation, u.unit_type, u.unit_number, p.key AS provider_key, s.resolution, t.series_id, t.run_id,
       strftime('%Y-%m-%dT%H:%M:00.000000Z', (t.first / 1000 - 2440588) * 86400 + t.first % 1000 * s.seconds, 'unixepoch') AS range_start,
       strftime('%Y-%m-%dT%H:%M:00.000000Z', (t.last / 1000 - 2440588) * 86400 + t.last % 1000 * s.seconds, 'unixepoch') AS range_end,
       (SELECT strftime('%Y-%m-%dT%H:%M:%f000Z', max(touched_at)) FROM touched_forecast_curve) AS changed_at,
       row_number() OVER (ORDER BY t.first_id) AS ordinal
FROM (
    SELECT operation, series_id, run_id, min(id) AS first_id,
           min(day_number * 1000 + first_period) AS first, max(day_number * 1000 + first_period + periods) AS last
    FROM (SELECT *, CAST(julianday(day) + 0.5 AS INTEGER) AS day_number FROM touched_forecast_curve)
    GROUP BY series_id, run_id, substr(day, 1, 7), operation
) t
JOIN (SELECT *, CASE resolution WHEN 'PT15M' THEN 900 WHEN 'PT30M' THEN 1800 ELSE 3600 END AS seconds
      FROM series) s ON s.id = t.series_id
JOIN unit u ON u.id = s.unit_id
JOIN provider p ON p.id = s.provider_id;

-- A rewritten issue time moves a whole run: what is cached of it is void.
CREATE TRIGGER forecast_run_updated AFTER UPDATE ON forecast_run BEGIN
    INSERT INTO change (entity, operation) VALUES ('FORECAST', 'RESYNC');
END;

CREATE VIEW forecast_value AS
SELECT c.series_id, u.unit_type, u.unit_number, p.key AS provider_key, s.resolution, s.level, c.run_id, c.issued_at,
       strftime('%Y-%m-%dT%H:%M:00.000000Z', c.day, '+' || ((c.first_period + v.key) * s.minutes) || ' minutes') AS delivery_start,
       strftime('%Y-%m-%dT%H:%M:00.000000Z', c.day, '+' || ((c.first_period + v.key + 1) * s.minutes) || ' minutes') AS delivery_end,
       v.value AS mwh
FROM forecast_curve c
JOIN (SELECT *, CASE resolution WHEN 'PT15M' THEN 15 WHEN 'PT30M' THEN 30 ELSE 60 END AS minutes FROM series) s ON s.id = c.series_id
JOIN unit u ON u.id = s.unit_id
JOIN provider p ON p.id = s.provider_id
JOIN json_each(c."values") v
WHERE v.type IN ('integer', 'real');
