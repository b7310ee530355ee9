import type { Page } from '@playwright/test';
import { Explorer, expect, test } from './explorer';

test('a newcomer finds a query to run', async ({ explorer, page }) => {
  await expect(page).toHaveTitle('SmartPulse');
  await expect(explorer.gallery).toBeVisible();
  await expect(explorer.tabs).toHaveText(['LatestForecast']);

  await explorer.run();

  await expectData(explorer);
  await expect.poll(() => explorer.response()).toHaveProperty('data.forecast.points.0.mwh', expect.any(Number));
});

test('every entry of the gallery runs', async ({ explorer, page }) => {
  test.slow();
  const titles = await explorer.gallery.locator('button strong').allTextContents();
  expect(titles.length).toBeGreaterThanOrEqual(10);

  for (const title of titles) {
    await test.step(title, async () => {
      await explorer.openEntry(title);
      await explorer.run();
      const document = await explorer.text('operation');
      if (document.includes('notificationChanged')) {
        await notify(page);
      }
      await expectData(explorer);
      if (/^subscription/m.test(document)) {
        await explorer.stop();
      }
      await expect(page.getByRole('button', { name: 'Execute query' })).toBeVisible();
    });
  }
});

test('changes arrive as they happen', async ({ explorer }) => {
  await explorer.openEntry('Every change');
  await explorer.run();
  const first = await nextPosition(explorer, 'forecastChanged');
  await nextPosition(explorer, 'forecastChanged', first);
});

test('a live curve starts with its present state and moves', async ({ explorer }) => {
  test.slow();
  await explorer.openEntry('One curve, live');
  await explorer.run();
  const first = await nextPosition(explorer, 'forecastLive');
  await nextPosition(explorer, 'forecastLive', first);
});

test('a subscription ends with its tab', async ({ explorer, page }) => {
  const socket = page.waitForEvent('websocket');
  await explorer.openEntry('Every change');
  await explorer.run();
  await expectData(explorer);

  const closed = (await socket).waitForEvent('close');
  await explorer.openEntry('Providers');
  await closed;

  expect(await explorer.text('response')).toBe('');
});

test('the headers editor reaches the server', async ({ explorer, page }) => {
  await page.getByRole('button', { name: 'Headers' }).click();
  await explorer.write('Headers', '{ "SmartPulse-User": "ada" }');
  await explorer.write('Operation Editor', 'query WhoAmI { viewer { user } }');
  await expect(explorer.tabs).toHaveText(['WhoAmI']);
  await explorer.run();
  await expect.poll(() => explorer.response()).toEqual({ data: { viewer: { user: 'ada' } } });
});

test('the headers editor reaches a subscription too', async ({ explorer, page }) => {
  await explorer.openEntry('Every change');
  await page.getByRole('button', { name: 'Headers' }).click();
  await explorer.write('Headers', '{ "SmartPulse-User": "ada" }');

  // The bell comes back as ada, too, on a socket of its own.
  const sockets: { type: string; payload: unknown }[][] = [];
  page.on('websocket', (socket) => {
    const sent: (typeof sockets)[number] = [];
    sockets.push(sent);
    socket.on('framesent', ({ payload }) => sent.push(JSON.parse(payload.toString())));
  });
  await explorer.run();
  await expectData(explorer);

  const [init] = sockets.find((sent) => JSON.stringify(sent).includes('subscription EveryChange'))!;
  expect(init).toEqual({ type: 'connection_init', payload: { 'SmartPulse-User': 'ada' } });
});

test('an entry opens beside what somebody has done, and over what nobody touched', async ({ explorer }) => {
  await explorer.openEntry('Units');
  await expect(explorer.tabs).toHaveText(['Units']);

  await explorer.write('Operation Editor', 'query Mine { viewer { user } }');
  await expect(explorer.tabs).toHaveText(['Mine']);
  await explorer.openEntry('Providers');
  await expect(explorer.tabs).toHaveText(['Mine', 'Providers']);

  await explorer.tabs.getByText('Mine').click();
  await expect.poll(() => explorer.text('operation')).toBe('query Mine { viewer { user } }');
});

test('tabs and the closed gallery are still so after a reload', async ({ explorer, page }) => {
  await explorer.write('Operation Editor', 'query Mine { viewer { user } }');
  await page.getByRole('button', { name: 'Hide Gallery' }).click();
  // GraphiQL stores its tabs after a pause.
  await page.waitForFunction(() => localStorage.getItem('graphiql:tabState')?.includes('Mine'));

  await page.reload();

  await expect(explorer.tabs).toHaveText(['Mine']);
  await expect(explorer.gallery).toBeHidden();
});

test('the documentation knows the schema', async ({ explorer, page }) => {
  await page.getByRole('button', { name: 'Show Documentation Explorer' }).click();
  await page.getByRole('link', { name: 'Subscription' }).click();
  await expect(page.getByRole('link', { name: 'forecastLive', exact: true })).toBeVisible();
  await expect(explorer.gallery).toBeHidden();
});

test('the history remembers what ran', async ({ explorer, page }) => {
  await explorer.run();
  await expectData(explorer);
  await page.getByRole('button', { name: 'Show History' }).click();
  await expect(page.getByRole('button', { name: 'LatestForecast', exact: true })).toBeVisible();
});

test('where web push is not set up, nobody is offered it', async ({ explorer }) => {
  await explorer.bell.click();
  await expect(explorer.inbox.getByRole('button', { name: 'Mark all read' })).toBeVisible();
  await expect(explorer.inbox.getByRole('switch')).toBeHidden();
});

test('without units the gallery says how to get some', async ({ explorer, page }) => {
  const none = { nodes: [] };
  const nothing = {
    data: { viewer: { user: 'local' }, channels: [], plants: none, lastPlant: none, providers: none },
  };
  await page.route('/graphql', (route) =>
    route.request().postData()?.includes('GallerySamples') ? route.fulfill({ json: nothing }) : route.fallback(),
  );
  await page.reload();
  await expect(explorer.gallery.getByRole('note')).toContainText('smartpulse demo');

  await explorer.openEntry('Latest forecast');
  await expect.poll(() => explorer.text('variables')).toContain('"plant:1"');
});

/** Sends notifications until one is told: nobody says when a subscription has begun. */
async function notify(page: Page) {
  const query =
    'mutation { sendNotification(input: { to: { users: ["local"] }, title: "News" }) { notificationId } }';
  await expect(async () => {
    await page.request.post('/graphql', { data: { query } });
    await expect.poll(() => new Explorer(page).response(), { timeout: 1_000 }).toBeDefined();
  }).toPass();
}

/** Waits for an answer, which must be without errors and without a null at its top. */
async function expectData(explorer: Explorer) {
  await expect.poll(() => explorer.response(), { timeout: 20_000 }).toBeDefined();
  const answer = (await explorer.response()) as { data?: Record<string, unknown> };
  expect(answer).not.toHaveProperty('errors');
  expect(Object.values(answer.data ?? { data: null })).not.toContain(null);
}

/** Waits for an event of a subscription at another position than the one seen last. */
async function nextPosition(explorer: Explorer, field: string, seen?: string): Promise<string> {
  let position: string | undefined;
  await expect
    .poll(
      async () => {
        await expectData(explorer);
        const { data } = (await explorer.response()) as { data: Record<string, { position: string }> };
        position = data[field]?.position;
        return position !== undefined && position !== seen;
      },
      { timeout: 30_000 },
    )
    .toBe(true);
  return position!;
}
