/* test_gpt.c - proofs that the other three files do what they say.
 *
 *     make test                                          builds both precisions and runs everything
 *     ./test_gpt gradient                                only tests whose name contains "gradient"
 *
 * ./test_gpt is built with real = float, ./test_gpt_double (-DDOUBLE) with double; the first runs
 * the second at its end and adds its counts. Derivatives are proven in double, where a finite
 * difference has ten good digits; in float they could hide an error of a percent.
 *
 * A test is one row of the table at the end and runs in a process of its own, so it need not free
 * what it allocates. It calls `expect` for what must hold and `bound` for errors that must be
 * small, and one line tells its name and its worst figure. Properties that hold
 * for any weights come before comparisons with numbers from elsewhere: these can only say that two
 * programs agree. data/mutations.sh breaks each line of backward, and others, to see tests fail.
 *
 * Chapters   1 means of proof   2 machine and matrix multiply   3 gradients of layers   4 the model
 *            5 parity with PyTorch   6 optimizer and generation   7 data   8 checkpoints
 *            9 text   10 the programs   11 the table
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <float.h>
#include <glob.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The programs under test are compiled with these calls counted: the bytes that they allocate, and
 * in which order they fsync a file ('f'), fsync a folder ('d') and rename ('r'). */
static size_t allocated;
static char disk_calls[64];

void disk_call(char call)
{
    size_t n = strlen(disk_calls);
    snprintf(disk_calls + n, sizeof disk_calls - n, "%c", call);
}

int counted_fsync(int fd)
{
    struct stat status;
    disk_call(fstat(fd, &status) == 0 && S_ISDIR(status.st_mode) ? 'd' : 'f');
    return fsync(fd);
}

/* How much space a disk has is what a test says. */
static double disk_free = 1e15;

int given_statvfs(const char *path, struct statvfs *disk)
{
    *disk = (struct statvfs){.f_frsize = 1, .f_bavail = (fsblkcnt_t)disk_free};
    return access(path, F_OK);
}

#define calloc(count, size) (allocated += (count) * (size), calloc(count, size))
#define realloc(p, size) (allocated += (size), realloc(p, size))
#define fsync(fd) counted_fsync(fd)
#define rename(from, to) (disk_call('r'), rename(from, to))
#define statvfs(path, disk) given_statvfs(path, disk)
#define NO_MAIN_PREPARE
#include "prepare.c"

/* ================================================================================================
 * 1. Means of proof
 */

static char reason[400], figure[100];                         /* of the test that runs */
static double worst;                                          /* error as a part of its limit */
static int broken, skipped;                                   /* checks that failed; not run */
static const char *name_of_test;
static char folder[] = "/tmp/test_gpt_XXXXXX";                /* for scratch files */

/* Fail the test unless `good`; the first reason is the one that is told. */
__attribute__((format(printf, 2, 3)))
void expect(int good, const char *what, ...)
{
    va_list args;
    va_start(args, what);
    if (!good && !broken++) vsnprintf(reason, sizeof reason, what, args);
    va_end(args);
}

/* Fail the test unless error < limit (NaN is not), and remember the error that came closest. */
void bound(const char *what, double error, double limit)
{
    expect(error < limit, "%s: error %.1e, limit %.0e", what, error, limit);
    if (error / limit < worst) return;
    worst = error / limit;
    snprintf(figure, sizeof figure, "error %.1e < %.0e", error, limit);
}

/* What the test needs is not here: unless a check fails, it counts as neither passed nor failed. */
void skip(const char *why)
{
    if (!skipped++) snprintf(figure, sizeof figure, "%s", why);
}

/* End the process of a test: tell its result by a line and by the exit status. */
enum { PASSED = 10, FAILED, SKIPPED };
void end_test(void)
{
    const char *result = broken ? "FAIL" : skipped ? "skip" : "ok  ";
    printf("%s %-36s %s\n", result, name_of_test, broken ? reason : figure);
    fflush(stdout);
    _exit(broken ? FAILED : skipped ? SKIPPED : PASSED);
}

/* The number for this build: errors are larger in float. */
double by_precision(double in_double, double in_float)
{
    return REAL_BYTES == 8 ? in_double : in_float;
}

/* What a test found, for its line, instead of its worst error. */
__attribute__((format(printf, 1, 2)))
void outcome(const char *form, ...)
{
    va_list args;
    va_start(args, form);
    vsnprintf(figure, sizeof figure, form, args);
    va_end(args);
}

/* The path of a scratch file. */
char *scratch(const char *name) { return format("%s/%s", folder, name); }

/* Normal numbers of this scale. */
void fill(real *x, size_t count, double scale, uint64_t key)
{
    for (size_t i = 0; i < count; i++) x[i] = (real)(scale * random_normal(key, (uint32_t)i));
}

/* The i-th number of a key, from 0 to n - 1. */
int below(int n, uint64_t key, int i) { return (int)(random_bits(key, i) % (uint32_t)n); }

/* The larger of two; NaN, once there, stays. */
double worse(double most, double error) { return error <= most || isnan(most) ? most : error; }

double largest(const real *x, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++) most = worse(most, fabs((double)x[i]));
    return most;
}

/* The largest |a - b| as a part of the largest |b|. */
double difference(const real *a, const real *b, size_t count)
{
    double most = 0, scale = largest(b, count);
    for (size_t i = 0; i < count; i++) most = worse(most, fabs((double)a[i] - b[i]));
    return scale == 0 ? most : most / scale;
}

real *copy(const real *x, size_t count)
{
    return memcpy(allocate(count, sizeof *x), x, count * sizeof *x);
}

/* Largest relative error of the gradient dx of `function`, at `samples` random positions in x (all,
 * if there are fewer), against the central difference of fourth order
 *     f'(x) = (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12h + O(h^4).
 * What is below a hundredth of the largest gradient is measured against that. */
double gradient_error(double (*function)(void), real *x, const real *dx, size_t count, int samples,
                      uint64_t key)
{
    double h = 1e-3, most = 0, least = 1e-2 * largest(dx, count), f[5];
    int all = count <= (size_t)samples;
    for (int s = 0; s < (all ? (int)count : samples); s++) {
        size_t i = all ? s : below((int)count, key, s);
        real before = x[i];
        for (int k = -2; k <= 2; k++) {
            x[i] = before + (real)(k * h);
            f[k + 2] = k ? function() : 0;
        }
        x[i] = before;
        double slope = (8 * (f[3] - f[1]) - (f[4] - f[0])) / (12 * h), exact = dx[i];
        double size = fmax(least, fmax(fabs(slope), fabs(exact)));
        most = worse(most, size > 0 ? fabs(slope - exact) / size : 0);
    }
    return most;
}

/* Whether a file has exactly these bytes. */
int same_file(const char *path, const void *bytes, size_t size)
{
    size_t found_size;
    char *text = read_file(path, &found_size);
    return found_size == size && !memcmp(text, bytes, size);
}

/* Write two parts into a scratch file. */
void write_file(const char *name, const void *a, size_t a_size, const void *b, size_t b_size)
{
    Writer *w = writer_open(scratch(name));
    writer_put(w, a, a_size);
    writer_put(w, b, b_size);
    writer_close(w);
}

/* The same text with double quotes for single ones, as JSON has them. */
char *json_text(const char *text)
{
    char *quoted = format("%s", text);
    for (char *at = quoted; (at = strchr(at, '\''));) *at = '"';
    return quoted;
}

/* Write a text into a scratch file. */
void write_text(const char *name, const char *text) { write_file(name, text, strlen(text), "", 0); }

/* Write a token file of version 1, or, with a mask, of version 2. */
void write_tokens(const char *name, const uint16_t *ids, const char *loss_mask, int count)
{
    int32_t header[HEADER] = {20240520, loss_mask ? 2 : 1, count};
    Writer *w = writer_open(scratch(name));
    writer_put(w, header, sizeof header);
    writer_put(w, ids, count * sizeof *ids);
    if (loss_mask) writer_put(w, loss_mask, count);
    writer_close(w);
}

/* Run commands of the shell in the scratch folder, where $here is the folder of the programs, for
 * ten minutes at most; their output. */
char *shell(const char *commands)
{
    char *text = allocate(1 << 16, 1);
    setenv("COMMANDS", commands, 1);
    FILE *pipe = popen(format("cd %s && timeout 600 sh -c \"$COMMANDS\"", folder), "r");
    if (!pipe || fread(text, 1, (1 << 16) - 1, pipe) == 0) *text = 0;
    if (pipe) pclose(pipe);
    return text;
}

/* The error message with which a call ends its program, here a child, or "" if it returns. */
#define ERROR_OF(call) (in_child() ? ((void)(call), _exit(0), "") : child_error())
static int child, child_ends[2];

/* Fork. Returns whether this is the child, whose errors go into a pipe. */
int in_child(void)
{
    fflush(stdout);
    if (pipe(child_ends) != 0 || (child = fork()) < 0) die("fork: %s", strerror(errno));
    if (child) return 0;
    open_writers = NULL;                                      /* the parent's files stay */
    return dup2(child_ends[1], 2) == 2;
}

const char *child_error(void)
{
    int status = 0;
    char *message = allocate(1000, 1);
    close(child_ends[1]);
    FILE *file = fdopen(child_ends[0], "r");
    message[fread(message, 1, 999, file)] = 0;
    fclose(file), waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) ? message : "";
}

/* A copy of a text with one space for each run of white space. */
char *with_single_spaces(const char *text)
{
    char *copy = format("%s", text), *to = copy;
    for (; *text; text++) {
        int space = isspace((unsigned char)*text);
        if (!space || !isspace((unsigned char)text[1])) *to++ = space ? ' ' : *text;
    }
    *to = 0;
    return copy;
}

/* The part of `says` that is not in the text as it must be, or NULL. The parts must be there in
 * this order, with anything between them for "..."; what follows "...!" must not be in the rest.
 * White space counts as one space, and beside "..." as nothing. */
const char *missing(const char *text, const char *says)
{
    text = with_single_spaces(text), says = with_single_spaces(says);
    for (const char *end = says; end; says = end + 3) {
        end = strstr(says, "...");
        char *piece = format("%.*s", (int)(end ? end - says : (long)strlen(says)), says);
        size_t size = strlen(piece);
        if (end && size && piece[size - 1] == ' ') piece[size - 1] = 0;
        if (*piece == ' ') piece++;
        int absent = *piece == '!';
        const char *at = strstr(text, piece + absent);
        if (!at == !absent) return piece;
        if (at) text = at + strlen(piece);
    }
    return NULL;
}

/* Fail unless `what`, a text that was printed or read, says this. */
void expect_in(const char *what, const char *text, const char *says)
{
    const char *lacks = missing(text ? text : "", says);
    expect(text && !lacks, "%s: expected '%s' in: %.300s", what, lacks, text);
}

static char json_error[160];

/* The tree of a text; NULL, and json_error, if it is refused. */
Json *json_of(const char *text)
{
    return json_parse(text, strlen(text), json_error, sizeof json_error);
}

/* ================================================================================================
 * 2. Machine and matrix multiply
 */

/* Moments of the two distributions, independence of neighbouring numbers and keys, and the first
 * number of splitmix64 with seed 0 as it was published. */
void test_random(void)
{
    enum { COUNT = 1 << 20 };
    static const struct { const char *what; double mean, variance; } moments[7] = {
        {"mean of uniform", 0, 1.0 / 12}, {"variance of uniform", 1.0 / 12, 1.0 / 180},
        {"neighbours", 0, 1.0 / 144}, {"another key", 0, 1.0 / 144}, {"mean of normal", 0, 1},
        {"variance of normal", 1, 2}, {"fourth moment of normal", 3, 96}};
    double sum[7] = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        double u = random_uniform(7, i) - 0.5, z = random_normal(8, i);
        double next = random_uniform(7, i + 1), other = random_uniform(random_key(7, 0), i);
        double x[7] = {u, u * u, u * (next - 0.5), u * (other - 0.5), z, z * z, z * z * z * z};
        for (int k = 0; k < 7; k++) sum[k] += x[k];
    }
    for (int k = 0; k < 7; k++)
        bound(moments[k].what, fabs(sum[k] / COUNT - moments[k].mean),
              5 * sqrt(moments[k].variance / COUNT));
    expect(random_key(0, 0) == 0xe220a8397b1dcdafu, "splitmix64 differs from its first value");
}

/* shuffled: every order of 4 is as likely; drawn: k of n, increasing, each as likely. */
void test_orders(void)
{
    enum { N = 20, K = 7, DRAWS = 24000 };
    int orders[256] = {0}, count[N] = {0}, kinds = 0;
    for (int i = 0; i < DRAWS; i++) {
        int *order = shuffled(4, random_key(1, i)), *chosen = drawn(N, K, random_key(2, i));
        orders[order[0] | order[1] << 2 | order[2] << 4 | order[3] << 6]++;
        for (int j = 0; j < K; j++) {
            expect(chosen[j] < N && (j == 0 || chosen[j] > chosen[j - 1]), "not increasing");
            count[chosen[j]]++;
        }
    }
    for (int i = 0; i < 256; i++)
        if (orders[i]) bound("orders", abs(orders[i] - DRAWS / 24), 5 * sqrt(DRAWS / 24)), kinds++;
    for (int i = 0; i < N; i++)
        bound("drawn", abs(count[i] - DRAWS * K / N), 5 * sqrt(DRAWS * K / N));
    expect(kinds == 24, "%d of 24 orders", kinds);
    int *all = drawn(3, 0, 1);
    expect(all[0] == 0 && all[1] == 1 && all[2] == 2, "0 does not draw all");
}

void test_dropout(void)
{
    enum { COUNT = 1 << 20 };
    real *x[4], p = (real)0.3;                                /* rate 0, p twice, another key */
    int zeros = 0, strange = 0, both = 0;
    for (int k = 0; k < 4; k++) {
        x[k] = allocate_reals(COUNT);
        for (int i = 0; i < COUNT; i++) x[k][i] = 1;
        dropout(x[k], COUNT, k ? p : 0, k < 3 ? 5 : random_key(5, 1));
    }
    expect(!memcmp(x[1], x[2], COUNT * sizeof(real)), "the same key gives another mask");
    for (int i = 0; i < COUNT; i++) {
        expect(x[0][i] == 1, "a rate of 0 changes something");
        zeros += x[1][i] == 0;
        both += x[1][i] != 0 && x[3][i] != 0;
        strange += x[1][i] != 0 && x[1][i] != 1 / (1 - p);
    }
    bound("rate", fabs((double)zeros / COUNT - p), 5 * sqrt(0.3 * 0.7 / COUNT));
    bound("two masks", fabs((double)both / COUNT - 0.49), 5 * sqrt(0.49 * 0.51 / COUNT));
    expect(!strange, "%d numbers are neither 0 nor 1/(1-p)", strange);
}

/* A product of these sizes, against matmul_plain. `kind` chooses transposes, what it is added to,
 * the distance of rows, and who multiplies. A `half` that is not 0 multiplies in bf16: matmul_plain
 * gets rounded numbers; bits 0 and 1 store an operand so. What lies between and below c's rows must
 * stay, and large products must be the same bits on 2 to 4 threads. */
void expect_product(int M, int N, int K, int kind, int half)
{
    int start = kind / 4 % 3, gap = kind / 12 % 4, large = max_int(M, max_int(N, K)) > 70;
    int rows[2] = {M, K}, columns[2] = {K, N};
    size_t ldc = N + gap, nc = ldc * (M + MR);
    real *x[2], *kept[2], *c[3], *bias = allocate_reals(N);
    bfloat16 *stored[2];
    View in[2], exact[2];
    for (int i = 0; i < 2; i++) {
        int turned = kind >> i & 1;
        size_t ld = (turned ? rows[i] : columns[i]) + gap, size = ld * (turned ? columns : rows)[i];
        x[i] = allocate_reals(size), kept[i] = allocate_reals(size);
        stored[i] = allocate(size, sizeof(bfloat16));
        fill(x[i], size, 1, 1 + i);
        for (size_t j = 0; j < size; j++) {
            stored[i][j] = bf16_from((float)x[i][j]);
            kept[i][j] = half ? (real)bf16_to(stored[i][j]) : x[i][j];
        }
        in[i] = half >> i & 1 ? view_bf16(stored[i], ld) : view(x[i], ld);
        exact[i] = view(kept[i], ld);
        if (turned) in[i] = flipped(in[i]), exact[i] = flipped(exact[i]);
    }
    fill(bias, N, 1, 4);
    bf16_products = half >> 2;
    for (int way = 0; way < 3; way++) {                       /* plain, fast, on more threads */
        fill(c[way] = allocate_reals(nc), nc, 1, 3);
        Output out = start == 0 ? assign(c[way], ldc) : start == 1 ? with_bias(c[way], ldc, bias)
                     : accumulate(c[way], ldc);
        use_threads(way == 2 && large ? 2 + kind % 3 : 1);
        if (way == 0) matmul_plain(out, exact[0], exact[1], M, N, K);
        else (kind / 48 ? matmul_serial : matmul)(out, in[0], in[1], M, N, K);
    }
    const char *what = format("%d x %d x %d, kind %d, half %d", M, N, K, kind, half);
    expect(!memcmp(c[1], c[2], nc * sizeof(real)), "%s: threads differ", what);
    bound(what, difference(c[1], c[0], nc), by_precision(4e-15, half ? 3e-6 : 2e-6));
    for (int way = 0; way < 3; way++) free_reals(c[way]);
    for (int i = 0; i < 2; i++) free_reals(x[i]), free_reals(kept[i]), free(stored[i]);
}

/* The definition itself: a = (i + j), b = (i - j), c = start + a b in whole numbers. */
void test_matmul_plain(void)
{
    real a[6], b[8], c[3 * 5], start[3 * 4];
    for (int i = 0; i < 6; i++) a[i] = i / 2 + i % 2;
    for (int i = 0; i < 8; i++) b[i] = i / 4 - i % 4;
    for (int i = 0; i < 12; i++) start[i] = i;
    matmul_plain((Output){c, 5, start, 4}, view(a, 2), view(b, 4), 3, 4, 2);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++)
            expect(c[i * 5 + j] == 4 * i + j + i * (0 - j) + (i + 1) * (1 - j), "c(%d, %d)", i, j);
}

/* Products of up to 70 numbers a side, many of few rows; then beyond one block, each way. */
void test_matmul(const void *precision)
{
    int bf16 = !strcmp(precision, "bf16");
    for (int i = 0; i < 1200; i++) {
        int M = i % 5 ? 1 + below(70, 1, i) : 1 + i / 5 % 4, half = bf16 ? 1 + i % 7 : 0;
        expect_product(M, 1 + below(70, 2, i), 1 + below(70, 3, i), i % 96, half);
    }
    for (int kind = 0; kind < 12; kind++) {
        int half = bf16 ? 1 + kind % 7 : 0;
        expect_product(19, 50, 2 * KC + 37, kind, half);
        expect_product(2 * MC + 5, 33, 21, kind, half);
        expect_product(2 * MC + 5, 33, 21, kind + 48, half);  /* on one thread */
        expect_product(9, 2 * NC + 7, 30, kind, half);
        expect_product(2, NC + 7, KC + 70, kind, half);       /* few rows */
    }
}

/* ================================================================================================
 * 3. Gradients of layers
 *
 * A layer has inputs x[i] and an output y; the scalar is sum dy*y, so that backward is given dy and
 * must produce dx[i], its gradient. A row of the table names the two functions, the sizes of the
 * inputs and of y, and for each input whether its gradient is (w)ritten or (a)dded to: before
 * backward, dx holds other numbers, which must be gone or still be there.
 */

typedef struct {
    void (*forward)(void), (*backward)(void);
    const char *gradients;
    int sizes[3], outputs;
} Layer;

enum { MOST = 1 << 16 };
static real x[3][MOST], dx[3][MOST], y[MOST], dy[MOST], kept[MOST];
static int token[MOST], position[MOST], doc_start[MOST];
static const Layer *layer;

double layer_loss(void)
{
    double sum = 0;
    layer->forward();
    for (int i = 0; i < layer->outputs; i++) sum += (double)dy[i] * y[i];
    return sum;
}

/* Blocks of documents for rows of T tokens: a document ends with one chance in six. */
void documents(int *begins, int rows, int T, uint64_t key)
{
    for (int n = 0; n < rows * T; n++)
        begins[n] = n % T == 0 ? 0 : below(6, key, n) ? begins[n - 1] : n % T;
}

void test_layer(const void *row)
{
    layer = row;
    for (int n = 0; n < MOST; n++) token[n] = below(11, 9, n);
    fill(dy, layer->outputs, 1, 4);
    for (int i = 0; layer->gradients[i]; i++) {
        fill(x[i], layer->sizes[i], 1, 5 + i);
        fill(dx[i], layer->sizes[i], 1, 8 + i);
    }
    layer->forward();
    layer->backward();
    for (int i = 0; layer->gradients[i]; i++) {
        int size = layer->sizes[i], added = layer->gradients[i] == 'a';
        for (int j = 0; added && j < size; j++) dx[i][j] -= (real)random_normal(8 + i, j);
        expect(largest(dx[i], size) > 1e-3, "input %d has no gradient", i);
        bound("gradient", gradient_error(layer_loss, x[i], dx[i], size, 150, 11), 1e-6);
    }
}

/* ---- embedding, N 21, C 70: x[0] wte (11 rows), x[1] wpe (7 rows) ---- */
void embedding_y(void)
{
    for (int n = 0; n < 21; n++) position[n] = below(7, 1, n);
    embedding_forward(y, token, position, view(x[0], 70), view(x[1], 70), 21, 70);
}
void embedding_dx(void) { embedding_backward(dx[0], dx[1], dy, token, position, 21, 70); }

/* ---- linear, N 13, C 20, OC 70: x[0] x, x[1] w, x[2] b ---- */
void linear_y(void) { linear_forward(y, 70, x[0], view(x[1], 20), x[2], 13, 20, 70); }
void linear_dx(void)
{
    linear_backward(dx[0], dx[1], dy, x[0], view(x[1], 20), 13, 20, 70);
    bias_backward(dx[2], dy, 13, 70);
}

/* ---- layernorm, N 9, C 70: x[0] x, x[1] w, x[2] b ---- */
void layernorm_y(void) { layernorm_forward(y, kept, x[0], x[1], x[2], 9, 70); }
void layernorm_dx(void)
{
    layernorm_backward(dx[0], dx[1], dy, x[0], kept, x[1], 9, 70);
    bias_backward(dx[2], dy, 9, 70);
}

/* ---- GELU, 500 numbers ---- */
void gelu_y(void) { gelu_forward(y, x[0], 500); }
void gelu_dx(void) { gelu_backward(dx[0], dy, x[0], 500); }

/* ---- attention, B 2, C 12, NH 3, T 150 > 2 QB, dropout; one row is whole, one is packed ---- */
static Attention attention = {x[0], doc_start, 2, 0, 150, 150, 12, 3, (real)0.2, 1};
void attention_y(void)
{
    for (int t = 0; t < 150; t++) {
        doc_start[t] = 0;
        doc_start[150 + t] = t < 20 ? t / 7 * 7 : t < 80 ? 20 : 80; /* the last two across blocks */
    }
    attention_forward(y, kept, &attention);
}
void attention_dx(void) { attention_backward(dx[0], dy, y, kept, &attention); }

/* ---- head, softmax and loss, N 1200, a third of weight 0, smoothing 0.1, C 6, V 11 of 16:
 * x[0] x, x[1] wte, dy the weights ---- */
void head(int backward)
{
    static double loss[1200];
    static real memory[CHUNK * (16 + 2 * 6)];
    static int argmax[1200];
    for (int n = 0; n < 1200; n += 3) dy[n] = 0;
    head_loss(&(Head){x[0], view(x[1], 6), dy, token, loss, argmax, backward ? dx[0] : NULL,
                      backward ? dx[1] : NULL, memory, 0.1, 1200, 6, 11, 16, CHUNK});
    for (int n = 0; n < 1200; n++) y[n] = (real)loss[n];
}
void head_y(void) { head(0); }
void head_dx(void) { head(1); }

/* ================================================================================================
 * 4. The model
 */

static const Config small = {.T = 20, .V = 37, .L = 2, .NH = 3, .C = 24, .Vp = 40};
static const Dropout no_dropout;
static const AdamW usual = {.lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .decay = 0.1,
                            .clip = 1};

/* A model whose weights are all random and large enough that nothing is nearly linear. */
Model *random_model(Config c, Mode mode, int B, int frozen)
{
    Model *m = model_new(c);
    model_prepare(m, mode, B, c.T, frozen);
    fill(m->w.wte, m->count, 0.2, 1);
    for (int i = 0; i < TENSORS; i++) {
        const Tensor *t = &m->tensors[i];
        size_t size = t->first_value == ONES ? tensor_size(m, t) : 0;
        for (size_t j = 0; j < size; j++) (&m->w.wte)[i][j] += 1;
    }
    return m;
}

/* Give it adapters of rank 3, all random, on some matrices. */
void adapt_randomly(Model *m, int on)
{
    model_adapt(m, (Adapter){1, 6, 3, on}, 1);
    fill(m->w.qkv_A, m->adapter_count, 0.2, 2);
    model_prepare(m, m->mode, m->B, m->T, m->frozen);
}

/* A batch of packed documents; a third of the targets do not count, the others 0.01 to 0.1. */
Batch random_batch(int B, int T, int V, uint64_t key)
{
    Batch b = batch_new(B, T);
    for (int n = 0; n < B * T; n++) {
        b.tokens[n] = below(V, key, 3 * n);
        b.targets[n] = below(V, key, 3 * n + 1);
        b.loss_weight[n] = (real)(0.01 + 0.09 * random_uniform(key + 1, n));
        if (below(3, key, 3 * n + 2) == 0) b.loss_weight[n] = 0;
    }
    documents(b.doc_start, B, T, key);
    return b;
}

/* Two arenas of the shape of m, compared tensor by tensor. */
void bound_tensors(const Model *m, const real *a, const real *b, double limit)
{
    for (int i = 0; i < TENSORS; i++) {
        const Tensor *t = &m->tensors[i];
        bound(t->field, difference(a + t->offset, b + t->offset, tensor_size(m, t)), limit);
    }
}

static Model *model;
static Batch batch;
static double smoothing_rate;
static Dropout rates;
double batch_loss(void) { return model_loss(model, &batch, rates, smoothing_rate, 0); }

/* The whole model through every row of the table of tensors. */
void test_model_gradient(void)
{
    rates = (Dropout){(real)0.1, (real)0.2, (real)0.15, 0, 77};
    smoothing_rate = 0.1;
    model = random_model(small, TRAINING, 3, 0);
    batch = random_batch(3, small.T, small.V, 3);
    model_loss(model, &batch, rates, smoothing_rate, 1);
    for (int i = 0; i < TENSORS; i++) {
        const Tensor *t = &model->tensors[i];
        size_t size = tensor_size(model, t);
        real *w = model->w.wte + t->offset, *g = model->g.wte + t->offset;
        expect(largest(g, size) > 1e-3, "%s has no gradient", t->field);
        bound(t->field, gradient_error(batch_loss, w, g, size, 60, i), 1e-6);
    }
}

/* Frozen blocks keep a gradient of exactly 0, and the others get the same bits as without. */
void test_frozen(void)
{
    Config c = small;
    Dropout d = {(real)0.1, (real)0.1, (real)0.1, 0, 5};
    Batch b = random_batch(2, c.T, c.V, 3);
    c.L = 3;
    for (int frozen = 1; frozen <= 3; frozen++) {
        Model *full = random_model(c, TRAINING, 2, 0), *part = random_model(c, TRAINING, 2, frozen);
        double loss_full = model_loss(full, &b, d, 0, 1), loss_part = model_loss(part, &b, d, 0, 1);
        expect(loss_full == loss_part, "%d frozen: loss %g, not %g", frozen, loss_part, loss_full);
        for (int i = 0; i < TENSORS; i++) {
            const Tensor *t = &part->tensors[i];
            size_t from = trained_from(part, t), count = tensor_size(part, t) - from;
            real *g = (&part->g.wte)[i], *right = (&full->g.wte)[i];
            expect(largest(g, from) == 0, "%d frozen: %s has a gradient", frozen, t->field);
            expect(!memcmp(g + from, right + from, count * sizeof *g), "%s differs", t->field);
        }
        model_update(part, usual, 1);
        expect(!memcmp(part->w.wte, full->w.wte, part->tensors[0].size * sizeof(real)),
               "%d frozen: the update moved wte", frozen);
    }
}

/* A token has no influence on what stands before it, nor on other documents, nor on other rows. */
void test_causal(void)
{
    Model *m = random_model(small, TRAINING, 3, 0);
    Batch b = random_batch(3, small.T, small.V, 4);
    int T = b.T, C = small.C;
    model_forward(m, b.tokens, b.doc_start, 3, 0, T, no_dropout);
    real *before = copy(m->a.ln, (size_t)3 * T * C);
    for (int n = 0; n < 3 * T; n++) {
        b.tokens[n] = (b.tokens[n] + 1) % small.V;
        model_forward(m, b.tokens, b.doc_start, 3, 0, T, no_dropout);
        b.tokens[n] = (b.tokens[n] + small.V - 1) % small.V;
        for (int i = 0; i < 3 * T; i++) {
            int same = !memcmp(m->a.ln + (size_t)i * C, before + (size_t)i * C, C * sizeof(real));
            int sees = i / T == n / T && i >= n && b.doc_start[i] <= n % T;
            expect(same != sees, "output %d %s token %d", i, sees ? "does not see" : "sees", n);
        }
    }
}

/* Alone, the documents of a batch, and its rows, have the same losses as together, and gradients
 * whose sum is the gradient of the whole. */
void test_packed(void)
{
    static int zeros[20];
    double limit = by_precision(1e-12, 1e-4);
    for (int rows = 0; rows < 2; rows++) {
        Model *m = random_model(small, TRAINING, 3, 0);
        Model *alone = random_model(small, TRAINING, 1, 0);
        Batch b = random_batch(3, small.T, small.V, 6);
        double sum = model_loss(m, &b, no_dropout, 0.1, 1);
        int count = 0;
        for (int n = 0, next; n < 3 * b.T; n = next, count++) {
            for (next = n + 1; next % b.T && (rows || b.doc_start[next] == n % b.T); next++) {}
            Batch part = {1, next - n, b.tokens + n, b.targets + n, rows ? b.doc_start + n : zeros,
                          b.loss_weight + n};
            sum -= model_loss(alone, &part, no_dropout, 0.1, 1);
            for (int i = n; i < next; i++)
                bound("loss of a token", fabs(alone->loss[i - n] - m->loss[i]), limit);
        }
        bound("loss", fabs(sum), limit);
        bound_tensors(m, alone->g.wte, m->g.wte, limit);
        expect(rows ? count == 3 : count > 6, "%d parts", count);
    }
}

