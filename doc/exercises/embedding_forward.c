/* About: session 3, 10 minutes: tokens and positions become vectors
 * By hand: N 2 C 2 V 3 tokens 2 0 positions 0 1 wte 1 2 3 4 5 6 wpe 10 20 30 40
 * Star: x
 * Hint: Each row of x is the sum of two rows of tables.
 * Hint: x[n*C + c] = wte.p[tokens[n]*C + c] + wpe.p[positions[n]*C + c]
 * Hint: for n: for c: (the line of hint 2)
 * Mistake: element(wte, tokens[n], c, 0) + element(wpe, positions[n], c, 0) => element(wte,
 *   tokens[n], c, 0)
 * Say: The position is missing: only the row of wte is there.
 * Mistake: element(wte, tokens[n], c, 0) + element(wpe, positions[n], c, 0) => element(wpe,
 *   positions[n], c, 0)
 * Say: The token is missing: only the row of wpe is there.
 * Mistake: positions[n], c => n, c
 * Say: You took row n of wpe. The position of token n is positions[n]: it begins anew with each
 *   document.
 * Mistake: , c, 0) + element => , c, 0) * element
 * Say: The two rows were multiplied; they must be added.
 */

/* Positions are below N, so that the table has the rows of both tokens and positions. */

void call(Call *c)
{
    int N = size_of(c, "N", 2, 9), C = size_of(c, "C", 1, 70), V = size_of(c, "V", 2, 5);
    int *tokens = INTS("tokens", 'i', N, V), *positions = INTS("positions", 'i', N, N);
    real *wte = REALS("wte", 'i', V, C), *wpe = REALS("wpe", 'i', N, C);
    attempt(REALS("x", 'w', N, C), tokens, positions, view(wte, C), view(wpe, C), N, C);
}
