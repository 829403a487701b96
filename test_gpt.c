/* test_gpt.c - proofs that the other three files do what they say.
 *
 *     make test                                          builds both precisions and runs everything
 *     ./test_gpt gradient                                only tests whose name contains "gradient"
 *
 * ./test_gpt is built with real = float, ./test_gpt_double (-DDOUBLE) with double; the first runs
 * the second at its end and adds its counts. Derivatives are proven in double, where a finite
 * difference has ten good digits; in float they could hide an error of a percent.
 *
 * A test is one row of the table at the end. It calls `expect` for what must hold and `bound` for
 * errors that must be small, and one line tells its name and its worst figure. Properties that hold
 * for any weights come before comparisons with numbers from elsewhere: these can only say that two
 * programs agree. Every check was seen to fail: data/mutations.sh breaks each line of backward.
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

/* The path of a scratch file; four may be in use at once. */
const char *scratch(const char *name)
{
    static char path[4][200];
    static int turn;
    snprintf(path[turn = (turn + 1) % 4], sizeof *path, "%s/%s", folder, name);
    return path[turn];
}

/* Normal numbers of this scale. */
void fill(real *x, size_t count, double scale, uint64_t key)
{
    for (size_t i = 0; i < count; i++) x[i] = (real)(scale * random_normal(key, (uint32_t)i));
}

/* The i-th number of a key, from 0 to n - 1. */
int below(int n, uint64_t key, int i) { return (int)(random_bits(key, i) % (uint32_t)n); }

/* The larger of two; NaN, once there, stays. */
double worse(double most, double error)
{
    return error <= most || isnan(most) ? most : error;
}

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
    int same = found_size == size && !memcmp(text, bytes, size);
    free(text);
    return same;
}

/* Write two parts into a scratch file. */
void write_file(const char *name, const void *a, size_t a_size, const void *b, size_t b_size)
{
    Writer *w = writer_open(scratch(name));
    writer_put(w, a, a_size);
    writer_put(w, b, b_size);
    writer_close(w);
}

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

/* Run a command in the scratch folder; its output, in new memory. */
char *shell(const char *command)
{
    char *line = format("here=$PWD; cd %s && %s", folder, command), *text = allocate(1 << 16, 1);
    FILE *pipe = popen(line, "r");
    if (!pipe || fread(text, 1, (1 << 16) - 1, pipe) == 0) *text = 0;
    if (pipe) pclose(pipe);
    free(line);
    return text;
}

/* The error message with which f(data) ends the program, or "" if it returns or is killed. */
const char *error_of(void (*f)(void *), void *data)
{
    static char message[1000];
    int ends[2], status = 0;
    fflush(stdout);
    if (pipe(ends) != 0) die("pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        open_writers = NULL;                                  /* the parent's files stay */
        dup2(ends[1], 2);
        f(data);
        _exit(0);
    }
    close(ends[1]);
    FILE *file = fdopen(ends[0], "r");
    message[fread(message, 1, sizeof message - 1, file)] = 0;
    fclose(file), waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 0) *message = 0;
    return message;
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
        free(order), free(chosen);
    }
    for (int i = 0; i < 256; i++)
        if (orders[i]) bound("orders", abs(orders[i] - DRAWS / 24), 5 * sqrt(DRAWS / 24)), kinds++;
    for (int i = 0; i < N; i++)
        bound("drawn", abs(count[i] - DRAWS * K / N), 5 * sqrt(DRAWS * K / N));
    expect(kinds == 24, "%d of 24 orders", kinds);
    int *all = drawn(3, 0, 1);
    expect(all[0] == 0 && all[1] == 1 && all[2] == 2, "0 does not draw all");
    free(all);
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
    for (int k = 0; k < 4; k++) free_reals(x[k]);
}

/* A product of these sizes, against matmul_plain. `kind` chooses transposes, what it is added to,
 * the distance of rows, and who multiplies. What lies between and below c's rows must stay, and
 * large products must be the same bits on 2 to 4 threads. */
void expect_product(int M, int N, int K, int kind)
{
    int ta = kind & 1, tb = kind >> 1 & 1, start = kind / 4 % 3, gap = kind / 12 % 4;
    int large = max_int(M, max_int(N, K)) > 70;
    size_t lda = (ta ? M : K) + gap, ldb = (tb ? K : N) + gap, ldc = N + gap;
    size_t na = lda * (ta ? K : M), nb = ldb * (tb ? N : K), nc = ldc * (M + MR);
    real *a = allocate_reals(na), *b = allocate_reals(nb), *c[3], *bias = allocate_reals(N);
    View va = ta ? transposed(a, lda) : view(a, lda), vb = tb ? transposed(b, ldb) : view(b, ldb);
    char what[80];
    fill(a, na, 1, 1), fill(b, nb, 1, 2), fill(bias, N, 1, 4);
    for (int way = 0; way < 3; way++) {                       /* plain, fast, on more threads */
        fill(c[way] = allocate_reals(nc), nc, 1, 3);
        Output out = start == 0 ? assign(c[way], ldc) : start == 1 ? with_bias(c[way], ldc, bias)
                     : accumulate(c[way], ldc);
        use_threads(way == 2 && large ? 2 + kind % 3 : 1);
        (way ? kind / 48 ? matmul_serial : matmul : matmul_plain)(out, va, vb, M, N, K);
    }
    use_threads(1);
    snprintf(what, sizeof what, "%d x %d x %d, kind %d", M, N, K, kind);
    expect(!memcmp(c[1], c[2], nc * sizeof(real)), "%s: threads differ", what);
    bound(what, difference(c[1], c[0], nc), by_precision(4e-15, 2e-6));
    for (int way = 0; way < 3; way++) free_reals(c[way]);
    free_reals(a), free_reals(b), free_reals(bias);
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

void test_matmul(void)
{
    for (int i = 0; i < 1200; i++) {
        int M = i % 5 ? 1 + below(70, 1, i) : 1 + i / 5 % 4;
        expect_product(M, 1 + below(70, 2, i), 1 + below(70, 3, i), i % 96);
    }
    for (int kind = 0; kind < 12; kind++) {                   /* beyond one block, each way */
        expect_product(19, 50, 2 * KC + 37, kind);
        expect_product(2 * MC + 5, 33, 21, kind);
        expect_product(2 * MC + 5, 33, 21, kind + 48);        /* on one thread */
        expect_product(9, 2 * NC + 7, 30, kind);
        expect_product(2, NC + 7, KC + 70, kind);             /* few rows */
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
    model_free(model), batch_free(&batch);
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
        model_free(full), model_free(part);
    }
    batch_free(&b);
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
    free(before), batch_free(&b), model_free(m);
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
        batch_free(&b), model_free(m), model_free(alone);
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
    free(g), batch_free(&b), model_free(m);
}

/* A checksum of losses, norms and weights in three steps of training with dropout. */
uint64_t training_sum(void)
{
    Config c = {.T = 200, .V = 1000, .L = 2, .NH = 3, .C = 96, .Vp = 1008};
    Recipe r = {{(real)0.1, (real)0.1, (real)0.1, 0, 1}, 0.1, usual};
    Batch b = random_batch(3, c.T, c.V, 2);
    Model *m = random_model(c, TRAINING, 3, 0);
    uint64_t sum = 0;
    model_initialize(m, 1);
    for (int step = 1; step <= 3; step++) {
        double told[2];
        told[0] = model_step(m, &b, 1, &r, step, &told[1]);
        sum = checksum(checksum(sum, told, sizeof told), m->w.wte, m->count * sizeof(real));
    }
    batch_free(&b), model_free(m);
    return sum;
}

/* Results are the same bits on any number of threads, in fp32 and in bf16. */
void test_threads(void)
{
    uint64_t sums[8];
    for (int i = 0; i < 8; i++) {
        bf16_products = i % 2;
        use_threads(1 + i / 2);
        sums[i] = training_sum();
        expect(sums[i] == sums[i % 2], "training differs on %d threads", threads());
    }
    expect(sums[0] != sums[1], "bf16 has the bits of fp32");
    bf16_products = 0;
    if (threads() != 4) skip("there is no OpenMP");
    use_threads(1);
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
        batch_free(&b), model_free(full), model_free(m);
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
    free(numbers);
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
    free(logits), free(losses), free(gradient), free_reals(ours), model_free(m);
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
        free(losses), free(norms), free(weights), model_free(m);
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
    free(before), model_free(m);
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
    free(s.text.bytes);
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
            free(out[b].text.bytes);
        }
        free_reals(logits), free(list), model_free(m), model_free(again);
    }
    tokenizer_free(t);
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
            free(p.ids), free(p.loss_mask);
        }
        free(e.ids), free(e.loss_mask), free(text.bytes);
    }
    tokenizer_free(t);
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
        free(ids), json_free(json);
    }
    free(right), tokenizer_free(t);
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
    free(chat_prompt(&c, t, 1000, &whole));
    for (int longest = whole; longest > 0; longest--) {
        int before = c.from, *prompt = chat_prompt(&c, t, longest, &size);
        expect(size <= longest || c.from == 8, "%d tokens do not fit %d", size, longest);
        expect(c.from % 2 == 0 && c.from - before <= 2, "from turn %d to %d", before, c.from);
        expect(longest < whole || c.from == 0, "one turn too many is forgotten");
        expect(prompt[0] == t->end_of_text, "no beginning");
        expect(c.from < 8 || (size == last && !memcmp(prompt, right, size * sizeof size)),
               "the last question has other tokens");
        free(prompt);
    }
    expect(c.from == 8 && c.count == 9, "the last question is not all that is left");
    free(right), chat_free(&c), tokenizer_free(t);
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
    batch_free(&b), free(seen);
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
        loader_free(&f), tokens_free(&t), free(ever);
    }
    Tokens t = numbered_documents(2000, 2, 41);
    DataLoader f = loader_new(&t, 16, 0, 0, 5, 0);            /* too long: the end stays */
    expect(f.truncated > 100, "%d cut", f.truncated);
    for (int i = 0; i < f.count; i++) {
        Segment p = f.epoch_order[i];
        expect(p.length <= 16 && t.ids[p.from + p.length] == 0, "a piece ends before its document");
        expect(p.length == 16 || t.ids[p.from] == 0, "a short piece begins after its document");
    }
    loader_free(&f), tokens_free(&t);
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
            loader_free(&g);
        }
        expect(f.epoch > 1, "only %d epochs", f.epoch);
        loader_seek(&f, 0, 1000000);
        expect(loader_batch(&f, &b) > 0 && f.epoch == 1, "kind %d: only padding, sought", kind);
        f.row = f.rows + 5, f.next = f.count;
        expect(loader_batch(&f, &b) > 0 && f.epoch == 2, "kind %d: only padding", kind);
        loader_free(&f), batch_free(&a), batch_free(&b), tokens_free(&kinds[kind]);
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
    batch_free(&a), batch_free(&b);
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
            loader_free(&f);
        }
        expect(sums[0] != sums[1] && sums[1] != sums[2], "every seed draws the same");
        expect(sums[0] == sums[3], "one seed draws differently");
        tokens_free(&kinds[kind]), free(ever);
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
        loader_free(&f), tokens_free(&t);
    }
}

void read_train(void *names) { tokens_read(names, "train", 50257); }

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
    expect(strstr(error_of(read_train, none), "pc_train.bin") != NULL, "half of --data is read");
    tokens_free(&train), tokens_free(&val), free(both), free(none);
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
        batch_free(&b);
    }
    free(s.loss), model_free(m), model_free(alone), tokens_free(&t), tokenizer_free(names);
}

/* ================================================================================================
 * 8. Checkpoints
 */

/* bf16_from against its definition: of the two neighbours the nearer, of equals the even one. */
void test_bf16(void)
{
    for (uint32_t i = 0; i < 1 << 22; i++) {
        uint32_t tie = random_bits(1, i) | 0xffff, bits = i % 4 ? random_bits(2, i) : tie - 0x7fff;
        union { uint32_t i; float f; } x = {bits};
        uint16_t got = bf16_from(x.f), low = (uint16_t)(x.i >> 16), high = low + 1;
        if (isnan(x.f)) {
            expect(isnan(bf16_to(got)), "NaN %08x becomes %04x", x.i, got);
            continue;
        }
        double next = isinf(bf16_to(high)) ? copysign(0x1p128, x.f) : bf16_to(high);
        double down = fabs((double)x.f - bf16_to(low)), up = fabs(next - x.f);
        uint16_t right = isinf(x.f) || down < up || (down == up && low % 2 == 0) ? low : high;
        expect(got == right, "%08x becomes %04x, not %04x", x.i, got, right);
    }
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
        model_free(m);
    }
    expect(1024 + 4 * tensors_describe(gpt2, tensors) == 497904640, "GPT-2 124M has another size");
    expect(tensors_describe(xl, tensors) == 1557686400, "GPT-2 1558M has another size");
}

typedef struct { Model *m; const char *inputs; int changed; } StateFile;

void state_open(void *data)
{
    StateFile *s = data;
    Progress p = {0};
    strcpy(p.inputs, s->inputs);
    state_read(s->m, &p, s->changed, scratch("s.bin"));
    if (p.step != 3 || strcmp(p.inputs, s->inputs)) die("another progress");
}

/* The state s.bin with another byte, anywhere, is refused; so is a longer or shorter one. */
void state_damaged(StateFile s)
{
    size_t size;
    char *file = read_file(scratch("s.bin"), &size);
    for (int i = 0; i < 27; i++) {
        size_t at = i < 4 ? (size_t[]){4, 1023, size - 8, size - 1}[i] : random_bits(1, i) % size;
        int longer = i < 24 ? 0 : i - 25;                     /* the last three: -1, 0, 1 */
        char change = i < 24 ? (char)(1 << i % 8) : 0;
        file[at < 4 ? 4 : at] ^= change;
        write_file("s.bin", file, longer < 0 ? size - 1 : size, "x", longer > 0);
        const char *said = error_of(state_open, &s);
        expect(!*said == (i == 25), "byte %zu of %zu, %d longer: '%s'", at, size, longer, said);
        expect(!longer || strstr(said, "damaged"), "%d longer: %s", longer, said);
        file[at < 4 ? 4 : at] ^= change;
    }
    write_file("s.bin", file, size, "", 0);
    free(file);
}

/* A state is read by a run of the same inputs; another run gets to know all that differs. */
void test_state_refused(void)
{
    static const struct { const char *inputs; int changed; const char *says; } others[] = {
        {"a = 1\nab = x y\n", 0, ""}, {"a = 2\nab = x y\n", 1, ""},
        {"a = 2\nab = x y\n", 0, "another run: a was '1', is '2'; --changed"},
        {"a = 11\nab = x\n", 0, ": a was '1', is '11'; ab was 'x y', is 'x'; --changed"},
        {"a = 1\nb = x y\n", 0, ": b was '', is 'x y'; --changed"}};
    Model *m = random_model(small, TRAINING, 2, 1);
    Progress p = {.step = 3, .inputs = "a = 1\nab = x y\n"};
    state_write(m, &p, scratch("s.bin"));
    for (int i = 0; i < 5; i++) {
        const char *said = error_of(state_open, &(StateFile){m, others[i].inputs,
                                                             others[i].changed});
        expect(*others[i].says ? !!strstr(said, others[i].says) : !*said, "%d: '%s'", i, said);
    }
    state_damaged((StateFile){m, p.inputs, 0});
    m->frozen = 0;
    const char *said = error_of(state_open, &(StateFile){m, "a = 2\n", 1});
    expect(strstr(said, "model of another kind") && strstr(said, "a was"), "frozen: %s", said);
    model_free(m);
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
    free(ids);
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
        json_free(json);
    }
    const char *both = "?!<|endoftext|>you're";               /* parsed as one token on request */
    expect(encodes(t, both, 21, 1, (int32_t[]){12248, 50256, 5832, 821, -1}), "end of text");
    expect(l.number == 78, "%d vectors", l.number);
    free(text), tokenizer_free(t);
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
    tokenizer_free(t);
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
    free(pairs.entry);
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
    tokenizer_free(t), free(stories);
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
    tokenizer_free(t), tokenizer_free(back);
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
        json_free(json);
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
    json_free(json);
    for (int depth = 64; depth <= 65; depth++) {
        memset(deep, '[', depth), memset(deep + depth, ']', depth), deep[2 * depth] = 0;
        json = json_of(deep);
        expect((json != NULL) == (depth == 64), "%d brackets", depth);
        json_free(json);
    }
}

/* ================================================================================================
 * 10. The programs: bad input, training runs
 *
 * The three programs run on files that are damaged or hostile, and on command lines that cannot be
 * meant. Each time there must be one line that begins with "error: " and says what is wrong, an
 * exit status of 1, or of 2 for a command line, and no file made or changed.
 *
 * In the scratch folder stand a small model m, its vocabulary t, data d, the model's export hf and
 * the results o of some run.
 */

#define F32(name, shape, at) \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" at "}"

/* All files of the scratch folder, their sizes and check sums. */
char *inventory(void)
{
    return shell("find . -type f ! -name '*.txt' ! -path './new/*' -exec cksum {} + | sort -k 3");
}

/* Write NAME: hf/model.safetensors with a head, which is wte but for `change` at its end. */
void write_head(const char *name, float change)
{
    size_t size, wte = 300 * 8 * sizeof(float);
    uint64_t length;
    char *file = read_file(scratch("hf/model.safetensors"), &size), *end;
    memcpy(&length, file, 8);
    char *data = end = file + 8 + length;
    float *head = memcpy(allocate(wte, 1), data, wte);
    head[300 * 8 - 1] += change;
    while (end[-1] != '}') end--;
    size -= 8 + length;
    char *header = format("%.*s," F32("lm_head.weight", "[300,8]", "[%zu,%zu]") "}",
                          (int)(end - 1 - (file + 8)), file + 8, size, size + wte);
    Text front = {0};
    length = strlen(header);
    text_add(&front, (char *)&length, 8);
    text_add(&front, header, length);
    text_add(&front, data, size);
    write_file(name, front.bytes, front.size, head, wte);
    free(file), free(head), free(header), free(front.bytes);
}

