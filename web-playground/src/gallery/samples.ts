// The gallery speaks of the server's own units and providers, so that whatever
// is opened runs at once.
import { parseHeaders } from '../headers';
import { addressOf } from '../server';
import samplesDocument from './samples.graphql?raw';
import seriesAtHandDocument from './series-at-hand.graphql?raw';
import { hoursFromNow } from './time';

export interface Samples {
  series: Series;
  /** Some run of `series`. */
  runId: string;
  /** Plants to ask for together, that of `series` among them. */
  portfolio: string[];
  /** A key that no plant has. */
  newPlant: string;
  /** The key of the user who asks. */
  user: string;
  /** How they can be notified here, besides what leads elsewhere. */
  channels: string[];
  /** What to know before the entries are of use. */
  missing: 'nothing' | 'units' | 'values' | 'answer' | 'caller';
}

export interface Series {
  unit: string;
  provider: string;
  resolution: 'PT15M' | 'PT30M' | 'PT1H';
}

/** Writes of the gallery go by this provider. */
export const EXPLORER_PROVIDER = 'explorer';

const PLACEHOLDER: Samples = {
  series: { unit: 'plant:1', provider: EXPLORER_PROVIDER, resolution: 'PT1H' },
  runId: 'the id of a run',
  portfolio: ['plant:1', 'plant:2'],
  newPlant: 'plant:1',
  user: 'the key of a user',
  channels: ['IN_APP'],
  missing: 'units',
};

const asked = new Map<string, Promise<Samples>>();

/** Asked for once by each caller, as whom the headers editor names. */
export function samplesFor(headers: string | null | undefined): Promise<Samples> {
  const authorization = authorizationOf(headers);
  let samples = asked.get(authorization);
  if (!samples) {
    samples = loadSamples(authorization).catch((error) => ({
      ...PLACEHOLDER,
      missing: error instanceof NotLetIn ? 'caller' : 'answer',
    }));
    asked.set(authorization, samples);
  }
  return samples;
}

class NotLetIn extends Error {}

function authorizationOf(headers: string | null | undefined): string {
  const fields = Object.entries(parseHeaders(headers) ?? {});
  const value = fields.find(([name]) => name.toLowerCase() === 'authorization')?.[1];
  return typeof value === 'string' ? value : '';
}

interface Reference {
  viewer: { user: string };
  channels: string[];
  plants: Keys;
  lastPlant: Keys;
  providers: Keys;
}

interface Keys {
  nodes: { key: string }[];
}

async function loadSamples(authorization: string): Promise<Samples> {
  const reference = await query<Reference>(authorization, samplesDocument);
  const viewer = {
    user: reference.viewer.user,
    channels: reference.channels.filter((channel) => ['IN_APP', 'WEB_PUSH'].includes(channel)),
  };
  const plants = reference.plants.nodes.map(({ key }) => key);
  const providers = reference.providers.nodes
    .map(({ key }) => key)
    // Real forecasts before those that somebody tried here.
    .sort((a, b) => Number(a === EXPLORER_PROVIDER) - Number(b === EXPLORER_PROVIDER));

  const [firstPlant] = plants;
  const lastPlant = reference.lastPlant.nodes[0]?.key;
  if (!firstPlant || !lastPlant) {
    return { ...PLACEHOLDER, ...viewer };
  }

  const candidates: Series[] = providers.flatMap((provider) =>
    plants.flatMap((unit) =>
      // Hours first: shorter answers, and forecasts that reach further.
      (['PT1H', 'PT30M', 'PT15M'] as const).map((resolution) => ({ unit, provider, resolution })),
    ),
  );
  const known = await firstWithValues(authorization, candidates);
  const series = known?.series ?? {
    ...PLACEHOLDER.series,
    unit: firstPlant,
    provider: providers[0] ?? EXPLORER_PROVIDER,
  };
  return {
    ...viewer,
    series,
    runId: known?.runId ?? PLACEHOLDER.runId,
    portfolio: plants,
    newPlant: `plant:${Number(lastPlant.split(':')[1]) + 1}`,
    missing: known ? 'nothing' : 'values',
  };
}

interface Point {
  mwh: number;
  run: { id: string };
}

async function firstWithValues(authorization: string, candidates: Series[]) {
  const range = { from: hoursFromNow(0), to: hoursFromNow(1) };
  const { forecasts } = await query<{ forecasts: ({ points: Point[] } | null)[] }>(authorization, seriesAtHandDocument, {
    selections: candidates.map((series) => ({ ...series, ...range })),
  });
  const known = candidates.flatMap((series, index) => {
    const point = forecasts[index]?.points[0];
    return point ? [{ series, runId: point.run.id, mwh: point.mwh }] : [];
  });
  // At night a solar plant's curve shows a newcomer nothing but zeros.
  return known.find(({ mwh }) => mwh > 0) ?? known[0];
}

async function query<Data>(
  authorization: string,
  document: string,
  variables?: Record<string, unknown>,
): Promise<Data> {
  const response = await fetch(addressOf('graphql'), {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(authorization && { authorization }) },
    body: JSON.stringify({ query: document, variables }),
  });
  if (response.status === 401) {
    throw new NotLetIn();
  }
  const { data, errors } = (await response.json()) as { data?: Data; errors?: { message: string }[] };
  if (!data) {
    throw new Error(errors?.[0]?.message ?? `HTTP status ${response.status}`);
  }
  return data;
}
