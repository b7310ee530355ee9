import { complaintsOf, Explorer, expect, test } from './explorer';
import { withProxy } from './proxy';
import { withServer } from './server';

test('the page works below a path that a proxy gives it', async ({ context, page }) => {
  test.slow();
  await context.grantPermissions(['notifications']);
  await withServer(['--web-push-contact', 'mailto:ops@example.org'], ({ url: server }) =>
    withProxy(server, '/energy/', async ({ url, strays }) => {
      const complaints = complaintsOf(context, page, url);
      const query = `mutation {
        upsertUnits(input: { units: [{ key: "plant:1" }] }) { position }
        upsertProviders(input: { providers: [{ key: "provider-a" }] }) { position }
        upsertUsers(input: { users: [{ key: "local" }] }) { __typename }
        sendNotification(input: { to: { users: ["local"] }, title: "Calm", link: "/units/plant:1" }) { notificationId }
      }`;
      const prepared = await page.request.post(`${url}graphql`, { data: { query } });
      expect((await prepared.json()).errors).toBeUndefined();

      await page.goto(url);
      const explorer = new Explorer(page);
      // The editor and its workers, the gallery's samples, and the bell's websocket.
      await explorer.isReady();
      await expect(explorer.bell).toHaveAccessibleName('Notifications, 1 unread');

      await explorer.run();
      await expect.poll(() => explorer.response(), { timeout: 20_000 }).toHaveProperty('data.forecast');

      // GraphiQL's own websocket.
      await explorer.openEntry('Every change');
      await explorer.run();
      await expect(page.getByRole('button', { name: 'Stop query' })).toBeVisible();
      await expect(async () => {
        const save = `mutation { saveForecasts(input: { runs: [{ unit: "plant:1", provider: "provider-a",
          resolution: PT1H, start: "${new Date().toISOString().slice(0, 13)}:00:00Z", values: [1] }] }) { position } }`;
        await page.request.post(`${url}graphql`, { data: { query: save } });
        await expect.poll(() => explorer.response(), { timeout: 1_000 }).toHaveProperty('data.forecastChanged');
      }).toPass();
      await explorer.stop();

      await explorer.bell.click();
      const link = explorer.inbox.getByRole('link', { name: 'Open Calm' });
      await expect(link).toHaveAttribute('href', '/energy/units/plant:1');
      const scope = await page.evaluate(async () => {
        const worker = await navigator.serviceWorker.register(new URL('sw.js', document.baseURI));
        return worker.scope;
      });
      expect(scope).toBe(url);

      expect(strays).toEqual([]);
      expect(complaints.map(({ text }) => text)).toEqual([]);
    }),
  );
});
