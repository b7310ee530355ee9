const HOUR_MS = 3_600_000;

/** The whole UTC hour that many hours from the present one: every resolution has a period that starts there. */
export function hoursFromNow(hours: number): string {
  const present = Math.floor(Date.now() / HOUR_MS);
  return new Date((present + hours) * HOUR_MS).toISOString().replace('.000Z', 'Z');
}
