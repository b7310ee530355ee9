// Random choices that a seed repeats.

/** A source of choices; the same seed makes the same. */
export function seeded(seed) {
  let state = seed >>> 0;

  // mulberry32
  function next() {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  return {
    /** Whether something of this probability happens. */
    chance: (probability) => next() < probability,
    /** A whole number below `bound`. */
    below: (bound) => Math.floor(next() * bound),
    /** One of a list. */
    of: (list) => list[Math.floor(next() * list.length)],
  };
}