/* Make the files above, once. For runs of m: v has training and validation tokens, which begin with
 * an escape; one has a single row, w many training tokens, x examples without a target. */
void bad_folder(void)
{
    static int done;
    static const Config tiny = {.T = 16, .V = 300, .L = 1, .NH = 2, .C = 8, .Vp = 384};
    static const char mask[100];
    uint16_t ids[3000];
    char text[6000];
    if (done++) return;
    if (access("train_gpt", X_OK) || access("tokenizer", X_OK) || access("prepare", X_OK))
        die("train_gpt, tokenizer and prepare are not all here: `make test` builds them");
    for (int i = 0; i < 6000; i++) text[i] = "aeinorst ,"[below(10, 1, i)];
    memcpy(text + 3000, "\n<|endoftext|>\n", 15);
    write_file("text.txt", text, sizeof text, "", 0);
    Tokenizer *t = tokenizer_train(text, sizeof text, 300), *t301;
    t301 = tokenizer_train(text, sizeof text, 301);
    tokenizer_write(t, scratch("t")), tokenizer_write(t301, scratch("t301"));
    memcpy(t->bytes + t->start[257], t->bytes + t->start[256], 2);
    tokenizer_write(t, scratch("t_same"));
    Model *m = random_model(tiny, INFERENCE, 1, 0);
    memset(m->w.wte + 300 * 8, 0, 84 * 8 * sizeof(real));     /* the padding */
    model_write(m, scratch("m"), 0);
    for (int i = 0; i < 500; i++) ids[i] = i % 50 ? (uint16_t)below(299, 2, i) : 299;
    write_tokens("d_train.bin", ids, NULL, 500);
    write_tokens("few_train.bin", ids, NULL, 10);
    for (int i = 0; i < 3000; i++) ids[i] = (uint16_t)(i % 20 ? below(30, 7, i) : 299);
    write_tokens("w_train.bin", ids, NULL, 3000);
    write_tokens("one_train.bin", ids, NULL, 17);
    write_tokens("v_train.bin", ids, NULL, 65);
    ids[102] = (uint16_t)t->of_byte[27];
    write_tokens("v_val.bin", ids + 100, NULL, 65);
    write_tokens("x_train.bin", ids, mask, 100);
    tokenizer_free(t), tokenizer_free(t301), model_free(m);
    free(shell("\"$here\"/prepare export m --tokenizer t --out hf; cp -r hf old; head -c 10000 m > "
               "m_short; mkfifo pipe; echo '{\"prompt\":\"a\",\"completion\":\"b\"}' > rows.jsonl; "
               "rm old/vocab.json; mkdir o old/vocab.json p_val.bin q_train.bin r_tokenizer.bin; "
               "for f in p_train.bin q_val.bin r old/*.json o/best.bin o/model.bin o/log.csv "
               "o/state.bin; do [ -d $f ] || echo old > $f; done"));
    write_head("hf/head", 1e-3f);
}

/* Run a command line of the shell in the scratch folder. Returns its output and errors, then
 * "status N", until the next call. */
const char *run_line(const char *command)
{
    static char *output;
    char *line = format("export ASAN_OPTIONS=detect_leaks=0 PATH=\"$here:$PATH\"; { %s\n} 2>&1; "
                        "echo status $?", command);
    bad_folder();
    free(output);
    output = shell(line);
    free(line);
    return output;
}

/* Whether the output of a command line contains all texts of a list that NULL ends. */
void expect_run(const char *command, ...)
{
    const char *output = run_line(command), *text;
    va_list args;
    va_start(args, command);
    while ((text = va_arg(args, const char *)))
        expect(strstr(output, text) != NULL, "%s: no '%s' in: %s", command, text, output);
    va_end(args);
}

/* Run a program in the scratch folder, for 20 seconds at most: its errors, then "status N". */
const char *run_quietly(const char *command)
{
    char *line = format("2>&1 >out.txt </dev/null timeout 20 %s", command);
    const char *said = run_line(line);
    free(line);
    return said;
}

/* Fail unless a command says one line of error with this message, and changes no file. */
void expect_bad(const char *command, int status, const char *message)
{
    bad_folder();
    char *before = inventory(), *last = format("\nstatus %d\n", status);
    const char *said = run_quietly(command), *end = strchr(said, '\n');
    char *after = inventory();
    expect(!strncmp(said, "error: ", 7) && end && !strcmp(end, last),
           "%s: not one line of error and status %d: %.200s", command, status, said);
    expect(strstr(said, message) != NULL, "%s: '%s' is not in: %.200s", command, message, said);
    expect(!strcmp(before, after), "%s: changed files", command);
    free(before), free(after), free(last);
}

typedef struct { const char *command; int status; const char *message; } Bad;

void test_bad(const void *rows)
{
    const Bad *b = rows;
    for (; b->command; b++) expect_bad(b->command, b->status, b->message);
    outcome("%d commands", (int)(b - (const Bad *)rows));
}

#define GENERATE "train_gpt generate --tokenizer t --model "
#define TRAIN "train_gpt train --model m --tokenizer t --out o --steps 1 --data "
#define ENCODE "tokenizer encode text.txt --tokenizer "
#define IMPORT "prepare import --out y "

/* Files that are damaged, their damaged copies, and the commands that read these. */
enum { A_MODEL, A_TOKENIZER, TENSOR_FILE, A_CONFIG, A_VOCABULARY, TOKEN_FILE, LENGTH = -1 };
static const char *const damaged[][3] = {
    {"m", "x", GENERATE "x --tokens 2"}, {"t", "x", ENCODE "x"},
    {"hf/model.safetensors", "hf/x", IMPORT "hf/x"},
    {"hf/config.json", "hf/config.json", IMPORT "hf"},
    {"hf/vocab.json", "x", IMPORT "x hf/merges.txt"},
    {"d_train.bin", "damaged_train.bin", TRAIN "damaged"}};

/* The number at byte `at` becomes `value`; or the file's LENGTH changes by `value` bytes. */
static const struct { int file; long at; int32_t value; const char *message; } damages[] = {
    {A_MODEL, LENGTH, -1000000, "found 0 bytes, too few for its header"},
    {A_MODEL, LENGTH, -17000, "too few for its header"}, {A_MODEL, LENGTH, -1, "truncated"},
    {A_MODEL, LENGTH, 1, "too long"},
    {A_MODEL, 0, 20240520, "magic number 20240326), found 20240520"},
    {A_MODEL, 4, 4, "found version 4"}, {A_MODEL, 8, 15, "too long"},
    {A_MODEL, 16, INT32_MAX, "impossible model"}, {A_MODEL, 12, -300, "impossible model"},
    {A_MODEL, 20, 3, "8 channels cannot be shared by 3 heads"},
    {A_MODEL, 20, 0, "impossible model"}, {A_MODEL, 24, 65536, "truncated"},
    {A_MODEL, 1024 + 4 * 3100, 0x7fc00000, "is nan"},
    {A_MODEL, 1024, 0x7f800000, "number 0 of wte is inf"},
    {A_TOKENIZER, LENGTH, -1500, "too few for its header"}, {A_TOKENIZER, LENGTH, -1, "truncated"},
    {A_TOKENIZER, LENGTH, 3, "300 tokens"}, {A_TOKENIZER, 0, 7, "expected a tokenizer file"},
    {A_TOKENIZER, 4, 3, "found 3"}, {A_TOKENIZER, 8, INT32_MAX, "found 2147483647"},
    {A_TOKENIZER, 8, 400, "truncated"}, {A_TOKENIZER, 12, 300, "found 300"},
    {A_TOKENIZER, 1024, 0x22012201, "each of the 256 bytes"},
    {A_TOKENIZER, 1024, 0, "expected bytes for token 0"},
    {TOKEN_FILE, LENGTH, -2000, "too few for its header"},
    {TOKEN_FILE, LENGTH, -1, "the header promises 500 tokens"},
    {TOKEN_FILE, LENGTH, 1, "the header promises 500 tokens"},
    {TOKEN_FILE, 0, 7, "magic number 20240520), found 7"}, {TOKEN_FILE, 4, 3, "found version 3"},
    {TOKEN_FILE, 4, 2, "the header promises 500 tokens"},
    {TOKEN_FILE, 8, INT32_MAX, "the header promises 2147483647 tokens"},
    {TOKEN_FILE, 8, -2, "the header promises -2 tokens"},
    {TOKEN_FILE, 1224, 300, "token 100 is 300"}, {TENSOR_FILE, LENGTH, -1, "truncated"},
    {TENSOR_FILE, LENGTH, 1, "belong to no tensor"},
    {TENSOR_FILE, 4, INT32_MIN, "header would have 9223372036854"},
    {TENSOR_FILE, 4, 1, "header would have 42949"}, {TENSOR_FILE, 8, 0, "line 1, column 1"},
    {TENSOR_FILE, 222, 0x395f6e6c, "GPT-2 has no tensor 'h.0.ln_9.weight'"}};

static const struct { const char *header; int bytes; const char *message; } hostile[] = {
    {"[]", 0, "expected an object"}, {"{}", 0, "this is no GPT-2"},
    {"{\"\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 0,
     "at most 64 brackets"},
    {"{" F32("wte.weight", "[1,1]", "[0,4000000000]") "}", 4,
     "bytes 0 to 4000000000 of the data, which have 4"},
    {"{" F32("wte.weight", "[1,1]", "[4,0]") "}", 4, "bytes 4 to 0"},
    {"{" F32("wte.weight", "[1,-1]", "[0,4]") "}", 4, "expected a whole number, found -1"},
    {"{" F32("wte.weight", "[4294967296,4294967296]", "[0,0]") "}", 0, "too large for any file"},
    {"{" F32("wte.weight", "[2,2]", "[0,4]") "}", 4, "its shape needs 16"},
    {"{\"wte.weight\":{\"dtype\":\"F7\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
     "the type 'F7' is unknown"},
    {"{" F32("wte.weight", "[2,1]", "[0,8]") "," F32("wpe.weight", "[1,1]", "[8,12]") ","
     F32("transformer.wte.weight", "[2,1]", "[12,20]") "," F32("h.0.", "[0]", "[20,20]") "}", 20,
     "'wte.weight' is there twice"},
    {"{" F32("wte.weight", "[2,1]", "[0,8]") "," F32("wpe.weight", "[1,1]", "[8,12]") ","
     F32("h.0.ln_1.weight", "[1]", "[12,16]") "}", 16, "tensor h.0.ln_1.bias is missing"},
    {"{" F32("wte.weight", "[1]", "[0,4]") "," F32("wpe.weight", "[1]", "[0,4]") "}", 4,
     "two tensors"},
    {"{" F32("wte.weight", "[1]", "[4,8]") "}", 8, "belong to no tensor"},
    {"{" F32("name", "[1]", "[0,4]") "}", 4, "this is no GPT-2"}};

void test_damaged(void)
{
    char body[400];
    size_t size;
    bad_folder();
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        const char *const *kind = damaged[damages[i].file];
        char *file = read_file(scratch(kind[0]), &size);
        long longer = damages[i].at == LENGTH ? damages[i].value : 0, left = (long)size + longer;
        if (damages[i].at != LENGTH) memcpy(file + damages[i].at, &damages[i].value, 4);
        write_file(kind[1], file, left < 0 ? 0 : longer < 0 ? left : (long)size, "more",
                   longer > 0 ? longer : 0);
        expect_bad(kind[2], 1, damages[i].message);
        free(file);
    }
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        uint64_t length = strlen(hostile[i].header);
        memcpy(body, hostile[i].header, length);
        memset(body + length, 0, sizeof body - length);
        write_file("hf/x", &length, 8, body, length + hostile[i].bytes);
        expect_bad(IMPORT "hf/x", 1, hostile[i].message);
    }
}

static const Bad bad_files[] = {
    {GENERATE "nowhere", 1, "nowhere: cannot be opened: No such file"},
    {GENERATE ".", 1, "expected a file"}, {GENERATE "t", 1, "expected a model file"},
    {"prepare export m_short --tokenizer t --out hf2", 1, "truncated"},
    {"prepare import m_short --out new.bin", 1, "truncated"},
    {TRAIN "nowhere", 1, "nowhere_train.bin: cannot be opened"}, {TRAIN "few", 1, "too few"},
    {TRAIN "d --resume", 1, "state.bin: expected a training state"},
    {TRAIN "d --lr 10 --decay 100 --warmup 0 --steps 60 --out new", 1, "lower --lr"},
    {TRAIN "d --tokenizer t301", 1, "has 301 tokens, the model 300"},
    {ENCODE "nowhere", 1, "cannot be opened"}, {ENCODE "m", 1, "expected a tokenizer file"},
    {ENCODE "pipe", 1, "pipe: expected a file"},
    {"tokenizer encode pipe --tokenizer t", 1, "pipe: no program writes to this pipe"},
    {"tokenizer encode nowhere --tokenizer t", 1, "nowhere: cannot be opened"},
    {"tokenizer encode --json text.txt --tokenizer t", 1, "line 1, column 1"},
    {"tokenizer decode text.txt --tokenizer t", 1, "as number 1, found"},
    {"tokenizer train nowhere --out m", 1, "nowhere: cannot be opened"},
    {"tokenizer train text.txt --vocab 100000 --out m", 1, "enough pairs"},
    {"prepare text text.txt nowhere --tokenizer t --out d", 1, "nowhere: cannot be opened"},
    {"prepare text text.txt --tokenizer m --out d", 1, "expected a tokenizer file"},
    {"prepare export m --tokenizer t301 --out hf2", 1, "has 301 tokens"},
    {IMPORT "hf/nowhere", 1, "cannot be opened"},
    {IMPORT "hf/head", 1, "lm_head.weight differs from wte.weight at number 2399"},
    {IMPORT "hf/vocab.json text.txt", 1, "text.txt"},
    {IMPORT "text.txt hf/merges.txt", 1, "text.txt: line 1, column 1"},
    {0}};

#define ON_D "train_gpt train --data d "
#define WITH_M "train_gpt train --model m --tokenizer t --out o --data "
static const Bad bad_options[] = {
    {"train_gpt nonsense", 2, "unknown command 'nonsense'"}, {ON_D "more", 2, "unexpected 'more'"},
    {ON_D "--rl 1", 2, "unknown option '--rl'"},
    {"train_gpt train --data", 2, "a value is missing"},
    {"train_gpt generate --lr 1", 2, "does not belong to this command"},
    {ON_D "--lr fast", 2, "--lr: expected a number, found 'fast'"},
    {ON_D "--lr 1e-4x", 2, "found '1e-4x'"}, {ON_D "--lr nan", 2, "found 'nan'"},
    {ON_D "--lr -1", 2, "--lr: expected a number from 0 to 10"},
    {ON_D "--steps 1.5", 2, "--steps: expected a whole number"},
    {ON_D "--batch 99999999999", 2, "--batch: expected a number from 1"},
    {ON_D "--batch=", 2, "--batch: expected a whole number, found ''"},
    {ON_D "--resume=1", 2, "--resume takes no value"},
    {ON_D "--schedule ''", 2, "--schedule: expected"},
    {ON_D "--schedule cosinus", 2, "--schedule: expected"},
    {TRAIN "d --context 17", 2, "--context: the model's longest is 16"},
    {TRAIN "d --freeze 2", 2, "--freeze: the model has 1 block"},
    {ON_D "--tokenizer t --channels 100 --heads 3", 1, "cannot be shared"},
    {"train_gpt", 1, "data/shop_train.bin is missing: run make"},
    {"train_gpt train --lr 1e-3", 2, "--data is missing"},
    {ON_D "--lr 1e-3,fast", 2, "--lr: expected a number, found 'fast'"},
    {WITH_M "d --epochs 0", 2, "--epochs: 0 trains nothing"},
    {WITH_M "w --batch 1 --context 1 --epochs 1e6", 2, "1e+06 epochs are 2999000000 steps"},
    {TRAIN "d --batch 65536 --accumulate 65536", 2, "too many for a step"},
    {"train_gpt generate --temperature 0,8", 2, "--temperature: expected a number, found '0,8'"},
    {"train_gpt eval --data d", 2, "--model is missing"},
    {"train_gpt eval --model m --tokenizer t", 2, "--data is missing"},
    {"train_gpt eval --model m --tokenizer t --pairs text.txt", 1, "text.txt, line 1"},
    {"train_gpt compare --model m --tokenizer t --data d", 2, "--tuned is missing"},
    {"train_gpt classify --model m --tokenizer t", 2, "--labels is missing"},
    {"train_gpt chat", 2, "--model is missing"}, {"prepare examples --out d", 2, ""},
    {"prepare examples text.txt --tokenizer t --out new", 1, "text.txt"}, {"prepare report", 2, ""},
    {"tokenizer nonsense", 2, "nonsense"}, {"tokenizer train text.txt", 2, "expected --out"},
    {"tokenizer train --out m", 2, "expected a file of text"},
    {"tokenizer train text.txt --out m --vocab 5", 2, "--vocab: expected a number from 257"},
    {"tokenizer info --tokenizer t more", 2, "unexpected 'more'"},
    {"prepare nonsense", 2, "nonsense"}, {"prepare text --out d", 2, "expected the text files"},
    {"prepare text text.txt", 2, "expected --out"},
    {"prepare text text.txt --out d --val 2", 2, "--val: expected a number from 0 to 1"},
    {"prepare import m", 2, "expected --out"}, {"prepare export", 2, "expected one model file"},
    {"prepare gpt2 huge", 2, "found 'huge'"},
    {0}};

/* Folders that are not there, are files, or cannot take a file (these tests may be run by root);
 * a disk that is full. */
