// What the tests ask with every client, and how an answer has to look.
import assert from 'node:assert/strict';

export const FORECAST = `query Forecast($unit: UnitKey!) {
  forecast(unit: $unit, provider: "provider-a", resolution: PT1H,
           from: "2026-06-02T10:00:00Z", to: "2026-06-02T11:00:00Z") { values }
}`;

export const SAVE = `mutation Save($input: SaveForecastsInput!) {
  saveForecasts(input: $input) { position }
}`;

export const CHANGED = `subscription Changed($after: Position) {
  forecastChanged(units: ["plant:1"], after: $after) { position points { mwh } }
}`;

export const LIVE = `subscription Live($unit: UnitKey!) {
  forecastLive(unit: $unit, provider: "provider-a", resolution: PT1H,
               from: "2026-06-02T10:00:00Z", to: "2026-06-02T11:00:00Z") { forecast { values } }
}`;

/** What no schema has. */
export const INVALID = '{ nonsense }';

/** For `FORECAST` and `LIVE`. */
export const KNOWN = { unit: 'plant:1' };
export const UNKNOWN = { unit: 'plant:999' };

/** For `SAVE`: one value, of the period that the others ask for. */
export function saving(mwh) {
  const run = { unit: 'plant:1', provider: 'provider-a', resolution: 'PT1H' };
  return { input: { runs: [{ ...run, start: '2026-06-02T10:00:00Z', values: [mwh] }] } };
}

/** Every change has its own position. */
export function assertSaved({ saveForecasts }, earlier) {
  assert.equal(typeof saveForecasts.position, 'string');
  assert.notEqual(saveForecasts.position, earlier.position);
}

/** A result of `CHANGED` is the change, and beside it says where it stands in the log and since when. */
export function assertChange(result, { mwh, position }) {
  assert.equal(result.error ?? result.errors, undefined);
  const { forecastChanged } = result.data;
  assert.deepEqual(
    { position: forecastChanged.position, values: forecastChanged.points.map((point) => point.mwh) },
    { position, values: [mwh] },
  );
  assert.equal(result.extensions?.position, position);
  const { committedAt, sentAt } = result.extensions;
  assert.ok(Date.parse(committedAt) <= Date.parse(sentAt), `committed at ${committedAt}, sent at ${sentAt}`);
}

/** The only error that the server has given. */
export function assertError(errors, code) {
  assert.deepEqual(
    errors.map((error) => error.extensions.code),
    [code],
  );
}
