// The viewer's newest notifications, as they are now.
import { type Connection, NotLetIn } from './connection';
import changedDocument from './operations/inbox-changed.graphql?raw';
import inboxDocument from './operations/inbox.graphql?raw';
import positionDocument from './operations/position.graphql?raw';

export interface Inbox {
  unreadCount: number;
  /** Null where web push is not set up. */
  webPushPublicKey: string | null;
  notifications: Notification[];
}

export interface Notification {
  id: string;
  title: string;
  body: string;
  severity: 'INFO' | 'WARNING' | 'CRITICAL';
  link: string | null;
  arrivedAt: string | null;
  readAt: string | null;
}

const LONGEST_WAIT_MS = 30_000;

/** Shows the inbox and each later state of it, until stopped; nothing where the viewer is not let in. */
export async function followInbox(
  connection: Connection,
  show: (inbox: Inbox | undefined) => void,
  stopped: AbortSignal,
) {
  for (let failures = 0; !stopped.aborted; failures += 1) {
    try {
      await followOnce(connection, (inbox) => {
        failures = 0;
        if (!stopped.aborted) {
          show(inbox);
        }
      });
    } catch (error) {
      if (stopped.aborted) {
        return;
      }
      if (error instanceof NotLetIn) {
        show(undefined);
        return;
      }
    }
    // Not all pages at once, when a server is back.
    const wait = Math.min(1_000 * 2 ** failures, LONGEST_WAIT_MS) * (0.5 + Math.random() / 2);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** Ends by throwing: after a break there may be news that no event tells. */
async function followOnce(connection: Connection, show: (inbox: Inbox) => void): Promise<never> {
  // Events from a position on, and a state that includes it: nothing falls in between.
  let { position } = await connection.ask<{ position: string }>(positionDocument);
  let look = () => {};
  const end = connection.follow<{ notificationChanged: { position: string } }>(
    changedDocument,
    { after: position },
    (event) => {
      position = event.notificationChanged.position;
      look();
    },
  );
  // It may end while nobody waits for it here.
  end.catch(() => {});

  for (;;) {
    const included = position;
    show(await readInbox(connection, included));
    // One look for all that came during the last one.
    if (position === included) {
      const event = new Promise<void>((resolve) => {
        look = resolve;
      });
      await Promise.race([event, end]);
    }
  }
}

async function readInbox(connection: Connection, minPosition: string): Promise<Inbox> {
  const { notifications, ...rest } = await connection.ask<
    Omit<Inbox, 'notifications'> & { notifications: { nodes: Notification[] } }
  >(inboxDocument, undefined, minPosition);
  return { ...rest, notifications: notifications.nodes };
}