#define FULL " >/dev/full", 1, "standard output: writing failed"
static const Bad bad_places[] = {
    {"tokenizer train text.txt --vocab 260 --out nowhere/t", 1, "nowhere/t: cannot be written"},
    {"tokenizer train text.txt --vocab 260 --out m/t", 1, "m/t: cannot be written"},
    {"tokenizer train text.txt --vocab 260 --out hf", 1, "hf: cannot be replaced"},
    {"tokenizer encode text.txt --tokenizer t >/dev/full", 1, "writing failed"},
    {"prepare text text.txt --tokenizer t --out nowhere/d", 1, "cannot be written"},
    {"prepare import m --out nowhere/m", 1, "cannot be written"},
    {"prepare export m --tokenizer t --out m", 1, "m: is not a folder"},
    {"prepare export m --tokenizer t_same --out hf2", 1, "spelled alike"},
    {"prepare export m --tokenizer t --out old", 1, "old/vocab.json: cannot be replaced"},
    {"prepare import hf --out r", 1, "r_tokenizer.bin: cannot be replaced"},
    {"prepare text text.txt --tokenizer t --out p", 1, "p_val.bin: cannot be replaced"},
    {"prepare text text.txt --tokenizer t --out q", 1, "q_train.bin: cannot be replaced"},
    {TRAIN "d --out m", 1, "m: is not a folder"}, {TRAIN "d --out m/o", 1, "cannot be made"},
    {"train_gpt generate --model m --tokenizer t --tokens 2" FULL},
    {"train_gpt train --model m --tokenizer t --steps 1 --data d --out new" FULL},
    {"train_gpt chat --help" FULL}, {"prepare --help" FULL}, {"tokenizer --help" FULL},
    {"prepare report new" FULL}, {"prepare eval --model m --tokenizer t --data v --out new" FULL},
    {"prepare examples rows.jsonl --val 0 --tokenizer t --out new/e" FULL},
    {"train_gpt classify --model m --tokenizer t --labels a,b < text.txt" FULL},
    {"train_gpt generate --jsonl --model m --tokenizer t --tokens 2 < rows.jsonl" FULL},
    {0}};

/* Copies with one byte changed: programs may accept or refuse them, but must come to an end. */
void test_random_changes(void)
{
    int refused = 0;
    bad_folder();
    free(shell("cp hf/config.json config"));
    for (int i = 0; i < 200; i++) {
        const char *const *kind = damaged[i % TOKEN_FILE];
        size_t size;
        char *file = read_file(scratch(kind[0]), &size);
        size_t most = i % 2 && size > 1100 ? 1100 : size;     /* half of them in headers */
        file[random_bits(1, i) % most] ^= 1 + below(255, 2, i);
        write_file(kind[1], file, size, "", 0);
        const char *status = strrchr(run_quietly(kind[2]), ' ');
        expect(!strcmp(status, " 0\n") || !strcmp(status, " 1\n"), "change %d: %s: status%s", i,
               kind[2], status);
        refused += status[1] == '1';
        free(file);
    }
    free(shell("mv config hf/config.json"));
    outcome("200 changes, %d refused", refused);
}

/* ---- training runs, commands ---- */

#define TINY "train_gpt train --model m --tokenizer t --batch 1 --warmup 0 --schedule constant " \
             "--threads 1 --data "

/* The mean loss of a model, which is freed, on v's validation data in rows of T tokens. */
double loss_on_v(Model *m, int T)
{
    Tokens val = tokens_read(scratch("v"), "val", 300);
    Tokenizer *t = tokenizer_read(scratch("t"));
    Scores s = score(m, t, &val, 1, T, 0, 0);
    double mean = total(s.loss, s.n) / total(s.count, s.n);
    free(s.loss), tokens_free(&val), tokenizer_free(t), model_free(m);
    return mean;
}

/* Overfitting: the best model is kept, and patience counts from it. */
void test_run_best(void)
{
    double step, loss, best = INFINITY, best_step = 0, last = 0, told, told_step;
    expect_run(TINY "v --out r1 --show 0 --steps 60 --lr 3e-2 --eval-every 1 --patience 3",
               "stopped early: no better validation loss for 3 validations\n", "best so far",
               "begins to overfit", "status 0", NULL);
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

/* Tuning that makes everything worse ends by saying so, and keeps the model from before. */
void test_run_worse(void)
{
    const char *output = run_line(TINY "v --out r2 --steps 3 --lr 10 --eval-every 1");
    expect(strstr(output, "no step was better than step 0") && strstr(output, "lower --lr") &&
           !strstr(output, "after training") && !strstr(output, "after step"), "%s", output);
    expect(!strchr(output, 27), "an escape sequence of the data reaches the terminal");
    expect_run("cmp m r2/best.bin", "status 0", NULL);
}

/* The progress that a run has saved. */
Progress saved_progress(const char *state)
{
    size_t size;
    Progress p = {0};
    char *file = read_file(scratch(state), &size);
    if (size > 4 * HEADER + sizeof p) memcpy(&p, file + 4 * HEADER, sizeof p);
    free(file);
    return p;
}

/* Stopped and resumed equals never stopped, in weights and log, with a frozen block, with adapters
 * and without; resuming a finished run changes nothing; another seed is refused. */
void test_run_resume(void)
{
#define SIX "--lr 1e-2 --eval-every 2 --dropout 0.1 $KIND "
    static const char *const kinds[] = {
        "", "--freeze 1", "--lora 2 --lora-on qkv,fcproj --lora-dropout 0.1 --recompute",
        "--moments bf16"};
    for (int kind = 0; kind < 4; kind++) {
        setenv("KIND", kinds[kind], 1);
        expect_run(TINY "v --out r3 --steps 6 " SIX, "status 0", NULL);
        expect_run(TINY "v --out r4 --steps 4 " SIX "&& echo 5,1,80,1,,1,1,1,1 >> r4/log.csv",
                   NULL);
        double seconds = saved_progress("r4/state.bin").seconds;
        expect(seconds > 0 && seconds < 60, "%g seconds", seconds);
        expect_run(TINY "v --out r4 --steps 6 --resume --changed " SIX,
                   "changed: steps was '4', is '6'\n", "after step 4\n", NULL);
        expect(saved_progress("r4/state.bin").seconds > seconds, "seconds are not added up");
        expect_run(TINY "v --out r4 --steps 6 --resume " SIX, "after step 6\n", "status 0", NULL);
        expect_run("cut -d, -f1 r4/log.csv | tr '\\n' ' '", "step 0 1 2 3 4 5 6 status 0", NULL);
        expect_run("for r in r3 r4; do cut -d, -f1-7 $r/log.csv > $r/log.txt; done; "
                   "cmp r3/log.txt r4/log.txt && cmp r3/samples.jsonl r4/samples.jsonl && "
                   "cmp r3/model.bin r4/model.bin && cmp r3/best.bin r4/best.bin && "
                   "grep -c after r3/samples.jsonl", "3\nstatus 0", NULL);
        expect_run(TINY "v --out r4 --steps 6 --resume --seed 2 $KIND", "seed was '1337', is '2'",
                   "status 1", NULL);
    }
}

/* A new run removes the records of an older one before its first step, which here fails: no target
 * of its data counts. */
void test_run_fresh(void)
{
    expect_run("mkdir r5; cd r5; echo '{}' | tee state.bin eval.jsonl compare.jsonl bias.jsonl "
               "search.jsonl samples.jsonl run.txt report.html; cd ..; " TINY "x --out r5",
               "no target counts", "status 1", NULL);
    expect_run("ls r5", "log.csv\nstatus", NULL);
    expect(!strpbrk(run_line("ls r5 | tr -d '\\n'"), "jb"), "old records: %s", run_line("ls r5"));
}

/* With a learning rate of 0 and one row of data, only dropout and noise change the loss, and with
 * another seed they are others. */
void test_run_random(void)
{
    static const char *const options[] = {"--lr 0", "--dropout 0.5", "--noise 0.5",
                                          "--dropout 0.5 --seed 2", "--noise 0.5 --seed 2"};
    double first[5];
    for (int i = 0; i < 5; i++) {
        double loss[3] = {0};
        setenv("KIND", options[i], 1);
        sscanf(run_line(TINY "one --out r6 --steps 3 --decay 0 --lr 0 $KIND > /dev/null; "
                        "sed 1d r6/log.csv | cut -d, -f4"), "%lf%lf%lf", loss, &loss[1], &loss[2]);
        int differ = (loss[0] != loss[1]) + (loss[1] != loss[2]) + (loss[0] != loss[2]);
        expect(loss[2] > 0 && differ == (i ? 3 : 0), "%s: losses %g %g %g", options[i], loss[0],
               loss[1], loss[2]);
        first[i] = loss[0];
        expect(i < 3 || first[i] != first[i - 2], "%s: the seed changes nothing", options[i]);
    }
}

/* Signals, a reader that goes away, and a full disk (here: a limit of a file's size) end a run, but
 * its state is saved first. The second signal ends it at once. */
void test_run_stops(void)
{
#define FOREVER TINY "v --out r7 --show 0 --steps 1000000 --save-every 0 "
    expect_run("for s in TERM HUP; do rm -rf r7; " FOREVER "> /dev/null & "
               "while [ ! -s r7/log.csv ] || [ $(wc -l < r7/log.csv) -lt 4 ]; do sleep 0.02; done; "
               "kill -$s $!; wait $!; echo $?; test -s r7/model.bin && rm r7/state.bin; done",
               "143\n129\nstatus 0", NULL);
    expect_run("{ " FOREVER "; echo $? > code.txt; } | head -3 > /dev/null; cat code.txt; ls r7",
               "writing failed\n", "\n1\n", "state.bin", NULL);
    catch_signals();
    raise(SIGTERM);
    expect(interrupted == SIGTERM, "a signal is not caught");
    for (int i = 0; i < 3; i++)
        expect(signal(stop_signals[i], SIG_DFL) == SIG_DFL, "a second signal is caught");
    interrupted = 0, signal(SIGPIPE, SIG_DFL);

    expect_run(TINY "v --out r8 --steps 2 && yes 1,1,1,1,,1,1,1,1 | head -c 60000 >> r8/log.csv; "
               "trap '' XFSZ; ulimit -f 120; " TINY "v --out r8 --steps 900 --resume --changed",
               "log.csv: writing failed", "status 1", NULL);
    int step = (int)saved_progress("r8/state.bin").step;
    expect(step > 2 && step < 900, "saved after step %d", step);
    expect_run("trap '' XFSZ; ulimit -f 60; " TINY "v --out r9 --steps 2; ls r9",
               "state.bin: writing failed", "model.bin", NULL);
}

/* Accepted: a context of one token, validation data in one of two sets, text in a pipe. Commands of
 * prepare are found from any folder, by any way to train_gpt. */
void test_run_commands(void)
{
    expect_run(TINY "v --out r10 --steps 2 --context 1", "status 0", NULL);
    expect_run(TINY "w,v --out r10 --steps 2", "validation loss", "status 0", NULL);
    expect_run("tokenizer encode text.txt --tokenizer t > 1.txt; cat text.txt | tokenizer encode "
               "/dev/stdin --tokenizer t | cmp - 1.txt && echo same", "same\nstatus 0", NULL);
#define MISSING "error: --tuned is missing: the fine-tuned model, or --adapter\n"
    expect_run("mkdir -p far/alone; cd far; train_gpt compare; ln -sf \"$here\"/train_gpt link; "
               "./link compare; \"$here\"/train_gpt compare; cp \"$here\"/train_gpt alone; "
               "alone/train_gpt compare", MISSING MISSING MISSING, "alone/prepare",
               "make builds it", NULL);
    char *mean = format("loss %.4f", loss_on_v(model_read(scratch("m")), 8));
    expect_run("far/alone/train_gpt eval --model m --tokenizer t --data v --context 8",
               "m on v_val.bin: 8 rows, 64 targets\n", mean, "status 0", NULL);
    free(mean);
}

/* A line of JSON gets a line of JSON, with one completion or several; a zero byte ends no line. */
void test_jsonl(void)
{
    for (int n = 1; n < 4; n += 2) {
        char *line = format("printf '\"a\"\\n\"a\"\\0\\n' | train_gpt generate --jsonl "
                            "--tokens 3 --model m --tokenizer t --samples %d", n);
        const char *output = run_line(line), *end = strchr(output, '\n');
        Json *row = end ? json_parse(output, end - output, json_error, sizeof json_error) : NULL;
        Json *one = json_get(row, "completion"), *list = json_get(row, "completions");
        expect(row && row->count == 1 && end && strstr(end, "{\"error\":\""), "%s", output);
        expect(n == 1 ? one && one->type == '"' : list && (int)list->count == n, "%s", output);
        json_free(row), free(line);
    }
#define TALK(line) "printf '" line "\\n' | train_gpt chat --temperature 0.1 --tokens 20 " \
                   "--model $here/data/mini.bin --tokenizer $here/data/mini_tokenizer.bin"
    char *with = format("%s", run_line(TALK("a\\0bbbb")));
    expect(strcmp(with, run_line(TALK("a\\0cccc"))), "chat does not read behind a zero byte");
    expect(!strcmp(with, run_line(TALK("a\\0bbbb"))), "chat reads what was not typed");
    free(with);
}

/* ---- COMMON GROUND AND TEXT ---- */

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

void parse_word(void *word) { parse_words(1, (char *[]){word}); }

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
        expect(strstr(error_of(parse_word, (void *)bad[i][0]), bad[i][1]) != NULL, "%s", *bad[i]);
}

/* Read a file that becomes shorter. */
void read_shortened(void *path)
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
    write_file(strrchr(old, '/') + 1, "left here", 9, "", 0);
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
    const char *said = error_of(read_shortened, old);
    expect(strstr(said, "the file became shorter") != NULL, "a shorter file: '%s'", said);
    unlink(old), free(old);
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
    expect_run("echo 215 64 | tokenizer decode --tokenizer $here/data/gpt2_tokenizer.bin > bytes",
               "status 0", NULL);
    expect(same_file(scratch("bytes"), "\33a", 2), "decode to a file");
    int terminal = posix_openpt(O_RDWR | O_NOCTTY), other = -1;
    if (terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0)
        other = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    if (other >= 0) {                                         /* a sandbox may have no terminals */
        char *line = format("echo 215 64 | ./tokenizer decode --tokenizer %s >%s", gpt2_tokenizer,
                            ptsname(terminal));
        expect(system(line) == 0 && read(terminal, shown_bytes, 15) == 5 &&
               !strcmp(shown_bytes, "\\x1ba"), "decode to a terminal: %s", shown_bytes);
        free(line), close(other);
    }
    free(plain), close(terminal);
}

/* A text by a form, until the eighth next call. */
__attribute__((format(printf, 1, 2)))
const char *text_of(const char *form, ...)
{
    static char *kept[8];
    static int turn;
    va_list args;
    va_start(args, form);
    free(kept[turn = (turn + 1) % 8]);
    kept[turn] = format_list(form, args);
    va_end(args);
    return kept[turn];
}

/* The same text with double quotes for single ones, as JSON has them. */
const char *json_text(const char *text)
{
    char *quoted = (char *)text_of("%s", text);
    for (char *at = quoted; (at = strchr(at, '\''));) *at = '"';
    return quoted;
}

/* Write a text into a scratch file. */
void write_text(const char *name, const char *text) { write_file(name, text, strlen(text), "", 0); }

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
 * model in two files, weights and biases, with an index: it is imported as the same bytes. A file
 * or a tensor that is missing, one that is in both files, and a file elsewhere are refused. */
void test_safetensors(void)
{
    static const char *const bad[][2] = {
        {"s:l-1:l-7:", "x.json: names model-7.safetensors, which is not "},
        {"s:model-1:../cut/&:", "x.json: expected a weight_map that names "},
        {"s:l-1:l-0:g", "x.json: tensor h.0.ln_1.bias is missing"}};
    Text head[2] = {{0}}, data[2] = {{0}}, index = {0};
    size_t size, at = 0, attention = 0;
    uint64_t length;
    bad_folder();
    Model *m = model_read(scratch("m"));
    char *file = read_file(scratch("hf/model.safetensors"), &size), *numbers;
    memcpy(&length, file, 8);
    numbers = file + 8 + length;
    for (int k = 0; k < 2; k++) text_add(&head[k], (char[8]){0}, 8);      /* for its length */
    for (int i = 0; i < 16; i++) {
        const char *name = tensors[i].name, *shape = tensors[i].shape;
        int bias = ends_with(name, "bias"), bytes = 4 * tensors[i].count;
        Text *h = &head[bias], *d = &data[bias];
        const char *row = text_of(F32("transformer.%s", "[%s]", "[%zu,%zu]"), name, shape, at,
                                  at + bytes);
        expect(memmem(file, 8 + length, row, strlen(row)) != NULL, "the header lacks %s", row);
        text_print(h, "%c" F32("%s", "[%s]", "[%zu,%zu]"), h->size > 8 ? ',' : '{', name, shape,
                   d->size, d->size + bytes);
        text_add(d, numbers + at, bytes);
        text_print(&index, "%s\"%s\":\"model-%d.safetensors\"", i ? "," : "{\"weight_map\":{", name,
                   bias);
        if (i == 4) attention = at;
        at += bytes;
    }
    expect(size == 8 + length + at && length % 8 == 0, "%zu bytes", size);
    for (int i = 0; i < 8 * 24; i++) {
        float x;
        memcpy(&x, numbers + attention + 4 * i, 4);
        expect(x == (float)m->w.qkv_w[i % 24 * 8 + i / 24], "number %d of c_attn is %g", i, x);
    }
    free(shell("mkdir cut; cp hf/*.json hf/merges.txt cut"));
    for (int k = 0; k < 2; k++) {
        text_print(&head[k], "}");
        length = head[k].size - 8;
        memcpy(head[k].bytes, &length, 8);
        write_file(text_of("cut/model-%d.safetensors", k), head[k].bytes, head[k].size,
                   data[k].bytes, data[k].size);
        free(head[k].bytes), free(data[k].bytes);
    }
    write_file("cut/model.safetensors.index.json", index.bytes, index.size, "}}", 2);
    expect_run("prepare import cut --out rt; cmp m rt && rm rt* && echo same", "same\nstatus 0",
               NULL);
    for (int i = 0; i < 3; i++)
        expect_run(text_of("cd cut; sed '%s' m*.json >x.json; prepare import x.json --out rt",
                           bad[i][0]), bad[i][1], "status 1", NULL);
    expect_run("cp cut/model-0.safetensors cut/model-1.safetensors; prepare import cut --out rt",
               "error: cut/model.safetensors.index.json: tensor 'wte.weight' is there twice",
               "status 1", NULL);
    free(shell("rm -r cut")), free(file), free(index.bytes), model_free(m);
    outcome("16 tensors; 2 files, 4 bad indexes");
}

