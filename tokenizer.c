/* tokenizer.c - text into tokens and back: GPT-2's byte-level BPE, in one file.
 *
 *     cc -O3 -o tokenizer tokenizer.c -lm
 *     ./tokenizer encode --tokenizer data/gpt2_tokenizer.bin < text > ids
 *
 * The other programs include this file, so it begins with the little that all of them need.
 *
 *   1. Common ground      errors, memory, files that are whole or not there, options, a map
 *   2. UTF-8 and JSON     code points; a small strict reader, and one writer of strings
 *   3. Unicode            the three classes of code points that the split needs
 *   4. Splitting          GPT-2's pattern, by hand
 *   5. Byte-pair encoding the vocabulary, encode, decode
 *   6. Training           a vocabulary from text
 *   7. Command line
 *
 * [Sennrich et al. 2016] Neural Machine Translation of Rare Words with Subword Units
 * [Radford et al. 2019]  Language Models are Unsupervised Multitask Learners (GPT-2)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ================================================================================================
 * 1. Common ground
 *
 * A program here has one way to fail: `die` with a line that names the file or option, what was
 * expected, what was found and what to do. Nothing is half written: a Writer fills a temporary
 * file beside the real one and renames it when every byte is known to be on the disk; whoever
 * stops before that, by `die` or by a crash, leaves the old file as it was.
 * Rejected: error codes handed upwards. They double the size of code that can only give up.
 */

enum { MODEL_MAGIC = 20240326, TOKENIZER_MAGIC = 20240328, TOKENS_MAGIC = 20240520,
       STATE_MAGIC = 20240527, HEADER = 256 };        /* every header is HEADER int32 [llm.c] */

typedef struct Writer {
    FILE *file;
    char *path, *temporary;
    struct Writer *next;                              /* the writers that are open, newest first */
} Writer;
Writer *open_writers;
int writers_grouped;              /* closed files wait for writers_commit */

void remove_unfinished(void)
{
    for (Writer *w = open_writers; w; w = w->next) unlink(w->temporary);
}

/* Print "error: ..." and end the program: status 1 for what failed, 2 (die_usage) for a command
 * line that cannot be meant. */
__attribute__((format(printf, 2, 3), noreturn))
void die_with(int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fputs("error: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    remove_unfinished();
    exit(status);
}
#define die(...) die_with(1, __VA_ARGS__)
#define die_usage(...) die_with(2, __VA_ARGS__)

/* count elements of size bytes, all zero. */
void *allocate(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p) die("out of memory: %.1f MB more are needed; choose a smaller batch or model",
                (double)count * (double)size / 1e6);
    return p;
}

void *reallocate(void *p, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || !(p = realloc(p, bytes ? bytes : 1)))
        die("out of memory: %.1f MB are needed", (double)count * (double)size / 1e6);
    return p;
}

/* printf into new memory. */
__attribute__((format(printf, 1, 2)))
char *format(const char *form, ...)
{
    va_list args;
    char *text;
    va_start(args, form);
    if (vasprintf(&text, form, args) < 0) die("out of memory");
    va_end(args);
    return text;
}

double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- reading: a file that knows its name, its size and how far it has been read ---- */

typedef struct {
    FILE *file;
    const char *path;
    size_t size, at;
} Reader;

Reader reader_open(const char *path)
{
    Reader r = {fopen(path, "rb"), path, 0, 0};
    struct stat status;
    if (!r.file) die("%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fileno(r.file), &status) != 0) die("%s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode)) die("%s: expected a file, found something else", path);
    r.size = (size_t)status.st_size;
    return r;
}

void reader_get(Reader *r, void *to, size_t bytes)
{
    if (bytes > r->size - r->at || fread(to, 1, bytes, r->file) != bytes)
        die("%s: the file ends after %zu bytes, %zu more were expected: it is truncated",
            r->path, r->size, bytes - (r->size - r->at));
    r->at += bytes;
}

void reader_seek(Reader *r, size_t at)
{
    if (at > r->size || fseeko(r->file, (off_t)at, SEEK_SET) != 0)
        die("%s: cannot go to byte %zu of %zu", r->path, at, r->size);
    r->at = at;
}

void reader_close(Reader *r) { fclose(r->file); }

/* Read a header of 256 int32 and check its first number. `what` is used in messages. */
void reader_header(Reader *r, int32_t header[HEADER], int magic, const char *what)
{
    if (r->size < HEADER * sizeof(int32_t))
        die("%s: expected a %s file, found %zu bytes, too few for its header", r->path, what,
            r->size);
    reader_get(r, header, HEADER * sizeof(int32_t));
    if (header[0] != magic)
        die("%s: expected a %s file (magic number %d), found %d", r->path, what, magic, header[0]);
}

/* The whole file at path ("-": standard input), followed by a zero byte. */
char *read_file(const char *path, size_t *size)
{
    FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (!file) die("%s: cannot be opened: %s", path, strerror(errno));
    size_t capacity = 1 << 16, got;
    char *text = reallocate(NULL, capacity, 1);
    *size = 0;
    while ((got = fread(text + *size, 1, capacity - *size, file)) > 0) {
        *size += got;
        if (*size == capacity) text = reallocate(text, capacity *= 2, 1);
    }
    if (ferror(file)) die("%s: cannot be read: %s", path, strerror(errno));
    if (file != stdin) fclose(file);
    text[*size] = 0;
    return text;
}

/* ---- writing: all or nothing ---- */

Writer *writer_open(const char *path)
{
    Writer *w = allocate(1, sizeof *w);
    w->path = format("%s", path);
    w->temporary = format("%s.partial", path);
    w->file = fopen(w->temporary, "wb");
    if (!w->file) die("%s: cannot be written: %s", path, strerror(errno));
    w->next = open_writers;
    open_writers = w;
    return w;
}

void writer_put(Writer *w, const void *from, size_t bytes)
{
    if (fwrite(from, 1, bytes, w->file) != bytes)
        die("%s: writing failed: %s", w->path, strerror(errno));
}

__attribute__((format(printf, 2, 3)))
void writer_print(Writer *w, const char *form, ...)
{
    va_list args;
    va_start(args, form);
    if (vfprintf(w->file, form, args) < 0) die("%s: writing failed: %s", w->path, strerror(errno));
    va_end(args);
}

/* Give a closed file its real name, replacing what had it, and forget the writer. */
void writer_rename(Writer *w)
{
    if (rename(w->temporary, w->path) != 0)
        die("%s: cannot be replaced: %s", w->path, strerror(errno));
    Writer **link = &open_writers;
    while (*link != w) link = &(*link)->next;
    *link = w->next;
    free(w->path);
    free(w->temporary);
    free(w);
}

/* Everything to the disk, then under its real name in one step (in a group: when it is committed). */
void writer_close(Writer *w)
{
    if (ferror(w->file) || fflush(w->file) || fsync(fileno(w->file)) || fclose(w->file))
        die("%s: writing failed: %s", w->path, strerror(errno));
    w->file = NULL;
    if (!writers_grouped) writer_rename(w);
}

/* ---- a group of files that are of use only together, as training and validation data ----
 *
 * After writers_begin, closed files keep their temporary names. writers_commit renames them all at
 * once. The file that was opened last must be one without which nobody uses the others: its old
 * version is removed first and its new one is renamed last. So whoever is interrupted in between
 * leaves a group that is visibly incomplete, and never a mixture of old and new files.
 */
void writers_begin(void) { writers_grouped = 1; }

