/* About: session 6, 90 minutes: through the weighted sum, the softmax and the products
 * Contract: The backward of attention_forward (see its exercise for the names), as plain loops;
 *   past is 0 and rows is T. Given dout(B, T, C), and out and lse as forward wrote them, write
 *   dqkv(B, T, 3C): dq, dk and dv of each token side by side. For a query and the j that it sees,
 *   s_j = q.k_j / sqrt(HS)   p_j = e^(s_j - lse)   out = sum_j m_j p_j v_j
 *   Star 3: m_j as in attention_forward. Without dropout it is 1.
 * Parts: query_block scores_mask scores_dropout scores_backward attention_backward_block
 *   attention_backward
 * By hand: B 1 T 2 NH 1 HS 2 qkv 1 0 1 0 1 2 0 1 0 1 3 4 dout 1 0 0 1
 * Star: all tokens before, no documents, no dropout
 * Star: documents: a token sees only its own
 * Star: dropout
 * Hint: Three steps back: from out to p and v, from p to s (softmax: a shift of all s_j changes
 *   nothing, so the ds_j of a query sum to 0), from s to q and k. A key is seen by many queries:
 *   add.
 * Hint: dv_j += m_j p_j dout   dp_j = m_j (dout.v_j)   ds_j = p_j (dp_j - sum_i p_i dp_i) dq =
 *   sum_j ds_j k_j / sqrt(HS)   dk_j += ds_j q / sqrt(HS)
 * Hint: dqkv = 0; for b, h, t: D = dout.out of this head (it is sum_i p_i dp_i); for j: s, p, dp,
 *   ds; for c: dv_j[c] += m p dout[c], dq[c] += ds k_j[c] scale, dk_j[c] += ds q[c] scale
 * Mistake: (dp[i] - p_dp[i]) * scale => (dp[i] - p_dp[i])
 * Say: dq and dk are not divided by sqrt(HS).
 * Mistake: (dp[i] - p_dp[i]) => dp[i]
 * Say: The softmax is not complete: ds_j = p_j (dp_j - sum_i p_i dp_i), and the sum is missing.
 * Mistake: p[i] * (dp[i] - p_dp[i]) => (dp[i] - p_dp[i])
 * Say: The factor p_j is missing in ds_j = p_j (dp_j - sum_i p_i dp_i).
 * Mistake: (dp[i] - p_dp[i]) => (dp[i] + p_dp[i])
 * Say: The sign of sum_i p_i dp_i is wrong.
 * Mistake: i < before => i < 0
 * Say: The tokens after a query take part: forward is causal, so backward is, too.
 * Mistake: key >= 0 && i >= 0 => 0 && i >= 0
 * Say: Tokens of other documents take part: doc_start is ignored.
 * Mistake:     scores_dropout(p, n, a); =>
 * Say: dv lacks the factors m_j of dropout.
 * Mistake:     scores_dropout(dp, n, a); =>
 * Say: dp lacks the factors m_j of dropout.
 */

void call(Call *c)
{
    static const char *const names[] = {"dq", "dk", "dv"};
    Attention a = attention_call(c, 0);
    int N = a.B * a.T, C = a.C;
    real *dout = REALS("dout", 'i', N, C), *out = REALS("out", 'i', N, C);
    real *lse = REALS("lse", 'i', a.B * a.NH, a.T), *dqkv = REALS("dqkv", 's', N, 3 * C);
    attention_forward(out, lse, &a);
    attempt(dqkv, dout, out, lse, &a);
    for (int i = 0; i < 3; i++) {
        real *part = REALS(names[i], 'r', N, C);
        for (int n = 0; n < N; n++)
            memcpy(part + n * C, dqkv + (3 * n + i) * C, C * sizeof(real));
    }
}
