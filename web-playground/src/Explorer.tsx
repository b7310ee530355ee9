import { createGraphiQLFetcher } from '@graphiql/toolkit';
import { GraphiQL, HISTORY_PLUGIN } from 'graphiql';
import 'graphiql/style.css';
import './explorer.css';
import { FirstTab } from './gallery/FirstTab';
import { GALLERY_PLUGIN } from './gallery/Gallery';
import { Bell } from './notifications/Bell';
import { addressOf, socketAddressOf } from './server';

const fetcher = createGraphiQLFetcher({
  url: addressOf('graphql'),
  // A subscription opens a socket of its own, so that what the headers editor
  // says at that moment becomes the socket's init payload.
  subscriptionUrl: socketAddressOf('graphql/ws'),
  // The server sends each answer in one piece.
  enableIncrementalDelivery: false,
});

const plugins = [GALLERY_PLUGIN, HISTORY_PLUGIN];

// GraphiQL remembers the open plugin, but not that all were closed. Tabs, which
// it always stores, tell whether somebody has been here.
const firstVisit = localStorage.getItem('graphiql:tabState') === null;

export function Explorer() {
  return (
    <GraphiQL
      fetcher={fetcher}
      plugins={plugins}
      visiblePlugin={firstVisit ? GALLERY_PLUGIN : undefined}
      defaultQuery=""
      defaultEditorToolsVisibility="variables"
    >
      <GraphiQL.Logo>
        <span className="logo">
          <img src={addressOf('favicon.svg')} alt="" />
          SmartPulse
          <Bell />
        </span>
      </GraphiQL.Logo>
      <FirstTab />
    </GraphiQL>
  );
}