/* Dies, with all old files in place, if one of them cannot be replaced. */
void writers_commit(void)
{
    struct stat status;
    Writer *last = open_writers;                      /* the list begins with the newest */
    for (Writer *w = last; w; w = w->next) {
        assert(!w->file);
        if (stat(w->path, &status) == 0 && !S_ISREG(status.st_mode))
            die("%s: cannot be replaced: it is not a file", w->path);
    }
    if (unlink(last->path) != 0 && errno != ENOENT)
        die("%s: cannot be replaced: %s", last->path, strerror(errno));
    while (last->next) writer_rename(last->next);
    writer_rename(last);
    writers_grouped = 0;
}

/* Make a folder, and those that it is in, unless they are there. */
void make_folder(const char *path)
{
    struct stat status;
    char *above = format("%s", path), *slash = above;
    while ((slash = strchr(slash + 1, '/'))) {           /* a, a/b, ...; the last call checks */
        *slash = 0;
        mkdir(above, 0777);
        *slash = '/';
    }
    free(above);
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        die("%s: the folder cannot be made: %s", path, strerror(errno));
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode)) die("%s: is not a folder", path);
}

/* ---- options: one table parses, checks, documents and echoes them ---- */

typedef struct {
    const char *name;            /* as typed, without the two dashes */
    char kind;                   /* s text, i whole number, f number, ! switch without a value */
    void *value;                 /* const char **, int *, double *, int * */
    const char *initial;         /* as it would be typed; NULL for none */
    double min, max;             /* what a number may be */
    const char *commands;        /* letters of the commands that take it */
    const char *help;
} Option;

void option_set(const Option *o, const char *text)
{
    char *end = NULL;
    if (o->kind == 's') { *(const char **)o->value = text; return; }
    if (o->kind == '!') { *(int *)o->value = text != NULL; return; }
    errno = 0;
    double number = strtod(text, &end);
    int bad = end == text || *end || errno == ERANGE || isnan(number);
    if (bad || (o->kind == 'i' && number != floor(number)))
        die_usage("--%s: expected a %s, found '%s'", o->name,
                  o->kind == 'i' ? "whole number" : "number", text);
    if (number < o->min || number > o->max)
        die_usage("--%s: expected a number from %g to %g, found '%s'", o->name, o->min, o->max,
                  text);
    if (o->kind == 'i') *(int *)o->value = (int)number;
    else *(double *)o->value = number;
}

void options_help(const Option *options, char command)
{
    for (const Option *o = options; o->name; o++) {
        if (!strchr(o->commands, command)) continue;
        printf("  --%-16s %s", o->name, o->help);
        if (o->initial && o->kind != '!') printf(" (%s)", o->initial);
        putchar('\n');
    }
}

/* Set every option that `command` takes, from its default, then from the command line.
 * Other words are moved to the front of argv; returns how many there are. */
int options_parse(const Option *options, char command, const char *usage, int argc, char **argv)
{
    int words = 0;
    for (const Option *o = options; o->name; o++)
        if (o->initial || o->kind == 's' || o->kind == '!') option_set(o, o->initial);
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) { argv[words++] = argv[i]; continue; }
        char *name = argv[i] + 2;
        size_t length = strcspn(name, "=");
        if (!strcmp(name, "help")) {
            printf("%s\n", usage);
            options_help(options, command);
            exit(0);
        }
        const Option *o = options;
        while (o->name && (strlen(o->name) != length || strncmp(o->name, name, length))) o++;
        if (!o->name) die_usage("unknown option '%s'; --help lists them all", argv[i]);
        if (!strchr(o->commands, command))
            die_usage("--%s does not belong to this command; --help lists what does", o->name);
        if (o->kind == '!' && name[length]) die_usage("--%s takes no value", o->name);
        if (o->kind == '!') option_set(o, "1");
        else if (name[length]) option_set(o, name + length + 1);
        else if (i + 1 < argc) option_set(o, argv[++i]);
        else die_usage("--%s: a value is missing", o->name);
    }
    return words;
}

/* ---- arrays that grow, lines, white space ---- */

/* Make room in an array of `count` elements for one more: its capacity doubles at powers of two. */
void *grow(void *array, size_t count, size_t size)
{
    return count & (count - 1) ? array : reallocate(array, 2 * count + 1, size);
}

/* Walks over the lines of a text: Lines l = {.at = text, .end = text + size}; while (next_line(&l))
 * sets text and size, without the \n or \r\n that ends the line, and number, from 1. */
typedef struct { const char *at, *end, *text; size_t size; int number; } Lines;

int next_line(Lines *l)
{
    if (l->at >= l->end) return 0;
    const char *stop = memchr(l->at, '\n', (size_t)(l->end - l->at));
    if (!stop) stop = l->end;
    l->text = l->at, l->size = (size_t)(stop - l->at), l->at = stop + 1, l->number++;
    if (l->size && l->text[l->size - 1] == '\r') l->size--;
    return 1;
}

/* Leave out the white space at both ends of a text. */
void trim(const char **text, size_t *size)
{
    while (*size && isspace((unsigned char)(*text)[*size - 1])) --*size;
    while (*size && isspace((unsigned char)**text)) ++*text, --*size;
}

/* ---- bytes that grow; a zero byte follows them ---- */

typedef struct { char *bytes; size_t size, capacity; } Text;

void text_add(Text *t, const char *bytes, size_t size)
{
    if (t->size + size >= t->capacity)
        t->bytes = reallocate(t->bytes, t->capacity = 2 * (t->size + size) + 64, 1);
    if (size) memcpy(t->bytes + t->size, bytes, size);
    t->bytes[t->size += size] = 0;
}

__attribute__((format(printf, 2, 3)))
void text_print(Text *t, const char *form, ...)
{
    va_list args;
    char *more;
    va_start(args, form);
    int size = vasprintf(&more, form, args);
    va_end(args);
    if (size < 0) die("out of memory");
    text_add(t, more, (size_t)size);
    free(more);
}

/* ---- a map from strings of bytes, which stay where they are, to numbers ---- */

typedef struct { const char *key; size_t size; int64_t value; } MapEntry;
typedef struct { MapEntry *entry; size_t capacity, count; } Map;   /* capacity: a power of 2 */

/* Eight bytes at a time: a multiplication carries every bit upwards, a shift brings them down. */
static inline size_t hash_bytes(const char *bytes, size_t size)
{
    const uint64_t odd = 0x9E3779B97F4A7C15;          /* 2^64 / golden ratio [Knuth, vol. 3] */
    uint64_t hash = size, word = 0;
    for (; size >= 8; bytes += 8, size -= 8) {
        memcpy(&word, bytes, 8);
        hash = (hash ^ word) * odd;
        hash ^= hash >> 32;
    }
    for (word = 0; size; size--) word = word << 8 | (unsigned char)*bytes++;
    hash = (hash ^ word) * odd;
    return (size_t)(hash ^ hash >> 32);
}

/* The entry of a key, or the empty one (key NULL) where it would be. */
MapEntry *map_find(const Map *m, const char *key, size_t size)
{
    for (size_t i = hash_bytes(key, size);; i++) {
        MapEntry *e = &m->entry[i & (m->capacity - 1)];
        if (!e->key || (e->size == size && !memcmp(e->key, key, size))) return e;
    }
}