/* What is exported and imported again is the same file, for the model and the vocabulary; a head
 * that is wte is accepted; a folder without a vocabulary says so. */
void test_export_import(void)
{
    bad_folder();
    write_head("hf/same_head", 0);
    expect_run("prepare import m --bf16 --out m16 >log.txt; "
               "for b in '' --bf16; do f=m${b:+16}; prepare export $f --tokenizer t $b --out rt; "
               "prepare import rt $b --out rt.bin; cmp $f rt.bin && cmp t rt_tokenizer.bin && "
               "echo same; rm -r rt*; done >>log.txt; grep -c same log.txt", "2\nstatus 0", NULL);
    expect_run("prepare export m --tokenizer t --out new; mv hf/same_head new; rm new/vocab.json; "
               "prepare import new/same_head --out rt; cmp m rt && echo same; "
               "prepare import new --out rt; rm -r rt* m16 new", "\nsame\n",
               "no vocabulary is imported", "status 0", NULL);
    expect_run("mkdir other; cp hf/model.safetensors other; for change in gpt2/bert "
               "gelu_new/relu 1e-05/1e-06 '_embd\": 8/_embd\": 9' 'n_head/n_inner\": 9, \"n_head'; "
               "do sed \"s/$change/\" hf/config.json >other/config.json; prepare import other "
               "--out rt; done; rm -r other", "model_type: expected gpt2, found bert",
               "activation_function: expected gelu_new, found relu", "expected 1e-5, found 1e-06",
               "n_embd: expected 8, found 9", "n_inner: expected 32, found 9", NULL);
    outcome("fp32, bf16, with a head; 5 other configs are refused");
}

/* The text of the token file x_train.bin, x_val.bin, ..., with targets of examples in braces. */
Text set_text(const char *x, const char *side, const Tokenizer *t)
{
    Tokens tokens = tokens_read(scratch(x), side, t->count);
    Encoded e = {allocate(tokens.count, sizeof *e.ids), allocate(tokens.count, 1), tokens.count, 0};
    for (size_t i = 0; i < e.size; i++) e.ids[i] = tokens.ids[i];
    if (tokens.loss_mask) memcpy(e.loss_mask, tokens.loss_mask, e.size);
    Text text = marked_text(t, e);
    free(e.ids), free(e.loss_mask), tokens_free(&tokens);
    return text;
}

/* Whole documents on one side or the other, the share asked for; --val 0 trains on all, and the
 * old validation file, which is now training data, goes. */
void test_documents(void)
{
    static const struct { const char *options; int documents, held_out; } cases[] = {
        {"documents.txt --val 0.3 --seed 1", 20, 6}, {"documents.txt --val 0.3 --seed 2", 20, 6},
        {"documents.txt --val 0", 20, 0}, {"one.txt --val 0", 1, 0}};
    bad_folder();
    Tokenizer *t = tokenizer_read(scratch("t"));
    Text text = {0};
    for (int k = 0; k < 20; k++)
        text_print(&text, "\n number %d, and a comma \n" END_OF_TEXT "\n", k);
    write_text("documents.txt", text.bytes);
    free(shell("head -n 2 documents.txt > one.txt"));
    unsigned last = 0;
    for (int i = 0; i < 4; i++) {
        const char *options = cases[i].options;
        expect_run(text_of("prepare text %s --tokenizer t --out x", options), "status 0", NULL);
        Text train = set_text("x", "train", t), val = {0};
        if (tokens_exist(scratch("x"), "val")) val = set_text("x", "val", t);
        size_t size = train.size + val.size;
        unsigned held = 0;
        for (int k = 0; k < cases[i].documents; k++) {
            const char *document = text_of(END_OF_TEXT "number %d, and a comma", k);
            unsigned in = val.size && strstr(val.bytes, document);
            expect(in != (strstr(train.bytes, document) != NULL), "%s: document %d", options, k);
            size -= strlen(document), held |= in << k;
        }
        expect(size == 0, "%s: %zd bytes too many", options, size);
        expect(__builtin_popcount(held) == cases[i].held_out && (held != last || !held) &&
               !held == !val.size, "%s: validation %x after %x", options, held, last);
        last = held, free(train.bytes), free(val.bytes);
    }
    free(shell("rm x_*")), free(text.bytes), tokenizer_free(t);
    outcome("20 documents");
}

/* With a curl that loses the connection after each 9000 bytes: it is called again, only for https,
 * until the file is whole; another model than the one asked for is refused. */
void test_download(void)
{
    bad_folder();
    mkdir(scratch("bin"), 0777);
    write_text("bin/curl",
        "#!/bin/sh\necho \"$*\" >> curl.txt\nwhile [ \"$1\" != --output ]; do shift; done\n"
        "n=$(cat \"$2\" 2>/dev/null | wc -c)\n"
        "tail -c +$((n + 1)) hf/model.safetensors | head -c 9000 >> \"$2\"\n"
        "cmp -s hf/model.safetensors \"$2\" || exit 18\n");
    expect_run("chmod +x bin/curl; PATH=$PWD/bin:$PATH prepare gpt2 --out got; "
               "grep -c -e '--proto =https' curl.txt; "
               "cmp got.safetensors hf/model.safetensors && echo whole; rm -r bin got.*",
               "expected 12 layers, found 1\n2\nwhole\n", NULL);
    outcome("2 calls of curl");
}

/* `make clean` and `make debug`, in a folder with a user's models and data: these stay. */
void test_make(void)
{
    const char *output = run_line(
        "command -v make >/dev/null || { echo none; exit; }; mkdir mk mk/out mk/data; "
        "cp \"$here\"/Makefile mk; cd mk; touch train_gpt data/shop_train.bin tokenizer.c "
        "train_gpt.c prepare.c test_gpt.c out/best.bin data/my_train.bin data/my_val.bin; "
        "unset MAKEFLAGS MAKELEVEL; make -s clean CC=true; make -s debug CC=true >log; "
        "echo $(find data out train_gpt -type f 2>/dev/null | sort); rm -r ../mk");
    if (!strcmp(output, "none\n")) skip("make is not there");
    else expect(strstr(output, "data/my_train.bin data/my_val.bin out/best.bin\nstatus") != NULL,
                "left: %s", output);
}
/* ---- examples: rows of all kinds of files, findings, the split, copies ---- */

#define MINI "--tokenizer \"$here\"/data/mini_tokenizer.bin "
static Tokenizer *mini;                                       /* the bundled small vocabulary */
static int drop_kind = NOTES;                                 /* of findings: drop their rows */

/* Read a scratch file with this text, with no finding from before, and examine its rows. */
Examples examples_of(const char *name, const char *text, size_t size)
{
    Examples x = {0};
    static char path[200];
    snprintf(path, sizeof path, "%s", scratch(name));
    if (!mini) mini = tokenizer_read("data/mini_tokenizer.bin");
    prep.context = 64, prep.seed = 1, memset(prep.drop, 0, sizeof prep.drop);
    prep.drop[drop_kind] = drop_kind != NOTES;
    for (int f = 0; f < FINDING_COUNT; f++) {
        for (int n = 0; n < SHOWN; n++) free(findings[f].shown[n]), findings[f].shown[n] = NULL;
        findings[f].count = 0;
    }
    write_file(name, text, size, "", 0);
    read_examples(&x, path);
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
        free(row.bytes);
    }
    expect(found.size && !strcmp(found.bytes, rows), "%s: read as %s", name, found.bytes);
    free(found.bytes);
}

/* One row of every kind of finding; ~ is not part of the file, but marks the column. */
#define SAYS(role, content) "{'role':'" role "','content':" content "}"
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
        const char *where = mark ? text_of("line %d, column %d: ", line, before + 1)
                                 : text_of("line %d: ", line);
        const char *file = text_of(" \n%.*s%s", before, text, mark ? mark + 1 : "");
        Examples x = examples_of("golden.jsonl", file, strlen(file));
        for (int f = 0; f < FINDING_COUNT; f++)
            expect(findings[f].count == (f == finding), "%s: found %d times in %s",
                   findings[f].what, findings[f].count, text);
        const char *said = findings[finding].shown[0];
        expect(said && strstr(said, where) && strstr(said, golden[i].message),
               "expected '%s%s', found '%s'", where, golden[i].message, said);
        expect(x.errors == (findings[finding].kind == ERRORS), "%s: is it an error?", text);
        examples_free(&x);
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
        drop_kind = NOTES;
        expect(findings[CONFLICT].count == 3, "%d conflicts", findings[CONFLICT].count);
        expect(findings[REPEATED].count == 1, "%d equal rows", findings[REPEATED].count);
        char **said = findings[CONFLICT].shown;
        for (int n = 0; n < 3; n++)                           /* each names a row that differs */
            expect(said[n] && said[n][strlen(said[n]) - 1] == "212"[n], "%s", said[n]);
        for (int i = 0; i < 4; i++)
            expect(x.row[i].dropped == (cases[k].kept[i] == '0'), "row %d, case %d", i, k);
        examples_free(&x);
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

void read_only(void *path) { read_examples(&(Examples){0}, path); }
void test_files(void)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *name = files[i].name, *rows = files[i].rows, *said;
        const char *error = json_text(files[i].error);
        char *text = (char *)json_text(files[i].text);
        size_t size = strlen(text);
        for (size_t k = 0; k < size; k++) if (text[k] == '~') text[k] = 0;
        prep.columns = files[i].columns;
        write_file(name, text, size, "", 0);
        said = error_of(read_only, (void *)scratch(name));
        expect(!*said == (rows != NULL), "%s: %s", name, said);
        if (!*said && rows) {
            Examples x = examples_of(name, text, size);
            expect_rows(&x, name, json_text(rows));
            expect(x.errors == (*error != 0), "%s: %d errors", name, x.errors);
            for (int f = 0; f < FINDING_COUNT; f++)
                if (findings[f].kind == ERRORS && findings[f].count) said = findings[f].shown[0];
            examples_free(&x);
        }
        prep.columns = NULL;
        expect(!*said == !*error && strstr(said, error), "%s: %s", name, said);
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
        const char *value[] = {text_of(texts[i % 4], i), i % 2 ? "good" : "bad", text_of("%d", i),
                               text_of("%d", 1 + i % 2)};
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
        if (i == from.size) return free(from.bytes), to;
    }
}

void test_published(void)
{
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        Text file = shape_text(s, 0), expected = shape_text(s, 1);
        prep.columns = shapes[s].columns;
        if (shapes[s].wide) file = utf16_from_utf8(file, shapes[s].wide == 2);
        write_file(shapes[s].name, file.bytes, file.size, "", 0);
        const char *error = error_of(read_only, (void *)scratch(shapes[s].name));
        expect(!*error, "%s", error);
        if (*error) break;
        Examples x = examples_of(shapes[s].name, file.bytes, file.size);
        expect_rows(&x, shapes[s].name, expected.bytes);
        expect(!x.errors && strstr(x.files.bytes, json_text(shapes[s].says)), "%s: said '%s'",
               shapes[s].name, x.files.bytes);
        examples_free(&x), free(file.bytes), free(expected.bytes);
    }
    prep.columns = NULL;
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
    free(text.bytes);
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
        examples_free(&x);
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
        free(x.label), x.held = x.copies = 0;
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
            example_free(e);
        }
    }
    expect(x.moved > 1000, "%d moved", x.moved);
    examples_free(&x), prep.augment[TYPOS] = 0;
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
            example_free(&copy);
        }
        expect(copies > 150, "%d copies", copies);
        examples_free(&x);
    }
}

/* Answers as cells of the report: control characters move no column, and an answer of 41 bytes is
 * cut to 39, not in the middle of a character. */
void test_report_cells(void)
{
#define NINE "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
    Text text = {0};
    for (int i = 0; i < 9; i++)
        text_print(&text, PAIR("%d", " %s"), i, i < 4 ? "a\\tb\\nc" : "x" NINE NINE "\u00e9\u00e9");
    write_text("cells.jsonl", json_text(text.bytes));
    expect_run("prepare examples cells.jsonl --out cells " MINI "; cat cells_report.jsonl",
               "[\"a?b?c\",\"4\",\"44.4%\",", "[\"x" NINE NINE "\u00e9\",\"5\",", "status 0", NULL);
    free(text.bytes);
}

/* The report's counts are those of the token files. */
void test_report_counts(void)
{
    Examples x = random_examples(9, 3, 40);
    size_t size;
    int examples = 0, copies = 0, dropped = 0;
    expect_run("prepare examples random.jsonl " MINI "--context 200 --out random "
               "--augment-case 0.5 --drop-near --val 0.2", "near duplicate", "status 0", NULL);
    char *report = read_file(scratch("random_report.jsonl"), &size);
    for (int s = 0; s < 2; s++) {
        Tokens t = tokens_read(scratch("random"), s ? "val" : "train", mini->count);
        int before = examples, targets = 0;
        for (size_t i = 0; i < t.count; i++)
            examples += i && t.ids[i] == mini->end_of_text, targets += t.loss_mask[i];
        const char *row = text_of("[\"%s\",\"%d\",\"%zu\",\"%d\"]", s ? "validation" : "training",
                                  examples - before, t.count, targets);
        expect(strstr(report, row) != NULL, "%s is not in %.600s", row, report);
        tokens_free(&t);
    }
    const char *note = strstr(report, "300 rows read, 0 with errors, ");
    if (note) sscanf(note + 30, "%d left out. %d changed", &dropped, &copies);
    expect(dropped > 20 && copies > 50 && examples == ROWS - dropped + copies,
           "%d examples, %d dropped, %d copies", examples, dropped, copies);
    free(report), examples_free(&x);
}

/* Files of one data set are replaced together or not at all. In the second of three runs a folder
 * is where train.bin should be: val.bin must stay as it was. */
void test_replaced_together(void)
{
    Examples x = random_examples(9, 3, 5);
    expect_run("run() { prepare examples random.jsonl --out group --seed $1 " MINI ">log.txt 2>&1; "
               "echo $?; }; sum() { cat group_*.bin | cksum; }; run 1; first=$(sum); "
               "mv group_train.bin kept; mkdir group_train.bin; run 2; rmdir group_train.bin; "
               "mv kept group_train.bin; [ \"$(sum)\" = \"$first\" ] && echo same; run 2; "
               "[ \"$(sum)\" = \"$first\" ] || echo others", "0\n1\nsame\n0\nothers\n", NULL);
    examples_free(&x);
}

/* --test: its rows and no others are in NAME_test.bin; those of training in it are reported, and a
 * run without --test removes the file. */
void test_test_file(void)
{
    if (!mini) mini = tokenizer_read("data/mini_tokenizer.bin");
    write_text("train.csv", "text,label\none two three four five six seven eight,a\nb b,b\nc c,a\n"
                            "d d,b\ne e,a\nf f,b\ng g,a\nh h,b\ni i,a\nj j,b\n"
                            "string,d\nl l,a\n");
    write_text("test.csv", "label,text\na,zero one two three four five six seven eight\nb,b b\n"
                           "a,new\nz,k k\nb,\n");
    for (int drop = 1; drop >= 0; drop--) {
        expect_run(text_of("prepare examples train.csv --test test.csv --out tested " MINI
                           "--drop-errors%s", drop ? " --drop-near --drop-duplicates" : ""),
                   "  training          11 ", "  validation         1 ",
                   "equal to a row of training: test.csv, line 3: of train.csv, line 3",
                   "like a row of training: test.csv, line 2: 88% the same",
                   "answer is not in training: test.csv, line 5", "17 rows read, 1 with errors, ",
                   "answer of one row only: train.csv, line 12", "status 0", NULL);
        Text text = set_text("tested", "test", mini);
        expect(!strcmp(text.bytes, drop ? "<|endoftext|>new{ a<|endoftext|>}k k{ z<|endoftext|>}" :
               "<|endoftext|>zero one two three four five six seven eight{ a<|endoftext|>}b b{ b"
               "<|endoftext|>}new{ a<|endoftext|>}k k{ z<|endoftext|>}"), "tests: %s", text.bytes);
        free(text.bytes);
    }
    expect_run("prepare examples train.csv --val 0 --out tested --model $here/data/mini.bin "
               MINI "; echo tested_*.bin", "steps of 4 x ", "epochs with --recompute ",
               "tested_train.bin\nstatus 0", NULL);
}

/* ---- judging: labels, shots, intervals, right answers, tables, search, the report ---- */

enum { JUDGED_LABELS = 40 };                                  /* too many for a matrix */

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
    tokens_free(&docs);
}

/* Write a model of the shape of m, but for its V tokens, with first values. */
void write_model(const char *name, int V)
{
    Model *m = model_new((Config){.T = 16, .V = V, .L = 1, .NH = 2, .C = 8, .Vp = V + 84});
    model_initialize(m, 77);
    model_write(m, scratch(name), 0);
    model_free(m);
}

/* Beside the files of bad_folder(): examples x, the same without a training set y, z with a third
 * set; models m2, and m290 of a smaller vocabulary; pairs of texts, and questions. */
