// The server's addresses. They lie beside the page, which a proxy may have put
// below a path of its own.

/** Where something of the server is, by its path there without the first slash. */
export function addressOf(path: string): string {
  return new URL(path, document.baseURI).href;
}

/** The same for websockets. */
export function socketAddressOf(path: string): string {
  return addressOf(path).replace(/^http/, 'ws');
}

/**
 * Where the link of a notification leads: what begins with a slash is a path of
 * the server, as in mails. The server takes no other schemes; a page should not
 * rely on it.
 */
export function leadsTo(link: string): string | undefined {
  if (link.startsWith('/')) {
    return new URL('.', document.baseURI).pathname.replace(/\/$/, '') + link;
  }
  return ['http:', 'https:'].includes(URL.parse(link)?.protocol ?? '') ? link : undefined;
}
