import { join } from 'node:path';
import { expect, test } from './explorer';

// Not a test of anything: it draws the picture of the README.
test('draw docs/explorer.png @screenshot', async ({ explorer, page }) => {
  await explorer.run();
  await expect.poll(() => explorer.response()).toHaveProperty('data.forecast');
  await page.mouse.move(0, 0);
  await page.screenshot({ path: join(import.meta.dirname, '../../docs/explorer.png') });
});
