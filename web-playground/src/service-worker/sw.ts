// Shows what the server pushes, also while the page is closed. It serves nothing:
// the page comes from the server.
declare const self: ServiceWorkerGlobalScope;

/** As `api/src/delivery/web_push` writes it; what is too long may be missing. */
interface Message {
  title?: string;
  body?: string;
  severity?: 'INFO' | 'WARNING' | 'CRITICAL';
  link?: string | null;
  tag?: string;
}

// With nothing in store there is nothing that an open page could need the last version for.
self.addEventListener('install', () => void self.skipWaiting());

self.addEventListener('push', (event) => event.waitUntil(show(read(event.data))));

self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  event.waitUntil(open(linkOf(event.notification.data)));
});

self.addEventListener('pushsubscriptionchange', (event) => event.waitUntil(renew(event)));

/** A push must show something, or the browser shows something of its own and takes the permission away. */
function read(data: PushMessageData | null): Message {
  try {
    const message: unknown = data?.json();
    return typeof message === 'object' && message ? message : {};
  } catch {
    return {};
  }
}

async function show({ title, body, severity, link, tag }: Message) {
  await self.registration.showNotification(title || 'SmartPulse', {
    body: title || body ? body : 'There is a new notification.',
    // A second attempt replaces the first.
    tag,
    requireInteraction: severity === 'CRITICAL',
    data: { link },
  });
}

/** Where a notification leads: of this server or over http, and nothing that would run. */
function linkOf(data: unknown): URL | undefined {
  const { link } = (data ?? {}) as { link?: unknown };
  if (typeof link !== 'string') {
    return undefined;
  }
  // A path is one of the server, wherever a proxy has put it.
  const url = URL.parse(link.startsWith('/') ? self.registration.scope.replace(/\/$/, '') + link : link);
  return url && ['http:', 'https:'].includes(url.protocol) ? url : undefined;
}

async function open(link: URL | undefined) {
  const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  // Without a link any tab does; with one only a tab that is there, since what
  // somebody is writing in another must not go.
  const page = pages.find(({ url }) => !link || url === link.href);
  await (page ? page.focus() : self.clients.openWindow(link?.href ?? self.registration.scope));
}

/** Pages register what is new with the server: they know who the user is, this worker does not. */
async function renew({ newSubscription, oldSubscription }: PushSubscriptionChangeEvent) {
  if (!newSubscription && oldSubscription) {
    await self.registration.pushManager.subscribe(oldSubscription.options);
  }
  const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  for (const page of pages) {
    page.postMessage('push-subscription-changed');
  }
}
