// Random documents of a schema, with values for their variables: most are valid,
// some are nearly so.
import { getNamedType, getNullableType, isAbstractType, isCompositeType, isListType, isNonNullType, print, parse } from 'graphql';

/** The fields that the model answers. */
const FIELDS = {
  Query: ['node', 'viewer', 'position', 'unit', 'units', 'provider', 'providers', 'forecast', 'forecasts'],
  Viewer: ['id', 'user', 'roles'],
  Unit: ['id', 'key', 'type', 'name', 'timeZone', 'parent', 'capacityMw', 'capacityHistory'],
  Provider: ['id', 'key', 'name'],
  Capacity: ['validFrom', 'capacityMw'],
  UnitConnection: ['nodes', 'edges', 'pageInfo'],
  UnitEdge: ['node'],
  ProviderConnection: ['nodes', 'edges', 'pageInfo'],
  ProviderEdge: ['node'],
  PageInfo: ['hasNextPage', 'hasPreviousPage'],
  Forecast: ['unit', 'provider', 'resolution', 'from', 'to', 'points', 'values', 'position'],
  ForecastPoint: ['deliveryStart', 'deliveryEnd', 'mwh', 'mw', 'issuedAt', 'run'],
  ForecastRun: ['id', 'issuedAt'],
  Node: ['id'],
};

/** Values of arguments and input fields, by type or by name; the last of a kind are bad. */
const VALUES = {
  UnitKey: ['plant:1', 'plant:1', 'plant:2', 'plant:10', 'group:2', 'company:1', 'plant:99', 'plant', 5],
  DateTime: ['2024-05-01T00:00:00Z', '2024-05-01T03:30:00Z', '2024-05-01T08:00:00+02:00', '2024-05-02T00:00:00Z', '2024-05-01'],
  Resolution: ['PT1H'],
  UnitType: ['PLANT', 'GROUP', 'COMPANY', 'SUN'],
  UnitOrder: ['KEY_ASC', 'KEY_DESC', 'UP'],
  Int: [0, 1, 2, 3, 500, -1, 501, 'one'],
  Boolean: [true, false],
  ID: ['unit:plant:1', 'unit:group:2', 'provider:a', 'unit:plant:99', 'nothing', 7],
  String: ['a', 'e', 'b.c', 'Z', '', '"\\\n', 'Ç', 3],
};
const CURSORS = ['after', 'before', 'view'];

