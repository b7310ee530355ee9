import { type ReactNode, useId, useState } from 'react';
import { leadsTo } from '../server';
import './bell.css';
import type { Connection } from './connection';
import type { Inbox, Notification } from './inbox';
import markAllReadDocument from './operations/mark-all-read.graphql?raw';
import markReadDocument from './operations/mark-read.graphql?raw';
import { PushSwitch } from './PushSwitch';
import { pushIsPossible } from './push';
import { useInbox } from './useInbox';

/** How much is unread, and the newest notifications. Not there for whom the server does not let in. */
export function Bell() {
  const panelId = useId();
  const live = useInbox();
  if (!live) {
    return null;
  }
  const { unreadCount } = live.inbox;
  return (
    <>
      <button
        type="button"
        className="bell"
        popoverTarget={panelId}
        aria-label={unreadCount > 0 ? `Notifications, ${unreadCount} unread` : 'Notifications'}
        title="Notifications"
      >
        <BellIcon />
        {unreadCount > 0 && <span className="bell-count">{unreadCount > 99 ? '99+' : unreadCount}</span>}
      </button>
      <span role="status" aria-label="Unread notifications" className="bell-unseen">
        {unreadCount} unread
      </span>
      {/* The browser itself opens it, closes it by Escape and by a click beside it, and gives the focus back. */}
      <div popover="auto" id={panelId} role="dialog" aria-label="Notifications" className="bell-panel">
        <Panel {...live} />
      </div>
    </>
  );
}

function Panel({ inbox, connection }: { inbox: Inbox; connection: Connection }) {
  const { notifications, unreadCount, webPushPublicKey } = inbox;
  const [problem, setProblem] = useState<string>();

  // What follows from it comes as to every other tab: as a change.
  const mark = (document: string, variables: Record<string, unknown>) => {
    setProblem(undefined);
    connection.ask(document, variables).catch((error: Error) => setProblem(`Not marked: ${error.message}`));
  };

  return (
    <>
      <header>
        <h2>Notifications</h2>
        <button
          type="button"
          className="graphiql-button"
          disabled={unreadCount === 0}
          // Up to what is seen here: what arrives meanwhile stays unread.
          onClick={() => mark(markAllReadDocument, { until: notifications[0]?.arrivedAt })}
        >
          Mark all read
        </button>
      </header>
      {problem && <p role="alert">{problem}</p>}
      {notifications.length === 0 ? (
        <p>There are none.</p>
      ) : (
        <ul>
          {notifications.map((notification) => (
            <Item
              key={notification.id}
              notification={notification}
              onRead={() => notification.readAt === null && mark(markReadDocument, { id: notification.id })}
            />
          ))}
        </ul>
      )}
      {webPushPublicKey && pushIsPossible() && <PushSwitch connection={connection} publicKey={webPushPublicKey} />}
    </>
  );
}

const SEVERITIES = { INFO: 'Info', WARNING: 'Warning', CRITICAL: 'Critical' };

function Item({ notification, onRead }: { notification: Notification; onRead: () => void }) {
  const { title, body, severity, link, arrivedAt, readAt } = notification;
  return (
    <li data-unread={readAt === null} data-severity={severity}>
      <button type="button" onClick={onRead} title={readAt === null ? 'Mark as read' : undefined}>
        {readAt === null && <span className="bell-unseen">Unread: </span>}
        <strong>{title}</strong>
        {body && <span className="bell-body">{body}</span>}
        <small>
          <span className="bell-severity">{SEVERITIES[severity]}</span>
          {arrivedAt && <Time at={arrivedAt} />}
        </small>
      </button>
      <Link to={link} onFollow={onRead}>
        Open
        <span className="bell-unseen"> {title}</span>
      </Link>
    </li>
  );
}

function Time({ at }: { at: string }) {
  const moment = new Date(at);
  return (
    <time dateTime={at} title={moment.toLocaleString()}>
      {moment.toLocaleString(undefined, { dateStyle: 'short', timeStyle: 'short' })}
    </time>
  );
}

function Link({ to, onFollow, children }: { to: string | null; onFollow: () => void; children: ReactNode }) {
  const address = to === null ? undefined : leadsTo(to);
  return address ? (
    <a href={address} target="_blank" rel="noreferrer" onClick={onFollow}>
      {children}
    </a>
  ) : null;
}

function BellIcon() {
  return (
    <svg viewBox="0 0 20 20" fill="none" stroke="currentColor" strokeWidth="1.5" aria-hidden="true">
      <path
        d="M10 2.5a5 5 0 0 0-5 5c0 4-1.5 5.5-2 6.5h14c-.5-1-2-2.5-2-6.5a5 5 0 0 0-5-5ZM8 16.5a2 2 0 0 0 4 0"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}
