import { existsSync } from 'node:fs';
import { defineConfig } from '@playwright/test';

// A browser of the system's package manager: nothing is downloaded for the tests.
const chromium =
  process.env.SMARTPULSE_TEST_CHROMIUM ??
  ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
if (!chromium) {
  throw new Error('no Chromium found: install one, or name it in SMARTPULSE_TEST_CHROMIUM');
}

const isRoot = process.getuid?.() === 0;

export default defineConfig({
  testDir: 'tests',
  forbidOnly: Boolean(process.env.CI),
  reporter: 'list',
  // One server for all tests.
  workers: 1,
  use: {
    viewport: { width: 1280, height: 800 },
    trace: 'retain-on-failure',
    launchOptions: {
      executablePath: chromium,
      // Chromium's sandbox refuses to run as root, as in a container.
      args: isRoot ? ['--no-sandbox'] : [],
    },
  },
});
