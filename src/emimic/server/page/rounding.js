// Rounding as Python's.

/** Return the nearest whole number, the even one of two. */
export function roundEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 ? floor + 1 : floor;
}
