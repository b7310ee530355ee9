import type { BrowserContext, Page, WebSocketRoute, Worker } from '@playwright/test';
import { complaintsOf, test as base, Explorer, expect } from './explorer';
import { type PushService, withPushService } from './push-service';
import { type Server, withServer } from './server';

interface Fixtures {
  server: Server;
  /** Asks the server, as another program would. */
  ask: (query: string, variables?: Record<string, unknown>) => Promise<Record<string, any>>;
  pushService: PushService;
}

const test = base.extend<Fixtures>({
  // One for each test: they count.
  server: async ({}, use) =>
    withServer(['--web-push-contact', 'mailto:ops@example.org', '--allow-private-addresses'], use),

  baseURL: async ({ server }, use) => use(server.url),

  ask: async ({ request }, use) => {
    await use(async (query, variables) => {
      const response = await request.post('/graphql', { data: { query, variables } });
      const { data, errors } = await response.json();
      expect(errors).toBeUndefined();
      return data;
    });
  },

  pushService: async ({}, use) => withPushService(use),
});

const SEND = 'mutation ($input: SendNotificationInput!) { sendNotification(input: $input) { notificationId } }';

async function send(ask: Fixtures['ask'], title: string, input: Record<string, unknown> = {}): Promise<string> {
  const { sendNotification } = await ask(SEND, { input: { to: { users: ['local'] }, title, ...input } });
  return sendNotification.notificationId;
}

async function anotherTab(context: BrowserContext): Promise<Explorer> {
  const explorer = new Explorer(await context.newPage());
  await explorer.page.goto('/');
  await expect(explorer.bell).toBeVisible();
  return explorer;
}

test('the bell counts what arrives, and tells it', async ({ explorer, page, ask }) => {
  await expect(explorer.bell).toHaveAccessibleName('Notifications');
  await send(ask, 'Wind drops at noon', { body: '12 MWh less', severity: 'WARNING', link: '/units/plant:1' });
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 1 unread');
  await send(ask, 'Calm', { link: 'https://example.org/calm' });
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 2 unread');
  await expect(page.getByRole('status', { name: 'Unread notifications' })).toHaveText('2 unread');

  await expect(explorer.inbox).toBeHidden();
  await explorer.bell.click();
  const items = explorer.inbox.getByRole('listitem');
  await expect(items).toHaveCount(2);
  await expect(items.nth(0)).toContainText('Calm');
  await expect(items.nth(0).getByRole('link')).toHaveAttribute('href', 'https://example.org/calm');
  await expect(items.nth(1)).toContainText(/Unread: Wind drops at noon12 MWh lessWarning/);
  await expect(items.nth(1).getByRole('link', { name: 'Open Wind drops at noon' })).toHaveAttribute('href', '/units/plant:1');

  await items.nth(1).getByRole('button').click();
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 1 unread');
  await expect(items.nth(1)).not.toContainText('Unread');
});

test('the bell is of use without a mouse', async ({ explorer, page, ask }) => {
  await send(ask, 'Wind drops at noon');
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 1 unread');

  await explorer.bell.focus();
  await page.keyboard.press('Enter');
  await expect(explorer.inbox).toBeVisible();
  await page.keyboard.press('Tab');
  await expect(explorer.inbox.getByRole('button', { name: 'Mark all read' })).toBeFocused();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await expect(explorer.bell).toHaveAccessibleName('Notifications');
  await page.keyboard.press('Escape');
  await expect(explorer.inbox).toBeHidden();
  await expect(explorer.bell).toBeFocused();
});

test('what is read in one tab is read in another', async ({ explorer, context, ask }) => {
  const other = await anotherTab(context);
  await send(ask, 'One');
  await send(ask, 'Two');
  await send(ask, 'Three');
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 3 unread');
  await expect(other.bell).toHaveAccessibleName('Notifications, 3 unread');

  await other.bell.click();
  await other.inbox.getByRole('button', { name: 'Two' }).click();
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 2 unread');
  await other.inbox.getByRole('button', { name: 'Mark all read' }).click();
  await expect(explorer.bell).toHaveAccessibleName('Notifications');
  await expect(other.inbox.getByRole('button', { name: 'Mark all read' })).toBeDisabled();
});