void judged_folder(void)
{
    static int done;
    bad_folder();
    if (done++) return;
    labelled_file("x_train.bin", 4 * JUDGED_LABELS, JUDGED_LABELS, 5);
    labelled_file("x_val.bin", 40, 10, 6), labelled_file("y_val.bin", 40, 10, 6);
    labelled_file("z_val.bin", 8, 4, 1), labelled_file("z_test.bin", 12, 4, 2);
    write_tokens("f_val.bin", (uint16_t[40]){1}, NULL, 40);
    write_model("m2", 300), write_model("m290", 290);
    write_text("pairs.jsonl", json_text("{'a':'a in','b':'rest or','group':'one'}\n\n"
                                        "{'a':'set on','b':'no','group':'two'}\n"));
    write_text("asked.jsonl", json_text(
        "{'messages':[" SAYS("user", "'in'") "," SAYS("assistant", "'no'") "],'kind':'a',"
        "'expect':{'must_not':['zzzz']}}\n"
        "{'prompt':'rest or','completion':' no','kind':'b','expect':{'must':['zz|zy']}}\n"
        "{'prompt':'or','completion':' no','kind':'a','expect':{'must_not':['z']}}\n"
        "{'prompt':'set','completion':' the best','kind':'b'}\n"));
}

/* Set the options of a command to their defaults, but for the words given. */
void set_options(char letter, int count, char **words)
{
    expect(options_parse(options, letter, "", count, words) == 0, "words that are no options");
}
#define OPTIONS(letter, ...) \
    set_options(letter, sizeof((char *[]){__VA_ARGS__}) / sizeof(char *), (char *[]){__VA_ARGS__})

/* The labels are those of training, in any number; --limit draws; free answers are no labels. */
void test_label_sets(void)
{
    judged_folder();
    for (int y = 0; y < 2; y++) {
        OPTIONS('e', "--model", (char *)scratch("m"), "--tokenizer", (char *)scratch("t"),
                "--data", (char *)scratch(y ? "y" : "x"), "--limit", y ? "39" : "15");
        Evaluation e = models_load();
        int first = 1, labels = y ? 0 : JUDGED_LABELS;
        held_out_load(&e);
        expect(e.labels.count == labels, "%d labels of %d", e.labels.count, labels);
        expect(e.n == (y ? 39 : 15) && e.train_n == 4 * labels, "%d and %d rows", e.n, e.train_n);
        for (int i = 0; i < e.n && e.labels.count; i++) {
            first &= e.item[i].ids < e.val.ids + 100;
            expect(e.item[i].ids[e.item[i].answer] == 65 + e.truth[i], "another label: %d", i);
        }
        expect(y || !first, "--limit takes the first examples");
        model_free(e.model[0]), tokenizer_free(e.t), tokens_free(&e.val), tokens_free(&e.train);
        free(e.train_item), free(e.labels.truth), free(e.labels.label);
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
    judged_folder();
    Model *m = model_read(scratch("m"));
    Tokenizer *v = tokenizer_read(scratch("t"));
    Json *pairs = records_read("", scratch("pairs.jsonl"), 1);
    OPTIONS('e', "--batch", "4");
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
        batch_free(&batch), free(ids);
    }
    bound("log p(a) - log p(b)", fabs(gap[0] - (loss[1] - loss[0])), 1e-4);
    for (int i = 0; i < t.count; i++) free(t.cells[i]);
    free(t.cells), json_free(pairs), tokenizer_free(v), model_free(m);
}

/* Shots: a prompt by hand, and as many whole shots as fit with prompt, answer and every label. */
void test_shots(void)
{
    judged_folder();
    OPTIONS('p', "--seed", "3");
    uint16_t text[] = {299, 10, 11, 65, 299, 20, 66, 299, 30, 31, 32, 67, 299};
    Item d[] = {{text, 4, 3, 1}, {text + 4, 3, 2, 1}, {text + 7, 5, 4, 1}};
    Labels labels = {.count = 3, .label = d};
    Tokenizer *t = tokenizer_read(scratch("t"));
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
        free(s.used);
        double mean = shots_fit(&s, d, 1, &labels, T_before);
        int k = s.used[0];
        expect(mean == k && (k == 0 || s.end[k] + 3 + 9 <= T_before) &&
               (k == 3 || s.end[k + 1] + 3 + 9 > T_before), "T %d: %d shots", T_before, k);
        if (k == 2 && !T) T = T_before;
    }
    free(s.used);
    shots_fit(&s, d, 1, &labels, T);                           /* two shots, a prompt, an answer */
    Tokens docs = documents_new("by hand", t);
    document_add(&docs, shots_before(&s, 0), &d[0], &d[0]);
    size = s.end[2];
    uint16_t end[] = {10, 11, 65, 299};
    expect(docs.count == (size_t)size + 5 && !memcmp(docs.ids, hand, 2 * size + 2) &&
           !memcmp(docs.ids + size + 1, end, sizeof end), "the document is not as made by hand");
    for (size_t i = 0; i < docs.count; i++)
        expect(docs.loss_mask[i] == (i + 2 >= docs.count), "mask of token %zu", i);
    tokens_free(&s.text), tokens_free(&docs), tokens_free(&gap), tokenizer_free(t);
    free(s.end), free(s.used), free(order);
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
    for (int i = 0; i < t.count; i++) free(t.cells[i]);
    free(t.cells);
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
    for (int i = 0; run[i].name; i++) free(run[i].name), free(run[i].value);
    free(run), free(none), free(pays), free(unpaid), free(unknown);
}

/* eval names both models and measures each as it does alone; compare's gains are the differences of
 * its rows. */
void test_both_models(void)
{
    judged_folder();
    expect_run("prepare eval --model m --tuned m2 --tokenizer t --data x --out new >both.txt; "
               "cat both.txt", "40 held-out examples", "too many for a table",
               "those of the training data", "status 0", NULL);
    expect_run("prepare eval --model m --tokenizer t --data y --out new", "confusion of m\n  truth",
               "the labels are those of these rows\n", "status 0", NULL);
    expect_run("alone=$(prepare eval --model m2 --tokenizer t --data x --out new | "
               "sed -n 's/.*loss, nats a token *\\(.*]\\).*/\\1/p'); echo \"$alone\"; "
               "grep -cF \"]     $alone\" both.txt", ", ", "]\n1\nstatus 0", NULL);
    expect_run("prepare compare --model m --tuned m2 --tokenizer t --data x --shots 0,1 --out new "
               "--tokens 2", "status 0", NULL);
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
    json_free(table);
}

/* What is finished is not run again; what has other settings or data is. */
void test_search(void)
{
    static const char *const cases[][2] = {{"", "\n1\n"}, {"", "\n0\n"},
        {"--decay 0.2", "have changed"}, {"--decay 0.2", "have changed"}};
    judged_folder();
    for (int i = 0; i < 4; i++) {
        if (i == 3) labelled_file("x_train.bin", 4 * JUDGED_LABELS, JUDGED_LABELS, 7);
        expect_run(text_of("prepare search --model m --tokenizer t --data x --steps 1 --warmup 0 "
                           "--show 0 --lr 1e-3,1e-2 --out found %s >s.txt 2>&1; cat s.txt; "
                           "grep -c '=== lr=1e-2' s.txt", cases[i][0]),
                   cases[i][1], i == 1 ? "\n0\n" : "\n1\n", "the best model: found/best.bin", NULL);
    }
    expect_run("prepare search --model m --tokenizer t --data x --steps 1 --warmup 0 --show 0 "
               "--lr 1e-3,1e-2 --decay=0,0.2 --out both; ls both | grep -c lr=",
               "=== lr=1e-3_decay=0.2\n", "=== lr=1e-2_decay=0\n", "\n4\nstatus 0", NULL);
}

/* A page of hostile records: no byte of them is taken for HTML. Its losses hardly differ. */
void test_report(void)
{
    static const char evil[] = "</pre><script>alert('1')</script>\"&\x7f";
    static const char json[] = "</pre><script>alert('1')</script>\\\"&\\u0007\x7f\\u001b[1m";
    judged_folder();
    mkdir(scratch("new"), 0777), mkdir(scratch("new/evil"), 0777);
    write_text("new/evil/run.txt", text_of("command = %s\ndata = %s\n%s = 1\n", evil, evil, evil));
    write_text("new/evil/eval.jsonl", text_of(
        "{\"title\":\"%1$s\",\"kind\":\"%1$s\",\"note\":\"%1$s\",\"columns\":[\"%1$s\",\"b\"],"
        "\"rows\":[[\"%1$s\",\"%1$s\"],[\"x\",3]]}\nno JSON\n", json));
    write_text("new/evil/samples.jsonl", text_of(
        "{\"when\":\"before\",\"prompt\":\"%1$s\",\"text\":\"%1$s\",\"target\":\"%1$s\"}\n"
        "{\"when\":\"after\",\"prompt\":\"%1$s\",\"text\":\"%1$s\",\"wanted\":\"%1$s\"}\n", json));
    write_text("new/evil/log.csv", text_of("%s\n0,0,0,,1.0000000000000002,0,0,0,0\n"
                                           "1,0,64,1,1,1e-3,1,9,1\n2,0,", log_header));
    expect_run("timeout 5 prepare report new/evil", "status 0", NULL);
    char *page = record_read(scratch("new/evil"), "report.html");
    int shown_as = 0;
    for (const char *c = page; c && *c; c++) {
        expect(*c != 0x7f && (*c & 0x80 || *c >= ' ' || *c == '\n'), "the page has a control byte");
        shown_as += !strncmp(c, "&#60;/pre&#62;&#60;script&#62;alert(&#39;1&#39;)", 48);
    }
    expect(page && !strstr(page, "<script") && !strstr(page, "alert('"), "markup is on the page");
    expect(shown_as == 13, "the text is shown %d times", shown_as);
    free(page);
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
        free(fault), free(empty);
    }
    json_free(rows);
    outcome("%d answers fulfil what their rows expect", n);
}

/* Answers by several threads are those of one model; the command's shares, errors and records. */
void test_questions(void)
{
    judged_folder();
    OPTIONS('e', "--model", (char *)scratch("m"), "--tokenizer", (char *)scratch("t"),
            "--questions", (char *)scratch("asked.jsonl"), "--tokens", "9");
    Evaluation e = models_load();
    Answers a = {0};
    held_out_load(&e);
    use_threads(3);
    answers_generate(&a, e.model[0], &e, NULL);
    use_threads(1);
    for (int i = 0; i < 4; i++) {
        Query alone = query_new(&e.item[i], NULL, 9, "\nUser:");
        query_answer(e.model[0], e.t, &alone);
        expect(!strcmp(a.answer[i], alone.answer) && a.ratio[EXACT].numerator[i] == (i % 2 == 0),
               "answer %d is '%s', alone '%s', right %g", i, a.answer[i], alone.answer,
               a.ratio[EXACT].numerator[i]);
        free(alone.answer), free(a.answer[i]);
    }
    expect_run("train_gpt eval --model m --tuned m --tokenizer t --questions asked.jsonl "
               "--tokens 9 --errors --out new", "asked.jsonl: 4 held-out examples",
               "\n  a             2  1.000 [1.000, 1.000]  1.000",
               "\n  b             2  0.000 [0.000, 0.0", "\n  all           4  0.500 [0.000, 1.0",
               "missing: \"zz|zy\"", "expected: the best", "2 of 4 are wrong", "status 0", NULL);
    Json *rows = records_read(scratch("new"), "answers.jsonl", 1);
    int n = 0, right = 0;
    for (const Json *r = rows; r; r = r->next, n++) {
        right += json_get(r, "right")->type == 't';
        expect(string_of(r, "got") && string_of(r, "prompt") && string_of(r, "wanted") &&
               json_get(r, "probability")->number < 1, "record %d", n);
    }
    expect(n == 8 && right == 4, "%d records, %d of them right", n, right);
    json_free(rows), free(e.train_item), free(e.question), free(a.answer);
    tokens_free(&e.val), tokenizer_free(e.t), model_free(e.model[0]);
}

/* The answer to a line of --jsonl is drawn by --seed and does not depend on the other lines. */
void test_line_seeds(void)
{
    judged_folder();
    expect_run("say() { printf '\"%s\"\\n' $* | train_gpt generate --model m --tokenizer t --jsonl "
               "--temperature 1 --top-p 1 --tokens 8 | sort; }; say in or set >1.txt; "
               "say set in or | cmp - 1.txt && grep -c completion 1.txt", "3\nstatus 0", NULL);
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
    for (int i = 0; i <= N; i++) free(text[i]);
    free(W), free(x.word), free(x.value), free(x.numbers.entry);
}

/* The third set is measured by --test alone, and named, by either program. */
void test_third_set(void)
{
    judged_folder();
    expect_run("prepare eval --model m --tokenizer t --data z --test --out new; "
               "prepare eval --model m --tokenizer t --data z --limit 5 --out new; "
               "mkdir -p alone; cp \"$here\"/train_gpt alone; "
               "alone/train_gpt eval --model m --tokenizer t --data z --test; "
               "alone/train_gpt eval --model m --tokenizer t --data z --tuned m2; rm -r alone",
               "z_test.bin: 12 held-out examples\n", "make builds it",
               "z_val.bin: 5 of 8 held-out examples, drawn at random\n",
               "m on z_test.bin: 12 examples", NULL);
}

#define ASK "prepare eval --model m --tokenizer t --questions "

/* Rows of questions that are refused. */
void test_bad_questions(void)
{
    static const char *const rows[][2] = {
        {"", "holds no questions"}, {"{'prompt':'a'}", "row 1: expected \"mess"},
        {CHAT("[" SAYS("user", "'a'") "]"), "row 1: expected \"mess"},
        {CHAT("[" SAYS("assistant", "'b'") "," SAYS("user", "'a'") "]"), "row 1: expected \"mess"},
        {PAIR("a", " "), "row 1: expected \"mess"},
        {"{'prompt':'a','completion':'b','expect':{}}", "row 1: expected \"exp"},
        {"{'prompt':'a','completion':'b','expect':{'Must':['b']}}", "row 1: expected \"exp"},
        {"{'prompt':'a','completion':'b','expect':{'must':['b|']}}", "row 1: expected \"exp"},
        {"{'prompt':'a','completion':'b','expect':{'must':'b'}}", "row 1: expected \"exp"}};
    judged_folder();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        write_text("q.txt", text_of("%s\n", json_text(rows[i][0])));
        test_bad((Bad[]){{ASK "q.txt", 1, rows[i][1]}, {0}});
    }
    outcome("%zu files", sizeof rows / sizeof *rows);
}

void test_bad_judging(const void *rows) { judged_folder(), test_bad(rows); }

static const Bad bad_judging[] = {
    {"prepare compare --model m --tuned m290 --tokenizer t --data x", 1, "m290: has 290 tokens"},
    {"prepare eval --model m --tuned m290 --tokenizer t --pairs pairs.jsonl", 1, "m290: has 290"},
    {"prepare compare --model m --tuned m2 --tokenizer t --data x --shots 0,a", 2, "found '0,a'"},
    {"prepare compare --model m --tuned m2 --tokenizer t --data y", 1, "y_train.bin"},
    {"prepare compare --model m --tuned m2 --tokenizer t --questions text.txt", 1, "text.txt"},
    {"prepare classify --model m --tokenizer t --labels ''", 2, "an empty label"},
    {"prepare classify --model m --tokenizer t --labels a", 2, "two labels or more"},
    {"prepare classify --model m --tokenizer t --labels a,,b", 2, "an empty label"},
    {"prepare classify --model m --tokenizer t --labels 'a,b, a'", 2, "'a' is there twice"},
    {"prepare search --model m --tokenizer t --data d --lr 1e-3,1e-2 --out new", 1,
     "d_val.bin is not there"},
    {"prepare search --model m --tokenizer t --data x --lr 1e-3 --out new", 2, "several values"},
    {ASK "nowhere", 1, "nowhere"}, {ASK "q --test", 2, "--test and --questions"},
    {ASK "q --pairs q", 2, "alone"},
    {"prepare eval --model m --tokenizer t --data x --test", 1, "x_test.bin is not there"},
    {"prepare eval --model m --tokenizer t --data f --errors", 1, "running text has no answers"},
    {0}};

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
    model_free(m);
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
    batch_free(&b), model_free(m);
}

void reals_too_many(void *count) { allocate_reals(*(size_t *)count); }
void batch_too_large(void *B) { batch_new(*(int *)B, 1 << 15); }
void test_sizes(void)
{
    const char *said = error_of(reals_too_many, &(size_t){SIZE_MAX / sizeof(real) - 1});
    expect(strstr(said, "out of memory") != NULL, "the size of an array overflows: %s", said);
    said = error_of(batch_too_large, &(int){1 << 16});
    expect(strstr(said, "too large: choose a smaller --batch") != NULL, "B * T overflows");
}

/* The best loss that a run has told. */
double best_loss(const char *run)
{
    return strtod(run_line(text_of("sed -n 's/^best_loss = //p' %s/run.txt", run)), NULL);
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
        model_free(m);
    }
    batch_free(&batch);
}

/* With --recompute, loss and gradients are the same bits, in less memory. */
void test_recompute(void)
{
    Dropout d = {(real)0.1, (real)0.1, (real)0.1, 0, 5};
    Batch b = random_batch(2, small.T, small.V, 3);
    Config three = small;
    three.L = 3;
    for (int frozen = 0; frozen <= 2; frozen++) {
        Model *m = random_model(three, INFERENCE, 2, 0);
        Model *kept = random_model(three, TRAINING, 2, frozen);
        m->recompute = 1;
        model_prepare(m, TRAINING, 2, small.T, frozen);
        double loss = model_loss(m, &b, d, 0.1, 1), loss_kept = model_loss(kept, &b, d, 0.1, 1);
        expect(loss == loss_kept, "%d frozen: loss %g, not %g", frozen, loss, loss_kept);
        expect(!memcmp(m->g.wte, kept->g.wte, m->count * sizeof(real)), "another gradient");
        double saved = training_memory(kept, 2, small.T).all - training_memory(m, 2, small.T).all;
        size_t each = (9 * small.C + 4 + small.NH) * 2 * small.T * sizeof(real);
        bound("bytes", fabs(saved - each * (2 - frozen)), 1000);
        model_free(m), model_free(kept);
    }
    batch_free(&b);
}

