/* About: session 5, 40 minutes: logits become a loss and its derivative
 * Contract: Row r of logits(rows, V), whose rows are h->ld apart, belongs to row i = n[r] of the N
 *   rows of h. Let z be that row, p = softmax(z), y = h->targets[i], e = h->smoothing, and
 *   q_v = (1 - e) [v == y] + e/V     the target distribution, where [v == y] is 1 if so, else 0.
 *   Write h->loss[i] = -sum_v q_v log p_v, without the weight, and h->argmax[i], the v of the
 *   largest z_v, the first one of equals. Then replace the logits z_v by the derivatives of
 *   h->weights[i] * loss by z_v. Finding them is the exercise. (The program does so unless h->dx is
 *   NULL; here it never is.) Of h you need targets, weights, smoothing, V, ld, loss and argmax.
 * By hand: rows 1 V 3 logits 1 2 3 weights 1 1 targets 2 0
 * Star: smoothing 0
 * Star: label smoothing
 * Star: logits in the thousands: subtract the largest before the exponential
 * Hint: Write the loss as log sum_v e^z_v - sum_v q_v z_v. The numbers of a row of derivatives
 *   sum to 0, since adding a constant to all logits changes no probability.
 * Hint: The derivative of log sum_u e^z_u by z_v is p_v, so that of weight * loss is weight (p_v
 *   - q_v). log sum_v e^z_v = max + log sum_v e^(z_v - max).
 * Hint: for r: max, argmax; mean of z; remember z[y]; z[v] = exp(z[v] - max), sum; loss = max +
 *   log(sum) - (1 - e) z_y - e mean; z[v] = weight (z[v]/sum - e/V); z[y] -= weight (1 - e)
 * Mistake: real weight = h->weights[n[r]] => real weight = 1
 * Say: The weight of the row is missing.
 * Mistake: *target -= weight => *target += weight
 * Say: The derivative is weight (p + q); the sign of q is wrong.
 * Mistake:         *target -= weight * (real)(1 - e); =>
 * Say: The derivative is p, as if the target did not matter: subtract q.
 * Mistake: - (1 - e) * target_logit - e * mean; => + (1 - e) * target_logit + e * mean;
 * Say: The sign of the target's logit in the loss is wrong.
 * Mistake: max + log((double)sum) - (1 - e) => log((double)sum) - (1 - e)
 * Say: The loss lacks the largest logit, which you subtracted before the exponential: add it
 *   again.
 * Mistake: h->loss[n[r]] = max + log((double)sum) - (1 - e) * target_logit - e *
 *   mean; => h->loss[n[r]] = weight * (max + log((double)sum) - (1 - e) * target_logit - e * mean);
 * Say: The loss was multiplied by the weight. It is stored without; only the derivative has it.
 * Mistake: weight * (real)(e / V) => weight * (real)e
 * Say: The smoothing in the derivative is e for each token. It is shared among all V: e/V.
 * Mistake: - (1 - e) * target_logit - e * mean => - target_logit
 * Say: The smoothing is missing in the loss.
 * Mistake: - smooth; => ; ;; weight * (real)(1 - e) => weight
 * Say: The smoothing is missing in the derivative.
 * Mistake: while (argmax < V - 1 && x[argmax] != max) argmax++; => for (int v = 0; v < V;
 *   v++) argmax = x[v] == max ? v : argmax;
 * Say: Of equal logits argmax is the last one. It must be the first.
 * Mistake: h->loss[n[r]] => h->loss[r] ;; h->argmax[n[r]] => h->argmax[r]
 * Say: The results of row r of the chunk belong to row n[r] of h, not to row r.
 */

/* Level 2: smoothing, level 3: large logits. Row r of the chunk is row n[r] of N. In the first row
 * the largest logit occurs twice. */

void call(Call *c)
{
    int rows = size_of(c, "rows", 1, 5), V = size_of(c, "V", 2, 20), N = rows + 1;
    int ld = c->hand ? V : V + 3, *n = INTS("n", 'i', rows, 1);
    int *targets = INTS("targets", 'i', N, V), *argmax = INTS("argmax", 'w', N, V);
    real *x = REALS("logits", 'u', rows, ld), *weights = REALS("weights", 'i', 1, N);
    double *loss = REALS("loss", 'w', 1, N);
    for (int r = 0; r < rows; r++) n[r] = c->hand ? r : rows - r;
    for (int i = 0; i < rows * ld; i++) x[i] *= c->level > 2 ? 1000 : 1;
    for (int v = 1; !c->hand && v < V; v++) x[0] = fmax(x[0], x[v]);
    if (!c->hand) x[V - 1] = x[0];
    attempt(x, n, rows,
            &(Head){.weights = weights, .targets = targets, .loss = loss, .argmax = argmax, .dx = x,
                    .smoothing = rate_of(c, "smoothing", 0.1, 0.4, 2), .N = N, .V = V, .ld = ld});
}
