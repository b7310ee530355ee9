import { type GraphiQLPlugin, useGraphiQL } from '@graphiql/react';
import { Suspense, use } from 'react';
import { GROUPS } from './entries';
import './gallery.css';
import { type Samples, samplesFor } from './samples';
import { useOpenEntry } from './useOpenEntry';

export const GALLERY_PLUGIN: GraphiQLPlugin = {
  title: 'Gallery',
  icon: GalleryIcon,
  content: () => (
    <Suspense>
      <Gallery />
    </Suspense>
  ),
};

function Gallery() {
  const headers = useGraphiQL(({ tabs, activeTabIndex }) => tabs[activeTabIndex]?.headers);
  const loaded = use(samplesFor(headers));
  const openEntry = useOpenEntry();

  return (
    <section className="gallery" aria-labelledby="gallery-title">
      <h1 id="gallery-title">Gallery</h1>
      <Hint missing={loaded.missing} />
      {GROUPS.map((group) => (
        <section key={group.title} aria-label={group.title}>
          <h2>{group.title}</h2>
          <ul>
            {group.entries.map((entry) => (
              <li key={entry.title}>
                <button type="button" disabled={!openEntry} onClick={() => openEntry?.(entry, loaded)}>
                  <strong>{entry.title}</strong>{' '}
                  <span>{entry.explanation}</span>
                </button>
              </li>
            ))}
          </ul>
        </section>
      ))}
    </section>
  );
}

function Hint({ missing }: Pick<Samples, 'missing'>) {
  switch (missing) {
    case 'nothing':
      return <p>To start from, filled with what is here.</p>;
    case 'units':
      return (
        <p role="note">
          This server has no plants yet. <code>smartpulse demo</code> starts one that has,{' '}
          <code>smartpulse import</code> loads your own; or run <em>Add a plant</em>, then <em>Save a forecast</em>.
        </p>
      );
    case 'values':
      return (
        <p role="note">
          No plant has a forecast for the present hour: set <code>from</code> and <code>to</code> to where yours lie.
        </p>
      );
    case 'caller':
      return (
        <p role="note">
          This server asks who you are: write <code>{'{ "Authorization": "Bearer …" }'}</code> into the headers editor,
          then fetch the schema again.
        </p>
      );
    case 'answer':
      return <p role="note">The server did not say what it has: the variables are only examples.</p>;
  }
}

function GalleryIcon() {
  return (
    <svg viewBox="0 0 20 20" fill="none" stroke="currentColor" strokeWidth="1.5" aria-hidden="true">
      <rect x="2.5" y="2.5" width="15" height="15" rx="3" />
      <path d="M5 11h2.5l1.5-4.5 3 7 1.5-4 .5 1.5h1.5" strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  );
}
