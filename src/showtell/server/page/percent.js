/** Probabilities in words: as many digits as mean something. */

const ROUND = new Intl.NumberFormat("en", { maximumSignificantDigits: 2, notation: "compact", compactDisplay: "long" });

/** "62%", "3.1%", "under 0.1%". */
export function percent(share) {
  const value = 100 * share;
  if (value >= 9.95) return `${Math.round(value)}%`;
  return value >= 0.095 ? `${value.toFixed(1)}%` : "under 0.1%";
}

/** A percentage, or "1 in 8.2 million" where that says more. */
export function odds(share) {
  if (share >= 0.00995) return percent(share);
  return share > 0 ? `1 in ${ROUND.format(1 / share)}` : "next to nothing";
}
