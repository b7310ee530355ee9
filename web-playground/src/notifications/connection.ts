// One websocket for all that the bell asks and follows. Over HTTP, who is not let
// in would find a failed request in the console.
import { type ExecutionResult, createClient } from 'graphql-ws';
import { socketAddressOf } from '../server';

const FORBIDDEN = 4403;
/** What comes soon after another operation finds the socket still open. */
const KEPT_OPEN_MS = 1_000;

/** The server wants to know who asks, or to hear of somebody else. */
export class NotLetIn extends Error {}

export interface Connection {
  /** The data of a query or a mutation; whatever is wrong with it is thrown. */
  ask<Data>(document: string, variables?: Record<string, unknown>, minPosition?: string): Promise<Data>;
  /** Tells the events of a subscription; settles, by throwing, when it ends. */
  follow<Data>(document: string, variables: Record<string, unknown>, tell: (event: Data) => void): Promise<never>;
  close(): void;
}

/** Connects when it is asked something, as whom the headers name. */
export function connect(headers: Record<string, unknown>): Connection {
  const client = createClient({
    url: socketAddressOf('graphql/ws'),
    connectionParams: headers,
    lazyCloseTimeout: KEPT_OPEN_MS,
    // Who comes back must also read anew, which the client cannot know.
    retryAttempts: 0,
  });

  /** Runs an operation to its end. */
  function run<Data>(
    payload: { query: string; variables?: Record<string, unknown>; extensions?: Record<string, unknown> },
    tell: (data: Data) => void,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      client.subscribe<Data>(payload, {
        next: (result) => (result.errors ? reject(errorOf(result.errors)) : tell(result.data as Data)),
        error: (cause) => reject(errorOf(cause)),
        complete: resolve,
      });
    });
  }

  return {
    async ask<Data>(query: string, variables?: Record<string, unknown>, minPosition?: string) {
      let answer: Data | undefined;
      await run<Data>({ query, variables, ...(minPosition && { extensions: { minPosition } }) }, (data) => {
        answer = data;
      });
      if (!answer) {
        throw new Error('the server did not answer');
      }
      return answer;
    },

    async follow(query, variables, tell) {
      await run({ query, variables }, tell);
      throw new Error('the server ended the subscription');
    },

    close() {
      // A socket that never opened cannot be closed, which nobody need know.
      Promise.resolve(client.dispose()).catch(() => {});
    },
  };
}

function errorOf(cause: unknown): Error {
  if (cause instanceof CloseEvent) {
    const reason = cause.reason || 'the connection to the server broke off';
    return cause.code === FORBIDDEN ? new NotLetIn(reason) : new Error(reason);
  }
  if (Array.isArray(cause)) {
    return new Error((cause as NonNullable<ExecutionResult['errors']>).map(({ message }) => message).join('; '));
  }
  return cause instanceof Error ? cause : new Error('the connection to the server broke off');
}