/* The entry of a key, with value 0 if it is new. It may move when another key is entered. */
MapEntry *map_enter(Map *m, const char *key, size_t size)
{
    if (2 * m->count >= m->capacity) {                /* never more than half full */
        Map larger = {NULL, m->capacity ? 2 * m->capacity : 16, m->count};
        larger.entry = allocate(larger.capacity, sizeof *larger.entry);
        for (MapEntry *e = m->entry; e < m->entry + m->capacity; e++)
            if (e->key) *map_find(&larger, e->key, e->size) = *e;
        free(m->entry);
        *m = larger;
    }
    MapEntry *e = map_find(m, key, size);
    if (!e->key) *e = (MapEntry){key, size, 0}, m->count++;
    return e;
}

/* ================================================================================================
 * 2. UTF-8 and JSON
 *
 * UTF-8 writes a code point in 1 to 4 bytes: the first byte begins with as many 1 bits as there
 * are bytes (none for a single one), the others begin with 10, the remaining bits are the number.
 *
 * JSON is read into a tree by recursive descent: one function for each kind of value takes what it
 * knows from the front of the text. The reader is strict [RFC 8259] and says where and why it
 * stopped. Rejected: to accept what is almost right. It would be learned as it was misread.
 */

/* The length of the code point at text, and its number; 0 where the bytes are not UTF-8: cut
 * short, longer than needed, half of a surrogate pair, or past U+10FFFF. */
static inline size_t utf8_decode(const char *text, size_t size, uint32_t *code_point)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *s = (const unsigned char *)text;
    if (size == 0) return 0;
    *code_point = s[0];
    if (s[0] < 0x80) return 1;
    size_t length = s[0] < 0xC0 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF8 ? 4 : 0;
    if (length == 0 || length > size) return 0;
    uint32_t c = s[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    *code_point = c;
    return c < least[length] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000) ? 0 : length;
}

size_t utf8_length(const char *text, size_t size)
{
    uint32_t code_point;
    return utf8_decode(text, size, &code_point);
}

/* Write code point c at `to`; returns the number of bytes. */
size_t utf8_encode(char *to, uint32_t c)
{
    size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, c >>= 6) to[i] = (char)(0x80 | (c & 0x3F));
    to[0] = (char)(length == 1 ? c : 0xF00u >> length | c);
    return length;
}

typedef struct Json {
    char type;                   /* '{' '[' '"' '0' (a number) 't' 'f' 'n' */
    int line, column;            /* where it begins, from 1; a column is a byte */
    char *key;                   /* decoded, then a 0: when it is a member of an object */
    size_t key_size;
    char *text;                  /* '"': decoded, then a 0; '0': as written */
    size_t size;
    double number;               /* '0' */
    size_t count;                /* members */
    struct Json *child, *next;   /* first member; next sibling */
} Json;

typedef struct {
    const char *at, *end, *line_start;
    int line, depth;
    char *error;
    size_t error_size;
} JsonReader;

/* The next byte; 0, which nothing in JSON begins with, at the end. */
int json_peek(const JsonReader *r) { return r->at < r->end ? (unsigned char)*r->at : 0; }

/* Take the next byte if it is c. */
int json_take(JsonReader *r, int c) { return json_peek(r) == c ? r->at++, 1 : 0; }

/* Say what was expected here. Always 0, with which every function below says that it failed. */
int json_fail(JsonReader *r, const char *expected)
{
    char found[16] = "the end";
    int c = json_peek(r);
    if (r->at < r->end) snprintf(found, sizeof found, c > 32 && c < 127 ? "'%c'" : "byte %d", c);
    snprintf(r->error, r->error_size, "line %d, column %d: expected %s, found %s", r->line,
             (int)(r->at - r->line_start) + 1, expected, found);
    return 0;
}

void json_space(JsonReader *r)
{
    for (int c; (c = json_peek(r)) == ' ' || c == '\t' || c == '\n' || c == '\r';) {
        r->at++;
        if (c == '\n') r->line++, r->line_start = r->at;
    }
}

/* What follows the backslash of \uXXXX. */
int json_unit(JsonReader *r, uint32_t *c)
{
    if (!json_take(r, 'u')) return json_fail(r, "one of \" \\ / b f n r t u after a backslash");
    *c = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        int digit = json_peek(r);
        if (!isxdigit(digit)) return json_fail(r, "a hexadecimal digit");
        *c = *c << 4 | (uint32_t)(digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
    }
    return 1;
}

