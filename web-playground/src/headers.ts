/** What the headers editor holds; undefined while it is no JSON object, as somebody types. */
export function parseHeaders(text: string | null | undefined): Record<string, unknown> | undefined {
  try {
    const fields: unknown = JSON.parse(text?.trim() || '{}');
    return typeof fields === 'object' && fields && !Array.isArray(fields) ? { ...fields } : undefined;
  } catch {
    return undefined;
  }
}
