/* grader.c - a learner writes a function of the programs again, and is told what is wrong with it.
 *
 *     make exercises, make exercise-NAME, make grade-NAME      doc/exercises.md tells how to work
 *
 * The source is the solution: contract and head come from it, and what the learner's function
 * computes is compared with what it computes. To grade, this file is compiled together with
 * variants of the function under other names: the learner's, the source's, and copies of the source
 * with one mistake each. If the learner's numbers are those of a mistake, its sentence is printed.
 *
 * An exercise is one file beside this one, NAME.c for the function NAME. Its call() makes inputs,
 * calls a variant, and names what this has written. Its opening comment consists of items, whose
 * text may go on in indented lines:
 *
 *     About: session S, M minutes: what it is about
 *     Contract: what the learner reads; without it, the comment above the function
 *     Parts: the functions that mistakes are planted in, if there are others than NAME
 *     By hand: sizes and inputs of an example for the pencil; other arrays are 0 in it
 *     Star: what the first, second, third star is for; calls of level 1, 2, 3 test it
 *     Hint: first a direction, then the formula, then the outline of the code
 *     Mistake: FROM => TO, for each FROM in the source; several changes with " ;; " between
 *     Say: what is printed if the learner's numbers are those of the mistake above
 *
 * If NAME is in none of the programs, its solution stands in NAME.c itself.
 *
 * Chapters   1 the words and the source   2 variants   3 calls   4 grading   5 commands
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <ctype.h>
#include <glob.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#ifdef VARIANTS                          /* a file that variants_write has made */
#define NO_MAIN_PREPARE
#include "../../prepare.c"
#else
#define NO_MAIN_TOKENIZER
#include "../../tokenizer.c"
#endif

typedef void Function(void);
typedef struct Call Call;
typedef struct {
    const char *exercise, *kind;         /* "attempt", "blank", "source", or a mistake: "0", ... */
    void (*call)(Call *c);
    Function *f;
} Variant;

/* ================================================================================================
 * 1. The words and the source
 */

/* The file of an exercise. */
char *exercise_text(const char *name)
{
    char *path = format("doc/exercises/%s.c", name);
    size_t size;
    if (access(path, R_OK) != 0)
        die_usage("there is no exercise '%s'; make exercises lists them", name);
    return read_file(path, &size);
}

/* The n-th item of this key in the opening comment of an exercise, from 0, in new memory: what
 * follows "* KEY: ", and the lines below it that are indented. NULL if there is none. */
char *item(const char *name, const char *key, int n)
{
    char *text = exercise_text(name), *at = text, *begin = format("* %s:", key);
    Text found = {0};
    *strstr(text, "\n */") = 0;
    for (int i = 0; i <= n && at; i++) at = strstr(at + (i > 0), begin);
    for (Lines l = {.at = at, .end = text + strlen(text)}; at && next_line(&l);) {
        size_t skip = l.number == 1 ? strlen(begin) + 1 : 5;
        if (l.number > 1 && l.size > 3 && l.text[3] != ' ') break;
        if (l.size < skip) skip = l.size;
        text_print(&found, "%s%.*s", l.number > 1 ? "\n" : "", (int)(l.size - skip), l.text + skip);
    }
    free(text), free(begin);
    return found.bytes;
}

/* The same, as one line. */
char *item_line(const char *name, const char *key, int n)
{
    char *text = item(name, key, n);
    for (char *end = text; end && (end = strchr(end, '\n'));) *end = ' ';
    return text;
}

/* The names of all exercises, with a NULL behind the last one. */
char **exercise_names(void)
{
    static glob_t all;
    size_t n = 0;
    if (!all.gl_pathc && glob("doc/exercises/*.c", 0, NULL, &all) != 0)
        die("doc/exercises has no exercises: run this in the folder of the programs");
    char **names = allocate(all.gl_pathc, sizeof *names);
    for (size_t i = 0; i < all.gl_pathc; i++) {
        char *name = strrchr(all.gl_pathv[i], '/') + 1;
        if (strcmp(name, "grader.c")) names[n++] = format("%.*s", (int)strlen(name) - 2, name);
    }
    return names;
}

/* The exercise of this name, and *bug = -1. exam-N is one that N chooses, with mistake *bug: a
 * function of the programs, not one whose solution stands in its own file. */
const char *exercise_of(const char *name, int *bug)
{
    char **names = exercise_names();
    size_t count = 0, key = hash_bytes(name, strlen(name)) >> 8, i;
    int bugs = 0;
    *bug = -1;
    if (strncmp(name, "exam-", 5)) return name;
    while (names[count]) count++;
    for (i = key % count; strstr(exercise_text(names[i]), format(" %s(", names[i]));)
        i = (i + 1) % count;
    while (item(names[i], "Say", bugs)) bugs++;
    *bug = (int)(key / count % bugs);
    return names[i];
}

