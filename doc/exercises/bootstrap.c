/* About: session 9, 20 minutes: an interval for any statistic
 * Contract: Return the statistic of rows 0 .. n-1 and its 95% interval, from 1000 draws of n rows
 *   with repetition: statistic(data, rows, n) computes it for any n rows, which may repeat. Row i
 *   of draw d is random_bits(random_key(seed, d), i) % n. Sort the 1000 results: low is the one at
 *   index 25, high the one at index 974.
 * By hand: n 3 x 1 2 6
 * Star: value, low and high
 * Hint: Each draw is a new data set of the same size, in which some rows occur twice and some
 *   never.
 * Hint: value comes from rows 0, 1, ..., n-1. For d = 0 .. 999: fill rows, draws[d] =
 *   statistic(...).
 * Hint: rows = malloc(n ints); value; for d: for i: rows[i] = ...; draws[d]; qsort(draws, 1000,
 *   sizeof *draws, by_value); free(rows); return (Interval){value, draws[25], draws[974]};
 * Mistake: random_bits(random_key(seed, d), i) % n; => i;
 * Say: Every draw is the data itself, so the interval has no width. Rows are drawn with
 *   repetition.
 * Mistake: random_key(seed, d) => random_key(seed, 0)
 * Say: All draws are the same one: the key must depend on d.
 * Mistake:     qsort(draws, DRAWS, sizeof *draws, by_value); =>
 * Say: The results are not sorted.
 * Mistake: DRAWS / 40 => DRAWS / 20
 * Say: This is the interval of 90%: 5% on each side. 95% leaves 2.5% on each side.
 * Mistake:     double value = statistic(data, rows,
 *   n); =>  ;; (Interval){value, => (Interval){draws[DRAWS / 2],
 * Say: value is the median of the draws. It must be the statistic of the data itself.
 * Mistake: DRAWS - 1 - DRAWS / 40 => DRAWS - DRAWS / 40
 * Say: high is one result too far up: the indices are 0 to 999, and 25 are left above index 974.
 * Mistake: DRAWS - 1 - DRAWS / 40 => DRAWS - 1
 * Say: high is the largest of all results.
 */

void call(Call *c)
{
    int n = size_of(c, "n", 2, 30);
    double *x = REALS("x", 'i', 1, n);
    Interval i = attempt(ratio, &(Ratio){x, NULL}, n, random_key(c->key, 1));
    result(c, "value", i.value), result(c, "low", i.low), result(c, "high", i.high);
}
