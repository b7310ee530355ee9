// A real SMTP server for the e-mail tests. It keeps what it receives, serves it
// over HTTP, and misbehaves when it is told to.
//
//   node server.mjs [--starttls | --smtps] [--auth USER:PASSWORD]
//
// The first line of its output says where it listens:
//   {"smtp": 40001, "http": 40002}
//
// GET    /mails        what it received, oldest first
// DELETE /mails        forgets it, and all behaviour
// GET    /connections  how many SMTP connections were made
// DELETE /connections  breaks those that are open
// POST   /behaviour    {"at": "connect" | "mail" | "rcpt" | "content", "address"?,
//                       "code"?, "message"?, "delay"?, "drop"?, "times"?}
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { simpleParser } from 'mailparser';
import { SMTPServer } from 'smtp-server';

const { values: flags } = parseArgs({
  options: {
    starttls: { type: 'boolean', default: false },
    smtps: { type: 'boolean', default: false },
    auth: { type: 'string' },
  },
});
const encrypted = flags.starttls || flags.smtps;

let mails = [];
let behaviours = [];
let connections = 0;

/** Does what was asked for at this point of a session, if anything was. */
async function behave(at, address, session) {
  const behaviour = behaviours.find(
    (each) => each.at === at && each.times !== 0 && (each.address ?? address) === address,
  );
  if (!behaviour) {
    return;
  }
  behaviour.times -= 1;
  await delay(behaviour.delay ?? 0);
  if (behaviour.drop) {
    breakConnections((connection) => connection.session === session);
    throw new Error('dropped');
  }
  if (behaviour.code) {
    throw Object.assign(new Error(behaviour.message ?? 'as told'), { responseCode: behaviour.code });
  }
}

function breakConnections(which) {
  for (const connection of [...smtp.connections].filter(which)) {
    connection._socket.destroy();
  }
}

const tls = (name) => readFileSync(new URL(`tls/${name}`, import.meta.url));

const smtp = new SMTPServer({
  secure: flags.smtps,
  hideSTARTTLS: !flags.starttls,
  ...(encrypted && { key: tls('server.key'), cert: tls('server.pem') }),
  authOptional: !flags.auth,
  // What a behaviour says is all that it says.
  hideENHANCEDSTATUSCODES: true,
  disableReverseLookup: true,
  onConnect(session, done) {
    connections += 1;
    behave('connect', undefined, session).then(done, done);
  },
  onAuth({ username, password }, _session, done) {
    if (`${username}:${password}` === flags.auth) {
      done(null, { user: username });
    } else {
      done(Object.assign(new Error('5.7.8 wrong password'), { responseCode: 535 }));
    }
  },
  onMailFrom({ address }, session, done) {
    behave('mail', address, session).then(done, done);
  },
  onRcptTo({ address }, session, done) {
    behave('rcpt', address, session).then(done, done);
  },
  onData(stream, session, done) {
    const { mailFrom, rcptTo } = session.envelope;
    const chunks = [];
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.on('end', async () => {
      try {
        await behave('content', rcptTo[0].address, session);
      } catch (error) {
        done(error);
        return;
      }
      mails.push({
        raw: Buffer.concat(chunks),
        envelope: { from: mailFrom.address, to: rcptTo.map(({ address }) => address) },
      });
      done(null, `2.0.0 accepted as ${mails.length}`);
    });
  },
});
// What a broken connection leaves behind is what it was broken for.
smtp.on('error', () => {});

/** What a mail program would make of it. */
async function read({ raw, envelope }) {
  const mail = await simpleParser(raw);
  return {
    envelope,
    from: mail.from?.value,
    to: mail.to?.value,
    replyTo: mail.replyTo?.value,
    subject: mail.subject,
    date: mail.date,
    messageId: mail.messageId,
    text: mail.text,
    html: mail.html,
    headers: Object.fromEntries(
      mail.headerLines.map(({ key, line }) => [key, line.slice(key.length + 1).replaceAll(/\r?\n/g, '').trim()]),
    ),
    attachments: mail.attachments.map(({ filename, contentType, content }) => ({
      fileName: filename,
      mediaType: contentType,
      content: content.toString('base64'),
    })),
    raw: raw.toString('latin1'),
    size: raw.length,
  };
}

const routes = {
  'GET /mails': () => Promise.all(mails.map(read)),
  'DELETE /mails'() {
    mails = [];
    behaviours = [];
  },
  'GET /connections': () => connections,
  'DELETE /connections': () => breakConnections(() => true),
  async 'POST /behaviour'(request) {
    behaviours.push({ times: Infinity, ...(await json(request)) });
  },
};

const http = createServer(async (request, response) => {
  const route = routes[`${request.method} ${request.url}`];
  const body = route ? await route(request) : undefined;
  response.writeHead(route ? 200 : 404, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body ?? null));
});

const listening = (server) =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
await listening(smtp);
await listening(http);
console.log(JSON.stringify({ smtp: smtp.server.address().port, http: http.address().port }));

// Whoever started it may be killed; with them this pipe breaks.
process.stdin.on('end', () => process.exit()).resume();