/* The text of all programs and all exercises, one after the other. */
const char *sources(void)
{
    static const char *const programs[] = {"tokenizer.c", "train_gpt.c", "prepare.c", "test_gpt.c"};
    static Text all;
    size_t size;
    if (all.size) return all.bytes;
    for (int i = 0; i < 4; i++) text_take(&all, read_file(programs[i], &size));
    for (char **name = exercise_names(); *name; name++)
        text_take(&all, exercise_text(*name));
    return all.bytes;
}

/* A function in the source: its comment, if there is one directly above, its head, and its body,
 * from { to the byte before `end`. Functions begin and end in column 0. */
typedef struct { const char *comment, *head, *body, *end; } Source;
Source source_of(const char *name)
{
    for (const char *at = sources(); (at = strstr(at, name)); at++) {
        const char *head = at, *body = strchr(at, '{'), *comment;
        while (head[-1] != '\n') head--;
        if (head == at || !isalpha((unsigned char)*head) || !strchr(" *", at[-1]) ||
            at[strlen(name)] != '(' || !body || strchr(at, ';') < body)
            continue;                                         /* not where it is defined */
        comment = head;
        if (!strncmp(head - 3, "*/\n", 3))
            for (comment -= 3; strncmp(comment, "/*", 2);) comment--;
        return (Source){comment, head, body, body[-1] == '\n' ? strstr(body, "\n}\n") + 3 :
                                                                strchr(body, '\n') + 1};
    }
    die("the function %s is in none of the programs", name);
}

/* The functions that the solution consists of, with spaces between. */
char *parts_of(const char *name)
{
    char *parts = item_line(name, "Parts", 0);
    return parts ? parts : format("%s", name);
}

/* The solution; with the n-th mistake, unless n is -1. NULL if there is no such mistake. */
char *solution(const char *name, int n)
{
    Text t = {0};
    char *rest = parts_of(name), *bug = n < 0 ? NULL : item_line(name, "Mistake", n), *part;
    if (n >= 0 && !bug) return NULL;
    while ((part = strsep(&rest, " "))) {
        Source s = source_of(part);
        text_add(&t, s.head, (size_t)(s.end - s.head));
    }
    for (char *from = bug, *next, *to; from; from = next) {   /* FROM => TO ;; FROM => TO */
        Text changed = {0};
        if ((next = strstr(from, " ;; "))) *next = 0, next += 4;
        if (!(to = strstr(from, " =>"))) die("%s, mistake %d: ' =>' is missing", name, n);
        *to = 0, to += to[3] ? 4 : 3;
        char *at = t.bytes, *found = strstr(at, from);
        if (!found) die("%s, mistake %d: '%s' is not in the source", name, n, from);
        for (; found; at = found + strlen(from), found = strstr(at, from))
            text_print(&changed, "%.*s%s", (int)(found - at), at, to);
        text_print(&changed, "%s", at);
        t = changed;
    }
    return t.bytes;
}

/* Append the definitions of all types that a text names, for reference: the lines that begin with
 * "struct NAME {" or "typedef", up to the } in column 0 if the line ends within braces. */
void types_add(Text *t, const char *text)
{
    char name[64];
    for (const char *at = sources(), *end; (at = strchr(at, '\n')); at++) {
        const char *line = at + 1, *stop = line + strcspn(line, "\n");
        if (strncmp(line, "typedef ", 8) && strncmp(line, "struct ", 7)) continue;
        if (stop[-1] == '{') end = strstr(line, "\n}") + 1, stop = end + strcspn(end, "\n");
        else if (!(end = memchr(line, '}', (size_t)(stop - line)))) end = line;
        if (sscanf(end, "} %63[A-Za-z0-9]", name) != 1 &&
            sscanf(line, "struct %63[A-Za-z0-9] {", name) != 1 &&
            sscanf(line, "typedef %*s %63[A-Za-z0-9](", name) != 1)
            continue;
        const char *use = isupper((unsigned char)*name) ? strstr(text, name) : NULL;
        while (use && (isalnum((unsigned char)use[-1]) || !strchr(" )*.,;", use[strlen(name)])))
            use = strstr(use + 1, name);
        if (use) text_print(t, "%.*s\n", (int)(stop - line), line);
    }
}

/* The file that the learner begins with: the contract, the structures, and the head with an empty
 * body; or, in an exam, the solution with mistake number `bug`, if this is not -1. */
