import { useGraphiQL } from '@graphiql/react';
import { useEffect, useState } from 'react';
import { parseHeaders } from '../headers';
import { type Connection, connect } from './connection';
import { type Inbox, followInbox } from './inbox';

/** The inbox of whom the headers editor names, live; undefined until it is known, and if it is nobody. */
export function useInbox(): { inbox: Inbox; connection: Connection } | undefined {
  const text = useGraphiQL(({ tabs, activeTabIndex }) => tabs[activeTabIndex]?.headers);
  const written = parseHeaders(text);

  // While somebody types, the last that could be read counts.
  const [headers, setHeaders] = useState('{}');
  const present = written ? JSON.stringify(written) : headers;
  if (present !== headers) {
    setHeaders(present);
  }

  const [live, setLive] = useState<{ inbox: Inbox; connection: Connection }>();
  useEffect(() => {
    const stop = new AbortController();
    const connection = connect(parseHeaders(headers) ?? {});
    void followInbox(connection, (inbox) => setLive(inbox && { inbox, connection }), stop.signal);
    return () => {
      stop.abort();
      connection.close();
      setLive(undefined);
    };
  }, [headers]);
  return live;
}
