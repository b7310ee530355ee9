import { useGraphiQL } from '@graphiql/react';
import { useEffect, useRef } from 'react';
import { FIRST_ENTRY } from './entries';
import { samplesFor } from './samples';
import { useOpenEntry } from './useOpenEntry';

/** A page that opens with nothing but an empty tab, as on the first visit, gets an entry to start from. */
export function FirstTab() {
  const openEntry = useOpenEntry();
  const empty = useGraphiQL(({ tabs }) => tabs.length === 1 && !tabs[0]?.query);
  const headers = useGraphiQL(({ tabs, activeTabIndex }) => tabs[activeTabIndex]?.headers);
  const settled = useRef(false);

  useEffect(() => {
    if (!openEntry || settled.current) {
      return;
    }
    settled.current = true;
    if (empty) {
      void samplesFor(headers).then((loaded) => openEntry(FIRST_ENTRY, loaded));
    }
  }, [openEntry, empty, headers]);

  return null;
}
