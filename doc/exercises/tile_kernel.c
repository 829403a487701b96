/* About: session 10, 60 minutes: the microkernel, scored by the percent of the peak
 * Contract: One tile of a matrix product, c(MR, NR) = start + a(MR, depth) b(depth, NR), as fast
 *   as you can. a_ik is a.p[i*a.rs + k*a.cs], b_kj is b[k*NR + j], c_ij is c.p[i*c.rs + j]. If
 *   c.start is NULL the product is written, else it is added to c.start[i*c.start_rs + j]. MR, NR =
 *   NV*VL and VL are constants. `vector` is a type of VL reals, with + and * for each of them and
 *   for a vector and a number; *(vector *)&b[...] reads one where b is aligned (rows of b are),
 *   *(loose_vector *)&c.p[...] reads or writes one anywhere. Graded with -O3, in double. The peak
 *   is that of one core, measured in the same minute.
 * Star: the numbers
 * Star: 20 percent of the peak
 * Star: 60 percent of the peak
 * Hint: Each number of a and b is used for many sums. Hold the sums in registers while k runs, so
 *   that each row of b is loaded once for all MR rows of c.
 * Hint: vector sum[MR][NV] = all 0; for k: for j < NV: b_j = a vector of row k; for i < MR: for
 *   j: sum[i][j] += a_ik * b_j. The loop over k is the outer one.
 * Hint: for k { vector bk[NV]; load; for i { real ai = a.p[...]; for j: sum[i][j] += ai * bk[j];
 *   } } then for i, j: add start, write. The loops over i and j must be unrolled, else the sums are
 *   in memory: put "UNROLL" before `for`, as the source does.
 * Mistake: if (c.start) sum => if (0) sum
 * Say: c.start is ignored: the product must be added to it.
 * Mistake: c.start[i * c.start_rs + j * VL] => c.start[i * c.rs + j * VL]
 * Say: Rows of start are start_rs apart, not rs.
 * Mistake: a.p[i * a.rs + k * a.cs] => a.p[i * a.rs + k]
 * Say: Neighbours in a row of a are a.cs apart, not 1.
 * Mistake: j < NV; => j < NV - 1;
 * Say: The last vector of each row is missing.
 */

void tile_kernel(Output c, View a, const real *b, int depth)
{
    vector sum[MR][NV] = {{{0}}};
    for (int k = 0; k < depth; k++) {
        vector bk[NV];
        UNROLL for (int j = 0; j < NV; j++) bk[j] = *(vector *)&b[k * NR + j * VL];
        UNROLL for (int i = 0; i < MR; i++) {
            real ai = a.p[i * a.rs + k * a.cs];
            UNROLL for (int j = 0; j < NV; j++) sum[i][j] += ai * bk[j];
        }
    }
    UNROLL for (int i = 0; i < MR; i++)
        UNROLL for (int j = 0; j < NV; j++) {
            if (c.start) sum[i][j] += *(loose_vector *)&c.start[i * c.start_rs + j * VL];
            *(loose_vector *)&c.p[i * c.rs + j * VL] = sum[i][j];
        }
}

/* Level 2 and 3, if this is optimized: the best of 10 times, each of 500 calls. */
void call(Call *c)
{
    int depth = size_of(c, "depth", 1, 40), columns = NR + size_of(c, "rs - NR", 0, 5);
    int cs = size_of(c, "a.cs", 1, 3), k = 256;
    real *a = REALS("a", 'i', MR, depth * cs), *b = REALS("b", 'i', depth, NR);
    real *start = REALS("start", 'i', MR, NR + 6), *y = REALS("c", 'w', MR, columns);
    attempt((Output){y, columns, size_of(c, "start", 0, 1) ? start : NULL, NR + 6},
            (View){a, depth * cs, cs, NULL}, b, depth);
#ifdef __OPTIMIZE__
    real *panel = allocate_reals((NR + MR) * k), *tile = allocate_reals(MR * NR);
    double best = 0, peak = c->level > 1 ? machine_peak() : 0, flops = 2.0 * MR * NR * k * 500;
    for (int trial = 0; trial < 10 && c->level > 1; trial++) {
        double from = seconds();
        for (int n = 0; n < 500; n++)
            attempt((Output){tile, NR, NULL, 0}, (View){panel + NR * k, k, 1, NULL}, panel, k);
        best = fmax(best, flops / (seconds() - from));
    }
    points(c, "percent of the peak", 100 * best / fmax(1, peak),
           c->level < 2 ? 0 : c->level < 3 ? 20 : 60);
    free_reals(panel), free_reals(tile);
#else
    (void)k;
#endif
}