test('what is withdrawn or deleted goes', async ({ explorer, ask }) => {
  const withdrawn = await send(ask, 'By mistake');
  await send(ask, 'Deleted elsewhere');
  await send(ask, 'Stays');
  await explorer.bell.click();
  const items = explorer.inbox.getByRole('listitem');
  await expect(items).toHaveCount(3);

  await ask('mutation ($id: ID!) { revokeNotification(input: { notificationId: $id }) { position } }', {
    id: withdrawn,
  });
  await expect(items).toHaveCount(2);
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 2 unread');
  const { notifications } = await ask('{ notifications { nodes { id title } } }');
  await ask('mutation ($id: ID!) { deleteNotifications(input: { ids: [$id] }) { position } }', {
    id: notifications.nodes.find(({ title }: { title: string }) => title === 'Deleted elsewhere').id,
  });
  await expect(items).toHaveCount(1);
  await expect(items).toContainText('Stays');
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 1 unread');
});

test('the latest twenty are told, and all are counted', async ({ explorer, ask }) => {
  for (let n = 1; n <= 22; n += 1) {
    await send(ask, `Number ${n}`);
  }
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 22 unread');
  await explorer.bell.click();
  await expect(explorer.inbox.getByRole('listitem')).toHaveCount(20);
  await expect(explorer.inbox.getByRole('listitem').first()).toContainText('Number 22');
});

test('the bell is of whom the headers editor names', async ({ explorer, page, ask }) => {
  await send(ask, 'For local');
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 1 unread');
  await page.getByRole('button', { name: 'Headers' }).click();
  await explorer.write('Headers', '{ "SmartPulse-User": "ada" }');
  await expect(explorer.bell).toHaveAccessibleName('Notifications');
  await send(ask, 'For ada', { to: { users: ['ada'] } });
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 1 unread');
  await explorer.bell.click();
  await expect(explorer.inbox.getByRole('listitem')).toHaveText(/For ada/);
});

test('the bell comes back when the line breaks, and goes when it is no longer let in', async ({
  explorer,
  page,
  ask,
}) => {
  const lines: WebSocketRoute[] = [];
  await page.routeWebSocket('/graphql/ws', (line) => {
    line.connectToServer();
    lines.push(line);
  });
  await page.reload();
  await expect(explorer.bell).toHaveAccessibleName('Notifications');

  // As a server does that stops, or restarts.
  await lines.at(-1)!.close({ code: 1012, reason: 'Service restart' });
  await send(ask, 'Meanwhile');
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 1 unread');
  await send(ask, 'And then');
  await expect(explorer.bell).toHaveAccessibleName('Notifications, 2 unread');
  expect(lines).toHaveLength(2);

  await lines.at(-1)!.close({ code: 4403, reason: 'Forbidden: the token has expired' });
  await expect(explorer.bell).toBeHidden();
});

test('who is not let in has no bell until there is a token', async ({ context, page }) => {
  await withServer(['--auth', 'required'], async ({ url, command }) => {
    const key = await command('api-key', 'create', '--user', 'ada', '--name', 'Test', '--role', 'ADMIN');
    const complaints = complaintsOf(context, page, url);
    const refused: string[] = [];
    page.on('response', (response) => {
      if (response.status() === 401) {
        refused.push(response.url());
      }
    });
    const closed = page.waitForEvent('websocket').then((socket) => socket.waitForEvent('close'));
    await page.goto(url);
    const explorer = new Explorer(page);
    await closed;
    await expect(explorer.gallery.getByRole('note')).toContainText('Authorization');
    await expect(explorer.bell).toBeHidden();

    await page.getByRole('button', { name: 'Headers' }).click();
    await explorer.write('Headers', `{ "Authorization": "Bearer ${key}" }`);
    await expect(explorer.bell).toHaveAccessibleName('Notifications');

    // The browser tells of each request of GraphiQL and the gallery; of the bell there is nothing to tell.
    expect(complaints.map((complaint) => complaint.url)).toEqual(refused);
    expect(new Set(refused)).toEqual(new Set([`${url}/graphql`]));
  });
});

