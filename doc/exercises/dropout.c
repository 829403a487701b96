/* About: session 7, 10 minutes: random zeros that can be computed again
 * Contract: Dropout of x(count), in place. x[i] becomes 0 with probability p, else it is divided
 *   by 1 - p, which keeps its mean. It is dropped if (random_bits(key, i) >> 8) * 0x1p-24 < p. If p
 *   is 0, nothing changes. The same key gives the same zeros: backward is this function, too.
 * Parts: dropout_factor dropout
 * By hand: count 4 p 0.5 x 1 2 3 4
 * Star: x
 * Hint: The random number of x[i] depends only on key and i, so there is no state to keep.
 * Hint: factor = (dropped ? 0 : 1 / (1 - p)), with the condition of the contract
 * Hint: for i: x[i] *= factor
 * Mistake: 1 / (1 - p) => 1
 * Say: What is kept is not divided by 1 - p, so the mean of x shrinks.
 * Mistake: 1 / (1 - p) => 1 / p
 * Say: What is kept was divided by p. Divide by 1 - p, the share that is kept.
 * Mistake: < p ? 0 => >= p ? 0
 * Say: The wrong ones are dropped: yours are zero with probability 1 - p.
 * Mistake: < p ? 0 : 1 / (1 - p) => < p ? 0 : 1 - p
 * Say: What is kept was multiplied by 1 - p, as some do when the model is used. Divide by it.
 */

void call(Call *c)
{
    int count = size_of(c, "count", 1, 70);
    real *x = REALS("x", 'u', 1, count);
    attempt(x, count, (real)rate_of(c, "p", 0.1, 0.9, 0), random_key(c->key, 1));
}
