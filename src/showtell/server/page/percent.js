/** Shares in words: as many digits as mean something. */

export function percent(share) {
  const value = 100 * share;
  if (value >= 99.95) return "100%";
  if (value >= 9.95) return `${Math.round(value)}%`;
  if (value >= 0.095) return `${value.toFixed(1)}%`;
  if (value >= 0.00095) return `${value.toPrecision(1)}%`;
  return "under 0.001%";
}
