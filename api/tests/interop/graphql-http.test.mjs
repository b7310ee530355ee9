// Proves that the server keeps to GraphQL over HTTP: every audit of the
// reference implementation passes, what it only recommends included.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { serverAudits } from 'graphql-http';
import { startServer } from './server.mjs';

const server = await startServer();

describe('graphql-http audits', () => {
  after(() => server.end());

  const audits = serverAudits({ url: server.url, fetchFn: fetch });

  for (const { id, name, fn } of audits) {
    test(`${id} ${name}`, async () => {
      const result = await fn();
      assert.equal(result.status, 'ok', await complaint(result));
    });
  }

  test('none of them went missing', () => {
    assert.ok(audits.length >= 61, `${audits.length} audits`);
  });
});

async function complaint({ reason, response }) {
  if (!response) {
    return undefined;
  }
  const body = response.bodyUsed ? '' : await response.text();
  return `${reason}: ${response.status} ${response.headers.get('content-type')} ${body}`;
}