/* What follows any backslash. Past U+FFFF it takes two units, first a high, then a low one. */
int json_escape(JsonReader *r, char **to)
{
    static const char name[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    const char *simple = json_peek(r) ? strchr(name, json_peek(r)) : NULL;
    uint32_t c = 0, low = 0;
    if (simple) {
        *(*to)++ = meaning[simple - name];
        r->at++;
        return 1;
    }
    if (!json_unit(r, &c)) return 0;
    if (c >= 0xDC00 && c < 0xE000) return json_fail(r, "a high surrogate before a low one");
    if (c >= 0xD800 && c < 0xDC00) {
        if (!json_take(r, '\\')) return json_fail(r, "a low surrogate after a high one");
        if (!json_unit(r, &low)) return 0;
        if (low < 0xDC00 || low >= 0xE000)
            return json_fail(r, "a low surrogate, not another character, before this");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    *to += utf8_encode(*to, c);
    return 1;
}

/* A string, from its opening quote on. Nothing is written shorter than it is, so the distance to
 * the closing quote is room enough. */
int json_string(JsonReader *r, char **text, size_t *size)
{
    size_t left = (size_t)(r->end - ++r->at), length = 0;
    while (length < left && r->at[length] != '"') length += r->at[length] == '\\' ? 2 : 1;
    char *to = *text = allocate(length + 1, 1);
    while (!json_take(r, '"')) {
        if (r->at == r->end) return json_fail(r, "a closing quote");
        length = utf8_length(r->at, (size_t)(r->end - r->at));
        if (length == 0) return json_fail(r, "valid UTF-8");
        if (json_peek(r) < 0x20) return json_fail(r, "an escape for a control character");
        if (json_take(r, '\\')) {
            if (!json_escape(r, &to)) return 0;
            continue;
        }
        memcpy(to, r->at, length);
        to += length, r->at += length;
    }
    *size = (size_t)(to - *text);
    return 1;
}

int json_digits(JsonReader *r)
{
    if (!isdigit(json_peek(r))) return json_fail(r, "a digit");
    while (isdigit(json_peek(r))) r->at++;
    return 1;
}

int json_number(JsonReader *r, Json *value)
{
    const char *begin = r->at;
    json_take(r, '-');
    if (!json_take(r, '0') && !json_digits(r)) return 0;
    if (json_take(r, '.') && !json_digits(r)) return 0;
    if (json_take(r, 'e') || json_take(r, 'E')) {
        if (!json_take(r, '-')) json_take(r, '+');
        if (!json_digits(r)) return 0;
    }
    value->size = (size_t)(r->at - begin);
    value->text = memcpy(allocate(value->size + 1, 1), begin, value->size);
    value->number = strtod(value->text, NULL);
    return isfinite(value->number) || json_fail(r, "a number below 1.8e308 before this");
}

int json_value(JsonReader *r, Json *value);

/* A member of an array, or with `keys`, those already seen, of an object. */
int json_member(JsonReader *r, Json *member, Map *keys)
{
    json_space(r);
    if (keys) {
        const char *begin = r->at;
        if (json_peek(r) != '"') return json_fail(r, "a key in double quotes");
        if (!json_string(r, &member->key, &member->key_size)) return 0;
        if (map_enter(keys, member->key, member->key_size)->value++) {
            r->at = begin;
            return json_fail(r, "each key once, this one is there already");
        }
        json_space(r);
        if (!json_take(r, ':')) return json_fail(r, "':'");
    }
    return json_value(r, member);
}

/* An array or an object, from its opening bracket on. */
int json_members(JsonReader *r, Json *value)
{
    int object = value->type == '{', close = object ? '}' : ']', good = 1;
    Json **link = &value->child;
    Map keys = {0};
    if (r->depth++ == 64) return json_fail(r, "at most 64 brackets inside each other");
    r->at++;
    json_space(r);
    for (int more = json_peek(r) != close; more && good; more = good && json_take(r, ',')) {
        *link = allocate(1, sizeof **link);
        good = json_member(r, *link, object ? &keys : NULL);
        link = &(*link)->next;
        value->count++;
        if (good) json_space(r);
    }
    if (good) good = json_take(r, close) || json_fail(r, object ? "',' or '}'" : "',' or ']'");
    free(keys.entry);
    r->depth--;
    return good;
}

int json_value(JsonReader *r, Json *value)
{
    static const char *const words[] = {"true", "false", "null"};
    json_space(r);
    int c = json_peek(r);
    value->type = (char)(c == '-' || isdigit(c) ? '0' : c);
    value->line = r->line;
    value->column = (int)(r->at - r->line_start) + 1;
    if (c == '{' || c == '[') return json_members(r, value);
    if (c == '"') return json_string(r, &value->text, &value->size);
    if (value->type == '0') return json_number(r, value);
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(words[i]);
        if ((size_t)(r->end - r->at) < length || memcmp(r->at, words[i], length)) continue;
        r->at += length;
        return 1;
    }
    return json_fail(r, "a value");
}

void json_free(Json *json)
{
    for (Json *next; json; json = next) {
        next = json->next;
        json_free(json->child);
        free(json->key);
        free(json->text);
        free(json);
    }
}

/* The value that the whole text is; or NULL, and in `error` "line L, column C: expected ...". */
Json *json_parse(const char *text, size_t size, char *error, size_t error_size)
{
    JsonReader r = {text, text + size, text, 1, 0, error, error_size};
    Json *json = allocate(1, sizeof *json);
    int good = json_value(&r, json);
    if (good) json_space(&r);
    if (good && (r.at == r.end || json_fail(&r, "nothing more"))) return json;
    json_free(json);
    return NULL;
}

/* The member of that name; NULL if there is none or this is no object. */
Json *json_get(const Json *object, const char *key)
{
    Json *m = object && object->type == '{' ? object->child : NULL;
    while (m && (m->key_size != strlen(key) || memcmp(m->key, key, m->key_size))) m = m->next;
    return m;
}

/* Bytes in quotes; one that is not UTF-8 becomes U+FFFD, the replacement character. */
void json_write_string(FILE *file, const char *text, size_t size)
{
    fputc('"', file);
    for (size_t i = 0, length; i < size; i += length ? length : 1) {
        unsigned char c = (unsigned char)text[i];
        length = utf8_length(text + i, size - i);
        if (length == 0) fputs("\xEF\xBF\xBD", file);
        else if (c == '"' || c == '\\') fprintf(file, "\\%c", c);
        else if (c == '\n') fputs("\\n", file);
        else if (c < 0x20) fprintf(file, "\\u%04x", c);
        else fwrite(text + i, 1, length, file);
    }
    fputc('"', file);
}

/* ================================================================================================
 * 3. Unicode
 *
 * The split asks of a code point only whether it is a letter (general category L), a number (N),
 * white space or something else. Letters and numbers are some 800 ranges, here those of Unicode
 * 16.0, as lengths of runs: not a letter, letters, not, ... A length is in base 26, its last digit
 * a small letter and those before it capitals: c is 2, Bc is 28. They are unpacked into a table.
 * Rejected: the ranges as numbers, 200 lines that nobody would read either.
 */

const char letter_runs[] =
    "CnBagBaBvbkbebfxbBfbRqemofhbbbEzfbccebbgbbdbbbubDfbFjiGkbBmcbgBpCtBbeeBtBrBjcbDvbbpchckdcbqbbB"
    "eBdDllbyBhjcebfwebjbdbxzhlfybgrBqCgCcdbsbhkpqeicccwbhbbdedbqbncbdockbigeccwbhbcbcbcBfebbtdqjbd"
    "bwbhbcbfdbsbpcxblicccwbhbcbfdbBecbdpbrbbgddbedcbbbcdcdddmwbCaibdbxbqdbBadcbccBebeibdbxbkbfdbBf"
    "cbcpcrjbdbBpcbqbfdidygfsdybjbbchCgBwbcmhCgcbbbfbybbbkbcjbcfbbveBgbClibBkBbfElBrubqgeedbdchdenm"
    "brBmbbfbcBrbMvbechbbbecBpbecBhbechbbbecpbCfbecCpBlqqDicgdXwcrbBafCxgihsntosonbdpCaBjbebCpDlhfc"
    "BibbfCskBfBxBecflBseBaCcxjCbDebDpBvriCcBenckBsBaBkBpdkBkclfBrcdBpebgbcdbfHkCmKscgcBmcgcibbbbbb"
    "bBfcCbbhbbddbhdecgenfdbhEmbnbqnDxbebckbbdfgbbbbbbeblceffebCacDZfIvgedcmBmbbfbcCehbqxjhbhbhbhbh"
    "bhbhbhDcbSbcBqffceDigdbDmbefBrbDqrBgBwqTsJToCmBGUfCpBucKjdqkcuBvqBfcCsBxjcDzcCpccbbbivqbdbebxB"
    "dCaoByCkgdbbclBckxzBdhBvBcbqfbkkfbBpxdbiuxdbdBybbdccfcbbbydclhdmgcgcgjhbhbBrbogElBdQNsmxeBxMNc"
    "OccEcBmhmffbbkbnbfbbbcbcbEeBhNzsCmcCcBomEmfbFfBkBagBalDldgcgcgcdBjmbBabtbcbpcoBiEtOzBddBxBvBgn"
    "ubigBmkBecBkeiBwGcsBkeBkeBoiCamlbpbhbcblbpbhbcdCamLzjwkiygbBqbjCrgcbbBsbcdbcxkxjBfCntbckwkBaCs"
    "CegcCmbpebdbBdBqBddBdBjibBcBbCckwktnsEgCvCdBznBznBkBmBcjxJqBqgcqdChBdkbiwBqsBuvBbxmCbCfccbnBtB"
    "gzBaBkBdbcbiBjdbmBwoevbbbBjsbztcClhbbbebpbkhBvBmicccwbhbcbfdbsbmfBekbbcbbBmbbzbbbBsCbseudBeBwu"
    "cbbHcBvBpeBkBwubChBrnbCtBbBlhHdBsEmCmBficbcibcbypbbbDqicBnqbbbBcbkBohbvblButbsCvHrBhBfjbBlrbBx"
    "BeEihbcbBmvbzgbcbBgobMptpbbnbBiEubDbBJmIwHoDXkDtpBPgrgzFXrfWlKDdBeCPuVxhBfrDbrBesBwqeBfvftQqBt"
    "IdCmEyCxfbConCmcbbBcJCaiBVqBpkNFrebhbcbLfpbBddcboeiPgDKuEdfndjhkIWkDhbCtbccbcccebmbbbhbCnbecib"
    "hbBcbebfbbdhbNcczbzbBfbzbBfbzbBfbzbBfbzbiCSyBfggKbCkFqBtkhqbMjBesBsSqBcIuBecbTbhbebcbpbHpChCqh"
    "bBUiebBbbcbbcbbkbebbbbgbebbbbbbdbcbbcbbbbbbbbbbcbbcebhbebebbbkbrfdbfbrGOaCLFcBgGDugIocINqoLBlp"
    "XyDQwUwCFyHHzfGFg";
const char number_runs[] =
    "BwkEqcfbcdCDlkFekHqkPwkEokegEekEokEokcgEgnElkihDzkEahhtEfkDskEokCsuKikCskBBruBHxdJfkgkwkLokEyl"
    "GjkgkHakDikFekgkBOgbdggkHqBzcfBByCiDawYgBeCBhbBDxbzjodNfeFikBeibpBgkBnpBRSakHgkMigFykBmkHqkwkD"
    "ikPqkBFMckSzBtmCfrcNdBbBkeBdbibFefHukBKgizhBnjCxfwgGeccqcBuCmjCacBedCxfEaiyiBphMsgBwkgkKsBfGck"
    "BqeEihFeBeEykCikFokhuJrkNekEokOkkDykguCymQetDpkZmkDiBdItkCskQgkDyvBPbEhXAfkDMckDikFekbhUgkKcxB"
    "JSzkCEwumuEezBQrByDNckQgkTikJnkBBojEykBElChbdbeCyBtbpBLanEDfk";

enum { OTHER, LETTER, NUMBER, SPACE };
unsigned char unicode_class[0x110000];

void unicode_unpack(const char *runs, int class)
{
    size_t at = 0, length = 0;
    for (int inside = 0; *runs; runs++) {
        length = length * 26 + (size_t)(*runs >= 'a' ? *runs - 'a' : *runs - 'A');
        if (*runs < 'a') continue;
        if (inside) memset(unicode_class + at, class, length);
        at += length, length = 0, inside = !inside;
    }
}

void unicode_begin(void)
{
    static const int spaces[] = {0x20, 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000};
    unicode_unpack(letter_runs, LETTER);
    unicode_unpack(number_runs, NUMBER);
    memset(unicode_class + 0x0009, SPACE, 5);
    memset(unicode_class + 0x2000, SPACE, 11);
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) unicode_class[spaces[i]] = SPACE;
}