char *exercise_file(const char *name, const char *as, int bug)
{
    Text t = {0}, types = {0};
    char *contract = item(name, "Contract", 0);
    char *about = strchr(item(name, "About", 0), bug < 0 ? ',' : ':') + 2;    /* with the minutes */
    Source s = source_of(name);
    while (isspace((unsigned char)s.body[-1])) s.body--;
    char *head = format("%.*s", (int)(s.body - s.head), s.head);
    text_print(&t, "/* exercises/%s.c, %s\n * %s, then\n *     make grade-%s\n", as, about,
               bug < 0 ? "Write the body of the function" :
               "The function has one mistake. Find and mend it", as);
    if (bug < 0) text_print(&t, " *     make hint-%s           (LEVEL=2, LEVEL=3: more)\n", name);
    text_print(&t, contract ? " *\n" : " */\n\n");
    if (!contract) text_print(&t, "%.*s", (int)(s.head - s.comment), s.comment);
    else
        for (Lines l = {.at = contract, .end = contract + strlen(contract)}; next_line(&l);)
            text_print(&t, " *%s%.*s\n", l.size ? " " : "", (int)l.size, l.text);
    if (contract) text_print(&t, " */\n");
    types_add(&types, format("%s %s", t.bytes, head));
    if (types.size) text_print(&t, "#if 0                                   /* for reference */\n"
                               "%s#endif\n", types.bytes);
    int type = (int)(strstr(head, name) - head);
    const char *result = !strncmp(head, "void ", 5) ? "" :
        format("    return (%.*s){0};\n", type - (head[type - 1] == ' '), head);
    if (bug >= 0) text_take(&t, solution(name, bug));
    else text_print(&t, "%s\n{\n%s}\n", head, result);
    return t.bytes;
}

/* ================================================================================================
 * 2. Variants
 */

/* Write the functions in `text`, which are `parts`, under other names, and add a row to those of
 * `variants`. */
void variant_write(Writer *w, Text *rows, const char *name, const char *kind, char *parts,
                   const char *text)
{
    char *rest = format("%s", parts), *part;
    while ((part = strsep(&rest, " ")))
        writer_print(w, "#define %s(...) %s_%s_%s(__VA_ARGS__)\n", part, name, kind, part);
    writer_print(w, "%s\n", text);
    while ((part = strsep(&parts, " "))) writer_print(w, "#undef %s\n", part);
    text_print(rows, "{\"%s\", \"%s\", call_%s, (Function *)%s_%s_%s},\n", name, kind, name, name,
               kind, name);
}

/* Write the call and the variants of one exercise: the attempt in `file`, which in an exam consists
 * of all parts, or the blank if that is NULL; the source; the mistakes. */
void exercise_write(Writer *w, Text *rows, const char *name, const char *file, int exam)
{
    size_t size;
    char *text = file ? read_file(file, &size) : exercise_file(name, "", -1);
    if (!strstr(text, name)) die("%s: the function %s is not in it", file, name);
    if (file)
        text = format("#line 1 \"%s\"\n%s\n#line 1 \"the end of %s\"", file, text, file);
    writer_print(w, "#define call call_%s\n#define attempt ATTEMPT(%s)\n", name, name);
    writer_print(w, "#include \"doc/exercises/%s.c\"\n#undef call\n#undef attempt\n", name);
    variant_write(w, rows, name, file ? "attempt" : "blank",
                  exam ? parts_of(name) : format("%s", name), text);
    writer_print(w, "#pragma GCC system_header\n");           /* no warnings from here on */
    for (int n = -1; (text = solution(name, n)); n++)
        variant_write(w, rows, name, n < 0 ? "source" : format("%d", n), parts_of(name), text);
}

/* PATH NAME FILE: write what grades the attempt in FILE. PATH: what proves all exercises. */
int command_write(char **word)
{
    char **names = exercise_names();
    Text rows = {0};
    int bug = -1;
    if (word[1] && access(word[2], R_OK) != 0)
        die("%s is not there: begin with make exercise-%s", word[2], word[1]);
    Writer *w = writer_open(word[0]);
    const char *name = word[1] ? exercise_of(word[1], &bug) : NULL;
    if (name) exercise_write(w, &rows, name, word[2], bug >= 0);
    else while (*names) exercise_write(w, &rows, *names++, NULL, 0);
    writer_print(w, "static const Variant variants[] = {\n%s{0}};\n", rows.bytes);
    writer_close(w);
    return 0;
}