/* The loss on v of the small model m with adapters, merged into it or beside it. */
double adapted_loss(const char *adapter, int merged)
{
    Model *m = model_read(scratch("m"));
    adapter_read(m, scratch(adapter));
    if (merged) model_merge(m);
    return loss_on_v(m, 16);
}

/* A run with --lora writes adapters, which give what the run has told, merged or not. Damaged ones,
 * those of another model, and adapters in place of a model are refused. */
void test_run_lora(void)
{
    static const struct { int at, value, cut; const char *says; } bad[] = {
        {0, 1, 0, "file of adapters"}, {4, 2, 0, "version 2"}, {16, 2, 0, "2 layers"},
        {32, 1, 0, "another model of this shape"}, {44, 0x7ff00000, 0, "alpha inf"},
        {48, 0, 0, "rank 0"}, {48, 3, 0, "bytes of numbers"}, {52, 16, 0, "matrices 16"},
        {52, 7, 0, "bytes of numbers"}, {1024, 0x7fc00000, 0, "number 0 of qkv_A is nan"},
        {4, 1, 4, "bytes of numbers"}, {4, 1, 1800, "too few"}};
    static const char *const options[][2] = {
        {"--lora 2 --lora-on fc,proj", "expected some of qkv"},
        {"--resume --lora 1 --changed", "another kind"},
        {"--resume --lora 2 --lora-alpha 8", "lora-alpha was '16', is '8'"}};
    size_t size;
    expect_run(TINY "v --out r9 --steps 6 --lr 3e-2 --eval-every 2 --lora 2 --show 1 --lora-on "
               "fcproj,qkv,fc,attproj", "after training", "status 0", NULL);
    double best = best_loss("r9");
    for (int merged = 0; merged < 2; merged++)
        bound("loss", fabs(adapted_loss("r9/best.bin", merged) - best), 2e-6);
    expect(fabs(adapted_loss("r9/model.bin", 0) - best) < 1, "model.bin is another thing");
    char *file = read_file(scratch("r9/best.bin"), &size);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *copied = memcpy(allocate(size, 1), file, size);
        memcpy(copied + bad[i].at, &bad[i].value, 4);
        write_file("a", copied, size - bad[i].cut, "", 0);
        expect_run("train_gpt generate --model m --tokenizer t --adapter a", bad[i].says,
                   "status 1", NULL);
        free(copied);
    }
    free(file);
    for (int i = 0; i < 3; i++)
        expect_run(text_of(TINY "v --out r9 --steps 9 %s", options[i][0]), options[i][1],
                   i ? "status 1" : "status 2", NULL);
    expect_run("prepare eval --model m --adapter r9/best.bin --tokenizer t --questions rows.jsonl "
               "--out new", "m + r9/best.bin", "status 0", NULL);
    judged_folder();
    expect_run("prepare compare --model m --adapter r9/best.bin --tokenizer t --data x --shots 0,1 "
               "--tokens 2 --out new", "base m, tuned m + r9/best.bin", "tuned - base, 1-shot",
               "tuning pays for itself", "status 0", NULL);
    expect_run("train_gpt generate --tokenizer t --model r9/best.bin", "as --adapter", NULL);
    expect_run("train_gpt train --lora 2 --tokenizer t --data v", "expected --model", NULL);
}

/* Adapters that PEFT made are imported; ten steps from them have PEFT's losses. Exported again they
 * are the same, and the merged model is exported with the loss of model and adapters. */
