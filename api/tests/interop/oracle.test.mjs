// Proves that the server means by a request what the reference implementation
// does: graphql-js executes the same random documents over the same schema, with
// resolvers that mirror the server's.
//
// A document that fails is named by its seed: `SMARTPULSE_ORACLE_SEED=17` runs it
// alone.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { buildSchema, execute, parse, validate } from 'graphql';
import { pretty, randomDocument } from './oracle/documents.mjs';
import { SCALARS, portfolio } from './oracle/model.mjs';
import { seeded } from './oracle/random.mjs';
import { startServer } from './server.mjs';

const DOCUMENTS = 600;
const only = process.env.SMARTPULSE_ORACLE_SEED;
const seeds = only ? [Number(only)] : Array.from({ length: DOCUMENTS }, (_, i) => i + 1);

const server = await startServer();

describe('graphql-js', () => {
  after(() => server.end());

  let schema;
  let root;
  before(async () => {
    const sdl = await fetch(new URL('/schema.graphql', server.url));
    schema = buildSchema(await sdl.text());
    for (const [name, accepts] of Object.entries(SCALARS)) {
      const scalar = schema.getType(name);
      scalar.parseValue = (value) => {
        assert.ok(accepts(value), `not a ${name}`);
        return value;
      };
      scalar.parseLiteral = (node) => scalar.parseValue(node.kind === 'StringValue' ? node.value : null);
    }
    root = await portfolio(async (query, variables) => {
      const { data, errors } = await ask({ query, variables });
      assert.equal(errors, undefined, JSON.stringify(errors));
      return data;
    });
  });

  test(`and the server answer ${seeds.length} documents alike`, async (t) => {
    const seen = { refused: 0, whole: 0, failed: 0, emptied: 0 };
    for (const seed of seeds) {
      const request = randomDocument(schema, seeded(seed));
      const expected = await reference(schema, root, request);
      const found = await ask(request);
      const about = `seed ${seed}\n${pretty(request.query)}\n${JSON.stringify(request.variables)}\n`
        + `expected ${JSON.stringify(expected)}\nfound ${JSON.stringify(found)}`;
      compare(expected, found, about);
      seen[kind(expected)] += 1;
    }
    t.diagnostic(JSON.stringify(seen));
    if (!only) {
      for (const [name, count] of Object.entries(seen)) {
        assert.ok(count >= 10, `only ${count} documents are ${name}: they prove too little`);
      }
    }
  });
});

async function ask(request) {
  const response = await fetch(server.url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
  });
  return response.json();
}

/** What graphql-js makes of a request; without `data` if it refuses it. */
async function reference(schema, rootValue, { query, variables }) {
  const document = parse(query);
  const errors = validate(schema, document);
  if (errors.length > 0) {
    return { errors };
  }
  return execute({ schema, document, rootValue, variableValues: variables });
}

function kind({ data, errors }) {
  if (data === undefined) {
    return 'refused';
  }
  if (!errors) {
    return 'whole';
  }
  return data === null ? 'emptied' : 'failed';
}

function compare(expected, found, about) {
  assert.equal('data' in found, expected.data !== undefined, `executed or not: ${about}`);
  if (expected.data === undefined) {
    assert.ok(found.errors.length > 0, about);
    return;
  }
  // As text: the order of keys counts.
  assert.equal(JSON.stringify(found.data), JSON.stringify(expected.data), about);
  compareErrors(expected, found, about);
}

/**
 * Every null that an error made is explained by the same error; of several below
 * one null, which the specification leaves open, by at least one of them.
 */
function compareErrors(expected, found, about) {
  const [theirs, ours] = [byNull(expected), byNull(found)];
  assert.deepEqual([...ours.keys()].sort(), [...theirs.keys()].sort(), about);
  for (const [place, paths] of theirs) {
    for (const path of paths) {
      assert.ok(ours.get(place).includes(path), `${path} of ${place}: ${about}`);
    }
  }
}

/** Paths of errors, by the null that each has made. */
function byNull({ data, errors = [] }) {
  const nulls = new Map();
  for (const { path } of errors) {
    let [at, length] = [data, 0];
    while (at !== null && at !== undefined && length < path.length) {
      at = at[path[length]];
      length += 1;
    }
    assert.equal(at, null, `an error at ${JSON.stringify(path)}, where there is something`);
    const place = JSON.stringify(path.slice(0, length));
    nulls.set(place, [...(nulls.get(place) ?? []), JSON.stringify(path)]);
  }
  return nulls;
}