/* The exercises, session by session. */
int command_list(char **word)
{
    char **names = exercise_names();
    int count = 0, minutes = 0, session, each;
    for (int s = 1; s <= 10; s++)
        for (int i = 0; names[i]; i++) {
            char *about = item(*word = names[i], "About", 0);
            if (sscanf(about, "session %d, %d", &session, &each) != 2 || session != s) continue;
            printf("%-20s %s\n", names[i], about);
            count++, minutes += each;
        }
    printf("%d exercises, %.1f hours. Begin with make exercise-NAME\n", count, minutes / 60.0);
    return 0;
}

/* NAME: write the file with which the exercise begins. An existing one stays. */
int command_begin(char **word)
{
    int bug;
    const char *name = exercise_of(word[0], &bug);
    char *path = format("exercises/%s.c", word[0]);
    if (access(path, F_OK) == 0) die("%s is there already; remove it to begin again", path);
    char *text = exercise_file(name, word[0], bug);
    make_folder("exercises");
    Writer *w = writer_open(path);
    writer_take(w, text);
    writer_close(w);
    printf("%s is written. Edit it, then make grade-%s\n", path, word[0]);
    return 0;
}

/* NAME LEVEL */
int command_hint(char **word)
{
    char *text = item(word[0], "Hint", atoi(word[1]) - 1);
    if (!text) die_usage("LEVEL: expected 1, 2 or 3, found %s", word[1]);
    printf("%s\n", text);
    return 0;
}

#ifdef VARIANTS
/* ================================================================================================
 * 3. Calls
 */

/* An array of a call. kind: i input, w written, a added to, u read and updated, s scratch, r what
 * the call has found, p points (what was reached, and what is needed). Elements have 8 bytes (real,
 * here always double), 4 (int) or 1. */
typedef struct {
    const char *name;
    char kind;
    int bytes, count, columns;
    char *p, *before;                    /* its elements; what they were before the call */
    size_t at;                           /* where its numbers begin in an Answer */
} Array;

/* One call of a function. Sizes and inputs are those of `hand`, if it is not NULL, else random
 * numbers given by key. Calls of a higher level ask more of the function. */
enum { ARRAYS = 24, SHAPES = 6, CALLS = 1 + 3 * SHAPES, BUGS = 12 };
struct Call {
    Function *f;
    const char *hand;                    /* " N 1 C 3 x 0 0 3 " */
    int level, count, drawn, begun;      /* numbers of arrays, of sizes; are inputs complete? */
    uint64_t key;
    Array array[ARRAYS];
    char sizes[120];                     /* "N=1 C=3", for messages */
};

/* What follows a name in the example by hand; NULL if it is not there. */
char *by_hand(const Call *c, const char *name)
{
    char *word = format(" %s ", name), *found = c->hand ? strstr(c->hand, word) : NULL;
    return found ? found + strlen(word) : NULL;
}

/* A number from low to high, whole if `whole`; by hand or below its level 0, unless it is named. */
double drawn_number(Call *c, const char *name, double low, double high, int level, int whole)
{
    const char *hand = by_hand(c, name);
    double u = random_uniform(random_key(c->key, 0), (uint32_t)c->drawn++);
    double x = hand ? atof(hand) : c->hand || c->level < level ? 0 : low + (high - low) * u;
    size_t end = strlen(c->sizes);
    if (whole) x = floor(x);
    if (x != 0)
        snprintf(c->sizes + end, sizeof c->sizes - end, "%s%s=%.4g", end ? " " : "", name, x);
    return x;
}
#define rate_of(c, name, low, high, level) drawn_number(c, name, low, high, level, 0)
#define size_of(c, name, least, most) ((int)drawn_number(c, name, least, (most) + 1, 0, 1))

/* Memory of `size` bytes before a page that may not be touched: whoever reads or writes beyond the
 * end is stopped at once. */
void *guarded(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;
    char *p = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + whole, page, PROT_NONE) != 0) die("out of memory");
    return p + whole - size;
}

double number(const Array *a, const char *from, int i)
{
    const void *p = from + (size_t)i * a->bytes;
    return a->bytes == 1 ? *(const unsigned char *)p : a->bytes == 4 ? *(const int *)p :
           *(const double *)p;
}

/* The i-th number of a key, from 0 to n - 1. */
int below(int n, uint64_t key, int i) { return (int)(random_bits(key, i) % (uint32_t)n); }

