// A browser's push service, and the keys of a browser that subscribed to it: the
// real ones are on the internet.
import { createDecipheriv, createECDH, hkdfSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

export interface PushService {
  /** What the browser's push manager would give. */
  subscription: { endpoint: string; p256dh: string; auth: string };
  /** What the server sent, as the browser would hand it to the service worker. */
  messages: string[];
}

/** Takes messages while `use` runs. */
export async function withPushService(use: (service: PushService) => Promise<void>) {
  const keys = createECDH('prime256v1');
  const publicKey = keys.generateKeys();
  const auth = randomBytes(16);
  const messages: string[] = [];
  const service = createServer(async (request, response) => {
    messages.push(decrypt(await buffer(request)));
    response.writeHead(201).end();
  });

  /** RFC 8291, section 3.4, in one record of RFC 8188. */
  function decrypt(body: Buffer): string {
    const salt = body.subarray(0, 16);
    const cipherStart = 21 + body.readUInt8(20);
    const senderKey = body.subarray(21, cipherStart);
    const derive = (from: Buffer, salt: Buffer, info: Buffer, length: number) =>
      Buffer.from(hkdfSync('sha256', from, salt, info, length));
    const info = Buffer.concat([Buffer.from('WebPush: info\0'), publicKey, senderKey]);
    const secret = derive(keys.computeSecret(senderKey), auth, info, 32);
    const key = derive(secret, salt, Buffer.from('Content-Encoding: aes128gcm\0'), 16);
    const nonce = derive(secret, salt, Buffer.from('Content-Encoding: nonce\0'), 12);
    const decipher = createDecipheriv('aes-128-gcm', key, nonce);
    decipher.setAuthTag(body.subarray(-16));
    const padded = Buffer.concat([decipher.update(body.subarray(cipherStart, -16)), decipher.final()]);
    return padded.subarray(0, padded.lastIndexOf(2)).toString();
  }

  await new Promise<void>((listening) => service.listen(0, '127.0.0.1', listening));
  const { port } = service.address() as AddressInfo;
  try {
    await use({
      subscription: {
        endpoint: `http://127.0.0.1:${port}/push`,
        p256dh: publicKey.toString('base64url'),
        auth: auth.toString('base64url'),
      },
      messages,
    });
  } finally {
    service.closeAllConnections();
    await new Promise((closed) => service.close(closed));
  }
}
