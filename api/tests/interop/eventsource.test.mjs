// Proves that the `EventSource` of the web platform, which knows nothing of
// GraphQL, is enough: it gets results and their end, and when its connection
// broke it goes on by itself after the last event that it has seen.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { EventSource } from 'eventsource';
import { arrivals } from './arrivals.mjs';
import { openLine } from './line.mjs';
import { CHANGED, FORECAST, KNOWN, LIVE, UNKNOWN, assertChange, assertError } from './operations.mjs';
import { startServer } from './server.mjs';

const server = await startServer();

describe('EventSource', () => {
  after(() => server.end());

  test('a query is answered once', async () => {
    await server.save(12.5);
    const results = open(server.url, FORECAST, KNOWN);

    assert.deepEqual(payload(await results.next()), { data: { forecast: { values: [12.5] } } });
    assert.equal((await results.next()).done, true);
  });

  test('a subscription that cannot begin says why, and ends', async () => {
    const results = open(server.url, LIVE, UNKNOWN);

    assertError(payload(await results.next()).errors, 'NOT_FOUND');
    assert.equal((await results.next()).done, true);
  });

  test('nothing is lost and nothing comes twice when the line is cut', async (t) => {
    const line = await openLine(server);
    t.after(() => line.close());
    const { position } = await server.save(0);
    // One whose address says where it began, which a cut must not take it back to, and one from now on.
    const sources = [open(line.url, CHANGED, { after: position }), open(line.url, CHANGED, {})];

    // Nothing tells when a subscription has begun but what arrives.
    let waiting = sources.length;
    const firsts = sources.map(async (results) => {
      const first = await results.next();
      waiting -= 1;
      return first;
    });
    let last;
    while (waiting > 0) {
      last = await server.save(1);
    }
    for (const [i, results] of sources.entries()) {
      let event = await firsts[i];
      while (payload(event).extensions.position !== last.position) {
        event = await results.next();
      }
    }

    line.cut();
    const saves = [await server.save(2), await server.save(3)];
    for (const results of sources) {
      for (const saved of saves) {
        const event = await results.next();
        assertChange(payload(event), saved);
        assert.equal(event.value.lastEventId, saved.position);
      }
      await results.return();
    }
    // Each has come again; what else Node's fetch connects for is its own affair.
    assert.ok(line.connections >= 2 * sources.length);
  });
});

/** The events with results, until the server has said that there are no more. */
function open(url, query, variables) {
  const source = new EventSource(`${url}?${new URLSearchParams({ query, variables: JSON.stringify(variables) })}`);
  return arrivals(({ next, error, complete }) => {
    source.addEventListener('next', next);
    source.addEventListener('complete', () => {
      source.close();
      complete();
    });
    source.addEventListener('error', ({ message }) => {
      // While it connects again, it is not over.
      if (source.readyState === source.CLOSED) {
        error(new Error(message));
      }
    });
    return { unsubscribe: () => source.close() };
  });
}

function payload({ value }) {
  return JSON.parse(value.data);
}