/* An array (rows, columns) of normal numbers, or, with a limit, of whole ones below it. */
void *array(Call *c, const char *name, char kind, int bytes, int rows, int columns, int limit)
{
    int count = rows * columns;
    size_t size = (size_t)count * bytes;
    char *hand = by_hand(c, name);
    assert(c->count < ARRAYS);
    Array *a = &c->array[c->count++];
    uint64_t key = random_key(c->key, c->count);
    *a = (Array){name, kind, bytes, count, columns, guarded(size), allocate(size, 1), 0};
    for (int i = 0; i < count; i++) {
        double x = hand ? strtod(hand, &hand) : c->hand ? 0 : limit ? below(limit, key, i) :
                   random_normal(key, (uint32_t)i);
        if (bytes == 1) a->p[i] = (char)(int)x;
        else if (bytes == 4) ((int *)(void *)a->p)[i] = (int)x;
        else ((double *)(void *)a->p)[i] = x;
    }
    return memcpy(a->before, a->p, size), a->p;
}
#define REALS(name, kind, rows, columns) array(c, name, kind, 8, rows, columns, 0)
#define INTS(name, kind, count, limit) array(c, name, kind, 4, 1, count, limit)

/* In the call of an exercise, `attempt` is the variant that is called, with the type of the
 * function in the source. All inputs are complete now. */
#define ATTEMPT(function) (call_begin(c), (__typeof__(&function))c->f)
void call_begin(Call *c)
{
    for (Array *a = c->array; !c->begun && a < c->array + c->count; a++)
        memcpy(a->before, a->p, (size_t)a->count * a->bytes);
    c->begun = 1;
}

/* Free the memory of all arrays. */
void call_end(Call *c)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (Array *a = c->array; a < c->array + c->count; a++) {
        size_t size = (size_t)a->count * a->bytes, whole = (size + page - 1) / page * page;
        munmap(a->p + size - whole, whole + page);
        free(a->before);
    }
}

/* A number that the call has found; points that it has reached, of those needed for the star. */
void result(Call *c, const char *name, double x) { *(double *)REALS(name, 'r', 1, 1) = x; }
void points(Call *c, const char *name, double x, double needed)
{
    double *p = REALS(name, 'p', 1, 2);
    p[0] = x, p[1] = needed;
}

/* Level 2: documents, level 3: dropout. `cached` earlier tokens have keys and values only. */
Attention attention_call(Call *c, int cached)
{
    int B = size_of(c, "B", 1, 2), T = size_of(c, "T", 2, 11);
    int NH = size_of(c, "NH", c->level > 2 ? 2 : 1, 3);
    int HS = size_of(c, "HS", 2, 5), C = NH * HS, past = 0;
    if (cached && c->level > 2 && (past = size_of(c, "past", 0, 5)) > 0) B = 1;
    Attention a = {NULL, NULL, B, past, T, past + T, C, NH, (real)rate_of(c, "p", 0.1, 0.6, 3),
                   random_key(c->key, 1)};
    a.qkv = REALS("qkv", 'i', B * a.rows, 3 * C);
    int *starts = c->level > 1 && !past ? INTS("doc_start", 'i', B * T, 2) : NULL;
    for (int n = 0; starts && n < B * T; n++)
        starts[n] = n % T == 0 ? 0 : starts[n] ? n % T : starts[n - 1];
    a.doc_start = starts;
    return a;
}

#include VARIANTS                        /* the calls, the variants, and their table */

/* ================================================================================================
 * 4. Grading
 */

/* The numbers of all arrays after each of `calls` calls. */
enum { ANSWER = 1 << 18 };
typedef struct { int calls; size_t count; double x[ANSWER]; } Answer;

/* What a call leaves behind if it is misunderstood in a way that is the same in all exercises: an
 * array of these kinds is `before` times what it was plus `after` times what it should be. */
static const struct { const char *kinds, *form; int before, after; } general[] = {
    {"waup", "Your function leaves %s as it was.", 1, 0},
    {"a", "Your function overwrites %s; it must add to it.", -1, 1},
    {"w", "Your function adds to %s; it must overwrite it.", 1, 1}};

/* All that is known of an attempt. */
typedef struct {
    const char *name;                    /* of the exercise */
    uint64_t seed;
    FILE *out;                           /* where the report goes */
    int calls, levels, status;           /* status: of the process that has run last */
    pid_t child;                         /* this process */
    Call call[CALLS];                    /* of the source's function */
    Answer *expected, *found, *general[3], *bug[BUGS];
    int checks, right;                   /* properties that were checked; that hold */
    int bad_level;                       /* the lowest level with an error, or levels + 1 */
    const char *mistake;                 /* the first one that was named, or NULL */
} Grade;

const Variant *variant_find(const char *name, const char *kind)
{
    const Variant *v = variants;
    while (v->exercise && (strcmp(v->exercise, name) || strcmp(v->kind, kind))) v++;
    return v;
}

/* Make call number k: 0 by hand, then SHAPES of each level. */

