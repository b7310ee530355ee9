import addPlant from './operations/add-plant.graphql?raw';
import chartValues from './operations/chart-values.graphql?raw';
import everyChange from './operations/every-change.graphql?raw';
import knownThenAndNow from './operations/known-then-and-now.graphql?raw';
import latestForecast from './operations/latest-forecast.graphql?raw';
import liveCurve from './operations/live-curve.graphql?raw';
import liveDifferences from './operations/live-differences.graphql?raw';
import myNotifications from './operations/my-notifications.graphql?raw';
import notify from './operations/notify.graphql?raw';
import oneRun from './operations/one-run.graphql?raw';
import portfolio from './operations/portfolio.graphql?raw';
import providers from './operations/providers.graphql?raw';
import rawFeed from './operations/raw-feed.graphql?raw';
import saveForecast from './operations/save-forecast.graphql?raw';
import units from './operations/units.graphql?raw';
import { EXPLORER_PROVIDER, type Samples } from './samples';
import { hoursFromNow } from './time';

export interface Entry {
  title: string;
  /** One line of the gallery. */
  explanation: string;
  document: string;
  /** Called when the entry is opened: times are around that moment. */
  variables(samples: Samples): Record<string, unknown>;
}

const LATEST_FORECAST: Entry = {
  title: 'Latest forecast',
  explanation: 'Each delivery period, and the run it is from.',
  document: latestForecast,
  variables: ({ series }) => ({ ...series, ...nextHours(12) }),
};

/** What a newcomer sees first. */
export const FIRST_ENTRY = LATEST_FORECAST;

export const GROUPS: { title: string; entries: Entry[] }[] = [
  {
    title: 'Read',
    entries: [
      LATEST_FORECAST,
      {
        title: 'Values for a chart',
        explanation: 'The same curve as plain numbers.',
        document: chartValues,
        variables: ({ series }) => ({ ...series, ...nextHours(24) }),
      },
      {
        title: 'Known then, known now',
        explanation: 'What was known at a moment, beside the latest.',
        document: knownThenAndNow,
        variables: ({ series }) => ({ ...series, ...nextHours(12), knownAt: hoursFromNow(-6) }),
      },
      {
        title: 'What one run gave',
        explanation: 'One submission, whatever came after it.',
        document: oneRun,
        variables: ({ series, runId }) => ({ ...series, ...nextHours(12), runId }),
      },
      {
        title: 'A whole portfolio',
        explanation: 'Many curves in one request.',
        document: portfolio,
        variables: ({ series, portfolio }) => ({
          selections: portfolio.map((unit) => ({ ...series, unit, ...nextHours(6) })),
        }),
      },
      {
        title: 'Units',
        explanation: 'Their capacity, and what they belong to.',
        document: units,
        variables: () => ({ types: ['PLANT'], first: 20 }),
      },
      {
        title: 'Providers',
        explanation: 'Who forecasts.',
        document: providers,
        variables: () => ({}),
      },
    ],
  },
  {
    title: 'Write',
    entries: [
      {
        title: 'Add a plant',
        explanation: 'Creates a unit, or updates it by its key.',
        document: addPlant,
        variables: ({ newPlant }) => ({
          units: [{ key: newPlant, name: 'North field', timeZone: 'Europe/Istanbul', capacityMw: 40 }],
        }),
      },
      {
        title: 'Save a forecast',
        explanation: 'One run, by a provider made for trying.',
        document: saveForecast,
        variables: ({ series: { unit, resolution } }) => ({
          providers: [{ key: EXPLORER_PROVIDER, name: 'Explorer' }],
          runs: [
            {
              unit,
              provider: EXPLORER_PROVIDER,
              resolution,
              start: hoursFromNow(0),
              values: [12.5, 14.25, 13, 11.75],
            },
          ],
        }),
      },
      {
        title: 'Notify yourself',
        explanation: 'Look at the bell, in this and any other tab.',
        document: notify,
        variables: ({ user, channels }) => ({
          notification: {
            to: { users: [user] },
            title: 'Less wind at noon',
            body: 'The forecast for 12:00 fell by 14 MWh.',
            severity: 'WARNING',
            category: 'explorer',
            link: '/',
            channels,
          },
        }),
      },
    ],
  },
  {
    title: 'Live',
    entries: [
      {
        title: 'Every change',
        explanation: 'What is committed, in order and once.',
        document: everyChange,
        variables: () => ({ units: null, providers: null }),
      },
      {
        title: 'One curve, live',
        explanation: 'The curve now, and whenever it changes.',
        document: liveCurve,
        variables: ({ series }) => ({ ...series, ...nextHours(24) }),
      },
      {
        title: 'What is different, live',
        explanation: 'A curve once, then only its changes.',
        document: liveDifferences,
        variables: ({ series }) => ({ ...series, ...nextHours(24), minDelta: 0.05 }),
      },
      {
        title: 'The raw feed',
        explanation: 'Changes of everything, for other systems.',
        document: rawFeed,
        variables: () => ({ entities: null }),
      },
      {
        title: 'Your notifications',
        explanation: 'They arrive, are read, or go, on whatever device.',
        document: myNotifications,
        variables: () => ({ after: null }),
      },
    ],
  },
];

function nextHours(hours: number) {
  return { from: hoursFromNow(0), to: hoursFromNow(hours) };
}
