/* About: session 6, 45 minutes: the mean and the variance depend on every x
 * Contract: y = xhat*w + b, xhat = (x - mean)*r, r = 1/sqrt(var + 1e-5), for each row of x(N, C).
 *   stats(N, 2) holds mean and r of each row. Given dy(N, C), add to dx(N, C) and to dw(C). (db is
 *   the work of bias_backward.) Mind that mean and r depend on all x of the row.
 * By hand: N 1 C 3 x 0 0 3 w 1 1 1 dy 1 0 0
 * Star: dx and dw
 * Hint: Let g = dy*w, the derivative by xhat. Shifting x, or scaling x - mean, leaves xhat as it
 *   is. So in each row dx has no part along (1, ..., 1), nor along xhat: their products with dx are
 *   0.
 * Hint: dx_i += r (g_i - mean(g) - xhat_i mean(g*xhat))       dw_c += sum_n dy_nc xhat_nc
 * Hint: for n: for c: sums of g and of g*xhat, both divided by C; for c: xhat = (x - mean)*r; dx
 *   += r*(g - g_mean - xhat*gx_mean); dw[c] += dy*xhat
 * Mistake:  - g_mean - =>  -
 * Say: Your numbers are exactly those of the formula without the term - mean(g).
 * Mistake:  - (xn[c] - mean) * r * gx_mean =>
 * Say: Your numbers are exactly those of the formula without the term - xhat mean(g*xhat).
 * Mistake:  - g_mean - (xn[c] - mean) * r * gx_mean =>
 * Say: You treated mean and r as constants: both terms with a mean are missing.
 * Mistake: dxn[c] += r * ( => dxn[c] += (
 * Say: dx lacks the factor r.
 * Mistake: dyn[c] * w[c] => dyn[c]
 * Say: dx lacks w: use g = dy*w, not dy.
 * Mistake: dyn[c] * w[c] => dyn[c] ;; dxn[c] += r * ( => dxn[c] += w[c] * r * (
 * Say: You multiply by w at the end. w_c differs from channel to channel: it belongs to g = dy*w,
 *   of which the means are taken.
 * Mistake:  - (xn[c] - mean) * r * gx_mean => + (xn[c] - mean) * r * gx_mean
 * Say: The sign of the term xhat mean(g*xhat) is wrong: it is subtracted.
 * Mistake:         g_mean /= C; =>
 * Say: mean(g) is a sum: divide it by C.
 * Mistake:         gx_mean /= C; =>
 * Say: mean(g*xhat) is a sum: divide it by C.
 * Mistake:                 dw[c] += dyn[c] => dw[c] = dyn[c]
 * Say: dw holds the last row only: the contributions of all rows add up.
 * Mistake: (xn[c] - stats[2 * n]) * stats[2 * n + 1] => xn[c]
 * Say: dw is the sum of dy*x. It must be that of dy*xhat.
 * Mistake: (xn[c] - stats[2 * n]) * stats[2 * n + 1] => (xn[c] - stats[2 * n])
 * Say: xhat in dw lacks the factor r.
 */

void call(Call *c)
{
    int N = size_of(c, "N", 1, 6), C = size_of(c, "C", 2, 70);
    real *x = REALS("x", 'i', N, C), *w = REALS("w", 'i', 1, C);
    real *dy = REALS("dy", 'i', N, C), *stats = REALS("stats", 'i', N, 2);
    real *dx = REALS("dx", 'a', N, C), *dw = REALS("dw", 'a', 1, C);
    real *y = REALS("y", 's', N, C);
    layernorm_forward(y, stats, x, w, w, N, C);
    attempt(dx, dw, dy, x, stats, w, N, C);
}