void call_make(Call *c, const Variant *v, int k, uint64_t seed)
{
    char *hand = k ? NULL : item(v->exercise, "By hand", 0);
    *c = (Call){.f = v->f, .level = k ? (k - 1) / SHAPES + 1 : 1, .key = random_key(seed, k),
                .hand = hand ? format(" %s ", hand) : NULL};
    v->call(c);
}

/* Add to an answer the numbers of all arrays, `before` times as they were and `after` times as they
 * are. */
void answer_add(Answer *answer, Call *c, int before, int after)
{
    for (Array *a = c->array; a < c->array + c->count; a++) {
        a->at = answer->count;
        if (answer->count + a->count > ANSWER) die("%s is too large", a->name);
        for (int i = 0; i < a->count; i++)
            answer->x[answer->count++] = (before ? before * number(a, a->before, i) : 0) +
                                         (after ? after * number(a, a->p, i) : 0);
    }
    answer->calls++;
}

/* What a function answers to all calls, in a process of its own: it may crash, and is stopped after
 * ten seconds. Then later answers are missing, and g->status tells why. */
Answer *answer_of(Grade *g, const Variant *v)
{
    Answer *a = mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (a == MAP_FAILED) die("out of memory: %zu bytes are needed", sizeof *a);
    fflush(stdout);
    if ((g->child = fork()) == 0) {
        Call c;
        if (strcmp(v->kind, "attempt") && !freopen("/dev/null", "w", stderr)) _exit(1);
        dup2(2, 1);                      /* what the function prints is not part of the report */
        alarm(10);
        for (int k = 0; k < g->calls; k++) {
            call_make(&c, v, k, g->seed);
            answer_add(a, &c, 0, 1);
        }
        fflush(stdout);
        _exit(0);
    }
    if (g->child < 0 || waitpid(g->child, &g->status, 0) < 0)
        die("no new process: %s", strerror(errno));
    return a;
}

/* The first number of an array that differs, or -1. Sums in another order may differ by rounding,
 * which is measured against the largest number. Points need only reach what is needed. */
int first_difference(const Array *a, const double *x, const double *expected)
{
    double scale = 0;
    if (a->kind == 'p') return x[0] >= x[1] ? -1 : 0;
    for (int i = 0; i < a->count; i++)
        if (isfinite(expected[i])) scale = fmax(scale, fabs(expected[i]));
    for (int i = 0; i < a->count; i++)
        if (x[i] != expected[i] && !(isnan(x[i]) && isnan(expected[i])) &&
            !(fabs(x[i] - expected[i]) <= 1e-9 * scale))
            return i;
    return -1;
}

/* A property of call k has been checked: does it hold? Returns whether. */
int property(Grade *g, int holds, int k)
{
    g->checks++, g->right += holds;
    if (!holds) g->bad_level = min_int(g->bad_level, g->call[k].level);
    return holds;
}

/* Are the numbers in outputs of this name (NULL: in all) of the first calls those of `other`? */
int is_like(const Grade *g, int calls, const char *name, const Answer *other)
{
    if (!other || other->calls < calls) return 0;
    for (int k = 0; k < calls; k++)
        for (const Array *a = g->call[k].array; a < g->call[k].array + g->call[k].count; a++) {
            Array exact = *a;
            exact.kind = 'r';
            if (strchr("waurp", a->kind) && (!name || !strcmp(name, a->name)) &&
                first_difference(&exact, g->found->x + a->at, other->x + a->at) >= 0)
                return 0;
        }
    return 1;
}

/* Name the mistake, if it is known: one that explains all outputs, or else one that explains this
 * array, in all calls up to the level at which it is wrong. */
void grade_mistake(Grade *g, const Array *a, int level)
{
    const char *said = NULL;
    int calls = min_int(g->found->calls, 1 + SHAPES * level);
    for (int n = 0; n < 2 * BUGS && !said; n++)
        if (is_like(g, calls, n < BUGS ? NULL : a->name, g->bug[n % BUGS]))
            said = item_line(g->name, "Say", n % BUGS);
    for (int n = 0; n < 3 && !said; n++)
        if (strchr(general[n].kinds, a->kind) && is_like(g, calls, a->name, g->general[n]))
            said = format(general[n].form, a->name);
    if (said) fprintf(g->out, "      %s\n", said);
    if (!g->mistake) g->mistake = said;
}

/* Print up to 12 numbers of an array. */
void grade_numbers(const Grade *g, const char *what, const Array *a, const double *x)
{
    fprintf(g->out, "%s", what);
    for (int i = 0; i < a->count && i < 12; i++) fprintf(g->out, " %.4g", x[i]);
    fprintf(g->out, a->count > 12 ? " ..." : "");
}

