/* About: session 10, 30 minutes: drawing the next token
 * Contract: Draw a token from softmax(logits(V) / temperature). With top_k > 0 only the top_k
 *   most likely tokens can be drawn; then with top_p < 1 only the fewest most likely of these whose
 *   probabilities sum to at least top_p times the sum of these (always at least one). Of tokens
 *   with equal logits that with the lower id counts as more likely. Temperature 0: return the most
 *   likely token.
 *
 *   To draw: u = random_uniform(key, 0) times the sum of the weights that are left. Walk over these
 *   tokens, in the order of their ids if all V are left because top_k and top_p demand nothing
 *   (top_k is 0 or at least V, and top_p is 1), else the most likely first; subtract each weight
 *   from u; return the first token at which u is below 0. list(V) is yours to use.
 * By hand: V 3 logits 0 1 2 temperature 1
 * Star: temperature
 * Star: top_k
 * Star: top_p
 * Hint: Weights need not sum to 1: e^((logit - largest)/temperature), with the sum beside them.
 * Hint: Sort list by logit, downwards (qsort; equal ones by id). top_k is a limit of the loop
 *   that adds weights, top_p is the condition that ends it.
 * Hint: temperature 0: argmax. Fill list. If restricted: sort. k = top_k or V; total = sum of the
 *   first k; kept = 0; do mass += weight of kept++; while (kept < k && mass < top_p * total); then
 *   draw.
 * Mistake:  / s->temperature =>
 * Say: The temperature is ignored: divide the logits by it.
 * Mistake:  / s->temperature => * s->temperature
 * Say: The logits were multiplied by the temperature. Divide by it: a high one makes them more
 *   equal.
 * Mistake: if (s->temperature == 0) return argmax; => return argmax;
 * Say: You return the most likely token every time.
 * Mistake: k = s->top_k > 0 ? min_int(s->top_k, V) : V => k = V
 * Say: top_k is ignored.
 * Mistake: for (sum = 0; n > V - k;) sum += candidate_pop => for (; n > V - k;) candidate_pop
 * Say: top_p is taken of the probability of all V tokens. It is a share of what top_k has left.
 * Mistake: (s->top_p >= 1 || mass < s->top_p * sum) => 1
 * Say: top_p is ignored.
 * Mistake: mass < s->top_p * sum => mass <= s->top_p * sum
 * Say: One token too many is kept where the sum is exactly top_p: "at least" includes equality.
 * Mistake: int ordered = k < V || s->top_p < 1; => int ordered = 1;
 * Say: All V tokens are left, so you must walk over them in the order of their ids.
 * Mistake: random_uniform(key, 0) * mass => random_uniform(key, 0) * sum
 * Say: u must be a share of the weights that are left after top_p, not of all that top_k has
 *   left.
 * Mistake: mass < s->top_p * sum => mass + (n ? list[0].weight : 0) < s->top_p * sum
 * Say: The token with which the sum reaches top_p is missing: it can be drawn, too.
 */

/* 40 draws; in one call of five, the temperature is 0. Level 2: top_k, level 3: top_p, too, other
 * ones in each draw, and eight equal logits, of which top_p 0.5 keeps four. */

void call(Call *c)
{
    int V = size_of(c, "V", 8, 40);
    Sampling s = {.temperature = fmax(0, rate_of(c, "temperature", -0.4, 2, 0)), .top_p = 1};
    real *logits = REALS("logits", 'i', 1, V);
    int *top_k = INTS("top_k", 's', 40, 7), *token = INTS("token", 'r', 40, V);
    Candidate *list = allocate(V, sizeof *list);
    for (int i = 0; i < 40; i++) {
        if (c->level > 1) s.top_k = 2 + top_k[i];
        if (c->level > 2) s.top_p = 0.3 + 0.5 * random_uniform(c->key, i);
        token[i] = attempt(logits, V, &s, random_key(c->key, i), list);
    }
    if (c->level > 2) {
        real *equal = REALS("equal logits", 's', 1, 8);
        int *first = INTS("one of equal logits", 'r', 40, 8);
        memset(equal, 0, 8 * sizeof *equal);
        s.temperature = 1, s.top_k = 0, s.top_p = 0.5;
        for (int i = 0; i < 40; i++)
            first[i] = attempt(equal, 8, &s, random_key(c->key, 40 + i), list);
    }
    free(list);
}
