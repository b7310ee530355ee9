// Proves that `graphql-ws`, the reference client of graphql-transport-ws, gets
// its answers, shares a socket, and goes on after a cut line and a restart.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { assertGoesOn } from './line.mjs';
import {
  CHANGED,
  FORECAST,
  INVALID,
  KNOWN,
  SAVE,
  assertChange,
  assertError,
  assertSaved,
  saving,
} from './operations.mjs';
import { startServer } from './server.mjs';

const server = await startServer();

describe('graphql-ws', () => {
  after(() => server.end());

  test('a query is answered once, and the idle socket closes', async () => {
    await server.save(12.5);
    const client = connect();
    const closed = event(client, 'closed');

    assert.deepEqual(await all(client.iterate({ query: FORECAST, variables: KNOWN })), [
      { data: { forecast: { values: [12.5] } } },
    ]);

    const { code, wasClean } = await closed;
    assert.deepEqual({ code, wasClean }, { code: 1000, wasClean: true });
  });

  test('a mutation is answered once', async () => {
    const earlier = await server.save(0);

    const [{ data }, ...more] = await all(connect().iterate({ query: SAVE, variables: saving(1) }));

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

  test('operations share a socket, and one ends without the others', async () => {
    const { position } = await server.save(0);
    let sockets = 0;
    let operations = 0;
    const results = [];
    const client = connect({
      generateID: () => `operation ${++operations}`,
      on: {
        connected: () => (sockets += 1),
        message: ({ type, id }) => type === 'next' && results.push(id),
      },
    });
    const subscribe = () => client.iterate({ query: CHANGED, variables: { after: position } });
    const [one, other] = [subscribe(), subscribe()];
    const both = await server.save(1);
    assertChange((await one.next()).value, both);
    assertChange((await other.next()).value, both);

    await one.return();
    // The server reads a socket in order: with this answer, it has read that `one` is over.
    await all(client.iterate({ query: FORECAST, variables: KNOWN }));
    results.length = 0;
    for (const mwh of [2, 3]) {
      const saved = await server.save(mwh);
      assertChange((await other.next()).value, saved);
    }

    assert.deepEqual(results, ['operation 2', 'operation 2']);
    assert.equal(sockets, 1);
    await other.return();
  });

  test('what is not valid is an error of that operation alone', async () => {
    const { position } = await server.save(0);
    const client = connect();
    const changes = client.iterate({ query: CHANGED, variables: { after: position } });

    await assert.rejects(all(client.iterate({ query: INVALID })), (errors) => {
      assertError(errors, 'BAD_USER_INPUT');
      return true;
    });

    const saved = await server.save(1);
    assertChange((await changes.next()).value, saved);
    await changes.return();
  });

  test('a ping is answered', async () => {
    const client = connect({ lazy: false, keepAlive: 1 });

    // What it answers itself is an event too.
    await new Promise((answered) => client.on('pong', (received) => received && answered()));

    await client.dispose();
  });

  test('nothing is lost and nothing comes twice when the line is cut', async () => {
    await assertGoesOn(server, ({ socketUrl }) => connect({ url: socketUrl, retryWait: async () => {} }));
  });

  test('a restart of the server is lived through', async (t) => {
    const first = await startServer();
    let second;
    t.after(async () => {
      await first.end();
      await second?.end();
    });
    let restarted;
    // Left to itself this client waits for seconds, and gives up on a server that refuses the connection.
    const client = connect({ url: first.socketUrl, retryWait: () => restarted });
    const closed = event(client, 'closed');
    const variables = { after: (await first.save(0)).position };
    const changes = client.iterate({ query: CHANGED, variables });
    const before = await first.save(1);
    assertChange((await changes.next()).value, before);
    // It sends its variables as they are when it connects again.
    variables.after = before.position;

    restarted = (async () => {
      assert.equal(await first.stop(), 0);
      second = await startServer(first);
      return second.save(2);
    })();
    const meanwhile = await restarted;

    assert.equal((await closed).code, 1012);
    assertChange((await changes.next()).value, meanwhile);
    const live = await second.save(3);
    assertChange((await changes.next()).value, live);
    await changes.return();
  });
});

function connect(options) {
  return createClient({ url: server.socketUrl, webSocketImpl: WebSocket, ...options });
}

/** What the first event of that name says. */
function event(client, name) {
  return new Promise((happened) => client.on(name, happened));
}

/** Every result, when the server has said that there are no more. */
async function all(results) {
  const list = [];
  for await (const result of results) {
    list.push(result);
  }
  return list;
}
