/* About: session 7, 40 minutes: packing, scored by the percent filled
 * Contract: Put the segments f->epoch_order[0 .. f->count - 1] into rows of f->T tokens: each has
 *   a `length` of 1 to T tokens; set its `row`, 0, 1, 2, ..., and f->rows, the number of rows. The
 *   lengths in a row may sum to at most T. The fewer rows, the better: less of each batch is
 *   padding. You may sort epoch_order; you need not use `key`. Most segments of the calls have 15
 *   to 45 percent of a row.
 * By hand: count 5 T 10 lengths 6 5 4 5 9
 * Star: each segment has a row, and no row is longer than T
 * Star: 90 percent filled
 * Star: 97 percent filled
 * Hint: Count how much of each row is free. A segment can go into any row with enough free space.
 * Hint: Sort by length, the longest first; put each into the fullest row that still has space for
 *   it (best fit). Where does the rest come from, and what if each row chose its segments instead?
 * Hint: Fill row after row: the longest segment that is left, then, of all segments left, those
 *   that fill it best: the subset-sum problem. possible[s] = can s be the sum of some? For each
 *   segment, for s downwards: if possible[s - length], so is s; remember the segment that made it
 *   possible.
 * Mistake: int T = f->T => for (f->rows = 0; f->rows < f->count; f->rows++)
 *   f->epoch_order[f->rows].row = f->rows; if (f->rows) return; int T = f->T
 * Say: Each segment has a row of its own.
 * Mistake: int T = f->T => int used = f->T; for (int i = f->rows = 0; i < f->count; i++) { int n
 *   = f->epoch_order[i].length; if (used + n > f->T) f->rows++, used = 0; used += n;
 *   f->epoch_order[i].row = f->rows - 1; } if (f->rows) return; int T = f->T
 * Say: A new row is begun whenever the next segment does not fit. Look back at the rows before.
 * Mistake: f->rows++) => f->rows += 2)
 * Say: There are rows that hold nothing.
 */

/* Segments as of examples; what is wrong with their rows, and the percent filled. */
void call(Call *c)
{
    int count = size_of(c, "count", 400, 800), T = size_of(c, "T", 64, 128), wrong = 0, total = 0;
    int *length = INTS("lengths", 'i', count, 1000), *used = allocate(count, sizeof *used);
    DataLoader f = {.T = T, .count = count, .rows = 0};
    f.epoch_order = allocate(count, sizeof *f.epoch_order);
    for (int i = 0; i < count; i++) {
        double u = length[i] / 1000.0;
        if (!c->hand) length[i] = 1 + (int)((T - 1) * (0.15 + 0.3 * u));
        f.epoch_order[i] = (Segment){.from = i, .length = length[i], .row = -1, .index = i};
        total += length[i];
    }
    attempt(&f, c->key);
    char *seen = allocate(count, 1);
    for (int i = 0; i < count; i++) {
        Segment s = f.epoch_order[i];
        int good = s.from < (size_t)count && !seen[s.from]++ && s.row >= 0 && s.row < f.rows &&
                   s.row < count && s.length == length[s.from];
        if (good) used[s.row] += s.length;
        wrong += !good;
    }
    result(c, "segments that are lost or have no row", wrong);
    for (int i = wrong = 0; i < count; i++) wrong += used[i] > T;
    result(c, "rows that are too long", wrong);
    for (int i = wrong = 0; i < f.rows; i++) wrong += i >= count || !used[i];
    result(c, "rows that hold nothing", wrong);
    points(c, "percent filled", f.rows ? 100.0 * total / f.rows / T : 0,
           c->level < 2 || wrong ? 0 : c->level < 3 ? 90 : 97);
    free(f.epoch_order), free(used), free(seen);
}