/* ================================================================================================
 * 4. Splitting
 *
 * Text is first cut into pieces, and no token crosses a cut. At each place the first of these
 * that matches is the piece [Radford et al. 2019]:
 *
 *     's|'t|'re|'ve|'m|'ll|'d      the ends of English contractions
 *     | ?\p{L}+| ?\p{N}+           letters, or numbers, with one blank before them if it is there
 *     | ?[^\s\p{L}\p{N}]+          other characters, likewise
 *     |\s+(?!\S)                   white space, but for the last before something else
 *     |\s+                         white space
 *
 * A byte that is not UTF-8 counts as another character, so that any file can be encoded.
 * Rejected: a matcher of patterns, ten times as long and as slow.
 */

/* The class of the code point at text, and its length in bytes. Most are ASCII. */
static inline int class_at(const char *text, size_t size, size_t *length)
{
    uint32_t c = (unsigned char)*text;
    *length = 1;
    if (c < 0x80) return unicode_class[c];
    *length = utf8_decode(text, size, &c);
    if (*length) return unicode_class[c];
    *length = 1;
    return OTHER;
}

/* The length of the first piece of a text that is not empty. */
static inline size_t piece_length(const char *text, size_t size)
{
    size_t end, length, last = 0;
    if (*text == '\'' && size > 1) {
        char a = text[1], b = size > 2 ? text[2] : 0;
        if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
        if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    }
    int class = class_at(text, size, &end);
    if (*text == ' ' && size > 1) {
        int after = class_at(text + 1, size - 1, &length);
        if (after != SPACE) class = after, end += length;
    }
    for (; end < size && class_at(text + end, size - end, &length) == class; end += length)
        last = end;
    return class == SPACE && end < size && last > 0 ? last : end;
}

/* ================================================================================================
 * 5. Byte-pair encoding
 *
 * A vocabulary has the 256 bytes, so that nothing is unknown, then merges of two earlier tokens,
 * the more useful the earlier. To encode a piece, start from its bytes; while there are neighbours
 * that together spell a token, join those that spell the one with the lowest id, the leftmost
 * first. For this the spellings are enough: a list of merges would say nothing new.
 *
 * A heap of the possible merges makes the time n log n: a piece may be a megabyte of one letter.
 * Few pieces come that far, since text repeats itself: the latest are kept with their ids.
 */

/* ---- a heap: the lowest rank comes out first, of equals the lowest tie ---- */

typedef struct { int64_t rank, tie, item; } HeapEntry;
typedef struct { HeapEntry *entry; size_t capacity, count; } Heap;

static inline int heap_before(const HeapEntry *a, const HeapEntry *b)
{
    return a->rank < b->rank || (a->rank == b->rank && a->tie < b->tie);
}

void heap_push(Heap *h, HeapEntry new)
{
    if (h->count == h->capacity) {
        h->capacity = 2 * h->capacity + 32;
        h->entry = reallocate(h->entry, h->capacity, sizeof *h->entry);
    }
    size_t i = h->count++;
    for (size_t up; i > 0 && heap_before(&new, &h->entry[up = (i - 1) / 2]); i = up)
        h->entry[i] = h->entry[up];
    h->entry[i] = new;
}

/* Take the first out; 0 if the heap is empty. */
int heap_pop(Heap *h, HeapEntry *first)
{
    if (h->count == 0) return 0;
    HeapEntry last = h->entry[--h->count];
    size_t i = 0, child;
    *first = h->entry[0];
    for (; (child = 2 * i + 1) < h->count; i = child) {
        if (child + 1 < h->count && heap_before(&h->entry[child + 1], &h->entry[child])) child++;
        if (!heap_before(&h->entry[child], &last)) break;
        h->entry[i] = h->entry[child];
    }
    h->entry[i] = last;
    return 1;
}

/* ---- the vocabulary ---- */

#define END_OF_TEXT "<|endoftext|>"
enum { END_OF_TEXT_SIZE = sizeof END_OF_TEXT - 1, TOKEN_BYTES = 255,
       CACHE_PIECES = 1 << 16, CACHE_BYTES = 22, CACHE_IDS = 10 };

typedef struct {                 /* 64 bytes, one line of the processor's cache */
    unsigned char size, count;
    char bytes[CACHE_BYTES];
    int32_t ids[CACHE_IDS];
} CachedPiece;

typedef struct Tokenizer {
    int count, end_of_text;
    size_t *start;               /* token i is spelled by bytes start[i] to start[i+1] */
    char *bytes;
    Map ids;                     /* id + 1 by spelling */
    int32_t of_byte[256];        /* id of the token that is one byte */
    CachedPiece *cache;
} Tokenizer;

static inline size_t token_size(const Tokenizer *t, int id)
{
    return t->start[id + 1] - t->start[id];
}

/* The bytes that a token stands for. */
const char *tokenizer_bytes(const Tokenizer *t, int id, int *size)
{
    if (id < 0 || id >= t->count)
        die("token %d is outside the vocabulary of %d tokens", id, t->count);
    *size = (int)token_size(t, id);
    return t->bytes + t->start[id];
}

/* A vocabulary is made by tokenizer_new, tokenizer_add for ids 0, 1, ..., then tokenizer_index. */
Tokenizer *tokenizer_new(void)
{
    Tokenizer *t = allocate(1, sizeof *t);
    t->start = allocate(1, sizeof *t->start);
    t->cache = allocate(CACHE_PIECES, sizeof *t->cache);
    if (!unicode_class['a']) unicode_begin();
    return t;
}

