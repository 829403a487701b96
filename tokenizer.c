/* tokenizer.c - turns text into tokens and back: GPT-2's byte-level BPE, in one file.
 *
 *     cc -O3 -o tokenizer tokenizer.c -lm
 *     ./tokenizer encode --tokenizer data/gpt2_tokenizer.bin < text > ids
 *
 * The other programs include this file, so it begins with what all of them need.
 *
 *   1. Common ground      errors, memory, files, options, growing arrays, a hash map
 *   2. UTF-8 and JSON     code points; a strict reader of JSON, and a writer of strings
 *   3. Unicode            the classes of code points that the split asks for
 *   4. Splitting          text into pretokens, by GPT-2's pattern
 *   5. Byte-pair encoding the vocabulary, encoding, decoding
 *   6. Training           a vocabulary from text
 *   7. Command line
 *
 * Notation: a text is a pointer to bytes and a size in bytes; it may hold zero bytes.
 *
 * [Sennrich et al. 2016] Neural Machine Translation of Rare Words with Subword Units
 * [Radford et al. 2019]  Language Models are Unsupervised Multitask Learners (GPT-2)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64                 /* files over 2 GB, on every system */
#endif
#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef _WIN32
#include "data/windows.h"                /* what its C library lacks */
#else
#include <sys/file.h>
#include <sys/statvfs.h>
#endif

/* ================================================================================================
 * 1. Common ground
 *
 * A program that cannot go on calls `die`, which prints one line and exits. The line names the file
 * or option, what was expected, what was found and what to do. Rejected: error codes returned from
 * function to function; they would double the code, which can only stop anyway.
 * Files are written completely or not at all: a Writer fills a temporary file in the same folder
 * and renames it once all bytes are on the disk. Until then the old file is unchanged.
 */

enum { MODEL_MAGIC = 20240326, TOKENIZER_MAGIC = 20240328, TOKENS_MAGIC = 20240520,
       STATE_MAGIC = 20240527, ADAPTER_MAGIC = 20240528,
       HEADER = 256 };        /* every header is HEADER int32 [llm.c] */

typedef struct Writer {
    FILE *file;
    char *path, *temporary;      /* the name that it will get, and the one until then */
    struct Writer *next;         /* in the list of open writers, newest first */
} Writer;
Writer *open_writers;
int writers_grouped;             /* closed files wait for writers_commit */
void (*last_attempts)(void);     /* what die still does, or NULL; it may die again */

/* Print "error: ...", remove the temporary files of all open writers, which gives their space back
 * to the disk, and exit: with status 1 (die) after a failure, 2 (die_usage) for a wrong command
 * line. */
__attribute__((format(printf, 2, 3), noreturn))
void die_with(int status, const char *form, ...)
{
    va_list args;
    va_start(args, form);
    fflush(stdout);
    fputs("error: ", stderr);
    vfprintf(stderr, form, args);
    fputc('\n', stderr);
    va_end(args);
    for (Writer *w = open_writers; w; w = w->next) {
        if (w->file) fclose(w->file), w->file = NULL;
        unlink(w->temporary);
    }
    open_writers = NULL;
    if (last_attempts) last_attempts();
    exit(status);
}
#define die(...) die_with(1, __VA_ARGS__)
#define die_usage(...) die_with(2, __VA_ARGS__)

/* The processor lacks an instruction that this program was compiled with: say so. */
void on_illegal_instruction(int number)
{
    static const char line[] = "error: this program was built for another processor: build it here "
                               "with make, or for all with make ARCH=\n";
    (void)number;
    _exit(write(2, line, sizeof line - 1) < 0 ? 2 : 1);
}
__attribute__((constructor))
void catch_illegal_instruction(void) { signal(SIGILL, on_illegal_instruction); }

/* Memory for `count` elements of `size` bytes each, all zero. Dies if there is not enough. */
void *allocate(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p) die("out of memory: %.1f MB more are needed; choose a smaller batch or model",
                (double)count * (double)size / 1e6);
    return p;
}

/* Change p (NULL: new memory) to `count` elements of `size` bytes; new ones are not initialized. */
void *reallocate(void *p, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || !(p = realloc(p, bytes ? bytes : 1)))
        die("out of memory: %.1f MB are needed", (double)count * (double)size / 1e6);
    return p;
}

/* printf into new memory, which the caller frees: from a list of arguments, or from arguments. */
char *format_list(const char *form, va_list args)
{
    char *text;
    if (vasprintf(&text, form, args) < 0) die("no text can be made: %s", strerror(errno));
    return text;
}

__attribute__((format(printf, 1, 2)))
char *format(const char *form, ...)
{
    va_list args;
    va_start(args, form);
    char *text = format_list(form, args);
    va_end(args);
    return text;
}

/* Seconds since some fixed moment, for measuring durations. */
double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The last call of every program: die unless all its output was written. Returns `status`. */
int finish_output(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout)) die("standard output: writing failed");
    return status;
}

/* ---- growing arrays and texts, lines, white space ---- */

/* The array, with space for one element of `size` bytes after its `count`. The capacity is not
 * stored: it is doubled whenever the count has reached a power of two. */
void *grow(void *array, size_t count, size_t size)
{
    return count & (count - 1) ? array : reallocate(array, 2 * count + 1, size);
}

typedef struct { const char *at, *end, *text; size_t size; int number; } Lines;

/* Lines l = {.at = text, .end = text + size}; while (next_line(&l)) sets l.text and l.size to each
 * line without the \n or \r\n that ends it, and l.number to 1, 2, ... */
int next_line(Lines *l)
{
    if (l->at >= l->end) return 0;
    const char *stop = memchr(l->at, '\n', (size_t)(l->end - l->at));
    if (!stop) stop = l->end;
    l->text = l->at, l->size = (size_t)(stop - l->at), l->at = stop + 1, l->number++;
    if (l->size && l->text[l->size - 1] == '\r') l->size--;
    return 1;
}

/* Exclude the white space at both ends of a text. */
void trim(const char **text, size_t *size)
{
    while (*size && isspace((unsigned char)(*text)[*size - 1])) --*size;
    while (*size && isspace((unsigned char)**text)) ++*text, --*size;
}

/* A text that grows. After its last byte there is a zero byte, which size does not count. */
typedef struct { char *bytes; size_t size, capacity; } Text;

void text_add(Text *t, const char *bytes, size_t size)
{
    if (t->size + size >= t->capacity)
        t->bytes = reallocate(t->bytes, t->capacity = 2 * (t->size + size) + 64, 1);
    if (size) memcpy(t->bytes + t->size, bytes, size);
    t->bytes[t->size += size] = 0;
}

/* Append a text that format has made, and free it. */
void text_take(Text *t, char *text)
{
    text_add(t, text, strlen(text));
    free(text);
}
#define text_print(t, ...) text_take(t, format(__VA_ARGS__))

/* ---- reading ---- */

typedef struct {
    FILE *file;
    const char *path;            /* the caller's, for messages */
    size_t size, at;             /* of the file; how much of it has been read */
} Reader;

/* Open a file for reading and describe it in *status. O_NONBLOCK, cleared at once, opens even a
 * named pipe that no program writes to; without it, open would wait, perhaps forever. */