/* Targets of weight 0 have no influence, and send back exactly nothing: a masked document of its
 * own length is alone in using the last positions, and their gradient is 0. */
void test_masked(void)
{
    Model *m = random_model(small, TRAINING, 2, 0);
    Batch b = random_batch(2, small.T, small.V, 8);
    int T = b.T, half = T / 2;
    for (int n = 0; n < 2 * T; n++) {
        b.doc_start[n] = n < T ? 0 : n % T / half * half;
        if (n < T) b.loss_weight[n] = 0;
    }
    double sum = model_loss(m, &b, no_dropout, 0.1, 1);
    size_t rows = (size_t)half * small.C, bytes = m->count * sizeof(real);
    real *g = copy(m->g.wte, m->count);
    expect(largest(m->g.wpe, rows) > 0, "the document that counts has no gradient");
    expect(largest(m->g.wpe + rows, rows) == 0, "the masked document has a gradient");
    for (int n = 0; n < 2 * T; n++)
        if (b.loss_weight[n] == 0) b.targets[n] = (b.targets[n] + 1) % small.V;
    memset(m->g.wte, 0, bytes);
    expect(model_loss(m, &b, no_dropout, 0.1, 1) == sum && !memcmp(g, m->g.wte, bytes),
           "a masked target changes the loss or a gradient");
    memset(b.loss_weight, 0, 2 * T * sizeof(real));
    memset(m->g.wte, 0, bytes);
    expect(model_loss(m, &b, no_dropout, 0.1, 1) == 0, "nothing counts, but there is a loss");
    expect(largest(m->g.wte, m->count) == 0, "nothing counts, but there is a gradient");
}

/* A way to train. */
typedef struct { int bf16, moments16, adapted, recompute, frozen; } Way;

/* A checksum of losses, norms and weights in three steps of training with dropout. */
uint64_t training_sum(Way way, int team)
{
    Config c = {.T = 200, .V = 1000, .L = 3, .NH = 3, .C = 96, .Vp = 1008};
    Recipe r = {{(real)0.1, (real)0.1, (real)0.1, (real)0.1, 1}, 0.1, usual};
    Batch b = random_batch(2, c.T, c.V, 2);
    Model *m = random_model(c, INFERENCE, 2, 0);
    uint64_t sum = 0;
    if (way.adapted) adapt_randomly(m, 15);
    m->bf16_moments = way.moments16, m->recompute = way.recompute, bf16_products = way.bf16;
    model_prepare(m, TRAINING, 2, c.T, way.frozen);
    use_threads(team);
    for (int step = 1; step <= 3; step++) {
        double told[2];
        told[0] = model_step(m, &b, 1, &r, step, &told[1]);
        sum = checksum(checksum(sum, told, sizeof told), m->w.wte, m->count * sizeof(real));
        if (way.adapted) sum = checksum(sum, m->w.qkv_A, m->adapter_count * sizeof(real));
    }
    model_free(m);
    return sum;
}

/* Results are the same bits on any number of threads, each way; and the ways differ. */
void test_threads(void)
{
    static const Way ways[] = {{0}, {.bf16 = 1}, {.moments16 = 1},
                               {.moments16 = 1, .adapted = 1, .recompute = 1}};
    uint64_t sums[4][5];
    for (int way = 0; way < 4; way++)
        for (int team = 1; team < 5; team++) {
            sums[way][team] = training_sum(ways[way], team);
            if (threads() != team) skip("there is no OpenMP");
            expect(sums[way][team] == sums[way][1], "way %d differs on %d threads", way, team);
            expect(!way || sums[way][1] != sums[way - 1][1], "way %d has the bits of another", way);
        }
}

/* With the keys and values of the past kept, a token's output is what a full forward gives: after
 * a prompt of 7 in one row, token by token; and, with adapters, in three rows at once. */
void test_cache(void)
{
    double limit = by_precision(1e-12, 1e-5);
    int T = small.T, C = small.C;
    for (int B = 1; B <= 3; B += 2) {
        Model *full = random_model(small, INFERENCE, B, 0);
        Model *m = random_model(small, INFERENCE, B, 0);
        if (B == 3) adapt_randomly(full, 15), adapt_randomly(m, 15);
        Batch b = random_batch(B, T, small.V, 5);
        model_forward(full, b.tokens, NULL, B, 0, T, no_dropout);
        for (int t = 0, count; t < T; t += count) {
            int step[7], at[7];
            count = B == 1 && t == 0 ? 7 : 1;
            for (int i = 0; i < B * count; i++) {
                at[i] = i / count * T + t + i % count;
                step[i] = b.tokens[at[i]];
            }
            model_forward(m, step, NULL, B, t, count, no_dropout);
            for (int i = 0; i < B * count; i++)
                bound("output", difference(m->a.ln + i * C, full->a.ln + at[i] * C, C), limit);
        }
    }
}

/* ================================================================================================
 * 5. Parity with PyTorch: data/reference.py made data/reference.bin, in float64
 */

static struct {
    int B;
    size_t results;                                           /* the byte where they begin */
    real *weights;
    Batch batch[10];
    Reader r;
} reference;

real *read_doubles(Reader *r, size_t count)
{
    double *numbers = allocate(count, sizeof *numbers);
    real *to = allocate(count, sizeof *to);
    reader_get(r, numbers, count * sizeof *numbers);
    for (size_t i = 0; i < count; i++) to[i] = (real)numbers[i];
    return to;
}

/* The model before its first step. The first call reads `reference`, whose file stays open. */
Model *reference_model(void)
{
    static int32_t h[HEADER];
    int open = reference.weights != NULL;
    Reader *r = &reference.r;
    if (!open) *r = reader_open("data/reference.bin"), reader_header(r, h, 20240607, "reference");
    assert(h[1] == 1 && h[9] == 10);
    Model *m = model_new((Config){h[2], h[3], h[4], h[5], h[6], h[7]});
    model_prepare(m, TRAINING, reference.B = h[8], m->c.T, 0);
    if (!open) {
        reference.weights = allocate(m->count, sizeof(real));
        read_reals(r, reference.weights, NULL, m->count, 0);
        for (Batch *b = reference.batch; b < reference.batch + 10; b++) {
            *b = batch_new(m->B, m->T);
            reader_get(r, b->tokens, (size_t)3 * m->B * m->T * sizeof(int));
            read_reals(r, b->loss_weight, NULL, (size_t)m->B * m->T, 0);
        }
        reference.results = r->at;
    }
    memcpy(m->w.wte, reference.weights, m->count * sizeof(real));
    return m;
}

void test_parity(void)
{
    Model *m = reference_model();
    Batch *b = &reference.batch[1];
    double limit = by_precision(1e-10, 1e-4);
    size_t N = (size_t)b->B * b->T, V = m->c.V, C = m->c.C;
    reader_seek(&reference.r, reference.results);
    real *logits = read_doubles(&reference.r, N * V), *losses = read_doubles(&reference.r, N);
    real *gradient = read_doubles(&reference.r, m->count), *ours = allocate_reals(N * V);
    model_loss(m, b, no_dropout, 0, 1);
    for (size_t n = 0; n < N; n++)
        if (b->loss_weight[n] != 0) bound("loss", fabs(m->loss[n] - losses[n]), limit);
    bound_tensors(m, m->g.wte, gradient, limit);
    model_forward(m, b->tokens, b->doc_start, b->B, 0, b->T, no_dropout);
    matmul(assign(ours, V), view(m->a.ln, C), transposed(m->w.wte, C), N, V, C);
    bound("logits", difference(ours, logits, N * V), limit);
}

/* Ten steps of AdamW; then 50 of fine-tuning on packed, masked documents. In float the weights are
 * not compared: where a gradient is 0 but for rounding (a key's bias), AdamW makes it large. */
void test_trajectory(void)
{
    static const struct { int steps, warmup; double lr, smoothing, in_double, in_float; } runs[] = {
        {10, 3, 1e-2, 0, 1e-10, 1e-4}, {50, 5, 2e-3, 0.1, 1e-8, 1e-3}};
    for (int run = 0; run < 2; run++) {
        int steps = runs[run].steps;
        double limit = by_precision(runs[run].in_double, runs[run].in_float), norm;
        Model *m = reference_model();
        Reader *r = &reference.r;
        size_t before = (size_t)m->B * m->T * (m->c.V + 1) + m->count;    /* is for test_parity */
        if (run == 0) reader_seek(r, reference.results + before * sizeof(double));
        real *losses = read_doubles(r, steps), *norms = run ? NULL : read_doubles(r, steps);
        real *weights = read_doubles(r, m->count);
        Recipe recipe = {no_dropout, runs[run].smoothing, usual};
        for (int i = 0; i < steps; i++) {
            recipe.adamw.lr = runs[run].lr * schedule("cosine", i, runs[run].warmup, steps, 0.1);
            double loss = model_step(m, &reference.batch[i % 10], 1, &recipe, i + 1, &norm);
            bound("loss", fabs(loss - losses[i]), limit);
            if (norms) bound("norm of gradient", fabs(norm / norms[i] - 1), limit);
        }
        if (REAL_BYTES == 8) bound_tensors(m, m->w.wte, weights, limit);
    }
}

/* ================================================================================================
 * 6. Optimizer, sampling, generation, conversations
 */

/* The norm against its definition; clipping; decay and L1 penalty of matrices only. */
void test_update(void)
{
    AdamW o = {.lr = 0, .beta1 = 0.9, .beta2 = 0.9, .epsilon = 1e-8, .decay = 0.5, .l1 = 0.02,
               .clip = 0.25};
    Model *m = random_model(small, TRAINING, 1, 0);
    double square = 0, sum = 0;
    real *before = copy(m->w.wte, m->count);
    fill(m->g.wte, m->count, 1, 3);
    for (size_t i = 0; i < m->count; i++) square += pow(m->g.wte[i], 2);
    bound("norm", fabs(model_update(m, o, 1) / sqrt(square) - 1), by_precision(1e-12, 1e-6));
    for (size_t i = 0; i < m->count; i++) sum += pow(((real *)m->moments[0])[i], 2);
    bound("clipped", fabs(sqrt(sum) / 0.1 / 0.25 - 1), by_precision(1e-12, 1e-5));
    memset(m->moments[0], 0, m->count * sizeof(real));
    o.lr = 0.5;
    model_update(m, o, 1);
    for (int i = 0; i < TENSORS; i++) {
        const Tensor *t = &m->tensors[i];
        int matrix = t->first_value != ONES && t->first_value != ZEROS;
        for (size_t j = t->offset; j < t->offset + tensor_size(m, t); j++) {
            real kept = (real)0.75 * before[j], size = (real)fabs(kept) - (real)0.01;
            real right = matrix ? (real)copysign(size < 0 ? 0 : size, kept) : before[j];
            expect(m->w.wte[j] == right, "%s: decay and penalty are wrong", t->field);
        }
    }
}

/* The factor of the learning rate, after 10 steps of warming up, in 100 steps that end at 0.1. */
void test_schedule(void)
{
    static const int steps[] = {0, 4, 9, 10, 40, 55, 85, 100};
    static const struct { const char *kind; double right[8]; } rows[] = {
        {"cosine", {0.1, 0.5, 1, 1, 0.775, 0.55, 0.55 - 0.225 * 1.7320508075688772, 0.1}},
        {"linear", {0.1, 0.5, 1, 1, 0.7, 0.55, 0.25, 0.1}},
        {"constant", {0.1, 0.5, 1, 1, 1, 1, 1, 1}}};
    for (int k = 0; k < 3; k++) {
        const char *kind = rows[k].kind;
        bound("no warmup", fabs(schedule(kind, 0, 0, 100, 0.1) - 1), 1e-15);
        for (int i = 0; i < 8; i++)
            bound(kind, fabs(schedule(kind, steps[i], 10, 100, 0.1) - rows[k].right[i]), 1e-15);
    }
}

int by_likelihood(const void *a, const void *b)
{
    const Candidate *x = a, *y = b;
    return more_likely(*y, *x) - more_likely(*x, *y);
}

/* Draws in several settings from several rows of logits, against probabilities from the definition:
 * sort, of equals the first token first; keep the first top_k (temperature 0: the first), then the
 * first whose sum reaches top_p. What is impossible is never drawn. */
void test_sampling(void)
{
    enum { MOST_V = 40, ROWS = 7, SETTINGS = 14 };
    static const Sampling settings[SETTINGS] = {
        {.temperature = 1, .top_p = 1}, {.temperature = 0.7, .top_p = 0.9},
        {.temperature = 2, .top_p = 1, .top_k = 7}, {.temperature = 1, .top_p = 0.6, .top_k = 12},
        {.temperature = 1, .top_p = 1, .top_k = 99}, {.temperature = 1, .top_p = 0},
        {.temperature = 0, .top_p = 1}, {.temperature = 1e-30, .top_p = 1},
        {.temperature = 1e-320, .top_p = 1}, {.temperature = 1e-320, .top_p = 0.9},
        {.temperature = 100, .top_k = 1}, {.temperature = 100, .top_k = 1, .top_p = 1},
        {.temperature = 100, .top_p = 0}, {.temperature = 100, .top_p = 1e-9, .top_k = 99}};
    static real rows[ROWS][MOST_V] = {
        {0}, {-3, 1, 2, 5, 4, 0}, {0, 0, 0, 0, 0, 9}, {9, 0, 0, 0, 0, 0}, {1, 7, 3, 7, 7, 0},
        {-INFINITY, -1e30f, -INFINITY, 0, -5, 0}, {0}};
    static const int sizes[ROWS] = {MOST_V, 6, 6, 6, 6, 6, 1};
    Candidate order[MOST_V], list[MOST_V];
    fill(rows[0], MOST_V, 1.5, 3);
    for (int i = 0; i < ROWS * SETTINGS; i++) {
        const Sampling *s = &settings[i % SETTINGS];
        const real *logits = rows[i / SETTINGS];
        int V = sizes[i / SETTINGS], count[MOST_V] = {0}, draws = V == MOST_V ? 20000 : 2000, n = 0;
        int k = s->temperature == 0 ? 1 : s->top_k ? min_int(V, s->top_k) : V;
        double p[MOST_V] = {0}, sum = 0, kept = 0, T = fmax(1e-9, s->temperature);
        for (int v = 0; v < V; v++) order[v] = (Candidate){logits[v], 0, v};
        qsort(order, V, sizeof *order, by_likelihood);
        for (int j = 0; j < k; j++) sum += p[j] = exp((order[j].logit - order[0].logit) / T);
        do kept += p[n++];
        while (n < k && kept < s->top_p * sum);
        for (int j = 0; j < draws; j++) count[sample(logits, V, s, random_key(9, j), list)]++;
        for (int j = 0; j < V; j++) {
            double expected = j < n ? draws * p[j] / kept : 0, seen = count[order[j].id];
            bound("draws", fabs(seen - expected), 5 * sqrt(expected) + (expected > 0 ? 5 : 1e-9));
        }
    }
}

/* Text that comes byte by byte is shown in whole characters, never past what may begin the stop
 * text, and ends before it. */
void test_streaming(void)
{
    const char *text = "na\xC3\xAFve \xE2\x82\xAC \xF0\x9F\x98\x80 <en <end> more", *stop = "<end>";
    size_t expected = strstr(text, stop) - text;
    Sample s = {0};
    for (size_t i = 0; text[i] && !s.done; i++) {
        sample_add(&s, text + i, 1, stop, NULL);
        expect(s.shown <= expected && s.shown <= s.text.size &&
               !memcmp(s.text.bytes, text, s.shown), "byte %zu: other text, or the stop text", i);
        for (size_t at = 0, n = 1; n && at < s.shown; at += n) {
            n = utf8_length(s.text.bytes + at, s.shown - at);
            expect(n > 0, "half a character is shown after byte %zu", i);
        }
    }
    expect(s.done && s.shown == expected && s.text.size == expected, "%zu bytes", s.text.size);
}

/* Generation with its cache against a new computation of all that the model sees, at every step and
 * far across the end of the context: greedily and at random, with short and too long prompts. */
void test_window(void)
{
    Tokenizer *t = tokenizer_read("data/mini_tokenizer.bin");
    int contexts[] = {1, 2, 7, 12}, prompts[] = {1, 5, 12, 30};
    for (int i = 0; i < 16; i++) {
        Config c = {.T = contexts[i / 4], .V = t->count, .L = 2, .NH = 2, .C = 16, .Vp = t->count};
        int S = 1 + i % 3, T = c.T, tokens = 3 * T + 2, count = prompts[i % 4], prompt[30], size;
        Sampling s = {.temperature = i % 2, .top_p = 1, .tokens = tokens, .samples = S, .key = i};
        Model *m = random_model(c, INFERENCE, 1, 0), *again = random_model(c, INFERENCE, 1, 0);
        real *logits = allocate_reals(c.V);
        Candidate *list = allocate(c.V, sizeof *list);
        Sample out[3];
        for (int k = 0; k < count; k++) prompt[k] = below(c.V, 3, k);
        generate(m, t, prompt, count, &s, out, NULL);
        for (int b = 0; b < S; b++) {
            int seen[30], length = count < T ? count : T - T / 2, step = 0, same = 1;
            const Text *told = &out[b].text;
            size_t at = 0;
            memcpy(seen, prompt + count - length, length * sizeof(int));
            while (step < tokens) {
                model_forward(again, seen, NULL, 1, 0, length, no_dropout);
                const real *x = again->a.ln + (length - 1) * c.C;
                for (int v = 0; v < c.V; v++) logits[v] = dot(x, m->w.wte + v * c.C, c.C);
                int id = sample(logits, c.V, &s, random_key(random_key(i, b), step++), list);
                if (id == t->end_of_text) break;
                const char *bytes = tokenizer_bytes(t, id, &size);
                same &= at + size <= told->size && !memcmp(told->bytes + at, bytes, size);
                at += size;
                if (length == T) memmove(seen, seen + T - T / 2, (length = T / 2) * sizeof(int));
                seen[length++] = id;
            }
            expect(same && out[b].tokens == step && told->size == at,
                   "context %d, prompt of %d, sample %d: another text", T, count, b);
        }
    }
}

/* The text of tokens, with targets in braces. */
Text marked_text(const Tokenizer *t, Encoded e)
{
    Text text = {0};
    for (size_t k = 0; k <= e.size; k++) {
        int size, now = k < e.size && e.loss_mask[k], last = k > 0 && e.loss_mask[k - 1];
        if (now != last) text_add(&text, now ? "{" : "}", 1);
        if (k == e.size) break;
        const char *bytes = tokenizer_bytes(t, e.ids[k], &size);
        text_add(&text, bytes, size);
    }
    return text;
}

/* What is learned, token by token: targets stand in braces. A prompt has the same tokens alone as
 * before its answer. */
void test_template(void)
{
    static const struct { const char *text; int count; Turn turns[6]; } cases[] = {
        {"System: Be brief.\nUser: Hello\nAssistant:{ Hi.\nUser:} Thanks\nAssistant:{ Bye.}", 5,
         {{SYSTEM, 0, "Be brief.", 9}, {USER, 0, "Hello", 5}, {ASSISTANT, 1, "Hi.", 3},
          {USER, 0, "Thanks", 6}, {ASSISTANT, 1, "Bye.", 4}}},
        {"User: Hello\nAssistant: Hi.\nUser: Thanks\nAssistant:{ Bye.}", 4,
         {{USER, 0, "Hello", 5}, {ASSISTANT, 0, "Hi.", 3}, {USER, 0, "Thanks", 6},
          {ASSISTANT, 1, "Bye.", 4}}},
        {"User: Hello\nAssistant:{ Hi.\nSystem:} Stop\nAssistant:", 4,
         {{USER, 0, "Hello", 5}, {ASSISTANT, 1, "Hi.", 3}, {SYSTEM, 0, "Stop", 4},
          {ASSISTANT, 0, NULL, 0}}},
        {"Assistant:{ One\nAssistant: Two\nAssistant:} Three", 3,
         {{ASSISTANT, 1, "One", 3}, {ASSISTANT, 1, "Two", 3}, {ASSISTANT, 0, "Three", 5}}},
        {"Whe{n we}", 2, {{PROMPT, 0, "Whe", 3}, {COMPLETION, 1, "n we", 4}}},
        {"Whe", 2, {{PROMPT, 0, "Whe", 3}, {COMPLETION, 0, NULL, 0}}},
        {"User: a\nAssistant:{ }", 2, {{USER, 0, "a", 1}, {ASSISTANT, 1, "", 0}}}};
    Tokenizer *t = tokenizer_read("data/mini_tokenizer.bin");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int n = cases[i].count;
        const Turn *turns = cases[i].turns;
        Encoded e = turns_encode(t, turns, n);
        Text text = marked_text(t, e);
        expect(!strcmp(text.bytes, cases[i].text), "case %zu: %s", i, text.bytes);
        for (int k = 0; k < n; k++) {                         /* each prompt by itself */
            if (!is_answer(turns[k].role) || !turns[k].text) continue;
            Turn open[6];
            memcpy(open, turns, sizeof open);
            open[k].text = NULL;
            Encoded p = turns_encode(t, open, k + 1);
            expect(p.size < e.size && !memcmp(p.ids, e.ids, p.size * sizeof *p.ids),
                   "case %zu: turn %d has other tokens before it alone", i, k);
            expect(p.answer == p.size && (k < n - 1 || e.answer == p.size), "case %zu: answer", i);
        }
    }
}

/* A prompt is <|endoftext|> and the conversation; messages that are none are refused. */
void test_prompts(void)
{
    static const char text[] = "System: Be brief.\nUser: Hello\nAssistant:", *const messages[] = {
        ("[{\"role\": \"system\", \"content\": \"Be brief.\"},"
         " {\"role\": \"user\", \"content\": \"Hello\"}]"),
        "[{\"role\": \"user\"}]", "[{\"role\": \"robot\", \"content\": \"a\"}]", "[1]",
        "[{\"content\": \"a\"}, {\"role\": \"user\", \"content\": \"a\"}]",
        "[{\"role\": \"user\", \"content\": 1}]", "[{\"role\": 1, \"content\": \"a\"}]"};
    Tokenizer *t = tokenizer_read("data/mini_tokenizer.bin");
    int a, b, *right = prompt_tokens(t, text, sizeof text - 1, &b);
    for (int i = 0; i < 7; i++) {
        Json *json = json_of(messages[i]);
        int *ids = chat_tokens(t, json, &a);
        if (i) expect(!ids, "accepted: %s", messages[i]);
        else expect(ids && ids[0] == t->end_of_text && a == b && !memcmp(ids, right, a * sizeof a),
                    "%d tokens against %d", a, b);
    }
}

/* A chat forgets the oldest question and answer until its prompt fits, but never the last question.
 * A zero byte is a byte like others. */
void test_chat(void)
{
    static const char text[] = "User: a\0b\nAssistant:";
    Tokenizer *t = tokenizer_read("data/mini_tokenizer.bin");
    Chat c = {0};
    int size, whole, last, *right = prompt_tokens(t, text, sizeof text - 1, &last);
    for (int turn = 0; turn < 9; turn++)
        chat_add(&c, turn % 2 ? ASSISTANT : USER, turn == 8 ? "a\0b" : "words", turn == 8 ? 3 : 5);
    chat_prompt(&c, t, 1000, &whole);
    for (int longest = whole; longest > 0; longest--) {
        int before = c.from, *prompt = chat_prompt(&c, t, longest, &size);
        expect(size <= longest || c.from == 8, "%d tokens do not fit %d", size, longest);
        expect(c.from % 2 == 0 && c.from - before <= 2, "from turn %d to %d", before, c.from);
        expect(longest < whole || c.from == 0, "one turn too many is forgotten");
        expect(prompt[0] == t->end_of_text, "no beginning");
        expect(c.from < 8 || (size == last && !memcmp(prompt, right, size * sizeof size)),
               "the last question has other tokens");
    }
    expect(c.from == 8 && c.count == 9, "the last question is not all that is left");
}

void test_duration(void)
{
    static const struct { double seconds; const char *text; } times[] = {
        {3.21, "3.2s"}, {125, "2m05s"}, {3725, "1h02m"}, {3e9, "833333h20m"},
        {1e300, "unknown time"}, {NAN, "unknown time"}, {INFINITY, "unknown time"}};
    for (int i = 0; i < 7; i++) {
        const char *told = duration(times[i].seconds);
        expect(!strcmp(told, times[i].text), "%g is %s", times[i].seconds, told);
    }
}

/* ================================================================================================
 * 7. Data
 *
 * In these token files the id of a token is its position in the file, so that a batch tells where
 * each of its numbers came from. The end of text is 0.
 */

Tokens numbered_text(size_t count)
{
    Tokens t = {.path = "test", .count = count, .ids = allocate(count, sizeof *t.ids)};
    for (size_t i = 0; i < count; i++) t.ids[i] = (uint16_t)i;
    return t;
}

/* Documents of `shortest` to `longest` tokens; the second half of each counts. */
Tokens numbered_documents(int count, int shortest, int longest)
{
    size_t room = (size_t)count * longest + 1;
    Tokens t = {.path = "test", .examples = 1, .count = 1};
    t.ids = allocate(room, sizeof *t.ids), t.loss_mask = allocate(room, 1);
    for (int d = 0; d < count; d++) {
        int length = shortest + below(longest - shortest + 1, 1, d);
        for (int i = 1; i <= length; i++, t.count++) {
            t.ids[t.count] = i < length ? (uint16_t)t.count : 0;
            t.loss_mask[t.count] = i > length / 2;
        }
    }
    return t;
}

/* Read an epoch in batches of one row; ever[i] counts how often the token at i was an input. Checks
 * that this is once at most, and that every other number of the batch follows from the inputs.
 * Returns how many inputs were tokens of the text. */
int read_epoch(DataLoader *f, int *ever)
{
    const Tokens *t = f->tokens;
    Batch b = batch_new(1, f->T);
    int rows = f->rows, begin = 0, inputs = 0;
    char *seen = allocate(t->count, 1);
    for (int row = 0; row < rows; row++) {
        int counted = loader_batch(f, &b), sum = 0;
        for (int n = 0; n < f->T; n++) {
            int from = b.tokens[n] ? b.tokens[n] : b.targets[n] ? b.targets[n] - 1 : -1;
            if (b.doc_start[n] == n) begin = from;
            if (from < 0) {                                   /* no document is here */
                expect(b.loss_weight[n] == 0 && b.doc_start[n] == n, "row %d, %d: padding", row, n);
                continue;
            }
            expect(!seen[from]++, "token %d comes twice in an epoch", from);
            ever[from]++, inputs++;
            sum += b.loss_weight[n] != 0;
            int counts = t->loss_mask ? t->loss_mask[from + 1] : 1;
            expect(b.targets[n] == t->ids[from + 1] && b.loss_weight[n] == counts &&
                   from - begin == n - b.doc_start[n], "row %d, %d: what follows", row, n);
        }
        expect(sum == counted, "row %d: %d targets count, loader_batch says %d", row, sum, counted);
    }
    return inputs;
}

/* An epoch has each token once. Of running text, what does not fill a row is another part each
 * time. Documents come whole and in one row, and fill the rows nearly: 2000 short ones in rows of
 * 128, and as many and as long as a small set of conversations, in rows of 256. */
void test_loader(void)
{
    static const struct { int documents, shortest, longest, T, epochs; } sets[] = {
        {0, 1, 1001, 10, 60}, {0, 1, 1008, 10, 60}, {2000, 2, 41, 128, 5}, {360, 27, 125, 256, 5}};
    for (int k = 0; k < 4; k++) {
        int n = sets[k].documents;
        Tokens t = n ? numbered_documents(n, sets[k].shortest, sets[k].longest)
                     : numbered_text(sets[k].longest);
        DataLoader f = loader_new(&t, sets[k].T, 0, 1, 5, 0);
        int *ever = allocate(t.count, sizeof *ever), wanted = n ? (int)t.count - 1 : 1000;
        for (int epoch = 0; epoch < sets[k].epochs; epoch++) {
            int rows = f.rows, inputs = read_epoch(&f, ever);
            size_t before = f.epoch_order[0].from;
            expect(inputs == wanted, "set %d: %d of %d tokens", k, inputs, wanted);
            bound("waste", 1 - inputs / (rows * (double)f.T), 0.015);
            loader_seek(&f, epoch + 1, 0);
            expect(!n || f.epoch_order[0].from != before, "epoch %d begins the same", epoch + 1);
        }
        for (size_t i = 0; i + 1 < t.count; i++) expect(ever[i] > 0, "token %zu never comes", i);
        expect(!n || (f.count == n && !f.truncated), "%d documents, %d cut", f.count, f.truncated);
    }
    Tokens t = numbered_documents(2000, 2, 41);
    DataLoader f = loader_new(&t, 16, 0, 0, 5, 0);            /* too long: the end stays */
    expect(f.truncated > 100, "%d cut", f.truncated);
    for (int i = 0; i < f.count; i++) {
        Segment p = f.epoch_order[i];
        expect(p.length <= 16 && t.ids[p.from + p.length] == 0, "a piece ends before its document");
        expect(p.length == 16 || t.ids[p.from] == 0, "a short piece begins after its document");
    }
}

/* To go to a row is to have read all before it; behind the last row begins the next epoch. */
void test_loader_seek(void)
{
    Tokens kinds[2] = {numbered_text(1005), numbered_documents(120, 2, 41)};
    for (int kind = 0; kind < 2; kind++) {
        Batch a = batch_new(3, 50), b = batch_new(3, 50);
        DataLoader f = loader_new(&kinds[kind], 50, 0, 1, 3, 0);
        for (int step = 0; step < 50; step++) {
            DataLoader g = loader_new(&kinds[kind], 50, 0, 1, 3, 0);
            loader_seek(&g, f.epoch, f.row);
            loader_batch(&f, &a);
            loader_batch(&g, &b);
            expect(!memcmp(a.tokens, b.tokens, 450 * sizeof(int)), "kind %d, step %d", kind, step);
        }
        expect(f.epoch > 1, "only %d epochs", f.epoch);
        loader_seek(&f, 0, 1000000);
        expect(loader_batch(&f, &b) > 0 && f.epoch == 1, "kind %d: only padding, sought", kind);
        f.row = f.rows + 5, f.next = f.count;
        expect(loader_batch(&f, &b) > 0 && f.epoch == 2, "kind %d: only padding", kind);
    }
}

