/* About: session 3, 15 minutes: rows of mean 0 and variance 1
 * By hand: N 1 C 3 x 0 0 3 w 1 1 1
 * Star: ordinary numbers
 * Star: numbers near 100,000, whose squares nearly cancel: subtract the mean before you square
 * Hint: Two sums over a row come first: its mean, then the mean square of what differs from it.
 * Hint: mean = sum x / C, var = sum (x - mean)^2 / C, r = 1/sqrt(var + 1e-5), y = (x - mean)*r*w
 *   + b
 * Hint: for n: for c: mean; for c: var; r; for c: y; stats[2n] = mean, stats[2n + 1] = r
 * Mistake: var / C + (real)1e-5 => var / (C - 1) + (real)1e-5
 * Say: The variance was divided by C - 1. Layernorm divides by C.
 * Mistake: sqrt(var / C + (real)1e-5) => sqrt(var / C)
 * Say: The 1e-5 under the root is missing.
 * Mistake: 1 / (real)sqrt(var / C + (real)1e-5) => 1 / ((real)sqrt(var / C) + (real)1e-5)
 * Say: The 1e-5 was added to the root. It belongs under the root, to the variance.
 * Mistake: * r * w[c] + b[c] => * r * w[c]
 * Say: The bias b is missing.
 * Mistake: * r * w[c] + b[c] => * r + b[c]
 * Say: The weight w is missing.
 * Mistake: (xn[c] - mean) * r => xn[c] * r
 * Say: The mean is not subtracted in y.
 * Mistake: stats[2 * n + 1] = r => stats[2 * n + 1] = var / C
 * Say: The second number of stats is the variance. It must be r = 1/sqrt(var + 1e-5).
 * Mistake: stats[2 * n] = mean, stats[2 * n + 1] = r => stats[n] = mean, stats[N + n] = r
 * Say: stats is (N, 2): mean and r of a row stand side by side.
 */

void call(Call *c)
{
    int N = size_of(c, "N", 1, 6), C = size_of(c, "C", 2, 70);
    real *x = REALS("x", 'i', N, C), *w = REALS("w", 'i', 1, C);
    real *b = REALS("b", 'i', 1, C), far = (real)rate_of(c, "far", 1e5, 2e5, 2);
    real *y = REALS("y", 'w', N, C), *stats = REALS("stats", 'w', N, 2);
    for (int i = 0; i < N * C; i++) x[i] += far;
    attempt(y, stats, x, w, b, N, C);
}
