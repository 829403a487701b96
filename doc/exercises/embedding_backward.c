/* About: session 5, 15 minutes: repeated tokens add up
 * Contract: x(N, C) = wte[token] + wpe[position], where tokens(N) and positions(N) choose rows of
 *   wte(V, C) and wpe(T, C). Given dx(N, C), add to dwte(V, C) and dwpe(T, C).
 * By hand: N 3 C 1 V 3 tokens 2 0 2 positions 0 1 0 dx 1 10 100
 * Star: dwte and dwpe
 * Hint: The same token may occur several times. What is the derivative by a number that occurs
 *   twice?
 * Hint: dwte[tokens[n]*C + c] += dx[n*C + c], and the same for positions
 * Hint: for n: for c: (the two lines of hint 2)
 * Mistake: token[c] += dxn[c] => token[c] = dxn[c]
 * Say: If a token occurs more than once, only its last gradient is kept. They must add up.
 * Mistake: position[c] += dxn[c] => position[c] = dxn[c]
 * Say: If a position occurs more than once, only its last gradient is kept. They must add up.
 * Mistake: (size_t)positions[n] * C => (size_t)n * C
 * Say: You added to row n of dwpe. The position of token n is positions[n].
 * Mistake:                 position[c] += dxn[c]; =>
 * Say: dwpe is missing.
 */

void call(Call *c)
{
    int N = size_of(c, "N", 2, 9), C = size_of(c, "C", 1, 70), V = size_of(c, "V", 2, 5);
    int *tokens = INTS("tokens", 'i', N, V), *positions = INTS("positions", 'i', N, N);
    real *dx = REALS("dx", 'i', N, C), *dwte = REALS("dwte", 'a', V, C);
    attempt(dwte, REALS("dwpe", 'a', N, C), dx, tokens, positions, N, C);
}
