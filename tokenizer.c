/* tokenizer.c - text into tokens and back: GPT-2's byte-level BPE, in one file.
 *
 *     cc -O3 -o tokenizer tokenizer.c
 *     ./tokenizer encode --tokenizer data/gpt2_tokenizer.bin < text > ids
 *
 * The other programs include this file, so it begins with the little that all of them need.
 *
 *   1. Common ground      errors, memory, files that are whole or not there, options
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
#ifndef TOKENIZER_C
#define TOKENIZER_C

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <assert.h>
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
    w->temporary = format("%s.partial-%ld", path, (long)getpid());
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

/* Everything to the disk, then under its real name in one step. */
void writer_close(Writer *w)
{
    if (fflush(w->file) != 0 || fsync(fileno(w->file)) != 0 || fclose(w->file) != 0)
        die("%s: writing failed: %s", w->path, strerror(errno));
    if (rename(w->temporary, w->path) != 0)
        die("%s: cannot be replaced: %s", w->path, strerror(errno));
    Writer **link = &open_writers;
    while (*link != w) link = &(*link)->next;
    *link = w->next;
    free(w->path);
    free(w->temporary);
    free(w);
}

/* Make a folder unless it is there. */
void make_folder(const char *path)
{
    struct stat status;
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

/* ================================================================================================
 * 2. UTF-8 and JSON
 *
 * UTF-8 writes a code point in 1 to 4 bytes: the first byte begins with as many 1 bits as there
 * are bytes (none when there is one), the others with 10, and the remaining bits hold the number.
 *
 * JSON is read into a tree by recursive descent, one function for each kind of value, each of
 * which takes what it knows from the front of the text. The reader is strict [RFC 8259] and says
 * where and why it stopped: data that is almost right is the kind that spoils a training run.
 */

/* The length of the code point at text, which goes to *code_point; 0 if the bytes there are not
 * UTF-8: cut short, longer than needed, half of a surrogate pair, or past U+10FFFF. */
static inline size_t utf8_decode(const char *text, size_t size, uint32_t *code_point)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *s = (const unsigned char *)text;
    if (size == 0) return 0;
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xC0 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3
                  : s[0] < 0xF8 ? 4 : 0;
    if (length == 0 || length > size) return 0;
    uint32_t c = length == 1 ? s[0] : s[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    if (c < least[length] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) return 0;
    *code_point = c;
    return length;
}

size_t utf8_length(const char *text, size_t size)
{
    uint32_t code_point;
    return utf8_decode(text, size, &code_point);
}

/* Write code point c to `to`; returns the number of bytes. */
size_t utf8_encode(char *to, uint32_t c)
{
    size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, c >>= 6) to[i] = (char)(0x80 | (c & 0x3F));
    to[0] = (char)(length == 1 ? c : (0xF00u >> length & 0xFF) | c);
    return length;
}

/* A value: a member of a tree that json_parse makes and json_free ends. */
typedef struct Json {
    char type;                   /* '{' '[' '"' '0' (a number) 't' 'f' 'n' */
    int line, column;            /* where it begins, from 1; columns are bytes */
    char *key;                   /* decoded, then a 0: if it is a member of an object */
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

int json_column(const JsonReader *r) { return (int)(r->at - r->line_start) + 1; }

/* The next byte; 0, which begins nothing in JSON, at the end. */
int json_peek(const JsonReader *r) { return r->at < r->end ? (unsigned char)*r->at : 0; }

/* Say what was expected here; always 0, the functions' answer for "no". */
int json_fail(JsonReader *r, const char *expected)
{
    char found[16] = "the end";
    if (r->at < r->end) {
        int c = json_peek(r);
        snprintf(found, sizeof found, c > 0x20 && c < 0x7F ? "'%c'" : "byte %02X", c);
    }
    snprintf(r->error, r->error_size, "line %d, column %d: expected %s, found %s", r->line,
             json_column(r), expected, found);
    return 0;
}

void json_space(JsonReader *r)
{
    for (int c; (c = json_peek(r)) == ' ' || c == '\t' || c == '\n' || c == '\r';) {
        r->at++;
        if (c == '\n') r->line++, r->line_start = r->at;
    }
}

/* The u and the four digits of \uXXXX. */
int json_hex(JsonReader *r, uint32_t *c)
{
    if (json_peek(r) != 'u') return json_fail(r, "an escape, one of \" \\ / b f n r t u");
    r->at++;
    *c = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        const char *digits = "0123456789abcdef", *digit;
        int lower = json_peek(r) | (json_peek(r) >= 'A' ? 0x20 : 0);
        if (!lower || !(digit = strchr(digits, lower))) return json_fail(r, "a hexadecimal digit");
        *c = *c << 4 | (uint32_t)(digit - digits);
    }
    return 1;
}