FILE *file_open(const char *path, struct stat *status)
{
    FILE *file = NULL;
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, status) || fcntl(fd, F_SETFL, 0) || !(file = fdopen(fd, "rb")))
        die("%s: cannot be opened: %s", path, strerror(errno));
    return file;
}

/* Open a regular file, whose size is known in advance. Dies if path is anything else. */
Reader reader_open(const char *path)
{
    struct stat status;
    Reader r = {file_open(path, &status), path, 0, 0};
    if (!S_ISREG(status.st_mode)) die("%s: expected a file, found something else", path);
    r.size = (size_t)status.st_size;
    return r;
}

/* Read the next `bytes` bytes; dies if there are not so many. */
void reader_get(Reader *r, void *to, size_t bytes)
{
    size_t left = r->size - r->at;
    if (bytes > left)
        die("%s: the file ends after %zu bytes, %zu more were expected: it is truncated", r->path,
            r->size, bytes - left);
    if (fread(to, 1, bytes, r->file) != bytes)
        die("%s: cannot be read after byte %zu: %s", r->path, r->at,
            ferror(r->file) ? strerror(errno) : "the file became shorter");
    r->at += bytes;
}

void reader_seek(Reader *r, size_t at)
{
    if (at > r->size || fseeko(r->file, (off_t)at, SEEK_SET) != 0)
        die("%s: cannot go to byte %zu of %zu", r->path, at, r->size);
    r->at = at;
}

void reader_close(Reader *r) { fclose(r->file); }

/* Read a header and check its first number. `what` is the kind of file, for messages. */
void reader_header(Reader *r, int32_t header[HEADER], int magic, const char *what)
{
    if (r->size < HEADER * sizeof(int32_t))
        die("%s: expected a %s file, found %zu bytes, too few for its header", r->path, what,
            r->size);
    reader_get(r, header, HEADER * sizeof(int32_t));
    if (header[0] != magic)
        die("%s: expected a %s file (magic number %d), found %d", r->path, what, magic, header[0]);
}

/* All bytes of the file at path ("-": standard input) and a zero byte, in new memory. A pipe is
 * read to its end; a named pipe without a writer is refused. */
char *read_file(const char *path, size_t *size)
{
    struct stat status = {0};
    FILE *file = strcmp(path, "-") ? file_open(path, &status) : stdin;
    char block[1 << 16];
    Text text = {0};
    for (size_t got = 1; got > 0; text_add(&text, block, got))
        got = fread(block, 1, sizeof block, file);
    if (ferror(file)) die("%s: cannot be read: %s", path, strerror(errno));
    if (S_ISFIFO(status.st_mode) && !text.size) die("%s: no program writes to this pipe", path);
    if (file != stdin) fclose(file);
    *size = text.size;
    return text.bytes;
}

/* ---- writing ---- */

/* Begin to write the file at path, under a temporary name that is in use nowhere: it contains the
 * process number, and O_EXCL skips what a dead process of the same number left behind. */
Writer *writer_open(const char *path)
{
    Writer *w = allocate(1, sizeof *w);
    int fd = -1;
    w->path = format("%s", path);
    for (int n = 0; fd < 0 && (n == 0 || errno == EEXIST); n++) {
        free(w->temporary);
        w->temporary = format("%s.%ld.%d.partial", path, (long)getpid(), n);
        fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL, 0666);
    }
    if (fd >= 0) w->next = open_writers, open_writers = w;    /* from here on, die removes it */
    if (fd < 0 || !(w->file = fdopen(fd, "wb")))
        die("%s: cannot be written: %s", path, strerror(errno));
    return w;
}

void writer_put(Writer *w, const void *from, size_t bytes)
{
    if (fwrite(from, 1, bytes, w->file) != bytes)
        die("%s: writing failed: %s", w->path, strerror(errno));
}

/* Append a text that format has made, and free it. */
void writer_take(Writer *w, char *text)
{
    writer_put(w, text, strlen(text));
    free(text);
}
#define writer_print(w, ...) writer_take(w, format(__VA_ARGS__))

/* Give a complete file its real name, in one step, and free its writer. The name is an entry of the
 * folder, so the folder is synced as well, unless its file system cannot do this. */
void writer_rename(Writer *w)
{
    const char *slash = strrchr(w->path, '/');
    char *folder = slash ? format("%.*s", (int)(slash - w->path) + 1, w->path) : format(".");
    Writer **link = &open_writers;
    if (rename(w->temporary, w->path) != 0)
        die("%s: cannot be replaced: %s", w->path, strerror(errno));
    int fd = open(folder, O_RDONLY);
    if (fd >= 0) fsync(fd), close(fd);
    while (*link != w) link = &(*link)->next;
    *link = w->next;
    free(folder), free(w->path), free(w->temporary), free(w);
}

/* Write all bytes to the disk, then rename; in a group, renaming waits for writers_commit. */
void writer_close(Writer *w)
{
    FILE *f = w->file;
    if (ferror(f) || fflush(f) || fsync(fileno(f)) || (w->file = NULL, fclose(f)))
        die("%s: writing failed: %s", w->path, strerror(errno));
    if (!writers_grouped) writer_rename(w);
}

/* Begin a group: files that are useful only together, such as training and validation data. Open
 * last the one without which the others are not used. */
void writers_begin(void) { writers_grouped = 1; }

/* Rename the closed files of the group, after removing the old version of the last one. So an
 * interruption leaves a group without it, never a usable mixture of old and new files. Dies, with
 * all old files in place, if one of them cannot be replaced. */
void writers_commit(void)
{
    struct stat status;
    Writer *last = open_writers;                      /* the list begins with the newest */
    for (Writer *w = last; w; w = w->next) {
        assert(!w->file);
        if (stat(w->path, &status) == 0 && !S_ISREG(status.st_mode))
            die("%s: cannot be replaced: it is not a file", w->path);
    }
    if (last->next && unlink(last->path) != 0 && errno != ENOENT)
        die("%s: cannot be replaced: %s", last->path, strerror(errno));
    while (last->next) writer_rename(last->next);
    writer_rename(last);
    writers_grouped = 0;
}

/* Make a folder and the folders above it, unless they exist. */
void make_folder(const char *path)
{
    struct stat status;
    char *above = format("%s", path);
    for (char *slash = above; (slash = strchr(slash + 1, '/')); *slash = '/')
        *slash = 0, mkdir(above, 0777);               /* a, a/b, ...; errors show below */
    free(above);
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        die("%s: the folder cannot be made: %s", path, strerror(errno));
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode)) die("%s: is not a folder", path);
}

/* Die if another living process has called this for the folder: two programs that write the same
 * files would leave a mixture. The lock ends with the process, however it ends. File systems that
 * cannot lock a folder are used without. */
void folder_lock(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_CLOEXEC);              /* open until the process ends */
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        die("%s: another process writes its results here: wait for its end, or choose another "
            "--out", folder);
}

/* Remove the temporary files of `name` in a locked folder, which killed processes have left. */
void remove_partial(const char *folder, const char *name)
{
    DIR *dir = opendir(folder);
    size_t n = strlen(name);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        const char *end = strrchr(e->d_name, '.');
        if (strncmp(e->d_name, name, n) || e->d_name[n] != '.' || strcmp(end, ".partial")) continue;
        char *path = format("%s/%s", folder, e->d_name);
        unlink(path);
        free(path);
    }
    if (dir) closedir(dir);
}

