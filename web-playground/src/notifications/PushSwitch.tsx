import { useEffect, useId, useState } from 'react';
import type { Connection } from './connection';
import { pushIsOn, turnPushOff, turnPushOn } from './push';

/** Turns push to this browser on and off, and says why it cannot. */
export function PushSwitch({ connection, publicKey }: { connection: Connection; publicKey: string }) {
  const hintId = useId();
  const [on, setOn] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string>();

  useEffect(() => {
    let current = true;
    const look = () => {
      pushIsOn(connection, publicKey)
        // As good as off: who turns it on is told what is wrong.
        .catch(() => false)
        .then((isOn) => current && setOn(isOn));
    };
    look();
    // The service worker says so when the browser has replaced the subscription.
    navigator.serviceWorker.addEventListener('message', look);
    return () => {
      current = false;
      navigator.serviceWorker.removeEventListener('message', look);
    };
  }, [connection, publicKey]);

  const turn = async () => {
    setBusy(true);
    setProblem(undefined);
    try {
      await (on ? turnPushOff(connection) : turnPushOn(connection, publicKey));
      setOn(!on);
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    }
    setBusy(false);
  };

  return (
    <footer>
      <button
        type="button"
        role="switch"
        aria-checked={on}
        aria-describedby={hintId}
        disabled={busy}
        onClick={() => void turn()}
      >
        Push to this browser
      </button>
      <p id={hintId}>{busy ? 'A moment …' : 'They come here also while this page is closed.'}</p>
      {problem && <p role="alert">{problem}</p>}
    </footer>
  );
}