void test_noise(void)
{
    enum { N = 200 * 200 };
    Batch a = random_batch(200, 200, 1000, 1), b = random_batch(200, 200, 1000, 1);
    int changed = 0, could = 0, high = 0;
    batch_noise(&a, 0.05, 1000, 7);
    for (int n = 0; n < N; n++) {
        int begins = a.doc_start[n] == n % 200, differs = a.tokens[n] != b.tokens[n];
        could += !begins, changed += differs, high += differs && a.tokens[n] >= 500;
        expect(!begins || !differs, "the first token of a document changed");
    }
    expect(!memcmp(a.targets, b.targets, 2 * N * sizeof(int)) &&
           !memcmp(a.loss_weight, b.loss_weight, N * sizeof(real)), "more than tokens changed");
    bound("rate", fabs((double)changed / could - 0.05 * 0.999), 5 * sqrt(0.05 / could));
    bound("high half", fabs((double)high / changed - 0.5), 5 * sqrt(0.25 / changed));
}

/* With a limit, that many documents or windows are read, each once, in the order of the file; the
 * seed decides which. */
void test_limit(void)
{
    Tokens kinds[2] = {numbered_text(1007), numbered_documents(60, 2, 41)};
    for (int kind = 0; kind < 2; kind++) {
        size_t sums[4] = {0};                                 /* of what is drawn */
        int *ever = allocate(kinds[kind].count, sizeof *ever);
        for (int seed = 0; seed < 4; seed++) {
            DataLoader f = loader_new(&kinds[kind], 50, 0, seed == 3, seed % 3, 7);
            int tokens = 0;
            expect(f.count == 7, "%d segments", f.count);
            for (int i = 0; i < f.count; i++) {
                Segment s = f.file_order[i];
                expect(i == 0 || s.from > f.file_order[i - 1].from, "not in the file's order");
                expect(s.index == i && s.from + s.length < kinds[kind].count, "segment %d", i);
                sums[seed] = sums[seed] * 31 + s.from, tokens += s.length;
            }
            int inputs = read_epoch(&f, ever);
            expect(inputs == tokens, "%d of %d tokens are read", inputs, tokens);
        }
        expect(sums[0] != sums[1] && sums[1] != sums[2], "every seed draws the same");
        expect(sums[0] == sums[3], "one seed draws differently");
    }
}

/* Each row is as full as it can be with the longest segment left: all sums of others are tried. */
void test_pack_best(void)
{
    enum { N = 12, T = 24 };
    for (int set = 0; set < 20; set++) {
        Tokens t = numbered_documents(N, 1 + set % 3, 5 + set);
        DataLoader f = loader_new(&t, T, 0, 0, set, 0);
        loader_pack(&f, set);
        for (int row = 0; row < f.rows; row++) {
            int best = T, filled = 0, longest = 0;
            uint64_t sums = 1;                                /* bit n: some others have n tokens */
            for (int i = 0; i < f.count; i++) {
                Segment s = f.epoch_order[i];
                if (s.row < row) continue;
                if (s.row == row) filled += s.length;
                sums |= sums << min_int(longest, s.length);
                longest = max_int(longest, s.length);
            }
            while (!(sums << longest >> best & 1)) best--;
            expect(filled == best, "set %d, row %d: %d, not %d", set, row, filled, best);
        }
    }
}

/* llm.c's token files, of running text and of examples. --data A,B: training needs both files,
 * validation those that are there. */
void test_token_files(void)
{
    static const uint16_t ids[3][6] = {
        {50256, 50255, 0, 7, 256, 1}, {1, 2, 3, 4, 5, 6}, {50256, 0, 9, 8, 50256, 7}};
    static const char mask[] = "\0\0\1\1\0\1";
    const char *files[] = {"pa_train.bin", "pb_train.bin", "pb_val.bin"};
    for (int i = 0; i < 3; i++) write_tokens(files[i], ids[i], i < 2 ? NULL : mask, 6);
    char *both = format("%s/pa,%s/pb", folder, folder);
    char *none = format("%s/pa,%s/pc", folder, folder);
    expect(tokens_exist(both, "val") == 1 && tokens_exist(both, "train") == 2, "other files exist");
    expect(tokens_exist(none, "val") == 0, "a file exists that does not");
    Tokens train = tokens_read(both, "train", 50257), val = tokens_read(both, "val", 50257);
    expect(train.count == 12 && !train.examples && !memcmp(train.ids, ids, sizeof ids[0] * 2),
           "the text differs");
    expect(val.count == 6 && val.examples && !memcmp(val.ids, ids[2], sizeof ids[2]) &&
           !memcmp(val.loss_mask, mask, 6), "the examples differ");
    expect_in("half of --data", ERROR_OF(tokens_read(none, "train", 50257)), "pc_train.bin");
}

/* Packed documents get the sums that each of them gets alone. */
void test_score(void)
{
    Tokens t = numbered_documents(30, 2, small.T);
    Tokenizer *names = tokenizer_new();
    Model *m = random_model(small, INFERENCE, 1, 0), *alone = random_model(small, INFERENCE, 1, 0);
    for (int id = 0; id < small.V; id++) tokenizer_add(names, "abc", id % 3 + 1);
    for (size_t i = 0; i < t.count; i++) t.ids[i] = t.ids[i] ? 1 + t.ids[i] % (small.V - 1) : 0;
    names->end_of_text = 0;
    Scores s = score(m, names, &t, 3, small.T, 0, 0);
    expect(s.n == 30 && m->B == 3, "%d documents", s.n);
    for (size_t from = 0, to, i = 0; from + 1 < t.count; from = to, i++) {
        double count = 0, right = 0, bytes = 0;
        for (to = from + 1; t.ids[to]; to++) {}
        Batch b = batch_new(1, (int)(to - from));
        for (int n = 0; n < b.T; n++) {
            b.tokens[n] = t.ids[from + n], b.targets[n] = t.ids[from + n + 1];
            b.loss_weight[n] = t.loss_mask[from + n + 1];
        }
        model_prepare(alone, INFERENCE, 1, b.T, 0);
        double loss = model_loss(alone, &b, no_dropout, 0, 0);
        for (int n = 0; n < b.T; n++) {
            if (!b.loss_weight[n]) continue;
            count++, right += alone->argmax[n] == b.targets[n];
            bytes += b.targets[n] ? b.targets[n] % 3 + 1 : 0;
        }
        bound("loss", fabs(s.loss[i] - loss) / loss, 1e-5);
        expect(s.count[i] == count && s.right[i] == right && s.bytes[i] == bytes, "row %zu", i);
    }
}

/* ================================================================================================
 * 8. Checkpoints
 */

/* Rounding to bf16 and F16 against its definition. Every number of 16 bits comes back; of what lies
 * between two neighbours each becomes the nearer one, and the middle the even one. Behind the
 * largest comes infinity, whose half would be the next power of 2. */
void test_half(const void *kind)
{
    int f16 = !strcmp(kind, "F16"), infinity = f16 ? 0x7c00 : 0x7f80, sign = 0x8000;
#define FROM(x) (f16 ? f16_from(x) : bf16_from(x))
#define TO(h) (double)(f16 ? f16_to(h) : bf16_to(h))
    for (int h = 0; h < infinity; h++) {
        double low = TO(h), high = h < infinity - 1 ? TO(h + 1) : f16 ? 65536 : 0x1p128;
        float middle = (float)((low + high) / 2), part = 0.49f * (float)random_uniform(1, h);
        float away = part * (float)(high - low);
        float x[] = {(float)low, nextafterf(middle, 0), middle, nextafterf(middle, INFINITY),
                     (float)(low + away), (float)(high - away)};
        int right[] = {h, h, h + (h & 1), h + 1, h, h + 1};
        for (int i = 0; i < 6; i++)
            expect(FROM(x[i]) == right[i] && FROM(-x[i]) == (right[i] | sign), "%g is %x, not %x",
                   (double)x[i], FROM(x[i]), right[i]);
    }
    expect(FROM(INFINITY) == infinity && FROM(-INFINITY) == (infinity | sign), "infinity");
    for (uint32_t i = 1; i < 1 << 12; i++) {                  /* NaNs of low and of high bits */
        union { uint32_t i; float f; } x = {0x7f800000 | (i < 2048 ? i : i << 11)};
        expect(isnan(TO(FROM(x.f))), "NaN %08x becomes a number", x.i);
    }
    outcome("%d numbers and those between", infinity);
}

/* What llm.c's own writer would write for a model in which all numbers of tensor i are (i + 1) / 3,
 * then (i + 2) / 3 for the next layer: header and body made here by hand, in fp32 and in bf16. Both
 * are read, and written again. */
void test_llmc_model(void)
{
    static const int sizes[16][2] = {
        {10 * 8, 1}, {4 * 8, 1}, {8, 3}, {8, 3}, {24 * 8, 3}, {24, 3}, {8 * 8, 3}, {8, 3},
        {8, 3}, {8, 3}, {32 * 8, 3}, {32, 3}, {8 * 32, 3}, {8, 3}, {8, 1}, {8, 1}};
    static const Config gpt2 = {1024, 50257, 12, 12, 768, 50304}, shape = {4, 9, 3, 2, 8, 10};
    static const Config xl = {1024, 50257, 48, 25, 1600, 50304};
    static struct { int32_t header[HEADER]; union { float fp32[4000]; uint16_t bf16[4000]; } x; }
        file[2] = {{.header = {20240326, 3, 4, 9, 3, 2, 8, 10}},
                   {.header = {20240326, 5, 4, 9, 3, 2, 8, 10}}};
    float *fp32 = file[0].x.fp32;
    uint16_t *half = file[1].x.bf16;
    Tensor tensors[TENSORS];
    size_t count = 0;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < sizes[i][0] * sizes[i][1]; j++, count++) {
            fp32[count] = (float)(i + 1 + j / sizes[i][0]) / 3;
            half[count] = bf16_from(fp32[count]);
        }
    size_t bytes[2] = {4 * HEADER + 4 * count, 4 * HEADER + 2 * count};
    for (int bf16 = 0; bf16 < 2; bf16++) {
        write_file("given", &file[bf16], bytes[bf16], "", 0);
        Model *m = model_read(scratch("given"));
        Params w = m->w, w2 = params_layer(m->tensors, m->w, 2);
        const real *order[16] = {
            w.wte, w.wpe, w.ln1_w, w.ln1_b, w.qkv_w, w.qkv_b, w.attproj_w, w.attproj_b,
            w.ln2_w, w.ln2_b, w.fc_w, w.fc_b, w.fcproj_w, w.fcproj_b, w.lnf_w, w.lnf_b};
        for (int i = 0; i < 16; i++)
            bound("first of a tensor", fabs(*order[i] * 3 - (i + 1)), bf16 ? 0.05 : 1e-5);
        bound("layer 2", fabs(w2.fc_b[0] * 3 - 14) + fabs(w2.fc_b[31] * 3 - 14), bf16 ? 0.1 : 1e-5);
        for (size_t i = 0; i < count; i++)
            expect(w.wte[i] == (bf16 ? bf16_to(half[i]) : fp32[i]), "number %zu", i);
        expect(m->count == count && !memcmp(&m->c, &shape, sizeof shape), "another shape is read");
        for (int as = bf16; as < 2; as++) {
            model_write(m, scratch("again"), as);
            expect(same_file(scratch("again"), &file[as], bytes[as]), "other bytes are written");
        }
    }
    expect(1024 + 4 * tensors_describe(gpt2, tensors) == 497904640, "GPT-2 124M has another size");
    expect(tensors_describe(xl, tensors) == 1557686400, "GPT-2 1558M has another size");
}

/* Read the state s.bin of a run with these inputs, or die. */
void state_open(Model *m, const char *inputs, int changed)
{
    Progress p = {0};
    strcpy(p.inputs, inputs);
    state_read(m, &p, changed, scratch("s.bin"));
    if (p.step != 3 || strcmp(p.inputs, inputs)) die("another progress");
}

/* A state is read by a run of the same inputs; another run gets to know all that differs. With
 * another byte, anywhere, it is refused; so is a longer or shorter one. */
void test_state_refused(void)
{
    static const struct { const char *inputs; int changed; const char *says; } others[] = {
        {"a = 1\nab = x y\n", 0, ""}, {"a = 2\nab = x y\n", 1, ""},
        {"a = 2\nab = x y\n", 0, "another run: a was '1', is '2'; --changed"},
        {"a = 11\nab = x\n", 0, ": a was '1', is '11'; ab was 'x y', is 'x'; --changed"},
        {"a = 1\nb = x y\n", 0, ": b was '', is 'x y'; --changed"}};
    Model *m = random_model(small, TRAINING, 2, 1);
    Progress p = {.step = 3, .inputs = "a = 1\nab = x y\n"};
    size_t size;
    state_write(m, &p, scratch("s.bin"));
    for (int i = 0; i < 5; i++) {
        const char *said = ERROR_OF(state_open(m, others[i].inputs, others[i].changed));
        expect(*others[i].says ? !!strstr(said, others[i].says) : !*said, "%d: '%s'", i, said);
    }
    char *file = read_file(scratch("s.bin"), &size);
    for (int i = 0; i < 27; i++) {
        size_t at = i < 4 ? (size_t[]){4, 1023, size - 8, size - 1}[i] : random_bits(1, i) % size;
        int longer = i < 24 ? 0 : i - 25;                     /* the last three: -1, 0, 1 */
        char change = i < 24 ? (char)(1 << i % 8) : 0;
        file[at < 4 ? 4 : at] ^= change;
        write_file("s.bin", file, longer < 0 ? size - 1 : size, "x", longer > 0);
        const char *said = ERROR_OF(state_open(m, p.inputs, 0));
        expect(!*said == (i == 25), "byte %zu of %zu, %d longer: '%s'", at, size, longer, said);
        expect(!longer || strstr(said, "damaged"), "%d longer: %s", longer, said);
        file[at < 4 ? 4 : at] ^= change;
    }
    write_file("s.bin", file, size, "", 0);
    m->frozen = 0;
    expect_in("frozen", ERROR_OF(state_open(m, "a = 2\n", 1)), "model of another kind...a was");
}

/* ================================================================================================
 * 9. Text
 */

static const char gpt2_tokenizer[] = "data/gpt2_tokenizer.bin";

/* Whether text becomes exactly these ids (-1 ends them; NULL: any), and the ids the text. */
int encodes(Tokenizer *t, const char *text, size_t size, int special, const int32_t *expected)
{
    size_t count, at = 0;
    int32_t *ids = tokenizer_encode(t, text, size, special, &count);
    int good = 1, length;
    for (size_t n = 0; n < count && good; n++, at += length) {
        const char *bytes = tokenizer_bytes(t, ids[n], &length);
        good = (!expected || ids[n] == expected[n]) && at + length <= size &&
               !memcmp(bytes, text + at, length);
    }
    return good && at == size && (!expected || expected[count] == -1);
}

/* The ids that tiktoken gives for texts with contractions and what looks like one, numbers, letters
 * and marks of many scripts, all kinds of white space, control characters and emoji. */
void test_vectors(void)
{
    size_t size;
    char *text = read_file("data/tokenizer_vectors.jsonl", &size);
    Tokenizer *t = tokenizer_read(gpt2_tokenizer);
    Lines l = {.at = text, .end = text + size};
    expect(t->count == 50257 && t->end_of_text == 50256, "%d tokens", t->count);
    while (next_line(&l)) {
        Json *json = json_parse(l.text, l.size, json_error, sizeof json_error);
        const Json *sent = json_get(json, "text"), *list = json_get(json, "ids");
        int32_t ids[400], *to = ids;
        for (const Json *id = list ? list->child : NULL; id; id = id->next)
            *to++ = (int32_t)id->number;
        *to = -1;
        for (int twice = 0; twice < 2; twice++)               /* the second time from the cache */
            expect(sent && encodes(t, sent->text, sent->size, 0, ids), "line %d differs", l.number);
    }
    const char *both = "?!<|endoftext|>you're";               /* parsed as one token on request */
    expect(encodes(t, both, 21, 1, (int32_t[]){12248, 50256, 5832, 821, -1}), "end of text");
    expect(l.number == 78, "%d vectors", l.number);
}

/* Any bytes come back: noise, noise with much white space and quotes, cut and mixed UTF-8. */
void test_round_trip(void)
{
    static const char *const scraps[18] = {
        " ", "  ", "'", "'s", "'ll", "\n", "\u3000", "the", "7", "\u00e9", "\xE2\x82", "\U0001f600",
        "\xF0\x9F", "<|endoftext|>", "\xFF", "\xC0\x80", "\xED\xA0\x80", "!?"};
    Tokenizer *t = tokenizer_read(gpt2_tokenizer);
    char text[2000];
    for (int i = 0; i < 3000; i++) {
        int size = 0;
        for (int j = 0; j < i % 100; j++) {
            int k = below(400, 5, 100 * i + j);
            if (i % 2 && k < 300) size += snprintf(text + size, 20, "%s", scraps[k % 18]);
            else text[size++] = (char)random_bits(6, 100 * i + j);
        }
        for (int special = 0; special < 2; special++)
            expect(encodes(t, text, size, special, NULL), "text %d does not come back", i);
    }
    int left, right, merges = 0;
    for (int id = 0; id < t->count; id++) merges += tokenizer_merge(t, id, &left, &right);
    expect(merges == 50000, "%d merges", merges);
}

static struct { char text[5000], begins[5001]; int id[5000]; } bpe;

/* The size of the pair of tokens that begins at byte i; 0 if the second is in another pretoken. */
size_t pair_size(const Tokenizer *t, size_t i)
{
    size_t next = i + token_size(t, bpe.id[i]);
    return bpe.begins[next] ? 0 : next - i + token_size(t, bpe.id[next]);
}

/* What to merge next, by the definition: the most frequent pair, of equals that of the lowest ids.
 * The token at byte i is id[i]; a pretoken begins if begins[i]. */
MapEntry most_frequent(const Tokenizer *t)
{
    Map pairs = {0};
    MapEntry best = {0};
    int64_t best_ids = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0, size; i < sizeof bpe.text; i += token_size(t, bpe.id[i])) {
            if ((size = pair_size(t, i)) == 0) continue;
            MapEntry *e = map_enter(&pairs, bpe.text + i, size);
            int64_t ids = (int64_t)bpe.id[i] << 32 | bpe.id[i + token_size(t, bpe.id[i])];
            if (pass == 0) e->value++;
            else if (e->value > best.value || (e->value == best.value && ids < best_ids))
                best = *e, best_ids = ids;
        }
    return best;
}

/* 143 merges against that definition, in text without separators, which belong to no pretoken. */
void test_bpe_definition(void)
{
    enum { SIZE = sizeof bpe.text, COUNT = 400 };
    size_t size;
    char *stories = read_file("data/stories.txt", &size), *from = stories, *text = bpe.text;
    for (int i = 0; i < SIZE; from++)
        if (*from != '<') text[i++] = *from;
    Tokenizer *t = tokenizer_train(text, SIZE, COUNT);
    for (size_t i = 0; i < SIZE; i += pretoken_length(text + i, SIZE - i)) bpe.begins[i] = 1;
    for (size_t i = 0; i < SIZE; i++) bpe.id[i] = t->of_byte[(unsigned char)text[i]];
    bpe.begins[SIZE] = 1;
    for (int new = 256; new < COUNT - 1 && !broken; new++) {
        MapEntry best = most_frequent(t);
        const char *bytes = t->bytes + t->start[new];
        expect(token_size(t, new) == best.size && !memcmp(bytes, best.key, best.size),
               "token %d should be '%.*s'", new, (int)best.size, best.key);
        for (size_t i = 0; i < SIZE && !broken; i += token_size(t, bpe.id[i]))
            if (pair_size(t, i) == best.size && !memcmp(text + i, best.key, best.size))
                bpe.id[i] = new;
    }
    expect(encodes(t, text, SIZE, 0, NULL), "the text does not come back");
}

/* A vocabulary file made by hand: 256 bytes in GPT-2's order, end of text. */
void test_tokenizer_file(void)
{
    struct { int32_t header[HEADER]; unsigned char tokens[512 + 14]; }
        file = {{20240328, 2, 257, 256}, {0}};
    unsigned char *to = file.tokens;
    for (int k = 0; k < 512; k++) {                           /* the visible ones first */
        int b = k % 256, visible = (b > 32 && b < 127) || (b > 160 && b != 173);
        if (visible == (k < 256)) *to++ = 1, *to++ = (unsigned char)b;
    }
    memcpy(to, "\x0D<|endoftext|>", 14);
    Tokenizer *t = tokenizer_train("", 0, 257), *back;
    tokenizer_write(t, scratch("tokenizer.bin"));
    expect(same_file(scratch("tokenizer.bin"), &file, 1024 + 526), "other bytes are written");
    back = tokenizer_read(scratch("tokenizer.bin"));
    expect(back->count == 257 && back->end_of_text == 256, "%d tokens were read", back->count);
    expect(encodes(back, "\xFF ab", 4, 0, (int32_t[]){187, 220, 64, 65, -1}), "other ids");
}

/* What RFC 8259 allows (no message), and where and why all else is refused. */
void test_json(void)
{
    static const char *const texts[][2] = {
        {"null"}, {" true "}, {"\t[ ]\r\n"}, {"{}"}, {"\"\""}, {"-0"}, {"0.5e+3"}, {"1E-400"},
        {"[1,[2,{\"a\":[]}]]"}, {"\"\x7f\""}, {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\""},
        {"\"\\ud83d\\ude00\""}, {"\"\\u0000\""}, {"\"\xF4\x8F\xBF\xBF\""}, {"{\"a\":1,\"A\":2}"},
        {"", "line 1, column 1: expected a value, found the end"},
        {"nul", "column 1: expected a value"}, {"True", "expected a value, found 'T'"},
        {"1 2", "column 3: expected nothing more"}, {"01", "column 2: expected nothing more"},
        {"[1,]", "column 4: expected a value"}, {"[,1]", "column 2: expected a value"},
        {"[1 2]", "column 4: expected ',' or ']'"}, {"[\n1,\n 2", "line 3, column 3: expected ','"},
        {"{\"a\" 1}", "column 6: expected ':'"}, {"{\"a\":1,}", "a key in double quotes"},
        {"{a:1}", "a key in double quotes"}, {"{\"a\":1,\"a\":2}", "column 8: expected"},
        {"{\"a\":1,\"\\u0061\":2}", "each key once"}, {"+1", "a value, found '+'"},
        {".5", "a value"}, {"1.", "a digit, found the end"}, {"1e", "a digit"}, {"-", "a digit"},
        {"1e999", "a number below"}, {"NaN", "a value"}, {"'a'", "a value"},
        {"\"a", "a closing quote"}, {"\"\n\"", "a control character, found byte 10"},
        {"\"\\", "after a backslash"}, {"\"\\x\"", "after a backslash, found 'x'"},
        {"\"\\u12g4\"", "a hexadecimal digit"}, {"\"\\ud83d\"", "a low surrogate"},
        {"\"\\ude00\"", "a high surrogate"}, {"\"\\ud83d\\u0041\"", "a low surrogate"},
        {"\"\xC0\x80\"", "valid UTF-8"}, {"\"\xED\xA0\x80\"", "valid UTF-8"},
        {"\"\xE2\x82\"", "valid UTF-8"}, {"\xEF\xBB\xBF{}", "a value"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *text = texts[i][0], *message = texts[i][1];
        Json *json = json_of(text);
        expect(!json == !!message, "%s: %s", text, json ? "accepted" : json_error);
        expect(json || strstr(json_error, message ? message : ""), "%s: %s", text, json_error);
    }
}

/* Values and places are what was written; 64 brackets inside each other are allowed, no more. */
void test_json_values(void)
{
    char deep[131];
    Json *json = json_of("{\"a\\u0000b\": [-12.5, \"\\ud83d\\ude00\\n\"]}"), *list = json->child;
    expect(list->key_size == 3 && !memcmp(list->key, "a\0b", 3), "the key is another");
    expect(list->count == 2 && list->line == 1 && list->column == 14, "the list is another");
    expect(list->child->number == -12.5 && !strcmp(list->child->next->text, "\U0001f600\n"),
           "the values are others");
    for (int depth = 64; depth <= 65; depth++) {
        memset(deep, '[', depth), memset(deep + depth, ']', depth), deep[2 * depth] = 0;
        json = json_of(deep);
        expect((json != NULL) == (depth == 64), "%d brackets", depth);
    }
}

/* ================================================================================================
 * 10. The programs
 *
 * The three programs run in the scratch folder, by command lines of the shell. Most of these, with
 * what they must say, are rows of data/transcripts.txt, which also tells how these are written.
 */

#define F32(name, shape, at) \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" at "}"
#define SAYS(role, content) "{'role':'" role "','content':" content "}"

/* A safetensors file: its header, then its data. */
typedef struct { char *header, *data; size_t size; } Tensors;

Tensors tensors_from(const char *path)
{
    size_t size;
    uint64_t length;
    char *file = read_file(path, &size);
    memcpy(&length, file, 8);
    return (Tensors){format("%.*s", (int)length, file + 8), file + 8 + length, size - 8 - length};
}

void write_tensors(const char *name, Tensors t)
{
    uint64_t length = strlen(t.header);
    char *head = format("12345678%s", t.header);
    memcpy(head, &length, 8);
    write_file(name, head, 8 + length, t.data, t.size);
}

/* Write NAME: the exported model with a head, which is wte but for `change` at its end. */
void write_head(const char *name, float change)
{
    Tensors t = tensors_from(scratch("hf/model.safetensors"));
    size_t wte = 300 * 8 * sizeof(float), size = t.size + wte;
    float last;
    char *data = memcpy(allocate(size, 1), t.data, t.size);
    memcpy(data + t.size, t.data, wte);
    memcpy(&last, data + size - 4, 4), last += change, memcpy(data + size - 4, &last, 4);
    *strrchr(t.header, '}') = 0;
    char *row = format(F32("lm_head.weight", "[300,8]", "[%zu,%zu]"), t.size, size);
    write_tensors(name, (Tensors){format("%s,%s}", t.header, row), data, size});
}

enum { LABELS = 40 };                                         /* too many for a matrix */

/* Write examples with one-token labels: <end> three or more tokens, a label of `labels`, <end>. */
void labelled_file(const char *name, int count, int labels, uint64_t key)
{
    static const Tokenizer end = {.end_of_text = 299};
    Tokens docs = documents_new(scratch(name), &end);
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < 3 + i % 3; k++)
            tokens_add(&docs, &(uint16_t){(uint16_t)below(299, key, 8 * i + k)}, 1, 0);
        tokens_add(&docs, &(uint16_t){(uint16_t)(65 + i % labels)}, 1, 1);
        tokens_add(&docs, &(uint16_t){299}, 1, 1);
    }
    tokens_write(&docs);
}

/* Models with one block: m, and m290 and wide with another V; m2 as m, with other weights. Copies
 * of m: m_short; spare with three more ids, whose logits are often the largest; large with a number
 * beyond F16. hf is m as exported, old an export that cannot be replaced, jf one with a
 * tokenizer.json. Vocabularies t, t301 with a token more, t_same with two tokens spelled alike. */
void make_models(const char *text, size_t size)
{
    static const struct { const char *name; int V; } others[] = {
        {"m2", 300}, {"m290", 290}, {"wide", 1324}};
    static const Config one = {.T = 16, .V = 300, .L = 1, .NH = 2, .C = 8, .Vp = 384};
    Tokenizer *t = tokenizer_train(text, size, 300);
    tokenizer_write(tokenizer_train(text, size, 301), scratch("t301"));
    tokenizer_write(t, scratch("t"));
    memcpy(t->bytes + t->start[257], t->bytes + t->start[256], 2);
    tokenizer_write(t, scratch("t_same"));
    Model *m = random_model(one, INFERENCE, 1, 0);
    memset(m->w.wte + 300 * 8, 0, 84 * 8 * sizeof(real));     /* the padding */
    model_write(m, scratch("m"), 0);
    fill(m->w.wte + 300 * 8, 3 * 8, 30, 5);
    m->stored_V = 303;
    model_write(m, scratch("spare"), 0);
    m->stored_V = 300, m->w.qkv_w[5] = 70000;
    model_write(m, scratch("large"), 0);
    for (int i = 0; i < 3; i++) {
        int V = others[i].V;
        m = model_new((Config){.T = 16, .V = V, .L = 1, .NH = 2, .C = 8, .Vp = V + 84});
        model_initialize(m, 77);
        model_write(m, scratch(others[i].name), 0);
    }
    write_text("before", json_text(
        "{'added_tokens':[{'id':299,'content':'<|endoftext|>'},{'id':300,'content':'[PAD]'}],"
        "'normalizer':null,'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':false},"
        "'model':{'type':'BPE','vocab':"));
    shell("\"$here\"/prepare export m --tokenizer t --out hf; cp -r hf old; head -c 10000 m > "
          "m_short; rm old/vocab.json; mkdir old/vocab.json; for f in old/*.json; do "
          "[ -d $f ] || echo old > $f; done; mkdir -p jf/py; cp hf/model.safetensors jf; "
          "{ cat before hf/vocab.json; printf ',\"merges\":['; "
          "sed '1d; s/ /\", \"/; s/.*/[\"&\"]/; $!s/$/,/' hf/merges.txt; echo ']}}'; } "
          ">jf/tokenizer.json; sed 's/gelu_new/gelu_pytorch_tanh/' hf/config.json >jf/config.json; "
          "cp jf/config.json jf/py; touch jf/py/pytorch_model.bin m.pt");
    write_head("hf/head", 1e-3f), write_head("hf/same_head", 0);
}

/* Text, and token files NAME_train.bin of running text: d, few, one with a single row, w with many
 * tokens, v whose validation tokens begin with an escape, mine of another vocabulary; of examples:
 * masked without a target, x2 without one in validation, x, y without a training set, z with a
 * third set. Questions and pairs. The folder o holds the results of some run; p, q and r cannot be
 * replaced. */
