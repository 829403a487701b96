/* About: session 1, 10 minutes: a matrix is transposed without moving a number
 * Contract: A View reads a matrix in memory: X(i, j) = p[i*rs + j*cs]. The matrix at p has rows
 *   of `columns` numbers, one row after the other. Return the View of its transpose: X(i, j) is the
 *   number in row j and column i. Its field h is NULL (weights in bf16 use it instead of p).
 * By hand: rows 2 columns 3 p 1 2 3 4 5 6
 * Star: the three fields of the View
 * Hint: Nothing is copied. Where in memory is the number in row j, column i?
 * Hint: It is at p[j*columns + i]. Compare this with p[i*rs + j*cs].
 * Hint: return (View){p, (step from i to i + 1), (step from j to j + 1), NULL};
 * Mistake: flipped(view(p, columns)) => view(p, columns)
 * Say: This View is the matrix itself: i still counts its rows.
 * Mistake: flipped(view(p, columns)) => (View){p, columns, columns, NULL}
 * Say: Neighbours in a row are 1 apart in memory, not `columns`.
 * Mistake: flipped(view(p, columns)) => (View){p, 1, 1, NULL}
 * Say: Neighbours in a column are `columns` apart in memory, not 1.
 */

void call(Call *c)
{
    int rows = size_of(c, "rows", 2, 9), columns = size_of(c, "columns", 2, 9);
    real *x = REALS("p", 'i', rows, columns);
    View v = attempt(x, columns);
    result(c, "p is moved by", (double)(v.p - x));
    result(c, "rs", (double)v.rs), result(c, "cs", (double)v.cs);
}
