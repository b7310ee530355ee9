// Proves that `graphql-request` gets answers, and errors with their codes
// whatever the status they come with.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { ClientError, GraphQLClient } from 'graphql-request';
import { FORECAST, INVALID, KNOWN, SAVE, UNKNOWN, assertError, assertSaved, saving } from './operations.mjs';
import { startServer } from './server.mjs';

const server = await startServer();

describe('graphql-request', () => {
  after(() => server.end());

  for (const method of ['POST', 'GET']) {
    test(`a query by ${method} is answered`, async () => {
      await server.save(12.5);

      assert.deepEqual(await connect({ method }).request(FORECAST, KNOWN), { forecast: { values: [12.5] } });
    });
  }

  test('a mutation is answered', async () => {
    const earlier = await server.save(0);

    assertSaved(await connect().request(SAVE, saving(1)), earlier);
  });

  test('an error comes with its code, beside the data', async () => {
    await assert.rejects(connect().request(FORECAST, UNKNOWN), ({ response }) => {
      assert.equal(response.status, 200);
      assert.deepEqual(response.data, { forecast: null });
      assertError(response.errors, 'NOT_FOUND');
      return true;
    });
  });

  test('what is not valid is a bad request that says why', async () => {
    await assert.rejects(connect().request(INVALID), (error) => {
      assert.ok(error instanceof ClientError, error);
      assert.equal(error.response.status, 400);
      assertError(error.response.errors, 'BAD_USER_INPUT');
      return true;
    });
  });
});

function connect(options) {
  return new GraphQLClient(server.url, options);
}