void test_peft(void)
{
    size_t size;
    double norm, first = 0;
    Model *m = reference_model();
    model_write(m, scratch("ref"), 0);
    model_free(m);
    expect_run("prepare import $here/data/adapters --model ref --out pa && "
               "prepare export ref --adapter pa --peft --out peft && "
               "prepare import peft --model ref --out pa2 && cmp pa pa2", "rank 3", "status 0",
               NULL);
    expect_run("sed -i 's/\"use_dora\": false/\"use_dora\": true/' peft/adapter_config.json; "
               "prepare import peft --model ref --out pa2",
               "use_dora: expected false, found true; this kind of adapter", "status 1", NULL);
    if (broken) return;
    m = model_read(scratch("ref"));
    adapter_read(m, scratch("pa"));
    model_prepare(m, TRAINING, reference.B, m->c.T, 0);
    char *text = read_file("data/adapters/losses.txt", &size), *at = text;
    for (int i = 0; i < 10; i++) {
        Recipe r = {no_dropout, 0, usual};
        double loss = model_step(m, reference.batch, 1, &r, i + 1, &norm);
        bound("loss", fabs(loss - strtod(at, &at)), 1e-5);
        if (i == 0) first = loss;
    }
    model_free(m), free(text);
    m = model_load(scratch("ref"), scratch("pa"));
    model_prepare(m, TRAINING, reference.B, m->c.T, 0);
    bound("merged", fabs(model_loss(m, reference.batch, no_dropout, 0, 0) - first), 1e-5);
    model_free(m);
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

/* The losses of 60 steps with moments in bf16 are near those in fp32; on several threads they are
 * the same bits, and so they are with adapters and recompute. */
void test_moments(void)
{
    double loss[2][2][60], norm;
    Recipe r = {{(real)0.1, 0, 0, (real)0.1, 1}, 0, usual};
    Batch b = random_batch(2, small.T, small.V, 3);
    r.adamw.beta2 = 0.999;
    for (int lora = 0; lora < 2; lora++)
        for (int bf16 = 0; bf16 < 4; bf16++) {
            Model *m = random_model(small, INFERENCE, 2, 0);
            if (lora) adapt_randomly(m, 15);
            m->bf16_moments = bf16 > 0, m->recompute = lora;
            model_prepare(m, TRAINING, 2, small.T, 0);
            use_threads(bf16 + 1);
            for (int i = 0; i < 60; i++) {
                double *kept = &loss[lora][bf16 > 0][i];
                double got = model_step(m, &b, 1, &r, i + 1, &norm);
                expect(bf16 < 2 || got == *kept, "%d threads: %g, not %g", bf16 + 1, got, *kept);
                *kept = got;
            }
            model_free(m);
        }
    use_threads(1);
    for (int lora = 0; lora < 2; lora++)
        for (int i = 0; i < 60; i++)
            bound("loss", fabs(loss[lora][1][i] - loss[lora][0][i]) / loss[lora][0][0], 0.02);
    expect(loss[0][1][59] != loss[0][0][59], "moments are not in bf16");
    batch_free(&b);
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
    expect_run("timeout 20 train_gpt --model $here/data/mini.bin " MINI "--data $here/data/shop "
               "--batch 65536 --out new", "training needs 8", "--batch or --context, --recompute (",
               "--lora 8 --recompute --precision bf16 (", "status 1", NULL);
    outcome("XL: %.2f GB whole, adapters %.2f", need.all / 1e9, lora.all / 1e9);
}

/* ---- other programs' models: GGUF, tokenizer.json, padded vocabularies ---- */

/* Every number of half precision comes back; what lies between two neighbours becomes the nearer
 * one, and the middle the even one. Behind the largest, 65504, stands infinity. */
void test_f16(void)
{
    for (unsigned h = 0; h < 0x7c00; h++) {
        float x = f16_to(h), next = h == 0x7bff ? 65536 : f16_to(h + 1), middle = (x + next) / 2;
        expect(f16_from(x) == h && f16_from(-x) == (h | 0x8000), "%g is %x", x, f16_from(x));
        expect(f16_from(middle) == h + (h & 1), "%g, a middle, is %x", middle, f16_from(middle));
        expect(f16_from(nextafterf(middle, 0)) == h && f16_from(nextafterf(middle, 1e9)) == h + 1,
               "beside %g: %x", middle, f16_from(nextafterf(middle, 0)));
    }
    expect(f16_from(INFINITY) == 0x7c00 && f16_from(1e30f) == 0x7c00, "infinity is another");
    expect(isnan(f16_to(f16_from(NAN))), "NaN becomes a number");
    outcome("31744 numbers and those between");
}

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
    expect_run(text_of("prepare export %s " MINI "--type %s --out x.gguf", path, name),
               "x.gguf: GGUF, 4096 tokens", "status 0", NULL);
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
                    const char *block = x->layered ? text_of("blk.%d.", l) : "";
                    put_text(&head, text_of("%s%s.%s", block, names[i < 2 ? i : i / 2 + 1],
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
    free(file), free(head.bytes);
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
        gguf_check(m[i % 2], t, i % 2 ? "odd" : "\"$here\"/data/mini.bin", types[i / 2].name,
                   types[i / 2].type, types[i / 2].file_type);
    model_free(m[0]), model_free(m[1]), tokenizer_free(t);
    outcome("2 models in 4 types");
}

/* A folder jf with the model m and the vocabulary t in a tokenizer.json. Copies of m: spare with
 * three more ids, whose logits are often the largest, and large with a number beyond F16. A model
 * wide with 1024 more ids. Data mine of another vocabulary. */
void world_files(void)
{
    static int done;
    if (done++) return;
    bad_folder();
    Model *m = model_read(scratch("m"));
    fill(m->w.wte + 300 * 8, 3 * 8, 30, 5);
    m->stored_V = 303;
    model_write(m, scratch("spare"), 0);
    m->stored_V = 300, m->w.qkv_w[5] = 70000;
    model_write(m, scratch("large"), 0);
    model_free(m);
    write_model("wide", 1324);
    write_tokens("mine_train.bin", (uint16_t[]){1, 2, 299, 3, 299}, "\0\1\1\1\1", 5);
    write_text("before", json_text(
        "{'added_tokens':[{'id':299,'content':'<|endoftext|>'},{'id':300,'content':'[PAD]'}],"
        "'normalizer':null,'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':false},"
        "'model':{'type':'BPE','vocab':"));
    free(shell("mkdir -p jf/py new; cp hf/model.safetensors jf; { cat before hf/vocab.json; "
               "printf ',\"merges\":['; sed '1d; s/ /\", \"/; s/.*/[\"&\"]/; $!s/$/,/' "
               "hf/merges.txt; echo ']}}'; } >jf/tokenizer.json; "
               "sed 's/gelu_new/gelu_pytorch_tanh/' hf/config.json >jf/config.json; "
               "cp jf/config.json jf/py; touch jf/py/pytorch_model.bin m.pt"));
}

/* tokenizer.json is read like the other two files, alone and in a folder, with merges as pairs or
 * texts, and with an end of text that was only added; what else it can say is refused by name. */
void test_tokenizer_json(void)
{
    static const char *const others[][2] = {
        {"s/BPE/Unigram/", "model.type: expected BPE, found Unigram"},
        {"s/'ByteLevel'/'Metaspace'/", "type: expected ByteLevel, found Metaspace"},
        {"s/_space':false/_space':true/", "add_prefix_space: expected false, found true"},
        {"s/'normalizer':null/'normalizer':{'type':'NFC'}/", "expected none, found NFC"},
        {"s/'type':'BPE'/'byte_fallback':true/", "model.byte_fallback: expected false"},
        {"s/'type':'BPE'/'end_of_word_suffix':'_'/", "suffix: expected none, found _"},
        {"s/pre_tokenizer/tokenizer/", "pre_tokenizer.type: expected ByteLevel, found none"},
        {"s/'merges'/'margins'/", "expected the vocab and the merges of BPE"},
        {"5d", "merges, line 5: the ids of the tokens imply the merge"},
        {"s/<|endoftext|>/<s>/g", "expected a token <|endoftext|>"}};
    world_files();
    expect_run("prepare import jf --out j.bin; cmp m j.bin && cmp t j_tokenizer.bin && echo same",
               "jf: the vocabulary is that of tokenizer.json\n", "same\nstatus 0",
               "the added token [PAD] is left out", NULL);
    expect_run("sed 's/^\\[\\(.*\\)\", \"\\(.*\\)\\]/\\1 \\2/; s/, \"<|endoftext|>\": 299}/}/' "
               "jf/tokenizer.json >j_tokenizer.json; grep -c 299 j_tokenizer.json; "
               "prepare import j_tokenizer.json --out j.bin; cmp t j.bin && echo same", "1\n",
               "same\nstatus 0", NULL);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        expect_run(text_of("sed '%s' jf/tokenizer.json >j_tokenizer.json; prepare import "
                           "j_tokenizer.json --out j.bin", json_text(others[i][0])),
                   "error: j_tokenizer.json: ", others[i][1], "status 1", NULL);
    free(shell("rm j*.*"));
    outcome("read in 3 ways, refused in %zu", sizeof others / sizeof *others);
}

/* A model with ids that have no token generates, scores and trains like the one without them, and
 * keeps their rows, bit for bit. */
void test_spare_ids(void)
{
    static const char *const commands[] = {
        "generate $o --tokens 30 --samples 4 --seed 2", "generate $o --tokens 30 --temperature 0",
        "eval $o --data v", ("train $o --data v --batch 1 --steps 9 --lr 1e-2 --warmup 0 --out sp "
                             ">sp.txt; cut -d, -f1-6 sp/log.csv; grep 'after step' sp.txt")};
    world_files();
    for (int i = 0; i < 4; i++)
        expect_run(text_of("o='--tokenizer t --model a'; for f in m spare; do cp $f a; "
                           "{ train_gpt %s; } 2>$f.e >$f.txt; done; cat *.e; cmp m.txt spare.txt "
                           "&& [ $(wc -c <m.txt) -gt 20 ] && echo same", commands[i]),
                   "t: 3 of the model's 303 ids have no token", "same\nstatus 0", NULL);
    expect_run("od -An -td4 -j12 -N4 sp/model.bin; prepare export spare --tokenizer t --out sp; "
               "prepare import sp --out sp.bin; cmp spare sp.bin && cmp t sp_tokenizer.bin && "
               "echo same; prepare export spare --tokenizer t --out sp.gguf", " 303\n", "same\n",
               "300 tokens, vocabulary 303: ids without a token are kept", "GGUF, 300 tokens",
               "status 0", NULL);
    free(shell("rm -r sp sp.* sp_* a *.e"));
    outcome("generated, scored, trained, exported");
}

void test_bad_world(const void *rows) { world_files(), test_bad(rows); }

static const Bad bad_world[] = {
    {GENERATE "wide", 1, "t: has 300 tokens, the model 1324"},
    {"prepare export wide --tokenizer t --out hf2", 1, "t: has 300 tokens, the model 1324"},
    {TRAIN "mine", 1, "mine: begins with token 1, not with the end of text, which is 299"},
    {"prepare import jf/py --out a", 1, "jf/py: only safetensors are read"},
    {"prepare import m.pt --out a", 1, "m.pt: only safetensors are read"},
    {"prepare export m --tokenizer t --out jf", 1, "jf: holds a tokenizer.json"},
    {"prepare export m --tokenizer t --out a --type f16", 2, "--type: expected f32 or bf16"},
    {"prepare export m --tokenizer t --out a.gguf --type q4", 2, "found 'q4'"},
    {"prepare export m --tokenizer t --out a.gguf --type f16 --bf16", 2, "'f16' and --bf16"},
    {"prepare export m --tokenizer t_same --out a.gguf", 1, "spelled alike"},
    {"prepare export m --tokenizer t --out nowhere/a.gguf", 1, "cannot be written"},
    {"prepare export large --tokenizer t --out a.gguf --type q8_0", 1, "70000, too large for F16"},
    {"prepare import m --out new/m" FULL}, {"prepare export m --tokenizer t --out new/hf" FULL},
    {"prepare text text.txt --tokenizer t --out new/t" FULL},
    {0}};

/* The error of a product in bf16, against matmul_plain in fp32 on numbers that were rounded before.
 * Bits 0 and 1 of `kind` transpose an operand, bits 2 and 3 store it in bf16. matmul must give the
 * same bits on 1 to 4 threads. */
double bf16_error(int M, int N, int K, int kind)
{
    size_t size[2] = {(size_t)M * K, (size_t)K * N}, lines[2] = {M, K}, columns[2] = {K, N};
    real *numbers[2], *rounded[2], *c = allocate_reals((size_t)5 * M * N);
    bfloat16 *half[2];
    View in[2], exact[2];
    for (int i = 0; i < 2; i++) {
        int turned = kind >> i & 1;
        size_t ld = turned ? lines[i] : columns[i];
        fill(numbers[i] = allocate_reals(size[i]), size[i], 1, 1 + i);
        rounded[i] = allocate_reals(size[i]), half[i] = allocate(size[i], sizeof(bfloat16));
        for (size_t j = 0; j < size[i]; j++) {
            half[i][j] = bf16_from((float)numbers[i][j]), rounded[i][j] = bf16_to(half[i][j]);
        }
        in[i] = kind >> (2 + i) & 1 ? view_bf16(half[i], ld) : view(numbers[i], ld);
        exact[i] = view(rounded[i], ld);
        if (turned) in[i] = flipped(in[i]), exact[i] = flipped(exact[i]);
    }
    matmul_plain(assign(c, N), exact[0], exact[1], M, N, K);
    bf16_products = kind < 4 || kind & 16;
    for (int team = 1; team < 5; team++) {
        real *to = c + (size_t)team * M * N;
        use_threads(team);
        matmul(assign(to, N), in[0], in[1], M, N, K);
        expect(team == 1 || !memcmp(to, to - (size_t)M * N, (size_t)M * N * sizeof *to),
               "%d x %d x %d, kind %d: other bits on %d threads", M, N, K, kind, team);
    }
    double error = difference(c, c + (size_t)M * N, (size_t)M * N);
    bf16_products = 0, use_threads(1);
    for (int i = 0; i < 2; i++) free_reals(numbers[i]), free_reals(rounded[i]), free(half[i]);
    free_reals(c);
    return error;
}

void test_bf16_matmul(void)
{
    double limit = by_precision(4e-15, 3e-6);
    for (int i = 0; i < 320; i++) {
        int M = i % 3 ? 1 + below(70, 1, i) : 1 + i / 3 % 4, N = 1 + below(70, 2, i);
        int K = 1 + below(70, 3, i), kind = i % 32;
        bound(text_of("%d x %d x %d, kind %d", M, N, K, kind), bf16_error(M, N, K, kind), limit);
    }
    for (int kind = 0; kind < 16; kind++) {                   /* beyond one block, each way */
        bound("K > KC", bf16_error(19, 50, 2 * KC + 37, kind), limit);
        bound("M > MC", bf16_error(MC + 5, 7, 5, kind), limit);
        bound("N > NC", bf16_error(9, NC + 7, 5, kind), limit);
        bound("few rows", bf16_error(2, NC + 7, 171, kind), limit);
    }
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
    for (int i = 0; i < 3; i++) model_free(m[i]);
    batch_free(&b);
}

/* Runs in bf16 end near those in fp32, and the commands that judge, answer and adapt take it. */
void test_bf16_run(void)
{
    double best[4];
    for (int i = 0; i < 4; i++) {
        expect_run(text_of(TINY "v --out r10 --steps 12 --lr 3e-3 --eval-every 4 --show 1%s%s",
                           i & 1 ? " --precision bf16" : "", i & 2 ? " --lora 2" : ""),
                   i & 1 ? "in bf16" : "in fp32", "status 0", NULL);
        best[i] = best_loss("r10");
    }
    for (int i = 0; i < 4; i += 2) {
        bound("loss", fabs(best[i + 1] / best[i] - 1), 5e-3);
        expect(best[i + 1] != best[i], "bf16 is fp32");
    }
    double said = strtod(run_line(
        "prepare eval --model m --adapter r10/best.bin --tokenizer t --data v --context 16 "
        "--out new --precision bf16 2>&- | sed -n 's/.*nats a token//p'"), NULL);
    bound("judged", fabs(said - best[3]), 1e-4);
    expect_run("train_gpt generate --model m --tokenizer t --prompt a --tokens 3 --precision bf16",
               "tok/s", "status 0", NULL);
    expect_run("train_gpt generate --model m --tokenizer t --precision fp16",
               "expected fp32 or bf16", "status 2", NULL);
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
    batch_free(&b), model_free(m), model_free(other), free_reals(s), free(weights);
}

/* The page tells the answer and its probability, those of both models with --compare, and shows a
 * hostile text as text. In the terminal, the numbers of a step agree. */
void test_explain_page(void)
{
    static const char evil[] = "<script>\"'&", shown_as[] = "&#60;script&#62;&#34;&#39;&#38;";
    judged_folder();
    Model *m = model_read(scratch("m"));
    Tokenizer *t = tokenizer_read(scratch("t"));
    Opened o = {.m = m, .t = t};
    o.tokens = prompt_tokens(t, evil, strlen(evil), &o.n);
    size_t size;
    int scripts = 0, texts = 0;
    opened_forward(&o), opened_choose(&o, 1);
    expect_run("train_gpt explain '<script>\"'\\''&' --model m2 --tokenizer t --compare m --out "
               "new.html", "new.html is written", "status 0", NULL);
    char *page = read_file(scratch("new.html"), &size);
    for (char *at = page; *at; at++)
        scripts += !strncmp(at, "<script", 7), texts += !strncmp(at, shown_as, 31);
    expect(scripts == 2 && texts == 2, "%d scripts, the text %d times", scripts, texts);
    const char *parts[] = {
        text_of("<p class='lead'>%.1f%% in m</p>", 100.0 * o.p[o.answer]),
        text_of("'><small class='soft'>head %d</small><br>%.1f%%<", o.head + 1,
                100.0 * o.without[o.head]), text_of("<small>%.2f</small>", m->loss[o.n - 2])};
    static const char *const steps[] = {"res2", "embedding", "res"};
    for (int i = 0; i < 3; i++) {
        expect(strstr(page, parts[i]) != NULL, "no %s", parts[i]);
        double x[3] = {NAN, NAN, NAN};
        sscanf(run_line(text_of("prepare explain hm --model m --tokenizer t --layer %s", steps[i])),
               "%*54c%lf%*[^\n]\n%*54c%lf%*[^\n]\n%*54c%lf", x, x + 1, x + 2);
        bound(steps[i], fabs(x[0] + x[1] - x[2]), 2e-4);
    }
    free(page), model_free(m), tokenizer_free(t);
}

#define EXPLAIN "train_gpt explain --model m --tokenizer t "
static const Bad bad_explain[] = {
    {EXPLAIN, 2, "expected one text in quotes, found 0 words"},
    {EXPLAIN "''", 2, "found an empty one"},
    {EXPLAIN "a b", 2, "found 2 words"},
    {EXPLAIN "'a text of 16 tokens or more, too long'", 1, "context is 16, of which"},
    {EXPLAIN "--compare m290 a", 1, "m290: has 290 tokens"},
    {EXPLAIN "--layer ln3 a", 2, "found 'ln3'"},
    {EXPLAIN "--layer ln1.9 a", 2, "found 'ln1.9'"},
    {EXPLAIN "--out no/page.html a", 1, "cannot be written"},
    {"train_gpt explain a", 1, "data/mini.bin: cannot be opened"},
    {0}};

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
    free(shown);
#else
    skip("this build has one thread");
#endif
}

/* The grading program proves all exercises: the blank fails, the source gets all stars, each
 * mistake its own sentence. Then what a learner reads; a row of marks; an exam, which its solution
 * passes. */
void test_exercises(void)
{
    free(shell("mkdir course && ln -s $here/*.c $here/doc $here/data course"));
    char *text = shell(
        "cd course; build=\"${CC:-cc} -O0 -w -DDOUBLE -I. doc/exercises/grader.c -lm -o\"; "
        "$build grader && ./grader write all.c && $build check -DVARIANTS='\"all.c\"' && "
        "./check check 1 2>&1");
    expect(strstr(text, "exercises, 0 wrong\n") != NULL, "%.300s", text);
    outcome("%.*s", (int)strcspn(text, "\n"), text);
    free(text);
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
    free(text);
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
    free(mark);
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
    free(id);
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
    tokenizer_free(t);
    stories = read_file("data/stories.txt", &size);
    t = tokenizer_read("data/gpt2_tokenizer.bin");
    const char *const words[] = {"hello", " hello", " Hello", "hello  world"};
    for (int i = 0; i < 4; i++) n += worked_ids(a + n, t, words[i]);
    worked("tokens of GPT-2", a, n);
    a[0] = (real)size / worked_ids(NULL, t, stories), a[1] = (real)(3 / log(2) / a[0]);
    tokenizer_free(t);
    t = tokenizer_read("data/mini_tokenizer.bin");
    a[2] = (real)size / worked_ids(NULL, t, stories), a[3] = (real)(2.8 / log(2) / a[2]);
    worked("bits per byte", a, 4);
    tokenizer_free(t), free(stories);
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
        WORKED("prompt or train", atof(strstr(cost, "itself after ") + 13));
        free(cost);
    }
    batch_free(&b), loader_free(&f), tokens_free(&t);
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

void test_worked(void)
{
    course = shell("sed -n '/checked: worked numbers/,/^$/p' \"$here\"/doc/*.md");
    worked_tokens(), worked_forward(), worked_attention(), worked_backward(), worked_training();
    worked_data();
    worked_choices(), worked_speed();
    free(course);
}

/* --limit draws by --seed, the same rows for all measures; in training, whatever the seed. */
void test_limit_seed(void)
{
    judged_folder();
    long begin[3][10];
    for (int k = 0; k < 3; k++) {
        OPTIONS('e', "--model", (char *)scratch("m"), "--tokenizer", (char *)scratch("t"),
                "--data", (char *)scratch("x"), "--limit", "10", "--seed", k == 1 ? "2" : "1");
        Evaluation e = models_load();
        held_out_load(&e);
        Answers a = answers_of(&e, e.model[0], NULL);
        for (int i = 0; i < 10; i++) {
            Tokens one = documents_new("one", e.t);
            document_add(&one, (Tokens){0}, &e.item[i], &e.item[i]);
            Scores alone = score(e.model[0], e.t, &one, 1, e.T, 0, 0);
            bound("loss", fabs(*alone.loss - a.ratio[LOSS].numerator[i]), 1e-4);
            begin[k][i] = e.item[i].ids - e.val.ids;
            free(alone.loss), tokens_free(&one);
        }
        model_free(e.model[0]), tokenizer_free(e.t), tokens_free(&e.val), tokens_free(&e.train);
    }
    expect(memcmp(begin[0], begin[1], sizeof *begin), "two seeds draw the same rows");
    expect(!memcmp(begin[0], begin[2], sizeof *begin), "one seed draws different rows");
    static const char *const run[] = {
        "mkdir -p alone; cp \"$here\"/train_gpt alone; alone/train_gpt eval --data x \"$@\"; "
        "rm -r alone",
        "\"$here\"/train_gpt --data x --steps 1 --warmup 0 --show 0 --out new \"$@\" | "
        "grep ' 0  valid'"};
    for (int train = 0; train < 2; train++) {
        char *said[2];
        for (int k = 0; k < 2; k++) {
            char *line = format("set -- --model m --tokenizer t --limit 10 --seed %d; %s", k,
                                run[train]);
            said[k] = shell(line);
            free(line);
        }
        expect(strstr(said[0], "loss") && train == !strcmp(said[0], said[1]),
               "seed 0 and 1: %s%s", said[0], said[1]);
        free(said[0]), free(said[1]);
    }
}

/* ---- TRUST: what a run is, one writer of a folder, and what is saved at the end ---- */

/* A stopped run goes on with its own data, vocabulary, model and settings, wherever the files are.
 * With others it is refused, and what differs is named; --changed goes on. */
void test_run_inputs(void)
{
    static const char *const rows[][2] = {
        {"--data k --model m_k0 --tokenizer t_k --show 1 --save-every 9 --recompute", ""},
        {"--data kt", "training data was '65 tokens, "}, {"--data kv", "validation data was"},
        {"--model m_k1", "starting model was"}, {"--tokenizer t_same", "vocabulary file was"},
        {"--lr 1.000001e-4", "lr was '0.0001', is '0.0001000001'"},
        {"--steps 3 --dropout .1", "steps was '2', is '3'; dropout was '0', is '0.1'"},
        {"--context 8", "context was '0', is '8'"}, {"--precision bf16", "precision was 'fp32'"}};
#define CHANGE(file) "&& printf '\\41' | dd of=" file " bs=1 seek=1030 conv=notrunc 2>/dev/null "
    expect_run(TINY "v --out k1 --steps 2 --lr 1e-4 --show 0 && cp m m_k0 && cp t t_k && "
               "for k in k kt kv; do cp v_train.bin ${k}_train.bin; cp v_val.bin ${k}_val.bin; "
               "done && cp m m_k1 " CHANGE("m_k1") CHANGE("kt_train.bin") CHANGE("kv_val.bin"),
               "status 0", NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int changed = 0; changed < 2; changed++) {
            setenv("WITH", rows[i][0], 1), setenv("CHANGED", changed ? "--changed" : "", 1);
            const char *said = run_line("cp -r k1 k2; " TINY "v --out k2 --lr 1e-4 --steps 2 "
                                        "--resume $WITH $CHANGED; s=$?; rm -r k2; (exit $s)");
            int refused = *rows[i][1] && !changed;
            int resumed = strstr(said, "resuming after step 2") != NULL;
            expect(strstr(said, rows[i][1]) && strstr(said, refused ? "status 1" : "status 0") &&
                   resumed != refused, "%s: %s", rows[i][0], said);
        }
    expect_run("cat k1/run.txt", "training data = 65 tokens", "vocabulary file = ", NULL);
}

/* Files of one preparation carry one id. Held-out data of another preparation are refused by
 * training and eval; files without an id are read. */
void test_data_id(void)
{
#define PREPARE "prepare text text.txt --tokenizer t --val 0.5 --out "
#define EVAL "train_gpt eval --model m --tokenizer t --data "
    expect_run(PREPARE "id1 && " PREPARE "id2 --seed 3 && " PREPARE "id3 && cmp id1_val.bin "
               "id3_val.bin && cp id2_val.bin id1_val.bin", "status 0", NULL);
    for (int i = 1; i < 4; i++) {
        int64_t id[2];
        for (int val = 0; val < 2; val++) {
            size_t size;
            char *path = format("%s/id%d_%s.bin", folder, i, val ? "val" : "train");
            char *file = read_file(path, &size);
            memcpy(&id[val], file + 12, 8);
            free(path), free(file);
        }
        expect(id[0] && (id[0] == id[1]) == (i > 1), "ids of preparation %d", i);
    }
    expect_run(TINY "id2 --out k3 --steps 1 --show 0 && " EVAL "id2", "status 0", NULL);
    expect_run(TINY "id1 --out k3 --steps 1", "id1_val.bin: was not prepared together with id1_tr",
               "status 1", NULL);
    expect_run(EVAL "id2,id1", "id1_val.bin: was not prepared together", "status 1", NULL);
    expect_run("head -c 8 /dev/zero | dd of=id1_train.bin bs=1 seek=12 conv=notrunc 2>/dev/null; "
               EVAL "id1", "status 0", NULL);
    expect_run("printf '{\"prompt\":\"a%d\",\"completion\":\"b\"}\\n' 1 2 3 4 > id.jsonl; prepare "
               "examples id.jsonl --out id4 --val 0.5 --test rows.jsonl --tokenizer t > id.txt; "
               "for s in train val test; do head -c 20 id4_$s.bin | tail -c 8 | od -An -tx8; "
               "done | uniq -c", " 3 ", NULL);
    write_tokens("x2_train.bin", (uint16_t[]){299, 1, 2, 299}, "\0\1\1\1", 4);
    write_tokens("x2_val.bin", (uint16_t[]){299, 1, 2, 299}, "\0\0\0\0", 4);
    expect_run(TINY "x2 --out k3 --steps 1", "x2: no target counts", "status 1", NULL);
}

/* A second run in a folder is refused while the first one lives, and not after it was killed; the
 * next one removes the unfinished files of a killed one, and no others. */
void test_run_alone(void)
{
    expect_run(TINY "v --out k4 --show 0 --steps 1000000 > /dev/null & while [ ! -s k4/log.csv ]; "
               "do sleep 0.02; done; " TINY "v --out k4; echo $?; prepare search --model m "
               "--tokenizer t --data v --lr 1e-3,1e-2 --out k4; echo $?; kill -9 $!; wait $!; "
               "touch k4/state.bin.1.0.partial k4/state.txt k4/eval.jsonl.1.0.partial; "
               TINY "v --out k4 --steps 1 > /dev/null; echo $?; ls k4", "error: k4: another pro",
               "choose another --out\n1\nerror: k4: ", "\n1\n", "\n0\n", "\nstate.bin\nstate.txt\n",
               "eval.jsonl.1.0.partial", NULL);
}

void check_disk(void *run) { run_disk_check(run); }

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
        else free(shell("mkdir kept; mv state.bin model.bin kept"));
        disk_free = 1.01 * need + 8 * HEADER;
        const char *said = error_of(check_disk, &r);
        expect(!*said, "enough: %s", said);
        disk_free = 0.99 * need - 8 * HEADER;
        said = error_of(check_disk, &r);
        expect(strstr(said, "MB free") != NULL, "too little: '%s'", said);
        if (!old) free(shell("mv kept/* .; rmdir kept"));
    }
    free(shell("rm state.bin model.bin"));
    opt.out = NULL, model_free(m);
}

/* If one file of a run cannot be written, the others still are, and the run can go on: best.bin is
 * made again from the state. What is best must still be the best when the run ends. */
void test_run_saves(void)
{
#define BEST_RUN TINY "v --show 0 --lr 1e-3 --eval-every 2 "
    expect_run(BEST_RUN "--out k5 --steps 4 > /dev/null; mkdir -p k6/model.bin; "
               BEST_RUN "--out k6 --steps 4 > /dev/null; ls k6", "model.bin: cannot be replaced",
               "run.txt\n", "state.bin\n", NULL);
    expect_run("rm -r k6/model.bin; " BEST_RUN "--out k6 --steps 4 --resume > /dev/null && "
               "cmp k5/best.bin k6/best.bin && cmp k5/model.bin k6/model.bin", "status 0", NULL);
    expect_run("cd k6; rm best.bin model.bin run.txt; mkdir best.bin; cd ..; " BEST_RUN
               "--out k6 --steps 4 --resume > /dev/null; ls k6; rmdir k6/best.bin", "status 0",
               "error: k6/best.bin: cannot be replaced", "model.bin\n", "run.txt\n", NULL);
    expect_run(BEST_RUN "--out k6 --steps 4 --resume > /dev/null && cmp k5/best.bin k6/best.bin",
               "status 0", NULL);
    expect_run(BEST_RUN "--out k7 --steps 4 --lr 10 > /dev/null; cp k5/best.bin k7; " BEST_RUN
               "--out k7 --steps 4 --lr 10 --resume", "k7/best.bin: is not the model after step 0",
               "status 1", NULL);
}

/* A trial that could not begin has no result, not even that of older settings; one that could not
 * be saved is made again. */
void test_search_stopped(void)
{
#define SEARCH "prepare search --model m --tokenizer t --data v --steps 1 --warmup 0 --show 0 " \
               "--lr 1e-3,1e-2 --out k8 "
    expect_run(SEARCH "> /dev/null && " SEARCH "--decay 0.2", "=== lr=1e-3\n", "=== lr=1e-2\n",
               "status 0", NULL);
    for (int i = 0; i < 2; i++)
        expect_run(SEARCH "--tokenizer t301", "=== lr=1e-3\n", "has 301 tokens", "status 1", NULL);
    expect_run(SEARCH "--decay 0.2", "have changed", "=== lr=1e-3\n", "status 0", NULL);
    const char *said = run_line(SEARCH "--decay 0.2 --save-every 5");
    expect(!strstr(said, "===") && strstr(said, "status 0"), "finished trials run again: %s", said);
    expect_run(SEARCH "--decay 0.2 --tokenizer t_same", "have changed", "=== lr=1e-3\n", "status 0",
               NULL);
    expect_run("rm k8/lr=1e-3/*; mkdir k8/lr=1e-3/model.bin; " SEARCH "--decay 0.2; "
               "rmdir k8/*/model.bin; " SEARCH "--decay 0.2; cmp k8/lr=1e-3/best.bin "
               "k8/lr=1e-3/model.bin", "model.bin: cannot be replaced", "resuming after step 1",
               "status 0", NULL);
}

