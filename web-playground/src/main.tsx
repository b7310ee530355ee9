import { createRoot } from 'react-dom/client';
import './editor-workers';
import { Explorer } from './Explorer';

const root = document.getElementById('root');
if (!root) {
  throw new Error('index.html has no element #root');
}
createRoot(root).render(<Explorer />);