void make_data(const char *text, size_t size)
{
    static const struct { const char *name; int count; } parts[] = {
        {"w_train.bin", 3000}, {"one_train.bin", 17}, {"v_train.bin", 65}};
    uint16_t ids[3000];
    write_file("text.txt", text, size, "", 0);
    for (int i = 0; i < 500; i++) ids[i] = i % 50 ? (uint16_t)below(299, 2, i) : 299;
    write_tokens("d_train.bin", ids, NULL, 500);
    write_tokens("few_train.bin", ids, NULL, 10);
    for (int i = 0; i < 3000; i++) ids[i] = (uint16_t)(i % 20 ? below(30, 7, i) : 299);
    for (int i = 0; i < 3; i++) write_tokens(parts[i].name, ids, NULL, parts[i].count);
    ids[102] = (uint16_t)tokenizer_read(scratch("t"))->of_byte[27];
    write_tokens("v_val.bin", ids + 100, NULL, 65);
    write_tokens("masked_train.bin", ids, (char[100]){0}, 100);
    write_tokens("f_val.bin", (uint16_t[40]){1}, NULL, 40);
    write_tokens("mine_train.bin", (uint16_t[]){1, 2, 299, 3, 299}, "\0\1\1\1\1", 5);
    write_tokens("x2_train.bin", (uint16_t[]){299, 1, 2, 299}, "\0\1\1\1", 4);
    write_tokens("x2_val.bin", (uint16_t[]){299, 1, 2, 299}, "\0\0\0\0", 4);
    labelled_file("x_train.bin", 4 * LABELS, LABELS, 5);
    labelled_file("x_val.bin", 40, 10, 6), labelled_file("y_val.bin", 40, 10, 6);
    labelled_file("z_val.bin", 8, 4, 1), labelled_file("z_test.bin", 12, 4, 2);
    write_text("rows.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}\n");
    write_text("pairs.jsonl", json_text("{'a':'a in','b':'rest or','group':'one'}\n\n"
                                        "{'a':'set on','b':'no','group':'two'}\n"));
    write_text("asked.jsonl", json_text(
        "{'messages':[" SAYS("user", "'in'") "," SAYS("assistant", "'no'") "],'kind':'a',"
        "'expect':{'must_not':['zzzz']}}\n"
        "{'prompt':'rest or','completion':' no','kind':'b','expect':{'must':['zz|zy']}}\n"
        "{'prompt':'or','completion':' no','kind':'a','expect':{'must_not':['z']}}\n"
        "{'prompt':'set','completion':' the best','kind':'b'}\n"));
    shell("ln -s \"$here\" repo; mkfifo pipe; mkdir new o p_val.bin q_train.bin r_tokenizer.bin; "
          "for f in p_train.bin q_val.bin r o/best.bin o/model.bin o/log.csv o/state.bin; do "
          "echo old > $f; done");
}

/* The path of a file that make_models or make_data writes. The first call makes them all; without
 * the programs it ends the test. */
char *given(const char *name)
{
    char text[6000];
    if (access(scratch("repo"), F_OK) != 0) {
        if (access("train_gpt", X_OK) || access("tokenizer", X_OK) || access("prepare", X_OK)) {
            skip("train_gpt, tokenizer and prepare are not all here: `make test` builds them");
            end_test();
        }
        for (int i = 0; i < 6000; i++) text[i] = "aeinorst ,"[below(10, 1, i)];
        memcpy(text + 3000, "\n<|endoftext|>\n", 15);
        make_models(text, sizeof text), make_data(text, sizeof text);
    }
    return scratch(name);
}

/* A section of data/transcripts.txt, without its title. */
char *section(const char *title)
{
    char *text = read_file(format("%s/data/transcripts.txt", getenv("here")), &(size_t){0});
    char *at = strstr(text, format("\n== %s\n", title)), *end;
    if (!at) die("data/transcripts.txt: no section '%s'", title);
    at = strchr(at + 1, '\n') + 1, end = strstr(at, "\n==");
    if (end) end[1] = 0;
    return at;
}

/* Run a command line of the shell: its output and errors, then "status N". */
const char *run_line(const char *command)
{
    static char *prelude;
    given("");
    if (!prelude) prelude = section("prelude: what every command may use");
    return shell(format("export ASAN_OPTIONS=detect_leaks=0 PATH=\"$here:$PATH\"\n%s"
                        "{ %s\n} 2>&1; echo status $?", prelude, command));
}

/* Run a command line, which must have this exit status and say this. Returns what it said. */
const char *expect_says(const char *command, int status, const char *says)
{
    const char *said = run_line(command);
    expect_in(command, said, says);
    expect(atoi(strrchr(said, ' ')) == status, "%s: expected status %d: %.300s", command, status,
           said);
    return said;
}

/* All files of the scratch folder, their sizes and check sums. */
char *inventory(void)
{
    given("");
    return shell("find . -type f ! -name '*.txt' ! -path './new/*' -exec cksum {} + | sort -k 3");
}

/* Run a command line without input: its errors, then "status N". */
const char *run_quietly(const char *command)
{
    return run_line(format("{ %s\n} 2>&1 >out.txt </dev/null", command));
}

/* Fail unless a command says one line of error with this message, and changes no file. */
void expect_bad(const char *command, int status, const char *message)
{
    const char *before = inventory(), *said = run_quietly(command), *end = strchr(said, '\n');
    expect(!strncmp(said, "error: ", 7) && end && !strcmp(end, format("\nstatus %d\n", status)),
           "%s: not one line of error and status %d: %.200s", command, status, said);
    expect_in(command, said, message);
    expect(!strcmp(before, inventory()), "%s: changed files", command);
}

/* Run the rows of a section of data/transcripts.txt. */
void test_transcript(const void *title)
{
    int bad = !strncmp(title, "bad input", 9), count = 0;
    for (char *row = section(title), *next; *row && !broken; row = next) {
        char *to = row, *from = row, *command, *says;
        while (*from && (*from != '\n' || !strncmp(from, "\n  ", 3))) {
            *to++ = *from;
            from += *from == '\n' ? 3 : 1;
        }
        next = *from ? from + 1 : from, *to = 0;
        if (!isdigit((unsigned char)*row)) continue;          /* a comment */
        int status = (int)strtol(row, &command, 10);
        if (!(says = strstr(command, "=>"))) die("data/transcripts.txt: no => in: %s", row);
        *says = 0, says += says[2] == ' ' ? 3 : 2;
        if (bad) expect_bad(command, status, says);
        else expect_says(command, status, says);
        count++;
    }
    outcome("%d commands", count);
}

/* Damaged files are refused; the adapters that are damaged are those of a run. */
void test_damaged(void)
{
    expect_says("$tiny v --out r13 --steps 1 --lora 2 && cp r13/model.bin a", 0, "");
    test_transcript("bad input: damaged files");
}

/* Copies with one byte changed: programs may accept or refuse them, but must come to an end. */
void test_random_changes(void)
{
    static const char *const files[][2] = {                   /* and what reads their copy */
        {"m", "$generate new/x --tokens 2"}, {"t", "tokenizer encode text.txt --tokenizer new/x"},
        {"hf/model.safetensors", "prepare import new/x --out y"},
        {"hf/config.json", "mkdir -p new/hf; cp hf/*.safetensors hf/*.json hf/merges.txt new/hf; "
         "cp new/x new/hf/config.json; prepare import new/hf --out y"},
        {"hf/vocab.json", "prepare import new/x hf/merges.txt --out y"}};
    int refused = 0;
    for (int i = 0; i < 200; i++) {
        size_t size;
        char *file = read_file(given(files[i % 5][0]), &size);
        size_t most = i % 2 && size > 1100 ? 1100 : size;     /* half of them in headers */
        file[random_bits(1, i) % most] ^= 1 + below(255, 2, i);
        write_file("new/x", file, size, "", 0);
        const char *status = strrchr(run_quietly(files[i % 5][1]), ' ');
        expect(!strcmp(status, " 0\n") || !strcmp(status, " 1\n"), "change %d: %s: status%s", i,
               files[i % 5][1], status);
        refused += status[1] == '1';
    }
    outcome("200 changes, %d refused", refused);
}

/* ---- training runs, commands ---- */

/* The mean loss of a model on v's validation data in rows of T tokens. */
double loss_on_v(Model *m, int T)
{
    Tokens val = tokens_read(given("v"), "val", 300);
    Scores s = score(m, tokenizer_read(given("t")), &val, 1, T, 0, 0);
    return total(s.loss, s.n) / total(s.count, s.n);
}

/* Overfitting: the best model is kept, and patience counts from it. */
void test_run_best(void)
{
    double step, loss, best = INFINITY, best_step = 0, last = 0, told, told_step;
    test_transcript("a run keeps the best model");
    const char *at = run_line("cut -d, -f1,5 r1/log.csv | sed 1d");
    for (int n; sscanf(at, "%lf,%lf\n%n", &step, &loss, &n) == 2; at += n) {
        if (loss < best) best = loss, best_step = step;
        last = step;
    }
    expect(best_step > 1 && last == best_step + 3, "best is %g, last %g", best_step, last);
    sscanf(run_line("sed -n 's/^best_[a-z]* = //p' r1/run.txt"), "%lf %lf", &told_step, &told);
    bound("run.txt", fabs(told - best) + fabs(told_step - best_step), 1e-6);
    bound("best.bin", fabs(loss_on_v(model_read(scratch("r1/best.bin")), 16) - best), 1e-5);
    expect(loss_on_v(model_read(scratch("r1/model.bin")), 16) > best + 1e-4, "the last is as good");
}

/* The progress that a run has saved. */
Progress saved_progress(const char *state)
{
    size_t size;
    Progress p = {0};
    char *file = read_file(scratch(state), &size);
    if (size > 4 * HEADER + sizeof p) memcpy(&p, file + 4 * HEADER, sizeof p);
    return p;
}

/* Stopped and resumed equals never stopped, in weights and log, with a frozen block, with adapters
 * and without; resuming a finished run changes nothing; another seed is refused. */
void test_run_resume(void)
{
    static const char *const kinds[] = {
        "", "--freeze 1", "--lora 2 --lora-on qkv,fcproj --lora-dropout 0.1 --recompute",
        "--moments bf16"};
    for (int kind = 0; kind < 4; kind++) {
        setenv("KIND", kinds[kind], 1);
        expect_says("$tiny v --out r3 $six && $tiny v --out r4 $six --steps 4 && "
                    "echo 5,1,80,1,,1,1,1,1 >> r4/log.csv", 0, "");
        double seconds = saved_progress("r4/state.bin").seconds;
        expect(seconds > 0 && seconds < 60, "%g seconds", seconds);
        expect_says("$tiny v --out r4 $six --resume --changed", 0,
                    "changed: steps was '4', is '6' ...after step 4 ");
        expect(saved_progress("r4/state.bin").seconds > seconds, "seconds are not added up");
        test_transcript("a run that is resumed");
    }
}

/* A signal ends a run after its state is saved; the second one ends it at once. */
void test_run_stops(void)
{
    test_transcript("signals and full disks");
    int step = broken ? 3 : (int)saved_progress("r8/state.bin").step;
    expect(step > 2 && step < 900, "saved after step %d", step);
    catch_signals();
    raise(SIGTERM);
    expect(interrupted == SIGTERM, "a signal is not caught");
    for (int i = 0; i < 3; i++)
        expect(signal(stop_signals[i], SIG_DFL) == SIG_DFL, "a second signal is caught");
}

void test_run_commands(void)
{
    test_transcript("commands from any folder");
    expect_says("far/alone/train_gpt eval $mt --data v --context 8", 0,
                format("m on v_val.bin: 8 rows, 64 targets ...loss %.4f",
                       loss_on_v(model_read(given("m")), 8)));
}

/* A line of JSON gets a line of JSON, with one completion or several. */
void test_jsonl(void)
{
    for (int n = 1; n < 4; n += 2) {
        const char *output = run_line(format("printf '\"a\"\\n\"a\"\\0\\n' | $generate m --jsonl "
                                             "--tokens 3 --samples %d", n));
        const char *end = strchr(output, '\n');
        Json *row = end ? json_parse(output, end - output, json_error, sizeof json_error) : NULL;
        Json *one = json_get(row, "completion"), *list = json_get(row, "completions");
        expect(row && row->count == 1 && end && strstr(end, "{\"error\":\""), "%s", output);
        expect(n == 1 ? one && one->type == '"' : list && (int)list->count == n, "%s", output);
    }
}

/* ---- common ground: memory of JSON, options, files, terminals ---- */

/* json_parse allocates less than 8 times the text's size and 40 MB, for the texts with the most
 * values a byte, the most keys, and the most commas that belong to no array. */
void test_json_memory(void)
{
    static const struct { const char *open, *element, *close; int count, good; } texts[] = {
        {"[0", ",0", "]", 2000000, 0},         {"[0", ",0", "]", 470000, 1},
        {"{\"\":0", ",\"%d\":0", "}", 260000, 1}, {"\"", ",[\\\"{", "\"", 1000000, 1}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        Text text = {0};
        text_print(&text, "%s", texts[i].open);
        for (int k = 0; k < texts[i].count; k++) text_print(&text, texts[i].element, k);
        text_print(&text, "%s", texts[i].close);
        allocated = 0;
        Json *json = json_of(text.bytes);
        expect(!json == !texts[i].good, "text %zu: %s", i, json ? "accepted" : json_error);
        bound("bytes", (double)allocated, (double)(8 * text.size + (40 << 20)));
        json_free(json), free(text.bytes);
    }
}

int wide_number;
char *word_seen;

int parse_words(int count, char **words)
{
    const Option table[] = {{"wide", 'i', &wide_number, "1", -1e12, 1e12, "x", ""},
                            {"word", 's', &word_seen, NULL, 0, 0, "x", ""}, {0}};
    return options_parse(table, 'x', "", count, words);
}

/* "--" ends the options; the last of two equal options counts; a whole number fits into an int. */
void test_options(void)
{
    static const char *const bad[][2] = {
        {"--wide=2147483648", "to 2.14748e+09, found '2147483648'"},
        {"--wide=-2147483649", "from -2.14748e+09"}};
    char *words[] = {"a", "--wide", "7", "--word=--b", "--wide=-8", "--", "--wide", "--", "c"};
    int count = parse_words(9, words);
    expect(count == 4 && !strcmp(words[0], "a") && !strcmp(words[1], "--wide") &&
           !strcmp(words[2], "--") && !strcmp(words[3], "c"), "%d words, '%s'", count, words[1]);
    expect(wide_number == -8 && !strcmp(word_seen, "--b"), "other values");
    expect(parse_words(1, (char *[]){"--wide=2147483647"}) == 0 && wide_number == INT32_MAX, "int");
    for (int i = 0; i < 2; i++)
        expect_in(bad[i][0], ERROR_OF(parse_words(1, (char *[]){(char *)bad[i][0]})), bad[i][1]);
}

/* Read a file that becomes shorter. */
void read_shortened(const char *path)
{
    char bytes[8];
    Reader r = reader_open(path);
    if (truncate(path, 3) == 0) reader_get(&r, bytes, 8);
}

/* Two writers of one file, and what a dead process left, do not meet. The bytes are on the disk
 * before the file has its name, and then the folder is. A reader notices that a file shrinks. */
void test_writer(void)
{
    const char *path = scratch("written");
    char *old = format("%s.%ld.0.partial", path, (long)getpid());
    write_text(strrchr(old, '/') + 1, "left here");
    Writer *a = writer_open(path), *b = writer_open(path);
    expect(strcmp(a->temporary, b->temporary) && strcmp(a->temporary, old) &&
           strcmp(b->temporary, old), "writers share %s", a->temporary);
    writer_print(a, "first"), writer_print(b, "second");
    *disk_calls = 0;
    writer_close(a);
    expect(!strcmp(disk_calls, "frd"), "order of fsync and rename: %s", disk_calls);
    expect(same_file(path, "first", 5), "the first writer's file differs");
    writer_close(b);
    expect(same_file(path, "second", 6), "the second writer's file differs");
    expect(same_file(old, "left here", 9), "another process's file changed");
    expect_in("a shorter file", ERROR_OF(read_shortened(old)), "the file became shorter");
}

/* Nothing in a text can make a terminal act; other outputs of decode have the exact bytes. */
void test_plain(void)
{
    const char text[] = "a\33[2J\n\tb\x7f\xC2\x9b\xC2\xA0\xFF\u00e9\U0001f600\r\0", *wanted =
        "a\\x1b[2J\n\tb\\x7f\\xc2\\x9b\xC2\xA0\\xff\u00e9\U0001f600\\x0d\\x00";
    char *plain = NULL, shown_bytes[16] = "";
    size_t size;
    FILE *memory = open_memstream(&plain, &size);
    print_plain(memory, text, sizeof text - 1);
    fclose(memory);
    expect(!strcmp(plain, wanted), "printed as %s", plain);
    expect_says("echo 215 64 | tokenizer decode --tokenizer repo/data/gpt2_tokenizer.bin > bytes",
                0, "");
    expect(same_file(scratch("bytes"), "\33a", 2), "decode to a file");
    int terminal = posix_openpt(O_RDWR | O_NOCTTY), other = -1;
    if (terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0)
        other = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    if (other < 0) return;                                    /* a sandbox may have no terminals */
    char *line = format("echo 215 64 | ./tokenizer decode --tokenizer %s >%s", gpt2_tokenizer,
                        ptsname(terminal));
    expect(system(line) == 0 && read(terminal, shown_bytes, 15) == 5 &&
           !strcmp(shown_bytes, "\\x1ba"), "decode to a terminal: %s", shown_bytes);
}

/* Control characters of a file, U+0080 to U+009F included, are not printed; a text of "expect" that
 * begins with a zero byte after "|" is not looked at before its begin. */
void test_controls(void)
{
    char name[] = "a\x1b\xC2\x9B[2J\x7F", *text;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    json_write_string(file, name, strlen(name));
    fclose(file);
    expect(!strcmp(text, "\"a\\u001b\\u009b[2J\\u007f\""), "JSON: %s", text);
    expect(!strpbrk(shown(name), "\x1b\xC2\x7F"), "a name: %s", name);
    char *differ = inputs_differ("lr = \x1b[2J\n", "lr = 1\n");
    expect(!strcmp(differ, "lr was '?[2J', is '1'"), "a state: %s", differ);
    Json *bad = json_of("{\"must\": [\"a|\\u0000\"]}");
    expect_in("an empty alternative", ERROR_OF(expect_check(bad, 1)), "row 1");
}

/* ---- formats: safetensors, text, downloads ---- */

/* The tensors of the exported model m (L = 1, C = 8, V = 300, T = 16), in the file's order. */
static const struct { const char *name, *shape; int count; } tensors[16] = {
    {"wte.weight", "300,8", 2400}, {"wpe.weight", "16,8", 128}, {"h.0.ln_1.weight", "8", 8},
    {"h.0.ln_1.bias", "8", 8}, {"h.0.attn.c_attn.weight", "8,24", 192},
    {"h.0.attn.c_attn.bias", "24", 24}, {"h.0.attn.c_proj.weight", "8,8", 64},
    {"h.0.attn.c_proj.bias", "8", 8}, {"h.0.ln_2.weight", "8", 8}, {"h.0.ln_2.bias", "8", 8},
    {"h.0.mlp.c_fc.weight", "8,32", 256}, {"h.0.mlp.c_fc.bias", "32", 32},
    {"h.0.mlp.c_proj.weight", "32,8", 256}, {"h.0.mlp.c_proj.bias", "8", 8},
    {"ln_f.weight", "8", 8}, {"ln_f.bias", "8", 8}};

/* Names, shapes and places of all tensors; the numbers of one that is transposed; and the same
 * model in two files, weights and biases, with an index: it is imported as the same bytes. */
void test_safetensors(void)
{
    Tensors all = tensors_from(given("hf/model.safetensors"));
    Model *m = model_read(given("m"));
    Text head[2] = {{0}}, data[2] = {{0}}, index = {0};
    size_t at = 0;
    float x;
    for (int i = 0; i < 16; i++) {
        const char *name = tensors[i].name, *shape = tensors[i].shape;
        int bias = ends_with(name, "bias"), bytes = 4 * tensors[i].count;
        Text *h = &head[bias], *d = &data[bias];
        char *row = format(F32("transformer.%s", "[%s]", "[%zu,%zu]"), name, shape, at, at + bytes);
        expect(strstr(all.header, row) != NULL, "the header lacks %s", row);
        text_print(h, "%c" F32("%s", "[%s]", "[%zu,%zu]"), h->size ? ',' : '{', name, shape,
                   d->size, d->size + bytes);
        text_add(d, all.data + at, bytes);
        text_print(&index, "%c\"%s\":\"model-%d.safetensors\"", i ? ',' : '{', name, bias);
        for (int k = 0; i == 4 && k < 8 * 24; k++) {
            memcpy(&x, all.data + at + 4 * k, 4);
            expect(x == (float)m->w.qkv_w[k % 24 * 8 + k / 24], "number %d of c_attn is %g", k, x);
        }
        at += bytes;
    }
    expect(all.size == at && strlen(all.header) % 8 == 0, "%zu bytes", all.size);
    run_line("mkdir cut; cp hf/*.json hf/merges.txt cut");
    for (int k = 0; k < 2; k++)
        write_tensors(format("cut/model-%d.safetensors", k),
                      (Tensors){format("%s}", head[k].bytes), data[k].bytes, data[k].size});
    write_text("cut/model.safetensors.index.json", format("{\"weight_map\":%s}}", index.bytes));
    test_transcript("safetensors: names, places, files");
}

/* The text of the token file x_train.bin, x_val.bin, ..., with targets of examples in braces; empty
 * if there is no such file. */
Text set_text(const char *x, const char *side, const Tokenizer *t)
{
    if (!tokens_exist(scratch(x), side)) return (Text){0};
    Tokens tokens = tokens_read(scratch(x), side, t->count);
    Encoded e = {allocate(tokens.count, sizeof *e.ids), allocate(tokens.count, 1), tokens.count, 0};
    for (size_t i = 0; i < e.size; i++) e.ids[i] = tokens.ids[i];
    if (tokens.loss_mask) memcpy(e.loss_mask, tokens.loss_mask, e.size);
    return marked_text(t, e);
}

/* ---- examples: rows of all kinds of files, findings, the split, copies ---- */

static Tokenizer *mini;                                       /* the bundled small vocabulary */
static int drop_kind = NOTES;                                 /* of findings: drop their rows */

/* Read a scratch file with this text, with no finding from before, and examine its rows. */
Examples examples_of(const char *name, const char *text, size_t size)
{
    Examples x = {0};
    mini = tokenizer_read("data/mini_tokenizer.bin");
    prep.context = 64, prep.seed = 1, memset(prep.drop, 0, sizeof prep.drop);
    prep.drop[drop_kind] = drop_kind != NOTES;
    for (int f = 0; f < FINDING_COUNT; f++) findings[f].count = 0;
    write_file(name, text, size, "", 0);
    read_examples(&x, scratch(name));
    examine(&x, mini);
    return x;
}

/* The rows of a file are to be read as these, a line each, with the targets in braces. */
void expect_rows(const Examples *x, const char *name, const char *rows)
{
    Text found = {0};
    for (const Example *e = x->row; e < x->row + x->count; e++) {
        Text row = marked_text(mini, e->tokens);
        text_print(&found, "%s\n", row.bytes);
    }
    expect(found.size && !strcmp(found.bytes, rows), "%s: read as %s", name, found.bytes);
}

/* One row of every kind of finding; ~ is not part of the file, but marks the column. */
#define CHAT(turns) "{'messages':" turns "}\n"
#define TELL(system, user) CHAT("[" SAYS("system", "'" system "'") "," SAYS("user", "'" user "'") \
                                "," SAYS("assistant", "'b'") "]")
#define LETTERS "a b c d e f g h i j k l m n o p q r s t u v w x y z "
#define PAIR(p, c) "{'prompt':'" p "','completion':'" c "'}\n"
static const struct { int finding; const char *text, *message; } golden[] = {
    {NOT_UTF8, "{'prompt':'~\xFF'}", "no character"},
    {NOT_JSON, "{'prompt':~}", "expected a value, found '}'"},
    {WRONG_TYPE, "~[]", "not an object"},
    {WRONG_TYPE, CHAT("~3"), "\"messages\" is a number, not an array"},
    {WRONG_TYPE, "{'prompt':'a','completion':~[]}", "is an array, not a text"},
    {WRONG_TYPE, CHAT("[~true]"), "this is a boolean, not an object"},
    {WRONG_TYPE, CHAT("[" SAYS("user", "~{}") "]"), "is an object, not a text"},
    {WRONG_TYPE, CHAT("[" SAYS("assistant", "'a','weight':~2") "]"), "\"weight\" is not 0 or 1"},
    {MISSING_KEY, "~{'label':'a','x':1}", "recognized in \"label\", \"x\"; if these"},
    {MISSING_KEY, CHAT("[~{'role':'user'}]"), "there is no \"content\""},
    {NO_CONTENT, "{'prompt':'a','completion':~null}", "\"completion\" is null"},
    {NO_CONTENT, CHAT("[" SAYS("user", "~' \\n'") "]"), "a message is empty"},
    {NO_CONTENT, PAIR("a", " "), "the answer is empty"},
    {UNKNOWN_KEY, CHAT("[" SAYS("user", "'a','tone':~1") "]"), "\"tone\""},
    {UNKNOWN_KEY, CHAT("[" SAYS("user", "'a','weight':~1") "]"), "1 is for assistant messages"},
    {UNKNOWN_ROLE, CHAT("[{'role':~'bot','content':'a'}]"), "\"bot\""},
    {NO_ANSWER, CHAT("~[" SAYS("user", "'a'") "]"), "there is nothing to learn"},
    {NO_ANSWER, CHAT("~[" SAYS("assistant", "'a','weight':0") "]"), "every weight is 0"},
    {REPEATED, PAIR("a", " b") PAIR("a", " b"), ", line 2"},
    {SIMILAR, TELL("!", "1 2 3 4 5 6 7 8 9 10 11") TELL("!", "0 1 2 3 4 5 6 7 8 9 10 11"),
     "91% the same"},
    {SIMILAR, TELL("1 2 3", "a b c d") TELL("4 5 6", "A, b C d."), "100% the same"},
    {TOO_LONG, PAIR(LETTERS LETTERS "a b c d e f g h i j k l m n", " b"), "first 13"},
    {IGNORED_KEY, "{'prompt':'a','completion':' b','id':~7}", "\"id\""},
    {HEADER_IN, CHAT("[" SAYS("assistant", "~'a\\nUser: b'") "]"), "\"User:\""},
    {NO_SPACE, PAIR("a", "b"), "space"}};

/* Each, alone in a file of JSON lines, is found once, where it is, and nothing else. */
void test_findings(void)
{
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        const char *text = json_text(golden[i].text), *mark = strchr(text, '~');
        int finding = golden[i].finding, line = finding == REPEATED || finding == SIMILAR ? 3 : 2;
        int before = (int)(mark ? mark - text : (long)strlen(text));
        const char *where = mark ? format("line %d, column %d: ", line, before + 1)
                                 : format("line %d: ", line);
        const char *file = format(" \n%.*s%s", before, text, mark ? mark + 1 : "");
        Examples x = examples_of("golden.jsonl", file, strlen(file));
        for (int f = 0; f < FINDING_COUNT; f++)
            expect(findings[f].count == (f == finding), "%s: found %d times in %s",
                   findings[f].what, findings[f].count, text);
        const char *said = findings[finding].shown[0];
        expect(said && strstr(said, where) && strstr(said, golden[i].message),
               "expected '%s%s', found '%s'", where, golden[i].message, said);
        expect(x.errors == (findings[finding].kind == ERRORS), "%s: is it an error?", text);
    }
}

/* Same prompts with other answers, and what the options to drop rows leave. */
void test_conflicts(void)
{
    const char *text = json_text(PAIR("a", " b") PAIR("a", " c") PAIR("a", " b") PAIR("d", " b"));
    static const struct { int drop; const char *kept; } cases[] = {
        {NOTES, "1111"}, {DUPLICATES, "1101"}, {CONFLICTS, "0001"}};
    for (int k = 0; k < 3; k++) {
        drop_kind = cases[k].drop;
        Examples x = examples_of("conflicts.jsonl", text, strlen(text));
        expect(findings[CONFLICT].count == 3, "%d conflicts", findings[CONFLICT].count);
        expect(findings[REPEATED].count == 1, "%d equal rows", findings[REPEATED].count);
        char **said = findings[CONFLICT].shown;
        for (int n = 0; n < 3; n++)                           /* each names a row that differs */
            expect(said[n] && said[n][strlen(said[n]) - 1] == "212"[n], "%s", said[n]);
        for (int i = 0; i < 4; i++)
            expect(x.row[i].dropped == (cases[k].kept[i] == '0'), "row %d, case %d", i, k);
    }
}

/* Files, the rows that are read of them, and the error of a row that is left out. Without any row,
 * the file is refused, with the option or the change that helps. ~ is a byte of zero. */
static const struct { const char *name, *columns, *text, *rows, *error; } files[] = {
    {"plain.csv", 0, "text,label\na b,yes\nc,no\n", "a b{ yes}\nc{ no}\n", ""},
    {"columns.csv", 0, "id,Completion,PROMPT\n1, x,a\n2, y,b\n", "a{ x}\nb{ y}\n", ""},
    {"quotes.csv", 0, "prompt,completion\n'a, ''b''',' c'\n", "a, 'b'{ c}\n", ""},
    {"lines.csv", 0, "text,label\n'a\nb\n','x'\nc,y\n", "a\nb{ x}\nc{ y}\n", ""},
    {"crlf.csv", 0, "\xEF\xBB\xBFtext,label\r\na,x\r\n\r\n'b','y'\r\nc,z",
     "a{ x}\nb{ y}\nc{ z}\n", ""},
    {"few.csv", 0, "text,label\n'a\n',x\nb\nc,y\n", "a{ x}\nc{ y}\n", "line 4: 1 fields, not 2"},
    {"many.csv", 0, "text,label\na,x,b\nc,y\n", "c{ y}\n", "line 2: 3 fields, not 2"},
    {"inside.csv", 0, "text,label\na 'b',x\nc,y\n", "c{ y}\n", "line 2: field 1: there is"},
    {"after.csv", 0, "text,label\nc,'x' y\nd,z\n", "d{ z}\n", "line 2: field 2: there is text"},
    {"open.csv", 0, "text,label\na,'x\nb,y\nc,z\n", "b{ y}\nc{ z}\n",
     "line 2: field 2: a quote is"},
    {"utf8.csv", 0, "text,label\n\xC3,x\nc,y\n", "c{ y}\n", "line 2, column 1: "},
    {"empty.csv", 0, "text,label\na,\nc,y\n", "c{ y}\n", "line 2: the answer is empty"},
    {"quotes.tsv", 0, "label\ttext\nx\t'a\ny\tb'\n", "'a{ x}\nb'{ y}\n", ""},
    {"crlf.tsv", 0, "prompt\tcompletion\r\na 'b' c\t 'd'\r\n", "a 'b' c{ 'd'}\n", ""},
    {"v.csv", 0, "v1,v2\na,b\nc,b\nd,b\ne,c\nf,c\ng,c\n", NULL,
     "v.csv, line 1: no text and answer are recognized in 'v1', 'v2'; if these are names, "},
    {"p.tsv", 0, "b\thello\nc\tyou\n", NULL,
     "--columns NAME=text,NAME=label tells what they are; if they are a row, --columns label,"},
    {"n.tsv", 0, "index\tsentence\n0\thello\n1\tyou\n", NULL, "in 'index', 'sentence';"},
    {"3.csv", "label,text", "a,b,c\nd,e,f\n", NULL, "tells what its 3 columns are"},
    {"zero.csv", 0, "t~e~", NULL, "byte that is zero; save the file as CSV or JSON in UTF-8"},
    {"a.json", "label,text", "{'a':1}", NULL, "rows of JSON have names, expected NAME=text"},
    {"b.json", 0, "[{'text':'a','label':'b'},\n {'text' 2}]", NULL, "b.json, line 2, column 10: "},
    {"c.json", 0, "[{'text':'a','label':'b'}\n", NULL, "c.json, line 2, column 1: expected"},
    {"d.json", 0, "[{'text':'a','label':'b'}] 1", NULL, "expected nothing more, found"},
    {"e.json", 0, "[{'text':'a','label':'b'},]", NULL, "e.json, line 1, column "},
    {"two.json", 0, "{'train': [{'text':'a'}], 'test': [{'text':'a'}]}", NULL,
     "found an object with 2; write the array of rows to a file of its own"}};

