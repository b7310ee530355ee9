// Proves that `@urql/core` works with nothing but the server's address: queries
// by GET, and subscriptions either way that it knows.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { Client, cacheExchange, fetchExchange, subscriptionExchange } from '@urql/core';
import { persistedExchange } from '@urql/exchange-persisted';
import { createClient as createSocket } from 'graphql-ws';
import WebSocket from 'ws';
import { arrivals } from './arrivals.mjs';
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

describe('urql', () => {
  after(() => server.end());

  test('a query goes by GET and is answered', async () => {
    await server.save(12.5);
    const methods = [];
    const client = connect({
      fetch: (url, init) => {
        methods.push(init.method);
        return fetch(url, init);
      },
    });

    const { data, error } = await client.query(FORECAST, KNOWN);

    assert.equal(error, undefined);
    assert.deepEqual(data.forecast.values, [12.5]);
    assert.deepEqual(methods, ['GET']);
  });

  test('a mutation is answered', async () => {
    const earlier = await server.save(0);

    const { data, error } = await connect().mutation(SAVE, saving(1));

    assert.equal(error, undefined);
    assertSaved(data, earlier);
  });

  test('an error comes with its code, beside the data', async () => {
    const { data, error } = await connect().query(FORECAST, UNKNOWN);

    assert.equal(data.forecast, null);
    assertError(error.graphQLErrors, 'NOT_FOUND');
    assert.deepEqual(error.graphQLErrors[0].path, ['forecast']);
  });

  test('what is not valid is an error of GraphQL, not of the network', async () => {
    const { error } = await connect().query(INVALID, {});

    assert.equal(error.networkError, undefined);
    assertError(error.graphQLErrors, 'BAD_USER_INPUT');
  });

  for (const preferGetForPersistedQueries of [false, true]) {
    test(`a persisted query is sent whole after its hash by ${preferGetForPersistedQueries ? 'GET' : 'POST'}`, async () => {
      await server.save(12.5);
      const sent = [];
      const client = connect({
        preferGetMethod: false,
        exchanges: [cacheExchange, persistedExchange({ preferGetForPersistedQueries }), fetchExchange],
        fetch: (url, init) => {
          sent.push([init.method, /[?&]query=|"query":/.test(`${url}${init.body}`)]);
          return fetch(url, init);
        },
      });

      const { data, error } = await client.query(FORECAST, KNOWN);

      assert.equal(error, undefined);
      assert.deepEqual(data.forecast.values, [12.5]);
      const method = preferGetForPersistedQueries ? 'GET' : 'POST';
      assert.deepEqual(sent, [
        [method, false],
        [method, true],
      ]);
    });
  }

  const overFetch = () => connect({ fetchSubscriptions: true });
  const overSocket = () => connect({ exchanges: [cacheExchange, socketExchange(), fetchExchange] });

  for (const [way, client] of Object.entries({ fetch: overFetch, 'a socket': overSocket })) {
    test(`changes arrive over ${way} with their positions`, async () => {
      const { position } = await server.save(0);
      const changes = arrivals(({ next }) => client().subscription(CHANGED, { after: position }).subscribe(next));

      for (const mwh of [1, 2, 3]) {
        const saved = await server.save(mwh);
        assertChange((await changes.next()).value, saved);
      }

      await changes.return();
    });

    test(`a subscription over ${way} that cannot begin says why, and ends`, async () => {
      const { error, hasNext } = await client().subscription(LIVE, UNKNOWN);

      assertError(error.graphQLErrors, 'NOT_FOUND');
      assert.equal(hasNext, false);
    });
  }
});

function connect(options) {
  return new Client({ url: server.url, exchanges: [cacheExchange, fetchExchange], ...options });
}

/** As urql's manual has it. */
function socketExchange() {
  const socket = createSocket({ url: server.socketUrl, webSocketImpl: WebSocket });
  return subscriptionExchange({
    forwardSubscription: (request) => ({
      subscribe: (sink) => ({ unsubscribe: socket.subscribe(request, sink) }),
    }),
  });
}