void expect_row(void *json) { expect_check(json, 1); }

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
    expect(bad && strstr(error_of(expect_row, bad), "row 1"), "an empty alternative is accepted");
    free(text), free(differ), json_free(bad);
}

/* The quick part of data/torture.sh: faults of the tokenizer, full devices for every command. */
void test_torture(void)
{
    char *said = shell("sh \"$here\"/data/torture.sh quick 2>&1; echo status $?");
    expect(strstr(said, "findings: 0\nstatus 0\n") != NULL, "%s", said);
    int faults = 0;
    for (char *at = said; (at = strstr(at, "\nfaults: ")); at++) faults += atoi(at + 9);
    outcome("%d faults, /dev/full for every command", faults);
    free(said);
}

/* Labels that branch from a prompt are as probable as in a document for each, after any prompt that
 * fits: in one group or in many. */
void test_label_branches(void)
{
    Tokenizer *t = tokenizer_read("data/mini_tokenizer.bin");
    Labels l = labels_parse("yes,no,maybe not,unknown to us,Sunday,red and blue,7,a,b,c", t);
    Config c = {.T = 32, .V = t->count, .L = 2, .NH = 2, .C = 32, .Vp = t->count};
    Model *m = random_model(c, INFERENCE, 1, 0), *again = random_model(c, INFERENCE, 2, 0);
    uint16_t ids[32] = {t->end_of_text};
    double p[10];
    l.label[2].closed = 0;
    for (int count = 1; count <= c.T - l.longest; count++) {
        Item item = {ids, count, count, 1};
        Query q = query_new(&item, NULL, 0, NULL);
        Tokens docs = documents_new("labels", t);
        for (int k = 0; k < l.count; k++) document_add(&docs, (Tokens){0}, &item, &l.label[k]);
        label_predict(p, m, t, &l, q.prompt, count, c.T);
        Scores s = score(again, t, &docs, 2, c.T, 0, 0);
        for (int k = 0; k < l.count; k++)
            bound("log p", fabs(log(p[k] / *p) + s.loss[k] - *s.loss), by_precision(1e-12, 1e-4));
        free(s.loss), tokens_free(&docs), free(q.prompt);
        ids[count] = below(c.V - 1, 5, count);
    }
    model_free(m), model_free(again), tokenizer_free(t);
}

/* A speed that falls to a quarter, again and again, is told once; a few slow steps, a long one, a
 * slow beginning and half of the speed are not. */
void test_collapse(void)
{
    const struct { int from, to; double rate; int told; } slow[] = {
        {50, 199, 250, 1}, {50, 60, 100, 0}, {99, 100, 1e-3, 0}, {0, 12, 10, 0}, {50, 199, 500, 0}};
    for (int i = 0, told; i < 5; i++) {
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
        free(run);
    }
    outcome("%d commands", count);
    free(text);
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

/* Whether a text contains a name or, without a text, a file has this name. The name is freed. */
int has(const char *text, char *name)
{
    int found = text ? strstr(text, name) != NULL : access(name, R_OK) == 0;
    free(name);
    return found;
}

int has_function(const Page *p, const char *name) { return has(p->source, format("%s(", name)); }
int has_option(const Page *p, const char *name) { return has(p->help, format("\n  %s ", name)); }
int has_file(const Page *p, const char *name) { return p && has(NULL, format("%s", name)); }

/* A link is relative to the folder of its page. */
int has_link(const Page *p, const char *name)
{
    const char *slash = strrchr(p->path, '/');
    return has(NULL, format("%.*s%s", slash ? (int)(slash - p->path) + 1 : 0, p->path, name));
}

/* NAME stands for any exercise, exam-5 for a planted mistake. */
int has_exercise(const Page *p, const char *name)
{
    return !strcmp(name, "NAME") || !strncmp(name, "exam-", 5) ||
           (p && has(NULL, format("doc/exercises/%s.c", name)));
}

/* A target of the Makefile, or of a pattern with the name of an exercise or of a demo's file. */
int has_target(const Page *p, const char *name)
{
    const char *rest = strchr(name, '-');
    if (has(p->makefile, format("\n%s:", name))) return 1;
    if (!rest || !has(p->makefile, format("\n%.*s-%%:", (int)(rest - name), name))) return 0;
    return strncmp(name, "demo-", 5) ? has_exercise(p, rest + 1)
                                     : has(NULL, format("data/%s.jsonl", rest + 1));
}

/* The first group of each match of a pattern is a name. */
const struct { const char *kind, *pattern; int (*exists)(const Page *p, const char *name); }
names[] = {{"function", "([A-Za-z0-9_]+)[(][)]`", has_function},
           {"option", "[^-a-z](--[a-z][a-z0-9-]*)([^a-z0-9_-]|$)", has_option},
           {"target", "`make ([a-z][a-zA-Z0-9_-]*)", has_target},
           {"link", "[]][(]([^)#: ]+)[)#]", has_link},
           {"file", "[^a-z/._-]((data|doc)/[a-zA-Z0-9_/-]+[.](jsonl|sh|py|md|c|svg|png))",
            has_file},
           {"exercise", "\n[|] ([a-z0-9_]+) [|] [0-9]+ [|] [0-9]+ [|] [a-z]", has_exercise},
           {"exercise", "`([a-z0-9_]+)`\\s[(][0-9]{2}( minutes)?[;,)]", has_exercise}};

/* Look up what a part of a page names. Returns how many names were found. */
int look_up(const Page *p, const char *text, size_t row)
{
    regex_t pattern;
    regmatch_t at[2];
    int count = 0;
    if (regcomp(&pattern, names[row].pattern, REG_EXTENDED)) die("pattern %zu", row);
    for (; !broken && regexec(&pattern, text, 2, at, 0) == 0; text += at[1].rm_eo, count++) {
        char *name = format("%.*s", (int)(at[1].rm_eo - at[1].rm_so), text + at[1].rm_so);
        expect(names[row].exists(p, name), "%s names the %s '%s', which does not exist", p->path,
               names[row].kind, name);
        free(name);
    }
    regfree(&pattern);
    return count;
}

/* A line in a block of code: a target of make, or a command of a program, whose options must be in
 * its help. */
int look_up_command(const Page *p, const char *line)
{
    const char *at = strstr(line, "./");
    char program[16], word[64] = "";
    if (sscanf(line, "make %63[a-zA-Z0-9_-]", word) == 1)
        return expect(has_target(p, word), "%s: make has no target '%s'", p->path, word), 1;
    if (!at || sscanf(at, "./%15[a-z_] %63[a-z0-9]", program, word) < 1 ||
        !strstr("tokenizer prepare train_gpt", program))
        return 0;
    char *help = format("%s %s --help", program, word);
    Page command = {.path = p->path, .help = run_line(help)};
    expect(has(command.help, format("status 0")), "%s: %s fails", p->path, help);
    look_up(&command, at, 1);
    free(help);
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
            free(line);
        }
        free(text);
    }
    outcome("%d names, %d commands in %zu pages", count, commands, pages.gl_pathc + 1);
    free(source.bytes), free(help), free(makefile);
    globfree(&pages);
}

#define GRADIENT(name, layer, ...) {"gradient of " name, IN_DOUBLE, NULL, test_layer, \
                                    &(const Layer){layer##_y, layer##_dx, __VA_ARGS__}}
static const Test tests[] = {
    {"random numbers", IN_FLOAT, test_random, NULL, NULL},
    {"random orders", IN_BOTH, test_orders, NULL, NULL},
    {"dropout statistics", IN_BOTH, test_dropout, NULL, NULL},
    {"the plain product", IN_BOTH, test_matmul_plain, NULL, NULL},
    {"the fast product = the plain one", IN_BOTH, test_matmul, NULL, NULL},
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
    {"bf16 against its definition", IN_FLOAT, test_bf16, NULL, NULL},
    {"llm.c model file", IN_BOTH, test_llmc_model, NULL, NULL},
    {"states that are refused", IN_BOTH, test_state_refused, NULL, NULL},
    {"tokenizer: tiktoken ids", IN_FLOAT, test_vectors, NULL, NULL},
    {"tokenizer: any bytes come back", IN_FLOAT, test_round_trip, NULL, NULL},
    {"tokenizer: training by definition", IN_FLOAT, test_bpe_definition, NULL, NULL},
    {"llm.c tokenizer file", IN_FLOAT, test_tokenizer_file, NULL, NULL},
    {"JSON, accepted and refused", IN_FLOAT, test_json, NULL, NULL},
    {"JSON, values", IN_FLOAT, test_json_values, NULL, NULL},
    {"bad input: damaged files", IN_FLOAT, test_damaged, NULL, NULL},
    {"bad input: other files", IN_FLOAT, NULL, test_bad, bad_files},
    {"bad input: options", IN_FLOAT, NULL, test_bad, bad_options},
    {"bad input: places, full disks", IN_FLOAT, NULL, test_bad, bad_places},
    {"the course names what exists", IN_FLOAT, test_course, NULL, NULL},
    {"bad input: random changes", IN_FLOAT, test_random_changes, NULL, NULL},
    {"JSON, memory", IN_FLOAT, test_json_memory, NULL, NULL},
    {"options: end, order, range", IN_FLOAT, test_options, NULL, NULL},
    {"writer and reader of a file", IN_FLOAT, test_writer, NULL, NULL},
    {"plain text on a terminal", IN_FLOAT, test_plain, NULL, NULL},
    {"a run keeps the best model", IN_FLOAT, test_run_best, NULL, NULL},
    {"a run that makes the model worse", IN_FLOAT, test_run_worse, NULL, NULL},
    {"a run that is resumed", IN_FLOAT, test_run_resume, NULL, NULL},
    {"a new run in an old folder", IN_FLOAT, test_run_fresh, NULL, NULL},
    {"dropout and noise of a run", IN_FLOAT, test_run_random, NULL, NULL},
    {"signals and full disks", IN_FLOAT, test_run_stops, NULL, NULL},
    {"commands from any folder", IN_FLOAT, test_run_commands, NULL, NULL},
    {"JSON lines and chat", IN_FLOAT, test_jsonl, NULL, NULL},
    {"safetensors: names, places, files", IN_FLOAT, test_safetensors, NULL, NULL},
    {"export, import = the same files", IN_FLOAT, test_export_import, NULL, NULL},
    {"text: whole documents on one side", IN_FLOAT, test_documents, NULL, NULL},
    {"download: resumed, only by https", IN_FLOAT, test_download, NULL, NULL},
    {"make keeps what is not its own", IN_FLOAT, test_make, NULL, NULL},
    {"examples: every finding and its place", IN_FLOAT, test_findings, NULL, NULL},
    {"examples: contradictions", IN_FLOAT, test_conflicts, NULL, NULL},
    {"examples: files read and refused", IN_FLOAT, test_files, NULL, NULL},
    {"examples: near duplicates by definition", IN_FLOAT, test_similar, NULL, NULL},
    {"examples: split without leakage", IN_FLOAT, test_split, NULL, NULL},
    {"examples: augmentation", IN_FLOAT, test_augment, NULL, NULL},
    {"examples: files replaced together", IN_FLOAT, test_replaced_together, NULL, NULL},
    {"examples: answers in the report", IN_FLOAT, test_report_cells, NULL, NULL},
    {"examples: the report's counts", IN_FLOAT, test_report_counts, NULL, NULL},
    {"judging: labels of a set", IN_FLOAT, test_label_sets, NULL, NULL},
    {"judging: gains and gaps", IN_FLOAT, test_gain, NULL, NULL},
    {"judging: whole shots that fit", IN_FLOAT, test_shots, NULL, NULL},
    {"judging: tables, break-even", IN_FLOAT, test_tables, NULL, NULL},
    {"judging: two models", IN_FLOAT, test_both_models, NULL, NULL},
    {"judging: search", IN_FLOAT, test_search, NULL, NULL},
    {"judging: the report", IN_FLOAT, test_report, NULL, NULL},
    {"bad input: judging", IN_FLOAT, NULL, test_bad_judging, bad_judging},
    {"model: first values", IN_BOTH, test_first_values, NULL, NULL},
    {"model: masks of dropout", IN_BOTH, test_masks, NULL, NULL},
    {"model: sizes that overflow", IN_FLOAT, test_sizes, NULL, NULL},
    {"figures: what is mentioned", IN_FLOAT, test_mentions, NULL, NULL},
    {"figures: right answers", IN_FLOAT, test_questions, NULL, NULL},
    {"figures: the third set", IN_FLOAT, test_third_set, NULL, NULL},
    {"figures: words counted", IN_FLOAT, test_words, NULL, NULL},
    {"figures: seeds of lines", IN_FLOAT, test_line_seeds, NULL, NULL},
    {"bad input: figures", IN_FLOAT, test_bad_questions, NULL, NULL},
    {"gradient of adapters", IN_DOUBLE, test_adapter_gradient, NULL, NULL},
    {"a run with adapters", IN_FLOAT, test_run_lora, NULL, NULL},
    {"PEFT: import, 10 steps, export", IN_FLOAT, test_peft, NULL, NULL},
    {"moments: rounded at random", IN_FLOAT, test_stochastic, NULL, NULL},
    {"moments: bf16 near fp32", IN_FLOAT, test_moments, NULL, NULL},
    {"memory of training XL", IN_FLOAT, test_memory, NULL, NULL},
    {"recompute = kept", IN_BOTH, test_recompute, NULL, NULL},
    {"world: half precision", IN_FLOAT, test_f16, NULL, NULL},
    {"world: GGUF", IN_FLOAT, test_gguf, NULL, NULL},
    {"world: tokenizer.json", IN_FLOAT, test_tokenizer_json, NULL, NULL},
    {"world: ids without a token", IN_FLOAT, test_spare_ids, NULL, NULL},
    {"bad input: world", IN_FLOAT, NULL, test_bad_world, bad_world},
    {"examples: files as they are published", IN_FLOAT, test_published, NULL, NULL},
    {"examples: the test set", IN_FLOAT, test_test_file, NULL, NULL},
    {"explain: the model's numbers", IN_BOTH, test_explain, NULL, NULL},
    {"explain: the page, a step", IN_FLOAT, test_explain_page, NULL, NULL},
    {"bad input: explain", IN_FLOAT, NULL, test_bad_judging, bad_explain},
    {"exercises: every mistake is named", IN_FLOAT, test_exercises, NULL, NULL},
    {"bf16: the product", IN_BOTH, test_bf16_matmul, NULL, NULL},
    {"bf16: weights", IN_FLOAT, test_bf16_weights, NULL, NULL},
    {"bf16: runs", IN_FLOAT, test_bf16_run, NULL, NULL},
    {"crowded cores", IN_FLOAT, test_crowded, NULL, NULL},
    {"worked numbers of the course", IN_DOUBLE, test_worked, NULL, NULL},
    {"limit: rows drawn by the seed", IN_FLOAT, test_limit_seed, NULL, NULL},
    {"trust: what a run is", IN_FLOAT, test_run_inputs, NULL, NULL},
    {"trust: data prepared together", IN_FLOAT, test_data_id, NULL, NULL},
    {"trust: one run in a folder", IN_FLOAT, test_run_alone, NULL, NULL},
    {"trust: the disk", IN_FLOAT, test_disk, NULL, NULL},
    {"trust: what can be saved", IN_FLOAT, test_run_saves, NULL, NULL},
    {"trust: a search that stopped", IN_FLOAT, test_search_stopped, NULL, NULL},
    {"control characters of files", IN_FLOAT, test_controls, NULL, NULL},
    {"faults, full devices", IN_FLOAT, test_torture, NULL, NULL},
    {"figures: labels from one reading", IN_BOTH, test_label_branches, NULL, NULL},
    {"a run whose speed collapses", IN_FLOAT, test_collapse, NULL, NULL},
    {"accuracy: worst errors", IN_BOTH, test_accuracy, NULL, NULL},
    {"accuracy: NaN, infinity, subnormal", IN_BOTH, test_special_values, NULL, NULL},
    {"outputs of the course", IN_FLOAT, test_outputs, NULL, NULL},
};

typedef struct { int passed, failed, skipped; } Counts;

/* Run the tests whose name contains `wanted`. */
Counts run_tests(const char *wanted)
{
    Counts n = {0};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        const Test *t = &tests[i];
        if (!(t->builds & REAL_BYTES) || !strstr(t->name, wanted)) continue;
        broken = skipped = 0, worst = 0, *figure = 0;
        if (t->run) t->run();
        else t->run_row(t->row);
        const char *result = broken ? "FAIL" : skipped ? "skip" : "ok  ";
        printf("%s %-36s %s\n", result, t->name, broken ? reason : figure);
        fflush(stdout);
        n.failed += broken > 0;
        n.skipped += !broken && skipped;
        n.passed += !broken && !skipped;
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
    if (!mkdtemp(folder)) die("%s: the folder cannot be made: %s", folder, strerror(errno));
    use_threads(1);                                           /* fastest for these sizes */
    setenv("OMP_NUM_THREADS", "1", 1);                        /* the same for other programs */
    signal(SIGHUP, SIG_DFL);                                  /* which nohup lets them ignore */
    Counts n = run_tests(wanted), more = {0};
    if (REAL_BYTES == 4) more = run_double(wanted);
    free(shell("rm -rf ../${PWD##*/}"));
    n.passed += more.passed, n.failed += more.failed, n.skipped += more.skipped;
    printf("%d passed, %d failed", n.passed, n.failed);
    if (n.skipped) printf(", %d skipped", n.skipped);
    printf("\n");
    return n.failed > 0;
}