/* Die unless the disk of a folder has space for `bytes` more. */
void disk_check(const char *folder, double bytes)
{
    struct statvfs disk;
    if (statvfs(folder, &disk) != 0) return;                  /* writing will tell */
    double free_bytes = (double)disk.f_bavail * (double)disk.f_frsize;
    if (bytes > free_bytes)
        die("%s: its disk has %.1f MB free, %.1f MB more are needed for the results and for each "
            "new file beside the old one: free some, or choose another --out", folder,
            free_bytes / 1e6, (bytes - free_bytes) / 1e6);
}

/* ---- options: one table parses, checks and documents them ---- */

typedef struct {
    const char *name;            /* as typed, without the two dashes */
    char kind;                   /* s text, i whole number, f number, ! switch without a value */
    void *value;                 /* const char **, int *, double *, int * */
    const char *initial;         /* as it would be typed; NULL for none */
    double min, max;             /* the range of a number */
    const char *commands;        /* letters of the commands that take it */
    const char *help;
} Option;

/* Store the value that `text` spells. Dies if it is malformed or out of range. */
void option_set(const Option *o, const char *text)
{
    char *end = NULL;
    int whole = o->kind == 'i';
    if (o->kind == 's') { *(const char **)o->value = text; return; }
    if (o->kind == '!') { *(int *)o->value = text != NULL; return; }
    errno = 0;
    double number = strtod(text, &end);
    double min = whole ? fmax(o->min, INT_MIN) : o->min;
    double max = whole ? fmin(o->max, INT_MAX) : o->max;
    if (end == text || *end || errno == ERANGE || isnan(number) ||
        (whole && number != floor(number)))
        die_usage("--%s: expected a %s, found '%s'", o->name, whole ? "whole number" : "number",
                  text);
    if (number < min || number > max)
        die_usage("--%s: expected a number from %g to %g, found '%s'", o->name, min, max, text);
    if (whole) *(int *)o->value = (int)number;
    else *(double *)o->value = number;
}

/* Print `usage` and the options of `command` with their defaults, and exit. */
void options_help(const Option *options, char command, const char *usage)
{
    printf("%s\n", usage);
    for (const Option *o = options; o->name; o++) {
        if (!strchr(o->commands, command)) continue;
        printf("  --%-16s %s", o->name, o->help);
        printf(o->initial && o->kind != '!' ? " (%s)\n" : "\n", o->initial);
    }
    exit(finish_output(0));
}

/* Set every option to its default, then to its last value on the command line. All other words, and
 * those after the word "--", move to the front of argv; returns how many they are. */
