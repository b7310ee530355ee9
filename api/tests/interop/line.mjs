// A network that breaks.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { pipeline } from 'node:stream';
import { CHANGED, assertChange } from './operations.mjs';

/** A line to the server; whoever comes again after a cut is connected again. */
export async function openLine(server) {
  const sockets = new Set();
  const relay = createServer((near) => {
    line.connections += 1;
    sockets.add(near);
    const far = connect(server.port, '127.0.0.1');
    pipeline(near, far, near, () => sockets.delete(near));
  });
  await once(relay.listen(0, '127.0.0.1'), 'listening');
  const host = `127.0.0.1:${relay.address().port}`;
  const line = {
    url: `http://${host}/graphql`,
    socketUrl: `ws://${host}/graphql/ws`,
    connections: 0,
    cut: () => sockets.forEach((socket) => socket.destroy()),
    close() {
      relay.close();
      line.cut();
    },
  };
  return line;
}

/**
 * A client that connects again by itself, and says what it has seen, loses
 * nothing and gets nothing twice. `connect` makes one for a line: one that sends
 * its variables as they are when it connects again.
 */
export async function assertGoesOn(server, connect) {
  const CUTS = 4;
  const line = await openLine(server);
  const variables = { after: (await server.save(0)).position };
  const results = connect(line).iterate({ query: CHANGED, variables });
  const expect = async (saved) => {
    const { value } = await results.next();
    assertChange(value, saved);
    variables.after = value.extensions.position;
  };

  await expect(await server.save(1));
  for (let cut = 0; cut < CUTS; cut++) {
    line.cut();
    const meanwhile = [await server.save(2), await server.save(3), await server.save(4)];
    for (const saved of meanwhile) {
      await expect(saved);
    }
    await expect(await server.save(5));
  }

  assert.equal(line.connections, 1 + CUTS);
  await results.return();
  line.close();
}