/* A file is read as these rows (NULL: is refused); then the program must say `says` about the file,
 * and `error`, if it is not empty, about the file or its only row with an error. */
void expect_read(const char *name, Text file, const char *rows, const char *error, const char *says)
{
    write_file(name, file.bytes, file.size, "", 0);
    const char *said = ERROR_OF(read_examples(&(Examples){0}, scratch(name)));
    expect(!*said == (rows != NULL), "%s: %s", name, said);
    if (!*said && rows) {
        Examples x = examples_of(name, file.bytes, file.size);
        expect_rows(&x, name, rows);
        expect(x.errors == (*error != 0), "%s: %d errors", name, x.errors);
        expect(strstr(x.files.bytes, says) != NULL, "%s: said '%s'", name, x.files.bytes);
        for (int f = 0; f < FINDING_COUNT; f++)
            if (findings[f].kind == ERRORS && findings[f].count) said = findings[f].shown[0];
    }
    expect(!*said == !*error && strstr(said, error), "%s: %s", name, said);
}

void test_files(void)
{
    for (size_t i = 0; i < sizeof files / sizeof *files && !broken; i++) {
        char *text = json_text(files[i].text), *rows = files[i].rows ? json_text(files[i].rows) : 0;
        size_t size = strlen(text);
        for (size_t k = 0; k < size; k++) if (text[k] == '~') text[k] = 0;
        prep.columns = files[i].columns;
        expect_read(files[i].name, (Text){text, size, size}, rows, json_text(files[i].error), "");
    }
    outcome("%zu files", sizeof files / sizeof *files);
}

/* Twelve rows in each shape: %1 is a text, %2 its label, %3 its number, %4 its class. The expected
 * text has the targets that count in braces. wide: UTF-16, 1 little, 2 big endian. */
static const struct { const char *name, *columns, *head, *row, *between, *tail, *expected, *says;
                      int wide; } shapes[] = {
    {"SMSSpamCollection", 0, "", "%2\tcall '%1 now", "\n", "", "call '%1 now{ %2}",
     "(UTF-8, columns separated by tabs, no header: label,text): text = 'text', label = ", 0},
    {"sst2.tsv", 0, "sentence\tlabel\n", "%1 \t%4", "\n", "\n", "%1{ %4}",
     "tabs, a header): text = 'sentence', label = 'label'", 0},
    {"banking77.csv", 0, "text,category\r\n", "'%1',%2", "\r\n", "", "%1{ %2}",
     "commas, a header): text = 'text', label = 'category'", 0},
    {"ag_news.csv", 0, "", "'%4','No. %3','%1'", "\n", "\n", "%1{ %4}",
     "commas, no header: label,-,text)", 0},
    {"ag_title.csv", "label,title,text", "", "'%4','No. %3','%1'", "\n", "\n", "No. %3\n%1{ %4}",
     "prompt = 'title', text = 'text', label = 'label'", 0},
    {"ag_header.csv", 0, "Class Index,Title,Description\n", "%4,No. %3,'%1'", "\n", "",
     "No. %3\n%1{ %4}", "label = 'Class Index'", 0},
    {"kaggle.csv", "v1=label,v2=text", "v1,v2,,\n", "%2,'%1',,", "\n", "\n", "%1{ %2}",
     "text = 'v2', label = 'v1'", 0},
    {"reviews.csv", 0, " Review ;ID; SENTIMENT\n", "'%1';%3; %2", "\n", "\n", "%1{ %2}",
     "semicolons, a header): text = ' Review '", 0},
    {"little.txt", 0, "Question|Answer\r\n", "%1 \xF0\x9F\x8E\x88|%2", "\r\n", "",
     "User: %1 \xF0\x9F\x8E\x88\nAssistant:{ %2}", "(UTF-16, columns separated by bars", 1},
    {"big.tsv", 0, "", "%1\t%2", "\n", "", "%1{ %2}", "no header: text,label", 2},
    {"alpaca.json", 0, " [\n ", "{'instruction': 'Sort %3, [{\\\\', 'input': '%1',\n"
     "  'output': '%2'}", ",\n ", "]\n", "User: Sort %3, [{\\\n%1\nAssistant:{ %2}",
     "a JSON array): prompt = 'instruction', text = 'input', answer = 'output'", 0},
    {"sharegpt.json", 0, "[", "{'id': %3, 'conversations': [{'from': 'system', "
     "'value': 'Sort.', 'weight': null}, {'from': 'human', 'value': '%1', "
     "'weight': 0}, {'from': 'gpt', 'value': '%2'}]}", ", ", "]",
     "System: Sort.\nUser: %1\nAssistant:{ %2}", "messages = 'conversations'", 0},
    {"orca.jsonl", 0, "", "{'system_prompt':'Sort.','question':'%1',"
     "'response':'%2','category':'x'}", "\n", "", "System: Sort.\nUser: %1\nAssistant:{ %2}",
     "system = 'system_prompt', prompt = 'question', answer = 'response'", 0},
    {"setfit.json", 0, "", "{'text':'%1','label':%4,'label_text':'%2'}", "\n", "", "%1{ %2}",
     "JSON, a row in each line): text = 'text', label = 'label_text'", 0},
    {"booleans", 0, "[", "{'premise':'%1','hypothesis':%3,'label':true}", ",", "]", "%1\n%3{ true}",
     "a JSON array): prompt = 'premise'", 0},
    {"renamed.jsonl", "ask=prompt,say=completion", "", "{'ask':'%1 ','say':'%2'}", "\n", "",
     "%1 {%2}", "prompt = 'ask', completion = 'say'", 0},
    {"object.json", 0, "{'version': 'a\\'[{', 'data': [\n", "{'text':'%1','label':'%2'}", ",\n",
     "],\n 'source': {'url': [1]}\n}\n", "%1{ %2}", "a JSON array): text = 'text'", 0}};

/* The rows of a shape as its file has them; or, if `expected`, as they should be read. */
Text shape_text(size_t shape, int expected)
{
    static const char *const texts[] = {"Soup %d was cold; we left", "Music %d, and sun",
                                        "Wrong door %d!", "The caf\xC3\xA9 and garden %d"};
    Text t = {0};
    for (int i = 0; i < 12; i++) {
        text_print(&t, "%s", expected ? "" : i ? shapes[shape].between
                                               : json_text(shapes[shape].head));
        const char *row = json_text(expected ? shapes[shape].expected : shapes[shape].row);
        const char *value[] = {format(texts[i % 4], i), i % 2 ? "good" : "bad", format("%d", i),
                               format("%d", 1 + i % 2)};
        for (; *row; row++)
            if (*row == '%') text_print(&t, "%s", value[*++row - '1']);
            else text_add(&t, row, 1);
        text_print(&t, "%s", expected ? "\n" : i == 11 ? json_text(shapes[shape].tail) : "");
    }
    return t;
}

/* Change a text in UTF-8 to UTF-16 with a byte order mark. */
Text utf16_from_utf8(Text from, int big)
{
    Text to = {0};
    uint32_t c = 0xFEFF;
    for (size_t i = 0;; i += utf8_decode(from.bytes + i, from.size - i, &c)) {
        uint32_t unit[] = {0xD800 + ((c - 0x10000) >> 10), c < 0x10000 ? c : 0xDC00 + (c & 0x3FF)};
        for (int k = c < 0x10000; k < 2; k++)
            text_add(&to, (char[]){(char)(unit[k] >> 8 * big), (char)(unit[k] >> 8 * !big)}, 2);
        if (i == from.size) return to;
    }
}

void test_published(void)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && !broken; i++) {
        Text file = shape_text(i, 0);
        if (shapes[i].wide) file = utf16_from_utf8(file, shapes[i].wide == 2);
        prep.columns = shapes[i].columns;
        expect_read(shapes[i].name, file, shape_text(i, 1).bytes, "", json_text(shapes[i].says));
    }
}

/* ROWS rows, many of them copies of earlier ones of which one word in `change` is lost. The frame
 * around the prompts must not count. word[i] holds the row's words, the answer last, then zeros. */
enum { ROWS = 300, WORDS = 24 };
static int word[ROWS][WORDS + 3], words[ROWS];
Examples random_examples(uint64_t key, int labels, int change)
{
    Text text = {0};
    memset(word, 0, sizeof word);
    for (int i = 0; i < ROWS; i++) {
        uint64_t k = random_key(key, i);
        int from = below(max_int(1, i), k, 0), own = i % 3 == 0, n = 0;
        for (int j = 0; j < (own ? 1 + below(WORDS, k, 99) : words[from] - 1); j++)
            if (own) word[i][n++] = 1 + below(90, k, j + 1);
            else if (!n || below(change, k, j + 1)) word[i][n++] = word[from][j];
        word[i][n] = 100 + below(labels, k, 100), words[i] = n + 1;
        text_print(&text, "{\"prompt\":\"Look here:");
        for (int j = 0; j < n; j++) text_print(&text, "%s wX%d", j % 5 ? "" : ",", word[i][j]);
        text_print(&text, " What?\",\"completion\":\" wX%d\"}\n", word[i][n]);
    }
    Examples x = examples_of("random.jsonl", text.bytes, text.size);
    return x;
}

/* Three words in a row, or all that a row of fewer has, as one number. */
int shingle(int i, int k) { return word[i][k] << 16 | word[i][k + 1] << 8 | word[i][k + 2]; }

/* How many different shingles rows i and j have in common. */
int common_shingles(int i, int j)
{
    static int seen[1 << 24], call;                           /* twice the number of calls */
    int common = 0;
    call += 2;
    for (int k = 0; k == 0 || k < words[j] - 2; k++) seen[shingle(j, k)] = call;
    for (int k = 0; k == 0 || k < words[i] - 2; k++) {
        int *last = &seen[shingle(i, k)];
        if (*last == call) common++, *last = call + 1;        /* so that it counts once */
    }
    return common;
}

/* Near duplicates and their groups against the definition, |A and B| / |A or B| >= 0.8. */
void test_similar(void)
{
    int all = 0;
    for (int round = 0; round < 4; round++) {
        Examples x = random_examples(round, 3, 10 + 10 * round);
        int group[ROWS], pairs = 0;                           /* components, by relabelling */
        for (int i = 0; i < ROWS; i++) {
            int near = 0, equal = 0;
            group[i] = i;
            for (int j = 0; j < i; j++) {
                int both = common_shingles(i, j);
                if (5 * both < 4 * (common_shingles(i, i) + common_shingles(j, j) - both)) continue;
                near = 1;
                equal |= words[i] == words[j] && !memcmp(word[i], word[j], words[i] * sizeof(int));
                for (int k = 0, old = group[j]; k <= i; k++)
                    if (group[k] == old) group[k] = group[i];
            }
            pairs += near;
            expect(x.row[i].near == (near && !equal), "row %d: near duplicate %d, by definition %d",
                   i, x.row[i].near, near && !equal);
        }
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < i; j++)
                expect((group[i] == group[j]) == (group_of(&x, i) == group_of(&x, j)),
                       "rows %d and %d: one group or not?", i, j);
        expect(findings[SIMILAR].count + findings[REPEATED].count == pairs, "%d similar, %d equal",
               findings[SIMILAR].count, findings[REPEATED].count);
        all += pairs;
    }
    outcome("%d of %d rows are like an earlier one", all, 4 * ROWS);
}

/* For many seeds: no row of a group is held out, labels keep their shares, and copies are made of
 * training rows only. */
void test_split(void)
{
    Examples x = random_examples(7, 3, 5);
    int size[ROWS] = {0};
    for (int i = 0; i < ROWS; i++) size[group_of(&x, i)]++;
    expect(x.labels == 3, "%d labels", x.labels);
    for (int seed = 0; seed < 100; seed++) {
        int held[ROWS] = {0}, rows[ROWS] = {0}, all = 0;
        double share = seed % 2 ? 0.1 : 0.25;
        x.held = x.copies = 0;
        for (int i = 0; i < ROWS; i++) x.row[i].set = 0;
        split_examples(&x, share, seed);
        for (int i = 0; i < ROWS; i++) {
            expect(!x.row[i].set || size[group_of(&x, i)] == 1, "row %d has a duplicate", i);
            held[x.row[i].label] += x.row[i].set, all += x.row[i].set;
            rows[x.row[i].label]++;
        }
        expect(all == round(ROWS * share) && all == x.held, "%d held out, said %d", all, x.held);
        for (int i = 0; i < ROWS; i++)
            expect(fabs(held[i] - share * rows[i]) < 1, "label %d: %d of %d", i, held[i], rows[i]);
        prep.augment[TYPOS] = 0.5, prep.seed = seed;
        augment_examples(&x, mini);
        expect(x.copies > 20, "%d copies", x.copies);
        while (x.count > ROWS) {                              /* row i is in line i + 1 */
            Example *e = &x.row[--x.count];
            expect(!e->set && !x.row[e->line - 1].set, "a copy leaks");
        }
    }
    expect(x.moved > 1000, "%d moved", x.moved);
}

/* Copies differ from their row only in what the user says, outside the frame of prompts. */
void test_augment(void)
{
    static const char *const files[] = {
        CHAT("[" SAYS("system", "'Be Brief'") "," SAYS("user", "'Good morning dear Friend'") ","
             SAYS("assistant", "'Yes I Know','weight':0") "," SAYS("user", "'What else may it be'")
             "," SAYS("assistant", "'Never Mind'") "]"),
        PAIR("The Text: one two Three\\nIts Answer:", " Fine Day")
        PAIR("The Text: four five Six seven\\nIts Answer:", " Bad Day")};
    for (int pairs = 0; pairs < 2; pairs++) {
        const char *file = json_text(files[pairs]);
        Examples x = examples_of("a.jsonl", file, strlen(file));
        int copies = 0;
        for (int i = 0; i < 300; i++) {
            Example copy, *e = &x.row[i % x.count];
            int differ = 0;
            if (!augment(&copy, e, &x, i % 3, i)) continue;
            copies++;
            expect(copy.count == e->count && copy.label == e->label, "another number of turns");
            for (int n = 0; n < e->count; n++) {
                const Turn *a = &copy.turns[n], *b = &e->turns[n];
                int user = a->role == USER || a->role == PROMPT, same = !strcmp(a->text, b->text);
                differ += !same;
                expect(same || user, "'%s' became '%s'", b->text, a->text);
                expect(a->role == b->role && a->is_target == b->is_target, "a role has changed");
                expect(!pairs || n || (!strncmp(a->text, "The Text: ", 10) &&
                                       strstr(a->text, "\nIts Answer:")), "the frame: %s", a->text);
            }
            expect(differ, "a copy is no different");
        }
        expect(copies > 150, "%d copies", copies);
    }
}

/* The report's counts are those of the token files. */
void test_report_counts(void)
{
    int examples = 0, copies = 0, dropped = 0;
    random_examples(9, 3, 40);
    expect_says("prepare examples random.jsonl $mini --context 200 --out random --augment-case 0.5 "
                "--drop-near --val 0.2", 0, "near duplicate");
    char *report = read_file(scratch("random_report.jsonl"), &(size_t){0});
    for (int s = 0; s < 2; s++) {
        Tokens t = tokens_read(scratch("random"), s ? "val" : "train", mini->count);
        int before = examples, targets = 0;
        for (size_t i = 0; i < t.count; i++)
            examples += i && t.ids[i] == mini->end_of_text, targets += t.loss_mask[i];
        const char *row = format("[\"%s\",\"%d\",\"%zu\",\"%d\"]", s ? "validation" : "training",
                                 examples - before, t.count, targets);
        expect(strstr(report, row) != NULL, "%s is not in %.600s", row, report);
    }
    const char *note = strstr(report, "300 rows read, 0 with errors, ");
    if (note) sscanf(note + 30, "%d left out. %d changed", &dropped, &copies);
    expect(dropped > 20 && copies > 50 && examples == ROWS - dropped + copies,
           "%d examples, %d dropped, %d copies", examples, dropped, copies);
}

/* Files of one data set are replaced together or not at all. */
void test_replaced_together(void)
{
    random_examples(9, 3, 5);
    test_transcript("examples: files replaced together");
}

/* --test: its rows and no others are in NAME_test.bin; those of training in it are reported, and a
 * run without --test removes the file. */
void test_test_file(void)
{
    mini = tokenizer_read("data/mini_tokenizer.bin");
    write_text("train.csv", "text,label\none two three four five six seven eight,a\nb b,b\nc c,a\n"
                            "d d,b\ne e,a\nf f,b\ng g,a\nh h,b\ni i,a\nj j,b\n"
                            "string,d\nl l,a\n");
    write_text("test.csv", "label,text\na,zero one two three four five six seven eight\nb,b b\n"
                           "a,new\nz,k k\nb,\n");
    for (int drop = 1; drop >= 0; drop--) {
        expect_says(format("prepare examples train.csv --test test.csv --out tested $mini "
                           "--drop-errors%s", drop ? " --drop-near --drop-duplicates" : ""), 0,
                    "training 11 ...validation 1 ...17 rows read, 1 with errors, ..."
                    "equal to a row of training: test.csv, line 3: of train.csv, line 3..."
                    "like a row of training: test.csv, line 2: 88% the same..."
                    "answer is not in training: test.csv, line 5..."
                    "answer of one row only: train.csv, line 12");
        Text text = set_text("tested", "test", mini);
        expect(!strcmp(text.bytes, drop ? "<|endoftext|>new{ a<|endoftext|>}k k{ z<|endoftext|>}" :
               "<|endoftext|>zero one two three four five six seven eight{ a<|endoftext|>}b b{ b"
               "<|endoftext|>}new{ a<|endoftext|>}k k{ z<|endoftext|>}"), "tests: %s", text.bytes);
    }
    expect_says("prepare examples train.csv --val 0 --out tested --model repo/data/mini.bin $mini; "
                "echo tested_*.bin", 0, "steps of 4 x ...epochs with --recompute ..."
                "tested_train.bin status");
}

/* ---- judging: labels, shots, intervals, right answers, tables, search, the report ---- */

/* Set the options of a command by a line of words. */
void set_options(char letter, const char *line)
{
    char *words[20], *text = format("%s", line);
    int count = 0;
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) words[count++] = word;
    expect(options_parse(options, letter, "", count, words) == 0, "words that are no options");
}

/* What eval loads for a line of options; the test goes to the scratch folder. */
Evaluation evaluation(const char *line)
{
    if (chdir(given("")) != 0) die("%s: %s", folder, strerror(errno));
    set_options('e', line);
    Evaluation e = models_load();
    held_out_load(&e);
    return e;
}

/* The labels are those of training, in any number; --limit draws; free answers are no labels. */
void test_label_sets(void)
{
    for (int y = 0; y < 2; y++) {
        int first = 1, labels = y ? 0 : LABELS;
        Evaluation e = evaluation(y ? "--model m --tokenizer t --data y --limit 39"
                                    : "--model m --tokenizer t --data x --limit 15");
        expect(e.labels.count == labels, "%d labels of %d", e.labels.count, labels);
        expect(e.n == (y ? 39 : 15) && e.train_n == 4 * labels, "%d and %d rows", e.n, e.train_n);
        for (int i = 0; i < e.n && e.labels.count; i++) {
            first &= e.item[i].ids < e.val.ids + 100;
            expect(e.item[i].ids[e.item[i].answer] == 65 + e.truth[i], "another label: %d", i);
        }
        expect(y || !first, "--limit takes the first examples");
    }
}

/* Measures of a made-up classifier as scikit-learn and numpy give them; intervals as from 20,000
 * (F1: 2,000) draws of numpy's. 95% of the intervals of a mean must hold the true mean. */
void test_labels(void)
{
    int truth[90], predicted[90], held = 0;
    double probability[90], right[90], x[30];
    Predictions p = {3, truth, predicted, probability, right};
    for (int i = 0; i < 90; i++) {
        truth[i] = i * 7 / 2 % 3;
        predicted[i] = (truth[i] + (i % 5 == 0 ? 1 : i % 11 == 0 ? 2 : 0)) % 3;
        probability[i] = 0.35 + i * 37 % 64 / 100.0;
        right[i] = truth[i] == predicted[i];
    }
    Interval a = bootstrap(ratio, &(Ratio){right, NULL}, 90, 1), f = bootstrap(label_f1, &p, 90, 1);
    bound("accuracy", fabs(a.value - 0.722222222222), 1e-11);
    bound("macro-F1", fabs(f.value - 0.721843388658), 1e-11);
    bound("calibration", fabs(bootstrap(label_ece, &p, 90, 1).value - 0.133), 1e-11);
    expect(fabs(a.low - 0.622) < 0.015 && fabs(a.high - 0.811) < 0.015, "accuracy's [%g, %g]",
           a.low, a.high);
    expect(fabs(f.low - 0.619) < 0.02 && fabs(f.high - 0.811) < 0.02, "F1's interval [%g, %g]",
           f.low, f.high);
    for (int trial = 0; trial < 200; trial++) {
        for (int i = 0; i < 30; i++) x[i] = random_uniform(random_key(8, trial), i);
        Interval m = bootstrap(ratio, &(Ratio){x, NULL}, 30, trial);
        held += m.low < 0.5 && 0.5 < m.high;
    }
    expect(held > 177 && held < 199, "200 intervals hold the mean %d times", held);
    outcome("accuracy %.3f [%.3f, %.3f]; 200 intervals hold %d", a.value, a.low, a.high, held);
}

/* How much better b is than a is b - a, on the same rows; which of two texts is likelier. */
void test_gain(void)
{
    double a[4] = {1, 2, 3, 4}, b[4] = {2, 4, 6, 8}, twos[4] = {2, 2, 2, 2};
    Interval g = bootstrap(gain, &(Gain){{a, twos}, {b, twos}}, 4, 1);
    expect(g.value == 1.25 && g.low > 0, "gain %g [%g, %g]", g.value, g.low, g.high);
    Answers before = {.way = "a", .ratio = {{a, twos}}, .tokens = 9};
    Answers after = {.way = "b", .ratio = {{b, twos}}, .tokens = 5};
    Table t = {.columns = 7};
    compare_row(&t, &before, &after, 4);
    expect(!strncmp(t.cells[2], "+1.250 [+0.", 11) && !strcmp(t.cells[5], "-4"),
           "the row says %s, %s", t.cells[2], t.cells[5]);
    Model *m = model_read(given("m"));
    Tokenizer *v = tokenizer_read(given("t"));
    Json *pairs = records_read("", given("pairs.jsonl"), 1);
    set_options('e', "--batch 4");
    double gap[2], loss[2];
    pairs_gap(gap, m, v, pairs, 2, 16);
    for (int i = 0; i < 2; i++) {
        int count, *ids = prompt_tokens(v, i ? "rest or" : "a in", i ? 7 : 4, &count);
        Batch batch = batch_new(1, count);
        for (int k = 0; k < count; k++) {
            batch.tokens[k] = ids[k], batch.loss_weight[k] = 1;
            batch.targets[k] = k + 1 < count ? ids[k + 1] : v->end_of_text;
        }
        loss[i] = model_loss(m, &batch, no_dropout, 0, 0);
    }
    bound("log p(a) - log p(b)", fabs(gap[0] - (loss[1] - loss[0])), 1e-4);
}

/* Shots: a prompt by hand, and as many whole shots as fit with prompt, answer and every label. */
void test_shots(void)
{
    set_options('p', "--seed 3");
    uint16_t text[] = {299, 10, 11, 65, 299, 20, 66, 299, 30, 31, 32, 67, 299};
    Item d[] = {{text, 4, 3, 1}, {text + 4, 3, 2, 1}, {text + 7, 5, 4, 1}};
    Labels labels = {.count = 3, .label = d};
    Tokenizer *t = tokenizer_read(given("t"));
    Shots s = shots_draw(t, d, 3, 3);
    Tokens gap = {0};
    tokens_encode(&gap, t, "\n\n", 2, 0);
    int *order = shuffled(3, random_key(3, 4)), size = 0, T = 0;
    uint16_t hand[64] = {299};
    for (int k = 0; k < 3; k++) {
        for (int i = 1; i < d[order[k]].size; i++) hand[++size] = d[order[k]].ids[i];
        for (size_t g = 0; g < gap.count; g++) hand[++size] = gap.ids[g];
        expect(s.end[k + 1] == size, "%d shots end at %d, not %d", k + 1, s.end[k + 1], size);
    }
    expect(!memcmp(s.text.ids, hand + 1, 2 * size), "shots are not their examples and empty lines");
    for (int T_before = 3; T_before < 40; T_before++) {        /* 9 tokens may be generated */
        double mean = shots_fit(&s, d, 1, &labels, T_before);
        int k = s.used[0];
        expect(mean == k && (k == 0 || s.end[k] + 3 + 9 <= T_before) &&
               (k == 3 || s.end[k + 1] + 3 + 9 > T_before), "T %d: %d shots", T_before, k);
        if (k == 2 && !T) T = T_before;
    }
    shots_fit(&s, d, 1, &labels, T);                           /* two shots, a prompt, an answer */
    Tokens docs = documents_new("by hand", t);
    document_add(&docs, shots_before(&s, 0), &d[0], &d[0]);
    size = s.end[2];
    uint16_t end[] = {10, 11, 65, 299};
    expect(docs.count == (size_t)size + 5 && !memcmp(docs.ids, hand, 2 * size + 2) &&
           !memcmp(docs.ids + size + 1, end, sizeof end), "the document is not as made by hand");
    for (size_t i = 0; i < docs.count; i++)
        expect(docs.loss_mask[i] == (i + 2 >= docs.count), "mask of token %zu", i);
}

/* Tables: what an argument holds never shifts a cell. Settings by whole name. Break-even by hand:
 * 3 x 1000 tokens of training at 10 a query are 300 queries; 30 seconds at half a one are 60. */
void test_tables(void)
{
    Table t = {0};
    table_row(&t, "label\t%s\tn", "a\tb");
    table_row(&t, "%s\t%5d\t%%", "c\x1b[31m\n", 7);
    static const char *const cells[] = {"label", "a?b", "n", "c?[31m?", "    7", "%"};
    expect(t.columns == 3 && t.rows == 2 && t.count == 6, "%d cells", t.count);
    for (int i = 0; i < 6; i++) expect(!strcmp(t.cells[i], cells[i]), "cell %d: %s", i, t.cells[i]);
    Setting *run = settings_parse("command = x --steps 3\nmy_tokens = 5\ntokens=1000\r\n"
                                  "seconds = 30\n"), *none = settings_parse(NULL);
    char *pays = break_even(run, 10, 0.5), *unpaid = break_even(run, 0, 1);
    char *unknown = break_even(none, 10, 1);
    expect(strstr(pays, " 300 queries") && strstr(pays, "or 60 counted in seconds") &&
           strstr(pays, "are kept in"), "break-even: %s", pays);
    const char *command = setting(run, "command");
    expect(command && !strcmp(command, "x --steps 3"), "command: %s", command);
    expect(!setting(run, "step") && !setting(none, "step"), "a setting that is not there");
    expect(!*unpaid && !*unknown, "break-even of nothing saved");
}

/* eval names both models and measures each as it does alone; compare's gains are the differences of
 * its rows. */
void test_both_models(void)
{
    test_transcript("judging: two models");
    Json *table = records_read(scratch("new"), "compare.jsonl", 0), *row = json_get(table, "rows");
    double cell[7][7] = {{0}};                    /* 3 ways to ask, tuned, the gain over each */
    row = row ? row->child : NULL;
    for (int r = 0; row && r < 7; r++, row = row->next) {
        Json *c = row->child;
        for (int k = 0; c && k < 7; k++, c = c->next) cell[r][k] = cell_number(c->text);
    }
    for (int way = 0; way < 3; way++)
        for (int k = 2; k < 6; k++)
            if (way < 2 || k == 3)                            /* words have only an accuracy */
                bound("gain", fabs(cell[4 + way][k] - (cell[3][k] - cell[way][k])),
                      k == 5 ? 1.1 : 2e-3);
    expect(cell[3][2] != cell[0][2], "m and m2 have the same loss");
    expect(cell[1][1] > 0 && cell[1][1] <= 1, "%g shots used of 1", cell[1][1]);
}

/* A page of hostile records: no byte of them is taken for HTML. Its losses hardly differ. */
void test_report(void)
{
    static const char evil[] = "</pre><script>alert('1')</script>\"&\x7f";
    static const char json[] = "</pre><script>alert('1')</script>\\\"&\\u0007\x7f\\u001b[1m";
    mkdir(given("new/evil"), 0777);
    write_text("new/evil/run.txt", format("command = %s\ndata = %s\n%s = 1\n", evil, evil, evil));
    write_text("new/evil/eval.jsonl", format(
        "{\"title\":\"%1$s\",\"kind\":\"%1$s\",\"note\":\"%1$s\",\"columns\":[\"%1$s\",\"b\"],"
        "\"rows\":[[\"%1$s\",\"%1$s\"],[\"x\",3]]}\nno JSON\n", json));
    write_text("new/evil/samples.jsonl", format(
        "{\"when\":\"before\",\"prompt\":\"%1$s\",\"text\":\"%1$s\",\"target\":\"%1$s\"}\n"
        "{\"when\":\"after\",\"prompt\":\"%1$s\",\"text\":\"%1$s\",\"wanted\":\"%1$s\"}\n", json));
    write_text("new/evil/log.csv", format("%s\n0,0,0,,1.0000000000000002,0,0,0,0\n"
                                           "1,0,64,1,1,1e-3,1,9,1\n2,0,", log_header));
    expect_says("timeout 5 prepare report new/evil", 0, "");
    char *page = record_read(scratch("new/evil"), "report.html");
    int shown_as = 0;
    for (const char *c = page; c && *c; c++) {
        expect(*c != 0x7f && (*c & 0x80 || *c >= ' ' || *c == '\n'), "the page has a control byte");
        shown_as += !strncmp(c, "&#60;/pre&#62;&#60;script&#62;alert(&#39;1&#39;)", 48);
    }
    expect(page && !strstr(page, "<script") && !strstr(page, "alert('"), "markup is on the page");
    expect(shown_as == 13, "the text is shown %d times", shown_as);
    outcome("%d times escaped", shown_as);
}

