/* About: session 7, 25 minutes: the optimizer's step
 * By hand: count 2 step 1 w 1 -1 g 2 0.5
 * Star: moments and their bias correction
 * Star: decoupled decay
 * Star: the L1 penalty
 * Hint: Everything happens for each i alone. Scale the gradient first, update both moments with
 *   it, then correct them, since both began at 0.
 * Hint: The equations are in the contract. L1: |w| becomes max(0, |w| - lr*l1), with the sign of
 *   w.
 * Hint: for i: gi = g[i]*scale; m[i] += ...; v[i] += ...; w[i] = w[i]*(1 - lr*decay) -
 *   lr*m'/(sqrt(v') + epsilon); then L1; g[i] = 0
 * Mistake: (a->lr / (1 - pow(a->beta1, step))) => a->lr
 * Say: m is not corrected: divide it by 1 - beta1^step.
 * Mistake: (real)(1 / (1 - pow(a->beta2, step))) => 1
 * Say: v is not corrected: divide it by 1 - beta2^step.
 * Mistake: (real)sqrt(v[i] * correction) + epsilon => (real)sqrt(v[i] * correction + epsilon)
 * Say: epsilon stands under the root. It is added to the root.
 * Mistake:         g[i] = 0; =>
 * Say: g is not set to 0, so the next step would add to it.
 * Mistake: g[i] * s; => g[i];
 * Say: The gradient is not multiplied by scale.
 * Mistake: keep = (real)(1 - a->lr * a->decay) => keep = 1 ;; g[i] * s; => g[i] * s +
 *   (real)a->decay * w[i];
 * Say: The decay was added to the gradient: that is L2. AdamW subtracts lr*decay*w from w
 *   directly.
 * Mistake: (1 - a->lr * a->decay) => (1 - a->decay)
 * Say: The decay is not multiplied by lr.
 * Mistake: (1 - a->lr * a->decay) => 1
 * Say: There is no decay.
 * Mistake:         size = size < 0 ? 0 : size; =>
 * Say: The L1 step carries w beyond 0. It must stop there.
 * Mistake: (real)(a->lr * a->l1) => 0
 * Say: There is no L1 penalty.
 */

void call(Call *c)
{
    int count = size_of(c, "count", 1, 20), step = size_of(c, "step", 1, 5);
    AdamW a = {.lr = 0.1, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 0.01,
               .decay = rate_of(c, "decay", 0.1, 0.5, 2), .l1 = rate_of(c, "l1", 1, 5, 3)};
    real *w = REALS("w", 'u', 1, count), *g = REALS("g", 'u', 1, count);
    real *m = REALS("m", 'u', 1, count), *v = REALS("v", 'u', 1, count);
    for (int i = 0; i < count; i++) v[i] *= v[i];
    attempt(w, g, m, v, count, c->hand ? 1 : 0.7, &a, step);
}
