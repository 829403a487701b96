/* About: session 9, 20 minutes: are probabilities what they say?
 * Contract: data is a const Predictions *. Take rows[0] .. rows[n-1] of its arrays; a row may
 *   occur more than once. Return the expected calibration error [Guo et al. 2017]: the rows are put
 *   into ten bins by their probability, 0 to 0.1, 0.1 to 0.2, ... A border belongs to the
 *   bin above it, as 0.5 to that of 0.5 to 0.6; 1 goes into the last bin. In each bin take |mean of
 *   probability - mean of right|; average this over the bins, each weighted by its number of rows.
 * By hand: examples 4 n 4 rows 0 1 2 3 probability 0.95 0.92 0.55 0.5 right 1 0 1 0
 * Star: the error
 * Hint: In a bin, the difference of two means times the number of rows is a difference of two
 *   sums.
 * Hint: excess[bin] = sum of probability - right over its rows; error = sum over bins of |excess|
 *   / n
 * Hint: for i: row = rows[i], bin = min(9, (int)(10 * probability[row])), excess[bin] += ...;
 *   then sum
 * Mistake: fabs(excess[b]) => excess[b]
 * Say: Bins with too high and too low probabilities cancel: add the absolute values.
 * Mistake: excess[min_int(9, (int)(probability * 10))] += probability -
 *   p->right[rows[i]] => excess[0] += fabs(probability - p->right[rows[i]])
 * Say: You took |probability - right| of each row. The absolute value is that of the mean of a
 *   bin.
 * Mistake: min_int(9, (int)(probability * 10)) => 0
 * Say: All rows are in one bin. There are ten, by probability.
 * Mistake: (int)(probability * 10) => (int)ceil(probability * 10) - 1
 * Say: A border belongs to the bin above it: 0.5 to that of 0.5 to 0.6.
 * Mistake: = p->probability[rows[i]] => = p->probability[i] ;; p->right[rows[i]] => p->right[i]
 * Say: You took rows 0 .. n-1. The rows to use are rows[0] .. rows[n-1].
 * Mistake: return sum / n => return sum / 10
 * Say: Bins must be weighted by their number of rows.
 */

void call(Call *c)
{
    int N = size_of(c, "examples", 2, 40), n = size_of(c, "n", 1, N);
    double *probability = REALS("probability", 'i', 1, N), *right = REALS("right", 'i', 1, N);
    int *rows = INTS("rows", 'i', n, N);
    for (int i = 0; !c->hand && i < N; i++) {
        probability[i] = i ? 1 / (1 + exp(-2 * probability[i])) : 1;
        right[i] = right[i] > 0;
    }
    Predictions p = {.probability = probability, .right = right};
    result(c, "error", attempt(&p, rows, n));
}