void tokenizer_add(Tokenizer *t, const char *bytes, size_t size)
{
    size_t n = (size_t)t->count, used = t->start[n];
    assert(size > 0 && size <= TOKEN_BYTES);
    if ((n & (n - 1)) == 0) {                          /* room doubles at powers of two */
        t->start = reallocate(t->start, 2 * n + 2, sizeof *t->start);
        t->bytes = reallocate(t->bytes, 2 * n + 2, TOKEN_BYTES);
    }
    memcpy(t->bytes + used, bytes, size);
    t->start[++t->count] = used + size;
}

/* Make the vocabulary ready to encode; 0 if a byte has no token of its own. The end of text is
 * left out, no text can spell it; of two tokens spelled alike, the second is never used. */
int tokenizer_index(Tokenizer *t)
{
    for (int id = 0; id < t->count; id++) {
        if (id == t->end_of_text) continue;
        MapEntry *e = map_enter(&t->ids, t->bytes + t->start[id], token_size(t, id));
        if (e->value == 0) e->value = id + 1;
    }
    for (int b = 0; b < 256; b++) {
        t->of_byte[b] = (int32_t)map_find(&t->ids, &(char){(char)b}, 1)->value - 1;
        if (t->of_byte[b] < 0) return 0;
    }
    return 1;
}

void tokenizer_free(Tokenizer *t)
{
    free(t->start);
    free(t->bytes);
    free(t->ids.entry);
    free(t->cache);
    free(t);
}

/* llm.c's file: header {magic, version, count, end of text}, then for each token one byte with its
 * length and its bytes. Version 1 did not say which one ends a text: it was GPT-2's. */
Tokenizer *tokenizer_read(const char *path)
{
    Reader r = reader_open(path);
    Tokenizer *t = tokenizer_new();
    int32_t header[HEADER];
    reader_header(&r, header, TOKENIZER_MAGIC, "tokenizer");
    int version = header[1], count = header[2];
    t->end_of_text = version == 1 ? 50256 : header[3];
    if (version != 1 && version != 2) die("%s: expected version 1 or 2, found %d", path, version);
    if (count < 257 || count > 1 << 24)
        die("%s: expected 257 to %d tokens, found %d", path, 1 << 24, count);
    if (t->end_of_text < 0 || t->end_of_text >= count)
        die("%s: expected the end of text among the %d tokens, found %d", path, count,
            t->end_of_text);
    for (int id = 0; id < count; id++) {
        unsigned char size;
        char bytes[TOKEN_BYTES];
        reader_get(&r, &size, 1);
        if (size == 0) die("%s: expected bytes for token %d, found none", path, id);
        reader_get(&r, bytes, size);
        tokenizer_add(t, bytes, size);
    }
    if (r.at != r.size)
        die("%s: expected %zu bytes for %d tokens, found %zu", path, r.at, count, r.size);
    reader_close(&r);
    if (!tokenizer_index(t)) die("%s: expected a token for each of the 256 bytes", path);
    return t;
}

void tokenizer_write(const Tokenizer *t, const char *path)
{
    Writer *w = writer_open(path);
    int32_t header[HEADER] = {TOKENIZER_MAGIC, 2, t->count, t->end_of_text};
    writer_put(w, header, sizeof header);
    for (int id = 0; id < t->count; id++) {
        size_t size = token_size(t, id);
        writer_put(w, &(unsigned char){(unsigned char)size}, 1);
        writer_put(w, t->bytes + t->start[id], size);
    }
    writer_close(w);
}

/* ---- encode ---- */

/* A piece on its way from bytes to tokens. A token that begins at byte i and ends before byte j
 * has its id at first[i] and last[j]; first is -1 elsewhere. So a token finds its neighbours by
 * their lengths, and a merge changes three numbers. */
typedef struct {
    const Tokenizer *t;
    const char *piece;
    size_t size;
    int32_t *first, *last, limit;                      /* only ids below limit are made */
    Heap heap;
} Merging;

/* If the token at byte i and the next spell a token, enter it as a merge that could be made. */
static inline void merge_offer(Merging *m, size_t i)
{
    size_t middle = i + token_size(m->t, m->first[i]);
    if (middle == m->size) return;
    size_t end = middle + token_size(m->t, m->first[middle]);
    int64_t id = map_find(&m->t->ids, m->piece + i, end - i)->value - 1;
    if (id >= 0 && id < m->limit) heap_push(&m->heap, (HeapEntry){id, (int64_t)i, 0});
}

/* The tokens of a piece, of those below limit, to ids (room: one for each byte); their number. */
size_t piece_encode(const Tokenizer *t, int32_t *ids, const char *piece, size_t size, int limit)
{
    int32_t *memory = reallocate(NULL, 2 * (size + 1), sizeof *memory);
    Merging m = {t, piece, size, memory, memory + size + 1, limit, {0}};
    HeapEntry best;
    size_t count = 0;
    for (size_t i = 0; i < size; i++)
        m.first[i] = m.last[i + 1] = t->of_byte[(unsigned char)piece[i]];
    for (size_t i = 0; i < size; i++) merge_offer(&m, i);
    while (heap_pop(&m.heap, &best)) {
        size_t i = (size_t)best.tie, end = i + token_size(t, (int)best.rank);
        if (m.first[i] < 0) continue;                  /* another merge took one of the two */
        size_t middle = i + token_size(t, m.first[i]);
        if (middle >= end || middle + token_size(t, m.first[middle]) != end) continue;
        m.first[middle] = -1;
        m.first[i] = m.last[end] = (int32_t)best.rank;
        merge_offer(&m, i);
        if (i > 0) merge_offer(&m, i - token_size(t, m.last[i]));
    }
    for (size_t i = 0; i < size; i += token_size(t, m.first[i])) ids[count++] = m.first[i];
    free(memory);
    free(m.heap.entry);
    return count;
}

/* The tokens of a text without special ones to ids (room: size + CACHE_IDS); their number. The
 * cache has one place for each hash, taken by the latest piece: nothing to search, nothing that
 * grows. A hit copies all ten ids, which takes less time than to copy just as many as there are. */
size_t text_encode(Tokenizer *t, int32_t *ids, const char *text, size_t size)
{
    int32_t *begin = ids;
    for (size_t n, count; size > 0; text += n, size -= n, ids += count) {
        n = piece_length(text, size);
        CachedPiece *c = &t->cache[hash_bytes(text, n) % CACHE_PIECES];
        if (c->size == n && !memcmp(c->bytes, text, n)) {
            memcpy(ids, c->ids, sizeof c->ids);
            count = c->count;
            continue;
        }
        count = piece_encode(t, ids, text, n, t->count);
        if (n > CACHE_BYTES || count > CACHE_IDS) continue;
        c->size = (unsigned char)n;
        c->count = (unsigned char)count;
        memcpy(c->bytes, text, n);
        memcpy(c->ids, ids, count * sizeof *ids);
    }
    return (size_t)(ids - begin);
}

/* The tokens of any bytes, in new memory. With parse_special the spelling of the end of text
 * stands for that token; without, it is text like any other. */
int32_t *tokenizer_encode(Tokenizer *t, const char *text, size_t size, int parse_special,
                          size_t *count)
{
    int32_t *ids = reallocate(NULL, size + CACHE_IDS, sizeof *ids);
    int length;
    const char *special = tokenizer_bytes(t, t->end_of_text, &length), *found;
    *count = 0;
    while (parse_special && (found = memmem(text, size, special, (size_t)length))) {
        *count += text_encode(t, ids + *count, text, (size_t)(found - text));
        ids[(*count)++] = t->end_of_text;
        size -= (size_t)(found - text) + (size_t)length;
        text = found + length;
    }
    *count += text_encode(t, ids + *count, text, size);
    return reallocate(ids, *count, sizeof *ids);
}

