/**
 * What arrives, to be taken one by one. `subscribe` gets a sink of `next`,
 * `error` and `complete`, and gives what has an `unsubscribe`.
 */
export function arrivals(subscribe) {
  let subscription;
  const stream = new ReadableStream({
    start(queue) {
      subscription = subscribe({
        next: (value) => queue.enqueue(value),
        error: (error) => queue.error(error),
        complete: () => queue.close(),
      });
    },
    cancel: () => subscription.unsubscribe(),
  });
  return stream.values();
}