test.describe('push', () => {
  test.use({ permissions: ['notifications'] });

  test('what the server pushes is shown, once, until push is turned off', async ({
    explorer,
    context,
    page,
    ask,
    pushService,
  }) => {
    await subscribeTo(pushService, page);
    await page.reload();
    await explorer.bell.click();
    const push = explorer.inbox.getByRole('switch', { name: 'Push to this browser' });
    await expect(push).not.toBeChecked();
    await push.click();
    await expect(push).toBeChecked();

    await send(ask, 'Wind drops at noon', {
      body: '12 MWh less',
      severity: 'CRITICAL',
      link: '/units/plant:1',
      data: { unit: 'plant:1' },
      channels: ['IN_APP', 'WEB_PUSH'],
    });
    await expect.poll(() => pushService.messages).toHaveLength(1);
    const message = pushService.messages[0]!;
    const deliver = await deliveryTo(context, page);
    await deliver(message);
    const shown = {
      title: 'Wind drops at noon',
      body: '12 MWh less',
      tag: JSON.parse(message).tag,
      requireInteraction: true,
      data: { link: '/units/plant:1' },
    };
    await expect.poll(() => shownBy(page)).toEqual([shown]);

    // Another attempt, as the server makes when it does not know what became of the first.
    await deliver(JSON.stringify({ ...JSON.parse(message), body: 'Again' }));
    await expect.poll(() => shownBy(page)).toEqual([{ ...shown, body: 'Again' }]);

    await page.reload();
    await explorer.bell.click();
    await expect(push).toBeChecked();
    await push.click();
    await expect(push).not.toBeChecked();
    expect(await ask('{ endpoints { id } }')).toEqual({ endpoints: [] });
    expect(await subscribed(page)).toBe(false);
  });

  test('a browser that was given another subscription is registered anew', async ({
    explorer,
    context,
    page,
    ask,
    pushService,
  }) => {
    await subscribeTo(pushService, page);
    await page.reload();
    await explorer.bell.click();
    const push = explorer.inbox.getByRole('switch');
    await push.click();
    await expect(push).toBeChecked();
    const registered = async () => (await ask('{ endpoints { address } }')).endpoints;

    // While the page is closed.
    const { endpoint } = pushService.subscription;
    await page.evaluate((endpoint) => localStorage.setItem('endpoint', endpoint), `${endpoint}/other`);
    await page.reload();
    await explorer.bell.click();
    await expect(push).toBeChecked();
    await expect.poll(registered).toEqual([{ address: `${endpoint}/other` }]);

    // While it is open: the service worker subscribes as before, and the page hears of it.
    await page.evaluate((endpoint) => localStorage.setItem('endpoint', endpoint), `${endpoint}/third`);
    const [worker] = context.serviceWorkers();
    const options = await worker!.evaluate(async () => {
      const { PushManager, ExtendableEvent, dispatchEvent } = globalThis as any;
      return new Promise((subscribe) => {
        PushManager.prototype.subscribe = async (options: unknown) => subscribe(options);
        const oldSubscription = { options: { userVisibleOnly: true, applicationServerKey: 'the key' } };
        dispatchEvent(Object.assign(new ExtendableEvent('pushsubscriptionchange'), { oldSubscription }));
      });
    });
    expect(options).toEqual({ userVisibleOnly: true, applicationServerKey: 'the key' });
    await expect.poll(registered).toEqual([{ address: `${endpoint}/third` }]);
    await expect(push).toBeChecked();
  });

  test('a browser that the server does not take stays off', async ({ explorer, page, pushService }) => {
    const subscription = { ...pushService.subscription, auth: 'AAAA' };
    await subscribeTo({ ...pushService, subscription }, page);
    await page.reload();
    await explorer.bell.click();
    await explorer.inbox.getByRole('switch').click();
    await expect(explorer.inbox.getByRole('alert')).toHaveText(/The server did not take this browser: .*auth/);
    await expect(explorer.inbox.getByRole('switch')).not.toBeChecked();
    expect(await subscribed(page)).toBe(false);
  });

  test('whatever is pushed shows something', async ({ explorer, context, page }) => {
    await expect(explorer.bell).toBeVisible();
    const deliver = await deliveryTo(context, page);
    for (const unreadable of ['not JSON', '', 'null', '[]', '{"title":""}']) {
      await deliver(unreadable);
    }
    const shown = { title: 'SmartPulse', body: 'There is a new notification.', tag: '', requireInteraction: false };
    await expect.poll(() => shownBy(page)).toEqual(Array(5).fill({ ...shown, data: {} }));
  });

  test('a click on a notification leads to its link', async ({ explorer, context, page }) => {
    await expect(explorer.bell).toBeVisible();
    const deliver = await deliveryTo(context, page);
    const [worker] = context.serviceWorkers();
    const home = new URL('/', page.url()).href;
    for (const [link, leads] of [
      ['/units/plant:1', `opens ${home}units/plant:1`],
      ['https://example.org/a', 'opens https://example.org/a'],
      ['/', `focuses ${home}`],
      [null, `focuses ${home}`],
      // Nothing that would run; the server takes no such links either.
      ['javascript:alert(1)', `focuses ${home}`],
      ['data:text/html,x', `focuses ${home}`],
    ] as const) {
      await deliver(JSON.stringify({ title: 'Click', link }));
      await expect.poll(() => shownBy(page)).toHaveLength(1);
      expect(await click(worker!), String(link)).toBe(leads);
      await expect.poll(() => shownBy(page)).toHaveLength(0);
    }
  });
});

