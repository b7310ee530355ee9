import react from '@vitejs/plugin-react';
import { type Plugin, defineConfig } from 'vite';

const SERVER = 'http://127.0.0.1:8080';
const SERVICE_WORKER = 'src/service-worker/sw.ts';

export default defineConfig({
  // A proxy may have the page below a path that the build does not know.
  base: './',
  plugins: [react(), serviceWorker()],
  server: {
    proxy: {
      '/graphql/ws': { target: SERVER, ws: true },
      '/graphql': SERVER,
    },
  },
  // The development server looks into pages, not workers: CommonJS packages
  // that only a worker imports have to be named.
  optimizeDeps: {
    include: ['monaco-graphql > graphql-language-service', 'monaco-graphql > picomatch-browser'],
  },
  build: {
    // Monaco, the editor, is one piece of this size.
    chunkSizeWarningLimit: 4000,
    // GraphiQL's files carry directives for a compiler that has already run.
    rolldownOptions: {
      input: { index: 'index.html', sw: SERVICE_WORKER },
      output: {
        // Browsers know a service worker by its address.
        entryFileNames: ({ name }) => (name === 'sw' ? 'sw.js' : 'assets/[name]-[hash].js'),
      },
      checks: { moduleLevelDirective: false },
    },
  },
});

/** Where the built page has it. */
function serviceWorker(): Plugin {
  return {
    name: 'service-worker',
    configureServer({ middlewares }) {
      middlewares.use((request, _response, next) => {
        request.url = request.url === '/sw.js' ? `/${SERVICE_WORKER}` : request.url;
        next();
      });
    },
    generateBundle(_options, bundle) {
      const worker = bundle['sw.js'];
      if (worker?.type !== 'chunk' || worker.imports.length > 0) {
        this.error(`${SERVICE_WORKER} must stand alone: it is run as a plain script`);
      }
    },
  };
}
