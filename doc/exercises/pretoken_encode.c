/* About: session 2, 35 minutes: byte-pair encoding of one word
 * Contract: Byte-pair encoding of one pretoken of `size` bytes. Begin with the token of each
 *   byte, t->of_byte[byte]. Repeatedly find the two neighbours that together spell the token with
 *   the lowest id, the leftmost pair of equals, and put that token in their place. Stop when no two
 *   neighbours spell a token. Use only ids below `limit`. Write the tokens to ids; return how many
 *   they are. Loops over all pairs are good enough.
 *
 *   map_find(&t->ids, text, n)->value - 1 is the id of the token that these n bytes spell, or -1.
 *   token_size(t, id) is the number of bytes of a token. char may be signed: index of_byte with
 *   (unsigned char).
 * Parts: merge_offer pretoken_encode
 * By hand: the word " banana"
 * Star: all tokens of the vocabulary
 * Star: only ids below limit
 * Hint: The tokens so far can stand in ids itself. Neighbours spell bytes that are side by side
 *   in pretoken, so nothing has to be copied to look a pair up.
 * Hint: In each round: for all i, id of the bytes of tokens i and i + 1; remember the lowest and
 *   its i. If there is one: ids[i] = id, move the tokens after i + 1 one to the left, count--.
 * Hint: count = size; ids[i] = of_byte[...]; for (;;) { best = limit; at = 0 bytes; for i in 0 ..
 *   count-2 { n = sizes of both; id = map_find(...); if (0 <= id < best) best = id, where = i; at
 *   += size of token i; } if (best == limit) return count; merge at `where`; }
 * Mistake: size_t count = 0; => size_t count = 0; for (size_t at = 0, n; at < size; at += n) for
 *   (n = size - at; n; n--) { int64_t id = map_find(&t->ids, pretoken + at, n)->value - 1; if (id
 *   >= 0 && id < limit) { ids[count++] = (int32_t)id; break; } } if (count) return count;
 * Say: Your ids are those of always taking the longest token that fits, from left to right. BPE
 *   merges the pair with the lowest id first.
 * Mistake: (HeapEntry){id, (int64_t)i, 0} => (HeapEntry){id, -(int64_t)i,
 *   0} ;; (size_t)best.tie => (size_t)-best.tie
 * Say: Of several equal pairs you merge the last one. It must be the first.
 * Mistake: if (i > 0) merge_offer => if (0) merge_offer
 * Say: After a merge, the new token is not tried with the one to its left.
 * Mistake:         merge_offer(t, m, i); =>
 * Say: After a merge, the new token is not tried with the one to its right.
 * Mistake: id < m->limit => id < t->count
 * Say: The limit is ignored: there are ids in the result that are not below it.
 */

/* Four words, and random letters. Level 2: only ids below a limit. By hand: the first word. */

void call(Call *c)
{
    static const char *const words[] = {" banana", "ooooo", " unhappily", " mississippi"};
    static Tokenizer *t;
    if (!t) t = tokenizer_read("data/mini_tokenizer.bin");
    int rows = c->hand ? 1 : 5, most = c->hand ? 7 : 20;
    int limit = c->level > 1 ? size_of(c, "limit", 300, 900) : t->count;
    unsigned char *pretoken = array(c, "pretoken", 'i', 1, rows, most, 26);
    int *ids = array(c, "ids", 'w', 4, rows, most, 1), *counts = INTS("count", 'r', rows, 1);
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < most; i++) {
            unsigned char *p = &pretoken[r * most + i];
            *p = "etaoinshrdlucmfwypvbgkjqxz"[*p / 2];
            if (r < 4) *p = i < (int)strlen(words[r]) ? words[r][i] : 0;
        }
    for (int r = 0; r < rows; r++) {
        int size = r < 4 ? (int)strlen(words[r]) : most, *to = ids + r * most;
        counts[r] = (int)attempt(t, to, (char *)pretoken + r * most, size, limit);
        for (int i = max_int(counts[r], 0); i < size; i++) to[i] = -1;   /* may be anything */
    }
}
