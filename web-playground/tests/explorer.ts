// The explorer page as the tests see it.
import { test as base, type BrowserContext, expect, type Page } from '@playwright/test';
import { withDemoServer } from './server';

export { expect };

interface EditorModel {
  uri: { path: string };
  getValue(): string;
}

declare global {
  // GraphiQL leaves its editor here once it is loaded.
  var __MONACO: { editor: { getModels(): EditorModel[] } } | undefined;
}

export const test = base.extend<{ explorer: Explorer }, { serverUrl: string }>({
  serverUrl: [
    async ({}, use) => {
      const running = process.env.SMARTPULSE_TEST_URL;
      await (running ? use(running) : withDemoServer(use));
    },
    { scope: 'worker', timeout: 120_000 },
  ],

  baseURL: async ({ serverUrl }, use) => use(serverUrl),

  explorer: async ({ context, page, baseURL }, use) => {
    const complaints = complaintsOf(context, page, baseURL!);
    await page.goto('/');
    const explorer = new Explorer(page);
    await explorer.isReady();
    await use(explorer);

    expect(complaints.map(({ text }) => text)).toEqual([]);
  },
});

export interface Complaint {
  text: string;
  /** Of a message on the console: what it is about. */
  url?: string;
}

/** What must not be heard of the pages and workers of a browser. */
export function complaintsOf(context: BrowserContext, page: Page, serverUrl: string): Complaint[] {
  const complaints: Complaint[] = [];
  context.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) {
      complaints.push({ text: `console ${message.type()}: ${message.text()}`, url: message.location().url });
    }
  });
  context.on('weberror', (webError) => {
    complaints.push({ text: `page error: ${webError.error().stack}` });
  });
  const { host } = new URL(serverUrl);
  const expectOwnHost = (request: { url(): string }) => {
    const url = new URL(request.url());
    if (!['data:', 'blob:'].includes(url.protocol) && url.host !== host) {
      complaints.push({ text: `request to another host: ${url}` });
    }
  };
  context.on('request', expectOwnHost);
  page.on('websocket', expectOwnHost);
  context.on('page', (opened) => opened.on('websocket', expectOwnHost));
  return complaints;
}

const FILES = {
  operation: 'operation.graphql',
  variables: 'variables.json',
  headers: 'request-headers.json',
  response: 'response.json',
};

export class Explorer {
  readonly gallery;
  readonly tabs;
  readonly bell;
  readonly inbox;

  constructor(readonly page: Page) {
    this.gallery = page.getByRole('region', { name: 'Gallery' });
    // A tab holds its title and a button that closes it.
    this.tabs = page.getByRole('tab').locator('[aria-controls]');
    this.bell = page.getByRole('button', { name: /^Notifications/ });
    this.inbox = page.getByRole('dialog', { name: 'Notifications' });
  }

  /** Until it is, its own socket could be taken for one that a test waits for. */
  async isReady() {
    // The editor is megabytes of script, and the machine may have other things to do.
    await expect.poll(() => this.text('operation'), { timeout: 20_000 }).toContain('query LatestForecast');
    await expect(this.bell).toBeVisible();
  }

  /** What an editor holds: the page itself shows only the lines in view. */
  text(editor: keyof typeof FILES): Promise<string> {
    return this.page.evaluate(
      (file) => globalThis.__MONACO?.editor.getModels().find(({ uri }) => uri.path.endsWith(file))?.getValue() ?? '',
      FILES[editor],
    );
  }

  async response(): Promise<unknown> {
    const text = await this.text('response');
    return text === '' ? undefined : JSON.parse(text);
  }

  async openEntry(title: string) {
    await this.gallery.getByRole('button', { name: title }).click();
  }

  /** Replaces what an editor holds, as by typing. */
  async write(editor: 'Operation Editor' | 'Headers', text: string) {
    const region = this.page.getByRole('region', { name: editor });
    await region.locator('.monaco-editor').filter({ visible: true }).click();
    await this.page.keyboard.press('ControlOrMeta+A');
    await this.page.keyboard.insertText(text);
  }

  async run() {
    await this.page.getByRole('button', { name: 'Execute query' }).click();
  }

  async stop() {
    await this.page.getByRole('button', { name: 'Stop query' }).click();
  }
}