/* The two tokens that id was merged from: what it is without itself and all that came later. 0 if
 * it is a single byte or special. */
int tokenizer_merge(const Tokenizer *t, int id, int *left, int *right)
{
    int32_t ids[TOKEN_BYTES];
    int size;
    const char *bytes = tokenizer_bytes(t, id, &size);
    if (id == t->end_of_text || piece_encode(t, ids, bytes, (size_t)size, id) != 2) return 0;
    *left = ids[0];
    *right = ids[1];
    return 1;
}

/* GPT-2's vocab.json and merges.txt write a byte as a character: itself if it can be seen in
 * Latin-1, otherwise the next from U+0100 on. */
int tokenizer_byte_code_point(int byte)
{
    int next = 0x100;
    for (int b = 0;; b++) {
        int visible = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
        if (b == byte) return visible ? byte : next;
        next += !visible;
    }
}

/* ================================================================================================
 * 6. Training
 *
 * Begin with the bytes; again and again make a token of the pair of neighbours that occurs most
 * often [Sennrich et al. 2016], of equals the one with the lower left id, then the lower right.
 * It is enough to keep each different piece once, weighted by how often it occurs.
 *
 * Every pair has a list of the places where it stands, a place being the byte it begins at. A
 * merge visits these alone, and mends the lists of the pairs to the left and to the right. So the
 * time hardly depends on the number of tokens. Rejected: to count anew for each, in hours.
 *
 * Places enter a list in the order of the text, so that of "aaa" the left two are merged, as in
 * encoding. All enter during the merge that makes the later token of the pair: from then on its
 * count only falls. So the heap's is right or too high, and is put right when it comes out.
 */

typedef struct { size_t size; int64_t count, first, last; } Pair;    /* of places; -1: none */

typedef struct {
    int32_t first, last;         /* as in Merging; -1 also where there is no piece */
    int64_t weight;              /* how often its piece occurs */
    int64_t pair, previous, next;/* the list it is in, -1: none; its neighbours there */
} Place;

typedef struct {
    Tokenizer *t;
    char *text;                  /* the different pieces, a zero byte after each */
    Place *place;                /* one for each byte of text */
    Pair *pair;
    size_t pairs;
    Map by_spelling;             /* number of a pair + 1; what it spells tells pairs apart */
    Heap heap;                   /* of pairs: minus count, ids, number */
} Learner;

/* Count the different pieces of a text. What separates its documents belongs to none of them. */
void pieces_count(Map *pieces, const char *text, size_t size)
{
    for (const char *end = text + size, *stop; text < end; text = stop + END_OF_TEXT_SIZE) {
        stop = memmem(text, (size_t)(end - text), END_OF_TEXT, END_OF_TEXT_SIZE);
        if (!stop) stop = end;
        for (size_t n; text < stop; text += n) {
            n = piece_length(text, (size_t)(stop - text));
            map_enter(pieces, text, n)->value++;
        }
        if (stop == end) return;
    }
}

/* Enter place i in the list of the pair that begins there, if one does. */
void place_enter(Learner *l, int64_t i)
{
    Place *place = &l->place[i];
    size_t left = token_size(l->t, place->first);
    int32_t right = place[left].first;
    size_t size = right < 0 ? 0 : left + token_size(l->t, right);
    place->pair = -1;
    if (size == 0 || size > TOKEN_BYTES) return;
    MapEntry *e = map_enter(&l->by_spelling, l->text + i, size);
    if (e->value == 0) {
        size_t n = l->pairs++;
        if ((n & (n - 1)) == 0) l->pair = reallocate(l->pair, 2 * n + 1, sizeof *l->pair);
        l->pair[n] = (Pair){size, 0, -1, -1};
        e->value = (int64_t)n + 1;
    }
    Pair *pair = &l->pair[place->pair = e->value - 1];
    place->next = -1;
    place->previous = pair->last;
    *(pair->last < 0 ? &pair->first : &l->place[pair->last].next) = i;
    pair->last = i;
    pair->count += place->weight;
}

void place_leave(Learner *l, int64_t i)
{
    Place *place = &l->place[i];
    if (place->pair < 0) return;
    Pair *pair = &l->pair[place->pair];
    *(place->previous < 0 ? &pair->first : &l->place[place->previous].next) = place->next;
    *(place->next < 0 ? &pair->last : &l->place[place->next].previous) = place->previous;
    pair->count -= place->weight;
    place->pair = -1;
}

/* Lay out the different pieces, each as the tokens of its bytes, and list their pairs. */
void learner_begin(Learner *l, const Map *pieces)
{
    size_t size = 1, at = 0;
    const MapEntry *end = pieces->entry + pieces->capacity;
    for (const MapEntry *e = pieces->entry; e < end; e++) size += e->key ? e->size + 1 : 0;
    l->text = allocate(size, 1);
    l->place = allocate(size, sizeof *l->place);
    l->place[0].last = -1;
    for (const MapEntry *e = pieces->entry; e < end; e++) {
        if (!e->key) continue;
        size_t stop = at + e->size;
        memcpy(l->text + at, e->key, e->size);
        for (size_t i = at; i < stop; i++) {
            l->place[i].weight = e->value;
            l->place[i].first = l->t->of_byte[(unsigned char)l->text[i]];
            l->place[i + 1].last = l->place[i].first;
        }
        l->place[stop].first = l->place[stop + 1].last = -1;
        for (; at < stop; at++) place_enter(l, (int64_t)at);
        at++;
    }
}

/* Offer the heap the pairs from number `from` on. */
void learner_offer(Learner *l, size_t from)
{
    for (size_t k = from; k < l->pairs; k++) {
        const Pair *p = &l->pair[k];
        if (p->first < 0) continue;
        int64_t left = l->place[p->first].first;
        int64_t right = l->place[p->first + (int64_t)p->size].last;
        heap_push(&l->heap, (HeapEntry){-p->count, left << 32 | right, (int64_t)k});
    }
}

/* Make the token id of pair k, wherever it stands. */
void learner_merge(Learner *l, size_t k, int32_t id)
{
    for (int64_t i; (i = l->pair[k].first) >= 0;) {
        Place *place = &l->place[i];
        int64_t middle = (int64_t)token_size(l->t, place->first), before = 0;
        if (place->last >= 0) before = (int64_t)token_size(l->t, place->last);
        if (before > 0) place_leave(l, i - before);
        place_leave(l, i);
        place_leave(l, i + middle);
        place[middle].first = -1;
        place->first = place[l->pair[k].size].last = id;
        if (before > 0) place_enter(l, i - before);
        place_enter(l, i);
    }
}

/* The bytes in GPT-2's order: those that can be seen, then the others. */
void add_bytes(Tokenizer *t)
{
    for (int hidden = 0; hidden < 2; hidden++)
        for (int b = 0; b < 256; b++) {
            if ((tokenizer_byte_code_point(b) != b) != hidden) continue;
            t->of_byte[b] = t->count;
            tokenizer_add(t, &(char){(char)b}, 1);
        }
}