int options_parse(const Option *options, char command, const char *usage, int argc, char **argv)
{
    int words = 0, ended = 0;
    for (const Option *o = options; o->name; o++)
        if (o->initial || o->kind == 's' || o->kind == '!') option_set(o, o->initial);
    for (int i = 0; i < argc; i++) {
        if (ended || strncmp(argv[i], "--", 2) != 0) { argv[words++] = argv[i]; continue; }
        char *name = argv[i] + 2;
        size_t length = strcspn(name, "=");
        if ((ended = !*name)) continue;
        if (!strcmp(name, "help")) options_help(options, command, usage);
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

/* ---- a hash map from texts to numbers ---- */

typedef struct { const char *key; size_t size; int64_t value; } MapEntry;
typedef struct { MapEntry *entry; size_t capacity, count; } Map;   /* capacity: a power of 2 */

/* A hash of the bytes, eight at a time. The product carries each bit upwards only; the shift brings
 * the upper half down again. */
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

/* The entry of a key; if the key is not there, the empty entry (key NULL) that it would get. */
MapEntry *map_find(const Map *m, const char *key, size_t size)
{
    for (size_t i = hash_bytes(key, size);; i++) {
        MapEntry *e = &m->entry[i & (m->capacity - 1)];
        if (!e->key || (e->size == size && !memcmp(e->key, key, size))) return e;
    }
}

/* The entry of a key, added with value 0 if it is new; valid until the next call, which may enlarge
 * the map: it is never more than half full. The key is not copied. */
MapEntry *map_enter(Map *m, const char *key, size_t size)
{
    if (2 * m->count >= m->capacity) {
        Map larger = {NULL, m->capacity ? 2 * m->capacity : 16, m->count};
        larger.entry = allocate(larger.capacity, sizeof *larger.entry);
        for (size_t i = 0; i < m->capacity; i++) {
            const MapEntry *e = &m->entry[i];
            if (e->key) *map_find(&larger, e->key, e->size) = *e;
        }
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
 * UTF-8 writes a code point in 1 to 4 bytes. A single byte begins with the bit 0. In a longer
 * sequence the first byte begins with as many 1 bits as there are bytes, the others begin with 10,
 * and the remaining bits, in order, are the number.
 *
 * JSON is read into a tree by recursive descent: one function for each kind of value consumes that
 * value from the front of the text. The reader accepts exactly RFC 8259. Rejected: accepting what
 * is almost right; the model would learn the misreading.
 * All decoded strings stand in one piece of memory, behind the root.
 */

/* The length of the code point at text, and its number; 0 if the bytes are not UTF-8: cut short,
 * longer than necessary, half of a surrogate pair, or above U+10FFFF. */
static inline size_t utf8_decode(const char *text, size_t size, uint32_t *code_point)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *s = (const unsigned char *)text;
    if (size == 0) return 0;
    uint32_t c = *code_point = s[0];
    if (c < 0x80) return 1;
    size_t length = c < 0xC0 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF8 ? 4 : 0;
    if (length == 0 || length > size) return 0;
    c &= 0x7Fu >> length;
    for (size_t i = 1; i < length; c = c << 6 | (s[i++] & 0x3Fu))
        if ((s[i] & 0xC0) != 0x80) return 0;
    *code_point = c;
    return c < least[length] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000) ? 0 : length;
}

/* The length of the code point at text; 0 if the bytes are not UTF-8. */
size_t utf8_length(const char *text, size_t size)
{
    return utf8_decode(text, size, &(uint32_t){0});
}

/* Write code point c at `to`, in 1 to 4 bytes; returns how many. */
size_t utf8_encode(char *to, uint32_t c)
{
    size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, c >>= 6) to[i] = (char)(0x80 | (c & 0x3F));
    to[0] = (char)(length == 1 ? c : 0xF00u >> length | c);
    return length;
}

/* Write a text so that a terminal obeys nothing in it: the bytes of control characters other than
 * newline and tab, and bytes that are not UTF-8, become \x and two digits. A character that is cut
 * off at the end is not UTF-8. */
void print_plain(FILE *file, const char *text, size_t size)
{
    uint32_t c;
    for (const char *end = text + size, *stop; text < end; text = stop) {
        size_t length = utf8_decode(text, (size_t)(end - text), &c);
        int plain = length && (c == '\n' || c == '\t' || (c >= ' ' && c < 0x7F) || c > 0x9F);
        stop = text + (length ? length : 1);
        if (plain) fwrite(text, 1, length, file);
        else while (text < stop) fprintf(file, "\\x%02x", (unsigned char)*text++);
    }
}

/* Replace the control characters of a name from a file, which in a message could end the line or
 * command the terminal. Returns the name. */
const char *shown(char *name)
{
    for (char *c = name; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7F) *c = '?';
        else if (*c == '\xC2' && (unsigned char)c[1] < 0xA0) *c = '?';      /* U+0080 to U+009F */
    return name;
}

typedef struct Json {
    char type;                   /* '{' '[' '"' '0' (a number) 't' 'f' 'n' */
    int line, column;            /* where it begins, from 1; a column is a byte */
    char *key;                   /* of a member of an object: decoded, a zero byte after it */
    size_t key_size;
    char *text;                  /* '"': decoded, '0': as written; a zero byte after it */
    size_t size;                 /* of text */
    double number;               /* '0' */
    size_t count;                /* '{' '[': how many members */
    struct Json *child, *next;   /* first member; next member of the same array or object */
} Json;

/* The tree of a text may take JSON_MEMORY and 5 times the bytes of the text. A value, perhaps only
 * "0,", takes a node, and an open object takes the map that finds repeated keys: one and a half
 * entries a slot while it grows. With the strings, and the text, of which read_file takes twice the
 * size, this is 8 times the file. A vocabulary of 65,536 tokens with its merges needs 26 MB. */
enum { JSON_MEMORY = 32 << 20, SLOT_MEMORY = 3 * sizeof(MapEntry) / 2 };

typedef struct {
    const char *at, *end, *line_start;
    int line, depth;             /* depth: brackets that are open */
    size_t left;                 /* bytes that the tree may still take */
    char *error;                 /* receives the message */
    size_t error_size;
    char *to;                    /* the next free byte for strings */
} JsonReader;

/* The next byte; at the end 0, with which no value of JSON begins. */
int json_peek(const JsonReader *r) { return r->at < r->end ? (unsigned char)*r->at : 0; }

/* Consume the next byte if it is c; returns whether it was. */
int json_take(JsonReader *r, int c) { return json_peek(r) == c ? r->at++, 1 : 0; }

/* Write the message that something else was expected here. Returns 0; below, 1 means success. */
int json_fail(JsonReader *r, const char *expected)
{
    char found[16] = "the end";
    int c = json_peek(r);
    if (r->at < r->end) snprintf(found, sizeof found, c > 32 && c < 127 ? "'%c'" : "byte %d", c);
    snprintf(r->error, r->error_size, "line %d, column %d: expected %s, found %s", r->line,
             (int)(r->at - r->line_start) + 1, expected, found);
    return 0;
}

/* Take bytes for the tree. */
int json_memory(JsonReader *r, size_t bytes)
{
    if (r->left < bytes)
        return json_fail(r, "a text whose values need at most 32 MB and 8 times its size");
    return r->left -= bytes, 1;
}

void json_space(JsonReader *r)
{
    for (int c; (c = json_peek(r)) == ' ' || c == '\t' || c == '\n' || c == '\r';) {
        r->at++;
        if (c == '\n') r->line++, r->line_start = r->at;
    }
}

/* Read the uXXXX of \uXXXX. */
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

/* Read what follows a backslash. A code point above U+FFFF is written as two units, each with ten
 * of its bits: a high surrogate, D800 to DBFF, and a low one, DC00 to DFFF. */
int json_escape(JsonReader *r)
{
    static const char name[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    const char *simple = json_peek(r) ? strchr(name, json_peek(r)) : NULL;
    uint32_t c = 0, low = 0;
    if (simple) return *r->to++ = meaning[simple - name], r->at++, 1;
    if (!json_unit(r, &c)) return 0;
    if (c >= 0xDC00 && c < 0xE000) return json_fail(r, "a high surrogate before a low one");
    if (c >= 0xD800 && c < 0xDC00) {
        const char *begin = r->at;
        if (!json_take(r, '\\') || !json_unit(r, &low) || low < 0xDC00 || low >= 0xE000)
            return r->at = begin, json_fail(r, "a low surrogate after a high one");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    r->to += utf8_encode(r->to, c);
    return 1;
}

/* Read a string that begins here with its quote. Decoded, with its zero byte, it is shorter. */
int json_string(JsonReader *r, char **text, size_t *size)
{
    *text = r->to;
    r->at++;
    while (!json_take(r, '"')) {
        size_t length = utf8_length(r->at, (size_t)(r->end - r->at));
        if (r->at == r->end) return json_fail(r, "a closing quote");
        if (length == 0) return json_fail(r, "valid UTF-8");
        if (json_peek(r) < 0x20) return json_fail(r, "an escape for a control character");
        if (!json_take(r, '\\')) while (length--) *r->to++ = *r->at++;
        else if (!json_escape(r)) return 0;
    }
    *size = (size_t)(r->to++ - *text);                /* the zero byte is there already */
    return 1;
}

int json_digits(JsonReader *r)
{
    const char *begin = r->at;
    while (isdigit(json_peek(r))) r->at++;
    return r->at > begin || json_fail(r, "a digit");
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
    value->text = memcpy(r->to, begin, value->size);
    r->to += value->size + 1;                         /* the zero byte is there already */
    value->number = strtod(value->text, NULL);
    return isfinite(value->number) || json_fail(r, "a number below 1.8e308 before this");
}

int json_value(JsonReader *r, Json *value);

/* Read the key of a member and the colon; `keys` has the keys before it. */
int json_key(JsonReader *r, Json *member, Map *keys)
{
    const char *begin = r->at;
    if (json_peek(r) != '"') return json_fail(r, "a key in double quotes");
    size_t more = 2 * keys->count < keys->capacity ? 0 : keys->capacity ? keys->capacity : 16;
    if (!json_memory(r, more * SLOT_MEMORY)) return 0;             /* map_enter adds these slots */
    if (!json_string(r, &member->key, &member->key_size)) return 0;
    if (map_enter(keys, member->key, member->key_size)->value++)
        return r->at = begin, json_fail(r, "each key once, this one is there already");
    json_space(r);
    return json_take(r, ':') || json_fail(r, "':'");
}

/* Read an array or object that begins here with its bracket. */
int json_members(JsonReader *r, Json *value)
{
    int object = value->type == '{', close = object ? '}' : ']', good = 1;
    Json **link = &value->child;
    Map keys = {0};
    if (r->depth++ == 64) return json_fail(r, "at most 64 brackets inside each other");
    r->at++;
    json_space(r);
    for (int more = json_peek(r) != close; more && good; more = good && json_take(r, ',')) {
        Json *member = *link = allocate(1, sizeof *member);
        json_space(r);
        good = (!object || json_key(r, member, &keys)) && json_value(r, member);
        link = &member->next;
        value->count++;
        json_space(r);
    }
    if (good) good = json_take(r, close) || json_fail(r, object ? "',' or '}'" : "',' or ']'");
    free(keys.entry);
    r->left += keys.capacity * SLOT_MEMORY;
    r->depth--;
    return good;
}

/* Read any value into a node that is zero but for its key. */
int json_value(JsonReader *r, Json *value)
{
    static const char *const words[] = {"true", "false", "null"};
    json_space(r);
    int c = json_peek(r);
    if (!json_memory(r, sizeof *value)) return 0;
    value->type = (char)(c == '-' || isdigit(c) ? '0' : c);
    value->line = r->line;
    value->column = (int)(r->at - r->line_start) + 1;
    if (c == '{' || c == '[') return json_members(r, value);
    if (c == '"') return json_string(r, &value->text, &value->size);
    if (value->type == '0') return json_number(r, value);
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(words[i]), left = (size_t)(r->end - r->at);
        if (left >= length && !memcmp(r->at, words[i], length)) return r->at += length, 1;
    }
    return json_fail(r, "a value");
}

/* Free a tree, and those whose roots the caller has linked to its root by `next`. */
void json_free(Json *root)
{
    for (Json *next; root; root = next) next = root->next, json_free(root->child), free(root);
}

/* The tree of the value that the whole text is. If it is none, returns NULL and writes to `error`
 * "line L, column C: expected ..., found ...". */
Json *json_parse(const char *text, size_t size, char *error, size_t error_size)
{
    Json *root = allocate(1, sizeof *root + size + 1);
    JsonReader r = {text, text + size, text, 1, 0, JSON_MEMORY + 5 * size, error, error_size,
                    (char *)(root + 1)};
    int good = json_value(&r, root);
    if (good) json_space(&r);
    if (good && (r.at == r.end || json_fail(&r, "nothing more"))) return root;
    json_free(root);
    return NULL;
}

/* The member of that name; NULL if there is none or this is no object. */
Json *json_get(const Json *object, const char *key)
{
    Json *m = object && object->type == '{' ? object->child : NULL;
    while (m && (m->key_size != strlen(key) || memcmp(m->key, key, m->key_size))) m = m->next;
    return m;
}

/* Write a text as a JSON string, in quotes. Bytes that are not UTF-8 become U+FFFD; all control
 * characters are escaped, also those that JSON allows, since a terminal may obey them. */
void json_write_string(FILE *file, const char *text, size_t size)
{
    fputc('"', file);
    for (size_t i = 0, length; i < size; i += length ? length : 1) {
        unsigned char c = (unsigned char)text[i];
        length = utf8_length(text + i, size - i);
        if (length == 0) fputs("\xEF\xBF\xBD", file);
        else if (c == '"' || c == '\\') fprintf(file, "\\%c", c);
        else if (c == '\n') fputs("\\n", file);
        else if (c < 0x20 || c == 0x7F) fprintf(file, "\\u%04x", c);
        else if (c == 0xC2 && (unsigned char)text[i + 1] < 0xA0)
            fprintf(file, "\\u%04x", (unsigned char)text[i + 1]);
        else fwrite(text + i, 1, length, file);
    }
    fputc('"', file);
}

/* ================================================================================================
 * 3. Unicode
 *
 * The split asks of a code point whether it is a letter (general category L), a number (N), white
 * space, or something else. The 800 ranges of the first three in Unicode 16.0 are stored as lengths
 * of runs: not a letter, letters, not a letter, ... A length is written in base 26; its last digit
 * is a small letter, the ones before are capitals: c is 2, Bc is 28.
 * Rejected: the ranges as numbers, which would take 200 lines.
 */

const char *const class_runs[] = {NULL,               /* OTHER, LETTER, NUMBER, SPACE */
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
    "XyDQwUwCFyHHzfGFg",
    "BwkEqcfbcdCDlkFekHqkPwkEokegEekEokEokcgEgnElkihDzkEahhtEfkDskEokCsuKikCskBBruBHxdJfkgkwkLokEyl"
    "GjkgkHakDikFekgkBOgbdggkHqBzcfBByCiDawYgBeCBhbBDxbzjodNfeFikBeibpBgkBnpBRSakHgkMigFykBmkHqkwkD"
    "ikPqkBFMckSzBtmCfrcNdBbBkeBdbibFefHukBKgizhBnjCxfwgGeccqcBuCmjCacBedCxfEaiyiBphMsgBwkgkKsBfGck"
    "BqeEihFeBeEykCikFokhuJrkNekEokOkkDykguCymQetDpkZmkDiBdItkCskQgkDyvBPbEhXAfkDMckDikFekbhUgkKcxB"
    "JSzkCEwumuEezBQrByDNckQgkTikJnkBBojEykBElChbdbeCyBtbpBLanEDfk",
    "jfsbDwbBabIHjbDPnlBdcfbBvbFXwb"};

enum { OTHER, LETTER, NUMBER, SPACE };
unsigned char unicode_class[0x110000];   /* by code point; filled by unicode_begin */

/* Fill the table: of each class, the second, fourth, ... run. */
void unicode_begin(void)
{
    for (int class = LETTER; class <= SPACE; class++) {
        size_t at = 0, length = 0;
        int inside = 0;
        for (const char *c = class_runs[class]; *c; c++) {
            length = length * 26 + (size_t)(*c - (*c >= 'a' ? 'a' : 'A'));
            if (*c < 'a') continue;
            if (inside) memset(unicode_class + at, class, length);
            at += length, length = 0, inside = !inside;
        }
    }
}

/* ================================================================================================
 * 4. Splitting
 *
 * A text is first split into pretokens; no token extends over the border of two. At each position
 * the first of these alternatives that matches gives the pretoken [Radford et al. 2019]:
 *
 *     's|'t|'re|'ve|'m|'ll|'d      the ends of English contractions
 *     | ?\p{L}+| ?\p{N}+           letters, or numbers, and one space before them if there is one
 *     | ?[^\s\p{L}\p{N}]+          other characters, likewise
 *     |\s+(?!\S)                   white space, without the last if something else follows
 *     |\s+                         white space
 *
 * A byte that is not UTF-8 counts as another character, so any file can be encoded.
 * Rejected: an interpreter of patterns, which would be ten times as long and as slow.
 */

/* The class of the code point at text, which is not empty, and its length in bytes. */
static inline int class_at(const char *text, size_t size, size_t *length)
{
    uint32_t c = (unsigned char)*text;
    *length = 1;
    if (c < 0x80 || (*length = utf8_decode(text, size, &c))) return unicode_class[c];
    *length = 1;
    return OTHER;
}

/* The length in bytes of the first pretoken of a text that is not empty. */
static inline size_t pretoken_length(const char *text, size_t size)
{
    size_t end, length, last = 0;                     /* last: where the last code point begins */
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
 * A vocabulary has a token for each of the 256 bytes, and tokens that are merges of two earlier
 * ones; the more frequent have the lower ids. To encode a pretoken, begin with its bytes as tokens.
 * While two neighbours together spell a token, merge those that spell the token with the lowest id;
 * if there are several, the leftmost. This needs the spellings only, not a list of merges.
 *
 * The possible merges wait in a heap, so n bytes take time n log n; a pretoken may have a megabyte.
 * A cache keeps the tokens of recent pretokens: words repeat. Where they do not, as in Chinese, the
 * time goes into looking up pairs that spell no token. A filter [Bloom 1970] answers most of these:
 * one bit for each of 2^20 hash values, 1 if a token has it, is 128 KB in place of a map of 3 MB.
 */

/* ---- a heap: the entry with the lowest rank comes out first, of equals the lowest tie ---- */

typedef struct { int64_t rank, tie, item; } HeapEntry;
typedef struct { HeapEntry *entry; size_t count, capacity; } Heap;

static inline int heap_before(const HeapEntry *a, const HeapEntry *b)
{
    return a->rank < b->rank || (a->rank == b->rank && a->tie < b->tie);
}

void heap_push(Heap *h, HeapEntry new)
{
    if (h->count == h->capacity)
        h->entry = reallocate(h->entry, h->capacity = 2 * h->count + 64, sizeof *h->entry);
    size_t i = h->count++;
    for (size_t up; i > 0 && heap_before(&new, &h->entry[up = (i - 1) / 2]); i = up)
        h->entry[i] = h->entry[up];
    h->entry[i] = new;
}

/* Take the first entry out; returns 0 if the heap is empty. */
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
       CACHE_SLOTS = 1 << 16, CACHE_BYTES = 46, CACHE_IDS = 20, FILTER = 1 << 20 };

typedef struct {                 /* 128 bytes, two lines of the processor's cache */
    unsigned char size, count;   /* bytes of the pretoken, number of its tokens */
    char bytes[CACHE_BYTES];
    int32_t ids[CACHE_IDS];
} CachedPretoken;

/* A pretoken that is being encoded. A token from byte i to byte j has its id at at[i].first and at
 * at[j].last, so its neighbours are found; where no token begins, first is -1. */
typedef struct {
    const char *pretoken;
    size_t size, capacity;       /* of the pretoken; of at */
    struct { int32_t first, last; } *at;              /* (size + 1) */
    int32_t limit;               /* only ids below it are used */
    Heap heap;                   /* possible merges: rank = id of the result, tie = first byte */
} Merging;

typedef struct Tokenizer {
    int count, end_of_text;      /* number of tokens; id of the one that separates documents */
    size_t *start;               /* (count + 1): token i is bytes start[i] to start[i+1] of */
    char *bytes;                 /* all spellings, one after the other */
    Map ids;                     /* id + 1 by spelling */
    int32_t of_byte[256];        /* id of the token that is this byte */
    uint64_t *filter;            /* (FILTER / 64): bit h is 1 if a spelling has hash h */
    CachedPretoken *cache;       /* (CACHE_SLOTS) */
    Merging *merging;            /* its memory is used again for each pretoken */
} Tokenizer;

static inline size_t token_size(const Tokenizer *t, int id)
{
    return t->start[id + 1] - t->start[id];
}

/* The bytes that a token spells, and their number. Dies if there is no token `id`. */
const char *tokenizer_bytes(const Tokenizer *t, int id, int *size)
{
    if (id < 0 || id >= t->count)
        die("token %d is outside the vocabulary of %d tokens", id, t->count);
    *size = (int)token_size(t, id);
    return t->bytes + t->start[id];
}

/* An empty vocabulary. Then call tokenizer_add for ids 0, 1, ... and tokenizer_index at the end. */
Tokenizer *tokenizer_new(void)
{
    Tokenizer *t = allocate(1, sizeof *t);
    t->start = allocate(1, sizeof *t->start);
    t->filter = allocate(FILTER / 64, sizeof *t->filter);
    t->cache = allocate(CACHE_SLOTS, sizeof *t->cache);
    t->merging = allocate(1, sizeof *t->merging);
    if (!unicode_class['a']) unicode_begin();
    return t;
}

/* Add the token with the next id. */
void tokenizer_add(Tokenizer *t, const char *bytes, size_t size)
{
    size_t n = (size_t)t->count, used = t->start[n];
    assert(size > 0 && size <= TOKEN_BYTES);
    t->start = grow(t->start, n + 1, sizeof *t->start);
    t->bytes = grow(t->bytes, n, TOKEN_BYTES);
    memcpy(t->bytes + used, bytes, size);
    t->start[++t->count] = used + size;
}

/* Make the vocabulary ready to encode; returns 0 if a byte has no token. Text never becomes the end
 * of text, nor the second of two tokens with one spelling. */
int tokenizer_index(Tokenizer *t)
{
    for (int id = 0; id < t->count; id++) {
        if (id == t->end_of_text) continue;
        MapEntry *e = map_enter(&t->ids, t->bytes + t->start[id], token_size(t, id));
        size_t hash = hash_bytes(e->key, e->size) % FILTER;
        t->filter[hash / 64] |= UINT64_C(1) << hash % 64;
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
    free(t->start), free(t->bytes), free(t->ids.entry), free(t->filter), free(t->cache);
    free(t->merging->at), free(t->merging->heap.entry), free(t->merging), free(t);
}

/* Read llm.c's file: a header {magic, version, count, end of text}, then for each token its length,
 * one byte, and its bytes. Version 1 is GPT-2's and does not name the end of text. */
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

/* Write that file. */
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

/* If the token at byte i and the next one together spell a token, put this merge into the heap. */
static inline void merge_offer(const Tokenizer *t, Merging *m, size_t i)
{
    size_t middle = i + token_size(t, m->at[i].first);
    if (middle == m->size) return;
    size_t size = middle + token_size(t, m->at[middle].first) - i;
    size_t hash = hash_bytes(m->pretoken + i, size) % FILTER;
    if (!(t->filter[hash / 64] >> hash % 64 & 1)) return;
    int64_t id = map_find(&t->ids, m->pretoken + i, size)->value - 1;
    if (id >= 0 && id < m->limit) heap_push(&m->heap, (HeapEntry){id, (int64_t)i, 0});
}

/* Write the tokens of a pretoken, all below `limit`, to ids (at most `size`); returns how many. */
size_t pretoken_encode(const Tokenizer *t, int32_t *ids, const char *pretoken, size_t size,
                       int limit)
{
    Merging *m = t->merging;
    HeapEntry best;
    size_t count = 0;
    if (size >= m->capacity)
        m->at = reallocate(m->at, m->capacity = 2 * size + 64, sizeof *m->at);
    m->pretoken = pretoken, m->size = size, m->limit = limit;
    for (size_t i = 0; i < size; i++)
        m->at[i].first = m->at[i + 1].last = t->of_byte[(unsigned char)pretoken[i]];
    for (size_t i = 0; i < size; i++) merge_offer(t, m, i);
    while (heap_pop(&m->heap, &best)) {
        size_t i = (size_t)best.tie, end = i + token_size(t, (int)best.rank);
        if (m->at[i].first < 0) continue;             /* another merge took one of the two */
        size_t middle = i + token_size(t, m->at[i].first);
        if (middle >= end || middle + token_size(t, m->at[middle].first) != end) continue;
        m->at[middle].first = -1;
        m->at[i].first = m->at[end].last = (int32_t)best.rank;
        merge_offer(t, m, i);
        if (i > 0) merge_offer(t, m, i - token_size(t, m->at[i].last));
    }
    for (size_t i = 0; i < size; i += token_size(t, m->at[i].first)) ids[count++] = m->at[i].first;
    return count;
}

/* Write the tokens of a text, none of them special, to ids(size + CACHE_IDS); returns how many. A
 * pretoken's hash chooses its slot in the cache. A hit copies all CACHE_IDS ids, which is faster
 * than copying a variable number. */
size_t text_encode(Tokenizer *t, int32_t *ids, const char *text, size_t size)
{
    int32_t *begin = ids;
    for (size_t n, count; size > 0; text += n, size -= n, ids += count) {
        n = pretoken_length(text, size);
        CachedPretoken *c = &t->cache[hash_bytes(text, n) % CACHE_SLOTS];
        if (c->size == n && !memcmp(c->bytes, text, n)) {
            memcpy(ids, c->ids, sizeof c->ids);
            count = c->count;
            continue;
        }
        count = pretoken_encode(t, ids, text, n, t->count);
        if (n > CACHE_BYTES || count > CACHE_IDS) continue;
        c->size = (unsigned char)n, c->count = (unsigned char)count;
        memcpy(c->bytes, text, n);
        memcpy(c->ids, ids, count * sizeof *ids);
    }
    return (size_t)(ids - begin);
}

/* The tokens of any bytes, in new memory, and their number. With parse_special the spelling of the
 * end of text becomes its token; without, it is like other text. */
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

/* Find the two tokens that token `id` was merged from, by encoding its bytes with the tokens before
 * it. Returns 0 if it is a single byte or special. */
int tokenizer_merge(const Tokenizer *t, int id, int *left, int *right)
{
    int32_t ids[TOKEN_BYTES];
    int size;
    const char *bytes = tokenizer_bytes(t, id, &size);
    if (id == t->end_of_text || pretoken_encode(t, ids, bytes, (size_t)size, id) != 2) return 0;
    *left = ids[0], *right = ids[1];
    return 1;
}

/* The code point that stands for a byte in GPT-2's vocab.json and merges.txt: the byte itself if it
 * is visible in Latin-1, otherwise the next free one from U+0100 on. */
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
 * Begin with the bytes. Repeatedly make a token of the pair of neighbours that occurs most often
 * [Sennrich et al. 2016]; of equals, the one with the lower left id, then the lower right id. Each
 * different pretoken is kept once, with its number of occurrences as a weight.
 *
 * Each pair has a list of its occurrences, named by the byte at which they begin. A merge visits
 * only these, and updates the pairs to the left and to the right. What a merge has destroyed stays
 * in its list and is skipped; it never comes back, since tokens only grow. Rejected: counting all
 * pairs again for every token, which would take hours.
 *
 * The lists are in the order of the text, so in "aaa" the left two are merged, as in encoding. The
 * merge that makes the later token of a pair counts it; then its count only falls. So a count in
 * the heap is an upper bound, which is checked when it comes out.
 */

typedef struct {
    size_t size;                 /* bytes that it spells */
    int64_t ids, count;          /* left id << 32 | right id; its occurrences, weighted */
    int64_t *list;               /* where it begins, or has begun */
    size_t listed;
} Pair;

typedef struct {                 /* what begins or ends at a byte of the text */
    int32_t first, last;         /* as in Merging; -1 also outside of all pretokens */
    int64_t weight;              /* how often the pretoken occurs */
} Place;

typedef struct {
    Tokenizer *t;
    char *text;                  /* the different pretokens, a zero byte after each */
    Place *at;                   /* one for each byte of text */
    Pair *pair;
    size_t pairs;
    Map by_spelling;             /* number of a pair + 1 */
    Heap heap;                   /* of pairs: rank = -count, tie = ids, item = number */
    size_t offered;              /* pairs that have been put into the heap */
} Learner;

/* Count the different pretokens of a text, without the END_OF_TEXT between its documents. Returns
 * their size, with a byte more for each. */
size_t pretokens_count(Map *pretokens, const char *text, size_t size)
{
    size_t total = 0;
    for (const char *end = text + size, *stop; text < end;) {
        stop = memmem(text, (size_t)(end - text), END_OF_TEXT, END_OF_TEXT_SIZE);
        for (size_t n, left; (left = (size_t)((stop ? stop : end) - text)) > 0; text += n) {
            n = pretoken_length(text, left);
            if (map_enter(pretokens, text, n)->value++ == 0) total += n + 1;
        }
        if (stop) text += END_OF_TEXT_SIZE;
    }
    return total;
}

/* If a pair begins at byte i, count and list this occurrence (sign 1) or count it no longer (-1). A
 * spelling names one pair only: everywhere the same merges have led to the same two tokens. */
void occurrence_count(Learner *l, int64_t i, int sign)
{
    const Place *at = &l->at[i];
    size_t left = token_size(l->t, at->first);
    int32_t right = at[left].first;
    size_t size = right < 0 ? 0 : left + token_size(l->t, right);
    if (size == 0 || size > TOKEN_BYTES) return;
    MapEntry *e = map_enter(&l->by_spelling, l->text + i, size);
    if (e->value == 0) {
        l->pair = grow(l->pair, l->pairs, sizeof *l->pair);
        l->pair[l->pairs++] = (Pair){size, (int64_t)at->first << 32 | right, 0, NULL, 0};
        e->value = (int64_t)l->pairs;
    }
    Pair *pair = &l->pair[e->value - 1];
    pair->count += sign * at->weight;
    if (sign < 0) return;
    pair->list = grow(pair->list, pair->listed, sizeof *pair->list);
    pair->list[pair->listed++] = i;
}

/* Write the different pretokens, of this total size, as tokens of one byte, and enter all pairs. */
void learner_begin(Learner *l, const Map *pretokens, size_t size)
{
    l->text = allocate(size, 1);
    l->at = allocate(size, sizeof *l->at);
    for (size_t i = 0; i < size; i++) l->at[i] = (Place){-1, -1, 0};
    for (size_t k = 0, at = 0, stop; k < pretokens->capacity; k++) {
        const MapEntry *e = &pretokens->entry[k];
        if (!e->key) continue;
        memcpy(l->text + at, e->key, e->size);
        stop = at + e->size;
        for (size_t i = at; i < stop; i++) {
            l->at[i].weight = e->value;
            l->at[i].first = l->at[i + 1].last = l->t->of_byte[(unsigned char)l->text[i]];
        }
        for (; at < stop; at++) occurrence_count(l, (int64_t)at, 1);
        at++;
    }
}

/* Put new pairs into the heap, then take out the pair that occurs most often; its number, or -1 if
 * no pair is left. */
int64_t learner_best(Learner *l)
{
    HeapEntry best;
    for (size_t k; (k = l->offered) < l->pairs; l->offered++)
        heap_push(&l->heap, (HeapEntry){-l->pair[k].count, l->pair[k].ids, (int64_t)k});
    while (heap_pop(&l->heap, &best)) {
        int64_t count = l->pair[best.item].count;
        assert(count <= -best.rank);
        if (count == -best.rank && count > 0) return best.item;
        best.rank = -count;
        if (count > 0) heap_push(&l->heap, best);
    }
    return -1;
}

/* Replace all occurrences of pair k by token `id`. */
void learner_merge(Learner *l, int64_t k, int32_t id)
{
    const Pair pair = l->pair[k];                     /* a copy: new pairs may move the array */
    int32_t left = (int32_t)(pair.ids >> 32), right = (int32_t)pair.ids;
    int64_t middle = (int64_t)token_size(l->t, left);
    for (size_t n = 0; n < pair.listed; n++) {
        int64_t i = pair.list[n], before = 0;
        Place *at = &l->at[i];
        if (at->first != left || at[middle].first != right) continue;
        if (at->last >= 0) before = (int64_t)token_size(l->t, at->last);
        if (before > 0) occurrence_count(l, i - before, -1);
        occurrence_count(l, i, -1);
        occurrence_count(l, i + middle, -1);
        at[middle].first = -1;
        at->first = at[pair.size].last = id;
        if (before > 0) occurrence_count(l, i - before, 1);
        occurrence_count(l, i, 1);
    }
}

/* Add the 256 bytes in GPT-2's order: first those that are visible in Latin-1, then the others. */
void add_bytes(Tokenizer *t)
{
    for (int hidden = 0; hidden < 2; hidden++)
        for (int b = 0; b < 256; b++) {
            if ((tokenizer_byte_code_point(b) != b) != hidden) continue;
            t->of_byte[b] = t->count;
            tokenizer_add(t, &(char){(char)b}, 1);
        }
}

/* Learn a vocabulary of `count` tokens, at least 257: the bytes, merges, the end of text. Dies if
 * the text has too few pairs. */
Tokenizer *tokenizer_train(const char *text, size_t size, int count)
{
    Tokenizer *t = tokenizer_new();
    Learner l = {.t = t};
    Map pretokens = {0};
    add_bytes(t);
    learner_begin(&l, &pretokens, pretokens_count(&pretokens, text, size));
    free(pretokens.entry);
    while (t->count < count - 1) {
        int64_t k = learner_best(&l);
        if (k < 0) die("expected text with enough pairs for %d tokens, found enough for %d", count,
                       t->count + 1);
        tokenizer_add(t, l.text + *l.pair[k].list, l.pair[k].size);
        learner_merge(&l, k, t->count - 1);
    }
    for (size_t k = 0; k < l.pairs; k++) free(l.pair[k].list);
    free(l.text), free(l.at), free(l.pair), free(l.by_spelling.entry), free(l.heap.entry);
    t->end_of_text = t->count;
    tokenizer_add(t, END_OF_TEXT, END_OF_TEXT_SIZE);
    tokenizer_index(t);
    return t;
}

#ifndef NO_MAIN_TOKENIZER
/* ================================================================================================
 * 7. Command line
 */

const char *tokenizer_path, *out_path, *sample_path;
int as_json, parse_special, vocabulary;

const Option options[] = {
    {"tokenizer", 's', &tokenizer_path, "data/gpt2_tokenizer.bin", 0, 0, "edi", "vocabulary"},
    {"special", '!', &parse_special, NULL, 0, 0, "e", "read " END_OF_TEXT " as the token"},
    {"json", '!', &as_json, NULL, 0, 0, "e", "a JSON string on each line"},
    {"vocab", 'i', &vocabulary, "4096", 257, 1 << 24, "t", "how many tokens to make"},
    {"out", 's', &out_path, NULL, 0, 0, "t", "file to write"},
    {"file", 's', &sample_path, NULL, 0, 0, "i", "text to encode as a trial"},
    {0}
};

const char usage[] =
    "usage: ./tokenizer encode [FILE]                     text to ids, on one line\n"
    "       ./tokenizer encode --json [FILE]              each line, a JSON string, to a line\n"
    "       ./tokenizer decode [FILE]                     ids to text\n"
    "       ./tokenizer train FILE... --vocab N --out F   make a vocabulary from text\n"
    "       ./tokenizer info                              describe a vocabulary\n"
    "No FILE, or -, is standard input. ./tokenizer COMMAND --help lists the options.";

/* Print the tokens of a text on one line. */
void print_ids(Tokenizer *t, const char *text, size_t size)
{
    size_t count;
    int32_t *ids = tokenizer_encode(t, text, size, parse_special, &count);
    for (size_t i = 0; i < count; i++) printf(i ? " %d" : "%d", ids[i]);
    putchar('\n');
    free(ids);
}

/* encode: print the tokens of a file, or of each of its lines. */
void command_encode(Tokenizer *t, const char *path)
{
    size_t size;
    char *text = read_file(path, &size), error[160];
    Lines l = {.at = text, .end = text + size};
    if (!as_json) print_ids(t, text, size);
    while (as_json && next_line(&l)) {
        Json *json = json_parse(l.text, l.size, error, sizeof error);
        if (!json) die("%s: line %d, %s", path, l.number, strstr(error, "column"));
        if (json->type != '"')
            die("%s: line %d, column %d: expected a string", path, l.number, json->column);
        print_ids(t, json->text, json->size);
        json_free(json);
    }
    free(text);
}

/* decode: print the text of the ids in a file; its exact bytes, unless they go to a terminal. */
void command_decode(Tokenizer *t, const char *path)
{
    const char *space = " \t\r\n";
    size_t size, number = 1;
    char *ids = read_file(path, &size), *at = ids, *end;
    Text text = {0};
    text_add(&text, "", 0);                           /* print_plain may not get NULL */
    for (; at += strspn(at, space), at < ids + size; at = end, number++) {
        long id = strtol(at, &end, 10);
        size_t length = strcspn(at, space);
        if (length == 0 || end != at + length || id < 0 || id >= t->count)
            die("%s: expected a token from 0 to %d as number %zu, found '%.*s'", path,
                t->count - 1, number, length < 40 ? (int)length : 40, at);
        text_add(&text, t->bytes + t->start[id], token_size(t, (int)id));
    }
    if (isatty(STDOUT_FILENO)) print_plain(stdout, text.bytes, text.size);
    else fwrite(text.bytes, 1, text.size, stdout);
    free(ids), free(text.bytes);
}

/* train: make a vocabulary from files, each of which is one document or several. */
void command_train(int files, char **paths)
{
    Text all = {0};
    size_t size;
    if (files == 0) die_usage("train: expected a file of text");
    if (!out_path) die_usage("train: expected --out and the file to write");
    for (int i = 0; i < files; i++) {
        char *text = read_file(paths[i], &size);
        text_add(&all, text, size);
        text_add(&all, END_OF_TEXT, END_OF_TEXT_SIZE);
        free(text);
    }
    Tokenizer *t = tokenizer_train(all.bytes, all.size, vocabulary);
    tokenizer_write(t, out_path);
    printf("%s: %d tokens from %.1f MB of text\n", out_path, t->count, (double)all.size / 1e6);
    tokenizer_free(t);
    free(all.bytes);
}

/* info: print some tokens of a vocabulary, and how well and how fast it encodes a text. */
void command_info(Tokenizer *t)
{
    printf("%s: %d tokens; the end of text is %d\n", tokenizer_path, t->count, t->end_of_text);
    for (int i = 0; i < 10; i++) {
        int id = (int)((int64_t)t->count * i / 10);
        printf("  %8d  ", id);
        json_write_string(stdout, t->bytes + t->start[id], token_size(t, id));
        putchar('\n');
    }
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
    const char *name = argc > 1 ? argv[1] : "--help";
    char **words = argv + 2, command = *name;
    int k = 0;
    if (!strcmp(name, "--help")) {
        fprintf(argc < 2 ? stderr : stdout, "%s\n", usage);
        return finish_output(argc < 2 ? 2 : 0);
    }
    while (k < 4 && strcmp(name, names[k])) k++;
    if (k == 4) die_usage("unknown command '%s'; ./tokenizer --help lists them", name);
    int count = options_parse(options, command, usage, argc - 2, words), most = command != 'i';
    if (command == 't') return command_train(count, words), finish_output(0);
    if (count > most) die_usage("%s: unexpected '%s'", name, words[most]);
    Tokenizer *t = tokenizer_read(tokenizer_path);
    if (command == 'e') command_encode(t, count ? words[0] : "-");
    if (command == 'd') command_decode(t, count ? words[0] : "-");
    if (command == 'i') command_info(t);
    tokenizer_free(t);
    return finish_output(0);
}
#endif /* NO_MAIN_TOKENIZER */
