/* About: session 5, 15 minutes: the derivative of the activation
 * Contract: GELU, tanh form: y = x/2 (1 + tanh u), u = sqrt(2/pi) (x + a x^3), a = 0.044715.
 *   Since (1 + tanh u)/2 = 1/(1 + e^(-2u)), this is y = x s with s = sigmoid(2u). Given dy(count)
 *   and x(count), write dx(count), the derivative of the loss by x. gelu_sigmoid(x) returns s. Star
 *   2: dx may be the same array as dy.
 * By hand: count 2 x 0 1 dy 1 1
 * Star: dx
 * Star: dx in the place of dy
 * Hint: y is a product of x and s(x): use the product rule, then the chain rule for s.
 * Hint: ds/du = 2 s (1 - s), u' = sqrt(2/pi) (1 + 3a x^2), dx = dy (s + x s (1 - s) 2u')
 * Hint: for i: s = gelu_sigmoid(x[i]); dx[i] = dy[i] * (...), reading dy[i] before dx[i] is
 *   written
 * Mistake: (s + x[i] * s * (1 - s) * du) => s
 * Say: Only the first part of the product rule is there: s depends on x, too.
 * Mistake: (1 + 3 * (real)0.044715 => (1 + (real)0.044715
 * Say: The derivative of a x^3 is 3a x^2; the factor 3 is missing.
 * Mistake: dy[i] * (s => (s
 * Say: This is dy/dx. By the chain rule, multiply it by dy[i].
 * Mistake: (s + x[i] * s * (1 - s) * du) => (s + x[i] * s * (1 - s))
 * Say: The derivative of u by x is missing, and a factor 2.
 * Mistake: (real)1.5957691216057308 * (1 + => (real)0.7978845608028654 * (1 +
 * Say: A factor 2 is missing: s is the sigmoid of 2u.
 * Mistake: x[i] * s * (1 - s) * du => s * (1 - s) * du
 * Say: In the second part of the product rule the factor x is missing.
 * Mistake: dy[i] * (s + x[i] * s * (1 - s) * du) => dy[i] * (real)(0.5 * (1 + erf(x[i] /
 *   sqrt(2.0))) + x[i] * exp(-0.5 * x[i] * x[i]) * 0.3989422804014327)
 * Say: This is the derivative of the exact GELU, with erf. The program uses the form with tanh.
 */

void call(Call *c)
{
    int count = size_of(c, "count", 1, 70);
    real *x = REALS("x", 'i', 1, count), *dy = REALS("dy", 'i', 1, count);
    real *dx = REALS("dx", 'w', 1, count);
    if (c->level > 1) dy = memcpy(dx, dy, count * sizeof(real));
    attempt(dx, dy, x, count);
}
