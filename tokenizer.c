/* tokenizer.c - text into tokens and back: GPT-2's byte-level BPE, in one file.
 *
 *     cc -O3 -o tokenizer tokenizer.c
 *     ./tokenizer encode --tokenizer data/gpt2_tokenizer.bin < text > ids
 *
 * The other programs include this file, so it begins with the little that all of them need.
 *
 *   1. Common ground      errors, memory, files that are whole or not there, options
 *   2. JSON               a small strict reader, and one writer of strings
 *   3. Unicode            UTF-8, and the three classes of code points that the split needs
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


#endif /* TOKENIZER_C */