/* Print the whole numbers, such as a token, that are the inputs of the row with a wrong number. */
void grade_row(const Grade *g, const Array *a, int wrong, int k)
{
    const Array *b = g->call[k].array, *end = b + g->call[k].count;
    int rows = a->columns < a->count ? a->count / a->columns : a->count;
    for (; b < end && rows > 1; b++)
        if (b->kind == 'i' && b->bytes == 4 && b->count == rows)
            fprintf(g->out, "      there, %s[%d] = %.0f\n", b->name, wrong * rows / a->count,
                    g->general[0]->x[b->at + wrong * rows / a->count]);
}

/* Compare the arrays of this name in all calls; show the first wrong number, and the example by
 * hand. Inputs must stay as they are. */
void grade_array(Grade *g, const char *name)
{
    int wrong = -1, k = -1;
    const Array *a = NULL, *b;
    while (wrong < 0 && ++k < g->found->calls)
        for (b = g->call[k].array; b < g->call[k].array + g->call[k].count && wrong < 0; b++)
            if (!strcmp(b->name, name))
                wrong = first_difference(a = b, g->found->x + b->at, g->expected->x + b->at);
    if (!a || a->kind == 's' || (a->kind == 'i' && wrong < 0)) return;
    k = min_int(k, g->found->calls - 1);
    const double *x = g->found->x + a->at, *expected = g->expected->x + a->at;
    fprintf(g->out, property(g, wrong < 0, k) ? "ok    " : "FAIL  ");
    if (a->kind == 'p') fprintf(g->out, "%s: %.1f, needed are %.1f\n", name, x[0], x[1]);
    else if (wrong < 0) fprintf(g->out, "%s\n", name);
    if (wrong < 0) return;
    if (a->kind == 'i') {
        g->mistake = format("Your function changes its input %s.", name);
        fprintf(g->out, "%s   (%s)\n", g->mistake, g->call[k].sizes);
        return;
    }
    if (a->kind != 'p') {
        fprintf(g->out, "%s at [", name);
        if (a->columns < a->count) fprintf(g->out, "%d,", wrong / a->columns);
        fprintf(g->out, "%d]: expected %.10g, got %.10g", wrong % a->columns, expected[wrong],
                x[wrong]);
        fprintf(g->out, *g->call[k].sizes ? "   (%s)\n" : "\n", g->call[k].sizes);
        grade_row(g, a, wrong, k);
    }
    if (k == 0 && g->call[0].hand && a->kind != 'p') {
        fprintf(g->out, "      by hand, %s", g->call[0].sizes);
        for (b = g->call[0].array; b < g->call[0].array + g->call[0].count; b++)
            if (strchr("iu", b->kind))
                grade_numbers(g, format(", %s", b->name), b, g->general[0]->x + b->at);
        grade_numbers(g, "\n      expected:", a, expected);
        grade_numbers(g, "\n      got:     ", a, x);
        fprintf(g->out, "\n");
    }
    grade_mistake(g, a, g->call[k].level);
}

/* The attempt has not answered all calls: say which one stopped it, and why. Its file is looked for
 * in the report of the address sanitizer, if the compiler has one. */
#define ASAN_LOG "exercises/build/asan"
void grade_stop(Grade *g, const char *file)
{
    char *path = format(ASAN_LOG ".%ld", (long)g->child);
    size_t size;
    if (access(path, R_OK) == 0) {
        char *report = read_file(path, &size), *what = strstr(report, "Sanitizer: ");
        char *where = strstr(report, file);
        g->mistake = format("Your function reads or writes outside of its arrays (%.*s, %.*s).",
                            what ? (int)strcspn(what + 11, " \n") : 0, what ? what + 11 : "",
                            where ? (int)strcspn(where, " \n") : 0, where);
        unlink(path);
    } else if (!WIFSIGNALED(g->status)) g->mistake = "Your function has ended the program.";
    else if (WTERMSIG(g->status) == SIGALRM)
        g->mistake = "Your function has not returned after 10 seconds. Does a loop never end?";
    else if (WTERMSIG(g->status) == SIGSEGV || WTERMSIG(g->status) == SIGBUS)
        g->mistake = "Your function reads or writes outside of its arrays.";
    else g->mistake = format("Your function was stopped: %s.", strsignal(WTERMSIG(g->status)));
    fprintf(g->out, "FAIL  %s   (%s)\n", g->mistake, g->call[g->found->calls].sizes);
    property(g, 0, g->found->calls);
}

