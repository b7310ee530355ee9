import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';

const READY_WITHIN_MS = 90_000;

export interface Server {
  url: string;
  /** Runs another command of the binary on the server's database; what it prints. */
  command(...args: string[]): Promise<string>;
}

/** Runs `smartpulse demo` in a directory of its own while `use` runs. */
export function withDemoServer(use: (url: string) => Promise<void>) {
  const args = ['demo', '--listen', '127.0.0.1:0', '--seed', '1', '--history-days', '2', '--speed', '4'];
  const announced = (line: string) => /^SmartPulse demo: (http:\S+)$/.exec(line)?.[1];
  return withProcess(args, announced, ({ url }) => use(url));
}

/** Runs `smartpulse serve` on a database of its own while `use` runs. */
export function withServer(options: string[], use: (server: Server) => Promise<void>) {
  let address: string | undefined;
  const announced = (line: string) => {
    const event = line.startsWith('{') ? (JSON.parse(line) as { message?: string; address?: string }) : {};
    address ??= event.address;
    return event.message === 'ready' ? address : undefined;
  };
  return withProcess(['serve', '--listen', '127.0.0.1:0', '--log-format', 'json', ...options], announced, use);
}

async function withProcess(
  args: string[],
  announced: (line: string) => string | undefined,
  use: (server: Server) => Promise<void>,
) {
  const directory = await mkdtemp(join(tmpdir(), 'smartpulse-explorer-'));
  const options = {
    cwd: directory,
    // What the environment says to a server is not meant for this one.
    env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SMARTPULSE_'))),
  };
  const server = spawn(binary(), args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  // Before anything is awaited: a server that ends early is noticed too.
  const exit = once(server, 'exit');
  try {
    const url = await address(server, announced, exit);
    const command = async (...args: string[]) => (await promisify(execFile)(binary(), args, options)).stdout.trim();
    await use({ url, command });
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

async function address(
  server: ChildProcess,
  announced: (line: string) => string | undefined,
  exit: Promise<unknown>,
): Promise<string> {
  let said = '';
  const found = new Promise<string>((tell) => {
    // Both read to the end, or a talkative server would wait for its reader.
    for (const output of [server.stdout!, server.stderr!]) {
      createInterface({ input: output }).on('line', (line) => {
        said += `${line}\n`;
        const url = announced(line);
        if (url) {
          tell(url);
        }
      });
    }
  });
  const ended = exit.then(() => {
    throw new Error(`the server ended before it was ready:\n${said}`);
  });
  const late = setTimeout(READY_WITHIN_MS, undefined, { ref: false }).then(() => {
    throw new Error(`the server was not ready within ${READY_WITHIN_MS} ms:\n${said}`);
  });
  return Promise.race([found, ended, late]);
}