/* What counts as mentioned: case, beginnings of words, whole numbers. */
void test_mentions(void)
{
    static const struct { const char *text, *part; int found; } row[] = {
        {"It costs 4 Euros.", "4 euros", 1}, {"It costs 14 euros.", "4 euros", 0},
        {"It costs 1.4 euros.", "4 euros", 0}, {"It costs 1,4 euros.", "4 euros", 0},
        {"3, 4 euros", "4 euros", 1}, {"You are refunded.", "refund", 1},
        {"a prerefund", "refund", 0}, {"non-refundable", "refund", 1}, {"room 5", "5", 1},
        {"room 50", "5", 0}, {"5.99", "5", 0}, {"the 5.", "5", 1}, {"5, or 6", "5", 1},
        {"caf\xc3\xa9" "4", "4", 0}, {"\xe2\x80\x9c" "4\xe2\x80\x9d", "4", 1}, {"", "a", 0},
        {"50% off", "% off", 1}, {"x 14 euros, 4 euros", "4 euros", 1}, {"ab", "abc", 0}};
    unicode_begin();
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        expect(mentions(row[i].text, row[i].part) == row[i].found, "'%s' in '%s' is not %d",
               row[i].part, row[i].text, row[i].found);
    Json *rows = records_read("data", "shop_heldout.jsonl", 1);
    int n = 0;
    for (const Json *r = rows, *turn; r; r = r->next, n++) {
        for (turn = json_get(r, "messages")->child; turn->next;) turn = turn->next;
        char *fault = faults(json_get(r, "expect"), string_of(turn, "content"));
        char *empty = faults(json_get(r, "expect"), "");
        expect_check(json_get(r, "expect"), n + 1);
        expect(!*fault && *empty, "row %d's own answer: %s; no answer: %s", n + 1, fault, empty);
    }
    outcome("%d answers fulfil what their rows expect", n);
}

/* Answers by several threads are those of one model; the command's shares, errors and records. */
void test_questions(void)
{
    Evaluation e = evaluation("--model m --tokenizer t --questions asked.jsonl --tokens 9");
    Answers a = {0};
    use_threads(3);
    answers_generate(&a, e.model[0], &e, NULL);
    use_threads(1);
    for (int i = 0; i < 4; i++) {
        Query alone = query_new(&e.item[i], NULL, 9, "\nUser:");
        query_answer(e.model[0], e.t, &alone);
        expect(!strcmp(a.answer[i], alone.answer) && a.ratio[EXACT].numerator[i] == (i % 2 == 0),
               "answer %d is '%s', alone '%s', right %g", i, a.answer[i], alone.answer,
               a.ratio[EXACT].numerator[i]);
    }
    test_transcript("figures: right answers");
    Json *rows = records_read(scratch("new"), "answers.jsonl", 1);
    int n = 0, right = 0;
    for (const Json *r = rows; r; r = r->next, n++) {
        right += json_get(r, "right")->type == 't';
        expect(string_of(r, "got") && string_of(r, "prompt") && string_of(r, "wanted") &&
               json_get(r, "probability")->number < 1, "record %d", n);
    }
    expect(n == 8 && right == 4, "%d records, %d of them right", n, right);
}

/* Words counted: a row by hand; after many steps the gradient is 0, computed by its definition; a
 * label that a word decides is learned, a word that only held-out rows have is left out. */
void test_words(void)
{
    enum { N = 60, L = 3 };
    int start[N + 2] = {0}, truth[N], row[N], wrong = 0;
    WordCounts x = {.words = 1, .labels = L, .start = start};
    static const char *const colour[] = {"red", "blue", "green"};
    char *text[N + 1];
    unicode_begin();
    for (int i = 0; i < N; i++) {
        truth[i] = below(L, 31, i), row[i] = i;
        text[i] = format("Good w%d %s, GOOD", i % 7, colour[truth[i]]);
        words_add(&x, text[i], 1);
    }
    words_add(&x, text[N] = format("%s", "unseen RED"), 0);
    double one = log(2), two = log(3), size = sqrt(1 + 2 * one * one + two * two);
    expect(start[N + 1] - start[N] == 2, "a word of held-out rows alone is counted");
    bound("its row", fabs(x.value[start[N] + 1] - one / sqrt(1 + one * one)), 1e-6);
    bound("good, twice", fabs(x.value[1] - two / size), 1e-6);
    float *W = allocate(x.words * L, sizeof *W), p[L], largest = 0, decay = 1e-2f;
    for (int i = 0; i < 10; i++) words_fit(W, &x, truth, row, N, decay);
    for (int k = 0; k < L; k++)
        for (int word = 0; word < x.words; word++) {
            double sum = decay * W[word * L + k];
            for (int i = 0; i < N; i++) {
                wrong += words_predict(p, W, &x, i) != truth[i];
                for (int j = start[i]; j < start[i + 1]; j++)
                    if (x.word[j] == word) sum += x.value[j] * (p[k] - (truth[i] == k)) / N;
            }
            largest = fmax(largest, fabs(sum));
        }
    bound("gradient", largest, 1e-5);
    expect(wrong == 0 && words_predict(p, W, &x, N) == 0, "%d wrong", wrong);
}

/* ---- the model: first values, masks, recompute, adapters, moments ---- */

/* Each tensor has the mean and the standard deviation of its first values; padding stays 0. */
void test_first_values(void)
{
    Config c = {.T = 64, .V = 300, .L = 8, .NH = 2, .C = 64, .Vp = 320};
    Model *m = model_new(c);
    model_initialize(m, 3);
    for (int i = 0; i < TENSORS; i++) {
        const Tensor *t = &m->tensors[i];
        size_t count = i ? tensor_size(m, t) : (size_t)c.V * c.C;
        double mean = t->first_value == ONES, square = 0, sum = 0, constant = t->rows == 1;
        double sigma = constant ? 0 : t->first_value == RESIDUAL ? 0.005 : 0.02, n = count;
        for (size_t j = 0; j < count; j++) {
            double d = m->w.tensor[i][j] - mean;
            sum += d, square += d * d;
        }
        bound(t->field, fabs(sum / n), 5 * sigma / sqrt(n) + 1e-15);
        bound(t->field, fabs(sqrt(square / n) - sigma), 5 * sigma / sqrt(2 * n) + 1e-15);
    }
    expect(largest(m->w.wte + (size_t)c.V * c.C, 20 * c.C) == 0, "rows of the padding are not 0");
}

/* Each place, batch and step has masks of its own, and the same step has the same ones again. */
void test_masks(void)
{
    Recipe r = {{(real)0.1, (real)0.1, (real)0.1, 0, 5}, 0, usual};
    Model *m = random_model(small, TRAINING, 2, 0);
    Batch b = random_batch(2, small.T, small.V, 3), twice[] = {b, b};
    double norm, loss[4];
    r.adamw.lr = 0;
    for (int i = 0; i < 4; i++) loss[i] = model_step(m, twice, 1 + i / 3, &r, 1 + i % 3 / 2, &norm);
    expect(loss[0] == loss[1], "one step, two losses: %g and %g", loss[0], loss[1]);
    expect(loss[2] != loss[0], "two steps have the same masks");
    expect(loss[3] != 2 * loss[0], "two batches of a step have the same masks");
    for (int i = 0; i < 9 * SITES; i++)
        for (int j = 0; j < i; j++)
            expect(site_key(r.dropout, i / SITES, i % SITES) !=
                   site_key(r.dropout, j / SITES, j % SITES), "places %d and %d share masks", i, j);
}

void test_sizes(void)
{
    expect_in("SIZE_MAX bytes", ERROR_OF(allocate_reals(SIZE_MAX / sizeof(real) - 1)),
              "out of memory");
    expect_in("B * T", ERROR_OF(batch_new(1 << 16, 1 << 15)), "choose a smaller --batch");
}

/* The best loss that a run has told. */
double best_loss(const char *run)
{
    return strtod(run_line(format("sed -n 's/^best_loss = //p' %s/run.txt", run)), NULL);
}

/* Through every adapter, with all kinds of dropout, packing, masks, smoothing, and recompute. The
 * model itself has no gradient. A model that has merged its adapters gives the same loss. */
void test_adapter_gradient(void)
{
    rates = (Dropout){(real)0.1, (real)0.2, (real)0.15, (real)0.25, 77}, smoothing_rate = 0.1;
    batch = random_batch(2, small.T, small.V, 3);
    for (int i = 0; i < 6; i++) {
        Model *m = model = random_model(small, INFERENCE, 2, 0);
        adapt_randomly(m, i < 4 ? 1 << i : 15);
        m->recompute = i == 5;
        model_prepare(m, TRAINING, 2, small.T, i == 4);
        for (int k = 0; k < 2; k++) model_loss(m, &batch, rates, smoothing_rate, 1);
        for (size_t k = 0; k < m->adapter_count; k++) m->g.qkv_A[k] /= 2;     /* they add up */
        for (int j = trained_first(m); j < trained_end(m); j++) {
            const Tensor *t = &m->tensors[j];
            size_t from = trained_from(m, t), count = tensor_size(m, t) - from;
            real *w = m->w.tensor[j] + from, *g = m->g.tensor[j] + from;
            expect(!count || largest(g, count) > 1e-3, "%s has no gradient", t->field);
            expect(largest(m->g.tensor[j], from) == 0, "a frozen %s has one", t->field);
            bound(t->field, gradient_error(batch_loss, w, g, count, i < 4 ? 16 : 8, i), 1e-6);
        }
        expect(!m->g.wte, "the model has gradients");
        double loss = model_loss(m, &batch, no_dropout, 0, 0);
        model_merge(m);
        bound("merged", fabs(model_loss(m, &batch, no_dropout, 0, 0) - loss), 1e-12);
    }
}

/* With --recompute, training has the same bits, in less memory. */
void test_recompute(void)
{
    Config three = small;
    three.L = 3;
    for (int frozen = 0; frozen <= 2; frozen++) {
        expect(training_sum((Way){.frozen = frozen}, 1) ==
               training_sum((Way){.frozen = frozen, .recompute = 1}, 1), "%d frozen", frozen);
        Model *m = random_model(three, TRAINING, 2, frozen);
        double kept = training_memory(m, 2, small.T).all;
        m->recompute = 1;
        size_t each = (9 * small.C + 4 + small.NH) * 2 * small.T * sizeof(real);
        bound("bytes", fabs(kept - training_memory(m, 2, small.T).all - each * (2 - frozen)), 1000);
    }
}

/* The loss on v of the small model m with adapters, merged into it or beside it. */
double adapted_loss(const char *adapter, int merged)
{
    Model *m = model_read(given("m"));
    adapter_read(m, scratch(adapter));
    if (merged) model_merge(m);
    return loss_on_v(m, 16);
}

/* A run with --lora writes adapters, which give what the run has told, merged or not. Other options
 * and adapters in place of a model are refused. */
void test_run_lora(void)
{
    expect_says("$tiny v --out r9 --steps 6 --lr 3e-2 --eval-every 2 --lora 2 --show 1 --lora-on "
                "fcproj,qkv,fc,attproj", 0, "after training");
    double best = best_loss("r9");
    for (int merged = 0; merged < 2; merged++)
        bound("loss", fabs(adapted_loss("r9/best.bin", merged) - best), 2e-6);
    expect(fabs(adapted_loss("r9/model.bin", 0) - best) < 1, "model.bin is another thing");
    test_transcript("a run with adapters");
}

/* Adapters that PEFT made are imported; ten steps from them have PEFT's losses. Exported again they
 * are the same, and the merged model is exported with the loss of model and adapters. */
void test_peft(void)
{
    double norm, first = 0;
    given("");
    Model *m = reference_model();
    model_write(m, scratch("ref"), 0);
    test_transcript("PEFT: import, 10 steps, export");
    if (broken) return;
    m = model_read(scratch("ref"));
    adapter_read(m, scratch("pa"));
    model_prepare(m, TRAINING, reference.B, m->c.T, 0);
    char *at = read_file("data/adapters/losses.txt", &(size_t){0});
    for (int i = 0; i < 10; i++) {
        Recipe r = {no_dropout, 0, usual};
        double loss = model_step(m, reference.batch, 1, &r, i + 1, &norm);
        bound("loss", fabs(loss - strtod(at, &at)), 1e-5);
        if (i == 0) first = loss;
    }
    m = model_load(scratch("ref"), scratch("pa"));
    model_prepare(m, TRAINING, reference.B, m->c.T, 0);
    bound("merged", fabs(model_loss(m, reference.batch, no_dropout, 0, 0) - first), 1e-5);
}

/* A number is rounded to one of its two neighbours in bf16, as often to each as keeps the mean; so
 * without gradients, v falls as it should. */
void test_stochastic(void)
{
    for (int i = 0; i < 64; i++) {
        real x = (real)(random_normal(1, i) * (i % 2 ? 1e-12 : 1));
        double low = bf16_to(bf16_stochastic(x, 0)), high = bf16_to(bf16_stochastic(x, 0xffff));
        double sum = 0;
        for (int j = 0; j < 4096; j++) {
            double y = bf16_to(bf16_stochastic(x, random_bits(i, j) & 0xffff));
            expect(y == low || y == high, "%g becomes %g", (double)x, y);
            sum += y;
        }
        expect(fabs(low - x) < fabs(x) / 128, "low %g", low);
        bound("mean", fabs(sum / 4096 - x) / (fabs(high - low) + 1e-30), 4 * 0.5 / 64);
        expect(bf16_stochastic((real)low, 0xffff) == bf16_from((float)low), "%g moves", low);
    }
    uint16_t m[256] = {0}, v[256];
    real w[256] = {0}, g[256] = {0};
    AdamW a = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8};
    double mean = 0;
    for (int i = 0; i < 256; i++) v[i] = bf16_from(1);
    for (int step = 1; step <= 500; step++)
        adamw_bf16(w, g, (Moments16){m, v, random_key(step, 1)}, 256, 1, &a, step);
    for (int i = 0; i < 256; i++) mean += bf16_to(v[i]) / 256;
    bound("v", fabs(mean / pow(0.999, 500) - 1), 0.02);
}

/* The losses of 60 steps with moments in bf16 are near those in fp32, with and without adapters. */
void test_moments(void)
{
    double loss[2][60], norm;
    Recipe r = {{(real)0.1, 0, 0, (real)0.1, 1}, 0, usual};
    Batch b = random_batch(2, small.T, small.V, 3);
    r.adamw.beta2 = 0.999;
    for (int lora = 0; lora < 2; lora++) {
        for (int bf16 = 0; bf16 < 2; bf16++) {
            Model *m = random_model(small, INFERENCE, 2, 0);
            if (lora) adapt_randomly(m, 15);
            m->bf16_moments = bf16;
            model_prepare(m, TRAINING, 2, small.T, 0);
            for (int i = 0; i < 60; i++) loss[bf16][i] = model_step(m, &b, 1, &r, i + 1, &norm);
        }
        for (int i = 0; i < 60; i++)
            bound("loss", fabs(loss[1][i] - loss[0][i]) / loss[0][0], 0.02);
        expect(loss[1][59] != loss[0][59], "moments are not in bf16");
    }
}

/* Bytes of training GPT-2 XL, without allocating it: 20 GB hold all of it. */
void test_memory(void)
{
    Model m = {.c = {1024, 50257, 48, 25, 1600, 50304}, .bf16_moments = 1, .recompute = 1};
    m.count = tensors_describe(m.c, m.tensors);
    Memory need = training_memory(&m, 1, 512);
    bound("moments", fabs(need.moments - 4.0 * m.count), 1);
    expect(need.all < 20e9 && need.all > 12.0 * m.count, "%.2f GB", need.all / 1e9);
    m.adapter = (Adapter){0, 16, 16, 15};
    m.adapter_count = adapters_describe(m.c, m.adapter, m.tensors + TENSORS);
    expect(m.adapter_count == 48 * 16 * (2 * 12800), "%zu numbers", m.adapter_count);
    Memory lora = training_memory(&m, 1, 1024);
    bound("gradients", fabs(lora.gradients - m.adapter_count * (double)sizeof(real)), 1);
    expect(lora.activations < 130000.0 * 1024 * sizeof(real), "%.2f GB", lora.activations / 1e9);
    expect_says("timeout 20 train_gpt --model repo/data/mini.bin $mini --data repo/data/shop "
                "--batch 65536 --out new", 1, "training needs 8...--batch or --context, "
                "--recompute (...--lora 8 --recompute --precision bf16 (");
    outcome("XL: %.2f GB whole, adapters %.2f", need.all / 1e9, lora.all / 1e9);
}

/* ---- other programs' models: GGUF, tokenizer.json, padded vocabularies ---- */

/* Append a number of some bytes, or a text behind its length, as GGUF has them. */
void put(Text *to, uint64_t number, int bytes) { text_add(to, (char *)&number, bytes); }
void put_text(Text *to, const char *text)
{
    put(to, strlen(text), 8), text_add(to, text, strlen(text));
}

/* The place in a GGUF file of the number i of a row-major tensor that was stored as `type`, and
 * whether it is x: exactly, as the nearest of F16 or BF16, in Q8_0 within half a step. */
int gguf_is(const char *data, size_t i, int type, float x)
{
    uint16_t half;
    float full;
    memcpy(&half, data + (type == 8 ? i / 32 * 34 : type ? 2 * i : 0), 2);
    if (type == 0) return memcpy(&full, data + 4 * i, 4), full == x;
    if (type != 8) return half == (type == 1 ? f16_from(x) : bf16_from(x));
    double step = f16_to(half), q = (signed char)data[i / 32 * 34 + 2 + i % 32];
    return fabs(q * step - x) <= (0.5 + 0.07) * step;         /* F16 rounds 127 steps by 0.07 */
}

/* The head of the GGUF file x of a model with the vocabulary of data/, up to its tensors. Types of
 * values: 4 uint32, 5 int32, 6 float32 (0x3727c5ac is 1e-5), 7 bool, 8 text, 9 array. */
Text gguf_head(const Config *c, const Tokenizer *t, int file_type)
{
    const struct { const char *name, *text; int type; uint32_t number; } keys[] = {
        {"general.architecture", "gpt2", 8, 0}, {"general.name", "x", 8, 0},
        {"general.alignment", 0, 4, 32}, {"general.quantization_version", 0, 4, 2},
        {"general.file_type", 0, 4, file_type}, {"gpt2.context_length", 0, 4, c->T},
        {"gpt2.embedding_length", 0, 4, c->C}, {"gpt2.feed_forward_length", 0, 4, 4 * c->C},
        {"gpt2.block_count", 0, 4, c->L}, {"gpt2.attention.head_count", 0, 4, c->NH},
        {"gpt2.attention.layer_norm_epsilon", 0, 6, 0x3727c5ac},
        {"tokenizer.ggml.model", "gpt2", 8, 0}, {"tokenizer.ggml.pre", "gpt-2", 8, 0},
        {"tokenizer.ggml.bos_token_id", 0, 4, 4095}, {"tokenizer.ggml.eos_token_id", 0, 4, 4095},
        {"tokenizer.ggml.unknown_token_id", 0, 4, 4095}, {"tokenizer.ggml.add_bos_token", 0, 7, 1},
        {"tokenizer.chat_template", chat_template, 8, 0}, {"tokenizer.ggml.tokens", 0, 9, 8},
        {"tokenizer.ggml.token_type", 0, 9, 5}, {"tokenizer.ggml.merges", 0, 9, 8}};
    Text head = {0};
    char word[2 * WORD];
    text_add(&head, "GGUF\3\0\0", 8), put(&head, 4 + 12 * c->L, 8), put(&head, 21, 8);
    for (int i = 0; i < 21; i++) {
        put_text(&head, keys[i].name), put(&head, keys[i].type, 4);
        if (keys[i].type == 8) put_text(&head, keys[i].text);
        else put(&head, keys[i].number, keys[i].type == 7 ? 1 : 4);
        if (keys[i].type == 9) put(&head, i < 20 ? 4096 : 4096 - 257, 8);
        for (int id = 0; keys[i].type == 9 && id < 4096; id++) {
            if (i == 18) word_from_token(word, t, id);
            if (i == 19) put(&head, id < 4095 ? 1 : 3, 4);
            else if (i == 18 || merge_line(word, t, id)) put_text(&head, word);
        }
    }
    return head;
}

/* Model m, the file at path, in one type: all that the GGUF file says, and its numbers. Rows that
 * are no whole blocks of 32 are F16 in Q8_0. */
void gguf_check(const Model *m, const Tokenizer *t, const char *path, const char *name, int type,
                int file_type)
{
    static const char *const names[] = {"token_embd", "position_embd", "attn_norm", "attn_qkv",
        "attn_output", "ffn_norm", "ffn_up", "ffn_down", "output_norm"};
    size_t size, place;
    expect_says(format("prepare export %s $mini --type %s --out x.gguf", path, name), 0,
                "x.gguf: GGUF, 4096 tokens");
    char *file = read_file(scratch("x.gguf"), &size);
    Text head = gguf_head(&m->c, t, file_type);
    expect(strstr(chat_template, "{{ bos_token }}") == chat_template, "no end of text at first");
    for (int pass = 0; pass < 2; pass++) {                    /* names and shapes; data */
        const char *data = file + (head.size + 31) / 32 * 32;
        place = 0;
        for (int i = 0; i < 16; i++)
            for (int l = 0; l < (m->tensors[i].layered ? m->c.L : 1); l++) {
                const Tensor *x = &m->tensors[i];
                int vector = x->rows == 1, cut = type == 8 && x->columns % 32;
                int is = vector || i == 1 ? 0 : cut ? 1 : type;
                for (size_t k = 0; pass && k < x->size && !broken; k++)
                    expect(gguf_is(data + place, k, is, m->w.tensor[i][l * x->size + k]),
                           "%s: number %zu of layer %d differs", x->name, k, l);
                if (!pass) {
                    const char *block = x->layered ? format("blk.%d.", l) : "";
                    put_text(&head, format("%s%s.%s", block, names[i < 2 ? i : i / 2 + 1],
                                            i > 2 && i % 2 ? "bias" : "weight"));
                    put(&head, 2 - vector, 4), put(&head, x->columns, 8);
                    if (!vector) put(&head, x->rows, 8);
                    put(&head, is, 4), put(&head, place, 8);
                }
                place += ((is == 8 ? x->size / 32 * 34 : x->size * (is ? 2 : 4)) + 31) / 32 * 32;
            }
        expect(size >= head.size && !memcmp(file, head.bytes, head.size), "another head");
        if (broken) break;
        expect(!pass || data + place == file + size, "%zu bytes", size);
    }
}

/* The model in data/, and a small one whose tensors do not end where the next may begin. */
void test_gguf(void)
{
    const Config odd = {.T = 5, .V = 4096, .L = 2, .NH = 2, .C = 6, .Vp = 4096};
    static const struct { const char *name; int type, file_type; } types[] = {
        {"f32", 0, 0}, {"f16", 1, 1}, {"bf16", 30, 32}, {"q8_0", 8, 7}};
    Model *m[2] = {model_read("data/mini.bin"), random_model(odd, INFERENCE, 1, 0)};
    Tokenizer *t = tokenizer_read("data/mini_tokenizer.bin");
    model_write(m[1], scratch("odd"), 0);
    for (int i = 0; i < 8; i++)
        gguf_check(m[i % 2], t, i % 2 ? "odd" : "repo/data/mini.bin", types[i / 2].name,
                   types[i / 2].type, types[i / 2].file_type);
    outcome("2 models in 4 types");
}

/* A model whose matrices are kept in bf16: the bits of one whose matrices were rounded before, in a
 * batch and token by token, and losses near those in fp32; from a file of either kind. */
void test_bf16_weights(void)
{
    Config c = {.T = 70, .V = 90, .L = 2, .NH = 3, .C = 48, .Vp = 96};
    Batch b = random_batch(2, c.T, c.V, 2);
    Model *m[3] = {random_model(c, INFERENCE, 2, 0)};
    double loss[3], exact = model_loss(m[0], &b, (Dropout){0}, 0, 0);
    uint64_t sum[3] = {0};
    model_write(m[0], scratch("b3"), 0);
    uint64_t fingerprint = model_fingerprint(m[0]);
    for (int i = 0; i < TENSORS; i++) {
        size_t size = m[0]->tensors[i].rows > 1 ? tensor_size(m[0], &m[0]->tensors[i]) : 0;
        real *w = m[0]->w.tensor[i];
        for (size_t j = 0; j < size; j++) w[j] = bf16_rounded((float)w[j]);
    }
    model_write(m[0], scratch("b5"), 1);
    m[1] = model_read_as(scratch("b3"), 1), m[2] = model_read_as(scratch("b5"), 1);
    expect(!memcmp(m[1]->half[0], m[2]->half[0], (m[1]->half[TENSORS - 4] - m[1]->half[0]) * 2),
           "the two files give different matrices");
    expect(model_fingerprint(m[1]) == fingerprint, "the fingerprint is another one");
    for (int i = 0; i < TENSORS; i++)                         /* version 5 rounds vectors as well */
        if (!m[2]->half[i])
            memcpy(m[2]->w.tensor[i], m[1]->w.tensor[i],
                   tensor_size(m[1], &m[1]->tensors[i]) * sizeof(real));
    for (int i = 0; i < 3; i++) {
        bf16_products = 1;
        model_prepare(m[i], INFERENCE, 2, c.T, 0);
        loss[i] = model_loss(m[i], &b, (Dropout){0}, 0, 0);
        sum[i] = checksum(0, m[i]->loss, 2 * c.T * sizeof(double));
        for (int t = 0; t < 20; t++) {
            model_forward(m[i], &b.tokens[t], NULL, 1, t, 1, (Dropout){0});
            sum[i] = checksum(sum[i], m[i]->a.ln, c.C * sizeof(real));
        }
        bf16_products = 0;
    }
    expect(sum[0] == sum[1] && sum[1] == sum[2], "the bits of rounded matrices are others");
    bound("loss", fabs(loss[1] / exact - 1), 5e-3);
    expect(loss[1] != exact, "nothing was rounded");
}

/* Runs in bf16 end near those in fp32, and the commands that judge, answer and adapt take it. */
void test_bf16_run(void)
{
    double best[4];
    for (int i = 0; i < 4; i++) {
        expect_says(format("$tiny v --out r10 --steps 12 --lr 3e-3 --eval-every 4 --show 1%s%s",
                           i & 1 ? " --precision bf16" : "", i & 2 ? " --lora 2" : ""), 0,
                    i & 1 ? "in bf16" : "in fp32");
        best[i] = best_loss("r10");
    }
    for (int i = 0; i < 4; i += 2) {
        bound("loss", fabs(best[i + 1] / best[i] - 1), 5e-3);
        expect(best[i + 1] != best[i], "bf16 is fp32");
    }
    double said = strtod(run_line(
        "prepare eval $mt --adapter r10/best.bin --data v --context 16 --out new --precision bf16 "
        "2>&- | sed -n 's/.*nats a token//p'"), NULL);
    bound("judged", fabs(said - best[3]), 1e-4);
    expect_says("$generate m --prompt a --tokens 3 --precision bf16", 0, "tok/s");
    expect_says("$generate m --precision fp16", 2, "expected fp32 or bf16");
}

/* ---- explain ---- */

/* The page's numbers are the model's: the next token is that of generation; attention_row gives
 * what attention_forward writes; a head is off as if its values were 0; nothing stays changed. */
void test_explain(void)
{
    double limit = by_precision(1e-12, 2e-5);
    int C = small.C, NH = small.NH, HS = C / NH, V = small.V, n = 17;
    Model *m = random_model(small, TRAINING, 1, 0), *other = random_model(small, INFERENCE, 1, 0);
    Batch b = random_batch(1, n, V, 5);
    Opened o = {.m = m, .tokens = b.tokens, .n = n, .answer = 3};
    real *s = allocate_reals(2 * n + C + 2 * V), *p = s + n, *out = p + n, *next = out + C;
    real *weights = copy(m->w.wte, m->count);
    opened_forward(&o);
    for (int t = n - 1; t >= n - 2; t--) {
        model_forward(other, b.tokens, NULL, 1, 0, t + 1, no_dropout);
        next_token(next, next + V, other, other->a.final_res + t * C);
        if (t == n - 1) bound("p", difference(o.p, next, V), limit);
    }
    bound("loss", fabs(m->loss[n - 2] + log(next[b.tokens[n - 1]])), limit);
    matmul_plain(assign(next, V), view(other->a.ln + (n - 2) * C, C), transposed(m->w.wte, C), 1,
                 V, C);
    bound("logits", difference(next + V, next, V), limit);
    heads_switch_off(&o);
    expect(!memcmp(weights, m->w.wte, m->count * sizeof(real)), "switching off changes weights");
    for (int i = 0; i < small.L * NH; i++) {
        Activations a = activations_layer(m, i / NH);
        Params w = params_layer(other->tensors, other->w, i / NH);
        for (int t = 0; t < n; t++) {
            double sum = 0;
            attention_row(s, p, m, i, t);
            for (int j = 0; j <= t; j++) sum += p[j];
            bound("sum of p", fabs(sum - 1), limit);
            matmul_plain(assign(out, HS), view(p, n), view(a.qkv + 2 * C + i % NH * HS, 3 * C), 1,
                         HS, t + 1);
            bound("out", difference(out, a.att + t * C + i % NH * HS, HS), limit);
        }
        memset(w.qkv_w + (2 * C + i % NH * HS) * C, 0, HS * C * sizeof(real));
        memset(w.qkv_b + 2 * C + i % NH * HS, 0, HS * sizeof(real));
        model_forward(other, b.tokens, NULL, 1, 0, n, no_dropout);
        next_token(next, next + V, other, other->a.final_res + (n - 1) * C);
        bound("a head off", fabs((double)o.without[i] - next[3]), limit);
        memcpy(other->w.wte, weights, m->count * sizeof(real));
    }
}

/* The page tells the answer and its probability, those of both models with --compare, and shows a
 * hostile text as text. In the terminal, the numbers of a step agree. */
