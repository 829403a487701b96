/* About: session 10, 60 minutes: training 1% of a layer
 * Parts: lora_h lora_backward
 * Contract: An adapter of rank r adds to a linear layer y(N, OC) = x w^T, whose w stays as it is:
 *   y += h B^T,   h(N, r) = s x' A^T,   x' = dropout(x),   A(r, C), B(OC, r), s = l.scale.
 *   Given dy(N, OC) and x(N, C), add to l.dA(r, C), to l.dB(OC, r), and to dx(N, C), which already
 *   holds what comes through w. The forward pass has left nothing: compute h again. l.h(N, r) and
 *   l.dropped(N, C) are yours to use. If l.rank is 0 there is no adapter, and nothing to do.
 *   dropout(x, count, l.dropout, l.key) drops in place; the same key gives the same mask.
 * By hand: N 1 C 2 OC 2 rank 1 scale 2 x 1 2 A 3 4 B 5 6 dy 1 10
 * Star: no dropout
 * Star: dropout
 * Hint: These are two linear layers, one after the other, without biases. Go back through the
 *   second one first: it has the input h and the matrix B.
 * Hint: dB += dy^T h   dh = s dy B   dA += dh^T x'   dx += dropout(dh A), where s belongs either
 *   to h or to dh, in each of the products that has it.
 * Hint: x' = copy of x in l.dropped, dropout; h in l.h; dB; then dh in the place of h; dA with
 *   x'; then dh A in l.dropped, dropout with the same key, and dx += l.dropped
 * Mistake: for (size_t i = 0; i < (size_t)N * l.rank; i++) l.h[i] *= l.scale; =>
 * Say: The factor l.scale is missing.
 * Mistake: view(dy, OC), view(l.B, l.rank), N, l.rank, OC); => view(dy, OC), view(l.B, l.rank),
 *   N, l.rank, OC); for (int i = 0; i < N * l.rank; i++) l.h[i] /= l.scale;
 * Say: dh lacks the factor l.scale, so dA and dx do: only dB has it.
 * Mistake: residual_forward(dx, dx, l.dropped, => memcpy(dx, l.dropped, sizeof *dx *
 * Say: dx is overwritten. What comes through w must stay in the sum.
 * Mistake: x = lora_h(x => lora_h(x
 * Say: dA was made from x. Forward has used x', after dropout.
 * Mistake: view(l.A, C), N, C, l.rank); => view(l.A, C), N, C, l.rank); if (0)
 * Say: dx does not pass through the dropout.
 */

void call(Call *c)
{
    int N = size_of(c, "N", 1, 5), C = size_of(c, "C", 2, 9), OC = size_of(c, "OC", 2, 9);
    int rank = size_of(c, "rank", 1, 3);
    Lora l = {.rank = rank, .scale = (real)rate_of(c, "scale", 0.5, 3, 0),
              .dropout = (real)rate_of(c, "p", 0.1, 0.6, 2), .key = c->key};
    real *x = REALS("x", 'i', N, C), *dy = REALS("dy", 'i', N, OC), *dx = REALS("dx", 'a', N, C);
    l.A = REALS("A", 'i', rank, C), l.B = REALS("B", 'i', OC, rank);
    l.dA = REALS("dA", 'a', rank, C), l.dB = REALS("dB", 'a', OC, rank);
    l.h = REALS("h", 's', N, rank), l.dropped = REALS("dropped", 's', N, C);
    attempt(dx, dy, x, l, N, C, OC);
}