/* A vocabulary of count tokens, 257 at least: the bytes, merges, end of text. */
Tokenizer *tokenizer_train(const char *text, size_t size, int count)
{
    Learner l = {.t = tokenizer_new()};
    Tokenizer *t = l.t;
    Map pieces = {0};
    add_bytes(t);
    pieces_count(&pieces, text, size);
    learner_begin(&l, &pieces);
    free(pieces.entry);
    learner_offer(&l, 0);
    while (t->count < count - 1) {
        HeapEntry best;
        if (!heap_pop(&l.heap, &best))
            die("expected text with enough pairs for %d tokens, found enough for %d", count,
                t->count + 1);
        const Pair *pair = &l.pair[best.item];
        assert(pair->count <= -best.rank);
        if (pair->count < -best.rank) {
            best.rank = -pair->count;
            if (pair->count > 0) heap_push(&l.heap, best);
            continue;
        }
        size_t known = l.pairs;
        tokenizer_add(t, l.text + pair->first, pair->size);
        learner_merge(&l, (size_t)best.item, t->count - 1);
        learner_offer(&l, known);
    }
    free(l.text);
    free(l.place);
    free(l.pair);
    free(l.by_spelling.entry);
    free(l.heap.entry);
    t->end_of_text = t->count;
    tokenizer_add(t, END_OF_TEXT, END_OF_TEXT_SIZE);
    tokenizer_index(t);
    return t;
}

#ifndef NO_MAIN_TOKENIZER
/* ================================================================================================
 * 7. Command line
 *
 * Four commands: decode undoes encode, train makes what both need, info looks at it.
 */

const char *tokenizer_path, *out_path, *sample_path;
int as_json, parse_special, vocabulary;

const Option options[] = {
    {"tokenizer", 's', &tokenizer_path, "data/gpt2_tokenizer.bin", 0, 0, "edi", "vocabulary"},
    {"special", '!', &parse_special, NULL, 0, 0, "e", "read " END_OF_TEXT " as the token"},
    {"json", '!', &as_json, NULL, 0, 0, "e", "a JSON string on each line"},
    {"vocab", 'i', &vocabulary, "4096", 257, 1 << 24, "t", "how many tokens to make"},
    {"out", 's', &out_path, NULL, 0, 0, "t", "file to write"},
    {"file", 's', &sample_path, NULL, 0, 0, "i", "text to try it on"},
    {0}
};

const char usage[] =
    "usage: ./tokenizer encode [FILE]                     text to ids, on one line\n"
    "       ./tokenizer encode --json [FILE]              each line, a JSON string, to a line\n"
    "       ./tokenizer decode [FILE]                     ids to text\n"
    "       ./tokenizer train FILE... --vocab N --out F   make a vocabulary from text\n"
    "       ./tokenizer info                              describe a vocabulary\n"
    "No FILE, or -, is standard input. ./tokenizer COMMAND --help lists the options.";

void print_ids(Tokenizer *t, const char *text, size_t size)
{
    size_t count;
    int32_t *ids = tokenizer_encode(t, text, size, parse_special, &count);
    for (size_t i = 0; i < count; i++) printf(i ? " %d" : "%d", ids[i]);
    putchar('\n');
    free(ids);
}

void command_encode(Tokenizer *t, const char *path)
{
    size_t size, line = 1;
    char *text = read_file(path, &size), *end = text + size, error[160];
    if (!as_json) print_ids(t, text, size);
    for (char *at = text, *stop; as_json && at < end; at = stop + 1, line++) {
        if (!(stop = memchr(at, '\n', (size_t)(end - at)))) stop = end;
        Json *json = json_parse(at, (size_t)(stop - at), error, sizeof error);
        if (!json) die("%s: line %zu, %s", path, line, strstr(error, "column"));
        if (json->type != '"')
            die("%s: line %zu, column %d: expected a string", path, line, json->column);
        print_ids(t, json->text, json->size);
        json_free(json);
    }
    free(text);
}

void command_decode(Tokenizer *t, const char *path)
{
    const char *space = " \t\r\n";
    size_t size, number = 1;
    char *text = read_file(path, &size), *at = text, *end;
    for (; at += strspn(at, space), at < text + size; at = end, number++) {
        long id = strtol(at, &end, 10);
        size_t length = strcspn(at, space);
        if (length == 0 || end != at + length || id < 0 || id >= t->count)
            die("%s: expected a token from 0 to %d as number %zu, found '%.*s'", path,
                t->count - 1, number, length < 40 ? (int)length : 40, at);
        fwrite(t->bytes + t->start[id], 1, token_size(t, (int)id), stdout);
    }
    free(text);
}

void command_train(int files, char **paths)
{
    char *all = NULL;
    size_t size = 0, more;
    if (files == 0) die_usage("train: expected a file of text");
    if (!out_path) die_usage("train: expected --out and the file to write");
    for (int i = 0; i < files; i++) {
        char *text = read_file(paths[i], &more);
        all = reallocate(all, size + more + END_OF_TEXT_SIZE, 1);
        memcpy(all + size, text, more);
        memcpy(all + size + more, END_OF_TEXT, END_OF_TEXT_SIZE);
        size += more + END_OF_TEXT_SIZE;
        free(text);
    }
    Tokenizer *t = tokenizer_train(all, size, vocabulary);
    tokenizer_write(t, out_path);
    printf("%s: %d tokens from %.1f MB of text\n", out_path, t->count, (double)size / 1e6);
    tokenizer_free(t);
    free(all);
}

void print_token(const Tokenizer *t, int id)
{
    printf("  %8d  ", id);
    json_write_string(stdout, t->bytes + t->start[id], token_size(t, id));
    putchar('\n');
}

void command_info(Tokenizer *t)
{
    int longest = 0;
    for (int id = 1; id < t->count; id++)
        if (token_size(t, id) > token_size(t, longest)) longest = id;
    printf("%s: %d tokens; the end of text is %d\n", tokenizer_path, t->count, t->end_of_text);
    printf("the longest, of %zu bytes, and every tenth part:\n", token_size(t, longest));
    print_token(t, longest);
    for (int i = 0; i < 10; i++) print_token(t, (int)((int64_t)t->count * i / 10));
    if (!sample_path) return;
    size_t size, count;
    char *text = read_file(sample_path, &size);
    double time = -seconds();
    free(tokenizer_encode(t, text, size, 1, &count));
    time += seconds();
    printf("%s: %zu bytes, %zu tokens, %.3f bytes per token, encoded at %.1f MB/s\n", sample_path,
           size, count, (double)size / (double)(count ? count : 1), (double)size / 1e6 / time);
    free(text);
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"encode", "decode", "train", "info"};
    const char *name = argc > 1 ? argv[1] : "";
    int k = 0, help = !strcmp(name, "--help");
    while (k < 4 && strcmp(name, names[k])) k++;
    if (help || argc < 2) {
        fprintf(help ? stdout : stderr, "%s\n", usage);
        return help ? 0 : 2;
    }
    if (k == 4) die_usage("unknown command '%s'; ./tokenizer --help lists them", name);
    char **words = argv + 2, command = *name;
    int count = options_parse(options, command, usage, argc - 2, words);
    if (command == 't') command_train(count, words);
    else {
        int most = command != 'i';
        if (count > most) die_usage("%s: unexpected '%s'", name, words[most]);
        Tokenizer *t = tokenizer_read(tokenizer_path);
        if (command == 'e') command_encode(t, count ? words[0] : "-");
        if (command == 'd') command_decode(t, count ? words[0] : "-");
        if (command == 'i') command_info(t);
        tokenizer_free(t);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) die("standard output: writing failed");
    return 0;
}
#endif /* NO_MAIN_TOKENIZER */
