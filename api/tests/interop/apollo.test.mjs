// Proves that Apollo Client works as it comes: queries by POST, subscriptions
// over multipart HTTP and over a websocket.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { ApolloClient, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { PersistedQueryLink } from '@apollo/client/link/persisted-queries';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
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

describe('Apollo Client', () => {
  after(() => server.end());

  test('a query is answered', async () => {
    await server.save(12.5);

    const { data } = await connect().query({ query: gql(FORECAST), variables: KNOWN });

    assert.deepEqual(data.forecast.values, [12.5]);
  });

  test('a mutation is answered', async () => {
    const earlier = await server.save(0);

    const { data } = await connect().mutate({ mutation: gql(SAVE), variables: saving(1) });

    assertSaved(data, earlier);
  });

  test('an error comes with its code, beside the data', async () => {
    const options = { query: gql(FORECAST), variables: UNKNOWN, errorPolicy: 'all' };

    const { data, error } = await connect().query(options);

    assert.equal(data.forecast, null);
    assertError(error.errors, 'NOT_FOUND');
    assert.deepEqual(error.errors[0].path, ['forecast']);
  });

  test('what is not valid is an error of GraphQL, not of the network', async () => {
    await assert.rejects(connect().query({ query: gql(INVALID) }), (error) => {
      assert.ok(CombinedGraphQLErrors.is(error), error);
      assertError(error.errors, 'BAD_USER_INPUT');
      return true;
    });
  });

  for (const useGETForHashedQueries of [false, true]) {
    test(`a persisted query is sent whole after its hash by ${useGETForHashedQueries ? 'GET' : 'POST'}`, async () => {
      await server.save(12.5);
      const sent = [];
      const http = new HttpLink({
        uri: server.url,
        fetch: (url, init) => {
          sent.push([init.method, (init.body ?? '').includes('"query"')]);
          return fetch(url, init);
        },
      });
      const client = connect(persisted({ useGETForHashedQueries }).concat(http));

      const ask = () => client.query({ query: gql(FORECAST), variables: KNOWN, fetchPolicy: 'no-cache' });
      const answers = [await ask(), await ask()];

      for (const { data } of answers) {
        assert.deepEqual(data.forecast.values, [12.5]);
      }
      // It has understood, and sends no hash again.
      const hashed = [useGETForHashedQueries ? 'GET' : 'POST', false];
      assert.deepEqual(sent, [hashed, ['POST', true], ['POST', true]]);
    });
  }

  test('a persisted query is sent whole after its hash over a socket', async () => {
    await server.save(12.5);
    const client = connect(persisted().concat(overSocket()));

    const { data } = await client.query({ query: gql(FORECAST), variables: KNOWN });

    assert.deepEqual(data.forecast.values, [12.5]);
  });

  const overHttp = () => new HttpLink({ uri: server.url });
  const overSocket = () => new GraphQLWsLink(createSocket({ url: server.socketUrl, webSocketImpl: WebSocket }));

  for (const [way, link] of Object.entries({ 'multipart HTTP': overHttp, 'a socket': overSocket })) {
    const subscribe = (query, variables) => {
      const results = connect(link()).subscribe({ query: gql(query), variables });
      return arrivals((sink) => results.subscribe(sink));
    };

    test(`changes arrive over ${way} with their positions`, async () => {
      const { position } = await server.save(0);
      const changes = subscribe(CHANGED, { after: position });

      for (const mwh of [1, 2, 3]) {
        const saved = await server.save(mwh);
        assertChange((await changes.next()).value, saved);
      }

      await changes.return();
    });

    test(`a subscription over ${way} that cannot begin says why, and ends`, async () => {
      const results = subscribe(LIVE, UNKNOWN);

      const { error } = (await results.next()).value;
      assert.ok(CombinedGraphQLErrors.is(error), error);
      assertError(error.errors, 'NOT_FOUND');
      assert.equal((await results.next()).done, true);
    });
  }
});

function connect(link = new HttpLink({ uri: server.url })) {
  return new ApolloClient({ link, cache: new InMemoryCache() });
}

function persisted(options) {
  const sha256 = (text) => createHash('sha256').update(text).digest('hex');
  return new PersistedQueryLink({ sha256, ...options });
}
