// The real server, as a service manager would run it: started on a database of
// its own, waited for, and stopped.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { SAVE, saving } from './operations.mjs';

const PREPARE = `mutation {
  upsertUnits(input: { units: [{ key: "plant:1", timeZone: "Europe/Madrid" }] }) { position }
  upsertProviders(input: { providers: [{ key: "provider-a" }] }) { position }
}`;

// What ends a test that takes too long leaves no server and no database behind.
process.once('SIGTERM', () => process.exit(1));

/**
 * A server with `plant:1` and `provider-a`, in a directory and on a port that
 * are new unless given.
 */
export async function startServer({ directory, port = 0 } = {}) {
  const binary = process.env.SMARTPULSE_BINARY;
  if (!binary) {
    throw new Error('SMARTPULSE_BINARY does not name a server: run these tests by `make test-interop`');
  }
  directory ??= await mkdtemp(join(tmpdir(), 'smartpulse-interop-'));
  const database = `sqlite://${join(directory, 'test.db')}`;
  const child = spawn(
    resolve(binary),
    ['serve', '--listen', `127.0.0.1:${port}`, '--database-url', database, '--log-format', 'json'],
    {
      cwd: directory,
      // What the environment says to a server is not meant for this one.
      env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SMARTPULSE_'))),
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  process.once('exit', () => {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  });
  // Before anything else is awaited: a server that ends early is noticed too.
  const exit = once(child, 'exit');
  const { host, port: listening } = new URL(await readiness(child, exit));

  const server = {
    directory,
    port: Number(listening),
    url: `http://${host}/graphql`,
    socketUrl: `ws://${host}/graphql/ws`,

    /** Saves a forecast of one value: that value, and the position of the change. */
    async save(mwh) {
      const { saveForecasts } = await ask(server.url, SAVE, saving(mwh));
      return { mwh, position: saveForecasts.position };
    },

    /** Asks it to stop; its exit code. */
    async stop() {
      child.kill('SIGTERM');
      const [code] = await exit;
      return code;
    },

    /** Ends it at once. */
    async end() {
      child.kill('SIGKILL');
      await exit;
    },
  };
  await ask(server.url, PREPARE);
  return server;
}

/** Where it listens, once it says that it is ready. */
function readiness(child, exit) {
  const said = [];
  let address;
  const ready = new Promise((tell) => {
    // Read to the end, or a talkative server would wait for its reader.
    createInterface({ input: child.stderr }).on('line', (line) => {
      said.push(line);
      const event = eventOf(line);
      address ??= event.address;
      if (event.message === 'ready') {
        tell(address);
      }
      if (event.level === 'ERROR') {
        console.error(`smartpulse: ${line}`);
      }
    });
  });
  const ended = exit.then(() => {
    throw new Error(`the server ended before it was ready:\n${said.join('\n')}`);
  });
  // Once it was ready, its end is nothing to report.
  ended.catch(() => {});
  return Promise.race([ready, ended]);
}

/** A line of the log; what is none, such as a panic, is an error in itself. */
function eventOf(line) {
  try {
    return JSON.parse(line);
  } catch {
    return { level: 'ERROR' };
  }
}

async function ask(url, query, variables) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  if (errors) {
    throw new Error(`the server refused ${query}:\n${JSON.stringify(errors, null, 2)}`);
  }
  return data;
}