/* Prepare to grade attempts with the inputs of a seed: the answers of the source's function and of
 * its mistakes. Reports go to `out`. */
void grade_begin(Grade *g, const char *name, uint64_t seed, FILE *out)
{
    const Variant *v;
    *g = (Grade){.name = name, .seed = seed, .out = out, .expected = allocate(1, sizeof(Answer))};
    while (item(name, "Star", g->levels)) g->levels++;
    g->calls = 1 + SHAPES * g->levels;
    for (int i = 0; i < 3; i++) g->general[i] = allocate(1, sizeof(Answer));
    for (int k = 0; k < g->calls; k++) {
        call_make(&g->call[k], variant_find(name, "source"), k, seed);
        answer_add(g->expected, &g->call[k], 0, 1);
        for (int i = 0; i < 3; i++)
            answer_add(g->general[i], &g->call[k], general[i].before, general[i].after);
        call_end(&g->call[k]);
    }
    for (int n = 0; (v = variant_find(name, format("%d", n)))->exercise; n++)
        g->bug[n] = answer_of(g, v);
}

/* Grade a variant, whose file is named so. */
void grade(Grade *g, const Variant *v, const char *file)
{
    const Call *last = &g->call[g->calls - 1];
    g->checks = g->right = 0, g->bad_level = g->levels + 1, g->mistake = NULL;
    if (g->found) munmap(g->found, sizeof *g->found);
    g->found = answer_of(g, v);
    if (g->found->calls < g->calls) grade_stop(g, file);
    for (int i = 0; i < last->count; i++) grade_array(g, last->array[i].name);
}

/* NAME FILE SEED [STUDENT]: the report, or a row of the table of marks. In the program with all
 * variants, FILE is the kind of one. */
int command_judge(char **word)
{
    static Grade g;
    int bug;
    const char *name = exercise_of(word[0], &bug);
    grade_begin(&g, name, strtoull(word[2], NULL, 10), word[3] ? fopen("/dev/null", "w") : stdout);
    const Variant *v = variant_find(name, "attempt");
    grade(&g, v->exercise ? v : variant_find(name, word[1]), word[1]);
    int stars = g.bad_level - 1;
    if (word[3])
        printf("%s,%s,%d,%d,%d,%d,\"%s\"\n", word[3], word[0], stars, g.levels, g.right, g.checks,
               g.mistake ? g.mistake : "");
    else printf("%d of %d stars\n", stars, g.levels);
    if (!word[3] && stars < g.levels)
        printf("The next star is for: %s.\nHelp: make hint-%s, with LEVEL=2 or 3 for more\n",
               item(name, "Star", stars), name);
    return stars < g.levels;
}

/* SEED, in a program with all variants: does the blank fail, has the source all stars, and is the
 * sentence of each mistake found? */
int command_check(char **word)
{
    static Grade g;
    int count = 0, exercises = 0, bad = 0;
    FILE *out = fopen("/dev/null", "w");
    for (const Variant *v = variants; v->exercise; v++, count++) {
        if (!g.name || strcmp(g.name, v->exercise))
            grade_begin(&g, v->exercise, strtoull(word[0], NULL, 10), out), exercises++;
        grade(&g, v, "");
        const char *said = item_line(g.name, "Say", atoi(v->kind));
        int good = !strcmp(v->kind, "source") ? g.bad_level > g.levels && g.right == g.checks :
                   !strcmp(v->kind, "blank") ? g.bad_level == 1 :
                   g.bad_level <= g.levels && g.mistake && !strcmp(said, g.mistake);
        if (!good) printf("%s, %s: %s\n", g.name, v->kind, g.mistake ? g.mistake : "nothing said");
        bad += !good;
    }
    printf("%d variants of %d exercises, %d wrong\n", count, exercises, bad);
    return bad > 0;
}
#endif

/* ================================================================================================
 * 5. Commands
 */

int main(int argc, char **argv)
{
    static const struct { const char *name; int least, most, (*run)(char **word); } all[] = {
        {"list", 2, 2, command_list}, {"begin", 3, 3, command_begin},
        {"hint", 4, 4, command_hint}, {"write", 3, 5, command_write},
#ifdef VARIANTS
        {"judge", 5, 6, command_judge}, {"check", 3, 3, command_check}
#endif
    };
    for (size_t i = 0; i < sizeof all / sizeof *all && argc > 1; i++)
        if (!strcmp(argv[1], all[i].name) && argc >= all[i].least && argc <= all[i].most)
            return finish_output(all[i].run(argv + 2));
    die_usage("usage: grader list, begin NAME, hint NAME LEVEL or write PATH [NAME FILE]");
}
