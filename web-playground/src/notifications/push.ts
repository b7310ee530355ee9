// Push to this browser: a subscription at the browser's push service, and the
// server's knowledge of it. It is on when both are there and belong together.
import type { Connection } from './connection';
import endpointsDocument from './operations/endpoints.graphql?raw';
import registerDocument from './operations/register-browser.graphql?raw';
import unregisterDocument from './operations/unregister-browser.graphql?raw';
import { addressOf } from '../server';

/** Beside the page, so that it is for what lies there. */
const WORKER = addressOf('sw.js');
/** A browser that is offline waits for its push service for as long as it takes. */
const PUSH_SERVICE_MS = 20_000;
/** What this browser registered last: after the browser has replaced it, what is to be registered anew. */
const REGISTERED = 'smartpulse:push-address';

interface Endpoint {
  id: string;
  channel: string;
  address: string;
  disabledAt: string | null;
}

/** Browsers have it on pages that came over https or from this machine. */
export function pushIsPossible(): boolean {
  return 'serviceWorker' in navigator && 'PushManager' in window && 'Notification' in window;
}

/** Whether the viewer's notifications come to this browser. */
export async function pushIsOn(connection: Connection, publicKey: string): Promise<boolean> {
  const subscription = await subscriptionAtHand();
  if (!subscription || !isFor(subscription, publicKey)) {
    return false;
  }
  const endpoints = await endpointsOf(connection);
  const registered = endpoints.find(({ address }) => address === subscription.endpoint);
  if (registered) {
    return registered.disabledAt === null;
  }
  // The browser has replaced its subscription. Whose it was, only the old one tells.
  const replaced = endpoints.find(({ address }) => address === localStorage.getItem(REGISTERED));
  if (replaced) {
    await register(connection, subscription);
    await connection.ask(unregisterDocument, { id: replaced.id });
  }
  return replaced !== undefined;
}

/** Asks for the permission, so call it on a click. */
export async function turnPushOn(connection: Connection, publicKey: string) {
  if ((await Notification.requestPermission()) !== 'granted') {
    throw new Error('This browser does not let this page show notifications: allow it in the settings of the site.');
  }
  const subscription = await subscribe(publicKey);
  try {
    await register(connection, subscription);
  } catch (error) {
    // Not half on.
    await subscription.unsubscribe().catch(() => {});
    throw new Error(`The server did not take this browser: ${messageOf(error)}`);
  }
}

export async function turnPushOff(connection: Connection) {
  const subscription = await subscriptionAtHand();
  if (!subscription) {
    return;
  }
  const endpoints = await endpointsOf(connection);
  const registered = endpoints.find(({ address }) => address === subscription.endpoint);
  if (registered) {
    await connection.ask(unregisterDocument, { id: registered.id });
  }
  localStorage.removeItem(REGISTERED);
  await inTime(subscription.unsubscribe());
}

async function subscriptionAtHand(): Promise<PushSubscription | null> {
  const worker = await navigator.serviceWorker.getRegistration(WORKER);
  return (await worker?.pushManager.getSubscription()) ?? null;
}

async function subscribe(publicKey: string): Promise<PushSubscription> {
  const worker = await navigator.serviceWorker.register(WORKER, { updateViaCache: 'none' });
  const known = await worker.pushManager.getSubscription();
  if (known && isFor(known, publicKey)) {
    return known;
  }
  // A server with another key cannot use it, and it is in the way of one that it can.
  await known?.unsubscribe();
  // Only a worker that is active can be pushed to.
  const { pushManager } = await navigator.serviceWorker.ready;
  const subscribing = pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: publicKey });
  try {
    return await inTime(subscribing);
  } catch (error) {
    // What still comes of it is nobody's.
    subscribing.then((late) => late.unsubscribe()).catch(() => {});
    throw new Error(
      `This browser's push service, which is on the internet, could not be reached: ${messageOf(error)}`,
    );
  }
}

async function register(connection: Connection, subscription: PushSubscription) {
  const { endpoint, keys } = subscription.toJSON();
  await connection.ask(registerDocument, { input: { endpoint, p256dh: keys?.p256dh, auth: keys?.auth } });
  localStorage.setItem(REGISTERED, subscription.endpoint);
}

async function endpointsOf(connection: Connection): Promise<Endpoint[]> {
  const { endpoints } = await connection.ask<{ endpoints: Endpoint[] }>(endpointsDocument);
  return endpoints.filter(({ channel }) => channel === 'WEB_PUSH');
}

/** Whether the server of this key can push to it. */
function isFor({ options }: PushSubscription, publicKey: string): boolean {
  const bytes = new Uint8Array(options.applicationServerKey ?? new ArrayBuffer());
  const base64 = btoa(String.fromCharCode(...bytes));
  return base64.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '') === publicKey;
}

function inTime<T>(promise: Promise<T>): Promise<T> {
  const late = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new Error('it does not answer')), PUSH_SERVICE_MS);
  });
  return Promise.race([promise, late]);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