/** A document, and variables to send with it. */
export function randomDocument(schema, random) {
  const variables = new Map();
  const fragments = new Map();
  const arguments_ = new Map();

  function value(type, isNullable = true) {
    if (isNonNullType(type)) {
      return random.chance(0.01) ? null : value(type.ofType, false);
    }
    if (isNullable && random.chance(0.1)) {
      return null;
    }
    if (isListType(type)) {
      if (random.chance(0.15)) {
        return value(getNullableType(type.ofType), false);
      }
      return Array.from({ length: random.below(4) }, () => value(type.ofType));
    }
    if (VALUES[type.name]) {
      const values = VALUES[type.name];
      return values[random.below(random.chance(0.1) ? values.length : Math.max(1, values.length - 2))];
    }
    const fields = Object.values(type.getFields()).filter((field) => !CURSORS.includes(field.name));
    const given = fields.filter((field) => random.chance(isNonNullType(field.type) ? 0.98 : 0.4));
    return Object.fromEntries(given.map((field) => [field.name, value(field.type)]));
  }

  /** A literal of a type; now and then a part of it is a variable. */
  function literal(type, of, hasDefault = false) {
    if (random.chance(0.2)) {
      return `$${declare(type, of, hasDefault)}`;
    }
    if (of === null || of === undefined) {
      return 'null';
    }
    const nullable = getNullableType(type);
    if (isListType(nullable) && Array.isArray(of)) {
      return `[${of.map((item) => literal(nullable.ofType, item)).join(', ')}]`;
    }
    const named = getNamedType(type);
    if (typeof of === 'object') {
      const fields = named.getFields();
      return `{ ${Object.entries(of).map(([name, item]) => `${name}: ${literal(fields[name].type, item)}`).join(', ')} }`;
    }
    return named.getValues ? String(of) : JSON.stringify(of);
  }

  function declare(type, of, hasDefault) {
    const name = `v${variables.size}`;
    let declared = type;
    let text = String(type);
    let fallback = '';
    if (isNonNullType(type) && random.chance(hasDefault ? 0.7 : 0.3)) {
      declared = type.ofType;
      text = String(declared);
      if (!hasDefault || random.chance(0.5)) {
        fallback = ` = ${constant(declared, of)}`;
      }
    } else if (random.chance(0.3)) {
      fallback = ` = ${constant(declared, of)}`;
    }
    const absent = random.chance(isNonNullType(declared) ? 0.03 : 0.3);
    variables.set(name, { definition: `$${name}: ${text}${fallback}`, absent, value: random.chance(0.7) ? of : value(declared) });
    return name;
  }

  function constant(type, of) {
    if (of === null || of === undefined) {
      return 'null';
    }
    const nullable = getNullableType(type);
    if (Array.isArray(of)) {
      return `[${of.map((item) => constant(isListType(nullable) ? nullable.ofType : nullable, item)).join(', ')}]`;
    }
    const named = getNamedType(type);
    if (typeof of === 'object') {
      return `{ ${Object.entries(of).map(([name, item]) => `${name}: ${constant(named.getFields()[name].type, item)}`).join(', ')} }`;
    }
    return named.getValues ? String(of) : JSON.stringify(of);
  }

  /** The arguments of a field, mostly the same wherever it stands: then its selections merge. */
  function argumentsOf(parent, field) {
    const name = `${parent}.${field.name}`;
    if (!arguments_.has(name) || random.chance(0.05)) {
      const given = field.args.filter(
        (argument) => !CURSORS.includes(argument.name) && random.chance(isNonNullType(argument.type) ? 0.99 : 0.3),
      );
      const texts = given.map((argument) => {
        return `${argument.name}: ${literal(argument.type, value(argument.type), argument.defaultValue !== undefined)}`;
      });
      arguments_.set(name, texts.length > 0 ? `(${texts.join(', ')})` : '');
    }
    return arguments_.get(name);
  }

  function directives() {
    if (!random.chance(0.12)) {
      return '';
    }
    const condition = random.chance(0.5) ? String(random.chance(0.5)) : `$${declare(schema.getType('Boolean'), random.chance(0.5), true)}`;
    const name = random.of(['skip', 'include']);
    if (condition.startsWith('$')) {
      const variable = variables.get(condition.slice(1));
      // Never null: graphql-js makes that the error of a field, the server refuses the request.
      variable.definition = `${condition}: Boolean${random.chance(0.5) ? '!' : ''} = ${random.chance(0.5)}`;
      variable.value = random.chance(0.5);
    }
    return ` @${name}(if: ${condition})`;
  }

  function selections(type, depth) {
    const names = FIELDS[type.name] ?? [];
    const texts = [];
    for (let count = 1 + random.below(4); count > 0; count -= 1) {
      const kind = random.below(12);
      if (kind === 0) {
        texts.push(`${random.chance(0.3) ? 'kind: ' : ''}__typename${directives()}`);
      } else if (kind === 1) {
        texts.push(`... ${random.chance(0.5) ? `on ${condition(type)}` : ''}${directives()} { ${selections(type, depth)} }`);
      } else if (kind === 2 && depth < 4) {
        texts.push(`...${fragment(type, depth)}${directives()}`);
      } else if (isAbstractType(type) && random.chance(0.7)) {
        const possible = random.of([schema.getType('Unit'), schema.getType('Provider'), schema.getType('ForecastRun')]);
        texts.push(`... on ${possible.name}${directives()} { ${selections(possible, depth)} }`);
      } else if (names.length > 0) {
        texts.push(field(type, type.getFields()[random.of(names)], depth));
      }
    }
    return texts.length > 0 ? texts.join(' ') : '__typename';
  }

  function condition(type) {
    return type.name === 'Unit' && random.chance(0.3) ? 'Node' : type.name;
  }

  function fragment(type, depth) {
    const known = [...fragments].filter(([, of]) => of.type === type.name && of.text);
    if (known.length > 0 && random.chance(0.5)) {
      return random.of(known)[0];
    }
    const name = `F${fragments.size}`;
    const of = { type: type.name };
    fragments.set(name, of);
    of.text = `fragment ${name} on ${type.name} { ${selections(type, depth + 1)} }`;
    return name;
  }

  function field(parent, of, depth) {
    const type = getNamedType(of.type);
    if (isCompositeType(type) && depth >= 5) {
      return '__typename';
    }
    const alias = random.chance(0.2) ? `${random.chance(0.9) ? of.name : 'x'}${random.below(3)}: ` : '';
    const below = isCompositeType(type) ? ` { ${selections(type, depth + 1)} }` : '';
    // An alias has arguments of its own.
    const given = alias ? argumentsOf(`${parent.name}.${alias}`, of) : argumentsOf(parent.name, of);
    return `${alias}${of.name}${given}${directives()}${below}`;
  }

  const root = selections(schema.getQueryType(), 0);
  const declared = [...variables.values()].map(({ definition }) => definition);
  const head = declared.length > 0 ? `query (${declared.join(', ')})` : 'query';
  const query = [`${head} { ${root} }`, ...[...fragments.values()].map(({ text }) => text)].join('\n');
  const given = [...variables].filter(([, { absent }]) => !absent);
  return { query, variables: Object.fromEntries(given.map(([name, variable]) => [name, variable.value])) };
}

/** A document as people lay it out. */
export function pretty(query) {
  try {
    return print(parse(query));
  } catch {
    return query;
  }
}