void test_explain_page(void)
{
    static const char evil[] = "<script>\"'&", shown_as[] = "&#60;script&#62;&#34;&#39;&#38;";
    Model *m = model_read(given("m"));
    Tokenizer *t = tokenizer_read(given("t"));
    Opened o = {.m = m, .t = t};
    o.tokens = prompt_tokens(t, evil, strlen(evil), &o.n);
    size_t size;
    int scripts = 0, texts = 0;
    opened_forward(&o), opened_choose(&o, 1);
    expect_says("train_gpt explain '<script>\"'\\''&' --model m2 --tokenizer t --compare m --out "
                "new.html", 0, "new.html is written");
    char *page = read_file(scratch("new.html"), &size);
    for (char *at = page; *at; at++)
        scripts += !strncmp(at, "<script", 7), texts += !strncmp(at, shown_as, 31);
    expect(scripts == 2 && texts == 2, "%d scripts, the text %d times", scripts, texts);
    const char *parts[] = {
        format("<p class='lead'>%.1f%% in m</p>", 100.0 * o.p[o.answer]),
        format("'><small class='soft'>head %d</small><br>%.1f%%<", o.head + 1,
                100.0 * o.without[o.head]), format("<small>%.2f</small>", m->loss[o.n - 2])};
    static const char *const steps[] = {"res2", "embedding", "res"};
    for (int i = 0; i < 3; i++) {
        expect(strstr(page, parts[i]) != NULL, "no %s", parts[i]);
        double x[3] = {NAN, NAN, NAN};
        sscanf(run_line(format("prepare explain hm $mt --layer %s", steps[i])),
               "%*54c%lf%*[^\n]\n%*54c%lf%*[^\n]\n%*54c%lf", x, x + 1, x + 2);
        bound(steps[i], fabs(x[0] + x[1] - x[2]), 2e-4);
    }
}

/* ---- beside other programs ---- */

/* Two threads, or one thread, seem to need a second more for their steps: which number stays? */
int pace_chosen(int slow)
{
    Pace pace = {.all = 2};
    for (int step = 0; step < 25; step++) {
        if (step % 8 == 7) pace.started -= threads() == slow;
        pace_step(&pace);
    }
    int chosen = threads();
    use_threads(1);
    return chosen;
}

/* Generation takes the number of threads that was faster; waiting threads sleep soon. */
void test_crowded(void)
{
#ifdef _OPENMP
    expect(pace_chosen(2) == 1, "two threads were slower, and stayed");
    expect(pace_chosen(1) == 2, "one thread was slower, and stayed");
    char *shown = shell("unset OMP_WAIT_POLICY; export OMP_DISPLAY_ENV=verbose; "
                        "$here/train_gpt generate --model m --tokenizer t --tokens 1 2>&1");
    expect(strstr(shown, "GOMP_SPINCOUNT = '4000'") || strstr(shown, "KMP_BLOCKTIME=1\n") ||
           strstr(shown, "KMP_BLOCKTIME='1'"), "spinning is not limited");
#else
    skip("this build has one thread");
#endif
}

/* The grading program proves all exercises: the blank fails, the source gets all stars, each
 * mistake its own sentence. Then what a learner reads; a row of marks; an exam, which its solution
 * passes. */
void test_exercises(void)
{
    shell("mkdir course && ln -s $here/*.c $here/doc $here/data course");
    char *text = shell(
        "cd course; build=\"${CC:-cc} -O0 -w -DDOUBLE -I. doc/exercises/grader.c -lm -o\"; "
        "$build grader && ./grader write all.c && $build check -DVARIANTS='\"all.c\"' && "
        "./check check 1 2>&1");
    expect(strstr(text, "exercises, 0 wrong\n") != NULL, "%.300s", text);
    outcome("%.*s", (int)strcspn(text, "\n"), text);
    text = shell("cd course; judge() { ./check judge \"$@\"; }; judge layernorm_backward 0 1; "
                 "judge linear_forward source 1; judge embedding_backward 0 1 Ann; "
                 "judge exam-2 source 3; judge bias_backward blank 1; "
                 "./grader begin adamw; cat exercises/adamw.c");
    const char *const parts[] = {
        "FAIL  dx at [0]: expected 0.353553096, got 0.5892547671   (N=1 C=3)\n      by hand, N=1 "
        "C=3, x 0 0 3, w 1 1 1, dy 1 0 0, stats 1 0.7071\n      expected: 0.3536 -0.3536",
        "Your numbers are exactly those of the formula without the term - mean(g).\nok    dw\n0 of",
        "ok    y\n2 of 2 stars\nAnn,embedding_backward,0,1,1,2,\"If a token occurs more than once, "
        "only its last gradient is kept. They must add up.\"\n", "stars\nFAIL  db at [0]",
        "Your function leaves db as it was.", "\n *     make grade-adamw\n", "double lr, beta1",
        "v += (1 - beta2)", "int step)\n{\n}\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        expect(strstr(text, parts[i]) != NULL, "part %zu: %.200s", i, text);
}

/* ---- worked numbers of the course ----
 * A paragraph of doc/ that a pencil can follow has above it
 *     <!-- checked: worked numbers of the course: WHAT -->. */
static char *course;                                          /* these paragraphs */

/* Whether the paragraph `what` has this number: as an integer, or correctly rounded to at least
 * three decimals. The sign is −; a comma may stand between thousands. */
int course_says(const char *what, double x)
{
    char *mark = format("<!-- checked: worked numbers of the course: %s -->", what);
    char *p = strstr(course, mark), *end = p ? strstr(p, "\n\n") : NULL, *next;
    if (p) p += strlen(mark);
    for (; p < end; p = next) {
        next = p + 1;
        if (!isdigit((unsigned char)*p)) continue;
        double sign = !memcmp(p - 3, "−", 3) ? -1 : 1, n = strtod(p, &next), unit = 1;
        while (*next == ',' && isdigit((unsigned char)next[1]))
            n = 1000 * n + strtod(next + 1, &next);
        for (char *point = memchr(p, '.', next - p); point && ++point < next;) unit /= 10;
        double limit = unit == 1 ? 1e-5 : fmin(0.5001 * unit, 0.0005);
        if (fabs(sign * n - x) <= limit) return 1;
    }
    return 0;
}

/* Each of these numbers must be in the paragraph `what`. */
void worked(const char *what, const real *x, int count)
{
    for (int i = 0; i < count; i++)
        expect(course_says(what, x[i]), "%s: doc/ does not say %g", what, (double)x[i]);
}
#define WORKED(what, ...) \
    worked(what, (real[]){__VA_ARGS__}, sizeof(real[]){__VA_ARGS__} / sizeof(real))

/* Set x to these numbers; returns x. */
real *set(real *x, const char *numbers)
{
    char *end;
    for (int i = 0; *numbers; i++, numbers = end) x[i] = (real)strtod(numbers, &end);
    return x;
}

/* The loss of V logits with this target; they become its gradient. */
real worked_loss(real *logits, int V, int target, double smoothing)
{
    real weight = 1, dx;
    int n = 0, argmax;
    double loss;
    softmax_loss(logits, &n, 1, &(Head){.weights = &weight, .targets = &target, .loss = &loss,
                                        .argmax = &argmax, .dx = &dx, .smoothing = smoothing,
                                        .V = V, .ld = V});
    return (real)loss;
}

/* The ids of a text; returns how many. */
int worked_ids(real *ids, Tokenizer *t, const char *text)
{
    size_t count;
    int32_t *id = tokenizer_encode(t, text, strlen(text), 1, &count);
    for (size_t i = 0; ids && i < count; i++) ids[i] = (real)id[i];
    return (int)count;
}

void worked_tokens(void)                                      /* chapters 1 and 2 */
{
    real a[20], z[4096] = {0};
    char bytes[4], *stories;
    size_t size;
    int n = 0;
    WORKED("blind guess", worked_loss(z, 4096, 0, 0));
    a[0] = worked_loss(set(z, "0 0"), 2, 0, 0);
    a[1] = worked_loss(set(z, "0 1.0986122886681098"), 2, 0, 0);
    WORKED("loss", a[0], a[1], (a[0] + a[1]) / 2);
    worked_loss(set(z, "0 0"), 2, 0, 0);
    worked("one step", z, 2);
    for (int v = 0; v < 2; v++) z[v] *= (real)-0.5;
    worked("one step", z, 2);
    a[1] = worked_loss(z, 2, 0, 0);
    WORKED("one step", a[0], a[1], exp((double)-a[1]));
    for (int i = (int)utf8_encode(bytes, 0xE9) - 1; i >= 0; i--) a[i] = (unsigned char)bytes[i];
    worked("UTF-8", a, 2);
    Tokenizer *t = tokenizer_train("banana bandana ban", 18, 260);
    worked("banana", a, worked_ids(a, t, "banana bandana ban"));
    stories = read_file("data/stories.txt", &size);
    t = tokenizer_read("data/gpt2_tokenizer.bin");
    const char *const words[] = {"hello", " hello", " Hello", "hello  world"};
    for (int i = 0; i < 4; i++) n += worked_ids(a + n, t, words[i]);
    worked("tokens of GPT-2", a, n);
    a[0] = (real)size / worked_ids(NULL, t, stories), a[1] = (real)(3 / log(2) / a[0]);
    t = tokenizer_read("data/mini_tokenizer.bin");
    a[2] = (real)size / worked_ids(NULL, t, stories), a[3] = (real)(2.8 / log(2) / a[2]);
    worked("bits per byte", a, 4);
}

/* The small model and GPT-2. */
static const Config sizes[] = {{256, 4096, 4, 5, 240, 4096}, {1024, 50257, 12, 12, 768, 50304}};

/* Chapter 3: one token through embedding, a block with two hidden numbers, and the head; C and V
 * are 3. */
void worked_forward(void)
{
    real a[12], h[2], res[3], wte[9], wpe[3], w[6], stats[2], ones[] = {1, 1, 1}, no[3] = {0};
    int token = 1, position = 0;
    Tensor tensors[TENSORS];
    set(wte, "1 0 0  1 -1 2  0 0 1"), set(wpe, "-1 1 1");
    embedding_forward(res, &token, &position, view(wte, 3), view(wpe, 3), 1, 3);
    worked("embedding", res, 3);
    layernorm_forward(a, stats, res, ones, no, 1, 3);
    worked("layernorm", a, 3), worked("layernorm", stats, 2);
    linear_forward(h, 2, a, view(set(w, "1 0 1  0 1 -1"), 3), set(a + 3, "0.5 0"), 1, 3, 2);
    worked("linear", h, 2);
    gelu_forward(h, h, 2);
    worked("gelu", h, 2);
    linear_forward(a, 3, h, view(set(w, "1 0  0 1  1 1"), 2), no, 1, 2, 3);
    worked("residual", a, 3);
    residual_forward(res, res, a, 3);
    worked("residual", res, 3);
    layernorm_forward(a, stats, res, ones, no, 1, 3);
    worked("head", a, 3);
    for (int target = 0; target < 3; target++) {
        linear_forward(res, 3, a, view(wte, 3), no, 1, 3, 3);
        worked("head", res, 3);
        w[target] = res[target];
        h[0] = worked_loss(res, 3, target, 0), h[1] = (real)exp((double)-h[0]), w[target] += h[0];
        worked("loss of the head", h, 2);
    }
    worked("loss of the head", w, 3);                         /* lse, three times */
    gelu_forward(a, set(a, "1 -1 3 -3 -0.752"), 5);
    worked("gelu at", a, 5);
    WORKED("parameters", tensors_describe(sizes[0], tensors));
}

/* Chapters 4 and 5: three tokens, one head, C = HS = 4. Values are unit vectors: so dout_i = 1 for
 * the last query makes its ds row i of the Jacobian of the softmax, and here dk_j0 = ds_j. */
void worked_attention(void)
{
    real qkv[36], d[36], out[12], dout[12] = {0}, lse[3], dk[3], dv[3];
    int doc_start[3] = {0};
    Attention at = {qkv, doc_start, 1, 0, 3, 3, 4, 1, 0, 0};
    set(qkv, "0 0 0 0  2 0 0 0  1 0 0 0   0 0 0 0  1 0 0 0  0 1 0 0   2 0 0 0  0 1 0 0  0 0 1 0");
    attention_forward(out, lse, &at);
    worked("softmax", out + 8, 3), worked("softmax", lse + 2, 1);
    worked("attention", out, 12), worked("attention", lse, 3);
    for (int i = 2; i >= 0; i--) {
        dout[8 + i] = 1, dout[9 + i] = 0;
        attention_backward(d, dout, out, lse, &at);
        for (int j = 0; j < 3; j++) dk[j] = d[12 * j + 4], dv[j] = d[12 * j + 8];
        worked("Jacobian of the softmax", dk, 3);
    }
    worked("attention, backward", dk, 3), worked("attention, backward", dv, 3);
    worked("attention, backward", d + 24, 4);
    doc_start[1] = doc_start[2] = 1;
    attention_forward(out, lse, &at);
    worked("documents", out + 4, 8);
    doc_start[1] = doc_start[2] = 0, qkv[24] = 16;
    attention_forward(out, lse, &at);
    out[11] = out[8] * (1 - out[8]);
    worked("saturation", out + 8, 4);
}

static real cube;
double cubed(void) { return (double)cube * cube * cube; }

void worked_backward(void)                                    /* chapter 5, the other layers */
{
    real a[6], x[6], w[3], dx[6] = {0}, dw[6] = {0}, db = 0, stats[2], ones[] = {1, 1, 1};
    real twelve = 12;
    int tokens[] = {2, 0, 2}, positions[] = {0, 1, 2};
    w[0] = worked_loss(set(a, "2 1 0"), 3, 1, 0);
    worked("p - y", a, 3), worked("p - y", w, 1);
    linear_forward(a, 1, set(x, "1 2  3 4"), view(set(w, "5 6"), 2), set(w + 2, "7"), 2, 2, 1);
    worked("linear, backward", a, 2);
    linear_backward(dx, dw, set(a, "1 -2"), x, view(w, 2), 2, 2, 1);
    bias_backward(&db, a, 2, 1);
    worked("linear, backward", dx, 4), worked("linear, backward", dw, 2);
    worked("linear, backward", &db, 1);
    gelu_backward(dx, ones, set(x, "1 0 -1"), 3);
    worked("gelu, backward", dx, 3);
    layernorm_forward(a, stats, set(x, "0 0 3"), ones, set(dx, "0 0 0"), 1, 3);
    layernorm_backward(dx, set(dw, "0 0 0"), set(w, "1 0 0"), x, stats, ones, 1, 3);
    worked("layernorm, backward", a, 3), worked("layernorm, backward", dx, 3);
    worked("layernorm, backward", dw, 3);
    embedding_backward(set(a, "0 0 0 0 0 0"), set(dw, "0 0 0 0 0 0"), set(x, "1 2 3 4 5 6"), tokens,
                       positions, 3, 2);
    worked("embedding, backward", a, 6);
    set(&cube, "2");
    bound("w^3", gradient_error(cubed, &cube, &twelve, 1, 1, 0), 1e-11);
    set(&cube, "2.01"), a[0] = (real)cubed(), set(&cube, "1.99"), a[1] = (real)cubed();
    WORKED("differences", a[0], a[1], (a[0] - a[1]) / 0.02, (a[0] - 8) / 0.01);
}

void worked_training(void)                                    /* chapter 6 */
{
    static const int steps[] = {0, 9, 10, 11, 15, 19};
    AdamW rule = {1, 0.9, 0.999, 1e-12, 0, 0, 0};
    real w = 0, g, m = 0, v = 0, a[8], h, A[] = {1, 2}, B[] = {3, 0}, x[] = {1, 1};
    for (int t = 1; t <= 3; t++) {
        g = t == 2 ? (real)-0.5 : (real)0.5, a[4] = w;
        adamw(&w, &g, &m, &v, 1, 1, &rule, t);
        a[0] = m, a[1] = v, a[2] = m / (real)(1 - pow(0.9, t));
        a[3] = (real)sqrt(v / (1 - pow(0.999, t))), a[4] -= w;
        worked(t < 3 ? "AdamW" : "AdamW, third step", a, 5);
    }
    for (int i = 0; i < 3; i++) {                             /* a penalty in g; decay beside it */
        rule = (AdamW){1e-3, 0.9, 0.999, 1e-8, i == 2 ? 0.1 : 0, 0, 0};
        w = 1, g = (real)(i == 2 ? 0 : i ? 0.001 : 0.1), m = v = 0;
        adamw(&w, &g, &m, &v, 1, 1, &rule, 1);
        worked("decay", &w, 1);
    }
    rule.decay = 0, rule.l1 = 0.01;
    for (a[0] = 0, w = (real)0.0004; w != 0; a[0]++) adamw(&w, &g, &m, &v, 1, 1, &rule, 1);
    worked("L1", a, 1);
    for (int i = 0; i < 6; i++) a[i] = (real)schedule("cosine", steps[i], 10, 20, 0.1);
    worked("schedule", a, 6);
    set(a, "0.925 0.025 0.025 0.025");                        /* q; logits log q give least loss */
    for (int i = 0; i < 4; i++) a[4 + i] = (real)log((double)a[i]);
    a[2] = worked_loss(a + 4, 4, 0, 0.1);
    worked("smoothing", a, 3);
    Lora lora = {.A = A, .B = B, .h = &h, .rank = 1, .scale = 1};
    lora_forward(set(a, "0 0"), 2, x, lora, 1, 2, 2);
    worked("LoRA", &h, 1), worked("LoRA", a, 2);
}

/* Chapter 7: rows of a table become tokens, and those the rows of a batch; lengths are packed. */
void worked_data(void)
{
    static const int lengths[] = {2, 3, 5, 6, 7, 4, 3, 3, 2, 2, 2, 1};
    Segment s[12] = {{0}};
    real ids[7], learned = 0, counts[2] = {0};
    run_line("printf 'ham\\tLunch at one?\\nspam\\tYou won!\\nham\\tok see u\\nspam\\tWin "
             "a prize now\\n' >sms; prepare examples sms --out sms --val 0 --tokenizer "
             "$here/data/mini_tokenizer.bin");
    Tokens t = tokens_read(scratch("sms"), "train", 4096);
    DataLoader f = loader_new(&t, 16, 4095, 0, 0, 0), p = {.T = 8, .count = 4, .epoch_order = s};
    Batch b = batch_new(2, 16);
    loader_batch(&f, &b);                                     /* the second row is documents 1, 4 */
    for (int n = 0; n < 32; n++) counts[n / 16] += b.loss_weight[n];
    for (int n = 0; n < 7; n++) ids[n] = b.tokens[16 + n], learned += b.loss_weight[16 + n];
    worked("what is learned", ids, 7);
    WORKED("what is learned", learned, log(2), (learned * log(2) + (7 - learned) * log(100)) / 7);
    WORKED("a packed row", b.doc_start[31], 16 - b.doc_start[31], b.doc_start[11], b.doc_start[12],
           counts[1], counts[0]);
    for (int i = 0; i < 12; i++) s[i].length = lengths[i];
    loader_pack(&p, 1);
    WORKED("packing", p.rows, s[0].row == s[3].row ? 6 : -1, s[1].row == s[2].row ? 5 : -1);
    p.epoch_order += 4, p.count = 8, loader_pack(&p, 1);
    WORKED("packing, exercise", p.rows);
    for (int i = 0; i < 2; i++) {
        char *cost = break_even(settings_parse(i ? "tokens=2500" : "tokens=11586"), i ? 2 : 4, 0);
        WORKED("prompt or train", atof(strstr(cost, " after ") + 7));
    }
}

void worked_choices(void)                                     /* chapters 8, 10 and 14 */
{
    static const Config small = {1024, 50257, 12, 12, 768, 50257};
    static const Config xl = {1024, 50257, 48, 25, 1600, 50257};
    real d[5];
    Tensor t[TENSORS];
    for (int i = 0; i < 2; i++) {                             /* 2.776: Student's t */
        set(d, i ? "0.1 0.2 0.3 0.2 0.2" : "-0.1 -0.04 -0.08 0.02 -0.05");
        double mean = (d[0] + d[1] + d[2] + d[3] + d[4]) / 5, s = 0, half;
        for (int k = 0; k < 5; k++) s += (d[k] - mean) * (d[k] - mean) / 4;
        s = sqrt(s), half = 2.776 * s / sqrt(5);
        if (i) WORKED("pairs, a worse setting", mean, half, s);
        else WORKED("pairs", mean, s, half, mean - half, mean + half);
    }
    double P = tensors_describe(small, t), P_xl = tensors_describe(xl, t), r = 1 / sqrt(12.5);
    WORKED("memory of XL", P_xl, 16e-9 * P_xl, 2e-9 * P_xl);
    WORKED("time of XL", P_xl / P);
    WORKED("memory of GPT-2", 16e-9 * P);
    WORKED("break-even", 3 * 521 * 3 / 4.0, ceil(3 * 521 * 3 / 4.0));
    WORKED("rotary positions", cos(0), cos(acos(0)), cos(2 * acos(0)));
    double mean = 3 * r / 2;                                  /* of g x^ */
    WORKED("RMSNorm", 12.5, r, 3 * r, 4 * r, mean, r * (1 - 3 * r * mean), -r * 4 * r * mean);
    WORKED("preferences", log(2), -0.1 / 2);
    WORKED("cache of four heads", 12 * 2 * 256 * 4 * 1024);
}

/* Chapters 12 and 13: GPT-2 124M in a step of 4 x 64 tokens, the small model in one of 16 x 256. */
void worked_speed(void)
{
    static const int rows[] = {1, 64, 256, 4096};
    real c[4], x[] = {1, 2, 3, 4, 5, 6}, logits[4096] = {0};
    Model m = {.c = {1024, 50257, 12, 12, 768, 50257}};
    double flops = step_flops(&m, 4, 64, 256, 0), tile = 2 * 8 * 48 * KC, tokens = 14000 * 16 * 256;
    WORKED("flops of a step", flops / 1e9, (flops - step_flops(&m, 4, 64, 0, 0)) / 1e9);
    for (int i = 0; i < 4; i++) {
        double N = rows[i], C = 768, OC = 3072, bytes = 4 * (N * C + OC * C + N * OC);
        WORKED("intensity", 2 * N * OC * C, bytes, 2 * N * OC * C / bytes);
    }
    WORKED("blocks", KC * 48 * 4, MC * KC * 4, 8 * KC * 4, tile, tile / (8 * KC * 4), 2 * MC / 4,
           2 * 8 * 48 * 4, tile / (2 * 8 * 48 * 4));
    matmul_serial(assign(c, 2), view(x, 3), transposed(x, 3), 2, 2, 3);
    worked("views", c, 4);
    WORKED("views", element(view(x, 3), 1, 0, 0), element(transposed(x, 3), 0, 1, 0));
    WORKED("bf16", bf16_rounded(1 + 1 / 256.0f), bf16_rounded(1 + 3 / 256.0f),
           bf16_rounded(3.14159f), bf16_rounded(256 + 1));
    m.c = (Config){256, 4096, 4, 5, 240, 4096};
    flops = step_flops(&m, 16, 256, 4096, 0) / 4096;
    double P = tensors_describe(m.c, m.tensors);
    WORKED("6ND", tokens, P, 6 * P, flops, flops - step_flops(&m, 16, 256, 0, 0) / 4096);
    WORKED("tokens per parameter", tokens / P);
    WORKED("losses of pretraining", worked_loss(logits, 4096, 0, 0), 3.466 / log(2),
           3.466 / log(2) / 3.567);
}

/* Chapter 9: measures of a few rows, and their intervals. */
void worked_evaluation(void)
{
    static const double nats[] = {1, 2, 3}, bytes[] = {3, 4, 1};
    double x[164], y[10], half;
    int rows[164], truth[50], predicted[50];
    real draws[5] = {0};
    Ratio a = {x, NULL}, b = {y, NULL}, mean = {nats, NULL};
    Predictions all = {2, truth, predicted, y, x};
    for (int i = 0; i < 164; i++) rows[i] = i, x[i] = i < 82;
    WORKED("perplexity", ratio(&mean, rows, 3), ratio_exp(&mean, rows, 3),
           ratio_bits(&(Ratio){nats, bytes}, rows, 3));
    Interval i = bootstrap(ratio, &a, 164, 1);
    half = 1.96 * sqrt(i.value * (1 - i.value) / 164);
    WORKED("formula", i.value, i.low, i.high, half / 1.96, i.value - half, i.value + half);
    for (int k = 0; k < 10; k++) x[k] = k < 6, y[k] = k < 8;
    i = bootstrap(gain, &(Gain){a, b}, 10, 1);
    WORKED("on the same rows", i.value, i.low, i.high);
    for (int k = 0; k < 4; k++) x[k] = k < 3;
    i = bootstrap(ratio, &a, 4, 1);
    for (int d = 0; d < 256; d++) {                           /* all draws of 4 rows of 4 */
        for (int k = 0; k < 4; k++) rows[k] = d >> 2 * k & 3;
        draws[(int)(4 * ratio(&a, rows, 4))] += (real)1 / 256;
    }
    worked("bootstrap", draws, 5);
    WORKED("bootstrap", i.value, i.low, i.high);
    for (int easy = 0; easy < 2; easy++) {
        for (int k = 0; k < 50; k++)
            rows[k] = k, truth[k] = k >= (easy ? 45 : 25),
            predicted[k] = !easy && k >= 20 && (k < 25 || k >= 35), x[k] = truth[k] == predicted[k];
        WORKED(easy ? "F1, exercise" : "F1", ratio(&a, rows, 50), label_f1(&all, rows, 50));
    }
    for (int k = 0; k < 10; k++)
        y[k] = k < 4 ? 0.95 : k < 8 ? 0.75 : 0.55, x[k] = k < 3 || k == 4 || k == 5 || k == 8;
    WORKED("calibration", label_ece(&all, rows, 10));
}

/* Chapter 11: temperature; the cache and the weights of two models, and the time of reading them;
 * numbers of 16 and 8 bits. */
void worked_deployment(void)
{
    real a[4], block[Q8_BLOCK] = {(real)0.5, (real)-0.2, (real)0.03};
    size_t numbers[ACTIVATION_COUNT], strides[ACTIVATION_COUNT];
    Tensor tensors[TENSORS];
    for (int v = 0; v < 8; v++) {                             /* softmax of log(p) / temperature */
        set(a, "0.5 0.3 0.15 0.05");
        for (int k = 0; k < 4; k++) a[k] = (real)(log((double)a[k]) / (v < 4 ? 0.5 : 2));
        double p = exp(-(double)worked_loss(a, 4, v % 4, 0));
        WORKED(v < 4 ? "temperature" : "temperature, exercise", p);
    }
    for (int k = 0; k < 2; k++) {
        activations_describe(&(Model){.c = sizes[k]}, INFERENCE, 1, sizes[k].T, numbers, strides);
        double weights = 4. * tensors_describe(sizes[k], tensors), qkv = 4. * numbers[2];
        WORKED("cache", qkv / sizes[k].T, qkv / 1e6);
        WORKED("memory rate", weights / 1e6, weights / 25e6, floor(25e9 / weights));
    }
    Q8Block q = q8_from(block);
    double scale = f16_to(q.scale);
    WORKED("numbers", bf16_to(bf16_from(3.14159265f)), q.q[0], q.q[1], q.q[2], q.q[1] * scale,
           q.q[2] * scale);
}

void test_worked(void)
{
    course = shell("sed -n '/checked: worked numbers/,/^$/p' \"$here\"/doc/*.md");
    worked_tokens(), worked_forward(), worked_attention(), worked_backward(), worked_training();
    worked_data(), worked_evaluation(), worked_deployment(), worked_choices(), worked_speed();
}

/* --limit draws by --seed, the same rows for all measures; in training, whatever the seed. */
void test_limit_seed(void)
{
    long begin[3][10];
    for (int k = 0; k < 3; k++) {
        Evaluation e = evaluation(format("--model m --tokenizer t --data x --limit 10 --seed %d",
                                         1 + k % 2));
        Answers a = answers_of(&e, e.model[0], NULL);
        for (int i = 0; i < 10; i++) {
            Tokens one = documents_new("one", e.t);
            document_add(&one, (Tokens){0}, &e.item[i], &e.item[i]);
            Scores alone = score(e.model[0], e.t, &one, 1, e.T, 0, 0);
            bound("loss", fabs(*alone.loss - a.ratio[LOSS].numerator[i]), 1e-4);
            begin[k][i] = e.item[i].ids - e.val.ids;
        }
    }
    expect(memcmp(begin[0], begin[1], sizeof *begin), "two seeds draw the same rows");
    expect(!memcmp(begin[0], begin[2], sizeof *begin), "one seed draws different rows");
    test_transcript("limit: rows drawn by the seed");
}

/* ---- TRUST: what a run is, one writer of a folder, and what is saved at the end ---- */

/* A run needs space for best.bin, model.bin and state.bin, and again for the new version of each:
 * as many bytes as such files have, less those of the old files. */
void test_disk(void)
{
    Model *m = random_model(small, TRAINING, 2, 0);
    Run r = {.m = m, .T = small.T, .val.count = 1};
    struct stat model, state;
    opt.out = folder, opt.batch = 2;
    state_write(m, &r.p, scratch("state.bin")), model_write(m, scratch("model.bin"), 0);
    stat(scratch("state.bin"), &state), stat(scratch("model.bin"), &model);
    for (int old = 0; old < 2; old++) {
        double need = 2.0 * (state.st_size + model.st_size);
        if (old) need -= state.st_size + model.st_size;
        else shell("mkdir kept; mv state.bin model.bin kept");
        disk_free = 1.01 * need + 8 * HEADER;
        const char *said = ERROR_OF(run_disk_check(&r));
        expect(!*said, "enough: %s", said);
        disk_free = 0.99 * need - 8 * HEADER;
        said = ERROR_OF(run_disk_check(&r));
        expect(strstr(said, "MB free") != NULL, "too little: '%s'", said);
        if (!old) shell("mv kept/* .; rmdir kept");
    }
}

/* Labels that branch from a prompt are as probable as in a document for each, after any prompt that
 * fits: in one group or in many. */
void test_label_branches(void)
{
    Tokenizer *t = tokenizer_read("data/mini_tokenizer.bin");
    Labels l = labels_parse("yes,no,maybe not,unknown to us,Sunday,red and blue,7,a,b,c,one,two,"
                            "three,four,five,six,seven,eight,nine,ten,eleven,"
                            "a b c d e f g h i j k,l m n o p q r s t u v", t);
    Config c = {.T = 128, .V = t->count, .L = 2, .NH = 2, .C = 32, .Vp = t->count};
    Model *m = random_model(c, INFERENCE, 1, 0), *again = random_model(c, INFERENCE, 2, 0);
    uint16_t ids[128] = {t->end_of_text};
    double p[24];
    l.label[2].closed = 0;
    for (int count = 1; count <= c.T - l.longest; count += 9) {
        for (int i = 1; i < count; i++) ids[i] = below(c.V - 1, 5, i);
        Item item = {ids, count, count, 1};
        Query q = query_new(&item, NULL, 0, NULL);
        Tokens docs = documents_new("labels", t);
        for (int k = 0; k < l.count; k++) document_add(&docs, (Tokens){0}, &item, &l.label[k]);
        label_predict(p, m, t, &l, q.prompt, count, c.T);
        Scores s = score(again, t, &docs, 2, c.T, 0, 0);
        for (int k = 0; k < l.count; k++)
            bound("log p", fabs(log(p[k] / *p) + s.loss[k] - *s.loss), by_precision(1e-12, 1e-4));
    }
}

/* A speed that falls to a quarter, again and again, is told once; nine very slow steps, a slow
 * beginning and half of the speed are not. */
void test_collapse(void)
{
    const struct { int from, to; double rate; int told; } slow[] = {
        {50, 199, 250, 1}, {99, 108, 1e-3, 0}, {0, 9, 10, 0}, {50, 199, 500, 0}};
    for (int i = 0, told; i < 4; i++) {
        Run r = {0};
        for (int step = told = 0; step < 600; step++)
            told += rate_add(&r, step % 200 >= slow[i].from && step % 200 < slow[i].to
                                     ? slow[i].rate : 1000);
        expect(told == slow[i].told, "case %d is told %d times", i, told);
    }
}

/* ---- ACCURACY ---- */

enum { F_EXP, F_GELU, F_DGELU, F_SOFTMAX, F_LSE, F_LOSS, F_DLOSS, F_NORM, F_SUM, F_BF16 };
enum { MANY = 1000 };

/* The error of x in ulp, units of the last place, of a real that is as large as `scale`. */
double ulps(real x, long double exact, long double scale)
{
    int least = (int)by_precision(DBL_MIN_EXP, FLT_MIN_EXP) - 1;
    int place = scale > 0 || scale < 0 ? max_int(ilogbl(scale), least) : least;
    return (double)ldexpl(fabsl(x - exact), (int)by_precision(52, 23) - place);
}

/* y = f(x) for n numbers; the same in long double; and the largest term of which it is the sum,
 * beside which its error counts. A single result stands n times. */
void evaluate(int f, const real *x, int n, real *y, long double *exact, long double *scale)
{
    static real s[MANY * LANES], w[MANY], ones[MANY], zeros[MANY], c[24 * 24], lse[LANES];
    const long double a = 2 * sqrtl(2 / acosl(-1)), b = 0.044715L;
    long double max = x[0], sum = 0, mean = 0, var = 0, product = 0, terms = 0;
    real inv_sum[LANES], stats[2];
    fill(w, n, 1, 2);
    for (int i = 0; i < n; i++) {
        ones[i] = 1, s[i * LANES] = x[i], w[i] = bf16_rounded(i ? (float)w[i] : 1);
        max = x[i] > max ? x[i] : max, mean += (long double)x[i] / n;
        product += (long double)x[i] * w[i], terms += fabsl((long double)x[i] * w[i]);
    }
    for (int i = 0; i < n; i++) sum += expl(x[i] - max), var += (x[i] - mean) * (x[i] - mean) / n;
    real loss = worked_loss(memcpy(y, x, n * sizeof *x), n, n - 1, 0);
    scores_softmax(s, lse, inv_sum, &(QueryBlock){.count = 1, .width = LANES, .keys = n}, 1);
    bf16_products = f == F_BF16;                            /* in tiles, and as dot products */
    matmul(assign(c, 24), (View){x, 0, 1, NULL}, (View){w, 1, 0, NULL}, 24, 24, n);
    matmul(assign(c, 1), view(x, n), view(w, 1), 1, 1, n);
    bf16_products = 0;
    if (f == F_GELU) gelu_forward(y, x, n);
    if (f == F_DGELU) gelu_backward(y, ones, x, n);
    if (f == F_NORM) layernorm_forward(y, stats, x, ones, zeros, 1, n);
    for (int i = 0; i < n; i++) {
        long double e = expl(-a * (x[i] + b * x[i] * x[i] * x[i])), g = 1 / (1 + e), q = i == n - 1;
        long double slope = x[i] * g / (1 + 1 / e) * a * (1 + 3 * b * x[i] * x[i]);
        long double p = expl(x[i] - max) / sum, xhat = (x[i] - mean) / sqrtl(var + 1e-5L);
        long double lse_terms = fmaxl(fabsl(max), logl(sum));
        const long double results[][2] = {
            [F_EXP] = {expl(x[i]), expl(x[i])}, [F_GELU] = {x[i] * g, x[i] * g},
            [F_DGELU] = {g + slope, fmaxl(g, fabsl(slope))}, [F_SOFTMAX] = {p, p},
            [F_LSE] = {max + logl(sum), lse_terms},
            [F_LOSS] = {max + logl(sum) - x[n - 1], lse_terms},
            [F_DLOSS] = {p - q, fmaxl(p, q)}, [F_NORM] = {xhat, fmaxl(1, fabsl(xhat))},
            [F_SUM] = {product, terms}, [F_BF16] = {product, terms}};
        exact[i] = results[f][0], scale[i] = results[f][1];
        if (f == F_EXP) y[i] = exp_real(x[i]);
        if (f == F_SOFTMAX) y[i] = s[i * LANES] * inv_sum[0];
        if (f == F_LSE || f == F_LOSS) y[i] = f == F_LSE ? lse[0] : loss;
        if (f == F_SUM || f == F_BF16) y[i] = c[i % 2 * (24 * 24 - 1)];
    }
}

/* The worst errors in ulp: in float, those that the comments of the functions promise. */
void test_accuracy(void)
{
    static const struct { const char *what; int f; double low, size, limit; } rows[] = {
        {"exp", F_EXP, -86.9, 88.7228, 4}, {"GELU", F_GELU, -1, 1e18, 5},
        {"GELU, tail", F_GELU, -9.9, 10, 300}, {"dGELU", F_DGELU, -1, 1e18, 150},
        {"dGELU, tail", F_DGELU, -9.9, 10, 300}, {"softmax", F_SOFTMAX, 0, 1, 25},
        {"softmax, tail", F_SOFTMAX, 20, 12, 120}, {"lse", F_LSE, 0, 4, 4},
        {"loss", F_LOSS, 0, 4, 4}, {"dlogits", F_DLOSS, 0, 1, 25}, {"layernorm", F_NORM, 0, 1, 12},
        {"layernorm, mean 100", F_NORM, 100, 1, 1000}, {"product", F_SUM, 0, 1, 6},
        {"product in bf16", F_BF16, 0, 1, 6}};
    static real x[MANY], y[MANY];
    static long double exact[MANY], scale[MANY];
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        double low = rows[r].low, size = rows[r].size, most = 0;
        int f = rows[r].f, one = f < F_SOFTMAX;               /* is it a function of one number? */
        for (int k = 0; k < (one ? 25 : 5); k++) {
            uint64_t key = random_key(k, 0);
            for (int i = 0; i < MANY; i++) {                  /* uniform; of all sizes; normal */
                double u = random_uniform(key, i), v = low + (fmin(size, 100) - low) * u;
                if (i % 2) v = (i % 4 - 2) * size * exp(-130 * u);
                if (!one) v = low + size * random_normal(key, i);
                x[i] = (real)(one && v < low ? 0 : v);
                if (f == F_BF16) x[i] = bf16_rounded((float)x[i]);
            }
            evaluate(f, x, MANY, y, exact, scale);
            for (int i = 0; i < MANY; i++) most = worse(most, ulps(y[i], exact[i], scale[i]));
        }
        bound(rows[r].what, most, rows[r].limit);
    }
}

