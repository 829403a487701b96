/* About: session 7, 15 minutes: warmup, then down
 * Contract: Return the learning rate of step `step` as a fraction of its peak. Steps count from 0
 *   to steps - 1. It rises in a line over `warmup` steps: the first has 1/warmup, the last 1. Then
 *   `kind` decides: "cosine" falls from 1 to `floor` along half a cosine, "linear" along a line,
 *   and "constant" stays at 1. Step `warmup` has 1 in all three. Step `steps`, one after the last,
 *   would have `floor`.
 * By hand: steps 4 warmup 2 floor 0.1
 * Star: cosine
 * Star: linear and constant
 * Hint: Two parts: before warmup, and after. Let done go from 0 at step warmup to 1 at step
 *   steps.
 * Hint: done = (step - warmup) / (steps - warmup); cosine: floor + (1 - floor) (1 + cos(pi done))
 *   / 2
 * Hint: if (step < warmup) return ...; done = ... (never divide by 0: steps may equal warmup);
 *   three kinds, compared with strcmp
 * Mistake: (step + 1.0) / warmup => (double)step / warmup
 * Say: The warmup begins at 0, so the first step would change nothing. Step 0 has (0 + 1)/warmup.
 * Mistake: (step - warmup) / fmax(1, steps - warmup) => (double)step / fmax(1, steps)
 * Say: The descent is counted from step 0. It begins when the warmup ends.
 * Mistake: fmax(1, steps - warmup) => fmax(1, steps - 1 - warmup)
 * Say: The last step has floor already. Floor is the value one step later, at step `steps`.
 * Mistake: return floor + (1 - floor) => return (1 - floor)
 * Say: The cosine ends at 0, not at floor.
 * Mistake: floor + (1 - floor) * 0.5 => floor + 0.5
 * Say: The cosine begins above 1: its height is 1 - floor.
 * Mistake: 1 - (1 - floor) * done => 1 - done
 * Say: The straight line ends at 0, not at floor.
 * Mistake: cos(3.141592653589793 * done) => cos(6.283185307179586 * done)
 * Say: This is a whole period of the cosine, which comes back to 1. It must be half of one.
 */

/* Level 2: the other two kinds. */

void call(Call *c)
{
    static const char *const kinds[] = {"cosine", "linear", "constant"};
    int steps = size_of(c, "steps", 2, 40), warmup = size_of(c, "warmup", 0, steps / 2);
    double floor = rate_of(c, "floor", 0, 0.5, 0), *at;
    int kind = c->level > 1, rows = c->level > 1 ? 2 : 1;
    at = array(c, "fraction", 'r', 8, rows, steps + 1, 0);
    for (int n = 0; n < rows * (steps + 1); n++)
        at[n] = attempt(kinds[kind + n / (steps + 1)], n % (steps + 1), warmup, steps, floor);
}
