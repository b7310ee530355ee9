// Proves that `graphql-sse`, the reference client of GraphQL over server-sent
// events, gets its answers in distinct connections mode, errors included, and
// goes on after a cut line.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { createClient } from 'graphql-sse';
import { assertGoesOn } from './line.mjs';
import {
  CHANGED,
  FORECAST,
  INVALID,
  KNOWN,
  LIVE,
  SAVE,
  UNKNOWN,
  assertChange,
  assertError,
  assertSaved,
  saving,
} from './operations.mjs';
import { startServer } from './server.mjs';

const server = await startServer();

describe('graphql-sse', () => {
  after(() => server.end());

  test('a query is answered once', async () => {
    await server.save(12.5);

    assert.deepEqual(await all({ query: FORECAST, variables: KNOWN }), [{ data: { forecast: { values: [12.5] } } }]);
  });

  test('a mutation is answered once', async () => {
    const earlier = await server.save(0);

    const [{ data }, ...more] = await all({ query: SAVE, variables: saving(1) });

    assertSaved(data, earlier);
    assert.deepEqual(more, []);
  });

  test('changes arrive with their positions', async () => {
    const { position } = await server.save(0);
    const changes = connect().iterate({ query: CHANGED, variables: { after: position } });

    for (const mwh of [1, 2, 3]) {
      const saved = await server.save(mwh);
      assertChange((await changes.next()).value, saved);
    }

    await changes.return();
  });

  test('a curve arrives at once and when it changes', async () => {
    await server.save(1);
    const states = connect().iterate({ query: LIVE, variables: KNOWN });
    const next = async () => (await states.next()).value.data.forecastLive.forecast.values;

    assert.deepEqual(await next(), [1]);
    await server.save(2);
    assert.deepEqual(await next(), [2]);

    await states.return();
  });

  test('a subscription that cannot begin says why, and ends', async () => {
    for (const [operation, code] of [
      [{ query: LIVE, variables: UNKNOWN }, 'NOT_FOUND'],
      [{ query: INVALID }, 'BAD_USER_INPUT'],
    ]) {
      const [{ errors }, ...more] = await all(operation);

      assertError(errors, code);
      assert.deepEqual(more, []);
    }
  });

  test('nothing is lost and nothing comes twice when the line is cut', async () => {
    await assertGoesOn(server, ({ url }) => connect({ url, retry: async () => {} }));
  });
});

function connect(options) {
  return createClient({ url: server.url, singleConnection: false, ...options });
}

/** Every result, when the server has said that there are no more. */
async function all(operation) {
  const list = [];
  // A server that only hangs up has not said it.
  for await (const result of connect({ retryAttempts: 0 }).iterate(operation)) {
    list.push(result);
  }
  return list;
}