/* What they make of numbers that are none, too large, or subnormal: NaN never becomes a number. */
void test_special_values(void)
{
    const double large = REAL_BYTES == 4 ? 1e30 : 1e200, inf = INFINITY, special[][3] = {
        {F_EXP, NAN, NAN}, {F_EXP, inf, inf}, {F_EXP, -inf, 0}, {F_EXP, 1000, inf},
        {F_EXP, -1000, 0}, {F_EXP, 1e-40, 1}, {F_GELU, NAN, NAN}, {F_GELU, inf, inf},
        {F_GELU, -inf, NAN}, {F_GELU, -100, 0}, {F_GELU, 1e-40, 5e-41}, {F_DGELU, NAN, NAN},
        {F_DGELU, inf, NAN}, {F_DGELU, -inf, NAN}, {F_DGELU, 100, 1}, {F_DGELU, 1e-40, 0.5},
        {F_SOFTMAX, NAN, NAN}, {F_SOFTMAX, inf, NAN}, {F_SOFTMAX, -inf, 0}, {F_SOFTMAX, large, 1},
        {F_LSE, NAN, NAN}, {F_LSE, inf, NAN}, {F_LSE, large, large}, {F_LOSS, NAN, NAN},
        {F_LOSS, inf, NAN}, {F_LOSS, -inf, 0.31326168751822286}, {F_DLOSS, NAN, NAN},
        {F_DLOSS, -inf, 0}, {F_NORM, NAN, NAN}, {F_NORM, inf, NAN}, {F_NORM, large, NAN},
        {F_SUM, NAN, NAN}, {F_SUM, inf, inf}, {F_BF16, NAN, NAN}, {F_BF16, inf, inf}};
    real y[3];
    long double exact[3], scale[3];
    for (size_t k = 0; k < sizeof special / sizeof *special; k++) {
        double from = special[k][1], to = special[k][2];
        evaluate((int)special[k][0], (real[]){(real)from, 0, 1}, 3, y, exact, scale);
        expect(isnan(to) ? isnan(y[0]) : y[0] == to || ulps(y[0], to, to) < 4,
               "function %g of %g is %g, expected %g", special[k][0], from, (double)y[0], to);
    }
}

/* ---- outputs of the course ----
 * Commands in doc/ and README that have <!-- run --> above them are run. They must print the lines
 * of the next block of code, in this order; other lines may be between them. */

/* Whether a printed line is the one shown. Decimals may differ by one in the last place, since
 * processors round differently; a time or speed, and what follows it, by anything. */
int same_line(const char *shown, const char *printed)
{
    char a[32], b[32], unit[17] = " ";
    for (int m = 0, n = 0;;) {
        shown += strspn(shown, " "), printed += strspn(printed, " ");
        if (sscanf(shown, "%31[0-9.]%n", a, &m) == 1 &&
            sscanf(printed, "%31[0-9.]%n", b, &n) == 1) {
            const char *point = strchr(a, '.'), *word = shown + m + strspn(shown + m, " ");
            sprintf(unit + 1, "%.*s ", (int)fmin(14, strcspn(word, " \n")), word);
            if (strstr(" s ms seconds minutes tok/s MB/s GFLOP/s ", unit)) return 1;
            if (fabs(atof(a) - atof(b)) > (point ? 1.01 * pow(10, 1.0 - strlen(point)) : 0))
                return 0;
            shown += m, printed += n;
        } else if (*shown != *printed || *shown == '\n') return *shown == *printed;
        else shown++, printed++;
    }
}

/* The commands run in a scratch folder, which has a folder tmp for the pages' /tmp. */
void test_outputs(void)
{
    static const char mark[] = "<!-- run -->\n```\n", between[] = "\n```\n```\n";
    int count = 0;
    char *text = shell("mkdir -p shown/tmp; ln -s $here/data $here/train_gpt $here/prepare "
                       "$here/tokenizer shown; cat \"$here\"/doc/*.md \"$here\"/README.md | "
                       "sed -n 's,/tmp/,tmp/,g; /<!-- run -->/,/^$/p'");
    for (char *at = text; !broken && (at = strstr(at, mark)); count++) {
        char *command = at + strlen(mark), *end = strstr(command, between);
        if (!end) die("<!-- run -->: expected a block of commands and one of what they print");
        char *run = format("cd shown; %.*s", (int)(end - command), command);
        const char *printed = run_line(run);
        for (at = end + strlen(between); *at && *at != '`'; at += strcspn(at, "\n") + 1) {
            if (!strncmp(at + strspn(at, " "), "...", 3)) continue;
            while (*printed && !same_line(at, printed)) printed += strcspn(printed, "\n") + 1;
            expect(*printed, "not printed by %s: %.*s", run, (int)strcspn(at, "\n"), at);
        }
    }
    outcome("%d commands", count);
}

/* ================================================================================================
 * 11. The table
 */

enum { IN_FLOAT = 4, IN_DOUBLE = 8, IN_BOTH = 12 };           /* sizes of the real that it is for */

typedef struct {
    const char *name;
    int builds;
    void (*run)(void);                                        /* this, or run_row(row) */
    void (*run_row)(const void *row);
    const void *row;
} Test;

/* A page of the course, and the texts that define what it names. */
typedef struct { const char *path, *source, *help, *makefile; } Page;

/* Whether what a page names exists. NAME stands for any exercise, exam-5 for a planted mistake. A
 * target is one of the Makefile, or of a pattern with the name of an exercise or of a demo's file.
 * A link is relative to the folder of its page. */
int exists(const Page *p, const char *kind, const char *name)
{
    const char *slash = strrchr(p->path, '/'), *rest = strchr(name, '-');
    if (!strcmp(kind, "function")) return strstr(p->source, format("%s(", name)) != NULL;
    if (!strcmp(kind, "option")) return strstr(p->help, format("\n  %s ", name)) != NULL;
    if (!strcmp(kind, "file")) return access(name, R_OK) == 0;
    if (!strcmp(kind, "link"))
        return access(format("%.*s%s", slash ? (int)(slash - p->path) + 1 : 0, p->path, name),
                      R_OK) == 0;
    if (!strcmp(kind, "exercise"))
        return !strcmp(name, "NAME") || !strncmp(name, "exam-", 5) ||
               access(format("doc/exercises/%s.c", name), R_OK) == 0;
    if (strstr(p->makefile, format("\n%s:", name))) return 1;  /* a target */
    return rest && strstr(p->makefile, format("\n%.*s-%%:", (int)(rest - name), name)) &&
           (strncmp(name, "demo-", 5) ? exists(p, "exercise", rest + 1)
                                      : access(format("data/%s.jsonl", rest + 1), R_OK) == 0);
}

/* The first group of each match of a pattern is a name. */
static const struct { const char *kind, *pattern; } names[] = {
    {"function", "([A-Za-z0-9_]+)[(][)]`"}, {"option", "[^-a-z](--[a-z][a-z0-9-]*)([^a-z0-9_-]|$)"},
    {"target", "`make ([a-z][a-zA-Z0-9_-]*)"}, {"link", "[]][(]([^)#: ]+)[)#]"},
    {"file", "[^a-z/._-]((data|doc)/[a-zA-Z0-9_/-]+[.](jsonl|sh|py|md|c|svg|png))"},
    {"exercise", "\n[|] ([a-z0-9_]+) [|] [0-9]+ [|] [0-9]+ [|] [a-z]"},
    {"exercise", "`([a-z0-9_]+)`\\s[(][0-9]{2}( minutes)?[;,)]"}};

/* Look up what a part of a page names. Returns how many names were found. */
int look_up(const Page *p, const char *text, size_t row)
{
    regex_t pattern;
    regmatch_t at[2];
    int count = 0;
    if (regcomp(&pattern, names[row].pattern, REG_EXTENDED)) die("pattern %zu", row);
    for (; !broken && regexec(&pattern, text, 2, at, 0) == 0; text += at[1].rm_eo, count++) {
        char *name = format("%.*s", (int)(at[1].rm_eo - at[1].rm_so), text + at[1].rm_so);
        expect(exists(p, names[row].kind, name), "%s names the %s '%s', which does not exist",
               p->path, names[row].kind, name);
    }
    return count;
}

/* A line in a block of code: a target of make, or a command of a program, whose options must be in
 * its help. */
int look_up_command(const Page *p, const char *line)
{
    const char *at = strstr(line, "./");
    char program[16], word[64] = "";
    if (sscanf(line, "make %63[a-zA-Z0-9_-]", word) == 1)
        return expect(exists(p, "target", word), "%s: make has no target '%s'", p->path, word), 1;
    if (!at || sscanf(at, "./%15[a-z_] %63[a-z0-9]", program, word) < 1 ||
        !strstr("tokenizer prepare train_gpt", program))
        return 0;
    Page command = {.path = p->path,
                    .help = expect_says(format("%s %s --help", program, word), 0, "")};
    look_up(&command, at, 1);
    return 1;
}

/* Everything that the course and README name exists, and all commands that they show are right. */
void test_course(void)
{
    static const char *const programs[] = {"tokenizer.c", "train_gpt.c", "prepare.c", "test_gpt.c"};
    static const char helps[] =
        "for c in train generate chat eval compare classify explain bench; do train_gpt $c "
        "--help; done; "
        "for c in text import export gpt2 examples report search; do prepare $c --help; done; "
        "for c in encode decode train info; do tokenizer $c --help; done; "
        "printf '\\n  %s \\n' --help --no-binary --no-deps --port --random-source";  /* others' */
    Text source = {0};
    char *makefile = read_file("Makefile", &(size_t){0}), *help = format("%s", run_line(helps));
    glob_t pages;
    int count = 0, commands = 0;
    for (int i = 0; i < 4; i++) text_take(&source, read_file(programs[i], &(size_t){0}));
    expect(glob("doc/*.md", 0, NULL, &pages) == 0, "doc/ has no chapters");
    for (size_t i = 0; !broken && i <= pages.gl_pathc; i++) {
        const char *path = i < pages.gl_pathc ? pages.gl_pathv[i] : "README.md";
        char *text = read_file(path, &(size_t){0});
        Page p = {path, source.bytes, help, makefile};
        for (size_t row = 0; row < sizeof names / sizeof *names; row++)
            count += look_up(&p, text, row);
        for (char *next; (next = strstr(text, "\\\n")); ) next[0] = next[1] = ' ';
        Lines l = {.at = text, .end = text + strlen(text)};
        for (int code = 0; !broken && next_line(&l); ) {
            char *line = format("%.*s", (int)l.size, l.text);
            if (!strncmp(line, "```", 3)) code = !code;
            else if (code) commands += look_up_command(&p, line);
        }
    }
    outcome("%d names, %d commands in %zu pages", count, commands, pages.gl_pathc + 1);
}

#define GRADIENT(name, layer, ...) {"gradient of " name, IN_DOUBLE, NULL, test_layer, \
                                    &(const Layer){layer##_y, layer##_dx, __VA_ARGS__}}
static const Test tests[] = {
    {"random numbers", IN_FLOAT, test_random, NULL, NULL},
    {"random orders", IN_BOTH, test_orders, NULL, NULL},
    {"dropout statistics", IN_BOTH, test_dropout, NULL, NULL},
    {"the plain product", IN_BOTH, test_matmul_plain, NULL, NULL},
    {"the fast product = the plain one", IN_BOTH, NULL, test_matmul, "fp32"},
    GRADIENT("embedding", embedding, "aa", {11 * 70, 7 * 70}, 21 * 70),
    GRADIENT("linear", linear, "waa", {13 * 20, 70 * 20, 70}, 13 * 70),
    GRADIENT("layernorm", layernorm, "aaa", {9 * 70, 70, 70}, 9 * 70),
    GRADIENT("gelu", gelu, "w", {500}, 500),
    GRADIENT("attention, packed", attention, "w", {300 * 36}, 300 * 12),
    GRADIENT("head, softmax and loss", head, "wa", {1200 * 6, 11 * 6}, 1200),
    {"gradient of the model, every tensor", IN_DOUBLE, test_model_gradient, NULL, NULL},
    {"frozen blocks", IN_BOTH, test_frozen, NULL, NULL},
    {"causality", IN_BOTH, test_causal, NULL, NULL},
    {"packed = one by one", IN_BOTH, test_packed, NULL, NULL},
    {"masked targets", IN_BOTH, test_masked, NULL, NULL},
    {"classification as in scikit-learn", IN_FLOAT, test_labels, NULL, NULL},
    {"same bits on any number of threads", IN_BOTH, test_threads, NULL, NULL},
    {"key-value cache = full forward", IN_BOTH, test_cache, NULL, NULL},
    {"PyTorch: logits, losses, gradients", IN_BOTH, test_parity, NULL, NULL},
    {"PyTorch: 10 and 50 steps", IN_BOTH, test_trajectory, NULL, NULL},
    {"norm, clipping, decay", IN_BOTH, test_update, NULL, NULL},
    {"schedules", IN_FLOAT, test_schedule, NULL, NULL},
    {"durations", IN_FLOAT, test_duration, NULL, NULL},
    {"sampling against its definition", IN_BOTH, test_sampling, NULL, NULL},
    {"streaming of text", IN_FLOAT, test_streaming, NULL, NULL},
    {"generation across the context", IN_BOTH, test_window, NULL, NULL},
    {"template: what is learned", IN_BOTH, test_template, NULL, NULL},
    {"template: prompts", IN_BOTH, test_prompts, NULL, NULL},
    {"template: a chat forgets", IN_BOTH, test_chat, NULL, NULL},
    {"loader: each token once an epoch", IN_FLOAT, test_loader, NULL, NULL},
    {"loader: seek = read", IN_FLOAT, test_loader_seek, NULL, NULL},
    {"noise on inputs", IN_FLOAT, test_noise, NULL, NULL},
    {"loader: a limit draws", IN_BOTH, test_limit, NULL, NULL},
    {"loader: packing against all sums", IN_BOTH, test_pack_best, NULL, NULL},
    {"loader: files, --data A,B", IN_BOTH, test_token_files, NULL, NULL},
    {"score, packed = one by one", IN_BOTH, test_score, NULL, NULL},
    {"bf16 against its definition", IN_FLOAT, NULL, test_half, "bf16"},
    {"llm.c model file", IN_BOTH, test_llmc_model, NULL, NULL},
    {"states that are refused", IN_BOTH, test_state_refused, NULL, NULL},
    {"tokenizer: tiktoken ids", IN_FLOAT, test_vectors, NULL, NULL},
    {"tokenizer: any bytes come back", IN_FLOAT, test_round_trip, NULL, NULL},
    {"tokenizer: training by definition", IN_FLOAT, test_bpe_definition, NULL, NULL},
    {"llm.c tokenizer file", IN_FLOAT, test_tokenizer_file, NULL, NULL},
    {"JSON, accepted and refused", IN_FLOAT, test_json, NULL, NULL},
    {"JSON, values", IN_FLOAT, test_json_values, NULL, NULL},
    {"bad input: damaged files", IN_FLOAT, test_damaged, NULL, NULL},
    {"the course names what exists", IN_FLOAT, test_course, NULL, NULL},
    {"bad input: random changes", IN_FLOAT, test_random_changes, NULL, NULL},
    {"JSON, memory", IN_FLOAT, test_json_memory, NULL, NULL},
    {"options: end, order, range", IN_FLOAT, test_options, NULL, NULL},
    {"writer and reader of a file", IN_FLOAT, test_writer, NULL, NULL},
    {"plain text on a terminal", IN_FLOAT, test_plain, NULL, NULL},
    {"a run keeps the best model", IN_FLOAT, test_run_best, NULL, NULL},
    {"a run that is resumed", IN_FLOAT, test_run_resume, NULL, NULL},
    {"signals and full disks", IN_FLOAT, test_run_stops, NULL, NULL},
    {"commands from any folder", IN_FLOAT, test_run_commands, NULL, NULL},
    {"JSON lines and chat", IN_FLOAT, test_jsonl, NULL, NULL},
    {"safetensors: names, places, files", IN_FLOAT, test_safetensors, NULL, NULL},
    {"examples: every finding and its place", IN_FLOAT, test_findings, NULL, NULL},
    {"examples: contradictions", IN_FLOAT, test_conflicts, NULL, NULL},
    {"examples: files read and refused", IN_FLOAT, test_files, NULL, NULL},
    {"examples: near duplicates by definition", IN_FLOAT, test_similar, NULL, NULL},
    {"examples: split without leakage", IN_FLOAT, test_split, NULL, NULL},
    {"examples: augmentation", IN_FLOAT, test_augment, NULL, NULL},
    {"examples: files replaced together", IN_FLOAT, test_replaced_together, NULL, NULL},
    {"examples: the report's counts", IN_FLOAT, test_report_counts, NULL, NULL},
    {"judging: labels of a set", IN_FLOAT, test_label_sets, NULL, NULL},
    {"judging: gains and gaps", IN_FLOAT, test_gain, NULL, NULL},
    {"judging: whole shots that fit", IN_FLOAT, test_shots, NULL, NULL},
    {"judging: tables, break-even", IN_FLOAT, test_tables, NULL, NULL},
    {"judging: two models", IN_FLOAT, test_both_models, NULL, NULL},
    {"judging: the report", IN_FLOAT, test_report, NULL, NULL},
    {"model: first values", IN_BOTH, test_first_values, NULL, NULL},
    {"model: masks of dropout", IN_BOTH, test_masks, NULL, NULL},
    {"model: sizes that overflow", IN_FLOAT, test_sizes, NULL, NULL},
    {"figures: what is mentioned", IN_FLOAT, test_mentions, NULL, NULL},
    {"figures: right answers", IN_FLOAT, test_questions, NULL, NULL},
    {"figures: words counted", IN_FLOAT, test_words, NULL, NULL},
    {"gradient of adapters", IN_DOUBLE, test_adapter_gradient, NULL, NULL},
    {"a run with adapters", IN_FLOAT, test_run_lora, NULL, NULL},
    {"PEFT: import, 10 steps, export", IN_FLOAT, test_peft, NULL, NULL},
    {"moments: rounded at random", IN_FLOAT, test_stochastic, NULL, NULL},
    {"moments: bf16 near fp32", IN_FLOAT, test_moments, NULL, NULL},
    {"memory of training XL", IN_FLOAT, test_memory, NULL, NULL},
    {"recompute = kept", IN_BOTH, test_recompute, NULL, NULL},
    {"world: half precision", IN_FLOAT, NULL, test_half, "F16"},
    {"world: GGUF", IN_FLOAT, test_gguf, NULL, NULL},
    {"examples: files as they are published", IN_FLOAT, test_published, NULL, NULL},
    {"examples: the test set", IN_FLOAT, test_test_file, NULL, NULL},
    {"explain: the model's numbers", IN_BOTH, test_explain, NULL, NULL},
    {"explain: the page, a step", IN_FLOAT, test_explain_page, NULL, NULL},
    {"exercises: every mistake is named", IN_FLOAT, test_exercises, NULL, NULL},
    {"bf16: the product", IN_BOTH, NULL, test_matmul, "bf16"},
    {"bf16: weights", IN_FLOAT, test_bf16_weights, NULL, NULL},
    {"bf16: runs", IN_FLOAT, test_bf16_run, NULL, NULL},
    {"crowded cores", IN_FLOAT, test_crowded, NULL, NULL},
    {"worked numbers of the course", IN_DOUBLE, test_worked, NULL, NULL},
    {"limit: rows drawn by the seed", IN_FLOAT, test_limit_seed, NULL, NULL},
    {"trust: the disk", IN_FLOAT, test_disk, NULL, NULL},
    {"control characters of files", IN_FLOAT, test_controls, NULL, NULL},
    {"figures: labels from one reading", IN_BOTH, test_label_branches, NULL, NULL},
    {"a run whose speed collapses", IN_FLOAT, test_collapse, NULL, NULL},
    {"accuracy: worst errors", IN_BOTH, test_accuracy, NULL, NULL},
    {"accuracy: NaN, infinity, subnormal", IN_BOTH, test_special_values, NULL, NULL},
    {"outputs of the course", IN_FLOAT, test_outputs, NULL, NULL},
};

typedef struct { int passed, failed, skipped; } Counts;

/* Run a test in a process of its own: what it allocates and changes ends with it, and if it crashes
 * the others still run. The exit status of the process says which count it adds to. */
void run_test(const Test *t, Counts *n)
{
    int status;
    fflush(stdout);
    pid_t process = fork();
    if (process == 0) {
        name_of_test = t->name;
        if (t->run) t->run();
        else t->run_row(t->row);
        end_test();
    }
    if (process < 0 || waitpid(process, &status, 0) < 0) die("fork: %s", strerror(errno));
    int result = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    n->passed += result == PASSED, n->skipped += result == SKIPPED;
    n->failed += result != PASSED && result != SKIPPED;
    if (result < PASSED || result > SKIPPED)
        printf("FAIL %-36s did not end: wait status %#x\n", t->name, (unsigned)status);
}

/* Run the tests of the table, and the sections of data/transcripts.txt that none of these runs, if
 * their name contains `wanted`. */
Counts run_tests(const char *wanted)
{
    Counts n = {0};
    char *at = read_file("data/transcripts.txt", &(size_t){0});
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (tests[i].builds & REAL_BYTES && strstr(tests[i].name, wanted)) run_test(&tests[i], &n);
    while (REAL_BYTES == 4 && (at = strstr(at, "\n== "))) {
        at += 4;
        char *title = format("%.*s", (int)strcspn(at, "\n"), at);
        size_t i = 0, count = sizeof tests / sizeof *tests;
        while (i < count && strcmp(tests[i].name, title)) i++;
        if (i == count && strstr(title, wanted) && strncmp(title, "prelude", 7))
            run_test(&(Test){title, IN_FLOAT, NULL, test_transcript, title}, &n);
    }
    return n;
}

/* Let ./test_gpt_double run the same tests in double; its lines but the last become ours. */
Counts run_double(const char *wanted)
{
    char line[1000];
    Counts n = {0};
    int counted = 0;
    printf("in double:\n");
    fflush(stdout);
    setenv("WANTED", wanted, 1);
    FILE *pipe = popen("./test_gpt_double \"$WANTED\"", "r");
    while (pipe && fgets(line, sizeof line, pipe)) {
        counted = sscanf(line, "%d passed, %d failed, %d skipped", &n.passed, &n.failed,
                         &n.skipped);
        if (counted < 2) fputs(line, stdout);
    }
    if (!pipe || pclose(pipe) == -1 || counted < 2) {
        printf("FAIL ./test_gpt_double did not come to its end; `make test` builds it\n");
        n.failed++;
    }
    return n;
}

int main(int argc, char **argv)
{
    const char *wanted = argc > 1 ? argv[1] : "";
    char *slash = strrchr(argv[0], '/');
    if (slash) slash[1] = 0;                                  /* go where programs and data are */
    if (slash && chdir(argv[0]) != 0) die("%s: %s", argv[0], strerror(errno));
    setenv("here", realpath(".", NULL), 1);
    if (!mkdtemp(folder)) die("%s: the folder cannot be made: %s", folder, strerror(errno));
    use_threads(1);                                           /* fastest for these sizes */
    setenv("OMP_NUM_THREADS", "1", 1);                        /* the same for other programs */
    signal(SIGHUP, SIG_DFL);                                  /* which nohup lets them ignore */
    Counts n = run_tests(wanted), more = {0};
    if (REAL_BYTES == 4) more = run_double(wanted);
    shell("rm -rf ../${PWD##*/}");
    n.passed += more.passed, n.failed += more.failed, n.skipped += more.skipped;
    printf("%d passed, %d failed", n.passed, n.failed);
    if (n.skipped) printf(", %d skipped", n.skipped);
    printf("\n");
    return n.failed > 0;
}
