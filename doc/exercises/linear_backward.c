/* About: session 5, 25 minutes: two products give both gradients
 * Contract: y(N, OC) = x(N, C) w(OC, C)^T + b(OC). Given dy(N, OC), write dx(N, C) and add to
 *   dw(OC, C). (db is the work of bias_backward.)
 * By hand: N 1 C 2 OC 2 x 1 2 w 3 4 5 6 dy 1 10
 * Star: dx and dw
 * Hint: Write y_no as a sum. By which outputs does x_nc enter, by which w_oc? The shapes leave
 *   only one way to multiply.
 * Hint: dx_nc = sum_o dy_no w_oc        dw_oc += sum_n dy_no x_nc        w_oc = w.p[o*C + c]
 * Hint: for n, c: sum over o, dx = sum; for o, c: sum over n, dw += sum
 * Mistake: view(dy, OC), w, N, C, OC => view(dy, OC), transposed(w.p, OC), N, C, OC
 * Say: In dx, w was read as (C, OC). It is w(OC, C).
 * Mistake: accumulate(dw, C), transposed(dy, OC), view(x, C), OC, C, N => accumulate(dw, OC),
 *   transposed(x, C), view(dy, OC), C, OC, N
 * Say: You added the transpose of dw: dw(OC, C) has a row for each output.
 * Mistake: accumulate(dw, C), transposed(dy, OC), view(x, C), OC, C, N => accumulate(dw, C),
 *   view(dy, OC), view(x, C), 1, C, 1
 * Say: Only a part of the sum is there: every row n contributes to dw, for every output.
 */

void call(Call *c)
{
    int N = size_of(c, "N", 1, 7), C = size_of(c, "C", 1, 9), OC = size_of(c, "OC", 2, 20);
    real *x = REALS("x", 'i', N, C), *w = REALS("w", 'i', OC, C);
    real *dy = REALS("dy", 'i', N, OC), *dx = REALS("dx", 'w', N, C);
    attempt(dx, REALS("dw", 'a', OC, C), dy, x, view(w, C), N, C, OC);
}
