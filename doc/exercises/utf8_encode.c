/* About: session 2, 15 minutes: a code point becomes one to four bytes
 * Contract: Write code point c (0 to 0x10FFFF) in UTF-8 at `to`, in 1 to 4 bytes, and return how
 *   many:
 *   below 0x80      0xxxxxxx
 *   below 0x800     110xxxxx 10xxxxxx
 *   below 0x10000   1110xxxx 10xxxxxx 10xxxxxx
 *   from there on   11110xxx 10xxxxxx 10xxxxxx 10xxxxxx
 *   where the x are the bits of c, the highest first. Write no other byte.
 * By hand: count 3 c 65 233 8364
 * Star: all code points
 * Hint: All bytes but the first hold six bits each. Which bits of c does the last byte hold?
 * Hint: Byte i of n bytes, i > 0, is 0x80 | (c >> 6*(n - 1 - i) & 0x3F). The first byte has n
 *   ones, then a zero, then the bits that are left.
 * Hint: n = 1, 2, 3 or 4 by the limits; from i = n - 1 down to 1: the low six bits, then c >>= 6;
 *   to[0] = n == 1 ? c : (the mark 0xC0, 0xE0 or 0xF0) | c; return n.
 * Mistake: c < 0x80 ? => c < 0x100 ?
 * Say: Code points 0x80 to 0xFF are written as one byte. That is Latin-1; in UTF-8 they have two.
 * Mistake: 0x80 | (c & 0x3F) => c & 0x3F
 * Say: The bytes after the first lack their mark: their two highest bits must be 10.
 * Mistake: (c & 0x3F) => (c & 0x7F) ;; c >>= 6 => c >>= 7
 * Say: Seven bits were put into each byte after the first; there is space for six.
 * Mistake: 0xF00u >> length | c => c
 * Say: The first byte lacks its mark: as many ones as there are bytes, then a zero.
 * Mistake: c < 0x80 ? => c <= 0x80 ?
 * Say: One limit is off by one: 0x80 itself needs two bytes.
 * Mistake: c < 0x800 ? => c <= 0x800 ?
 * Say: One limit is off by one: 0x800 itself needs three bytes.
 * Mistake: c < 0x10000 ? => c <= 0x10000 ?
 * Say: One limit is off by one: 0x10000 itself needs four bytes.
 * Mistake: c < 0x10000 ? => c < 0xFFFF ?
 * Say: One limit is off by one: 0xFFFF needs three bytes only.
 */

/* Code points of each length, and the first and the last one of each. */

void call(Call *c)
{
    static const int ends[] = {0, 0x80, 0x800, 0x10000, 0x110000};
    int count = size_of(c, "count", 12, 12), *lengths, *points;
    points = INTS("c", 'i', count, 0x800), lengths = INTS("length", 'r', count, 2);
    for (int i = 0; !c->hand && i < count; i++) {
        int low = ends[i % 4], high = ends[i % 4 + 1] - 1;
        points[i] = i < 4 ? low : i < 8 ? high : low + (int)(points[i] / 2048.0 * (high - low));
    }
    char *to = array(c, "to", 'w', 1, count, 4, 256);
    for (int i = 0; i < count; i++) lengths[i] = (int)attempt(to + 4 * i, (uint32_t)points[i]);
}
