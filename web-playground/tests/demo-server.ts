import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';

const READY_WITHIN_MS = 90_000;

/** Runs `smartpulse demo` in a directory of its own while `use` runs. */
export async function withDemoServer(use: (url: string) => Promise<void>) {
  const directory = await mkdtemp(join(tmpdir(), 'smartpulse-explorer-'));
  const server = spawn(binary(), ['demo', '--listen', '127.0.0.1:0', '--seed', '1', '--history-days', '2', '--speed', '4'], {
    cwd: directory,
    // What the environment says to a server is not meant for this one.
    env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SMARTPULSE_'))),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // Before anything is awaited: a server that ends early is noticed too.
  const exit = once(server, 'exit');
  try {
    await use(await address(server, exit));
  } finally {
    server.kill();
    await exit;
    await rm(directory, { recursive: true });
  }
}

function binary(): string {
  const built = ['debug', 'release'].map((profile) =>
    resolve(import.meta.dirname, `../../target/${profile}/smartpulse`),
  );
  const found = process.env.SMARTPULSE_BINARY ?? built.find(existsSync);
  if (!found) {
    throw new Error(`build the server first, or name it in SMARTPULSE_BINARY: none of ${built.join(', ')}`);
  }
  return resolve(found);
}

async function address(server: ChildProcess, exit: Promise<unknown>): Promise<string> {
  let said = '';
  // Read to the end, or a talkative server would wait for its reader.
  server.stderr?.on('data', (text) => (said += text));

  const announced = new Promise<string>((found) => {
    createInterface({ input: server.stdout! }).on('line', (line) => {
      const url = /^SmartPulse demo: (http:\S+)$/.exec(line)?.[1];
      if (url) {
        found(url);
      }
    });
  });
  const ended = exit.then(() => {
    throw new Error(`the server ended before it was ready:\n${said}`);
  });
  const late = setTimeout(READY_WITHIN_MS, undefined, { ref: false }).then(() => {
    throw new Error(`the server was not ready within ${READY_WITHIN_MS} ms:\n${said}`);
  });
  return Promise.race([announced, ended, late]);
}
