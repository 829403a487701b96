/* About: session 4, 45 minutes: each token reads the tokens before it
 * Contract: Causal attention, as plain loops. a->qkv(B, rows, 3C) has q, k and v of each token
 *   side by side, each of C numbers; head h owns numbers h*HS .. h*HS + HS - 1 of each, HS = C/NH.
 *   The T queries of a row are those of tokens past .. past + T - 1. For query t = 0 .. T-1 of row
 *   b and head h, over the tokens j <= past + t, which it sees:
 *   s_j = q.k_j / sqrt(HS)     lse = log sum_j e^s_j     p_j = e^(s_j - lse)    out = sum_j p_j v_j
 *   Write out(B, T, C) and lse(B, NH, T). Star 2: unless doc_start is NULL, the query sees only the
 *   j >= a->doc_start[b*T + t]. Star 3: if a->dropout > 0, out is the sum of m_j p_j v_j with
 *   m_j = dropout_factor(a->dropout, key, j), key = random_key(a->key, the query's index in lse).
 * Parts: query_block scores_mask scores_dropout scores_softmax attention_forward
 * By hand: B 1 T 2 NH 1 HS 2 qkv 1 0 1 0 1 2 0 1 0 1 3 4
 * Star: all tokens before, no documents, no dropout
 * Star: documents: a token sees only its own
 * Star: dropout, and earlier tokens in a cache (past > 0)
 * Hint: Write it for one query of one head first: a row of scores, its softmax, a weighted sum.
 *   Nothing passes between heads, rows or queries.
 * Hint: With max = the largest s_j: sum = sum_j e^(s_j - max), lse = max + log(sum). k_j begins
 *   at qkv + (b*rows + j)*3*C + C + h*HS, and v_j is C numbers further on. q begins at
 *   qkv + (b*rows + past + t)*3*C + h*HS.
 * Hint: for b, h, t: first = doc_start ? ... : 0; last = past + t; for j in first..last: s[j],
 *   max; sum; lse[(b*NH + h)*T + t]; out row of (b, t), head h: 0; for j: for c: out[c] += p_j *
 *   v_j[c]
 * Mistake: 1 / (real)sqrt(HS) => 1
 * Say: The scores are not divided by sqrt(HS).
 * Mistake: (real)sqrt(HS) => (real)sqrt(C)
 * Say: The scores are divided by sqrt(C). The vectors of a head have HS numbers: divide by
 *   sqrt(HS).
 * Mistake: (real)sqrt(HS) => (real)HS
 * Say: The scores are divided by HS instead of sqrt(HS).
 * Mistake: i < before => i < 0
 * Say: Your attention is not causal: queries see the tokens that come after them.
 * Mistake: int before = j - (n->keys - n->count) => int before = j == n->keys - n->count ? 0 : j
 *   - (n->keys - n->count) + 1
 * Say: A query does not see its own token. It sees all tokens up to and including itself.
 * Mistake: * scale + (real)log(sum[i]) => * scale
 * Say: lse is the largest score: the log of the sum is missing.
 * Mistake: lse[i] = max[i] * scale + (real)log(sum[i]) => lse[i] = (real)log(sum[i])
 * Say: lse lacks the largest score, which you subtracted before the exponential: add it again.
 * Mistake: o[(size_t)i * C + c] *= inv_sum[i] => o[(size_t)i * C + c] *= 1
 * Say: The weights do not sum to 1: divide by the sum of the exponentials.
 * Mistake: key >= 0 && i >= 0 => 0 && i >= 0
 * Say: Queries see the documents before their own: doc_start is ignored.
 * Mistake:                 scores_dropout(s, &n, a); =>
 * Say: There is no dropout on the weights.
 */

void call(Call *c)
{
    Attention a = attention_call(c, 1);
    real *out = REALS("out", 'w', a.B * a.T, a.C);
    real *lse = REALS("lse", 'w', a.B * a.NH, a.T);
    attempt(out, lse, &a);
}
