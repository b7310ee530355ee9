// A small portfolio twice: as requests that write it, and as resolvers of
// graphql-js that answer what the server has to answer of it.
import { GraphQLError } from 'graphql';

const UNITS = [
  { key: 'company:1', name: 'Delta', timeZone: 'UTC', parent: null, capacity: [] },
  { key: 'group:2', name: 'Bravo', timeZone: 'Europe/Madrid', parent: 'company:1', capacity: [] },
  { key: 'plant:1', name: 'Echo', timeZone: 'Europe/Madrid', parent: 'group:2', capacity: [['2024-01-01T00:00:00Z', 12.5]] },
  { key: 'plant:2', name: 'Alpha', timeZone: 'UTC', parent: null, capacity: [['2024-03-01T00:00:00Z', 7]] },
  { key: 'plant:10', name: 'Çeşme "A"', timeZone: 'Europe/Istanbul', parent: 'group:2', capacity: [] },
];
const PROVIDERS = [
  { key: 'a', name: 'Meteo' },
  { key: 'b.c', name: 'b.c' },
  // Every server of these tests has it.
  { key: 'provider-a', name: 'provider-a' },
];
const START = Date.parse('2024-05-01T00:00:00Z');
const HOUR = 3_600_000;
const ISSUED = '2024-04-30T12:00:00Z';
/** MWh of `plant:1` by `a`, by the hour. */
const VALUES = [0, 1.5, null, 1e-7, 123456.75, 4];

/** What `model` answers with, after it was sent to a server by `ask`. */
export async function portfolio(ask) {
  for (const { capacity, ...unit } of UNITS) {
    const [[capacityValidFrom, capacityMw]] = capacity.length > 0 ? capacity : [[]];
    await ask('mutation($unit: UnitInput!) { upsertUnits(input: { units: [$unit] }) { position } }', {
      unit: capacityMw === undefined ? unit : { ...unit, capacityMw, capacityValidFrom },
    });
  }
  await ask('mutation($providers: [ProviderInput!]!) { upsertProviders(input: { providers: $providers }) { position } }', {
    providers: PROVIDERS,
  });
  const run = { unit: 'plant:1', provider: 'a', resolution: 'PT1H', issuedAt: ISSUED };
  const { saveForecasts } = await ask(
    'mutation($run: ForecastRunInput!) { saveForecasts(input: { runs: [$run] }) { runs { id } } }',
    { run: { ...run, start: instant(START), values: VALUES } },
  );
  const { position, viewer } = await ask('{ position viewer { id user roles } }');
  return model({ run: saveForecasts.runs[0].id, position, viewer });
}

/** Resolvers of the root of queries. */
function model({ run, position, viewer }) {
  const units = new Map();
  for (const unit of UNITS) {
    units.set(unit.key, {
      __typename: 'Unit',
      id: `unit:${unit.key}`,
      key: unit.key,
      type: unit.key.split(':')[0].toUpperCase(),
      name: unit.name,
      timeZone: unit.timeZone,
      parent: () => units.get(unit.parent) ?? null,
      capacityMw: ({ at }) => {
        const known = unit.capacity.filter(([from]) => Date.parse(from) <= (at == null ? Date.now() : Date.parse(at)));
        return known.at(-1)?.[1] ?? null;
      },
      capacityHistory: unit.capacity.map(([validFrom, capacityMw]) => ({ validFrom, capacityMw })),
    });
  }
  const providers = new Map(
    PROVIDERS.map(({ key, name }) => [key, { __typename: 'Provider', id: `provider:${key}`, key, name }]),
  );

  const points = VALUES.flatMap((mwh, i) => {
    const at = START + i * HOUR;
    const point = {
      deliveryStart: instant(at),
      deliveryEnd: instant(at + HOUR),
      mwh,
      mw: mwh,
      issuedAt: ISSUED,
      run: { __typename: 'ForecastRun', id: run, issuedAt: ISSUED },
    };
    return mwh === null ? [] : [{ at, point }];
  });

  function forecast({ unit: key, provider: providerKey, resolution, from, to }) {
    const [unit, provider] = [units.get(key), providers.get(providerKey)];
    const [first, last] = [Math.floor(Date.parse(from) / HOUR) * HOUR, Math.ceil(Date.parse(to) / HOUR) * HOUR];
    if (!unit || !provider || Date.parse(from) >= Date.parse(to)) {
      throw new GraphQLError('no such forecast');
    }
    const found = key === 'plant:1' && providerKey === 'a' ? points.filter(({ at }) => at >= first && at < last) : [];
    const values = Array.from({ length: (last - first) / HOUR }, () => null);
    for (const { at, point } of found) {
      values[(at - first) / HOUR] = point.mwh;
    }
    return {
      unit,
      provider,
      resolution,
      from: instant(first),
      to: instant(last),
      points: found.map(({ point }) => point),
      values,
      position,
    };
  }

  function page(nodes, { first, last }) {
    const size = first ?? last ?? 50;
    if ((first != null && last != null) || size < 0 || size > 500) {
      throw new GraphQLError('no such page');
    }
    const found = last == null ? nodes.slice(0, size) : nodes.slice(Math.max(0, nodes.length - size));
    const more = found.length < nodes.length;
    return {
      nodes: found,
      edges: found.map((node) => ({ node })),
      pageInfo: { hasNextPage: last == null && more, hasPreviousPage: last != null && more },
    };
  }

  // Failures come later than what succeeds: as with a database, no field waits for another.
  const later = (resolve) => async (args) => {
    await null;
    return resolve(args);
  };

  return {
    node: later(({ id }) => {
      const [kind, key] = [id.split(':')[0], id.slice(id.indexOf(':') + 1)];
      if (kind !== 'unit' && kind !== 'provider') {
        throw new GraphQLError('not an id');
      }
      return (kind === 'unit' ? units : providers).get(key) ?? null;
    }),
    viewer,
    position,
    unit: later(({ key }) => units.get(key) ?? null),
    units: later(({ filter, orderBy, ...rest }) => {
      const { keys, types, parent, nameContains } = filter ?? {};
      const found = [...units.values()].filter(
        (unit) =>
          (keys == null || keys.includes(unit.key)) &&
          (types == null || types.includes(unit.type)) &&
          (parent == null || unit.parent()?.key === parent) &&
          (nameContains == null || unit.name.toLowerCase().includes(nameContains.toLowerCase())),
      );
      return page(orderBy === 'KEY_DESC' ? found.reverse() : found, rest);
    }),
    provider: later(({ key }) => providers.get(key) ?? null),
    providers: later((args) => page([...providers.values()], args)),
    forecast: later(forecast),
    forecasts: later(({ selections }) =>
      selections.map(async (selection) => {
        await null;
        return forecast(selection);
      }),
    ),
  };
}

function instant(milliseconds) {
  return new Date(milliseconds).toISOString().replace('.000Z', 'Z');
}

/** What the scalars of the schema take, where GraphQL leaves it to a server. */
export const SCALARS = {
  UnitKey: (value) => typeof value === 'string' && /^(plant|group|company):[1-9][0-9]*$/.test(value),
  DateTime: (value) =>
    typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(value),
};
