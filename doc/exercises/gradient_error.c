/* About: session 5, 25 minutes: is a gradient right? A check that must find eight planted bugs
 * Contract: dx(count) claims to be the gradient of function() by x(count). Return its largest
 *   relative error, measured by differences of function(), which reads x: change a number of x,
 *   call it, and put the number back exactly. Look at all numbers if count <= samples, which holds
 *   here; key is for drawing some. A right gradient must give less than 1e-6, a wrong one more than
 *   1e-3, and so must NaN in dx. What is below a hundredth of the largest |dx| may be measured
 *   against that hundredth. The gradient may be as small as 1e-6, or as large as 1e6.
 * Parts: worse largest gradient_error
 * Star: right gradients are found right, x is put back, and the first bug is found
 * Star: eight bugs are found
 * Hint: (f(x + h) - f(x)) / h has an error in proportion to h; a difference around x has a much
 *   smaller one. Relative means: divided by the size of the numbers that are compared.
 * Hint: slope = (f(x + h) - f(x - h)) / 2h, or the fourth order (8 (f(x+h) - f(x-h)) - (f(x+2h) -
 *   f(x-2h))) / 12h; error = |slope - dx_i| / max(|slope|, |dx_i|, largest/100). Which h?
 * Hint: for i: before = x[i]; x[i] = before + h; up = function(); x[i] = before - h; down =
 *   function(); x[i] = before; error; if (!(error <= most)) most = error; with h = 1e-3 for the
 *   fourth order, 1e-5 for the second. Comparisons with NaN are false: think of what that does.
 * Mistake: k ? function() : 0 => function() ;; (8 * (f[3] - f[1]) - (f[4] - f[0])) / (12 *
 *   h) => (f[3] - f[2]) / h
 * Say: A difference to one side is not exact enough: its error grows like h. Go to both sides.
 * Mistake: fabs(slope - exact) / size => fabs(slope - exact)
 * Say: The error is not relative: a small gradient can be all wrong with a small error.
 * Mistake: fabs(slope - exact) / size => (slope - exact) / size
 * Say: The sign of the error hides it: take |slope - dx|.
 * Mistake: error <= most || isnan(most) ? most : error => error > most ? error : most
 * Say: NaN is not found: a comparison with NaN is false, so it never becomes the largest.
 * Mistake: most = worse(most, size > 0 ? fabs(slope - exact) / size : 0); => most += fabs(slope
 *   - exact) / size / count;
 * Say: You return the mean error. One wrong number among many right ones hides in a mean.
 * Mistake: fmax(least, fmax(fabs(slope), fabs(exact))) => fmax(100 * least, fabs(slope))
 * Say: The error is divided by the largest number. So a small number may be wrong by more than 1e-3
 *   of itself: divide by the numbers that are compared.
 * Mistake: x[i] = before; => x[i] += (real)(-2 * h);
 * Say: x is not put back exactly: x + h - h may differ from x by rounding. Keep the number.
 * Mistake: s < (all ? (int)count : samples) => s < (int)count - 1
 * Say: The last number is not checked, or its step h is 0: this x is 0.
 */

double gradient_error(double (*function)(void), real *x, const real *dx, size_t count, int samples,
                      uint64_t key);
static struct { real *x, *w; int count; double scale; } checked;

/* scale * sum_i w_i gelu(x_i) */
double checked_loss(void)
{
    real y[64];
    double sum = 0;
    gelu_forward(y, checked.x, checked.count);
    for (int i = 0; i < checked.count; i++) sum += checked.scale * checked.w[i] * y[i];
    return sum;
}

/* Right gradients at three scales; one with a bug, on level 2 one with each of eight. */
void call(Call *c)
{
    static const char *const cases[] = {
        "one near 1e-6 is right", "one near 1 is right", "one near 1e6 is right",
        "bug 1 is found: all signs", "bug 2 is found: one is doubled", "bug 3 is found: all zero",
        "bug 4 is found: the last is zero", "bug 5 is found: one is 1% too small",
        "bug 6 is found: NaN", "bug 7 is found: two are exchanged",
        "bug 8 is found: a small one is 1% too small"};
    static const double factor[] = {1, 1, 1, -1, 1, 0, 1, 1, 1, 1, 1};
    int count = 24;
    real *x = REALS("x", 'i', 1, count), *w = REALS("w", 'i', 1, count), dx[24], before[24];
    int put_back = 1;
    for (int i = 0; i < count; i++) w[i] = 1 + w[i] * w[i], x[i] = fabs(x[i]) + 0.5;
    for (int i = 8; i < 16; i++)         /* near 1, so that x + h - h may differ by rounding */
        x[i] = (i % 2 ? -1 : 1) * (1 - 1e-6 * x[i]);
    w[5] = 5, w[6] = 0.2, x[count - 1] = 0;
    for (int k = 0; k < (c->level > 1 ? 11 : 4); k++) {
        checked.x = x, checked.w = w, checked.count = count, checked.scale = pow(1e6, k % 3 - 1);
        gelu_backward(dx, w, x, count);
        for (int i = 0; i < count; i++) dx[i] *= checked.scale * factor[k];
        real third = dx[3];
        if (k == 4) dx[2] *= 2;
        if (k == 6) dx[count - 1] = 0;
        if (k == 7) dx[5] *= 0.99;
        if (k == 8) dx[7] = NAN;
        if (k == 10) dx[6] *= 0.99;
        if (k == 9) dx[3] = dx[4], dx[4] = third;
        memcpy(before, x, sizeof before);
        double error = attempt(checked_loss, x, dx, count, 100, c->key);
        put_back &= !memcmp(before, x, sizeof before);
        result(c, cases[k], k < 3 ? error >= 0 && error < 1e-6 : !(error < 1e-3));
    }
    result(c, "x is put back exactly", put_back);
}
