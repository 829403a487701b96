/* About: session 3, 15 minutes: the layer in which nearly all time is spent
 * By hand: N 1 C 2 OC 3 x 1 2 w 1 0 0 1 1 1 b 10 20 30
 * Star: y with rows one after the other
 * Star: rows of y that are ldy > OC apart
 * Hint: Each number of y is the dot product of a row of x and a row of w, plus one number of b.
 * Hint: y[n*ldy + o] = b[o] + sum over c of x[n*C + c] * w.p[o*C + c]
 * Hint: for n: for o: sum = b[o]; for c: sum += ...; y[n*ldy + o] = sum
 * Mistake: with_bias(y, ldy, b) => assign(y, ldy)
 * Say: The bias b is missing.
 * Mistake: flipped(w) => view(w.p, OC)
 * Say: You read w as (C, OC). It is w(OC, C): row o has the C weights of output o.
 * Mistake: with_bias(y, ldy, b) => with_bias(y, OC, b)
 * Say: Rows of y are written OC apart. They are ldy apart.
 * Mistake: with_bias(y, ldy, b) => accumulate(y, ldy)
 * Say: The products are added to what was in y. They must be added to the bias b.
 */

void call(Call *c)
{
    int N = size_of(c, "N", 1, 7), C = size_of(c, "C", 1, 9), OC = size_of(c, "OC", 2, 20);
    int ldy = OC + (c->level > 1 ? size_of(c, "ldy - OC", 1, 5) : 0);
    real *x = REALS("x", 'i', N, C), *w = REALS("w", 'i', OC, C);
    real *b = REALS("b", 'i', 1, OC), *y = REALS("y", 'w', N, ldy);
    attempt(y, ldy, x, view(w, C), b, N, C, OC);
}
