/* About: session 7, 10 minutes: one clipped step of all parameters
 * Contract: Let norm be the Euclidean length of the whole gradient, all numbers of all tensors.
 *   If a.clip > 0 and norm > a.clip, the gradient is scaled to the length a.clip. Then make step
 *   number `step` of adamw on each tensor, with the scaled gradient; tensors with one row (biases,
 *   weights of layernorm) have neither decay nor penalty (a.decay, a.l1). Return norm, before
 *   clipping. Here nothing is frozen, there are no adapters, and moments are reals. Tensor i of the
 *   TENSORS tensors has tensor_size(m, &m->tensors[i]) numbers: m->w.tensor[i], m->g.tensor[i], and
 *   the two moments (real *)m->moments[0] and [1], both from m->tensors[i].offset on. It has
 *   m->tensors[i].rows rows. adamw takes the factor of the gradient as its `scale`.
 * Parts: gradient_norm model_update
 * Star: the norm, and clipping
 * Star: what does not decay
 * Hint: Clipping keeps the direction of the gradient: all tensors are scaled by one factor.
 * Hint: norm = sqrt(sum of g^2), scale = clip > 0 && norm > clip ? clip/norm : 1
 * Hint: for all tensors: sum += ...; scale; for all tensors: rule = a, with decay = l1 = 0 if
 *   rows is 1; adamw(w, g, m, v, count, scale, &rule, step); return norm
 * Mistake: a.clip > 0 && norm > a.clip ? a.clip / norm : 1 => 1
 * Say: The gradient is not clipped.
 * Mistake: a.clip > 0 && norm > a.clip ? a.clip / norm : 1 => a.clip > 0 ? a.clip / norm : 1
 * Say: A short gradient was made longer. Clipping only shortens.
 * Mistake: a.clip > 0 && norm > a.clip ? => norm > a.clip ?
 * Say: clip = 0 means that nothing is clipped; you scale by 0.
 * Mistake: return sqrt(sum); => return sum;
 * Say: The length is the root of the sum of squares.
 * Mistake: return norm; => return norm * scale;
 * Say: You return the length after clipping. It is wanted before.
 * Mistake: plain.decay = plain.l1 = 0; =>
 * Say: Biases and layernorms decay, too. Only matrices may.
 * Mistake: plain.decay = plain.l1 = 0; => plain.decay = 0;
 * Say: Biases and layernorms have the L1 penalty. Only matrices may.
 */

/* One step of a small model with decay and penalty, on level 2, and a gradient to clip or not. */
void call(Call *c)
{
    Model *m = model_new((Config){3, 4, 1, 1, 4, 128});
    model_prepare(m, TRAINING, 1, 3, 0);
    AdamW a = {.lr = 0.1, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 0.1,
               .decay = rate_of(c, "decay", 0.1, 0.5, 2), .clip = size_of(c, "clip", 0, 2) / 2.0};
    a.l1 = rate_of(c, "l1", 0.1, 0.5, 2);
    double scale = rate_of(c, "size of g", 0.005, 0.06, 0);
    for (size_t i = 0; i < m->count; i++) {
        m->w.wte[i] = random_normal(c->key, (uint32_t)i);
        m->g.wte[i] = scale * random_normal(c->key + 1, (uint32_t)i);
    }
    result(c, "norm", attempt(m, a, size_of(c, "step", 1, 5)));
    memcpy(REALS("w", 'r', 1, m->count), m->w.wte, m->count * sizeof(real));
    memcpy(REALS("g", 'r', 1, m->count), m->g.wte, m->count * sizeof(real));
    model_free(m);
}
