import type { BrowserContext, WebSocketRoute } from '@playwright/test';
import { complaintsOf, test as base, Explorer, expect } from './explorer';
import { type Server, withServer } from './server';

interface Fixtures {
  server: Server;
  /** Asks the server, as another program would. */
  ask: (query: string, variables?: Record<string, unknown>) => Promise<Record<string, any>>;
}

const test = base.extend<Fixtures>({
  // One for each test: they count.
  server: async ({}, use) =>
    withServer([], use),

  baseURL: async ({ server }, use) => use(server.url),

  ask: async ({ request }, use) => {
    await use(async (query, variables) => {
      const response = await request.post('/graphql', { data: { query, variables } });
      const { data, errors } = await response.json();
      expect(errors).toBeUndefined();
      return data;
    });
  },
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
