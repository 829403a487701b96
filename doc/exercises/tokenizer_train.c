/* About: session 2, 45 minutes: a vocabulary is learned from text
 * Contract: Learn a vocabulary of `count` tokens. The first 256 are the bytes, the last one is
 *   END_OF_TEXT. Each token between is the pair of neighbouring tokens that occurs most often in
 *   the text, written as one; of equally frequent pairs, the one with the lower left id, then the
 *   lower right id. From then on that pair is this token wherever it occurs, from left to right.
 *   Pairs do not cross the borders of pretokens, nor the END_OF_TEXT between documents, which is no
 *   part of the text. (The text always has enough pairs here.)
 *
 *   t = tokenizer_new(); add_bytes(t) adds the bytes, and t->of_byte[byte] is then the id of each.
 *   tokenizer_add(t, bytes, size) adds the token with the next id. At last set t->end_of_text and
 *   call tokenizer_index(t). pretoken_length(text, size) is the size of the first pretoken of a
 *   text without END_OF_TEXT. Counting all pairs again for every token is good enough.
 * Parts: pretokens_count learner_begin learner_best learner_merge
 *   tokenizer_train
 * By hand: count 259
 * Star: one document
 * Star: END_OF_TEXT between documents
 * Hint: Write the text as an array of ids, with a -1 where a pretoken or a document ends. Then a
 *   pair is two neighbours neither of which is -1.
 * Hint: In each round: count all pairs; take the best; add its bytes as a token; walk through the
 *   array from left to right and replace the pair wherever it stands.
 * Hint: A table pairs[left][right] of counts is small enough: count*count integers. The bytes of
 *   the new token are those of left, then those of right: t->bytes + t->start[id] and token_size(t,
 *   id). Copy them first, as tokenizer_add may move t->bytes.
 * Mistake: n = pretoken_length(text, left); => n = left;
 * Say: You count pairs across the borders of pretokens: a token may not go on into the next word.
 * Mistake: stop = memmem(text, (size_t)(end - text), END_OF_TEXT, END_OF_TEXT_SIZE); => stop = 0;
 * Say: The letters of END_OF_TEXT are counted as text. It only separates documents.
 * Mistake: weight = e->value; => weight = 1;
 * Say: Each different pretoken was counted once. It counts as often as it occurs.
 * Mistake: -l->pair[k].count, l->pair[k].ids => -l->pair[k].count, -l->pair[k].ids
 * Say: Of equally frequent pairs you take the one with the highest ids. It must be the lowest.
 * Mistake: if (before > 0) occurrence_count(l, i - before, 1) => if (0) ;
 * Say: After a merge, the pair of the token to the left and the new token is not counted.
 * Mistake: occurrence_count(l, i, 1); =>
 * Say: After a merge, the pair of the new token and the token to the right is not counted.
 * Mistake: t->end_of_text = t->count; => t->end_of_text = 0;
 * Say: end_of_text is the id of the last token, which separates documents.
 */

/* Text of three letters, spaces and, on level 2, END_OF_TEXT. The new tokens are a row each. */
void call(Call *c)
{
    int count = size_of(c, "count", 260, 268), most = count - 256, size = c->hand ? 24 : 400;
    char *text = array(c, "text", 'i', 1, 1, size, 10);
    for (int i = 0; i < size; i++)
        text[i] = c->hand ? "a banana and a band aaaa"[i] : "aaaaabbc  "[(int)text[i]];
    for (int i = 0; c->level > 1 && i + 20 <= size; i += 20)
        memcpy(text + i, END_OF_TEXT, END_OF_TEXT_SIZE);
    Tokenizer *t = attempt(text, size, count);
    result(c, "count", t ? t->count : 0);
    result(c, "end_of_text", t ? t->end_of_text : 0);
    char *tokens = array(c, "new tokens", 'r', 1, most, 16, 0);
    for (int i = 0; i < most; i++)
        for (int j = 0, n = t && 256 + i < t->count ? token_size(t, 256 + i) : 0; j < 16; j++)
            tokens[16 * i + j] = j < n ? t->bytes[t->start[256 + i] + j] : 0;
}
