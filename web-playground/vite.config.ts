import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const SERVER = 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [react()],
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
    rolldownOptions: { checks: { moduleLevelDirective: false } },
  },
});