test('a browser that may not show notifications says so', async ({ explorer }) => {
  // Nobody has granted it, and without a screen nobody can.
  await explorer.bell.click();
  await explorer.inbox.getByRole('switch').click();
  await expect(explorer.inbox.getByRole('alert')).toContainText('does not let this page show notifications');
  await expect(explorer.inbox.getByRole('switch')).not.toBeChecked();
});

// A profile on disk: without one Chromium refuses push at once.
const withProfile = test.extend({
  context: async ({ playwright, launchOptions, viewport, baseURL }, use) => {
    const context = await playwright.chromium.launchPersistentContext('', {
      ...launchOptions,
      // Offline also where the machine that tests is not.
      args: [...(launchOptions.args ?? []), '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'],
      viewport,
      baseURL,
      permissions: ['notifications'],
    });
    await use(context);
    await context.close();
  },
});

withProfile('a push service that cannot be reached is told', async ({ explorer, page }) => {
  await page.clock.install();
  await explorer.bell.click();
  const push = explorer.inbox.getByRole('switch');
  await push.click();
  await expect(push).toBeDisabled();
  await page.evaluate(() => navigator.serviceWorker.ready);
  await expect(async () => {
    await page.clock.fastForward(20_000);
    await expect(explorer.inbox.getByRole('alert')).toContainText(
      "This browser's push service, which is on the internet, could not be reached",
      { timeout: 1_000 },
    );
  }).toPass();
  await expect(push).not.toBeChecked();
  await expect(push).toBeEnabled();
});

/** Lets the page's push manager subscribe to a push service of this machine. */
async function subscribeTo({ subscription }: PushService, page: Page) {
  await page.addInitScript(({ endpoint, p256dh, auth }) => {
    const given = {
      get endpoint() {
        return localStorage.getItem('endpoint') ?? endpoint;
      },
      get options() {
        const key = localStorage.getItem('subscribed')!.replaceAll('-', '+').replaceAll('_', '/');
        return { applicationServerKey: Uint8Array.from(atob(key), (byte) => byte.charCodeAt(0)).buffer };
      },
      toJSON: () => ({ endpoint: given.endpoint, keys: { p256dh, auth } }),
      unsubscribe: async () => localStorage.removeItem('subscribed') === undefined,
    } as unknown as PushSubscription;
    PushManager.prototype.subscribe = async (options) => {
      localStorage.setItem('subscribed', String(options?.applicationServerKey));
      return given;
    };
    PushManager.prototype.getSubscription = async () => (localStorage.getItem('subscribed') ? given : null);
  }, subscription);
}

function subscribed(page: Page): Promise<boolean> {
  return page.evaluate(() => localStorage.getItem('subscribed') !== null);
}

/** Registers the service worker, if the page has not, and hands messages to it as the browser would. */
async function deliveryTo(context: BrowserContext, page: Page) {
  const session = await context.newCDPSession(page);
  const registered = new Promise<string>((tell) => {
    session.on('ServiceWorker.workerRegistrationUpdated', ({ registrations }) => {
      registrations.forEach(({ registrationId }) => tell(registrationId));
    });
  });
  await session.send('ServiceWorker.enable');
  await page.evaluate(async () => {
    await navigator.serviceWorker.register('/sw.js');
    await navigator.serviceWorker.ready;
  });
  const registrationId = await registered;
  const { origin } = new URL(page.url());
  return (data: string) => session.send('ServiceWorker.deliverPushMessage', { origin, registrationId, data });
}

function shownBy(page: Page) {
  return page.evaluate(async () => {
    return (await (await navigator.serviceWorker.ready).getNotifications()).map(({ title, body, tag, requireInteraction, data }) => ({
      title,
      body,
      tag,
      requireInteraction,
      data,
    }));
  });
}

/** Clicks on the notification that is shown. What a real click would be let do is only recorded. */
function click(worker: Worker): Promise<string> {
  return worker.evaluate(async () => {
    const self = globalThis as unknown as {
      registration: ServiceWorkerRegistration;
      clients: { openWindow(url: string): Promise<void> };
      WindowClient: { prototype: { focus(): Promise<void>; url: string } };
      NotificationEvent: new (type: string, init: object) => Event;
      dispatchEvent(event: Event): boolean;
    };
    const [notification] = await self.registration.getNotifications();
    return new Promise<string>((resolve) => {
      const { origin } = new URL(self.registration.scope);
      self.clients.openWindow = async (url) => resolve(`opens ${new URL(url, origin)}`);
      self.WindowClient.prototype.focus = async function focus(this: { url: string }) {
        resolve(`focuses ${this.url}`);
      };
      self.dispatchEvent(new self.NotificationEvent('notificationclick', { notification }));
    });
  });
}
