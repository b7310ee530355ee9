// A reverse proxy that has the server below a path of its own, as
// `location /energy/ { proxy_pass http://server/; }` does.
import { type IncomingMessage, createServer, request as ask } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';

export interface Proxy {
  /** Where the page is. */
  url: string;
  /** Paths that were asked for and lie elsewhere. */
  strays: string[];
}

/** Passes on what is asked for below `path`, which ends with a slash, while `use` runs. */
export async function withProxy(server: string, path: string, use: (proxy: Proxy) => Promise<void>) {
  const { hostname, port } = new URL(server);
  const strays: string[] = [];

  /** The same request to the server, or none. */
  function passedOn({ url = '', method, headers }: IncomingMessage) {
    if (!url.startsWith(path)) {
      strays.push(url);
      return undefined;
    }
    return ask({ hostname, port, method, headers, path: url.slice(path.length - 1) });
  }

  const proxy = createServer((request, response) => {
    const passed = passedOn(request);
    if (!passed) {
      response.writeHead(404).end();
      return;
    }
    passed.on('response', (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
    });
    passed.on('error', () => response.destroy());
    request.pipe(passed);
  });
  const sockets = new Set<Duplex>();
  proxy.on('upgrade', (request: IncomingMessage, socket: Duplex) => {
    const passed = passedOn(request);
    if (!passed) {
      socket.destroy();
      return;
    }
    passed.on('upgrade', ({ rawHeaders }, upstream) => {
      const lines = rawHeaders.flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${rawHeaders[at + 1]}`] : []));
      socket.write(['HTTP/1.1 101 Switching Protocols', ...lines, '', ''].join('\r\n'));
      for (const end of [socket, upstream]) {
        sockets.add(end);
        end.on('error', () => {});
      }
      socket.pipe(upstream).pipe(socket);
    });
    passed.on('error', () => socket.destroy());
    passed.end();
  });
  await new Promise<void>((tell) => proxy.listen(0, '127.0.0.1', tell));
  try {
    await use({ url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}${path}`, strays });
  } finally {
    sockets.forEach((socket) => socket.destroy());
    proxy.closeAllConnections();
    proxy.close();
  }
}
