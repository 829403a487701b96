/* About: session 5, 10 minutes: the gradient of what is added to each row
 * Contract: y_nc = x_nc + b_c for all n. Given dy(N, C), add the derivative of the loss by b to
 *   db(C).
 * By hand: N 2 C 3 dy 1 2 3 10 20 30
 * Star: db
 * Hint: b_c occurs in N equations. What does each of them contribute?
 * Hint: db_c += sum_n dy_nc
 * Hint: for n: for c: db[c] += dy[n*C + c]
 * Mistake: += dy[(size_t)n * C + c] => += dy[(size_t)n * C + c] / N
 * Say: You took the mean over the rows. The derivative is the sum.
 * Mistake: dy[(size_t)n * C + c] => dy[(size_t)c * N + n]
 * Say: You read dy as (C, N). It is dy(N, C).
 * Mistake: db[c] += => db[c] -=
 * Say: The sign is wrong.
 * Mistake: if (!db) return; => db[C] = 0;
 * Say: Your function reads or writes outside of its arrays.
 * Mistake: n < N; n++) => n < N; ((real *)dy)[n] = 0, n++)
 * Say: Your function changes its input dy.
 */

void call(Call *c)
{
    int N = size_of(c, "N", 2, 7), C = size_of(c, "C", 1, 150);
    real *dy = REALS("dy", 'i', N, C);
    attempt(REALS("db", 'a', 1, C), dy, N, C);
}