/* What follows a backslash. A code point past U+FFFF is written as two \u, a surrogate pair. */
int json_escape(JsonReader *r, char **to)
{
    static const char name[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    const char *simple = json_peek(r) ? strchr(name, json_peek(r)) : NULL;
    uint32_t c, low;
    if (simple) {
        *(*to)++ = meaning[simple - name];
        r->at++;
        return 1;
    }
    if (!json_hex(r, &c)) return 0;
    if (c >= 0xDC00 && c < 0xE000) return json_fail(r, "no second half of a surrogate pair alone");
    if (c >= 0xD800 && c < 0xDC00) {
        if (json_peek(r) != '\\') return json_fail(r, "the other half of a surrogate pair");
        r->at++;
        if (!json_hex(r, &low)) return 0;
        if (low < 0xDC00 || low >= 0xE000)
            return json_fail(r, "the other half of a surrogate pair before this");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    *to += utf8_encode(*to, c);
    return 1;
}

/* A string from its opening quote on. No escape is shorter than what it means, so the distance to
 * the closing quote is room enough. */
int json_string(JsonReader *r, char **text, size_t *size)
{
    size_t left = (size_t)(r->end - r->at), length = 1;
    while (length < left && r->at[length] != '"') length += r->at[length] == '\\' ? 2 : 1;
    char *to = *text = allocate(length + 2, 1);
    r->at++;
    while (r->at < r->end && *r->at != '"') {
        length = utf8_length(r->at, (size_t)(r->end - r->at));
        if (length == 0) return json_fail(r, "valid UTF-8");
        if (json_peek(r) < 0x20) return json_fail(r, "control characters to be escaped");
        if (*r->at == '\\') {
            r->at++;
            if (!json_escape(r, &to)) return 0;
        } else {
            memcpy(to, r->at, length);
            to += length, r->at += length;
        }
    }
    if (r->at == r->end) return json_fail(r, "a closing quote");
    r->at++;
    *size = (size_t)(to - *text);
    return 1;
}

int json_digits(JsonReader *r)
{
    if (json_peek(r) < '0' || json_peek(r) > '9') return json_fail(r, "a digit");
    while (json_peek(r) >= '0' && json_peek(r) <= '9') r->at++;
    return 1;
}

int json_number(JsonReader *r, Json *value)
{
    const char *begin = r->at;
    if (*r->at == '-') r->at++;
    if (json_peek(r) == '0') r->at++;
    else if (!json_digits(r)) return 0;
    if (json_peek(r) == '.' && (r->at++, !json_digits(r))) return 0;
    if (json_peek(r) == 'e' || json_peek(r) == 'E') {
        r->at++;
        if (json_peek(r) == '+' || json_peek(r) == '-') r->at++;
        if (!json_digits(r)) return 0;
    }
    value->size = (size_t)(r->at - begin);
    value->text = format("%.*s", (int)value->size, begin);
    value->number = strtod(value->text, NULL);
    r->at = isinf(value->number) ? begin : r->at;
    return !isinf(value->number) || json_fail(r, "a number less than 1.8e308");
}

int json_by_key(const void *a, const void *b)
{
    const Json *x = *(Json *const *)a, *y = *(Json *const *)b;
    int order = memcmp(x->key, y->key, x->key_size < y->key_size ? x->key_size : y->key_size);
    return order ? order : (x->key_size > y->key_size) - (x->key_size < y->key_size);
}

/* No key twice: sorted, equal keys would be neighbours. */
int json_keys_differ(JsonReader *r, const Json *object)
{
    Json **members = allocate(object->count, sizeof *members), *m = object->child;
    size_t same = 0;
    for (size_t i = 0; i < object->count; i++, m = m->next) members[i] = m;
    qsort(members, object->count, sizeof *members, json_by_key);
    for (size_t i = 1; i < object->count && !same; i++)
        if (json_by_key(&members[i - 1], &members[i]) == 0) same = i;
    if (same) {
        const Json *a = members[same - 1], *b = members[same];
        const Json *later = a->line > b->line || (a->line == b->line && a->column > b->column)
                          ? a : b;
        snprintf(r->error, r->error_size, "line %d, column %d: expected every key once, found the "
                 "key of this value again", later->line, later->column);
    }
    free(members);
    return !same;
}

int json_value(JsonReader *r, Json *value);

/* What is between brackets or braces, and these. */
int json_members(JsonReader *r, Json *value)
{
    int close = value->type == '{' ? '}' : ']';
    Json **link = &value->child;
    if (r->depth++ == 64) return json_fail(r, "at most 64 levels of brackets");
    r->at++;
    json_space(r);
    for (int more = json_peek(r) != close; more;) {
        Json *member = *link = allocate(1, sizeof *member);
        link = &member->next;
        value->count++;
        if (close == '}') {
            if (json_peek(r) != '"') return json_fail(r, "a key in double quotes");
            if (!json_string(r, &member->key, &member->key_size)) return 0;
            json_space(r);
            if (json_peek(r) != ':') return json_fail(r, "':'");
            r->at++;
        }
        if (!json_value(r, member)) return 0;
        json_space(r);
        more = json_peek(r) == ',';
        if (more) r->at++;
        json_space(r);
    }
    if (json_peek(r) != close) return json_fail(r, close == '}' ? "',' or '}'" : "',' or ']'");
    r->at++;
    r->depth--;
    return close == ']' || json_keys_differ(r, value);
}

int json_value(JsonReader *r, Json *value)
{
    static const char *const words[] = {"true", "false", "null"};
    json_space(r);
    int c = json_peek(r);
    value->type = (char)c;
    value->line = r->line;
    value->column = json_column(r);
    if (c == '{' || c == '[') return json_members(r, value);
    if (c == '"') return json_string(r, &value->text, &value->size);
    if (c == '-' || (c >= '0' && c <= '9')) {
        value->type = '0';
        return json_number(r, value);
    }
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

/* The tree of a JSON text, or NULL and in `error` one line "line L, column C: expected ...". */
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

Json *json_get(const Json *object, const char *key)
{
    Json *m = object && object->type == '{' ? object->child : NULL;
    while (m && (m->key_size != strlen(key) || memcmp(m->key, key, m->key_size))) m = m->next;
    return m;
}

/* The string in quotes; a byte that is not UTF-8 becomes U+FFFD, the replacement character. */
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
 * GPT-2's split asks of a code point only whether it is a letter (general category L), a number
 * (N), white space or anything else. The first two are lists of some 800 ranges, here those of
 * Unicode 16.0, as lengths of runs: not a letter, letters, not, ... A length is written in base
 * 26, its last digit as a small letter and those before it as capitals: c is 2, Bc is 28.
 * Rejected: ranges as numbers, some 200 lines that nobody would read either.
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

void unicode_run(const char *runs, int class)
{
    size_t at = 0, length = 0;
    for (int inside = 0; *runs; runs++) {
        length = length * 26 + (size_t)(*runs >= 'a' ? *runs - 'a' : *runs - 'A');
        if (*runs < 'a') continue;
        if (inside) memset(unicode_class + at, class, length);
        at += length, length = 0, inside = !inside;
    }
}

void unicode_fill(void)
{
    static const int spaces[] = {9, 10, 11, 12, 13, 0x20, 0x85, 0xA0, 0x1680, 0x2028, 0x2029,
                                 0x202F, 0x205F, 0x3000};
    unicode_run(letter_runs, LETTER);
    unicode_run(number_runs, NUMBER);
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
 *     | ?\p{L}+| ?\p{N}+           letters or numbers, with one blank before them or without
 *     | ?[^\s\p{L}\p{N}]+          other characters, likewise
 *     |\s+(?!\S)                   white space, except the last before something else
 *     |\s+                         white space
 *
 * A byte that is not UTF-8 counts as another character, so that any file can be encoded.
 * Rejected: a general matcher of patterns, ten times as long and as slow.
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
size_t split(const char *text, size_t size)
{
    size_t length, last = 0, end;
    if (*text == '\'' && size > 1) {
        char a = text[1], b = size > 2 ? text[2] : 0;
        if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
        if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    }
    int class = class_at(text, size, &end);
    if (*text == ' ' && size > 1) {                    /* one blank joins what follows it */
        int after = class_at(text + 1, size - 1, &length);
        if (after != SPACE) class = after, end += length;
    }
    for (; end < size && class_at(text + end, size - end, &length) == class; end += length)
        last = end;
    if (class != SPACE || end == size || last == 0) return end;
    return last;                                       /* leaves the last white space behind */
}

/* ================================================================================================
 * 5. Byte-pair encoding
 *
 * A vocabulary begins with the 256 bytes, so that nothing is unknown, and goes on with merges of
 * two earlier tokens, the more useful the earlier. To encode a piece, start from its bytes and,
 * while there are neighbours that together spell a token, join those that spell the token with
 * the lowest id, the leftmost first. The list of spellings is all that this needs.
 *
 * A heap of possible merges makes the time n log n, for a piece may be a megabyte of one letter.
 * Few pieces come this far: text repeats itself, so the last few thousand are kept with their ids.
 */

/* ---- a hash map from byte strings, which stay where they are, to numbers ---- */

typedef struct { const char *key; size_t size; int64_t value; } Entry;
typedef struct { Entry *entry; size_t capacity, count; } Map;    /* capacity: a power of two */

/* Eight bytes at a time: a multiplication carries every bit upwards, a shift brings them down. */
static inline uint64_t hash_bytes(const char *bytes, size_t size)
{
    uint64_t hash = size, word;
    for (; size >= 8; bytes += 8, size -= 8) {
        memcpy(&word, bytes, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    for (word = 0; size; size--) word = word << 8 | (unsigned char)*bytes++;
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 32;
}

/* The entry of a key, or the empty one (key NULL) where it would be. */
Entry *map_find(const Map *m, const char *key, size_t size)
{
    for (size_t i = hash_bytes(key, size);; i++) {
        Entry *e = &m->entry[i & (m->capacity - 1)];
        if (!e->key || (e->size == size && !memcmp(e->key, key, size))) return e;
    }
}

/* The entry of a key, made with value 0 if it is new. Valid until the next call. */
Entry *map_enter(Map *m, const char *key, size_t size)
{
    if (2 * m->count >= m->capacity) {                 /* never more than half full */
        Map larger = {NULL, m->capacity ? 2 * m->capacity : 1024, m->count};
        larger.entry = allocate(larger.capacity, sizeof *larger.entry);
        for (size_t i = 0; i < m->capacity; i++)
            if (m->entry[i].key)
                *map_find(&larger, m->entry[i].key, m->entry[i].size) = m->entry[i];
        free(m->entry);
        *m = larger;
    }
    Entry *e = map_find(m, key, size);
    if (!e->key) *e = (Entry){key, size, 0}, m->count++;
    return e;
}

/* ---- a heap: the lowest rank, then the lowest tie, comes out first ---- */

typedef struct { int64_t rank, tie, item; } Candidate;
typedef struct { Candidate *entry; size_t count, capacity; } Heap;

static inline int precedes(const Candidate *a, const Candidate *b)
{
    return a->rank < b->rank || (a->rank == b->rank && a->tie < b->tie);
}

void heap_push(Heap *h, Candidate new)
{
    if (h->count == h->capacity) {
        h->capacity = h->capacity ? 2 * h->capacity : 64;
        h->entry = reallocate(h->entry, h->capacity, sizeof *h->entry);
    }
    size_t i = h->count++;
    for (; i > 0 && precedes(&new, &h->entry[(i - 1) / 2]); i = (i - 1) / 2)
        h->entry[i] = h->entry[(i - 1) / 2];
    h->entry[i] = new;
}

/* Take the first out; 0 if there is none. */
int heap_pop(Heap *h, Candidate *first)
{
    if (h->count == 0) return 0;
    Candidate last = h->entry[--h->count];
    size_t i = 0, child;
    *first = h->entry[0];
    for (; (child = 2 * i + 1) < h->count; i = child) {
        if (child + 1 < h->count && precedes(&h->entry[child + 1], &h->entry[child])) child++;
        if (!precedes(&h->entry[child], &last)) break;
        h->entry[i] = h->entry[child];
    }
    h->entry[i] = last;
    return 1;
}

/* ---- a row of tokens in which two neighbours can become one ---- */

/* Token k of a text of n bytes that begins at byte i and ends before byte j has its id at
 * first[i] and at last[j]; elsewhere first is -1. So both neighbours are found by their lengths,
 * and a merge touches three numbers. */
typedef struct { int32_t *first, *last; size_t capacity; } Row;

void row_reserve(Row *r, size_t size)
{
    if (size <= r->capacity) return;
    r->capacity = 2 * size;
    r->first = reallocate(r->first, r->capacity, sizeof *r->first);
    r->last = reallocate(r->last, r->capacity, sizeof *r->last);
}

/* ---- the vocabulary ---- */

enum { CACHE = 1 << 14, CACHED_BYTES = 22, CACHED_IDS = 10 };
typedef struct {                                       /* 64 bytes, one line of the CPU's cache */
    unsigned char size, count;
    char bytes[CACHED_BYTES];
    int32_t ids[CACHED_IDS];
} Cached;

typedef struct Tokenizer {
    int count, end_of_text;
    size_t *start;               /* token i is spelled by bytes start[i] to start[i+1] */
    char *bytes;
    int32_t of_byte[256];        /* the ids of the single bytes */
    Map ids;                     /* by spelling */
    Cached *cache;
    Row row;                     /* for tokenizer_merge_piece */
    Heap heap;
} Tokenizer;

Tokenizer *tokenizer_new(void)
{
    Tokenizer *t = allocate(1, sizeof *t);
    if (!unicode_class['a']) unicode_fill();
    t->start = allocate(1, sizeof *t->start);
    t->cache = allocate(CACHE, sizeof *t->cache);
    return t;
}

void tokenizer_free(Tokenizer *t)
{
    free(t->start);
    free(t->bytes);
    free(t->ids.entry);
    free(t->cache);
    free(t->row.first);
    free(t->row.last);
    free(t->heap.entry);
    free(t);
}

static inline size_t token_size(const Tokenizer *t, int id)
{
    return t->start[id + 1] - t->start[id];
}

/* The bytes that token id spells. */
const char *tokenizer_bytes(const Tokenizer *t, int id, int *size)
{
    if (id < 0 || id >= t->count)
        die("token %d is outside the vocabulary of %d tokens", id, t->count);
    *size = (int)token_size(t, id);
    return t->bytes + t->start[id];
}

/* Append a token. Ids are given in order; memory doubles whenever it reaches a power of two. */
void tokenizer_add(Tokenizer *t, const char *bytes, size_t size)
{
    size_t n = (size_t)t->count, used = t->start[n];
    if ((n & (n - 1)) == 0) {
        t->start = reallocate(t->start, 2 * n + 2, sizeof *t->start);
        t->bytes = reallocate(t->bytes, 2 * n + 2, 255);
    }
    memcpy(t->bytes + used, bytes, size);
    t->start[++t->count] = used + size;
}

/* Make the vocabulary, now complete, ready to encode. 0 if a byte has no token of its own. */
int tokenizer_index(Tokenizer *t)
{
    for (int id = 0; id < t->count; id++) {
        Entry *e;
        if (id == t->end_of_text) continue;            /* no text may spell it by chance */
        e = map_enter(&t->ids, t->bytes + t->start[id], token_size(t, id));
        if (e->value == 0) e->value = id + 1;          /* of two that are equal, the first */
    }
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        t->of_byte[b] = (int32_t)map_find(&t->ids, &byte, 1)->value - 1;
        if (t->of_byte[b] < 0) return 0;
    }
    return 1;
}

/* llm.c's file: header {magic, version, count, end of text}, then for every token a byte with its
 * length and its bytes. Version 1 did not say which token ends a text: it was GPT-2's. */
Tokenizer *tokenizer_read(const char *path)
{
    Reader r = reader_open(path);
    Tokenizer *t = tokenizer_new();
    int32_t header[HEADER];
    reader_header(&r, header, TOKENIZER_MAGIC, "tokenizer");
    if (header[1] != 1 && header[1] != 2)
        die("%s: expected version 1 or 2, found %d", path, header[1]);
    int count = header[2];
    t->end_of_text = header[1] == 1 ? 50256 : header[3];
    if (count < 257 || count > 1 << 24)
        die("%s: expected 257 to %d tokens, found %d", path, 1 << 24, count);
    if (t->end_of_text < 0 || t->end_of_text >= count)
        die("%s: the end of text is token %d, outside the vocabulary of %d tokens", path,
            t->end_of_text, count);
    for (int id = 0; id < count; id++) {
        unsigned char size;
        char bytes[255];
        reader_get(&r, &size, 1);
        if (size == 0) die("%s: token %d is empty", path, id);
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
        int size;
        const char *bytes = tokenizer_bytes(t, id, &size);
        unsigned char length = (unsigned char)size;
        writer_put(w, &length, 1);
        writer_put(w, bytes, length);
    }
    writer_close(w);
}

/* ---- encode ---- */

/* If the token at byte i and the next spell a token below `limit`, enter it in the heap. */
static inline void offer(Tokenizer *t, const char *piece, size_t size, size_t i, int limit)
{
    size_t middle = i + token_size(t, t->row.first[i]);
    if (middle == size) return;
    size_t length = middle - i + token_size(t, t->row.first[middle]);
    int64_t id = map_find(&t->ids, piece + i, length)->value - 1;
    if (id >= 0 && id < limit) heap_push(&t->heap, (Candidate){id, (int64_t)i, 0});
}

/* The ids of a piece (room for one per byte), using tokens below `limit`; returns how many. */
size_t tokenizer_merge_piece(Tokenizer *t, const char *piece, size_t size, int limit, int32_t *ids)
{
    Candidate c;
    size_t count = 0;
    row_reserve(&t->row, size + 1);
    int32_t *first = t->row.first, *last = t->row.last;
    for (size_t i = 0; i < size; i++)
        first[i] = last[i + 1] = t->of_byte[(unsigned char)piece[i]];
    for (size_t i = 0; i < size; i++) offer(t, piece, size, i, limit);
    while (heap_pop(&t->heap, &c)) {
        int32_t id = (int32_t)c.rank;
        size_t i = (size_t)c.tie, end = i + token_size(t, id), middle;
        if (first[i] < 0) continue;                    /* one of the two is no longer there */
        middle = i + token_size(t, first[i]);
        if (middle >= end || middle + token_size(t, first[middle]) != end) continue;
        first[middle] = -1;
        first[i] = last[end] = id;
        offer(t, piece, size, i, limit);
        if (i > 0) offer(t, piece, size, i - token_size(t, last[i]), limit);
    }
    for (size_t i = 0; i < size; i += token_size(t, first[i])) ids[count++] = first[i];
    return count;
}

typedef struct { int32_t *id; size_t count, capacity; } Ids;

int32_t *ids_reserve(Ids *ids, size_t more)
{
    if (ids->count + more > ids->capacity) {
        ids->capacity = 2 * (ids->count + more);
        ids->id = reallocate(ids->id, ids->capacity, sizeof *ids->id);
    }
    return ids->id + ids->count;
}

/* Append the ids of a text without special tokens. The cache has one place for a piece, where the
 * latest to come stays: no search, no growth. All ten ids are copied, since a fixed number takes
 * fewer instructions than the right one. */
void encode_ordinary(Tokenizer *t, Ids *ids, const char *text, size_t size)
{
    for (size_t n; size > 0; text += n, size -= n) {
        n = split(text, size);
        Cached *c = &t->cache[hash_bytes(text, n) % CACHE];
        int32_t *to = ids_reserve(ids, n > CACHED_IDS ? n : CACHED_IDS);
        if (c->size == n && !memcmp(c->bytes, text, n)) {
            memcpy(to, c->ids, sizeof c->ids);
            ids->count += c->count;
            continue;
        }
        size_t count = tokenizer_merge_piece(t, text, n, t->count, to);
        ids->count += count;
        if (n > CACHED_BYTES || count > CACHED_IDS) continue;
        c->size = (unsigned char)n;
        c->count = (unsigned char)count;
        memcpy(c->bytes, text, n);
        memcpy(c->ids, to, count * sizeof *to);
    }
}

/* The ids of a text, in new memory. With parse_special, the spelling of the end-of-text token
 * stands for that token; without, it is text like any other. */
int32_t *tokenizer_encode(Tokenizer *t, const char *text, size_t size, int parse_special,
                          size_t *count)
{
    Ids ids = {0};
    int length;
    const char *special = tokenizer_bytes(t, t->end_of_text, &length), *found;
    while (parse_special && (found = memmem(text, size, special, (size_t)length))) {
        size_t before = (size_t)(found - text);
        encode_ordinary(t, &ids, text, before);
        *ids_reserve(&ids, 1) = t->end_of_text;
        ids.count++;
        text = found + length;
        size -= before + (size_t)length;
    }
    encode_ordinary(t, &ids, text, size);
    *count = ids.count;
    return reallocate(ids.id, ids.count, sizeof *ids.id);
}

/* The two tokens that id was merged from: what its spelling gives without id and all later ones.
 * 0 if it is a single byte or special. */
int tokenizer_merge(const Tokenizer *t, int id, int *left, int *right)
{
    int32_t ids[255];
    int size;
    const char *bytes = tokenizer_bytes(t, id, &size);
    if (id == t->end_of_text || size == 1) return 0;
    if (tokenizer_merge_piece((Tokenizer *)t, bytes, (size_t)size, id, ids) != 2) return 0;
    *left = ids[0];
    *right = ids[1];
    return 1;
}

/* GPT-2's vocab.json and merges.txt write a byte as a character: itself where that can be seen
 * (! to ~, and Latin-1's without the soft hyphen), else the next from U+0100 on. */
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
 * Splitting comes first, so it is enough to keep each different piece once, with its number of
 * occurrences as its weight. Every pair has a list of the places where it stands; a merge visits
 * only these and corrects the lists of the pairs to the left and right: the whole training costs
 * about as much as reading the text. The rejected way, counting anew for each token, takes hours.
 *
 * A pair is known by what it spells, as in encoding. A place is the byte where the pair begins.
 * Places enter a list from left to right and leave it so: of "aaa" the left two are merged, as
 * in encoding. A list only shrinks once the merge that began it is done, so a pair's count in the
 * heap is too high or right, and is corrected when it comes out.
 */

enum { LONGEST = 255 };                                /* the file has one byte for a length */

typedef struct { size_t size; int64_t count, first, last; } Pair;   /* places; -1: none */

typedef struct {
    Tokenizer *t;
    char *text;                  /* the different pieces, a zero byte after each */
    size_t size;
    Row row;                     /* of the text; first is -1 at the zero bytes, last after them */
    int64_t *weight;             /* per byte: how often its piece occurs */
    int64_t *next, *previous;    /* per place: its neighbours in the list it is in */
    int64_t *pair_at;            /* per place: which list that is, or -1 */
    Pair *pairs;
    size_t count;
    Map by_spelling;             /* to a pair's number + 1 */
    Heap heap;
} Training;

/* Count the different pieces of a text whose documents are separated by the end-of-text token. */
void train_count(Map *pieces, const char *text, size_t size)
{
    static const char separator[] = "<|endoftext|>";
    while (size > 0) {
        const char *found = memmem(text, size, separator, sizeof separator - 1);
        const char *end = found ? found : text + size;
        size -= (size_t)(end - text) + (found ? sizeof separator - 1 : 0);
        for (size_t n; text < end; text += n) {
            n = split(text, (size_t)(end - text));
            map_enter(pieces, text, n)->value++;
        }
        text += found ? sizeof separator - 1 : 0;
    }
}

/* Enter place i in the list of the pair that begins there, if there is one. */
void place_add(Training *r, int64_t i)
{
    size_t left = token_size(r->t, r->row.first[i]), middle = (size_t)i + left;
    r->pair_at[i] = -1;
    if (r->row.first[middle] < 0) return;
    size_t size = left + token_size(r->t, r->row.first[middle]);
    if (size > LONGEST) return;
    Entry *e = map_enter(&r->by_spelling, r->text + i, size);
    if (e->value == 0) {
        size_t n = r->count++;
        if ((n & (n - 1)) == 0) r->pairs = reallocate(r->pairs, 2 * n + 1, sizeof *r->pairs);
        r->pairs[n] = (Pair){size, 0, -1, -1};
        e->value = (int64_t)n + 1;
    }
    Pair *p = &r->pairs[e->value - 1];
    r->pair_at[i] = e->value - 1;
    r->previous[i] = p->last;
    r->next[i] = -1;
    if (p->last >= 0) r->next[p->last] = i;
    else p->first = i;
    p->last = i;
    p->count += r->weight[i];
}

void place_remove(Training *r, int64_t i)
{
    if (r->pair_at[i] < 0) return;
    Pair *p = &r->pairs[r->pair_at[i]];
    int64_t next = r->next[i], previous = r->previous[i];
    if (previous >= 0) r->next[previous] = next;
    else p->first = next;
    if (next >= 0) r->previous[next] = previous;
    else p->last = previous;
    p->count -= r->weight[i];
    r->pair_at[i] = -1;
}

/* Lay the different pieces out, each as the tokens of its bytes, and list all pairs. */
Training train_begin(Tokenizer *t, const Map *pieces)
{
    Training r = {.t = t, .size = 1};
    for (size_t k = 0; k < pieces->capacity; k++)
        if (pieces->entry[k].key) r.size += pieces->entry[k].size + 1;
    r.text = allocate(r.size, 1);
    row_reserve(&r.row, r.size);
    memset(r.row.first, -1, r.size * sizeof *r.row.first);
    memset(r.row.last, -1, r.size * sizeof *r.row.last);
    r.weight = allocate(r.size, sizeof *r.weight);
    r.next = allocate(r.size, sizeof *r.next);
    r.previous = allocate(r.size, sizeof *r.previous);
    r.pair_at = allocate(r.size, sizeof *r.pair_at);
    size_t at = 0;
    for (size_t k = 0; k < pieces->capacity; k++) {
        const Entry *piece = &pieces->entry[k];
        if (!piece->key) continue;
        memcpy(r.text + at, piece->key, piece->size);
        for (size_t i = 0; i < piece->size; i++) {
            r.weight[at + i] = piece->value;
            r.row.first[at + i] = t->of_byte[(unsigned char)piece->key[i]];
            r.row.last[at + i + 1] = r.row.first[at + i];
        }
        for (size_t i = 0; i < piece->size; i++) place_add(&r, (int64_t)(at + i));
        at += piece->size + 1;
    }
    return r;
}

/* Enter the pairs from number `from` on in the heap. */
void train_candidates(Training *r, size_t from)
{
    for (size_t k = from; k < r->count; k++) {
        const Pair *p = &r->pairs[k];
        if (p->first < 0) continue;
        int64_t left = r->row.first[p->first], right = r->row.last[p->first + (int64_t)p->size];
        heap_push(&r->heap, (Candidate){-p->count, left << 32 | right, (int64_t)k});
    }
}

/* Make `id` of pair k wherever it stands. */
void train_merge(Training *r, size_t k, int32_t id)
{
    for (int64_t i; (i = r->pairs[k].first) >= 0;) {
        int32_t before = r->row.last[i];
        int64_t middle = i + (int64_t)token_size(r->t, r->row.first[i]);
        int64_t previous = before < 0 ? -1 : i - (int64_t)token_size(r->t, before);
        place_remove(r, i);
        place_remove(r, middle);
        if (previous >= 0) place_remove(r, previous);
        r->row.first[middle] = -1;
        r->row.first[i] = r->row.last[i + (int64_t)r->pairs[k].size] = id;
        if (previous >= 0) place_add(r, previous);
        place_add(r, i);
    }
}

/* A vocabulary of `count` tokens in GPT-2's order: visible bytes, other bytes, merges, end of
 * text. */
Tokenizer *tokenizer_train(const char *text, size_t size, int count)
{
    Tokenizer *t = tokenizer_new();
    Map pieces = {0};
    Candidate c;
    for (int other = 0; other < 2; other++)
        for (int b = 0; b < 256; b++) {
            char byte = (char)b;
            if ((tokenizer_byte_code_point(b) > 255) != other) continue;
            t->of_byte[b] = t->count;
            tokenizer_add(t, &byte, 1);
        }
    train_count(&pieces, text, size);
    Training r = train_begin(t, &pieces);
    train_candidates(&r, 0);
    while (t->count < count - 1) {
        if (!heap_pop(&r.heap, &c))
            die("the text has too few pairs for %d tokens; the most it can give is %d: train on "
                "more text or ask for fewer", count, t->count + 1);
        Pair *p = &r.pairs[c.item];
        if (p->count != -c.rank) {
            c.rank = -p->count;
            if (p->count > 0) heap_push(&r.heap, c);
            continue;
        }
        size_t known = r.count;
        tokenizer_add(t, r.text + p->first, p->size);
        train_merge(&r, (size_t)c.item, t->count - 1);
        train_candidates(&r, known);
        if (isatty(2) && t->count % 256 == 0) fprintf(stderr, "\r%d tokens", t->count);
    }
    if (isatty(2)) fputs("\r                \r", stderr);
    t->end_of_text = t->count;
    tokenizer_add(t, "<|endoftext|>", 13);
    tokenizer_index(t);
    free(pieces.entry), free(r.text), free(r.row.first), free(r.row.last), free(r.weight);
    free(r.next), free(r.previous), free(r.pair_at), free(r.pairs), free(r.by_spelling.entry);
    free(r.heap.entry);
    return t;
}

/* ================================================================================================
 * 7. Command line
 */

#ifndef NO_MAIN_TOKENIZER

const char *tokenizer_path, *out_path, *sample_path;
int as_json, special, vocabulary;

const Option tokenizer_options[] = {
    /* name      kind value            initial       min  max      commands  help */
    {"tokenizer", 's', &tokenizer_path, "data/gpt2_tokenizer.bin", 0, 0, "edi", "vocabulary"},
    {"special",   '!', &special,        NULL,         0,   0,       "e",
     "read <|endoftext|> in the text as the token"},
    {"json",      '!', &as_json,        NULL,         0,   0,       "e",
     "one JSON string a line in, one line of ids out"},
    {"vocab",     'i', &vocabulary,     "4096",       257, 1 << 24, "t", "tokens to make"},
    {"out",       's', &out_path,       NULL,         0,   0,       "t", "file to write"},
    {"file",      's', &sample_path,    NULL,         0,   0,       "i", "text to measure"},
    {0}
};

const char tokenizer_usage[] =
    "usage: ./tokenizer encode [FILE]                     text in, ids out\n"
    "       ./tokenizer decode [FILE]                     ids in, text out\n"
    "       ./tokenizer train FILE... --vocab N --out F   make a vocabulary\n"
    "       ./tokenizer info                              describe a vocabulary\n"
    "Without FILE, or with -, standard input is read. COMMAND --help lists the options.";

void print_ids(Tokenizer *t, const char *text, size_t size)
{
    size_t count;
    int32_t *ids = tokenizer_encode(t, text, size, special, &count);
    for (size_t i = 0; i < count; i++) printf(i ? " %d" : "%d", ids[i]);
    putchar('\n');
    free(ids);
}

void command_encode(Tokenizer *t, const char *path)
{
    size_t size, line = 1;
    char *text = read_file(path, &size), *end = text + size, error[200];
    if (!as_json) print_ids(t, text, size);
    for (char *at = text, *next; as_json && at < end; at = next + 1, line++) {
        if (!(next = memchr(at, '\n', (size_t)(end - at)))) next = end;
        Json *json = json_parse(at, (size_t)(next - at), error, sizeof error);
        if (!json) die("%s: line %zu, %s", path, line, strstr(error, "column"));
        if (json->type != '"')
            die("%s: line %zu, column %d: expected a JSON string", path, line, json->column);
        print_ids(t, json->text, json->size);
        json_free(json);
    }
    free(text);
}

void command_decode(Tokenizer *t, const char *path)
{
    size_t size, word = 1;
    char *text = read_file(path, &size), *end;
    for (char *at = text;; at = end, word++) {
        at += strspn(at, " \t\r\n");
        if (at == text + size) break;
        errno = 0;
        long id = strtol(at, &end, 10);
        if (end == at || !strchr(" \t\r\n", *end) || errno || id < 0 || id >= t->count)
            die("%s: number %zu: expected a token from 0 to %d, found '%.*s'", path, word,
                t->count - 1, (int)strcspn(at, " \t\r\n") % 40, at);
        int length;
        const char *bytes = tokenizer_bytes(t, (int)id, &length);
        fwrite(bytes, 1, (size_t)length, stdout);
    }
    free(text);
}

void command_train(int files, char **paths)
{
    if (files == 0) die_usage("train: expected the text files to learn from");
    if (!out_path) die_usage("train: expected --out, the file to write");
    char *all = NULL;
    size_t size = 0;
    for (int i = 0; i < files; i++) {
        size_t more;
        char *text = read_file(paths[i], &more);
        all = reallocate(all, size + more + 13, 1);
        memcpy(all + size, text, more);
        memcpy(all + size + more, "<|endoftext|>", 13);
        size += more + 13;
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
    int size;
    const char *bytes = tokenizer_bytes(t, id, &size);
    printf("  %6d  ", id);
    json_write_string(stdout, bytes, (size_t)size);
    putchar('\n');
}

void command_info(Tokenizer *t)
{
    int longest = 0;
    for (int id = 0; id < t->count; id++)
        if (token_size(t, id) > token_size(t, longest)) longest = id;
    printf("%s: %d tokens, end of text %d\n", tokenizer_path, t->count, t->end_of_text);
    printf("longest, %zu bytes:\n", token_size(t, longest));
    print_token(t, longest);
    printf("a sample:\n");
    for (int i = 1; i <= 10; i++) print_token(t, (int)((int64_t)t->count * i / 11));
    if (!sample_path) return;
    size_t size, count;
    char *text = read_file(sample_path, &size);
    double start = seconds();
    free(tokenizer_encode(t, text, size, 1, &count));
    double time = seconds() - start;
    printf("%s: %zu bytes, %zu tokens, %.3f bytes per token, %.1f MB/s\n", sample_path, size,
           count, (double)size / (double)(count ? count : 1), (double)size / 1e6 / time);
    free(text);
}

int main(int argc, char **argv)
{
    const char *commands[] = {"encode", "decode", "train", "info"}, *name = argc > 1 ? argv[1] : "";
    int k = 0;
    while (k < 4 && strcmp(name, commands[k])) k++;
    if (k == 4) {
        int help = !strcmp(name, "--help");
        fprintf(help ? stdout : stderr, "%s\n", tokenizer_usage);
        return help ? 0 : 2;
    }
    char **words = argv + 2, letter = name[0];
    int count = options_parse(tokenizer_options, letter, tokenizer_usage, argc - 2, words);
    if (letter != 't' && count > (letter != 'i'))
        die_usage("%s: unexpected '%s'", name, words[letter != 'i']);
    if (letter == 't') command_train(count, words);
    else {
        Tokenizer *t = tokenizer_read(tokenizer_path);
        if (letter == 'e') command_encode(t, count ? words[0] : "-");
        if (letter == 'd') command_decode(t, count ? words[0] : "-");
        if (letter == 'i') command_info(t);
        tokenizer_free(t);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) die("standard output cannot be written");
    return 0;
}

#endif /* NO_MAIN_TOKENIZER */
#endif /* TOKENIZER_C */
