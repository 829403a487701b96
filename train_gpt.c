/* train_gpt.c - a GPT-2 trainer: every layer, forward and backward, and all that training needs.
 *
 *     make && ./train_gpt                                        builds all, runs the demo
 *     cc -O3 -march=native -o train_gpt train_gpt.c -lm          builds this program, on one thread
 *
 * Notation   B batch, T time, C channels, NH heads, HS = C/NH, V vocabulary, L layers, N = B*T.
 *            b t c h l v n are the loops over them. x(N, C) is an array of N rows of C numbers, one
 *            row after the other. A weight is w(out, in). dx is dloss/dx, in the shape of x.
 *
 * Chapters   1 one training step   2 layers   3 the same product, fast   4 the machine
 *            5 parameters   6 the model   7 optimizer   8 data   9 checkpoints   10 generation
 *            11 evaluation   12 training   13 command line
 *
 * [Vaswani et al. 2017] Attention Is All You Need        [Radford et al. 2019] GPT-2
 * [Ba et al. 2016] Layer Normalization                   [Hendrycks & Gimpel 2016] GELU
 * [Goto & van de Geijn 2008] Anatomy of High-Performance Matrix Multiplication
 * [Dao et al. 2022] FlashAttention                       [Loshchilov & Hutter 2019] AdamW
 * [Srivastava et al. 2014] Dropout                       [Pascanu et al. 2013] gradient clipping
 * [Hu et al. 2021] LoRA: Low-Rank Adaptation             [Chen et al. 2016] recomputed activations
 */
#define NO_MAIN_TOKENIZER
#include "tokenizer.c"
#ifndef _WIN32
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#endif

/* ================================================================================================
 * 1. A map of one training step
 *
 * For each token of a text a language model gives a probability to every token that may come next.
 * One step of training has four parts, and the rest of this file is what they need:
 *
 *   forward    Each token becomes a vector of C numbers that depends on it and on all tokens before
 *              it in its document.
 *   loss       Products of this vector with the embeddings of all V tokens, after a softmax, are
 *              the probabilities of the next token. The loss is -log of the one that really came
 *              next, averaged over the batch.
 *   backward   By the chain rule, the same layers in reverse order give the derivative of the loss
 *              by each parameter: the gradient.
 *   update     AdamW moves each parameter a little against its gradient.
 */

/* Numbers are float; the tests also use double, where differences prove gradients to ten digits. */
#ifdef DOUBLE
typedef double real;
#define REAL_BYTES 8
#else
typedef float real;
#define REAL_BYTES 4
#endif

/* B rows of T tokens. All arrays are (B, T): the token, the one that comes next (the target), at
 * which t the document of the token begins, and by what factor its loss counts (0: not at all). */
typedef struct {
    int B, T;
    int *tokens, *targets, *doc_start;
    real *loss_weight;
} Batch;

/* Rates of dropout, 0 to 1, and what its random numbers are made from. All zero: no dropout. */
typedef struct { real embedding, attention, residual, adapter; uint64_t key; } Dropout;

/* The optimizer's constants, as in the equations of adamw; clip: the longest gradient (0: any).
 * smoothing is explained at softmax_loss. */
typedef struct { double lr, beta1, beta2, epsilon, decay, l1, clip; } AdamW;
typedef struct { Dropout dropout; double smoothing; AdamW adamw; } Recipe;
typedef struct Model Model;                                                        /* chapter 6 */

void model_forward(Model *m, const int *tokens, const int *doc_start, int B, int past, int T,
                   Dropout d);
double model_head(Model *m, const Batch *b, double smoothing, int backward);
void model_backward(Model *m, const Batch *b, Dropout d);
double model_update(Model *m, AdamW a, int step);
uint64_t random_key(uint64_t key, uint64_t n);

/* The sum of loss_weight * loss over a batch. `backward`: add its gradient to the gradients. */
double model_loss(Model *m, const Batch *b, Dropout d, double smoothing, int backward)
{
    model_forward(m, b->tokens, b->doc_start, b->B, 0, b->T, d);
    double loss = model_head(m, b, smoothing, backward);
    if (backward) model_backward(m, b, d);
    return loss;
}

/* Training step number `step` = 1, 2, ... on `count` batches, whose gradients add up; each has its
 * own random numbers. Returns the loss, and sets *norm to the length of the gradient. */
double model_step(Model *m, const Batch *batches, int count, const Recipe *r, int step,
                  double *norm)
{
    uint64_t key = random_key(r->dropout.key, step - 1);
    double loss = 0;
    for (int i = 0; i < count; i++) {
        Dropout d = r->dropout;
        d.key = random_key(key, 2 * i);
        loss += model_loss(m, &batches[i], d, r->smoothing, 1);
    }
    if (!isfinite(loss)) die("step %d: the loss is %g: lower --lr", step, loss);
    *norm = model_update(m, r->adamw, step);
    return loss;
}

/* ================================================================================================
 * 2. Layers
 *
 * A layer is a function of arrays and sizes; it knows nothing of the model. Beside each forward
 * function stands its backward: given dy, the derivative of the loss by each output, it computes by
 * the chain rule the derivative by each input. The comment above it derives the formula. Gradients
 * of parameters are *added to*, since every batch of a step contributes. Gradients of inputs are
 * *written*; only layernorm adds to dx, since its input has a second path forward, the residual
 * stream. Rejected: automatic differentiation, which would hide what is to be learned here.
 *
 * `#pragma omp parallel for` shares the passes of the loop below it among threads; `simd` lets the
 * processor do several passes at once. Each output is computed by one thread, and every sum has one
 * fixed order: so results are the same bits for any number of threads.
 */

static inline int min_int(int a, int b) { return a < b ? a : b; }
static inline int max_int(int a, int b) { return a > b ? a : b; }

/* ---- the product of two matrices ----
 * A View reads a matrix: X(i, j) = p[i*rs + j*cs]. One of the two strides is 1; exchanging them
 * transposes the matrix without moving a number. Until chapter 3 needs it, h is NULL. */
typedef struct { const real *p; size_t rs, cs; const uint16_t *h; } View;
View view(const real *p, size_t columns) { return (View){p, columns, 1, NULL}; }
View flipped(View x) { return (View){x.p, x.cs, x.rs, x.h}; }                 /* the transpose */
View transposed(const real *p, size_t columns) { return flipped(view(p, columns)); }

/* Where a product goes, c(i, j) = p[i*rs + j], and what it is added to, start[i*start_rs + j], or 0
 * if start is NULL. start_rs 0: the same row for all i. What lies between rows of c stays. */
typedef struct { real *p; size_t rs; const real *start; size_t start_rs; } Output;
Output assign(real *c, size_t rs) { return (Output){c, rs, NULL, 0}; }                /* c = a b */
Output accumulate(real *c, size_t rs) { return (Output){c, rs, c, rs}; }             /* c += a b */
Output with_bias(real *c, size_t rs, const real *bias) { return (Output){c, rs, bias, 0}; }

static inline real start_at(Output c, int i, int j)
{
    return c.start ? c.start[i * c.start_rs + j] : 0;
}

/* c(M, N) = start + a(M, K) b(K, N). Training spends nearly all its time in this sum. Chapter 3
 * computes it much faster; compiled with -DPLAIN, the program uses this function instead. */
void matmul_plain(Output c, View a, View b, int M, int N, int K)
{
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            real sum = start_at(c, i, j);
            for (int k = 0; k < K; k++) sum += a.p[i * a.rs + k * a.cs] * b.p[k * b.rs + j * b.cs];
            c.p[i * c.rs + j] = sum;
        }
}

/* From chapters 3 and 4: the fast product on all threads, and on the calling one; the sum of
 * a_i b_i over n; X(i, j), if the last argument is 0; memory; e^x; and the i-th 32 random bits of a
 * key, which are always the same ones. */
void matmul(Output c, View a, View b, int M, int N, int K);
void matmul_serial(Output c, View a, View b, int M, int N, int K);
real dot(const real *a, const real *b, int n);
static inline real element(View x, int i, int j, int bf16);
int threads(void);
real *allocate_reals(size_t count);
void free_reals(real *p);
static inline real exp_real(real x);
static inline uint32_t random_bits(uint64_t key, uint32_t i);

/* ---- linear: y(N, OC) = x(N, C) w(OC, C)^T + b(OC), w_oc = w.p[o*C + c]; y's rows are ldy >= OC
 * numbers apart. ---- */
void linear_forward(real *y, size_t ldy, const real *x, View w, const real *b, int N, int C, int OC)
{
    matmul(with_bias(y, ldy, b), view(x, C), flipped(w), N, OC, C);
}

/* y_no = sum_c x_nc w_oc + b_o has the derivatives w_oc by x_nc, and x_nc by w_oc. So
 *     dx_nc = sum_o dy_no w_oc,    dx(N, C) = dy w,         which is written;
 *     dw_oc += sum_n dy_no x_nc,   dw(OC, C) += dy^T x,     which is added to if not NULL. */
void linear_backward(real *dx, real *dw, const real *dy, const real *x, View w, int N, int C,
                     int OC)
{
    matmul(assign(dx, C), view(dy, OC), w, N, C, OC);
    if (dw) matmul(accumulate(dw, C), transposed(dy, OC), view(x, C), OC, C, N);
}

/* A bias (of linear, of layernorm) is added to each row, so db_c += sum_n dy_nc, for dy(N, C),
 * unless db is NULL. Threads take STRIPE channels each. */
enum { STRIPE = 64 };
void bias_backward(real *db, const real *dy, int N, int C)
{
    if (!db) return;
#pragma omp parallel for
    for (int c0 = 0; c0 < C; c0 += STRIPE)
        for (int n = 0; n < N; n++)
            for (int c = c0; c < min_int(C, c0 + STRIPE); c++) db[c] += dy[(size_t)n * C + c];
}

/* ---- embedding: x(N, C) = wte[token] + wpe[position], rows of the tables wte(V, C), wpe(T, C),
 * which are Views, with wte.p[token*C + c]. tokens and positions are (N). ---- */
void embedding_forward(real *x, const int *tokens, const int *positions, View wte, View wpe, int N,
                       int C)
{
#pragma omp parallel for
    for (size_t n = 0; n < (size_t)N; n++)
        for (int c = 0; c < C; c++)
            x[n * C + c] = element(wte, tokens[n], c, 0) + element(wpe, positions[n], c, 0);
}

/* dwte[token] += dx, dwpe[position] += dx. Many n may add to one row, so threads share channels. */
void embedding_backward(real *dwte, real *dwpe, const real *dx, const int *tokens,
                        const int *positions, int N, int C)
{
#pragma omp parallel for
    for (int c0 = 0; c0 < C; c0 += STRIPE)
        for (int n = 0; n < N; n++) {
            const real *dxn = dx + (size_t)n * C;
            real *token = dwte + (size_t)tokens[n] * C, *position = dwpe + (size_t)positions[n] * C;
            for (int c = c0; c < min_int(C, c0 + STRIPE); c++) {
                token[c] += dxn[c];
                position[c] += dxn[c];
            }
        }
}

/* ---- layernorm: y = xhat*w + b,  xhat = (x - mean)*r,  r = 1/sqrt(var + 1e-5)  [Ba et al. 2016],
 * for each row of x(N, C). Written: y(N, C), and for backward stats(N, 2), mean and r.
 * Errors of xhat: 2 ulp of 1, and about 1 more for each deviation by which the mean differs from 0.
 * Numbers whose squares overflow, infinite and NaN, give a row of NaN. ---- */
void layernorm_forward(real *y, real *stats, const real *x, const real *w, const real *b, int N,
                       int C)
{
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const real *xn = x + (size_t)n * C;
        real *yn = y + (size_t)n * C, mean = 0, var = 0;
#pragma omp simd reduction(+ : mean)
        for (int c = 0; c < C; c++) mean += xn[c];
        mean /= C;
#pragma omp simd reduction(+ : var)
        for (int c = 0; c < C; c++) var += (xn[c] - mean) * (xn[c] - mean);
        real r = var < INFINITY ? 1 / (real)sqrt(var / C + (real)1e-5) : (real)NAN;
        for (int c = 0; c < C; c++) yn[c] = (xn[c] - mean) * r * w[c] + b[c];
        stats[2 * n] = mean, stats[2 * n + 1] = r;
    }
}

/* dw_c += sum_n dy_nc xhat_nc, and db: see bias_backward. For dx let g = dy*w = dloss/dxhat. In one
 * row, where [] is 1 if the condition holds and else 0,
 *   dmean/dx_i = 1/C      dr/dx_i = -r^3 (x_i - mean)/C = -r^2 xhat_i / C
 *   dxhat_j/dx_i = r ([i == j] - 1/C) + (x_j - mean) dr/dx_i = r ([i == j] - 1/C - xhat_j xhat_i/C)
 *   dx_i = sum_j g_j dxhat_j/dx_i = r (g_i - mean(g) - xhat_i mean(g*xhat)),
 * without a part along (1, ..., 1) or xhat, since shifting or scaling x does not change xhat. Both
 * are added to; dw may be NULL. */
void layernorm_backward(real *dx, real *dw, const real *dy, const real *x, const real *stats,
                        const real *w, int N, int C)
{
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const real *xn = x + (size_t)n * C, *dyn = dy + (size_t)n * C;
        real *dxn = dx + (size_t)n * C, mean = stats[2 * n], r = stats[2 * n + 1];
        real g_mean = 0, gx_mean = 0;
#pragma omp simd reduction(+ : g_mean, gx_mean)
        for (int c = 0; c < C; c++) {
            g_mean += dyn[c] * w[c];
            gx_mean += dyn[c] * w[c] * (xn[c] - mean) * r;
        }
        g_mean /= C;
        gx_mean /= C;
        for (int c = 0; c < C; c++)
            dxn[c] += r * (dyn[c] * w[c] - g_mean - (xn[c] - mean) * r * gx_mean);
    }
    if (!dw) return;
#pragma omp parallel for
    for (int c0 = 0; c0 < C; c0 += STRIPE)
        for (int n = 0; n < N; n++) {
            const real *xn = x + (size_t)n * C, *dyn = dy + (size_t)n * C;
            for (int c = c0; c < min_int(C, c0 + STRIPE); c++)
                dw[c] += dyn[c] * (xn[c] - stats[2 * n]) * stats[2 * n + 1];
        }
}

/* ---- GELU, tanh form [Hendrycks & Gimpel 2016]: y = x/2 (1 + tanh u), u = sqrt(2/pi)(x + a x^3),
 * a = 0.044715. Since (1 + tanh u)/2 = 1/(1 + e^-2u), this is x s with s = sigmoid(2u), which loses
 * no digits near 0. Worst error: 4 ulp for x >= -1; below, where the rounding of u counts more and
 * more, up to 190 at x = -9.9, y = -1e-36. NaN and -infinity give NaN. ---- */
static inline real gelu_sigmoid(real x)
{
    return 1 / (1 + exp_real((real)-1.5957691216057308 * (x + (real)0.044715 * x * x * x)));
}
void gelu_forward(real *y, const real *x, size_t count)
{
#pragma omp parallel for simd
    for (size_t i = 0; i < count; i++) y[i] = x[i] * gelu_sigmoid(x[i]);
}

/* y = x s and ds/du = 2 s(1-s), so dx = dy (s + x s(1-s) 2u') with 2u' = 2 sqrt(2/pi)(1 + 3a x^2).
 * dx is written, and may be dy. Worst error of dx/dy: 33 ulp of the larger of the two terms for
 * x >= -1 (1 - s is rounded), 190 at -9.9. NaN, infinite and |x| > 1e19 give NaN. */
void gelu_backward(real *dx, const real *dy, const real *x, size_t count)
{
#pragma omp parallel for simd
    for (size_t i = 0; i < count; i++) {
        real s = gelu_sigmoid(x[i]);
        real du = (real)1.5957691216057308 * (1 + 3 * (real)0.044715 * x[i] * x[i]);
        dx[i] = dy[i] * (s + x[i] * s * (1 - s) * du);
    }
}

/* ---- residual: y = a + b. Its backward needs no code: da = db = dy. ---- */
void residual_forward(real *y, const real *a, const real *b, size_t count)
{
#pragma omp parallel for simd
    for (size_t i = 0; i < count; i++) y[i] = a[i] + b[i];
}

/* ---- dropout, in place: each number becomes 0 with probability p, else is divided by 1 - p, which
 * keeps its mean [Srivastava et al. 2014]. Backward is the same function with the same key, since
 * the factors depend only on key and index. ---- */
static inline real dropout_factor(real p, uint64_t key, uint32_t i)
{
    return (random_bits(key, i) >> 8) * (real)0x1p-24 < p ? 0 : 1 / (1 - p);
}
void dropout(real *x, size_t count, real p, uint64_t key)
{
    if (p == 0) return;
#pragma omp parallel for simd
    for (size_t i = 0; i < count; i++) x[i] *= dropout_factor(p, key, (uint32_t)i);
}

/* ---- LoRA [Hu et al. 2021]: the matrix w(OC, C) of a linear layer stays as it is, and the product
 * of two thin matrices, an adapter, is added to it; with rank 8 it has 1% of the numbers of w:
 *     y(N, OC) += h B^T,    h(N, rank) = scale x' A^T,    x'(N, C) = dropout(x),
 * A(rank, C), B(OC, rank). B begins at 0, so the first loss is that of the model alone. ---- */
typedef struct {
    const real *A, *B;
    real *dA, *dB;                       /* gradients */
    real *h, *dropped;                   /* scratch: (N, rank), (N, C) */
    int rank;                            /* 0: this layer has no adapter */
    real scale, dropout;                 /* the rate, and the key of its masks */
    uint64_t key;
} Lora;

/* Write l.h and return x', which is x if there is no dropout. */
const real *lora_h(const real *x, Lora l, int N, int C)
{
    if (l.dropout > 0) {
        x = memcpy(l.dropped, x, (size_t)N * C * sizeof *x);
        dropout(l.dropped, (size_t)N * C, l.dropout, l.key);
    }
    matmul(assign(l.h, l.rank), view(x, C), transposed(l.A, C), N, l.rank, C);
    for (size_t i = 0; i < (size_t)N * l.rank; i++) l.h[i] *= l.scale;
    return x;
}

/* Rows of y are ldy >= OC numbers apart. */
void lora_forward(real *y, size_t ldy, const real *x, Lora l, int N, int C, int OC)
{
    if (!l.rank) return;
    lora_h(x, l, N, C);
    matmul(accumulate(y, ldy), view(l.h, l.rank), transposed(l.B, l.rank), N, OC, l.rank);
}

/* Two linear layers, one after the other, so with dh(N, rank) = scale dy B
 *     dB += dy^T h,    dA += dh^T x',    dx += dh A, times the factors of dropout.
 * h is computed again, and its memory then holds dh. All three are added to. */
void lora_backward(real *dx, const real *dy, const real *x, Lora l, int N, int C, int OC)
{
    if (!l.rank) return;
    x = lora_h(x, l, N, C);
    matmul(accumulate(l.dB, l.rank), transposed(dy, OC), view(l.h, l.rank), OC, l.rank, N);
    matmul(assign(l.h, l.rank), view(dy, OC), view(l.B, l.rank), N, l.rank, OC);
    for (size_t i = 0; i < (size_t)N * l.rank; i++) l.h[i] *= l.scale;
    matmul(accumulate(l.dA, C), transposed(l.h, l.rank), view(x, C), l.rank, C, N);
    matmul(assign(l.dropped, C), view(l.h, l.rank), view(l.A, C), N, C, l.rank);
    dropout(l.dropped, (size_t)N * C, l.dropout, l.key);
    residual_forward(dx, dx, l.dropped, (size_t)N * C);
}

/* ---- causal attention ----
 * Each token has a query q, a key k and a value v of C numbers; each of NH heads owns HS of the C.
 * The query of token t sees the past and, of its document, the tokens doc_start[t] <= j <= t:
 *     s_j = q.k_j / sqrt(HS)    p_j = e^(s_j - lse), lse = log sum_j e^s_j    out = sum_j p_j v_j.
 * Queries are taken in blocks of QB, so that only (keys, QB) scores exist at a time. Only lse is
 * kept; backward computes the scores again [Dao et al. 2022]. The scores of one key lie side by
 * side: so softmax is vector code along the queries, and most products read their long operand
 * (keys, values or scores) where it is.
 * Rejected: the online softmax over blocks of keys; the scores of thousands of keys fit in L2. */
typedef struct {
    const real *qkv;                     /* (B, rows, 3C): q, k and v of each token side by side */
    const int *doc_start;                /* (B, T), or NULL: all documents begin at 0 */
    int B, past, T, rows, C, NH;         /* the T queries of a row come after `past` other tokens */
    real dropout;                        /* the rate on p, and the key of its random numbers */
    uint64_t key;
} Attention;

/* `count` queries of one head, and the keys key0 .. key0+keys-1 that they see between them. Of each
 * key there are `width` scores: count, rounded up to whole vectors. */
enum { QB = 64, LANES = 16 };
typedef struct {
    int count, width, key0, keys;
    const int *doc_start;                /* (count), or NULL */
    size_t query, out, q, k, v;          /* where the first one is in lse, in out, and in qkv */
} QueryBlock;

/* The block of head h of row b whose first query is that of token t0. */
QueryBlock query_block(const Attention *a, int b, int h, int t0)
{
    int HS = a->C / a->NH, count = min_int(QB, a->T - t0);
    size_t ld = 3 * (size_t)a->C, row = (size_t)b * a->rows * ld + h * HS;
    const int *doc_start = a->doc_start ? a->doc_start + (size_t)b * a->T + t0 : NULL;
    int key0 = doc_start && !a->past ? doc_start[0] : 0;
    return (QueryBlock){.count = count, .width = (count + LANES - 1) / LANES * LANES, .key0 = key0,
                        .keys = a->past + t0 + count - key0, .doc_start = doc_start,
                        .query = ((size_t)b * a->NH + h) * a->T + t0,
                        .out = ((size_t)b * a->T + t0) * a->C + h * HS,
                        .q = row + (a->past + t0) * ld, .k = row + key0 * ld + a->C,
                        .v = row + key0 * ld + 2 * a->C};
}

/* Memory of the calling thread for `tables` tables of scores, (keys, QB) each. */
real *scores_memory(int tables, int keys)
{
    static _Thread_local real *memory;
    static _Thread_local size_t size;
    size_t need = (size_t)tables * QB * keys;
    if (need > size) {
        free_reals(memory);
        memory = allocate_reals(size = need);
    }
    return memory;
}

/* Set the scores s(keys, width) that a query may not see to -infinity, so that p is 0 there. */
void scores_mask(real *s, const QueryBlock *n, int past)
{
    for (int j = 0; j < n->keys; j++, s += n->width) {
        int before = j - (n->keys - n->count), i;             /* queries of earlier tokens */
        for (i = 0; i < before; i++) s[i] = -INFINITY;
        int key = n->doc_start ? n->key0 + j - past : -1;     /* < 0: all documents see it */
        for (i = n->count - 1; key >= 0 && i >= 0 && n->doc_start[i] > key; i--)
            s[i] = -INFINITY;                                 /* queries of later documents */
    }
}

/* Dropout on s(keys, width), with other random numbers for each pair of a query and a key. */
void scores_dropout(real *s, const QueryBlock *n, const Attention *a)
{
    uint64_t random[QB];
    real p = a->dropout;
    int width = n->width;
    for (int i = 0; i < width; i++) random[i] = random_key(a->key, n->query + i);
    for (int j = 0; p > 0 && j < n->keys; j++, s += width)
        for (int i = 0; i < width; i++) s[i] *= dropout_factor(p, random[i], n->key0 + j);
}

/* For each query, with its products s = q.k(keys, width) and max the largest of them: in place
 * s = e^(scale (s - max)), which cannot overflow; lse(count) = log sum_j e^(scale s_j);
 * inv_sum(count) = 1 / sum_j e^(scale (s_j - max)). Worst error of s inv_sum: 14 ulp at scores of
 * deviation 1, 60 for p about 1e-35; of lse: 2 ulp of the larger of max and log sum. A score of NaN
 * or infinity makes the query NaN; -infinity has p = 0. */
void scores_softmax(real *s, real *lse, real *inv_sum, const QueryBlock *n, real scale)
{
    real max[QB], sum[QB] = {0}, *end = s + (size_t)n->keys * n->width;
    int width = n->width;
    for (int i = 0; i < width; i++) max[i] = -INFINITY;
    for (real *x = s; x < end; x += width)
#pragma omp simd
        for (int i = 0; i < width; i++) max[i] = x[i] > max[i] ? x[i] : max[i];
    for (real *x = s; x < end; x += width)
#pragma omp simd
        for (int i = 0; i < width; i++) sum[i] += x[i] = exp_real((x[i] - max[i]) * scale);
    for (int i = 0; i < n->count; i++)
        lse[i] = max[i] * scale + (real)log(sum[i]), inv_sum[i] = 1 / sum[i];
}

/* Write out(B, T, C) and lse(B, NH, T). Long blocks come first, so that threads end together. */
void attention_forward(real *out, real *lse, const Attention *a)
{
    int C = a->C, HS = C / a->NH, ld = 3 * C, blocks = (a->T + QB - 1) / QB;
#pragma omp parallel for collapse(3) schedule(dynamic)
    for (int b = 0; b < a->B; b++)
        for (int h = 0; h < a->NH; h++)
            for (int block = blocks - 1; block >= 0; block--) {
                QueryBlock n = query_block(a, b, h, block * QB);
                View q_t = transposed(a->qkv + n.q, ld);
                View k = view(a->qkv + n.k, ld), v = view(a->qkv + n.v, ld);
                real *s = scores_memory(1, a->rows), *o = out + n.out, inv_sum[QB];
                matmul_serial(assign(s, n.width), k, q_t, n.keys, n.count, HS);
                scores_mask(s, &n, a->past);
                scores_softmax(s, lse + n.query, inv_sum, &n, 1 / (real)sqrt(HS));
                scores_dropout(s, &n, a);
                matmul_serial(assign(o, C), transposed(s, n.width), v, n.count, HS, n.keys);
                for (int i = 0; i < n.count; i++)
                    for (int c = 0; c < HS; c++) o[(size_t)i * C + c] *= inv_sum[i];
            }
}

/* With the factors m_j of dropout (all 1 without), out = sum_j m_j p_j v_j. So
 *     dv_j = m_j p_j dout       dp_j = m_j (dout.v_j).
 * As p_i = e^(s_i - lse) and dlse/ds_j = p_j, the softmax has dp_i/ds_j = p_i ([i == j] - p_j):
 *     ds_j = sum_i dp_i p_i ([i == j] - p_j) = p_j (dp_j - sum_i p_i dp_i),
 * where sum_i p_i dp_i = dout . sum_i m_i p_i v_i = dout.out. As s_j = q.k_j/sqrt(HS),
 *     dq = sum_j ds_j k_j / sqrt(HS)      dk_j = sum over the queries of ds_j q / sqrt(HS).
 *
 * In place: p(keys, width), which holds q.k_j, becomes p, and dp becomes ds / sqrt(HS). lse and
 * p_dp = sum_i p_i dp_i are (width); scale is 1/sqrt(HS). */
void scores_backward(real *p, real *dp, const real *lse, const real *p_dp, const QueryBlock *n,
                     real scale)
{
    for (int j = 0; j < n->keys; j++, p += n->width, dp += n->width)
#pragma omp simd
        for (int i = 0; i < n->width; i++) {
            p[i] = exp_real(p[i] * scale - lse[i]);
            dp[i] = p[i] * (dp[i] - p_dp[i]) * scale;
        }
}

/* One block of queries: writes their dq, adds to dk and dv of the keys that they see. */
void attention_backward_block(real *dqkv, const real *dout, const real *out, const real *lse,
                              const Attention *a, const QueryBlock *n)
{
    int C = a->C, HS = C / a->NH, ld = 3 * C;
    View q = view(a->qkv + n->q, ld), k = view(a->qkv + n->k, ld), v = view(a->qkv + n->v, ld);
    View d_o = view(dout + n->out, C);
    real *p = scores_memory(2, a->T), *dp = p + (size_t)n->keys * n->width;
    real log_sum[QB] = {0}, p_dp[QB] = {0};                   /* 0 from count to width */
    for (int i = 0; i < n->count; i++) {
        log_sum[i] = lse[n->query + i];
        p_dp[i] = dot(d_o.p + (size_t)i * C, out + n->out + (size_t)i * C, HS);
    }
    matmul_serial(assign(p, n->width), k, transposed(q.p, ld), n->keys, n->count, HS);
    matmul_serial(assign(dp, n->width), v, transposed(d_o.p, C), n->keys, n->count, HS);
    scores_mask(p, n, 0);
    scores_dropout(dp, n, a);
    scores_backward(p, dp, log_sum, p_dp, n, 1 / (real)sqrt(HS));
    scores_dropout(p, n, a);
    matmul_serial(assign(dqkv + n->q, ld), transposed(dp, n->width), k, n->count, HS, n->keys);
    matmul_serial(accumulate(dqkv + n->k, ld), view(dp, n->width), q, n->keys, HS, n->count);
    matmul_serial(accumulate(dqkv + n->v, ld), view(p, n->width), d_o, n->keys, HS, n->count);
}

/* Write dqkv(B, T, 3C), given dout(B, T, C) and what forward wrote, where past is 0 and rows T. All
 * queries of a head add to the same keys, so one head of one row is the work of one thread. */
void attention_backward(real *dqkv, const real *dout, const real *out, const real *lse,
                        const Attention *a)
{
    memset(dqkv, 0, (size_t)a->B * a->T * 3 * a->C * sizeof(real));
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int b = 0; b < a->B; b++)
        for (int h = 0; h < a->NH; h++)
            for (int t0 = 0; t0 < a->T; t0 += QB) {
                QueryBlock n = query_block(a, b, h, t0);
                attention_backward_block(dqkv, dout, out, lse, a, &n);
            }
}

/* ---- head, softmax and cross-entropy: logits(N, V) = x(N, C) wte(V, C)^T, then the loss, then,
 * unless dx is NULL, backward. Rows of weight 0 are left out; the others are gathered in chunks, so
 * that the logits of all rows never exist at once. ---- */
typedef struct {
    const real *x;                       /* (N, C) */
    View wte;                            /* (V, C) */
    const real *weights;                 /* (N) */
    const int *targets;                  /* (N) */
    double *loss;                        /* (N), written: not yet weighted; 0 where the weight is */
    int *argmax;                         /* (N), written: the most likely token */
    real *dx, *dwte;                     /* (N, C), written; (V, C), added to, or NULL */
    real *scratch;                       /* head_scratch_size numbers */
    double smoothing;
    int N, C, V, ld;                     /* rows of logits are ld >= V apart */
    int chunk;                           /* so many rows of logits exist at a time, up to CHUNK */
} Head;

enum { CHUNK = 512 };
size_t head_scratch_size(int N, int C, int ld, int chunk)
{
    return min_int(N, chunk) * ((size_t)ld + 2 * C);
}

/* Row r of logits(rows, V) belongs to row n[r] of h. Let x be such a row, p = softmax(x), y its
 * target, e the smoothing and q_v = (1-e) [v == y] + e/V the target distribution. Writes argmax and
 *     loss = -sum_v q_v log p_v = log sum_v e^x_v - (1-e) x_y - e mean(x),     as sum_v q_v = 1.
 * The derivative of log sum_u e^x_u by x_v is e^x_v / sum_u e^x_u = p_v. So, unless h->dx is NULL,
 * the logits become dlogits_v = weight (p_v - q_v). Worst error of the loss: 1 ulp of the larger of
 * max and log sum; of dlogits: 11 ulp. Special values are as in scores_softmax. */
void softmax_loss(real *logits, const int *n, int rows, const Head *h)
{
    int V = h->V;
    double e = h->smoothing;
#pragma omp parallel for
    for (int r = 0; r < rows; r++) {
        real *x = logits + (size_t)r * h->ld, max = -INFINITY, sum = 0, mean = 0;
        real weight = h->weights[n[r]], *target = &x[h->targets[n[r]]], target_logit = *target;
        int argmax = 0;
#pragma omp simd reduction(max : max)
        for (int v = 0; v < V; v++) max = x[v] > max ? x[v] : max;
        while (argmax < V - 1 && x[argmax] != max) argmax++;
        for (int v = 0; e > 0 && v < V; v++) mean += x[v] / V;
#pragma omp simd
        for (int v = 0; v < V; v++) x[v] = exp_real(x[v] - max);
#pragma omp simd reduction(+ : sum)
        for (int v = 0; v < V; v++) sum += x[v];
        h->loss[n[r]] = max + log((double)sum) - (1 - e) * target_logit - e * mean;
        h->argmax[n[r]] = argmax;
        if (!h->dx) continue;
        real scale = weight / sum, smooth = weight * (real)(e / V);
        for (int v = 0; v < V; v++) x[v] = x[v] * scale - smooth;
        *target -= weight * (real)(1 - e);
    }
}

/* In backward dx = dlogits wte and dwte += dlogits^T x, as in linear_backward. */
void head_loss(const Head *h)
{
    int C = h->C, V = h->V, most = min_int(h->N, h->chunk), n[CHUNK];
    real *logits = h->scratch, *xs = logits + (size_t)most * h->ld, *dxs = xs + (size_t)most * C;
    memset(h->loss, 0, h->N * sizeof *h->loss);
    memset(h->argmax, 0, h->N * sizeof *h->argmax);
    if (h->dx) memset(h->dx, 0, (size_t)h->N * C * sizeof(real));
    for (int next = 0, rows;;) {
        for (rows = 0; next < h->N && rows < h->chunk; next++)
            if (h->weights[next] != 0) {
                memcpy(xs + (size_t)rows * C, h->x + (size_t)next * C, C * sizeof(real));
                n[rows++] = next;
            }
        if (rows == 0) return;
        matmul(assign(logits, h->ld), view(xs, C), flipped(h->wte), rows, V, C);
        softmax_loss(logits, n, rows, h);
        if (!h->dx) continue;
        matmul(assign(dxs, C), view(logits, h->ld), h->wte, rows, C, V);
        if (h->dwte)
            matmul(accumulate(h->dwte, C), transposed(logits, h->ld), view(xs, C), V, C, rows);
        for (int r = 0; r < rows; r++)
            memcpy(h->dx + (size_t)n[r] * C, dxs + (size_t)r * C, C * sizeof(real));
    }
}

/* ================================================================================================
 * 3. The same product, fast
 *
 * matmul_plain does 2 flops (a multiplication and an addition) for 2 numbers loaded, and processors
 * multiply much faster than they load. A tile of MR x NR outputs, held in registers during the sum
 * over k, does 2*MR*NR flops for MR + NR loads. That is the microkernel; the rest of the chapter
 * feeds it. It wants the numbers for one k side by side: so parts of A and B are first copied
 * ("packed") into panels, which hold MR rows of A or NR columns of B. A panel of B (KC x NR) stays
 * in the L1 cache while the rows of a block of A (MC x KC) flow past it from the L2 and L3 caches.
 * Rows of A that are contiguous are read where they are. As a View has a stride for rows and one
 * for columns, the same loops serve all transposes.               [Goto & van de Geijn 2008]
 *
 * Rejected: a BLAS library (a dependency, and slower for small shapes); intrinsics (each serves one
 * kind of processor; the vector types of gcc and clang serve all).
 */

/* A vector is VL numbers, VECTOR bytes, that the processor adds or multiplies with one instruction;
 * a loose_vector may begin anywhere in an array. A tile takes MR*NV registers for its sums, NV for
 * a row of B, one for a number of A: 28 of 32, or 16 of 16. Columns of A are packed where they are
 * more than IN_PLACE numbers apart. */
#if defined __AVX512F__
enum { VECTOR = 64, MR = 8 };
#elif defined __AVX__
enum { VECTOR = 32, MR = 4 };
#elif defined __aarch64__
enum { VECTOR = 16, MR = 8 };
#else
enum { VECTOR = 16, MR = 4 };
#endif
enum { VL = VECTOR / REAL_BYTES, NV = 3, NR = NV * VL, KC = 256, MC = 1536, NC = 16 * NR,
       IN_PLACE = 128 };
typedef real vector __attribute__((vector_size(VECTOR)));
typedef real loose_vector __attribute__((vector_size(VECTOR), aligned(REAL_BYTES), may_alias));

/* The same matrices, from element (i, j) on. */
static inline View view_from(View x, int i, int j)
{
    size_t at = i * x.rs + j * x.cs;
    return (View){x.h ? NULL : x.p + at, x.rs, x.cs, x.h ? x.h + at : NULL};
}
static inline Output output_from(Output c, int i, int j)
{
    return (Output){c.p + i * c.rs + j, c.rs, c.start ? c.start + i * c.start_rs + j : NULL,
                    c.start_rs};
}

#define UNROLL _Pragma("GCC unroll 16")                       /* a loop of a few constant steps */

/* ---- packing: to(depth, width) receives, for each k, X(0, k) ... X(width-1, k) side by side. X is
 * A for panels of MR rows, and B transposed for panels of NR (at the edge: fewer) columns. ---- */

/* Any strides; rows that X does not have are zeros. */
void pack_edge(real *to, View x, int rows, int width, int depth)
{
    for (int k = 0; k < depth; k++)
        for (int j = 0; j < width; j++) to[k * width + j] = j < rows ? x.p[j * x.rs + k * x.cs] : 0;
}

/* X(rows, depth) with x.rs == 1 and rows a multiple of MR, into panels of MR. Eight panels grow at
 * the same time, so that cache lines are used whole; those of later k are asked for in advance. */
enum { AHEAD = 12 };
void pack_strips(real *to, View x, int rows, int depth)
{
    for (int group = 0; group < rows; group += 8 * MR)
        for (int k = 0; k < depth; k++)
            for (int i = group; i < min_int(rows, group + 8 * MR); i += MR) {
                __builtin_prefetch(x.p + i + (k + AHEAD) * x.cs);
                memcpy(to + (size_t)i * depth + k * MR, x.p + i + k * x.cs, MR * sizeof(real));
            }
}

/* One panel of whole vectors, with x.rs == 1. */
void pack_lines(real *to, View x, int width, int depth)
{
    for (int k = 0; k < depth; k++)
        for (int j = 0; j < width; j += VL) {
            __builtin_prefetch(x.p + j + (k + AHEAD) * x.cs);
            *(vector *)&to[k * width + j] = *(loose_vector *)&x.p[j + k * x.cs];
        }
}

/* One panel of whole vectors, with x.cs == 1: squares of VL x VL are transposed, which a compiler
 * makes log2(VL) rounds of vector shuffles, and the next ones asked for. */
void pack_squares(real *to, View x, int width, int depth)
{
    real square[VL * VL] __attribute__((aligned(64)));
    int k = 0;
    for (; k + VL <= depth; k += VL)
        for (int j = 0; j < width; j += VL) {
            const real *from = x.p + j * x.rs + k;
            for (int c = 0; c < VL; c++)
                UNROLL for (int r = 0; r < VL; r++) square[c * VL + r] = from[r * x.rs + c];
            for (int r = 0; r < VL; r++) __builtin_prefetch(&from[r * x.rs + VL]);
            for (int c = 0; c < VL; c++)
                *(vector *)&to[(k + c) * width + j] = *(vector *)&square[c * VL];
        }
    pack_edge(to + k * width, view_from(x, 0, k), width, width, depth - k);
}

/* The panels of a(rows, depth), and the one of b(depth, columns). */
void pack_a(real *to, View a, int rows, int depth)
{
    int whole = a.rs == 1 ? rows / MR * MR : 0;
    pack_strips(to, a, whole, depth);
    for (int i = whole; i < rows; i += MR)
        pack_edge(to + (size_t)i * depth, view_from(a, i, 0), rows - i, MR, depth);
}
void pack_b(real *to, View b, int columns, int depth)
{
    int width = (columns + VL - 1) / VL * VL;
    View x = flipped(b);
    if (columns < width || (x.rs > 1 && x.cs > 1)) pack_edge(to, x, columns, width, depth);
    else if (x.rs == 1) pack_lines(to, x, width, depth);
    else pack_squares(to, x, width, depth);
}

/* ---- bf16 ----
 *
 * A bf16 number is the upper half of a float: sign, 8 bits of exponent, 7 of fraction. It has the
 * range of a float, but only 2 to 3 decimal digits. Products bear that: each operand is wrong by at
 * most one part in 256, upwards or downwards, and in a sum over many k most of these errors cancel.
 * Sums do not: in bf16, 256 + 1 is 256. So a product in bf16 rounds its operands when they are
 * packed and adds in float. All else stays float. PyTorch's autocast does the same. A matrix that
 * is only read may be stored in bf16; then a View has its numbers at h instead of p.
 *
 * Rounding to nearest, ties to even: add just under half of the last place kept (0x7fff), plus 1 if
 * its last bit is odd, and cut off the lower half. A NaN must keep a bit of its fraction. */
typedef uint16_t bfloat16;
View view_bf16(const bfloat16 *h, size_t columns) { return (View){NULL, columns, 1, h}; }
static inline bfloat16 bf16_from(float x)
{
    union { float f; uint32_t i; } u = {x};
    return x != x ? (u.i >> 16) | 0x40 : (u.i + 0x7fff + ((u.i >> 16) & 1)) >> 16;
}
static inline float bf16_to(bfloat16 x)                       /* exact */
{
    union { uint32_t i; float f; } u = {(uint32_t)x << 16};
    return u.f;
}
static inline float bf16_rounded(float x) { return bf16_to(bf16_from(x)); }

/* Are products computed in bf16? One that reads a matrix in bf16 always is. */
int bf16_products;
int is_bf16(View a, View b) { return bf16_products || a.h || b.h; }

/* X(i, j), with `bf16` rounded to it. */
static inline real element(View x, int i, int j, int bf16)
{
    size_t at = i * x.rs + j * x.cs;
    return x.h ? bf16_to(x.h[at]) : bf16 ? bf16_rounded((float)x.p[at]) : x.p[at];
}

/* Some processors have an instruction on words, which are pairs of bf16 numbers of neighbouring k,
 * in the place of one float: it adds both products, sum += a_0 b_0 + a_1 b_1. C has no operator for
 * it. Elsewhere a word is one rounded number, and the kernel is that of floats: the same precision,
 * but no gain. This includes Intel's processors with AVX-512 FP16, where the instruction takes four
 * times as long as a multiply-add; -DBF16_DOT=0 or =1 chooses otherwise. A word is kept in a real,
 * whose value means nothing if the word is a pair. */
#if !defined BF16_DOT && !defined __AVX512FP16__
#define BF16_DOT 1
#endif
#if BF16_DOT && defined __AVX512BF16__ && REAL_BYTES == 4
#include <immintrin.h>
enum { PAIR = 2 };                                            /* numbers in a word */
static inline vector dot_add(vector sum, real a, vector b)
{
    return (vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_ps(a), (__m512bh)b);
}
#elif BF16_DOT && defined __ARM_FEATURE_BF16_VECTOR_ARITHMETIC && REAL_BYTES == 4
#include <arm_neon.h>
enum { PAIR = 2 };
static inline vector dot_add(vector sum, real a, vector b)
{
    return (vector)vbfdotq_f32((float32x4_t)sum, (bfloat16x8_t)vdupq_n_f32(a), (bfloat16x8_t)b);
}
#else
enum { PAIR = 1 };
static inline vector dot_add(vector sum, real a, vector b) { return sum + a * b; }
#endif

static inline real word_of(float x, float next)
{
    union { uint32_t i; float f; } u = {bf16_from(x) | (uint32_t)bf16_from(next) << 16};
    return PAIR == 2 ? u.f : bf16_rounded(x);
}
static inline int words_of(int depth) { return (depth + PAIR - 1) / PAIR; }

/* n words of X: word j holds the number at from + j*step and, if `both`, that `next` behind it. */
static inline __attribute__((always_inline))
void round_line(real *to, View x, size_t from, size_t step, size_t next, int n, int both)
{
    if (x.h)
        for (size_t j = 0, at = from; j < (size_t)n; j++, at += step)
            to[j] = word_of(bf16_to(x.h[at]), both ? bf16_to(x.h[at + next]) : 0);
    else
        for (size_t j = 0, at = from; j < (size_t)n; j++, at += step)
            to[j] = word_of((float)x.p[at], both ? (float)x.p[at + next] : 0);
}

/* The words of X(rows, depth), in rows as those of X or, if x.rs == 1, in columns. */
View round_view(real *to, View x, int rows, int depth)
{
    int words = words_of(depth), whole = depth / PAIR;
    for (int k = 0; x.cs != 1 && k < words; k++) {
        int both = k < whole && PAIR == 2;
        round_line(to + (size_t)k * rows, x, k * PAIR * x.cs, 1, x.cs, rows, both);
    }
    for (int j = 0; x.cs == 1 && j < rows; j++) {
        real *line = to + (size_t)j * words;
        round_line(line, x, j * x.rs, PAIR, 1, whole, PAIR == 2);
        if (whole < words) round_line(line + whole, x, j * x.rs + depth - 1, 0, 0, 1, 0);
    }
    return x.cs == 1 ? view(to, words) : transposed(to, rows);
}

/* ---- the microkernel: c(MR, vectors*VL) = start + a(MR, depth) b(depth, vectors*VL), where b is a
 * panel; with `pairs`, a and b are words. All sums are held in registers: `vectors` and `pairs` are
 * constants wherever this is called, so that all loops but the one over k are unrolled. (clang does
 * that only where the bound is a constant in here, too: therefore NV, and a condition.) ---- */
static inline __attribute__((always_inline))
void microkernel(Output c, View a, const real *b, int depth, int vectors, int pairs)
{
    vector sum[MR][NV] = {{{0}}};
    UNROLL for (int i = 0; i < MR; i++)
        UNROLL for (int j = 0; j < NV; j++)
            if (j < vectors) __builtin_prefetch(&c.p[i * c.rs + j * VL], 1);
#pragma GCC unroll 4
    for (int k = 0; k < depth; k++) {
        vector bk[NV];
        UNROLL for (int j = 0; j < NV; j++)
            if (j < vectors) bk[j] = *(vector *)&b[(k * vectors + j) * VL];
        UNROLL for (int i = 0; i < MR; i++) {
            real ai = a.p[i * a.rs + k * a.cs];
            UNROLL for (int j = 0; j < NV; j++)
                if (j < vectors)
                    sum[i][j] = pairs ? dot_add(sum[i][j], ai, bk[j]) : sum[i][j] + ai * bk[j];
        }
    }
    UNROLL for (int i = 0; i < MR; i++)
        UNROLL for (int j = 0; j < NV; j++) {
            if (j >= vectors) break;
            if (c.start) sum[i][j] += *(loose_vector *)&c.start[i * c.start_rs + j * VL];
            *(loose_vector *)&c.p[i * c.rs + j * VL] = sum[i][j];
        }
}

/* One tile, c(rows, columns) = start + a(rows, depth) b(depth, columns), where a has MR rows (zeros
 * beyond `rows`) and b is a panel, in bf16 both of words. A smaller one is cut from a whole one. */
void tile(Output c, View a, const real *b, int rows, int columns, int depth, int bf16)
{
    real edge_tile[MR * NR] __attribute__((aligned(64)));
    int vectors = (columns + VL - 1) / VL, whole = rows == MR && columns == vectors * VL;
    Output to = whole ? c : assign(edge_tile, NR);
    if (bf16 && PAIR == 2) {
        if (vectors == NV) microkernel(to, a, b, depth, NV, 1);
        else if (vectors == 2) microkernel(to, a, b, depth, 2, 1);
        else microkernel(to, a, b, depth, 1, 1);
    } else if (vectors == NV) microkernel(to, a, b, depth, NV, 0);
    else if (vectors == 2) microkernel(to, a, b, depth, 2, 0);
    else microkernel(to, a, b, depth, 1, 0);
    for (int i = 0; !whole && i < rows; i++)
        for (int j = 0; j < columns; j++)
            c.p[i * c.rs + j] = edge_tile[i * NR + j] + start_at(c, i, j);
}

/* A product with at least MR/2 rows, at most MC, on the calling thread. Each thread has its own
 * memory for packed panels; nothing in here calls matmul again, so no two products share it. */
void matmul_block(Output c, View a, View b, int rows, int columns, int depth)
{
    static _Thread_local real *a_pack;
    int bf16 = is_bf16(a, b), most = bf16 ? KC * PAIR : KC;
    if (!a_pack) a_pack = allocate_reals(2 * (MC + NR) * KC);
    real *b_pack = a_pack + MC * KC, *b_words = b_pack + NR * KC, *a_words = b_words + NR * KC;
    for (int p = 0; p < depth; p += most) {
        int count = min_int(most, depth - p), kc = bf16 ? words_of(count) : count;
        View ap = view_from(a, 0, p);
        if (bf16) ap = round_view(a_words, ap, rows, count);
        int in_place = ap.cs == 1 || (ap.rs == 1 && ap.cs <= IN_PLACE) ? rows / MR * MR : 0;
        pack_a(a_pack, view_from(ap, in_place, 0), rows - in_place, kc);
        for (int j = 0; j < columns; j += NR) {
            int width = min_int(NR, columns - j);
            View bp = view_from(b, p, j);
            if (bf16) bp = flipped(round_view(b_words, flipped(bp), width, count));
            pack_b(b_pack, bp, width, kc);
            for (int i = 0; i < rows; i += MR) {
                View panel = {a_pack + (size_t)max_int(i - in_place, 0) * kc, 1, MR, NULL};
                tile(output_from(c, i, j), i < in_place ? view_from(ap, i, 0) : panel, b_pack,
                     min_int(MR, rows - i), width, kc, bf16);
            }
        }
        c.start = c.p, c.start_rs = c.rs;                     /* the next p adds to c */
    }
}

/* ---- products too thin for tiles: packed numbers would be used so rarely that copying costs more
 * than it saves. A step of generation consists of them, as fast as weights can be read. ---- */

/* VL numbers from x[at] on: as they are, rounded to bf16, or stored in bf16. */
enum { AS_REAL, AS_ROUNDED, AS_BF16 };
typedef float floats __attribute__((vector_size(VL * 4)));
typedef uint32_t bits __attribute__((vector_size(VL * 4)));
typedef bfloat16 loose_halves __attribute__((vector_size(VL * 2), aligned(2), may_alias));
static inline vector load(const void *x, int at, int kind)
{
    if (kind == AS_BF16) {
        bits u = __builtin_convertvector(*(loose_halves *)((bfloat16 *)x + at), bits) << 16;
        return __builtin_convertvector((floats)u, vector);
    }
    vector whole = *(loose_vector *)((real *)x + at);
    if (kind == AS_REAL) return whole;
    floats f = __builtin_convertvector(whole, floats);        /* as bf16_from, without a branch */
    bits u = (bits)f, is_nan = (bits)(f != f), even = u + 0x7fff + (u >> 16 & 1);
    u = ((even & ~is_nan) | ((u | 0x400000) & is_nan)) & 0xffff0000;
    return __builtin_convertvector((floats)u, vector);
}
static inline real load_one(const void *x, int at, int kind)
{
    if (kind == AS_BF16) return bf16_to(((bfloat16 *)x)[at]);
    return kind == AS_REAL ? ((real *)x)[at] : bf16_rounded((float)((real *)x)[at]);
}

/* The sum of a_i b_i over n. A row of weights is too short for the processor to notice in time that
 * another one follows; hence the prefetch. */
static inline __attribute__((always_inline))
real dot_of(const real *a, const void *b, int n, int a_kind, int b_kind)
{
    enum { NEXT = 4096 };                                     /* bytes */
    int size = b_kind == AS_BF16 ? sizeof(bfloat16) : sizeof(real), k = 0;
    vector sum[4] = {{0}};
    real rest = 0;
    for (; k + 4 * VL <= n; k += 4 * VL)
        UNROLL for (int j = 0; j < 4; j++) {
            int at = k + j * VL;
            __builtin_prefetch((const char *)b + at * size + NEXT);
            sum[j] += load(a, at, a_kind) * load(b, at, b_kind);
        }
    for (; k < n; k++) rest += load_one(a, k, a_kind) * load_one(b, k, b_kind);
    sum[0] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    for (int half = VL / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) sum[0][j] += sum[0][j + half];
    return rest + sum[0][0];
}
real dot(const real *a, const real *b, int n) { return dot_of(a, b, n, AS_REAL, AS_REAL); }

/* Are rows of a and columns of b contiguous? */
int is_dots(View a, View b) { return a.cs == 1 && b.rs == 1 && !a.h; }

/* Are there fewer rows than half a tile's, or fewer columns, and contiguous operands? */
int is_thin(View a, View b, int rows, int columns)
{
    return (rows < MR / 2 && (is_dots(a, b) || b.cs == 1)) || (columns < MR / 2 && is_dots(a, b));
}

/* c consists of dot products, or else each row of c is a sum of rows of b. */
void matmul_thin(Output c, View a, View b, int rows, int columns, int depth)
{
    int dots = is_dots(a, b), bf16 = is_bf16(a, b);
    for (int j = 0; dots && j < columns; j++)
        for (int i = 0; i < rows; i++) {
            const real *ai = a.p + i * a.rs;
            real sum;
            if (b.h) sum = dot_of(ai, b.h + j * b.cs, depth, AS_ROUNDED, AS_BF16);
            else if (bf16) sum = dot_of(ai, b.p + j * b.cs, depth, AS_ROUNDED, AS_ROUNDED);
            else sum = dot(ai, b.p + j * b.cs, depth);
            c.p[i * c.rs + j] = start_at(c, i, j) + sum;
        }
    for (int i = 0; !dots && i < rows; i++) {
        real *ci = c.p + i * c.rs;
        for (int j = 0; j < columns; j++) ci[j] = start_at(c, i, j);
        for (int k = 0; k < depth; k++) {
            real aik = element(a, i, k, bf16);
            View bk = view_from(b, k, 0);
            if (bf16) for (int j = 0; j < columns; j++) ci[j] += aik * element(bk, 0, j, 1);
            else for (int j = 0; j < columns; j++) ci[j] += aik * bk.p[j];
        }
    }
}

/* ---- the two entrances; c(M, N) = start + a(M, K) b(K, N). Whether a product is thin is decided
 * before it is cut into shares: how it is cut has no influence on any sum. Worst error, in fp32 and
 * beside the rounding of operands in bf16: 2 ulp of sum_k |a_ik b_kj|. NaN and infinity stay; the
 * instruction on words may take subnormal numbers for 0. ---- */
#ifndef PLAIN
#define PLAIN 0
#endif
void matmul_share(Output c, View a, View b, int M, int N, int K, int thin)
{
    if (PLAIN && !is_bf16(a, b)) matmul_plain(c, a, b, M, N, K);
    else if (thin) matmul_thin(c, a, b, M, N, K);
    else
        for (int i = 0; i < M; i += MC)
            matmul_block(output_from(c, i, 0), view_from(a, i, 0), b, min_int(MC, M - i), N, K);
}
void matmul_serial(Output c, View a, View b, int M, int N, int K)
{
    matmul_share(c, a, b, M, N, K, is_thin(a, b, M, N));
}

/* Threads take shares of mc x nc, about MC x NC at most, in turn; their number is chosen so that
 * all threads get the same work. */
void matmul(Output c, View a, View b, int M, int N, int K)
{
    int thin = is_thin(a, b, M, N), team = threads(), blocks = (M + MC - 1) / MC;
    int mc = ((M + blocks - 1) / blocks + MR - 1) / MR * MR;
    int stripes = max_int((N + NC - 1) / NC, (team + blocks - 1) / blocks);
    if (M < MR / 2) stripes = team;                           /* long reads, each thread its own */
    while (blocks * stripes % team && stripes % team) stripes++;
    int nc = ((N + stripes - 1) / stripes + NR - 1) / NR * NR;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int i = 0; i < M; i += mc)
        for (int j = 0; j < N; j += nc)
            matmul_share(output_from(c, i, j), view_from(a, i, 0), view_from(b, 0, j),
                         min_int(mc, M - i), min_int(nc, N - j), K, thin);
}

/* ================================================================================================
 * 4. The machine: threads, memory, random numbers, exp
 */

#ifdef _OPENMP
#include <omp.h>
int threads(void) { return omp_get_max_threads(); }
void use_threads(int count) { omp_set_num_threads(count); }
#else
int threads(void) { return 1; }
void use_threads(int count) { (void)count; }
#endif

/* A sequence of small equal steps chooses its number of threads by measuring: where other programs
 * use the cores, waiting for one another can cost more than sharing the work gains. In each PERIOD
 * of steps TRIAL warm up, TRIAL are measured on all threads and TRIAL on one; the rest run on one
 * thread if that was clearly faster. */
typedef struct { int all, step; double started, seconds[2]; } Pace;

/* Called before each step; a Pace begins as {.all = threads()}. After the last step the caller
 * sets use_threads(all) again. */
void pace_step(Pace *p)
{
    enum { PERIOD = 256, TRIAL = 8 };
    int n = p->step++ % PERIOD, trial = n / TRIAL;
    if (n % TRIAL || trial > 3 || p->all == 1) return;
    double now = seconds();
    if (trial > 1) p->seconds[trial - 2] = now - p->started;
    p->started = now;
    use_threads(trial == 2 || (trial == 3 && p->seconds[1] < 0.9 * p->seconds[0]) ? 1 : p->all);
}

enum { HUGE_PAGE = 1 << 21 };

/* An array of zeros that begins at a cache line, to be freed by free_reals; dies if there is no
 * memory. Pages that are never touched cost none. Large arrays ask for pages of 2 MB, because the
 * processor remembers the addresses of few pages, and would need a small one for each row of a
 * matrix. What calloc gave is stored just before the array. */
real *allocate_reals(size_t count)
{
    size_t align = count < HUGE_PAGE ? 64 : HUGE_PAGE, bytes = count * sizeof(real);
    char *raw = NULL;
    if (count <= (SIZE_MAX - 2 * align) / sizeof(real)) raw = calloc(1, bytes + 2 * align);
    if (!raw)
        die("out of memory: %.2f GB are needed; choose a smaller batch, context or model",
            (double)count * sizeof(real) / 1e9);
    void **p = (void **)(((uintptr_t)raw + 2 * align - 1) / align * align);
#ifdef MADV_HUGEPAGE
    if (align == HUGE_PAGE) madvise(p, bytes, MADV_HUGEPAGE);
#endif
    p[-1] = raw;
    return (real *)p;
}
void free_reals(real *p) { if (p) free(((void **)p)[-1]); }

/* A random number is a function of a key and a counter, not a state that advances: both are hashed.
 * So a mask of dropout can be computed again in backward, on any thread, and a resumed run has
 * nothing to restore. mix is a hash of 32 bits, lowbias32 [Wellons 2018]. */
static inline uint32_t mix(uint32_t x)
{
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}
static inline uint32_t random_bits(uint64_t key, uint32_t i)
{
    return mix(mix(i + (uint32_t)key) ^ (uint32_t)(key >> 32));
}
/* Uniform in [0, 1). */
static inline double random_uniform(uint64_t key, uint32_t i)
{
    return random_bits(key, i) * 0x1p-32;
}
/* A new key for the n-th use of a key: splitmix64 [Steele et al. 2014]. */
uint64_t random_key(uint64_t key, uint64_t n)
{
    uint64_t x = key + 0x9e3779b97f4a7c15u * (n + 1);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
/* Standard normal [Box & Muller 1958]. */
double random_normal(uint64_t key, uint32_t i)
{
    double u = 1 - random_uniform(key, 2 * i), v = random_uniform(key, 2 * i + 1);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* e^x. With x = n ln2 + r, n an integer and |r| <= ln2/2, e^x = 2^n e^r: a Taylor polynomial gives
 * e^r, and n goes into the exponent bits. Adding and subtracting 1.5 * 2^23 rounds to an integer.
 * Loops over it become vector code, because there are no branches or tables. Relative error under
 * 3e-7, and under 4 ulp (3.0 ulp were the most in 8 million numbers of the whole range); 0 below
 * 2e-38, also for subnormal results; infinity above the largest number; NaN for NaN. */
static inline float exp_float(float x)
{
    union { float f; uint32_t i; } scale;
    float above = x > -86.9f ? x : -86.9f, y = above < 88.72283f ? above : 88.72283f;
    float n = (y * 1.44269504f + 12582912.0f) - 12582912.0f;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;    /* NaN for NaN, unlike y and n */
    float p = 1 + r * (1 + r * (0.5f + r * (1.6666667e-1f + r * (4.1666668e-2f +
              r * (8.3333333e-3f + r * 1.3888889e-3f)))));
    scale.i = (uint32_t)((int32_t)n + 126) << 23;           /* 2^(n-1): 2^128 would overflow */
    float e = p * scale.f * 2;
    return x < -86.9f ? 0 : x > 88.72283f ? INFINITY : e;
}
static inline real exp_real(real x)
{
    return REAL_BYTES == 4 ? (real)exp_float((float)x) : (real)exp(x);
}

/* ================================================================================================
 * 5. Parameters
 *
 * One row per tensor drives allocation, loading, saving, initialization, decay, clipping, counting,
 * printing, the gradient check and the names in other formats: a new parameter is a new row here
 * and its use in a block. All weights lie in one block of memory, an arena, in the order of the
 * file; gradients and the two moments of AdamW are three more of the same layout. Adapters have a
 * table of their own: if there are any, only they are trained, and these three have their layout.
 */

typedef struct { int T, V, L, NH, C, Vp; } Config;            /* T: longest context, Vp: V padded */

/* First values [Radford et al. 2019]: weights are normal with standard deviation 0.02, but 0.02 /
 * sqrt(2L) where they lead back into the residual stream (RESIDUAL), which is a sum of 2L branches.
 * Biases are 0, scales 1. Hugging Face's files store LINEAR and RESIDUAL transposed, (in, out). */
enum { EMBEDDING, LINEAR, RESIDUAL, ONES, ZEROS, ADAPTER_A, ADAPTER_B };

#define PARAMETERS(X)                                                                              \
    /* field     name in Hugging Face       per layer  rows   columns  first value */              \
    X(wte,       "wte.weight",                  0,     c.Vp,    c.C,   EMBEDDING)                  \
    X(wpe,       "wpe.weight",                  0,      c.T,    c.C,   EMBEDDING)                  \
    X(ln1_w,     "h.%d.ln_1.weight",            1,        1,    c.C,   ONES)                       \
    X(ln1_b,     "h.%d.ln_1.bias",              1,        1,    c.C,   ZEROS)                      \
    X(qkv_w,     "h.%d.attn.c_attn.weight",     1,  3 * c.C,    c.C,   LINEAR)                     \
    X(qkv_b,     "h.%d.attn.c_attn.bias",       1,        1, 3 * c.C,  ZEROS)                      \
    X(attproj_w, "h.%d.attn.c_proj.weight",     1,      c.C,    c.C,   RESIDUAL)                   \
    X(attproj_b, "h.%d.attn.c_proj.bias",       1,        1,    c.C,   ZEROS)                      \
    X(ln2_w,     "h.%d.ln_2.weight",            1,        1,    c.C,   ONES)                       \
    X(ln2_b,     "h.%d.ln_2.bias",              1,        1,    c.C,   ZEROS)                      \
    X(fc_w,      "h.%d.mlp.c_fc.weight",        1,  4 * c.C,    c.C,   LINEAR)                     \
    X(fc_b,      "h.%d.mlp.c_fc.bias",          1,        1, 4 * c.C,  ZEROS)                      \
    X(fcproj_w,  "h.%d.mlp.c_proj.weight",      1,      c.C, 4 * c.C,  RESIDUAL)                   \
    X(fcproj_b,  "h.%d.mlp.c_proj.bias",        1,        1,    c.C,   ZEROS)                      \
    X(lnf_w,     "ln_f.weight",                 0,        1,    c.C,   ONES)                       \
    X(lnf_b,     "ln_f.bias",                   0,        1,    c.C,   ZEROS)

/* The adapters of LoRA, A and B for each of four matrices. A is uniform in +-1/sqrt(columns), as in
 * PEFT, and B is 0. The rank is 0 where there is no adapter. */
typedef struct {
    uint64_t base;                       /* model_fingerprint of what is adapted */
    double alpha;                        /* the adapter's product is scaled by alpha / rank */
    int rank, on;                        /* bit i of `on`: matrix i, as below, is adapted */
} Adapter;

enum { QKV, ATTPROJ, FC, FCPROJ, ADAPTED };
const char *const adapted_names[ADAPTED] = {"qkv", "attproj", "fc", "fcproj"};

#define ADAPTERS(X)                                                                                \
    /* field     name in PEFT                         per layer  rows   columns   first value */   \
    X(qkv_A,     "h.%d.attn.c_attn.lora_A.weight",        1,   r[QKV],      c.C,  ADAPTER_A)       \
    X(qkv_B,     "h.%d.attn.c_attn.lora_B.weight",        1,  3 * c.C,   r[QKV],  ADAPTER_B)       \
    X(attproj_A, "h.%d.attn.c_proj.lora_A.weight",        1, r[ATTPROJ],    c.C,  ADAPTER_A)       \
    X(attproj_B, "h.%d.attn.c_proj.lora_B.weight",        1,  c.C,   r[ATTPROJ],  ADAPTER_B)       \
    X(fc_A,      "h.%d.mlp.c_fc.lora_A.weight",           1,    r[FC],      c.C,  ADAPTER_A)       \
    X(fc_B,      "h.%d.mlp.c_fc.lora_B.weight",           1,  4 * c.C,    r[FC],  ADAPTER_B)       \
    X(fcproj_A,  "h.%d.mlp.c_proj.lora_A.weight",         1, r[FCPROJ], 4 * c.C,  ADAPTER_A)       \
    X(fcproj_B,  "h.%d.mlp.c_proj.lora_B.weight",         1,    c.C,  r[FCPROJ],  ADAPTER_B)

/* A pointer for each row of both tables, by name (p.wte) and number (p.tensor[0]), or NULL. */
#define ONE(...) +1
#define FIELD(name, ...) real *name;
enum { TENSORS = PARAMETERS(ONE), ALL_TENSORS = TENSORS + ADAPTERS(ONE) };
typedef union {
    struct { PARAMETERS(FIELD) ADAPTERS(FIELD) };
    real *tensor[ALL_TENSORS];
} Params;

/* A row of the table for a given shape. */
typedef struct {
    const char *field, *name;
    int layered, rows, columns, first_value;
    size_t size, offset;                 /* of one layer; of layer 0 in the arena */
} Tensor;

#define ROW(field, name, layered, rows, columns, value)                                            \
    (Tensor){#field, name, layered, rows, columns, value, (size_t)(rows) * (columns), 0},

/* Copy `count` rows to tensors, with their places in an arena; returns its size in numbers. */
size_t tensors_place(Tensor *tensors, const Tensor *rows, int count, int L)
{
    size_t offset = 0;
    for (int i = 0; i < count; i++) {
        tensors[i] = rows[i], tensors[i].offset = offset;
        offset += tensors[i].size * (tensors[i].layered ? L : 1);
    }
    return offset;
}

/* Describe every tensor of a model; returns how many numbers they are in all. */
size_t tensors_describe(Config c, Tensor tensors[TENSORS])
{
    return tensors_place(tensors, (const Tensor[]){PARAMETERS(ROW)}, TENSORS, c.L);
}

/* The same for its adapters. */
size_t adapters_describe(Config c, Adapter a, Tensor tensors[ALL_TENSORS - TENSORS])
{
    int r[ADAPTED];
    for (int i = 0; i < ADAPTED; i++) r[i] = a.on >> i & 1 ? a.rank : 0;
    return tensors_place(tensors, (const Tensor[]){ADAPTERS(ROW)}, ALL_TENSORS - TENSORS, c.L);
}

/* Set the pointers to tensors first ... end-1 in their arena; of layered ones, to layer 0. */
void params_place(Params *p, const Tensor tensors[ALL_TENSORS], int first, int end, real *arena)
{
    for (int i = first; i < end; i++) p->tensor[i] = arena + tensors[i].offset;
}

/* The same pointers for layer l. */
Params params_layer(const Tensor tensors[ALL_TENSORS], Params p, int l)
{
    for (int i = 0; i < ALL_TENSORS; i++)
        if (tensors[i].layered && p.tensor[i]) p.tensor[i] += l * tensors[i].size;
    return p;
}

/* Die if a shape that a file or a command line names is impossible; `where` begins the message. */
void config_check(Config c, const char *where)
{
    if (c.T < 1 || c.T > 1 << 20 || c.V < 2 || c.V > 1 << 20 || c.L < 1 || c.L > 1000 ||
        c.NH < 1 || c.C < 1 || c.C > 1 << 16 || c.Vp < c.V || c.Vp > c.V + (1 << 16))
        die("%s: impossible model: context %d, vocabulary %d (padded %d), %d layers, %d heads, %d "
            "channels", where, c.T, c.V, c.Vp, c.L, c.NH, c.C);
    if (c.C % c.NH) die("%s: %d channels cannot be shared by %d heads", where, c.C, c.NH);
}

/* ================================================================================================
 * 6. The model
 *
 * The residual stream res(N, C) starts as the embedding; every block adds to it twice:
 *     res2 = res  + attproj(attention(qkv(layernorm(res))))
 *     res' = res2 + fcproj(gelu(fc(layernorm(res2))))            logits = layernorm(res_L) wte^T.
 * Saved for backward, for each layer: what is expensive to recompute (10 C numbers a token). The
 * outputs of layernorm and gelu are recomputed, in buffers that all layers share. Generation is the
 * same code: it keeps only qkv, with a row for every past token, and that is the key-value cache.
 * With --recompute, training keeps only res for each layer, C numbers a token; all else is one
 * layer's, and backward computes it from res again, layer by layer [Chen et al. 2016]. Masks of
 * dropout are functions of keys, so they come out the same, and so do all results. That takes the
 * time of one more forward pass.
 */

#define ACTIVATIONS(X)                                                                             \
    /* field     numbers a token  kept for every layer in training, with --recompute, generation */\
    X(res,       c.C,              1, 1, 0)                                                        \
    X(ln1_stats, 2,                1, 0, 0)                                                        \
    X(qkv,       3 * c.C,          1, 0, 1)                                                        \
    X(lse,       c.NH,             1, 0, 0)                                                        \
    X(att,       c.C,              1, 0, 0)                                                        \
    X(res2,      c.C,              1, 0, 0)                                                        \
    X(ln2_stats, 2,                1, 0, 0)                                                        \
    X(fc,        4 * c.C,          1, 0, 0)                                                        \
    X(final_res, c.C,              0, 0, 0) /* what follows belongs to no layer */                 \
    X(lnf_stats, 2,                0, 0, 0)                                                        \
    X(ln,        c.C,              0, 0, 0)                                                        \
    X(gelu,      4 * c.C,          0, 0, 0)                                                        \
    X(proj,      c.C,              0, 0, 0)                                                        \
    X(lora_h,    m->adapter.rank,  0, 0, 0)                                                        \
    X(lora_x,    m->adapter.rank ? 4 * c.C : 0, 0, 0, 0)

enum { ACTIVATION_COUNT = ACTIVATIONS(ONE) };
typedef union {
    struct { ACTIVATIONS(FIELD) real *end; };
    real *tensor[ACTIVATION_COUNT + 1];
} Activations;

typedef enum { TRAINING, INFERENCE } Mode;

/* The key of the masks of one of the places (sites) with dropout, in layer l. */
enum { AT_EMBEDDING, AT_ATTENTION, AT_ATTPROJ, AT_FCPROJ, SITES };
uint64_t site_key(Dropout d, int l, int site)
{
    return random_key(d.key, (uint64_t)l * SITES + site);
}

/* B * T, which must be at most 2^30, so that sizes below overflow neither int nor size_t. */
int batch_tokens(int B, int T)
{
    if ((size_t)B * T > 1 << 30)
        die("a batch of %d rows of %d tokens is too large: choose a smaller --batch", B, T);
    return B * T;
}

Batch batch_new(int B, int T)
{
    size_t N = batch_tokens(B, T);
    int *ints = allocate(3 * N, sizeof(int));
    return (Batch){B, T, ints, ints + N, ints + 2 * N, allocate_reals(N)};
}
void batch_free(Batch *b) { free(b->tokens), free_reals(b->loss_weight); }

struct Model {
    Config c;
    int stored_V;                        /* V in the file; tokenizer_fit may lower c.V */
    Adapter adapter;                     /* rank 0: none */
    Tensor tensors[ALL_TENSORS];
    size_t count, adapter_count;         /* of all parameters; of those of adapters */
    bfloat16 *half[TENSORS];             /* where a matrix is, for which m->w then has NULL */
    Params w, g;                         /* weights, gradients */
    void *moments[2];                    /* of AdamW, m and v, in the layout of the gradients */
    int bf16_moments;                    /* are they bf16? else they are reals */
    int frozen;                          /* this many blocks, and the embedding, are not trained */
    int recompute;                       /* backward computes activations again */
    Mode mode;
    int B, T;                            /* the largest batch that activations have space for */
    Activations a;
    size_t strides[ACTIVATION_COUNT];    /* from layer to layer, or 0 */
    real *dres, *dwide, *dproj;          /* gradients: (N, C), (N, 4C), (N, C) */
    real *scratch;                       /* of head_loss */
    double *loss;                        /* (N), of each position */
    int *argmax, *positions;             /* (N), the most likely next token; the row of wpe */
};

/* The matrix `field` of layer l (or of none), given as &m->w.qkv_w; in fp32, or in bf16. */
View weight(const Model *m, real *const *field, int l)
{
    int i = (int)(field - m->w.tensor);
    size_t columns = m->tensors[i].columns, at = m->tensors[i].layered ? l * m->tensors[i].size : 0;
    return m->half[i] ? view_bf16(m->half[i] + at, columns) : view(*field + at, columns);
}

/* Elements of tensor t in all layers. */
size_t tensor_size(const Model *m, const Tensor *t) { return t->size * (t->layered ? m->c.L : 1); }

/* Training changes the tensors trained_first to trained_end - 1: the model's, or its adapters'. */
int trained_first(const Model *m) { return m->adapter.rank ? TENSORS : 0; }
int trained_end(const Model *m) { return m->adapter.rank ? ALL_TENSORS : TENSORS; }

/* A model of this shape, all weights zero; `bf16`: matrices in bf16, which can only be read. */
Model *model_new_as(Config c, int bf16)
{
    Model *m = allocate(1, sizeof *m);
    size_t halves = 0;
    m->c = c, m->stored_V = c.V;
    m->count = tensors_describe(c, m->tensors);
    for (int i = 0; i < TENSORS; i++)
        if (bf16 && m->tensors[i].rows > 1) halves += tensor_size(m, &m->tensors[i]);
    real *arena = allocate_reals((halves + 1) / 2 + m->count - halves);
    bfloat16 *h = (bfloat16 *)arena;
    real *w = arena + (halves + 1) / 2;
    for (int i = 0; i < TENSORS; i++) {
        size_t size = tensor_size(m, &m->tensors[i]);
        if (bf16 && m->tensors[i].rows > 1) m->half[i] = h, h += size;
        else m->w.tensor[i] = w, w += size;
    }
    return m;
}
Model *model_new(Config c) { return model_new_as(c, 0); }

/* Set the first values, see PARAMETERS; rows of wte that only pad it stay zero. */
void model_initialize(Model *m, uint64_t seed)
{
    for (int i = 0; i < TENSORS; i++) {
        const Tensor *t = &m->tensors[i];
        size_t count = i == 0 ? (size_t)m->c.V * m->c.C : tensor_size(m, t);
        double scale = t->first_value == RESIDUAL ? 0.02 / sqrt(2.0 * m->c.L) : 0.02;
        real *w = m->w.tensor[i], constant = t->first_value == ONES;
        int random = t->first_value != ONES && t->first_value != ZEROS;
        uint64_t key = random_key(seed, i);
#pragma omp parallel for
        for (size_t j = 0; j < count; j++) {
            real x = constant;
            if (random) x = (real)(scale * random_normal(random_key(key, j >> 24), j & 0xffffff));
            if (m->half[i]) m->half[i][j] = bf16_from((float)x);
            else w[j] = x;
        }
    }
}

/* A hash of the weights without the adapters, from a million of them, as they are in bf16: so it is
 * the same for a model and its copy in bf16. */
uint64_t model_fingerprint(const Model *m)
{
    uint64_t sum = 0;
    for (size_t i = 0, t = 0; i < m->count; i += m->count / (1 << 20) + 1) {
        while (t + 1 < TENSORS && m->tensors[t + 1].offset <= i) t++;
        size_t at = i - m->tensors[t].offset;
        sum = random_key(sum, m->half[t] ? m->half[t][at] : bf16_from((float)m->w.tensor[t][at]));
    }
    return sum;
}

/* Give the model adapters, with their first values. It must not have gradients of its own yet. */
void model_adapt(Model *m, Adapter a, uint64_t seed)
{
    assert(!m->g.wte);
    m->adapter = a;
    m->adapter_count = adapters_describe(m->c, a, m->tensors + TENSORS);
    free_reals(m->w.qkv_A);
    params_place(&m->w, m->tensors, TENSORS, ALL_TENSORS, allocate_reals(m->adapter_count));
    for (int i = TENSORS; i < ALL_TENSORS; i++) {
        const Tensor *t = &m->tensors[i];
        uint64_t key = random_key(seed, i);
        if (t->first_value == ADAPTER_A)
            for (size_t j = 0; j < t->size * m->c.L; j++)
                m->w.tensor[i][j] = (real)((2 * random_uniform(key, j) - 1) / sqrt(t->columns));
    }
}

/* Add the product of each adapter to its matrix, W += alpha / rank B A, and remove the adapters. */
void model_merge(Model *m)
{
    for (int i = TENSORS; i < ALL_TENSORS; i += 2) {
        const Tensor *A = &m->tensors[i], *B = A + 1;
        real *b = m->w.tensor[i + 1], scale = (real)(m->adapter.alpha / m->adapter.rank);
        for (size_t j = 0; j < B->size * m->c.L; j++) b[j] *= scale;
        for (int l = 0; l < m->c.L && A->rows; l++) {
            Params w = params_layer(m->tensors, m->w, l);
            real *const matrix[ADAPTED] = {w.qkv_w, w.attproj_w, w.fc_w, w.fcproj_w};
            matmul(accumulate(matrix[(i - TENSORS) / 2], A->columns),
                   view(w.tensor[i + 1], A->rows), view(w.tensor[i], A->columns), B->rows,
                   A->columns, A->rows);
        }
    }
    model_adapt(m, (Adapter){0}, 0);
}

/* Numbers in the activations of a batch, by tensor; returns their sum. Layers below m->frozen share
 * the memory of the first that is trained, since backward never reads theirs. */
size_t activations_describe(const Model *m, Mode mode, int B, int T,
                            size_t sizes[ACTIVATION_COUNT], size_t strides[ACTIVATION_COUNT])
{
    Config c = m->c;
    size_t i = 0, sum = 0, N = batch_tokens(B, T);
    size_t layers = mode == TRAINING ? max_int(1, c.L - m->frozen) : c.L;
#define ACTIVATION(name, numbers, training, recomputed, generation)                                \
    strides[i] = (mode == INFERENCE ? generation : m->recompute ? recomputed : training)           \
                     ? N * (numbers) : 0;                                                          \
    sizes[i] = strides[i] ? strides[i] * layers : N * (numbers);                                   \
    sum += sizes[i] = (sizes[i] + 15) / 16 * 16;                                                   \
    i++;
    ACTIVATIONS(ACTIVATION)
    return sum;
}

/* Rows of logits at a time: fewer where memory is scarce, and no sum of dwte depends on it. */
int head_chunk(const Model *m) { return m->adapter.rank ? CHUNK / 4 : CHUNK; }

void activations_free(Model *m)
{
    free_reals(m->a.res), free_reals(m->dres), free_reals(m->dwide), free_reals(m->dproj);
    free_reals(m->scratch), free(m->loss), free(m->argmax), free(m->positions);
    m->dres = m->dwide = m->dproj = NULL;
}

/* Allocate what batches of up to B rows of T tokens need; for training, gradients and moments. */
void model_prepare(Model *m, Mode mode, int B, int T, int frozen)
{
    size_t sizes[ACTIVATION_COUNT], N = batch_tokens(B, T), C = m->c.C;
    if (T > m->c.T) die("the model's context is %d tokens; %d do not fit", m->c.T, T);
    activations_free(m);
    m->mode = mode, m->B = B, m->T = T, m->frozen = frozen;
    m->a.res = allocate_reals(activations_describe(m, mode, B, T, sizes, m->strides));
    for (int i = 0; i < ACTIVATION_COUNT; i++) m->a.tensor[i + 1] = m->a.tensor[i] + sizes[i];
    m->scratch = allocate_reals(head_scratch_size(N, C, m->c.Vp, head_chunk(m)));
    m->loss = allocate(N, sizeof *m->loss);
    m->argmax = allocate(N, sizeof *m->argmax);
    m->positions = allocate(N, sizeof *m->positions);
    if (mode != TRAINING) return;
    m->dres = allocate_reals(N * C);
    m->dwide = allocate_reals(N * C * 4);
    m->dproj = allocate_reals(N * C);
    if (m->g.wte || m->g.qkv_A) return;
    size_t count = m->adapter.rank ? m->adapter_count : m->count;
    size_t bytes = count * (m->bf16_moments ? 2 : sizeof(real));
    params_place(&m->g, m->tensors, trained_first(m), trained_end(m), allocate_reals(count));
    for (int k = 0; k < 2; k++) m->moments[k] = allocate_reals(bytes / sizeof(real) + 1);
}

void model_free(Model *m)
{
    free_reals(m->w.wte), free_reals(m->w.qkv_A), free_reals(m->g.wte), free_reals(m->g.qkv_A);
    free_reals(m->moments[0]), free_reals(m->moments[1]);
    free_reals((real *)m->half[0]);
    activations_free(m);
    free(m);
}

/* Activations of layer l. */
Activations activations_layer(const Model *m, int l)
{
    Activations a = m->a;
    int slot = m->mode == TRAINING ? max_int(0, l - m->frozen) : l;
    for (int i = 0; i < ACTIVATION_COUNT; i++) a.tensor[i] += slot * m->strides[i];
    return a;
}

/* What attention of layer l reads. For each b, qkv has T rows, or m->T if it is a cache. */
Attention attention_of(const Model *m, const int *doc_start, int B, int past, int T, Dropout d,
                       int l)
{
    return (Attention){activations_layer(m, l).qkv, doc_start, B, past, T,
                       m->mode == TRAINING ? T : m->T, m->c.C, m->c.NH, d.attention,
                       site_key(d, l, AT_ATTENTION)};
}

/* The adapter of a matrix in layer l. */
Lora lora_of(const Model *m, Dropout d, int l, int matrix)
{
    Params w = params_layer(m->tensors, m->w, l), g = params_layer(m->tensors, m->g, l);
    int i = TENSORS + 2 * matrix, rank = m->tensors[i].rows;
    return (Lora){w.tensor[i], w.tensor[i + 1], g.tensor[i], g.tensor[i + 1], m->a.lora_h,
                  m->a.lora_x, rank, rank ? (real)(m->adapter.alpha / rank) : 0, d.adapter,
                  random_key(site_key(d, l, matrix), 1)};
}

/* Block l, from a.res(N, C) to out(N, C) or, if out is NULL, to what backward reads. The cache gets
 * a row for each of the T tokens, behind `past` earlier ones: rows of one b follow each other, so B
 * or T is 1 there. */
void block_forward(Model *m, real *out, const Attention *at, Dropout d, int l)
{
    Activations a = activations_layer(m, l);
    Params w = params_layer(m->tensors, m->w, l);
    int N = at->B * at->T, C = m->c.C;
    size_t NC = (size_t)N * C, ld = 3 * (size_t)C * (at->T == 1 ? at->rows : 1);
    real *qkv = a.qkv + (size_t)at->past * 3 * C;
    layernorm_forward(a.ln, a.ln1_stats, a.res, w.ln1_w, w.ln1_b, N, C);
    linear_forward(qkv, ld, a.ln, weight(m, &m->w.qkv_w, l), w.qkv_b, N, C, 3 * C);
    lora_forward(qkv, ld, a.ln, lora_of(m, d, l, QKV), N, C, 3 * C);
    attention_forward(a.att, a.lse, at);
    linear_forward(a.proj, C, a.att, weight(m, &m->w.attproj_w, l), w.attproj_b, N, C, C);
    lora_forward(a.proj, C, a.att, lora_of(m, d, l, ATTPROJ), N, C, C);
    dropout(a.proj, NC, d.residual, site_key(d, l, AT_ATTPROJ));
    residual_forward(a.res2, a.res, a.proj, NC);

    layernorm_forward(a.ln, a.ln2_stats, a.res2, w.ln2_w, w.ln2_b, N, C);
    linear_forward(a.fc, 4 * C, a.ln, weight(m, &m->w.fc_w, l), w.fc_b, N, C, 4 * C);
    lora_forward(a.fc, 4 * C, a.ln, lora_of(m, d, l, FC), N, C, 4 * C);
    if (!out) return;
    gelu_forward(a.gelu, a.fc, 4 * NC);
    linear_forward(a.proj, C, a.gelu, weight(m, &m->w.fcproj_w, l), w.fcproj_b, N, 4 * C, C);
    lora_forward(a.proj, C, a.gelu, lora_of(m, d, l, FCPROJ), N, 4 * C, C);
    dropout(a.proj, NC, d.residual, site_key(d, l, AT_FCPROJ));
    residual_forward(out, a.res2, a.proj, NC);
}

/* Block l backwards. m->dres holds the gradient of its output, then that of its input: each of the
 * two residual sums passes dres on unchanged, and layernorm_backward adds what comes through the
 * branch. Adds to the gradients of the block's parameters, or of its adapters. */
void block_backward(Model *m, const Attention *at, Dropout d, int l)
{
    Activations a = activations_layer(m, l);
    Params w = params_layer(m->tensors, m->w, l), g = params_layer(m->tensors, m->g, l);
    int N = at->B * at->T, C = m->c.C;
    size_t NC = (size_t)N * C;
    real *dres = m->dres, *dwide = m->dwide, *dproj = m->dproj;
    memcpy(dproj, dres, NC * sizeof(real));
    dropout(dproj, NC, d.residual, site_key(d, l, AT_FCPROJ));
    gelu_forward(a.gelu, a.fc, 4 * NC);                       /* computed again */
    linear_backward(dwide, g.fcproj_w, dproj, a.gelu, weight(m, &m->w.fcproj_w, l), N, 4 * C, C);
    lora_backward(dwide, dproj, a.gelu, lora_of(m, d, l, FCPROJ), N, 4 * C, C);
    bias_backward(g.fcproj_b, dproj, N, C);
    gelu_backward(dwide, dwide, a.fc, 4 * NC);
    layernorm_forward(a.ln, a.ln2_stats, a.res2, w.ln2_w, w.ln2_b, N, C);
    linear_backward(dproj, g.fc_w, dwide, a.ln, weight(m, &m->w.fc_w, l), N, C, 4 * C);
    lora_backward(dproj, dwide, a.ln, lora_of(m, d, l, FC), N, C, 4 * C);
    bias_backward(g.fc_b, dwide, N, 4 * C);
    layernorm_backward(dres, g.ln2_w, dproj, a.res2, a.ln2_stats, w.ln2_w, N, C);
    bias_backward(g.ln2_b, dproj, N, C);

    real *datt = a.proj, *dqkv = dwide;                       /* a.proj is not needed any more */
    memcpy(dproj, dres, NC * sizeof(real));
    dropout(dproj, NC, d.residual, site_key(d, l, AT_ATTPROJ));
    linear_backward(datt, g.attproj_w, dproj, a.att, weight(m, &m->w.attproj_w, l), N, C, C);
    lora_backward(datt, dproj, a.att, lora_of(m, d, l, ATTPROJ), N, C, C);
    bias_backward(g.attproj_b, dproj, N, C);
    attention_backward(dqkv, datt, a.att, a.lse, at);
    layernorm_forward(a.ln, a.ln1_stats, a.res, w.ln1_w, w.ln1_b, N, C);
    linear_backward(dproj, g.qkv_w, dqkv, a.ln, weight(m, &m->w.qkv_w, l), N, C, 3 * C);
    lora_backward(dproj, dqkv, a.ln, lora_of(m, d, l, QKV), N, C, 3 * C);
    bias_backward(g.qkv_b, dqkv, N, 3 * C);
    layernorm_backward(dres, g.ln1_w, dproj, a.res, a.ln1_stats, w.ln1_w, N, C);
    bias_backward(g.ln1_b, dproj, N, C);
}

/* tokens(B, T), which follow `past` earlier ones, to a.ln(N, C), the output of the last layernorm.
 * Positions are counted from doc_start(B, T), or 0 if it is NULL. If past > 0, B or T is 1, and all
 * documents of the row follow the same past, each as if it alone did. */
void model_forward(Model *m, const int *tokens, const int *doc_start, int B, int past, int T,
                   Dropout d)
{
    int N = B * T, L = m->c.L, C = m->c.C;
    real *res = activations_layer(m, 0).res;
    assert(past + T <= m->T && B <= m->B && (m->mode == INFERENCE || past == 0));
    assert(m->mode == TRAINING || T == m->T || B == 1 || T == 1);
    for (int n = 0; n < N; n++) m->positions[n] = past + n % T - (doc_start ? doc_start[n] : 0);
    embedding_forward(res, tokens, m->positions, weight(m, &m->w.wte, 0),
                      weight(m, &m->w.wpe, 0), N, C);
    dropout(res, (size_t)N * C, d.embedding, site_key(d, L, AT_EMBEDDING));
    for (int l = 0; l < L; l++) {
        Attention at = attention_of(m, doc_start, B, past, T, d, l);
        block_forward(m, l + 1 < L ? activations_layer(m, l + 1).res : m->a.final_res, &at, d, l);
    }
    layernorm_forward(m->a.ln, m->a.lnf_stats, m->a.final_res, m->w.lnf_w, m->w.lnf_b, N, C);
}

/* After model_forward on b: writes m->loss and m->argmax of every position and returns the sum of
 * loss_weight * loss. With `backward`, writes the gradient of that sum by a.ln to m->dproj, and
 * adds that by wte, which is the matrix of the head as well. */
double model_head(Model *m, const Batch *b, double smoothing, int backward)
{
    int N = b->B * b->T;
    double sum = 0;
    head_loss(&(Head){.x = m->a.ln, .wte = weight(m, &m->w.wte, 0),
                      .weights = b->loss_weight, .targets = b->targets, .loss = m->loss,
                      .argmax = m->argmax, .dx = backward ? m->dproj : NULL,
                      .dwte = backward && !m->frozen ? m->g.wte : NULL, .scratch = m->scratch,
                      .smoothing = smoothing, .N = N, .C = m->c.C, .V = m->c.V, .ld = m->c.Vp,
                      .chunk = head_chunk(m)});
    for (int n = 0; n < N; n++) sum += (double)b->loss_weight[n] * m->loss[n];
    return sum;
}

/* After model_head: from m->dproj back through all layers that are trained, adding to m->g. */
void model_backward(Model *m, const Batch *b, Dropout d)
{
    int N = b->B * b->T, C = m->c.C;
    size_t NC = (size_t)N * C;
    memset(m->dres, 0, NC * sizeof(real));
    layernorm_backward(m->dres, m->g.lnf_w, m->dproj, m->a.final_res, m->a.lnf_stats, m->w.lnf_w,
                       N, C);
    bias_backward(m->g.lnf_b, m->dproj, N, C);
    for (int l = m->c.L - 1; l >= m->frozen; l--) {
        Attention at = attention_of(m, b->doc_start, b->B, 0, b->T, d, l);
        if (m->recompute && l + 1 < m->c.L) block_forward(m, NULL, &at, d, l);   /* L-1: is there */
        block_backward(m, &at, d, l);
    }
    if (m->frozen || m->adapter.rank) return;
    dropout(m->dres, NC, d.embedding, site_key(d, m->c.L, AT_EMBEDDING));
    embedding_backward(m->g.wte, m->g.wpe, m->dres, b->tokens, m->positions, N, C);
}

/* ================================================================================================
 * 7. The optimizer: AdamW [Loshchilov & Hutter 2019]
 *
 * Two running means are kept for every parameter: m of its gradient and v of the gradient's square.
 * A step is the learning rate times m / sqrt(v). So it does not depend on the gradient's scale, and
 * it is short where the gradient's sign keeps changing. Weight decay shrinks the parameter itself;
 * if it were added to the gradient, the division would distort it.
 * Rejected: plain gradient descent. One learning rate cannot suit tensors whose gradients have
 * different scales.
 */

/* How many elements at the beginning of tensor t are not trained: those of the m->frozen first
 * blocks and, if there are any, all of both embeddings. */
size_t trained_from(const Model *m, const Tensor *t)
{
    if (!m->frozen) return 0;
    return t->layered ? m->frozen * t->size : t->first_value == EMBEDDING ? t->size : 0;
}

/* Sum of the squares of x(count), in double. Blocks are summed each by one thread and then added in
 * order, so that the result does not depend on the number of threads. */
double sum_of_squares(const real *x, size_t count)
{
    enum { BLOCK = 1 << 16 };
    size_t blocks = (count + BLOCK - 1) / BLOCK;
    double *part = allocate(blocks, sizeof(double)), sum = 0;
#pragma omp parallel for
    for (size_t i = 0; i < blocks; i++) {
        double s = 0;
        size_t end = (i + 1) * BLOCK < count ? (i + 1) * BLOCK : count;
#pragma omp simd reduction(+ : s)
        for (size_t j = i * BLOCK; j < end; j++) s += (double)x[j] * x[j];
        part[i] = s;
    }
    for (size_t i = 0; i < blocks; i++) sum += part[i];
    free(part);
    return sum;
}

/* Euclidean length of the gradient of all that is trained. Dies if a tensor's is not finite. */
double gradient_norm(const Model *m)
{
    double sum = 0;
    for (int i = trained_first(m); i < trained_end(m); i++) {
        const Tensor *t = &m->tensors[i];
        size_t from = trained_from(m, t);
        double square = sum_of_squares(m->g.tensor[i] + from, tensor_size(m, t) - from);
        if (!isfinite(square))
            die("the gradient of %s is not finite: lower --lr, or check the data and the model",
                t->field);
        sum += square;
    }
    return sqrt(sum);
}

/* Step number `step` >= 1 on w, m and v (count), with the gradient g(count) times `scale`:
 *     m += (1 - beta1) (g - m)              v += (1 - beta2) (g^2 - v)
 *     m' = m / (1 - beta1^step)             v' = v / (1 - beta2^step)       (both began at 0)
 *     w -= lr (m' / (sqrt(v') + epsilon) + decay w).
 * Then the proximal step of an L1 penalty moves w by lr*l1 towards 0, not beyond. Sets g to 0. */
void adamw(real *w, real *g, real *m, real *v, size_t count, double scale, const AdamW *a, int step)
{
    real s = (real)scale, c1 = (real)(1 - a->beta1), c2 = (real)(1 - a->beta2);
    real keep = (real)(1 - a->lr * a->decay), shrink = (real)(a->lr * a->l1);
    real rate = (real)(a->lr / (1 - pow(a->beta1, step))), epsilon = (real)a->epsilon;
    real correction = (real)(1 / (1 - pow(a->beta2, step)));
#pragma omp parallel for simd
    for (size_t i = 0; i < count; i++) {
        real gi = g[i] * s;
        m[i] += c1 * (gi - m[i]);
        v[i] += c2 * (gi * gi - v[i]);
        real wi = w[i] * keep - rate * m[i] / ((real)sqrt(v[i] * correction) + epsilon);
        real size = (wi < 0 ? -wi : wi) - shrink;
        size = size < 0 ? 0 : size;
        w[i] = wi < 0 ? -size : size;
        g[i] = 0;
    }
}

/* A number between two of bf16 becomes one of them at random, so that its mean stays. Here adding a
 * number below 2^16 carries into the upper half with that probability. */
static inline uint16_t bf16_stochastic(real x, uint32_t random)
{
    union { float f; uint32_t i; } u = {(float)x};
    return (u.i + (random & 0xffff)) >> 16;
}

/* Where the moments of some parameters are, and the key of their rounding. */
typedef struct { uint16_t *m, *v; uint64_t key; } Moments16;

/* The same with moments in bf16, half the memory. Neighbours in bf16 are 0.4% to 0.8% apart, and
 * with beta2 = 0.999 a step lowers v by at most 0.1%: rounded to the nearest, v would never fall.
 * Rounded at random, it is in the mean what it would be without rounding. */
void adamw_bf16(real *w, real *g, Moments16 b, size_t count, double scale, const AdamW *a, int step)
{
    enum { BLOCK = 1 << 16 };
    real *m = allocate_reals(2 * BLOCK), *v = m + BLOCK;
    for (size_t i = 0, n; i < count; i += n, b.m += n, b.v += n) {
        n = count - i < BLOCK ? count - i : BLOCK;
#pragma omp parallel for simd
        for (size_t j = 0; j < n; j++) m[j] = bf16_to(b.m[j]), v[j] = bf16_to(b.v[j]);
        adamw(w + i, g + i, m, v, n, scale, a, step);
#pragma omp parallel for simd
        for (size_t j = 0; j < n; j++) {
            uint32_t random = random_bits(b.key, (uint32_t)(i + j));
            b.m[j] = bf16_stochastic(m[j], random), b.v[j] = bf16_stochastic(v[j], random >> 16);
        }
    }
    free_reals(m);
}

/* Update all trained parameters by the gradients in m->g, which are scaled to length a.clip if they
 * are longer [Pascanu et al. 2013], and set to zero. Decay and penalty are for matrices only, not
 * for biases and layernorms, which have one row. Returns the length before clipping. */
double model_update(Model *m, AdamW a, int step)
{
    double norm = gradient_norm(m), scale = a.clip > 0 && norm > a.clip ? a.clip / norm : 1;
    AdamW plain = a;
    plain.decay = plain.l1 = 0;
    for (int i = trained_first(m); i < trained_end(m); i++) {
        const Tensor *t = &m->tensors[i];
        size_t from = trained_from(m, t), at = t->offset + from, count = tensor_size(m, t) - from;
        real *w = m->w.tensor[i] + from, *g = m->g.tensor[i] + from;
        const AdamW *rule = t->rows > 1 || t->first_value == ADAPTER_A ? &a : &plain;
        void *const *M = m->moments;
        Moments16 half = {(uint16_t *)M[0] + at, (uint16_t *)M[1] + at, random_key(step, i)};
        if (m->bf16_moments) adamw_bf16(w, g, half, count, scale, rule, step);
        else adamw(w, g, (real *)M[0] + at, (real *)M[1] + at, count, scale, rule, step);
    }
    return norm;
}

/* Learning rate of step `step` (from 0) of `steps`, as a fraction of its peak: linearly up over
 * `warmup` steps, then along half a cosine or a straight line that would reach `floor` one step
 * after the last; or constant. */
double schedule(const char *kind, int step, int warmup, int steps, double floor)
{
    if (step < warmup) return (step + 1.0) / warmup;
    double done = (step - warmup) / fmax(1, steps - warmup);
    if (!strcmp(kind, "linear")) return 1 - (1 - floor) * done;
    if (!strcmp(kind, "constant")) return 1;
    return floor + (1 - floor) * 0.5 * (1 + cos(3.141592653589793 * done));
}

/* ================================================================================================
 * 8. Data
 *
 * A token file holds running text, or examples: documents <|endoftext|> prompt completion
 * <|endoftext|> with a mask of the tokens that count as targets. The loader cuts it into segments
 * and lays these out in rows of T tokens. Text is cut every T tokens, elsewhere in each epoch.
 * A document is one segment, and rows are packed with several of them, so that little padding is
 * needed. Attention and positions begin anew with each segment: packing changes no result.
 * Rejected: best-fit decreasing, which leaves 3% of the positions empty where this leaves 0.3%.
 */

typedef struct {
    const char *path;           /* as in --data, for messages */
    int examples;               /* 1: examples; 0: running text */
    size_t count;
    uint16_t *ids;              /* (count) */
    uint8_t *loss_mask;         /* (count), 1 where the token counts as a target; text: NULL */
    uint64_t fingerprint;       /* a hash of both arrays */
    uint64_t id;                /* the same in all files of one preparation; 0: none */
} Tokens;

/* The checksum of some bytes and of what came before them, whose checksum is `sum`. */
uint64_t checksum(uint64_t sum, const void *data, size_t bytes)
{
    return random_key(sum, hash_bytes(data, bytes));
}

/* Append a token file to t. Dies if it is damaged, of another kind than t, or has an id >= V. */
void tokens_append(Tokens *t, const char *path, int V)
{
    Reader r = reader_open(path);
    int32_t header[HEADER];
    reader_header(&r, header, TOKENS_MAGIC, "token");
    int examples = header[1] == 2;
    memcpy(&t->id, header + 3, sizeof t->id);
    if (header[1] != 1 && header[1] != 2)
        die("%s: expected a token file of version 1 or 2, found version %d", path, header[1]);
    size_t count = (size_t)header[2], body = r.size - r.at;
    if (header[2] < 2 || count * (examples ? 3 : 2) != body)
        die("%s: the header promises %d tokens, the file holds %zu bytes of them: it is damaged, "
            "prepare it again", path, header[2], body);
    if (t->count && t->examples != examples)
        die("%s: text and examples cannot be mixed in one --data", path);
    t->examples = examples;
    t->ids = reallocate(t->ids, t->count + count, sizeof *t->ids);
    uint16_t *ids = t->ids + t->count;
    reader_get(&r, ids, count * sizeof *ids);
    t->fingerprint = checksum(t->fingerprint, ids, count * sizeof *ids);
    for (size_t i = 0; i < count; i++)
        if (ids[i] >= V)
            die("%s: token %zu is %d, but the model's vocabulary has %d: prepare the data with the "
                "model's own tokenizer", path, i, ids[i], V);
    if (examples) {
        t->loss_mask = reallocate(t->loss_mask, t->count + count, 1);
        reader_get(&r, t->loss_mask + t->count, count);
        t->fingerprint = checksum(t->fingerprint, t->loss_mask + t->count, count);
    }
    t->count += count;
    reader_close(&r);
}

/* NAME_part.bin, in new memory, for the first of the names, which commas separate; *names then
 * begins with the next one. NULL after the last. */
char *token_path(const char **names, const char *part)
{
    if (!*names) return NULL;
    int length = (int)strcspn(*names, ",");
    char *path = format("%.*s_%s.bin", length, *names, part);
    *names = (*names)[length] ? *names + length + 1 : NULL;
    return path;
}

/* How many of the files NAME_part.bin can be read. */
int tokens_exist(const char *names, const char *part)
{
    int count = 0;
    for (char *path; (path = token_path(&names, part)); free(path))
        count += access(path, R_OK) == 0;
    return count;
}

/* Die if the training data beside a file of held-out data, which has this id, come from another
 * preparation: they may contain what is held out. Files of llm.c have no id. */
void tokens_check(const char *path, uint64_t id, const char *train)
{
    int32_t header[HEADER];
    uint64_t other;
    if (!id || access(train, R_OK) != 0) return;
    Reader r = reader_open(train);
    reader_header(&r, header, TOKENS_MAGIC, "token");
    reader_close(&r);
    memcpy(&other, header + 3, sizeof other);
    if (other && other != id)
        die("%s: was not prepared together with %s, which may contain the same documents: prepare "
            "both with one command", path, train);
}

/* Read NAME_part.bin of all names, in order. For "train" each must be there, else at least one. */
Tokens tokens_read(const char *names, const char *part, int V)
{
    Tokens t = {.path = names};
    int held_out = strcmp(part, "train"), some = held_out && tokens_exist(names, part);
    const char *others = names;
    for (char *path; (path = token_path(&names, part)); free(path)) {
        char *train = token_path(&others, "train");
        if (!some || access(path, R_OK) == 0) {
            tokens_append(&t, path, V);
            if (held_out) tokens_check(path, t.id, train);
        }
        free(train);
    }
    return t;
}

void tokens_free(Tokens *t) { free(t->ids), free(t->loss_mask); }

/* A random order of 0 .. n-1, in new memory [Fisher & Yates 1938]. */
int *shuffled(int n, uint64_t key)
{
    int *order = allocate(n, sizeof(int));
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = n - 1; i > 0; i--) {
        int j = random_bits(key, i) % (i + 1), swap = order[i];
        order[i] = order[j], order[j] = swap;
    }
    return order;
}

/* k of 0 .. n-1 (all, if k is 0), drawn at random, increasing, in new memory. Each is taken with
 * probability (still needed) / (still to come) [Knuth, vol. 2, algorithm S]. */
int *drawn(int n, int k, uint64_t key)
{
    if (k <= 0 || k > n) k = n;
    int *chosen = allocate(k, sizeof(int));
    for (int i = 0, count = 0; i < n; i++)
        if (random_bits(key, i) % (uint32_t)(n - i) < (uint32_t)(k - count)) chosen[count++] = i;
    return chosen;
}

/* ---- the loader ---- */

/* The inputs ids[from] .. ids[from + length - 1]; the target of each is the token after it. */
typedef struct {
    size_t from;
    uint64_t key;               /* by which segments are sorted */
    int length, row, index;     /* its row in the epoch; its number in the order of the file */
} Segment;

typedef struct {
    const Tokens *tokens;
    int T, end_of_text, shuffle;
    uint64_t key;
    Segment *file_order, *epoch_order; /* (count), the same segments in two orders */
    int count, truncated;       /* segments; documents that were longer than T */
    int epoch, rows, row;       /* rows of this epoch, and which is read next */
    int next;                   /* epoch_order[next] is the first segment of that row */
} DataLoader;

int by_key(const void *a, const void *b)
{
    const Segment *p = a, *q = b;
    return (p->key > q->key) - (p->key < q->key);
}

/* The subset-sum problem [Bellman 1957]: which sums up to T can be made of lengths, one of which is
 * `longest`, if there are available[n] more of length n? The lengths n = order[k] + 1 are offered
 * one after the other. A sum that could not be made can be made now if sum - n can, with fewer than
 * available[n] copies of n; since sums are visited upwards, sum - n may contain n already. Sets
 * added[sum] (T + 1) to the length that was added last, or 0 if the sum cannot be made: going from
 * sum to sum - added[sum] lists the lengths. copies(T + 1) is scratch. Returns the largest sum. */
int row_sums(int *added, int *copies, const int *available, const int *order, int longest, int T)
{
    memset(added, 0, (T + 1) * sizeof *added);
    added[longest] = longest;
    for (int k = 0; k < T && !added[T]; k++) {
        int n = order[k] + 1;
        if (!available[n]) continue;
        memset(copies, 0, (T + 1) * sizeof *copies);
        for (int sum = longest + n; sum <= T; sum++)
            if (!added[sum] && added[sum - n] && copies[sum - n] < available[n])
                added[sum] = n, copies[sum] = copies[sum - n] + 1;
    }
    while (!added[T]) T--;
    return T;
}

/* Pack the segments in epoch_order into rows; sets each `row`, and f->rows. A row gets the longest
 * segment that is left and those others with which it becomes fullest. Of the available[n] segments
 * of length n that have no row yet, first[n] is one, and next[] leads from one to another. `key`
 * decides in which order lengths are offered, so that each epoch composes other rows. */
void loader_pack(DataLoader *f, uint64_t key)
{
    int T = f->T, *order = shuffled(T, key), *next = allocate(f->count, sizeof(int));
    int *first = allocate(4 * (T + 1), sizeof(int)), *available = first + T + 1;
    int *added = available + T + 1, *copies = added + T + 1;
    for (int i = 0; i < f->count; i++) {
        int n = f->epoch_order[i].length;
        next[i] = first[n], first[n] = i, available[n]++;
    }
    f->rows = 0;
    for (int longest = T; longest > 0; longest--)
        for (; available[longest]; f->rows++) {
            available[longest]--;
            int sum = row_sums(added, copies, available, order, longest, T);
            available[longest]++;
            for (int n; sum > 0; sum -= n) {
                n = added[sum], available[n]--;
                f->epoch_order[first[n]].row = f->rows;
                first[n] = next[first[n]];
            }
        }
    free(order), free(next), free(first);
}

/* Lay out the epoch f->epoch in epoch_order. */
void loader_epoch(DataLoader *f)
{
    uint64_t key = random_key(f->key, f->epoch);
    size_t spare = (f->tokens->count - 1) % f->T, shift = 0;  /* text: tokens that fill no row */
    if (f->shuffle && !f->tokens->examples) shift = random_bits(key, 0) % (spare + 1);
    int *order = shuffled(f->count, key);
    for (int i = 0; i < f->count; i++) {
        f->epoch_order[i] = f->file_order[f->shuffle ? order[i] : i];
        f->epoch_order[i].from += shift, f->epoch_order[i].row = i;
    }
    free(order);
    f->rows = f->count;
    if (f->tokens->examples) {
        loader_pack(f, random_key(key, 1));
        order = shuffled(f->rows, random_key(key, 2));
        for (int i = 0; i < f->count; i++) f->epoch_order[i].row = order[f->epoch_order[i].row];
        free(order);
    }
    for (Segment *s = f->epoch_order; s < f->epoch_order + f->count; s++)
        s->key = (uint64_t)s->row << 32 | s->index;
    qsort(f->epoch_order, f->count, sizeof(Segment), by_key);
}

/* Add the segment ids[begin] .. ids[end - 1]. Of more than T tokens only the last T are used. */
void loader_add(DataLoader *f, size_t begin, size_t end)
{
    if (f->count == INT32_MAX) die("%s: more than %d documents", f->tokens->path, INT32_MAX);
    f->truncated += end - begin > (size_t)f->T;
    if (end - begin > (size_t)f->T) begin = end - f->T;
    f->file_order = grow(f->file_order, f->count, sizeof(Segment));
    f->file_order[f->count] = (Segment){begin, 0, (int)(end - begin), 0, f->count};
    f->count++;
}

/* A loader of rows of T tokens. With `shuffle` each epoch has another random order, given by seed;
 * with `limit` > 0 only that many segments, drawn by seed, are read. Dies if there is none. */
DataLoader loader_new(const Tokens *tokens, int T, int end_of_text, int shuffle, uint64_t seed,
                      int limit)
{
    DataLoader f = {.tokens = tokens, .T = T, .end_of_text = end_of_text, .shuffle = shuffle,
                    .key = random_key(shuffle ? seed : 0, 1)};
    if (tokens->examples && tokens->ids[0] != end_of_text)
        die("%s: begins with token %d, not with the end of text, which is %d: it was prepared with "
            "another tokenizer; use that one (--tokenizer)", tokens->path, tokens->ids[0],
            end_of_text);
    for (size_t i = 1, last = 0; i < tokens->count; i++) {
        if (tokens->examples ? tokens->ids[i] != end_of_text : i - last < (size_t)T) continue;
        if (!tokens->examples || i - last > 1) loader_add(&f, last, i);
        last = i;
    }
    if (!f.count)
        die("%s: %zu tokens are too few for one row of %d: lower --context or bring more data",
            tokens->path, tokens->count, T);
    if (limit > 0 && limit < f.count) {
        int *chosen = drawn(f.count, limit, random_key(seed, 2));
        f.count = limit;
        for (int i = 0; i < limit; i++)
            f.file_order[i] = f.file_order[chosen[i]], f.file_order[i].index = i;
        free(chosen);
    }
    f.epoch_order = allocate(f.count, sizeof(Segment));
    loader_epoch(&f);
    return f;
}

void loader_free(DataLoader *f) { free(f->file_order), free(f->epoch_order); }

/* Go to a row of an epoch, or to the epoch's end if it has fewer rows. */
void loader_seek(DataLoader *f, int epoch, int row)
{
    f->epoch = epoch;
    loader_epoch(f);
    for (f->row = f->next = 0; f->row < row && f->row < f->rows; f->row++)
        while (f->next < f->count && f->epoch_order[f->next].row == f->row) f->next++;
}

/* Fill the batch with the next rows, of the next epoch where one ends. Weights are 1 where a target
 * counts, else 0; positions that no segment covers are <|endoftext|>, see only themselves and do
 * not count. Returns how many targets count. */
int loader_batch(DataLoader *f, Batch *b)
{
    const Tokens *t = f->tokens;
    int counted = 0;
    for (int row = 0; row < b->B; row++, f->row++) {
        int at = row * b->T, end = at + b->T;
        if (f->row >= f->rows) loader_seek(f, f->epoch + 1, 0);
        for (; f->next < f->count && f->epoch_order[f->next].row == f->row; f->next++) {
            Segment s = f->epoch_order[f->next];
            int doc_start = at - row * b->T;
            for (size_t i = s.from; i < s.from + s.length; i++, at++) {
                b->tokens[at] = t->ids[i];
                b->targets[at] = t->ids[i + 1];
                b->doc_start[at] = doc_start;
                b->loss_weight[at] = t->loss_mask ? t->loss_mask[i + 1] != 0 : 1;
                counted += b->loss_weight[at] != 0;
            }
        }
        for (; at < end; at++) {
            b->tokens[at] = b->targets[at] = f->end_of_text;
            b->doc_start[at] = at - row * b->T;
            b->loss_weight[at] = 0;
        }
    }
    return counted;
}

/* With probability p replace an input that is not the first of its segment by a random token: noise
 * as a regularizer against overfitting. Targets stay. */
void batch_noise(Batch *b, double p, int V, uint64_t key)
{
    for (int n = 0; n < b->B * b->T; n++)
        if (random_uniform(key, 2u * n) < p && n % b->T > b->doc_start[n])
            b->tokens[n] = random_bits(key, 2u * n + 1) % V;
}

/* ================================================================================================
 * 9. Checkpoints
 *
 * A model file is llm.c's: a header and every tensor in the table's order, as fp32 (version 3) or
 * bf16 (version 5). A file of adapters has the header of a model with the Adapter behind it, and
 * those of ADAPTERS in fp32. A training state holds all that a run needs: parameters, moments,
 * counters, a text that says what the run is, and a checksum. It is one file, since two cannot be
 * replaced in one step.
 */

enum { IO_CHUNK = 4096 };                                     /* elements converted at a time */

/* Read `count` numbers, stored as fp32 or bf16, into x or, if h is not NULL, rounded into h. */
void read_reals(Reader *r, real *x, bfloat16 *h, size_t count, int bf16)
{
    union { float f[IO_CHUNK]; bfloat16 h[IO_CHUNK]; } chunk;
    for (size_t i = 0, n; i < count; i += n) {
        n = count - i < IO_CHUNK ? count - i : IO_CHUNK;
        reader_get(r, &chunk, n * (bf16 ? 2 : 4));
        for (size_t j = 0; j < n; j++) {
            float number = bf16 ? bf16_to(chunk.h[j]) : chunk.f[j];
            if (h) h[i + j] = bf16_from(number);
            else x[i + j] = number;
        }
    }
}

/* Write x(count) as fp32 or bf16. */
void write_reals(Writer *w, const real *x, size_t count, int bf16)
{
    union { float f[IO_CHUNK]; uint16_t h[IO_CHUNK]; } chunk;
    for (size_t i = 0, n; i < count; i += n) {
        n = count - i < IO_CHUNK ? count - i : IO_CHUNK;
        for (size_t j = 0; j < n; j++)
            if (bf16) chunk.h[j] = bf16_from((float)x[i + j]);
            else chunk.f[j] = (float)x[i + j];
        writer_put(w, &chunk, n * (bf16 ? 2 : 4));
    }
}

/* Die unless every parameter is finite, with the name of the first that is not. */
void params_check(const Model *m, const char *path)
{
    for (int i = 0; i < (m->adapter.rank ? ALL_TENSORS : TENSORS); i++)
        for (size_t j = 0, size = tensor_size(m, &m->tensors[i]); j < size; j++) {
            real x = i < TENSORS && m->half[i] ? bf16_to(m->half[i][j]) : m->w.tensor[i][j];
            if (!isfinite(x))
                die("%s: number %zu of %s is %g: the file is damaged", path, j,
                    m->tensors[i].field, (double)x);
        }
}

/* Read a model file; `bf16`: matrices into bf16. Dies if it is damaged. */
Model *model_read_as(const char *path, int bf16)
{
    Reader r = reader_open(path);
    int32_t h[HEADER] = {0};
    if (r.size >= sizeof *h) reader_get(&r, h, sizeof *h);
    if (*h == ADAPTER_MAGIC)
        die("%s: is a file of adapters: give it as --adapter, and the model that they were trained "
            "on as --model", path);
    reader_seek(&r, 0);
    reader_header(&r, h, MODEL_MAGIC, "model");
    if (h[1] != 3 && h[1] != 5)
        die("%s: expected a model file of version 3 (fp32) or 5 (bf16), found version %d", path,
            h[1]);
    Config c = {h[2], h[3], h[4], h[5], h[6], h[7]};
    config_check(c, path);
    Tensor tensors[TENSORS];
    size_t count = tensors_describe(c, tensors), bytes = count * (h[1] == 5 ? 2 : 4);
    if (r.size - r.at != bytes)
        die("%s: this shape needs %zu bytes of parameters, the file holds %zu: it is %s", path,
            bytes, r.size - r.at, r.size - r.at < bytes ? "truncated" : "too long");
    Model *m = model_new_as(c, bf16);
    for (int i = 0; i < TENSORS; i++)
        read_reals(&r, m->w.tensor[i], m->half[i], tensor_size(m, &tensors[i]), h[1] == 5);
    reader_close(&r);
    params_check(m, path);
    return m;
}
Model *model_read(const char *path) { return model_read_as(path, 0); }

/* Write a model as fp32 or bf16, without its adapters. */
void model_write(const Model *m, const char *path, int bf16)
{
    Config c = m->c;
    int32_t header[HEADER] = {MODEL_MAGIC, bf16 ? 5 : 3, c.T, m->stored_V, c.L, c.NH, c.C, c.Vp};
    assert(!m->half[0]);
    Writer *w = writer_open(path);
    writer_put(w, header, sizeof header);
    write_reals(w, m->w.wte, m->count, bf16);
    writer_close(w);
}

/* Write the adapters of a model, always as fp32: they are small. */
void adapter_write(const Model *m, const char *path)
{
    Config c = m->c;
    int32_t header[HEADER] = {ADAPTER_MAGIC, 1, c.T, c.V, c.L, c.NH, c.C, c.Vp};
    memcpy(header + 8, &m->adapter, sizeof m->adapter);
    Writer *w = writer_open(path);
    writer_put(w, header, sizeof header);
    write_reals(w, m->w.qkv_A, m->adapter_count, 0);
    writer_close(w);
}

/* Give the model the adapters of a file, in place of its own. Dies if they are damaged, or were
 * trained on another model: its shape or its weights differ. */
void adapter_read(Model *m, const char *path)
{
    Reader r = reader_open(path);
    int32_t h[HEADER];
    Adapter a;
    Config c = m->c;
    reader_header(&r, h, ADAPTER_MAGIC, "file of adapters");
    memcpy(&a, h + 8, sizeof a);
    if (h[1] != 1 || a.rank < 1 || a.rank > h[6] || a.on < 1 || a.on >> ADAPTED ||
        !(a.alpha > 0 && a.alpha < INFINITY))
        die("%s: expected adapters of version 1, found version %d, rank %d, alpha %g, matrices %d: "
            "it is damaged", path, h[1], a.rank, a.alpha, a.on);
    if (h[4] != c.L || h[5] != c.NH || h[6] != c.C)
        die("%s: fits a model of %d layers, %d heads and %d channels, this one has %d, %d and %d",
            path, h[4], h[5], h[6], c.L, c.NH, c.C);
    if (a.base != (m->adapter.rank ? m->adapter.base : model_fingerprint(m)))
        die("%s: was trained on another model of this shape: name that as --model", path);
    model_adapt(m, a, 0);
    if (r.size - r.at != m->adapter_count * 4)
        die("%s: expected %zu bytes of numbers, found %zu: it is damaged", path,
            m->adapter_count * 4, r.size - r.at);
    read_reals(&r, m->w.qkv_A, NULL, m->adapter_count, 0);
    reader_close(&r);
    params_check(m, path);
}

/* What a run is, besides its parameters and moments. */
typedef struct {
    int64_t step, epoch, row;   /* steps done; where the loader stands */
    int64_t waited, best_step;  /* validations since the best one; the step of that */
    double best_loss, seconds;  /* in nats a token; time spent on steps */
    uint64_t best_sum;          /* file_checksum of best.bin */
    char inputs[4096];          /* all that decides the run's numbers, as lines name = value */
} Progress;

/* The pieces of memory whose bytes a state file holds, in its order, and then their checksum. */
enum { PIECES = 2 + 3 * TENSORS };                            /* adapters are fewer */
typedef struct { void *data; size_t bytes; } Piece;

/* List the pieces, with a NULL at the end: a header (HEADER int32), which is filled in and must be
 * the same when the state is read; the progress; all parameters, or those of the adapters; and of
 * the two moments what is trained. Returns the size of the file in bytes. */
size_t state_pieces(Piece *piece, Model *m, Progress *p, int32_t *header)
{
    Config c = m->c;
    int32_t first[] = {STATE_MAGIC, 4, c.T, c.V, c.L, c.NH, c.C, c.Vp, m->frozen, sizeof(real),
                       sizeof *p, m->bf16_moments};
    size_t size = HEADER * sizeof *header + sizeof *p + sizeof(uint64_t);
    memcpy(memset(header, 0, HEADER * sizeof *header), first, sizeof first);
    memcpy(header + sizeof first / sizeof *first, &m->adapter, sizeof m->adapter);
    *piece++ = (Piece){header, HEADER * sizeof *header};
    *piece++ = (Piece){p, sizeof *p};
    for (int i = trained_first(m); i < trained_end(m); i++, size += piece++->bytes)
        *piece = (Piece){m->w.tensor[i], tensor_size(m, &m->tensors[i]) * sizeof(real)};
    for (int k = 0; k < 2; k++)
        for (int i = trained_first(m); i < trained_end(m); i++, size += piece++->bytes) {
            const Tensor *t = &m->tensors[i];
            size_t from = trained_from(m, t), bytes = m->bf16_moments ? 2 : sizeof(real);
            *piece = (Piece){(char *)m->moments[k] + (t->offset + from) * bytes,
                             (tensor_size(m, t) - from) * bytes};
        }
    piece->data = NULL;
    return size;
}

/* Write all that a run needs to go on. */
void state_write(Model *m, Progress *p, const char *path)
{
    int32_t header[HEADER];
    Piece pieces[PIECES + 1];
    uint64_t sum = 0;
    Writer *w = writer_open(path);
    state_pieces(pieces, m, p, header);
    for (const Piece *x = pieces; x->data; x++) {
        writer_put(w, x->data, x->bytes);
        sum = checksum(sum, x->data, x->bytes);
    }
    writer_put(w, &sum, sizeof sum);
    writer_close(w);
}

/* The checksum of a file's bytes. */
uint64_t file_checksum(const char *path)
{
    char block[1 << 16];
    uint64_t sum = 0;
    Reader r = reader_open(path);
    for (size_t n; (n = r.size - r.at) > 0; sum = checksum(sum, block, n)) {
        if (n > sizeof block) n = sizeof block;
        reader_get(&r, block, n);
    }
    reader_close(&r);
    return sum;
}

/* Which lines name = value of `new` the text `old` has with another value, or not at all: "name was
 * 'A', is 'B'; ...", in new memory; empty if there is none. */
char *inputs_differ(const char *old, const char *new)
{
    Text all = {0};
    text_add(&all, "", 0);
    for (Lines l = {.at = new, .end = new + strlen(new)}; next_line(&l);) {
        const char *value = (char *)memmem(l.text, l.size, " = ", 3) + 3, *was = old;
        int name = (int)(value - l.text), size = (int)l.size - name;
        while (was && strncmp(was, l.text, name)) if ((was = strchr(was, '\n'))) was++;
        was = was ? was + name : "";
        int was_size = (int)strcspn(was, "\n");
        if (was_size != size || strncmp(was, value, size))
            text_print(&all, "%s%.*s was '%.*s', is '%.*s'", all.size ? "; " : "", name - 3, l.text,
                       was_size, was, size, value);
    }
    shown(all.bytes);                                         /* the file may hold anything */
    return all.bytes;
}

/* Read a state into p, whose inputs are set already, and into a model that was prepared for
 * training. Dies if the file is damaged, or is the state of another model or, unless `changed`, of
 * other inputs. */
void state_read(Model *m, Progress *p, int changed, const char *path)
{
    int32_t header[HEADER], expected[HEADER];
    Progress saved;
    Piece pieces[PIECES + 1];
    uint64_t sum = 0, stored;
    size_t size = state_pieces(pieces, m, &saved, expected);
    Reader r = reader_open(path);
    reader_header(&r, header, STATE_MAGIC, "training state");
    if (header[1] != expected[1] || header[10] != expected[10])
        die("%s: was written by another version of this program; start again without --resume",
            path);
    reader_get(&r, &saved, sizeof saved);
    saved.inputs[sizeof saved.inputs - 1] = 0;
    char *differ = inputs_differ(saved.inputs, p->inputs);
    if (*differ && !changed)
        die("%s: is the state of another run: %s; --changed goes on with what it is now, without "
            "--resume a new run begins", path, differ);
    if (memcmp(header, expected, sizeof header))
        die("%s: is the state of a model of another kind, which cannot go on as this one; start "
            "again without --resume%s%s", path, *differ ? ": " : "", differ);
    if (r.size != size)
        die("%s: expected %zu bytes, found %zu: it is damaged; start again without --resume", path,
            size, r.size);
    reader_seek(&r, 0);
    for (const Piece *x = pieces; x->data; x++) {
        reader_get(&r, x->data, x->bytes);
        sum = checksum(sum, x->data, x->bytes);
    }
    reader_get(&r, &stored, sizeof stored);
    reader_close(&r);
    if (stored != sum)
        die("%s: the checksum is wrong: it is damaged; start again without --resume", path);
    if (*differ) printf("going on, although the run has changed: %s\n", differ);
    memcpy(saved.inputs, p->inputs, sizeof saved.inputs);
    *p = saved;
    free(differ);
}

/* ================================================================================================
 * 10. Conversations and generation
 *
 * A conversation becomes one text by a template:
 *   System: Be brief.\nUser: Hello\nAssistant: Hi.\nUser: Thanks\nAssistant: Bye.<|endoftext|>
 *                                             ~~~~~~~~~~                    ~~~~~~~~~~~~~~~~~~
 * The targets that count are marked: an answer with the space before it, and what ends it, which is
 * the next turn's header or the end of text. So the model learns to stop, and generation ends at
 * either. A prompt and its completion follow each other as they are, without headers or spaces.
 *
 * Text is encoded separately on both sides of each end of a mark. So a question ends in the same
 * tokens in training as in generation, where there is no answer yet that they could merge with.
 */

enum { SYSTEM, USER, ASSISTANT, PROMPT, COMPLETION };
const char *const turn_headers[] = {"System:", "User:", "Assistant:", "", ""};

typedef struct {
    int role, is_target;        /* is_target: is this an answer to be learned? */
    char *text;                 /* NULL: only the header, for an answer that is to be generated */
    size_t size;
} Turn;

typedef struct {
    int32_t *ids;
    uint8_t *loss_mask;         /* 1 where the token is a target that counts */
    size_t size, answer;        /* of both arrays; where the last answer begins */
} Encoded;

static inline int is_answer(int role) { return role == ASSISTANT || role == COMPLETION; }

/* Append the tokens of `pending`, with this mask, and empty it. */
void encoded_add(Encoded *e, Tokenizer *t, Text *pending, int is_target)
{
    size_t more;
    int32_t *ids = tokenizer_encode(t, pending->bytes, pending->size, 0, &more);
    e->ids = reallocate(e->ids, e->size + more, sizeof *e->ids);
    e->loss_mask = reallocate(e->loss_mask, e->size + more, 1);
    if (more) memcpy(e->ids + e->size, ids, more * sizeof *ids);
    memset(e->loss_mask + e->size, is_target, more);
    e->size += more;
    pending->size = 0;
    free(ids);
}

/* The tokens of a conversation, and their mask. A turn without text is the last one. */
Encoded turns_encode(Tokenizer *t, const Turn *turns, int count)
{
    Encoded e = {0};
    Text pending = {0};
    text_add(&pending, "", 0);
    for (const Turn *turn = turns; turn < turns + count; turn++) {
        const char *header = turn_headers[turn->role];
        int answer = is_answer(turn->role);
        if (*header) text_print(&pending, "%s%s", turn > turns ? "\n" : "", header);
        if (turn > turns && is_answer(turn[-1].role))
            encoded_add(&e, t, &pending, turn[-1].is_target);
        if (answer) encoded_add(&e, t, &pending, 0), e.answer = e.size;
        if (!turn->text) break;
        if (*header) text_add(&pending, " ", 1);
        text_add(&pending, turn->text, turn->size);
        if (answer) encoded_add(&e, t, &pending, turn->is_target);
    }
    encoded_add(&e, t, &pending, 0);
    free(pending.bytes);
    return e;
}

/* A prompt of *size tokens: <|endoftext|>, which begins every document, and a conversation. */
int *turns_prompt(Tokenizer *t, const Turn *turns, int count, int *size)
{
    Encoded e = turns_encode(t, turns, count);
    int *tokens = allocate(e.size + 1, sizeof(int));
    tokens[0] = t->end_of_text;
    memcpy(tokens + 1, e.ids, e.size * sizeof *e.ids);
    *size = (int)e.size + 1;
    free(e.ids), free(e.loss_mask);
    return tokens;
}

/* The same for a text as it is. */
int *prompt_tokens(Tokenizer *t, const char *text, size_t size, int *count)
{
    return turns_prompt(t, &(Turn){PROMPT, 0, (char *)text, size}, 1, count);
}

/* The same for a JSON list of {"role", "content"} and the answer's header; NULL if it is none. */
int *chat_tokens(Tokenizer *t, const Json *messages, int *count)
{
    static const char *const roles[] = {"system", "user", "assistant"};
    Turn *turns = allocate(messages->count + 1, sizeof *turns);
    int *tokens = NULL, n = 0, r = 0;
    for (const Json *m = messages->child; m && r < 3; m = m->next) {
        Json *role = json_get(m, "role"), *content = json_get(m, "content");
        for (r = 0; r < 3 && (!role || role->type != '"' || strcmp(role->text, roles[r])); r++) {}
        if (!content || content->type != '"') r = 3;
        else turns[n++] = (Turn){r, 0, content->text, content->size};
    }
    turns[n++] = (Turn){ASSISTANT, 0, NULL, 0};
    if (r < 3) tokens = turns_prompt(t, turns, n, count);
    free(turns);
    return tokens;
}

/* A chat: `count` turns and an open one for the next answer. The model sees it from `from` on. */
typedef struct { Turn *turns; int count, from; } Chat;

/* Add a copy of what was said. */
void chat_add(Chat *c, int role, const char *text, size_t size)
{
    c->turns = reallocate(c->turns, c->count + 2, sizeof *c->turns);
    c->turns[c->count++] = (Turn){role, 0, memcpy(allocate(size + 1, 1), text, size), size};
    c->turns[c->count] = (Turn){ASSISTANT, 0, NULL, 0};
}

/* The prompt for the next answer. While it has more than `longest` tokens, the oldest question and
 * its answer are left out from now on; the last question always stays. */
int *chat_prompt(Chat *c, Tokenizer *t, int longest, int *size)
{
    for (;; c->from += 2) {
        int *tokens = turns_prompt(t, c->turns + c->from, c->count + 1 - c->from, size);
        if (*size <= longest || c->from + 2 >= c->count) return tokens;
        free(tokens);
    }
}

void chat_free(Chat *c)
{
    for (int i = 0; i < c->count; i++) free(c->turns[i].text);
    free(c->turns);
}

/* ---- choosing a token ---- */

typedef struct {
    double temperature, top_p;  /* temperature 0: always the most likely token */
    int top_k, tokens, samples; /* top_k 0: all; tokens: the most that are generated */
    uint64_t key;
    const char *stop;           /* text that ends a sample, or NULL */
} Sampling;

typedef struct { real logit, weight; int id; } Candidate;     /* weight: probability / largest */

/* Is a more likely than b? Of equal ones, that with the lower id is. */
static inline int more_likely(Candidate a, Candidate b)
{
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

/* In heap(n) no element i is less likely than its children 2i + 1, 2i + 2 [Williams 1964]. Restore
 * that after element i has become less likely. */
void candidate_sift(Candidate *heap, int n, int i)
{
    Candidate moved = heap[i];
    for (int child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && more_likely(heap[child + 1], heap[child]);
        if (!more_likely(heap[child], moved)) break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

/* Move the most likely of heap(*n) behind the *n - 1 others, and return its weight. */
double candidate_pop(Candidate *heap, int *n)
{
    Candidate top = heap[0];
    heap[0] = heap[--*n], heap[*n] = top;
    candidate_sift(heap, *n, 0);
    return top.weight;
}

/* Draw a token from softmax(logits(V) / temperature), restricted to the top_k most likely, then to
 * the fewest of these that hold top_p of their probability [Holtzman et al. 2020]. list(V) is
 * scratch: a heap of n tokens, behind it those popped, the most likely one last. */
int sample(const real *logits, int V, const Sampling *s, uint64_t key, Candidate *list)
{
    int argmax = 0, k = s->top_k > 0 ? min_int(s->top_k, V) : V, n = V, kept = 0;
    int ordered = k < V || s->top_p < 1;
    double sum = 0, mass = 0;
    for (int v = 1; v < V; v++) argmax = logits[v] > logits[argmax] ? v : argmax;
    if (s->temperature == 0) return argmax;
    for (int v = 0; v < V; v++) {
        real weight = exp_real((logits[v] - logits[argmax]) / s->temperature);
        list[V - 1 - v] = (Candidate){logits[v], weight, v};
        sum += weight;
    }
    for (int i = V / 2 - 1; ordered && i >= 0; i--) candidate_sift(list, V, i);
    if (k < V)
        for (sum = 0; n > V - k;) sum += candidate_pop(list, &n);
    do {
        if (ordered && V - kept == n) candidate_pop(list, &n);
        mass += list[V - 1 - kept++].weight;
    } while (kept < k && (s->top_p >= 1 || mass < s->top_p * sum));
    double u = random_uniform(key, 0) * mass;
    for (int i = V - 1; i > V - kept; i--)
        if ((u -= list[i].weight) < 0) return list[i].id;
    return list[V - kept].id;
}

/* ---- the text that grows ---- */

typedef struct {
    Text text;                  /* what was generated */
    size_t shown;               /* bytes of it that are written to a stream */
    int done, tokens;           /* has it ended? how many tokens were generated */
} Sample;

/* How many bytes at the end of a text may not be shown yet: the beginning of the stop text, or of a
 * character in UTF-8, whose first byte says how many it has. */
size_t unfinished(const char *text, size_t size, const char *stop)
{
    size_t length = stop ? strlen(stop) : 0, hold = 0;
    for (size_t n = 1; n < length && n <= size; n++)
        if (!memcmp(text + size - n, stop, n)) hold = n;
    for (size_t n = 1; n <= 3 && n <= size; n++) {
        unsigned char c = text[size - n];
        if (c >= 0xc0 && (c >= 0xf0 ? 4u : c >= 0xe0 ? 3u : 2u) > n && n > hold) hold = n;
    }
    return hold;
}

/* Write text; to a terminal without the control characters that could take it over. */
void show_text(FILE *stream, const char *text, size_t size)
{
    if (isatty(fileno(stream))) print_plain(stream, text, size);
    else fwrite(text, 1, size, stream);
}

/* Append bytes to a sample, which ends before the stop text (NULL: none), and write to the stream
 * (NULL: none) what cannot change any more. */
void sample_add(Sample *s, const char *bytes, int size, const char *stop, FILE *stream)
{
    text_add(&s->text, bytes, size);
    char *end = stop && *stop ? memmem(s->text.bytes, s->text.size, stop, strlen(stop)) : NULL;
    if (end) s->text.size = end - s->text.bytes, *end = 0, s->done = 1;
    size_t shown = s->text.size - (end ? 0 : unfinished(s->text.bytes, s->text.size, stop));
    if (stream) show_text(stream, s->text.bytes + s->shown, shown - s->shown), fflush(stream);
    s->shown = shown;
}

/* ---- generation: one token after another ----
 *
 * The key-value cache (qkv of every layer) is all that later tokens need of earlier ones, so a step
 * costs one row of every product. Positions are learned one by one and end at T: when they are used
 * up, the newer half of the text is read again from position 0, and the older half is forgotten.
 */

/* S texts that are continued together: the tokens that the model sees, its output for the last. */
typedef struct { int S, length, *tokens; real *hidden; } Windows;   /* tokens(S, T), hidden(S, C) */

/* Read the windows from position 0, one text at a time, with m->a.qkv set to the text's cache. */
void windows_read(Model *m, Windows *w)
{
    size_t C = m->c.C;
    real *cache = m->a.qkv;
    for (int s = 0; s < w->S; s++, m->a.qkv += m->T * 3 * C) {
        model_forward(m, w->tokens + (size_t)s * m->T, NULL, 1, 0, w->length, (Dropout){0});
        memcpy(w->hidden + s * C, m->a.ln + (w->length - 1) * C, C * sizeof(real));
    }
    m->a.qkv = cache;
}

/* Append next(S) to the windows; if they are full, keep the newer half and read it again. */
void windows_extend(Model *m, Windows *w, const int *next)
{
    int T = m->T, full = w->length == T, kept = full ? T / 2 : w->length;
    for (int s = 0; s < w->S; s++) {
        int *row = w->tokens + (size_t)s * T;
        if (full) memmove(row, row + T - kept, kept * sizeof *row);
        row[kept] = next[s];
    }
    w->length = kept + 1;
    if (full) { windows_read(m, w); return; }
    model_forward(m, next, NULL, w->S, kept, 1, (Dropout){0});
    memcpy(w->hidden, m->a.ln, w->S * m->c.C * sizeof(real));
}

/* Continue a prompt of count >= 1 tokens, of which the newest half context is read if they do not
 * fit, in s->samples ways. Fills out(samples); a single sample is also written to the stream, if
 * there is one. A sample ends at <|endoftext|>, at the stop text, or after s->tokens tokens. */
void generate(Model *m, const Tokenizer *t, const int *prompt, int count, const Sampling *s,
              Sample *out, FILE *stream)
{
    int S = s->samples, T = m->c.T, V = m->c.V, C = m->c.C, running = S, size;
    Windows w = {S, count < T ? count : T - T / 2, allocate((size_t)S * T, sizeof(int)),
                 allocate_reals((size_t)S * C)};
    Pace pace = {.all = threads()};
    int *next = allocate(S, sizeof(int));
    real *logits = allocate_reals((size_t)S * V);
    Candidate *list = allocate(V, sizeof *list);
    if (m->mode != INFERENCE || m->B != S || m->T != T) model_prepare(m, INFERENCE, S, T, 0);
    if (S > 1) stream = NULL;
    for (int b = 0; b < S; b++) {
        memcpy(w.tokens + (size_t)b * T, prompt + count - w.length, w.length * sizeof(int));
        out[b] = (Sample){0};
        text_add(&out[b].text, "", 0);
    }
    windows_read(m, &w);
    for (int step = 0; step < s->tokens && running; step++) {
        pace_step(&pace);
        if (step) windows_extend(m, &w, next);
        matmul(assign(logits, V), view(w.hidden, C), flipped(weight(m, &m->w.wte, 0)), S, V, C);
        for (int b = 0; b < S; b++) {
            uint64_t key = random_key(random_key(s->key, b), step);
            next[b] = sample(logits + (size_t)b * V, V, s, key, list);
            if (out[b].done) continue;
            out[b].tokens++, out[b].done = next[b] == t->end_of_text;
            const char *bytes = tokenizer_bytes(t, next[b], &size);
            if (!out[b].done) sample_add(&out[b], bytes, size, s->stop, stream);
            running -= out[b].done;
        }
    }
    use_threads(pace.all);
    if (stream) show_text(stream, out->text.bytes + out->shown, out->text.size - out->shown);
    free(w.tokens), free(next), free(list), free_reals(w.hidden), free_reals(logits);
}

/* ================================================================================================
 * 11. Evaluation
 *
 * A model is judged on text that was kept out of training: by the loss of its predictions there, by
 * how often its most likely token is the right one, and by the answers it generates. This chapter
 * measures each document; confidence intervals, classification and comparisons of models, which are
 * computed from these measurements, are in prepare.c.
 */

/* A document of a token file. ids[0] is the <|endoftext|> that opens it. Its first answer, the
 * first run of targets that count, is ids[answer] to ids[size - 1]; `closed`: is that its end? */
typedef struct { const uint16_t *ids; int size, answer, closed; } Item;

/* The documents of a file of examples, in the file's order: count of them, in new memory. */
Item *items_read(const Tokens *t, int end_of_text, int *count)
{
    Item *items = allocate(t->count, sizeof *items);
    *count = 0;
    for (size_t i = 1, last = 0; i < t->count; i++) {
        if (t->ids[i] != end_of_text) continue;
        const uint8_t *counts = t->loss_mask + last;
        int length = (int)(i - last), answer = 1, size;
        while (answer < length && !counts[answer]) answer++;
        for (size = answer; size < length && counts[size]; size++) {}
        if (length > 1) items[(*count)++] = (Item){t->ids + last, size, answer, size == length};
        last = i;
    }
    return items;
}

/* Sums over the targets that count in the loss, for each of n documents (or rows of running text):
 * loss in nats, number of targets, how many of them were the model's most likely token, and their
 * length as text, in bytes. One block of memory, which free(loss) returns. */
typedef struct { int n; double *loss, *count, *right, *bytes; } Scores;

/* Measure m on `docs` in batches of B rows of T tokens. `limit` > 0: only so many documents, drawn
 * by seed. Of m only the activations are written. */
Scores score(Model *m, const Tokenizer *t, const Tokens *docs, int B, int T, int limit,
             uint64_t seed)
{
    DataLoader f = loader_new(docs, T, t->end_of_text, 0, seed, limit);
    double *sums = allocate((size_t)f.count * 4, sizeof(double)), targets = 0;
    Scores s = {f.count, sums, sums + f.count, sums + 2 * f.count, sums + 3 * f.count};
    if (m->B < B || m->T != T) model_prepare(m, INFERENCE, B, T, 0);
    for (int row = 0; row < f.rows; row += B) {
        Batch b = batch_new(min_int(B, f.rows - row), T);
        const Segment *segment = f.epoch_order + f.next;
        targets += loader_batch(&f, &b);
        model_loss(m, &b, (Dropout){0}, 0, 0);
        for (int n = 0, size; segment < f.epoch_order + f.next; segment++) {
            n = max_int(n, (segment->row - row) * T);         /* its position in the batch */
            for (int k = segment->index, end = n + segment->length; n < end; n++) {
                if (b.loss_weight[n] == 0) continue;
                tokenizer_bytes(t, b.targets[n], &size);
                s.loss[k] += m->loss[n];
                s.count[k]++;
                s.right[k] += m->argmax[n] == b.targets[n];
                s.bytes[k] += b.targets[n] == t->end_of_text ? 0 : size;
            }
        }
        batch_free(&b);
    }
    if (!targets)
        die("%s: no target counts in the loss: do its examples have answers?", docs->path);
    loader_free(&f);
    return s;
}

double total(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    return sum;
}

/* Remove the white space at both ends of a text, which it returns. */
char *trimmed(char *text)
{
    const char *begin = text;
    size_t size = strlen(text);
    trim(&begin, &size);
    memmove(text, begin, size);
    text[size] = 0;
    return text;
}

/* The text of tokens, trimmed, in new memory; <|endoftext|> is left out. */
char *tokens_text(const Tokenizer *t, const uint16_t *ids, int count)
{
    Text all = {0};
    text_add(&all, "", 0);
    for (int i = 0, size; i < count; i++) {
        const char *bytes = tokenizer_bytes(t, ids[i], &size);
        if (ids[i] != t->end_of_text) text_add(&all, bytes, size);
    }
    return trimmed(all.bytes);
}

/* End a text before the header of the turn that follows an answer, if there is one. */
char *before_header(char *text)
{
    char *header = strstr(text, "\nUser:");
    if (header) *header = 0;
    return text;
}

/* The answer that an example teaches. */
char *target_text(const Tokenizer *t, const Item *d)
{
    return before_header(tokens_text(t, d->ids + d->answer, d->size - d->answer));
}

/* A prompt of `count` tokens, and the answer to it: the most likely token each time, up to `tokens`
 * of them or to the text `stop`. The answer is NULL until it is generated. */
typedef struct { int *prompt, count, tokens; const char *stop; char *answer; } Query;

/* The prompt of d behind the tokens of `shots`, if given. */
Query query_new(const Item *d, const Tokens *shots, int tokens, const char *stop)
{
    int extra = shots ? (int)shots->count : 0;
    Query q = {allocate(extra + d->answer, sizeof(int)), 0, tokens, stop, NULL};
    q.prompt[q.count++] = d->ids[0];
    for (int i = 0; i < extra; i++) q.prompt[q.count++] = shots->ids[i];
    for (int i = 1; i < d->answer; i++) q.prompt[q.count++] = d->ids[i];
    return q;
}

/* Let m answer, trimmed and in new memory, and free the prompt. */
void query_answer(Model *m, const Tokenizer *t, Query *q)
{
    Sampling greedy = {.tokens = q->tokens, .samples = 1, .top_p = 1, .stop = q->stop};
    Sample out;
    generate(m, t, q->prompt, q->count, &greedy, &out, NULL);
    q->answer = before_header(trimmed(out.text.bytes));
    free(q->prompt);
}

/* Let m answer n queries, several at a time: each thread takes one after the other, has activations
 * of its own, no longer than the longest query, and computes all products alone. So the answers
 * are those of query_answer, at any number of threads. Of m, only the weights are used. */
void queries_answer(const Model *m, const Tokenizer *t, Query *q, int n)
{
    Config c = m->c;
    c.T = 1;
    for (int i = 0; i < n; i++) c.T = max_int(c.T, min_int(m->c.T, q[i].count + q[i].tokens));
#pragma omp parallel
    {
        Model mine = {.c = c, .count = m->count, .w = m->w, .adapter = m->adapter};
        memcpy(mine.tensors, m->tensors, sizeof mine.tensors);
        memcpy(mine.half, m->half, sizeof mine.half);
        use_threads(1);                               /* for what this thread starts */
#pragma omp for schedule(dynamic)
        for (int i = 0; i < n; i++) query_answer(&mine, t, &q[i]);
        activations_free(&mine);
    }
}

/* ================================================================================================
 * 12. Training
 *
 * train(), at the end of this chapter, is a whole run: it loads model and data, repeats steps of
 * forward, backward and update, and measures the loss on held-out data (validation) now and then.
 * The folder --out then holds
 *     best.bin    the model with the smallest validation loss     log.csv   a line for each step
 *     model.bin   the model after the last step                   run.txt   settings and results
 *     state.bin   all that --resume needs            samples.jsonl  answers before and after
 * Whatever stops a run early (a signal, a disk that is full) stops it between two steps, and the
 * state is saved, so that --resume computes the same numbers as a run that was never stopped. For
 * this, the state also says what the run is: checksums of its files, and its settings.
 */

/* A row declares the variable opt.FIELD and the option that sets it: a text, a whole number, a real
 * number, or a flag, which takes no value. The letters are the commands that know it: t train,
 * g generate, c chat, e eval, p compare, b bench, k classify, n explain. Two marks are for train:
 * - is not compared by --resume, since it changes no number of the run, or names files, of which
 * the contents are compared; = is no property of the run, and not recorded. */
#define NO_LIMIT 1e12
#define ALL_OPTIONS(TEXT, INT, REAL, FLAG)                                                        \
    /*   name, field, initial, min, max, commands, help */                                        \
    TEXT("model", model, NULL, "tgcepkn-", "model file; train without one makes a new model")      \
    TEXT("adapter", adapter, NULL, "gcepkn", "adapters, as --lora makes them, for --model")       \
    TEXT("data", data, NULL, "tep-", "NAME of NAME_train.bin and NAME_val.bin; several: A,B")      \
    TEXT("tokenizer", tokenizer, "data/gpt2_tokenizer.bin", "tgcepkn-", "vocabulary")              \
    TEXT("out", out, "out", "tepn-", "folder for results")                                         \
    INT("layers", layers, "6", 1, 1000, "t", "blocks of a new model")                             \
    INT("heads", heads, "6", 1, 1000, "t", "heads of a new model")                                \
    INT("channels", channels, "192", 1, 65536, "t", "channels of a new model")                    \
    INT("context", context, "0", 0, 1048576, "tep", "tokens in a row; 0: the most")               \
    INT("batch", batch, "4", 1, 65536, "tep", "rows in a batch")                                  \
    INT("accumulate", accumulate, "1", 1, 65536, "t", "batches in a step")                        \
    INT("steps", steps, "0", 0, 1e9, "t", "optimizer steps; 0: by epochs")                        \
    REAL("epochs", epochs, "3", 0, 1e6, "t", "times through the data")                            \
    REAL("lr", lr, "1e-4", 0, 10, "t", "peak learning rate")                                      \
    TEXT("schedule", schedule, "cosine", "t", "cosine, linear or constant")                       \
    INT("warmup", warmup, "10", 0, 1e9, "t", "steps to the peak")                                 \
    REAL("floor", floor, "0.1", 0, 1, "t", "last learning rate, as a fraction of the peak")       \
    REAL("decay", decay, "0.1", 0, 100, "t", "weight decay of matrices")                          \
    REAL("l1", l1, "0", 0, 100, "t", "L1 penalty of matrices")                                    \
    REAL("beta1", beta1, "0.9", 0, 0.99999, "t", "AdamW: decay of the mean gradient")             \
    REAL("beta2", beta2, "0.999", 0, 0.9999999, "t", "AdamW: decay of the mean square")           \
    REAL("epsilon", epsilon, "1e-8", 0, 1, "t", "AdamW: added to the root")                       \
    REAL("clip", clip, "1", 0, NO_LIMIT, "t", "largest norm of the gradient; 0: any")             \
    REAL("dropout", dropout, "0", 0, 0.99, "t", "on what blocks add to the residual stream")      \
    REAL("attention-dropout", attention_dropout, "0", 0, 0.99, "t", "on attention")               \
    REAL("embedding-dropout", embedding_dropout, "0", 0, 0.99, "t", "on the embedding")           \
    REAL("smoothing", smoothing, "0", 0, 0.99, "t", "label smoothing")                            \
    REAL("noise", noise, "0", 0, 0.99, "t", "input tokens replaced by random ones")               \
    INT("freeze", freeze, "0", 0, 1000, "t", "keep the embedding and the first N blocks")         \
    INT("lora", lora, "0", 0, 65536, "t", "rank of adapters that are trained instead; 0: none")   \
    REAL("lora-alpha", lora_alpha, "16", 0, 1e6, "t", "adapters are scaled by alpha / rank")      \
    REAL("lora-dropout", lora_dropout, "0", 0, 0.99, "t", "on what adapters read")                \
    TEXT("lora-on", lora_on, "qkv", "t", "what has one: qkv,attproj,fc,fcproj")                   \
    TEXT("moments", moments, "fp32", "t", "of AdamW: fp32, or bf16 for less memory")              \
    FLAG("recompute", recompute, "t-", "compute activations again in backward: less memory")       \
    INT("eval-every", eval_every, "50", 1, 1e9, "t", "steps between validations")                 \
    INT("limit", limit, "0", 0, 1e9, "tep", "held-out rows to draw at random; 0: all")            \
    INT("patience", patience, "0", 0, 1e9, "t", "validations without progress; 0: no early stop") \
    INT("save-every", save_every, "200", 0, 1e9, "t-", "steps between saved states")               \
    FLAG("resume", resume, "t=", "go on from the saved state")                                     \
    FLAG("changed", changed, "t=", "resume even if data, model or settings are others now")       \
    FLAG("bf16", bf16, "t", "write models in bf16")                                               \
    TEXT("tuned", tuned, NULL, "ep", "the model after tuning")                                    \
    TEXT("layer", layer, NULL, "n", "print a step, ln1 or, in block 2, ln1.2")                    \
    TEXT("shots", shots, "0,4", "p", "examples put before a prompt")                              \
    TEXT("pairs", pairs, NULL, "e", "counterfactual pairs, a JSON object a line")                 \
    TEXT("questions", questions, NULL, "ep", "held-out questions, JSON lines, not NAME_val.bin")  \
    TEXT("group", group, "kind", "e", "member of the questions that groups them")                 \
    FLAG("test", test, "ep", "measure NAME_test.bin instead of NAME_val.bin")                     \
    FLAG("errors", errors, "e", "list the wrong answers")                                         \
    TEXT("labels", labels, NULL, "k", "labels to choose from, separated by commas")               \
    INT("show", show, "3", 0, 1000, "t-", "held-out prompts answered before and after")            \
    TEXT("prompt", prompt, "", "g", "text to continue")                                           \
    INT("tokens", tokens, "200", 1, 1e9, "gcep", "longest continuation")                          \
    INT("samples", samples, "1", 1, 1024, "g", "continuations of the prompt")                     \
    REAL("temperature", temperature, "0.8", 0, 100, "gc", "0: the most likely token")             \
    INT("top-k", top_k, "0", 0, 1e9, "gc", "draw from the k most likely; 0: all")                 \
    REAL("top-p", top_p, "0.95", 0, 1, "gc", "draw from the fewest that hold p")                  \
    TEXT("stop", stop, NULL, "g", "text that ends a continuation")                                \
    FLAG("jsonl", jsonl, "gk", "a line of JSON in, a line of JSON out")                           \
    TEXT("precision", precision, "fp32", "tgcepbk", "of products: fp32, or bf16 with fp32 sums")  \
    INT("seed", seed, "1337", 0, 2147483647, "tgcep", "of everything random")                     \
    INT("threads", threads, "0", 0, 1024, "tgcepbkn=", "0: as many as the machine has")            \
    FLAG("quick", quick, "b", "small sizes only")

#define TEXT_FIELD(name, field, ...) const char *field;
#define INT_FIELD(name, field, ...) int field;
#define REAL_FIELD(name, field, ...) double field;
#define TEXT_ROW(name, field, initial, ...) {name, 's', &opt.field, initial, 0, 0, __VA_ARGS__},
#define INT_ROW(name, field, ...) {name, 'i', &opt.field, __VA_ARGS__},
#define REAL_ROW(name, field, ...) {name, 'f', &opt.field, __VA_ARGS__},
#define FLAG_ROW(name, field, ...) {name, '!', &opt.field, NULL, 0, 0, __VA_ARGS__},
struct {
    ALL_OPTIONS(TEXT_FIELD, INT_FIELD, REAL_FIELD, INT_FIELD)
    const char *program, *command;                            /* argv[0]; the whole command line */
} opt;
const Option options[] = {ALL_OPTIONS(TEXT_ROW, INT_ROW, REAL_ROW, FLAG_ROW)
                          {"compare", 's', &opt.tuned, NULL, 0, 0, "n", "the model after tuning"},
                          {0}};

/* The line "name = value" for one option, in new memory. */
char *setting_line(const Option *o)
{
    const char *text = o->kind == 's' ? *(const char **)o->value : NULL;
    if (o->kind == 's') return format("%s = %s\n", o->name, text ? text : "");
    if (o->kind == 'f') return format("%s = %.15g\n", o->name, *(double *)o->value);
    return format("%s = %d\n", o->name, *(int *)o->value);
}

/* All options of a command that have none of these marks, a line for each, in new memory. */
char *settings_text(char command, const char *marks)
{
    Text all = {0};
    text_add(&all, "", 0);
    for (const Option *o = options; o->name; o++)
        if (strchr(o->commands, command) && !strpbrk(o->commands, marks))
            text_take(&all, setting_line(o));
    return all.bytes;
}

/* What the files of a run contain, as lines name = value in new memory. */
char *files_text(const Tokens *train, const Tokens *val)
{
    return format("training data = %zu tokens, %016" PRIx64 "\nvalidation data = %zu tokens, %016"
                  PRIx64 "\nvocabulary file = %016" PRIx64 "\nstarting model = %016" PRIx64 "\n",
                  train->count, train->fingerprint, val->count, val->fingerprint,
                  file_checksum(opt.tokenizer), opt.model ? file_checksum(opt.model) : 0);
}

/* Let --threads and --precision take effect, which every command does first. */
void options_apply(void)
{
    if (opt.threads) use_threads(opt.threads);
    if (!opt.precision || !strcmp(opt.precision, "fp32")) return;
    if (strcmp(opt.precision, "bf16"))
        die_usage("--precision: expected fp32 or bf16, found '%s'", opt.precision);
    bf16_products = 1;
    if (PAIR == 1)
        fprintf(stderr, "note: this processor has no fast instruction for bf16: numbers are "
                        "rounded the same way, but products are no faster than in fp32\n");
}

/* Read a model to be used and, unless it is NULL, add a file of adapters to it. With --precision
 * bf16 matrices are kept in bf16, and adapters beside them: a rounded sum would lose much of it. */
Model *model_load(const char *path, const char *adapter)
{
    if (!path) die_usage("--model is missing: a model file, made by ./prepare or by training");
    Model *m = model_read_as(path, bf16_products);
    if (adapter) adapter_read(m, adapter);
    if (adapter && !bf16_products) model_merge(m);
    return m;
}

/* What messages call it, in new memory. */
char *model_name(const char *path, const char *adapter)
{
    return format("%s%s%s", path, adapter ? " + " : "", adapter ? adapter : "");
}

enum { SPARE_IDS = 1024 };

/* Make the ids of m that have no token in t, read from path, padding: no softmax includes them, so
 * they are never predicted. There may be fewer than SPARE_IDS: a vocabulary is padded to a multiple
 * of up to 128 * 8 (Megatron, 8 GPUs), or has special tokens. Dies if t cannot be that of m. */
void tokenizer_fit(Model *m, const Tokenizer *t, const char *path)
{
    int spare = m->c.V - t->count;
    if (spare < 0 || spare >= SPARE_IDS)
        die("%s: has %d tokens, the model %d: use the model's own tokenizer (--tokenizer)", path,
            t->count, m->c.V);
    if (spare)
        fprintf(stderr, "%s: %d of the model's %d ids have no token and are never generated\n",
                path, spare, m->c.V);
    m->c.V = t->count;
}

/* The vocabulary of --tokenizer, which must be that of the model. */
Tokenizer *tokenizer_load(Model *m)
{
    Tokenizer *t = tokenizer_read(opt.tokenizer);
    tokenizer_fit(m, t, opt.tokenizer);
    return t;
}

/* ---- what a step costs ---- */

__attribute__((noinline)) void multiply_add(vector s[MR * NV], vector x, vector y, int count)
{
    vector sum[MR][NV];
    int pairs = bf16_products;
    real first = x[0];
    memcpy(sum, s, sizeof sum);
    for (int k = 0; k < count && !pairs; k++)
        UNROLL for (int i = 0; i < MR; i++)
            UNROLL for (int j = 0; j < NV; j++) sum[i][j] = sum[i][j] * x + y;
    for (int k = 0; k < count && pairs; k++)
        UNROLL for (int i = 0; i < MR; i++)
            UNROLL for (int j = 0; j < NV; j++) sum[i][j] = dot_add(sum[i][j], first, y);
    memcpy(s, sum, sizeof sum);
}

/* The most flop/s that all threads reach together, with multiply-adds as those of products. */
double machine_peak(void)
{
    double best = 0;
    for (int trial = 0; trial < 12; trial++) {
        enum { COUNT = 200000 };
        double start = seconds();
#pragma omp parallel
        {
            vector s[MR * NV];
            memset(s, 0, sizeof s);
            multiply_add(s, s[0], s[1], COUNT);
            volatile real keep = s[MR * NV - 1][0];
            (void)keep;
        }
        int each = 2 * MR * NV * VL * (bf16_products ? PAIR : 1);
        best = fmax(best, (double)each * COUNT * threads() / (seconds() - start));
    }
    return best;
}

/* Flops of a training step on N = B*T tokens, of which `targets` count in the loss: 2 for each
 * weight in forward, 4 in backward (2 if only adapters are trained), and attention's two products
 * over half of T x T. Frozen blocks have no backward. `again`: with what --recompute repeats. */
double step_flops(const Model *m, int B, int T, double targets, int again)
{
    double N = (double)B * T, C = m->c.C, weights = 24 * N * C * C, attention = 2 * N * T * C;
    double head = 2 * targets * C * m->c.V, blocks = m->c.L - m->frozen;
    int fixed = m->frozen || m->adapter.rank;
    double flops = m->c.L * (weights + attention) + 6 * N * m->adapter_count;
    flops += blocks * ((m->adapter.rank ? 1 : 2) * weights + 2 * attention);
    if (again && m->recompute) flops += fmax(0, blocks - 1) * (weights * 2 / 3 + attention);
    return flops + head * (fixed ? 2 : 3);
}

typedef struct { double weights, gradients, moments, activations, buffers, all; } Memory;

/* Bytes that training on B rows of T tokens takes. */
Memory training_memory(const Model *m, int B, int T)
{
    size_t sizes[ACTIVATION_COUNT], strides[ACTIVATION_COUNT], rows = (size_t)B * T, trained = 0;
    for (int i = trained_first(m); i < trained_end(m); i++)
        trained += tensor_size(m, &m->tensors[i]) - trained_from(m, &m->tensors[i]);
    size_t acts = activations_describe(m, TRAINING, B, T, sizes, strides);
    size_t work = rows * 6 * m->c.C + head_scratch_size(rows, m->c.C, m->c.Vp, head_chunk(m));
    double n = sizeof(real), moments = 2.0 * trained * (m->bf16_moments ? 2 : n);
    double weights = m->adapter_count * n;
    for (int i = 0; i < TENSORS; i++)
        weights += tensor_size(m, &m->tensors[i]) * (m->half[i] ? sizeof(bfloat16) : n);
    Memory need = {weights, trained * n, moments, acts * n, work * n, 0};
    need.all = need.weights + need.gradients + moments + need.activations + need.buffers;
    return need;
}

/* Seconds that a step on `batches` batches is expected to take: at 70% of this peak in flop/s, with
 * the time in which AdamW reads and writes its numbers. */
double step_seconds(const Model *m, int B, int T, int batches, double peak)
{
    Memory need = training_memory(m, B, T);
    double moved = 4 * need.gradients + 2 * need.moments;
    return batches * step_flops(m, B, T, (double)B * T, 1) / (0.7 * peak) + moved / 3e10;
}

/* Options with which training takes less memory than without. */
static const struct { const char *options; int recompute, bf16_moments, lora, bf16; } savings[] = {
    {"--recompute", 1, 0, 0, 0}, {"--recompute --moments bf16", 1, 1, 0, 0},
    {"--lora 8", 0, 0, 8, 0}, {"--lora 8 --recompute --precision bf16", 1, 0, 8, 1}};
enum { SAVINGS = sizeof savings / sizeof *savings };

/* A copy of m, for step_seconds and training_memory only, with savings[i] besides its own. */
Model model_saving(const Model *m, int i)
{
    Model copy = *m;
    copy.recompute |= savings[i].recompute, copy.bf16_moments |= savings[i].bf16_moments;
    if (savings[i].lora && !m->adapter.rank) {
        copy.adapter = (Adapter){.rank = savings[i].lora, .on = 1 << QKV};
        copy.adapter_count = adapters_describe(m->c, copy.adapter, copy.tensors + TENSORS);
    }
    for (int j = 0; j < TENSORS && savings[i].bf16; j++)
        if (copy.tensors[j].rows > 1) copy.half[j] = (bfloat16 *)&copy;         /* not NULL */
    return copy;
}

/* Die if training takes more memory than the machine has, and name options that take less. */
void memory_check(const Model *m, int B, int T)
{
    double need = training_memory(m, B, T).all;
    double have = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    Text less = {0};
    if (need <= have) return;
    for (int i = 0; i < SAVINGS; i++) {
        Model other = model_saving(m, i);
        double GB = training_memory(&other, B, T).all / 1e9;
        if (GB < 0.99 * need / 1e9) text_print(&less, ", %s (%.1f GB)", savings[i].options, GB);
    }
    die("training needs %.1f GB, this machine has %.1f GB; less is needed with a smaller --batch "
        "or --context%s", need / 1e9, have / 1e9, less.size ? less.bytes : "");
}

/* A time as 1h02m, 2m03s or 3.2s; valid until the next call. */
const char *duration(double s)
{
    static char text[32];
    if (!(s < 3.6e9)) return "unknown time";                  /* 100 years, infinity, NaN */
    if (s >= 3600) snprintf(text, sizeof text, "%.0fh%02dm", floor(s / 3600), (int)(s / 60) % 60);
    else if (s >= 60) snprintf(text, sizeof text, "%dm%02ds", (int)(s / 60), (int)s % 60);
    else snprintf(text, sizeof text, "%.1fs", s);
    return text;
}

/* ---- the parts of a run ---- */

typedef struct {
    Model *m;
    Tokenizer *tokenizer;
    Tokens train, val;                                        /* val.count 0: no validation data */
    DataLoader loader;                                        /* reads `train` */
    Batch *batches;                                           /* opt.accumulate of them */
    Progress p;
    char *settings;                                           /* for run.txt: options, files */
    int tried, failed;                                        /* to write: bit i is file i, below */
    int T, steps;                                             /* tokens in a row; steps in all */
    double step_tokens, flops;                                /* of one step */
    double loss, norm, lr;                                    /* of the last step */
    double smooth_loss, rate, fastest, peak;                  /* means of loss, tok/s; flop/s */
    double (*curve)[2];                                       /* step, loss of each validation */
    int points, rises, slow;                  /* their number; rises and slow steps in a row */
    FILE *log;
} Run;

/* The result of training: the adapters, or the whole model. */
void result_write(const Model *m, const char *path)
{
    if (m->adapter.rank) adapter_write(m, path);
    else model_write(m, path, opt.bf16);
}

/* The path of a file in the folder --out; valid until three more calls. */
const char *out_path(const char *name)
{
    static char *path[4];
    static int turn;
    char **next = &path[turn++ % 4];
    free(*next);
    return *next = format("%s/%s", opt.out, name);
}

/* Have opt.patience validations gone by without a new best loss? */
int stopped_early(const Run *r) { return opt.patience && r->p.waited >= opt.patience; }

/* Die if the disk has no space for all files of the run, the old and the new state together. */
void run_disk_check(const Run *r)
{
    const Model *m = r->m;
    int rank = m->adapter.rank;
    double n = rank ? m->adapter_count : m->count, model = n * (opt.bf16 && !rank ? 2 : 4);
    double state = n * sizeof(real) + training_memory(m, opt.batch, r->T).moments, there = 0;
    static const char *const files[] = {"state.bin", "model.bin", "best.bin"};
    struct stat status;
    for (int i = 0; i < 3; i++)
        if (stat(out_path(files[i]), &status) == 0) there += status.st_size;
    disk_check(opt.out, 2 * (state + sizeof r->p) + (r->val.count ? 2 : 1) * model - there);
}

int run_done(const Run *r) { return r->p.step >= r->steps || stopped_early(r); }

/* A model of the shape that the options give, with random weights. */
Model *model_from_options(void)
{
    Tokenizer *t = tokenizer_read(opt.tokenizer);
    Config c = {opt.context ? opt.context : 256, t->count, opt.layers, opt.heads, opt.channels,
                (t->count + 127) / 128 * 128};
    config_check(c, "the model to be made");
    Model *m = model_new(c);
    model_initialize(m, opt.seed);
    tokenizer_free(t);
    return m;
}

/* The number of steps that --steps or --epochs asks for. */
int planned_steps(const Run *r)
{
    double rows = (double)opt.batch * opt.accumulate;
    double steps = opt.steps ? opt.steps : ceil(opt.epochs * r->loader.rows / rows);
    if (steps < 1) die_usage("--epochs: 0 trains nothing; expected more, or --steps");
    if (steps > 1e9)
        die_usage("--epochs: %g epochs are %.0f steps, more than 1e9; expected fewer", opt.epochs,
                  steps);
    return (int)steps;
}

/* The adapters that --lora asks for. */
Adapter adapter_from_options(const Model *m)
{
    Adapter a = {model_fingerprint(m), opt.lora_alpha, opt.lora, 0};
    char *copy = format("%s", opt.lora_on), *rest = copy, *name;
    while ((name = strsep(&rest, ","))) {
        int i = 0;
        while (i < ADAPTED && strcmp(name, adapted_names[i])) i++;
        if (i == ADAPTED)
            die_usage("--lora-on: expected some of qkv,attproj,fc,fcproj, found '%s'", opt.lora_on);
        a.on |= 1 << i;
    }
    free(copy);
    if (a.rank > m->c.C) die_usage("--lora: the model has %d channels, found %d", m->c.C, a.rank);
    return a;
}

/* Load model, vocabulary and data, check that they fit together, and lay out the run. */
Run *run_new(void)
{
    static const char *const files[] = {"state.bin", "model.bin", "best.bin", "log.csv", "run.txt",
                                        "samples.jsonl"};
    Run *r = allocate(1, sizeof *r);
    make_folder(opt.out), folder_lock(opt.out);
    for (int i = 0; i < 6; i++) remove_partial(opt.out, files[i]);
    Model *m = r->m = opt.model ? model_read_as(opt.model, opt.lora && bf16_products)
                                : model_from_options();
    r->tokenizer = tokenizer_load(m);
    r->T = opt.context ? opt.context : m->c.T;
    r->step_tokens = (double)opt.accumulate * opt.batch * r->T;
    if (r->T > m->c.T) die_usage("--context: the model's longest is %d, found %d", m->c.T, r->T);
    if (opt.freeze > m->c.L) die_usage("--freeze: the model has %d blocks", m->c.L);
    if (r->step_tokens > INT32_MAX)
        die_usage("--batch: %d x --accumulate %d x %d tokens are too many for a step, %d the most",
                  opt.batch, opt.accumulate, r->T, INT32_MAX);
    m->bf16_moments = !strcmp(opt.moments, "bf16");
    if (!m->bf16_moments && strcmp(opt.moments, "fp32"))
        die_usage("--moments: expected fp32 or bf16, found '%s'", opt.moments);
    if (opt.lora && !opt.model) die_usage("--lora: expected --model, a model to be adapted");
    if (opt.lora) model_adapt(m, adapter_from_options(m), random_key(opt.seed, 4));
    m->frozen = opt.freeze, m->recompute = opt.recompute;
    batch_tokens(opt.batch, r->T), memory_check(m, opt.batch, r->T);
    r->train = tokens_read(opt.data, "train", m->c.V);
    if (tokens_exist(opt.data, "val")) r->val = tokens_read(opt.data, "val", m->c.V);
    r->loader = loader_new(&r->train, r->T, r->tokenizer->end_of_text, 1, opt.seed, 0);
    if (r->loader.truncated)
        printf("%d of %d examples are longer than %d tokens and lose their beginning\n",
               r->loader.truncated, r->loader.count, r->T);
    r->steps = planned_steps(r);
    r->batches = allocate(opt.accumulate, sizeof(Batch));
    for (int i = 0; i < opt.accumulate; i++) r->batches[i] = batch_new(opt.batch, r->T);
    char *files_now = files_text(&r->train, &r->val), *inputs = settings_text('t', "-=");
    if ((size_t)snprintf(r->p.inputs, sizeof r->p.inputs, "%s%s", files_now, inputs) >=
        sizeof r->p.inputs) die_usage("the values of all options are too long to be recorded");
    char *settings = settings_text('t', "=");
    r->settings = format("%s%s", settings, files_now);
    free(files_now), free(inputs), free(settings);
    run_disk_check(r);
    r->peak = machine_peak();
    return r;
}

void run_free(Run *r)
{
    for (int i = 0; i < opt.accumulate; i++) batch_free(&r->batches[i]);
    loader_free(&r->loader), tokens_free(&r->train), tokens_free(&r->val);
    tokenizer_free(r->tokenizer), model_free(r->m);
    free(r->batches), free(r->settings), free(r->curve), free(r);
}

/* Print the parameters by tensor, the memory by kind, and the time that is to be expected. */
void print_plan(const Run *r)
{
    const Model *m = r->m;
    size_t trained = 0;
    printf("\n  parameter        shape           parameters\n");
    for (int i = 0; i < (m->adapter.rank ? ALL_TENSORS : TENSORS); i++) {
        const Tensor *t = &m->tensors[i];
        char shape[64];
        if (!t->size) continue;                               /* a matrix without an adapter */
        int n = t->layered ? snprintf(shape, sizeof shape, "%d x ", m->c.L) : 0;
        snprintf(shape + n, sizeof shape - n, "%d x %d", t->rows, t->columns);
        printf("  %-14s %-18s %11zu\n", t->field, shape, tensor_size(m, t));
        if (i >= trained_first(m)) trained += tensor_size(m, t) - trained_from(m, t);
    }
    Memory need = training_memory(m, opt.batch, r->T);
    printf("  all                               %11zu, %zu of them trained\n\n",
           m->count + m->adapter_count, trained);
    printf("  memory: weights %.1f MB, gradients %.1f, moments %.1f, activations %.1f, buffers "
           "%.1f; %.1f MB in all\n", need.weights / 1e6, need.gradients / 1e6, need.moments / 1e6,
           need.activations / 1e6, need.buffers / 1e6, need.all / 1e6);
    double time = step_seconds(m, opt.batch, r->T, opt.accumulate, r->peak);
    printf("  machine: %d thread%s, %.0f GFLOP/s in %s\n", threads(), threads() > 1 ? "s" : "",
           r->peak / 1e9, opt.precision);
    printf("  %d steps of %d x %d x %d tokens, %.1f epochs of %d rows, about %s\n\n", r->steps,
           opt.accumulate, opt.batch, r->T,
           (double)r->steps * opt.accumulate * opt.batch / r->loader.rows, r->loader.rows,
           duration(time * (r->steps - r->p.step)));
}

/* ---- the records of a run ---- */

/* Remember a validation, for draw_curve. */
void curve_add(Run *r, double step, double loss)
{
    r->curve = grow(r->curve, r->points, sizeof *r->curve);
    r->curve[r->points][0] = step, r->curve[r->points++][1] = loss;
}

/* Open log.csv: a new file or, on resuming, the lines of the old one up to the state's step. */
void log_open(Run *r, int resumed)
{
    const char *path = out_path("log.csv");
    size_t size = 0;
    int old = resumed && access(path, R_OK) == 0;
    char *text = old ? read_file(path, &size) : format("%s", "");
    Lines l = {.at = text, .end = text + size};
    Writer *w = writer_open(path);
    writer_print(w, "step,epoch,tokens,train_loss,val_loss,lr,grad_norm,tokens_per_s,seconds\n");
    while (next_line(&l)) {
        double step;
        if (sscanf(l.text, "%lf,", &step) != 1 || step > r->p.step) continue;
        writer_print(w, "%.*s\n", (int)l.size, l.text);
        const char *cell = l.text, *end = l.text + l.size;
        for (int commas = 0; commas < 4 && cell < end; cell++) commas += *cell == ',';
        if (cell < end && *cell != ',') curve_add(r, step, atof(cell));      /* val_loss */
    }
    writer_close(w);
    r->log = fopen(path, "a");
    if (!r->log) die("%s: cannot be written: %s", path, strerror(errno));
    free(text);
}

/* One line of log.csv. A NaN as validation loss leaves its cell empty. train() looks at ferror. */
void log_line(Run *r, double val)
{
    FILE *f = r->log;
    fprintf(f, "%d,%d,%.0f,", (int)r->p.step, (int)r->p.epoch, r->p.step * r->step_tokens);
    if (r->p.step) fprintf(f, "%.9g", r->loss);
    fputc(',', f);
    if (!isnan(val)) fprintf(f, "%.9g", val);
    fprintf(f, ",%.6g,%.6g,%.0f,%.2f\n", r->lr, r->norm, r->rate, r->p.seconds);
    fflush(f);
}

/* Write run.txt: settings and results, as lines "name = value". */
void write_run(const Run *r)
{
    Writer *w = writer_open(out_path("run.txt"));
    Config c = r->m->c;
    writer_print(w, "command = %s\n%s", opt.command, r->settings);
    writer_print(w, "layers = %d\nheads = %d\nchannels = %d\nvocabulary = %d\nparameters = %zu\n",
                 c.L, c.NH, c.C, c.V, r->m->count);
    writer_print(w, "threads = %d\npeak_gflops = %.0f\nstep = %d\nbest_step = %d\n", threads(),
                 r->peak / 1e9, (int)r->p.step, (int)r->p.best_step);
    writer_print(w, "best_loss = %.6f\ntokens = %.0f\nseconds = %.1f\nfinished = %d\n",
                 r->p.best_loss, r->p.step * r->step_tokens, r->p.seconds,
                 run_done(r) && !r->failed);
    writer_close(w);
}

enum { BEST, MODEL, STATE, RECORD, RUN_FILES };
Run *saved_run;

/* Try to write what has not been tried. So one file that cannot be written loses no other. The
 * record then says that the run is not finished, so that a search runs it again. */
void save_rest(void);

/* Write a file of the run. If this fails, die does save_rest before it exits. */
void run_save(Run *r, int file)
{
    r->tried |= 1 << file;
    saved_run = r, last_attempts = r->p.step ? save_rest : NULL;
    if (file == BEST) {
        result_write(r->m, out_path("best.bin"));
        r->p.best_sum = file_checksum(out_path("best.bin"));
    }
    if (file == MODEL) result_write(r->m, out_path("model.bin"));
    if (file == STATE) state_write(r->m, &r->p, out_path("state.bin"));
    if (file == RECORD) write_run(r);
    last_attempts = NULL;
}

void save_rest(void)
{
    saved_run->failed = 1;
    for (int file = MODEL; file < RUN_FILES; file++)
        if (!(saved_run->tried >> file & 1)) run_save(saved_run, file);
}

/* "name":"text" of a JSON object, then `end`. */
void print_json(FILE *f, const char *name, const char *text, const char *end)
{
    fprintf(f, "\"%s\":", name);
    json_write_string(f, text, strlen(text));
    fputs(end, f);
}

/* Print a text on one line. */
void print_line(const char *before, const char *text)
{
    char *line = format("%s%s", before, text);
    for (char *c = line; (c = strchr(c, '\n'));) *c = ' ';
    print_plain(stdout, line, strlen(line));
    putchar('\n');
    free(line);
}

/* Let m answer the first opt.show held-out prompts (of running text, the first words of its rows).
 * Prompt, answer and, for examples, the target go to samples.jsonl: `when` is "before" training,
 * which starts that file, or "after", which keeps what it holds from before. */
void show_samples(const Run *r, Model *m, const char *when)
{
    const char *path = out_path("samples.jsonl");
    size_t size = 0;
    int n = (int)((r->val.count - 1) / r->T), words = max_int(1, min_int(12, r->T / 2));
    int old = !strcmp(when, "after") && access(path, R_OK) == 0;
    char *text = old ? read_file(path, &size) : format("%s", "");
    Item *items = r->val.examples ? items_read(&r->val, r->tokenizer->end_of_text, &n) : NULL;
    Writer *w = writer_open(path);
    for (Lines l = {.at = text, .end = text + size}; next_line(&l);)
        if (memmem(l.text, l.size, "{\"when\":\"before\"", 16))
            writer_print(w, "%.*s\n", (int)l.size, l.text);
    printf("\n%s training:\n", when);
    for (int i = 0; i < min_int(opt.show, n); i++) {
        Item item = items ? items[i] : (Item){r->val.ids + (size_t)i * r->T, words, words, 1};
        char *prompt = tokens_text(r->tokenizer, item.ids, item.answer);
        char *target = target_text(r->tokenizer, &item);
        Query q = query_new(&item, NULL, 48, "\nUser:");
        query_answer(m, r->tokenizer, &q);
        print_line("  ", prompt), print_line("    -> ", q.answer);
        writer_print(w, "{\"when\":\"%s\",", when);
        print_json(w->file, "prompt", prompt, ",");
        print_json(w->file, "text", q.answer, items ? "," : "}\n");
        if (items) print_json(w->file, "target", target, "}\n");
        free(prompt), free(q.answer), free(target);
    }
    printf("\n");
    writer_close(w);
    free(items), free(text);
}

/* Draw the validation losses by step, one star for each. */
void draw_curve(const Run *r)
{
    enum { W = 56, H = 9 };
    char grid[H][W];
    double low = INFINITY, high = -INFINITY, (*p)[2] = r->curve;
    for (int i = 0; i < r->points; i++) low = fmin(low, p[i][1]), high = fmax(high, p[i][1]);
    if (r->points < 3 || !(high > low)) return;
    double first = p[0][0], last = p[r->points - 1][0];
    memset(grid, ' ', sizeof grid);
    for (int i = 0; i < r->points; i++) {
        long x = lround((W - 1) * (p[i][0] - first) / (last - first));
        grid[lround((H - 1) * (high - p[i][1]) / (high - low))][x] = '*';
    }
    printf("validation loss\n");
    for (int y = 0; y < H; y++) {
        if (y % (H - 1)) printf("%8s |%.*s\n", "", W, grid[y]);
        else printf("%8.3f |%.*s\n", y ? low : high, W, grid[y]);
    }
    int left = printf("          step %.0f", first);
    printf("%*.0f\n", W + 10 - left, last);
}

/* The state of the run: one line that a terminal rewrites, or 20 lines in a file. */
void show_progress(const Run *r)
{
    int terminal = isatty(1), every = max_int(1, r->steps / 20);
    double left = (r->steps - r->p.step) * r->step_tokens / r->rate;
    if (!terminal && r->p.step % every && r->p.step != r->steps) return;
    printf("%s%6d/%d  loss %.4f  lr %.2e  norm %.2f  %.0f tok/s  %.0f%% of peak  %s left%s",
           terminal ? "\r\033[K" : "", (int)r->p.step, r->steps, r->smooth_loss, r->lr, r->norm,
           r->rate, 100 * r->flops * r->rate / r->step_tokens / r->peak, duration(left),
           terminal ? "" : "\n");
    fflush(stdout);
}

/* ---- the run ---- */

/* Add the tokens a second of a step to r->rate, a mean over about ten steps. Returns 1, once in a
 * run, when ten steps in a row were slower than a third of the largest mean. */
int rate_add(Run *r, double rate)
{
    r->rate = r->rate ? 0.9 * r->rate + 0.1 * rate : rate;
    r->fastest = fmax(r->fastest, r->rate);
    if (r->slow == 10) return 0;
    r->slow = rate < r->fastest / 3 ? r->slow + 1 : 0;
    return r->slow == 10;
}

/* One optimizer step on opt.accumulate batches. All are read before the first is computed, because
 * the loss is the mean over the targets of them all. */
void train_step(Run *r)
{
    uint64_t run_key = random_key(opt.seed, 2), key = random_key(run_key, r->p.step);
    double start = seconds(), targets = 0;
    for (int i = 0; i < opt.accumulate; i++) {
        targets += loader_batch(&r->loader, &r->batches[i]);
        if (opt.noise > 0)
            batch_noise(&r->batches[i], opt.noise, r->m->c.V, random_key(key, 2 * i + 1));
    }
    if (targets == 0)
        die("step %d: no target counts in the loss: do the examples of %s have answers?",
            (int)r->p.step + 1, opt.data);
    for (int i = 0; i < opt.accumulate; i++)
        for (int n = 0; n < opt.batch * r->T; n++) r->batches[i].loss_weight[n] /= targets;
    r->lr = opt.lr * schedule(opt.schedule, (int)r->p.step, opt.warmup, r->steps, opt.floor);
    Recipe recipe = {
        {opt.embedding_dropout, opt.attention_dropout, opt.dropout, opt.lora_dropout, run_key},
        opt.smoothing, {r->lr, opt.beta1, opt.beta2, opt.epsilon, opt.decay, opt.l1, opt.clip}};
    r->loss = model_step(r->m, r->batches, opt.accumulate, &recipe, (int)r->p.step + 1, &r->norm);
    r->p.step++, r->p.epoch = r->loader.epoch, r->p.row = r->loader.row;

    double time = seconds() - start;
    r->p.seconds += time;
    if (rate_add(r, r->step_tokens / time))
        printf("%s        ten steps were slower than a third of this run's best speed: another "
               "program probably\n        uses the cores; pause it\n", isatty(1) ? "\r\033[K" : "");
    r->smooth_loss = r->smooth_loss ? 0.9 * r->smooth_loss + 0.1 * r->loss : r->loss;
    r->flops = opt.accumulate * step_flops(r->m, opt.batch, r->T, targets / opt.accumulate, 0);
}

/* Measure the loss on the validation data, record it, and keep the model if it is the best one.
 * With --limit, the rows are the same for every --seed, so that runs can be compared. */
void validate(Run *r)
{
    Scores s = score(r->m, r->tokenizer, &r->val, opt.batch, r->T, opt.limit, 0);
    double last = r->points ? r->curve[r->points - 1][1] : INFINITY;
    double loss = total(s.loss, s.n) / total(s.count, s.n);
    int first = r->p.step == 0, better = !first && loss < r->p.best_loss;
    free(s.loss);
    log_line(r, loss);
    curve_add(r, r->p.step, loss);
    printf("%s%6d  validation loss %.4f%s\n", isatty(1) ? "\r\033[K" : "", (int)r->p.step, loss,
           better ? "  (best so far)" : "");
    fflush(stdout);
    r->p.waited++;
    if (first || better) {
        r->p.best_loss = loss, r->p.best_step = r->p.step, r->p.waited = 0;
        run_save(r, BEST);
    }
    r->rises = loss > last ? r->rises + 1 : 0;
    if (r->rises == 3)
        printf("        validation loss has risen three times in a row while training goes on: the "
               "model\n        begins to overfit; the best one so far is kept\n");
}

/* Take the state of the run from state.bin. Returns 0 if there is none. If its model is the best
 * one, best.bin is written again: it may be what could not be written before. */
int run_resume(Run *r)
{
    const char *path = out_path("state.bin");
    if (access(path, F_OK) != 0) {
        printf("%s does not exist: the run starts from the beginning\n", path);
        return 0;
    }
    model_prepare(r->m, TRAINING, opt.batch, r->T, opt.freeze);
    state_read(r->m, &r->p, opt.changed, path);
    if (r->val.count && r->p.best_step == r->p.step) run_save(r, BEST);
    loader_seek(&r->loader, (int)r->p.epoch, (int)r->p.row);
    printf("resuming after step %d\n", (int)r->p.step);
    return 1;
}

/* Start a new run: remove what an older one left in the folder, and show what the model answers. */
void run_begin(Run *r)
{
    static const char *const old[] = {"state.bin", "samples.jsonl", "eval.jsonl", "compare.jsonl",
                                      "bias.jsonl", "search.jsonl", "answers.jsonl", "run.txt",
                                      "report.html"};
    for (size_t i = 0; i < sizeof old / sizeof *old; i++)
        if (unlink(out_path(old[i])) != 0 && errno != ENOENT)
            die("%s/%s: cannot be removed: %s", opt.out, old[i], strerror(errno));
    if (r->val.count && opt.show) show_samples(r, r->m, "before");
    model_prepare(r->m, TRAINING, opt.batch, r->T, opt.freeze);
}

volatile sig_atomic_t interrupted;                            /* the signal that came, or 0 */
const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};

/* Let the run end after this step. A second signal ends the program at once. */
void on_signal(int number)
{
    interrupted = number;
    for (int i = 0; i < 3; i++) signal(stop_signals[i], SIG_DFL);
}

/* Signals stop the run, unless it was started to ignore them (nohup). A reader of our output that
 * goes away makes writing fail instead of ending the program. */
void catch_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < 3; i++)
        if (signal(stop_signals[i], on_signal) == SIG_IGN) signal(stop_signals[i], SIG_IGN);
}

/* Say what has become of the model, and where everything is. */
void print_results(const Run *r)
{
    const char *best = out_path("best.bin"), *last = out_path("model.bin");
    int helped = r->val.count && r->p.best_step > 0;
    if (r->val.count && file_checksum(best) != r->p.best_sum)
        die("%s: is not the model after step %d, which has the best validation loss: another "
            "program or run has changed it; %s is the last model", best, (int)r->p.best_step, last);
    if (isatty(1)) printf("\n");
    draw_curve(r);
    if (stopped_early(r))
        printf("stopped early: no better validation loss for %d validations\n", opt.patience);
    if (helped && opt.show) {
        Model *m = r->m->adapter.rank ? r->m : model_read(best);
        m->c.V = r->m->c.V;                                   /* see tokenizer_fit */
        if (m == r->m) adapter_read(m, best);
        show_samples(r, m, "after");
        if (m != r->m) model_free(m);
    }
    if (helped && r->points && r->curve[0][0] == 0)           /* not if log.csv was lost */
        printf("validation loss %.4f before, %.4f after step %d\n", r->curve[0][1], r->p.best_loss,
               (int)r->p.best_step);
    else if (r->val.count && !helped)
        printf("no step was better than step 0, with its validation loss of %.4f: %s is the model\n"
               "from before training; try a lower --lr\n", r->p.best_loss, best);
    printf("best model: %s   last: %s   log: %s/log.csv   training took %s\n",
           r->val.count ? best : last, last, opt.out, duration(r->p.seconds));
}

/* Save everything, the smaller file first: it may still fit on a disk that is nearly full. Returns
 * the exit status, 128 + the signal if one stopped the run. */
int run_finish(Run *r)
{
    for (int file = MODEL; file < RUN_FILES; file++) run_save(r, file);
    if (ferror(r->log) || fclose(r->log))
        die("%s/log.csv: writing failed; --resume goes on", opt.out);
    int done = run_done(r);
    if (done) print_results(r);
    else
        printf("\nstopped after step %d; the same command with --resume goes on\n", (int)r->p.step);
    run_free(r);
    return done ? 0 : 128 + interrupted;
}

/* The whole run that the options describe. It also ends between two steps after a signal, and when
 * its output or its log cannot be written. Returns the exit status. */
int train(void)
{
    Run *r = run_new();
    int resumed = opt.resume && run_resume(r);
    print_plan(r);
    if (!resumed) run_begin(r);
    log_open(r, resumed);
    catch_signals();
    if (!resumed && r->val.count) validate(r);
    while (!run_done(r) && !interrupted && !ferror(stdout) && !ferror(r->log)) {
        train_step(r);
        r->tried = 0;
        show_progress(r);
        int last = r->p.step == r->steps;
        if (r->val.count && (last || r->p.step % opt.eval_every == 0)) validate(r);
        else log_line(r, NAN);
        if (!last && opt.save_every && r->p.step % opt.save_every == 0) run_save(r, STATE);
    }
    return run_finish(r);
}

/* ================================================================================================
 * 13. Command line
 *
 * Every option is one row of a table, which parses, checks and documents it; every command is one
 * row of another, before main. Commands that judge models are done by the program prepare.
 */

/* The list of values A,B,... that words[i] gives to a numeric option, behind "--name=" or as the
 * word after "--name"; NULL if there is none. */
char *list_in(char **words, int i)
{
    char *name = words[i], *list = strchr(name, '=');
    if (!strncmp(name, "--", 2)) list += list != NULL;
    else name = i > 0 && !strchr(words[i - 1], '=') ? words[i - 1] : "", list = words[i];
    size_t length = strcspn(name, "=");
    for (const Option *o = options; list && strchr(list, ',') && o->name; o++)
        if (strchr("if", o->kind) && length == strlen(o->name) + 2 && !strncmp(name, "--", 2) &&
            !strncmp(name + 2, o->name, length - 2))
            return list;
    return NULL;
}

/* How tokens are chosen, by the options. */
Sampling sampling(const char *stop)
{
    return (Sampling){opt.temperature, opt.top_p, opt.top_k, opt.tokens, max_int(1, opt.samples),
                      random_key(opt.seed, 3), stop};
}

/* ---- the sibling program ----
 *
 * prepare, which includes this file, judges models and draws pages. train_gpt accepts its commands,
 * too, and hands them over to the program prepare in its own folder, as git does.
 */

/* The path of this program, in new memory: as Linux tells it, else as it was called. */
char *self(void)
{
    char path[4096];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path);
    return size > 0 && size < (ssize_t)sizeof path ? format("%.*s", (int)size, path)
                                                   : format("%s", opt.program);
}

/* The path of a program in the folder of this one, in new memory. */
char *sibling(const char *name)
{
    char *path = self(), *slash = strrchr(path, '/');
    char *found = format("%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, name);
    free(path);
    return found;
}

/* The beginning of main. A thread that waits for others spins first, then sleeps. OpenMP libraries
 * spin for many milliseconds, which another program on the same core pays for and then makes us pay
 * for; between our loops some 200 microseconds suffice. gcc's library reads this setting before
 * main begins, so the program sets it and starts itself again; if that fails, it just goes on. */
void begin_program(char **argv)
{
    opt.program = argv[0];
#ifdef _OPENMP
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME")) return;
    setenv("GOMP_SPINCOUNT", "4000", 1), setenv("KMP_BLOCKTIME", "1", 1);
    execv(self(), argv);
#endif
}

/* Run a program and wait for it; meanwhile Ctrl-C is left to it. Returns its exit status, 127 if it
 * cannot be started, or 128 if a signal ended it. */
int run_program(char *const words[])
{
    extern char **environ;
    pid_t child;
    int status;
    fflush(stdout);
    if (posix_spawnp(&child, words[0], NULL, NULL, words, environ) != 0) return 127;
    void (*on_interrupt)(int) = signal(SIGINT, SIG_IGN), (*on_quit)(int) = signal(SIGQUIT, SIG_IGN);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) die("%s: %s", words[0], strerror(errno));
    signal(SIGINT, on_interrupt), signal(SIGQUIT, on_quit);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* Become `./prepare COMMAND words`. */
int hand_over(const char *command, int count, char **words)
{
    char **all = allocate(count + 3, sizeof *all);
    all[0] = sibling("prepare"), all[1] = (char *)command;
    memcpy(all + 2, words, count * sizeof *all);
    fflush(stdout);
    execvp(all[0], all);
    die("%s, which does `%s`, cannot be started: %s; make builds it", all[0], command,
        strerror(errno));
}

/* Let prepare, if it is there, draw the page of the run in --out. Returns its exit status. */
int draw_page(void)
{
    char *words[] = {sibling("prepare"), "report", (char *)opt.out, NULL};
    int status = access(words[0], X_OK) == 0 ? run_program(words) : 0;
    free(words[0]);
    return status;
}

/* A command line as a shell reads it: a word with special characters stands in single quotes, in
 * which only the single quote itself is special. In new memory. */
char *command_line(int count, char **words)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./=,:+-";
    Text line = {0};
    for (int i = 0; i < count; i++) {
        const char *quote = !*words[i] || words[i][strspn(words[i], plain)] ? "'" : "";
        text_print(&line, "%s%s", i ? " " : "", quote);
        for (const char *c = words[i]; *c; c++)
            text_print(&line, "%.*s%s", *c != '\'', c, *c == '\'' ? "'\\''" : "");
        text_print(&line, "%s", quote);
    }
    return line.bytes;
}

/* ---- the commands ---- */

/* Loss and accuracy on held-out data. prepare, where it is built, adds intervals and labels. */
int run_eval(void)
{
    if (opt.tuned || opt.pairs || opt.questions || opt.errors)
        die("--tuned, --pairs, --questions and --errors are done by prepare; make builds it");
    Model *m = model_load(opt.model, opt.adapter);
    Tokenizer *t = tokenizer_load(m);
    if (!opt.data) die_usage("--data is missing: NAME of NAME_val.bin, made by ./prepare");
    int T = opt.context ? opt.context : m->c.T;
    if (T > m->c.T) die_usage("--context: the model's longest is %d, found %d", m->c.T, T);
    const char *part = opt.test ? "test" : "val";
    Tokens val = tokens_read(opt.data, part, m->c.V);
    Scores s = score(m, t, &val, opt.batch, T, opt.limit, opt.seed);
    double loss = total(s.loss, s.n), count = total(s.count, s.n);
    char *name = model_name(opt.model, opt.adapter);
    printf("%s on %s_%s.bin: %d %s, %.0f targets\n  loss %.4f nats a token, perplexity %.2f, "
           "%.4f bits a byte, token accuracy %.4f\n", name, opt.data, part, s.n,
           val.examples ? "examples" : "rows", count, loss / count, exp(loss / count),
           loss / log(2) / total(s.bytes, s.n), total(s.right, s.n) / count);
    free(s.loss), free(name), tokens_free(&val), tokenizer_free(t), model_free(m);
    return 0;
}

/* Train, and draw the page of the finished run. */
int run_train(void)
{
    if (!opt.data) die_usage("--data is missing: NAME of NAME_train.bin, made by ./prepare");
    if (strcmp(opt.schedule, "cosine") && strcmp(opt.schedule, "linear") &&
        strcmp(opt.schedule, "constant"))
        die_usage("--schedule: expected cosine, linear or constant, found '%s'", opt.schedule);
    int status = finish_output(train());
    if (status == 0) status = draw_page();
    return status;
}

/* Read a line of standard input; a zero byte replaces its end. Returns 0 if there is none. */
int read_line(char **line, size_t *capacity, size_t *size)
{
    ssize_t got = getline(line, capacity, stdin);
    while (got > 0 && memchr("\r\n", (*line)[got - 1], 2)) got--;
    if (got >= 0) (*line)[*size = got] = 0;
    return got >= 0;
}

/* For each line of standard input, `answer` prints one line. */
int each_line(Model *m, Tokenizer *t, void (*answer)(Model *, Tokenizer *, char *, size_t))
{
    char *line = NULL;
    size_t capacity = 0, size;
    while (!ferror(stdout) && read_line(&line, &capacity, &size)) {
        answer(m, t, line, size);
        fflush(stdout);
    }
    free(line), tokenizer_free(t), model_free(m);
    return 0;
}

/* The prompt of a line of --jsonl, {"prompt": text}, {"messages": [...]} or a JSON string, as count
 * tokens; NULL and `error` (of size bytes) if it is not one of these. */
int *line_tokens(Tokenizer *t, const char *line, size_t length, int *count, char *error,
                 size_t size)
{
    Json *row = json_parse(line, length, error, size), *list = json_get(row, "messages");
    Json *prompt = row && row->type == '"' ? row : json_get(row, "prompt");
    int *tokens = NULL;
    if (prompt && prompt->type == '"') tokens = prompt_tokens(t, prompt->text, prompt->size, count);
    else if (list && list->type == '[') tokens = chat_tokens(t, list, count);
    if (row && !tokens)
        snprintf(error, size, "expected {\"prompt\": text}, {\"messages\": [{\"role\", "
                              "\"content\"}, ...]} or text");
    if (row) json_free(row);
    return tokens;
}

/* {"completion": text}, or with several samples {"completions": [text, ...]}. */
void answer_jsonl(Model *m, Tokenizer *t, char *line, size_t size)
{
    char error[256];
    int count, *prompt = line_tokens(t, line, size, &count, error, sizeof error);
    putchar('{');
    if (!prompt) { print_json(stdout, "error", error, "}\n"); return; }
    Sampling s = sampling(opt.stop ? opt.stop : "\nUser:");
    Sample *out = allocate(s.samples, sizeof *out);
    generate(m, t, prompt, count, &s, out, NULL);
    fputs(s.samples > 1 ? "\"completions\":[" : "\"completion\":", stdout);
    for (int i = 0; i < s.samples; i++) {
        if (i) putchar(',');
        json_write_string(stdout, out[i].text.bytes, out[i].text.size);
        free(out[i].text.bytes);
    }
    puts(s.samples > 1 ? "]}" : "}");
    free(out), free(prompt);
}

/* Continue --prompt, or answer each line of standard input (--jsonl). */
int run_generate(void)
{
    Model *m = model_load(opt.model, opt.adapter);
    Tokenizer *t = tokenizer_load(m);
    if (opt.jsonl) return each_line(m, t, answer_jsonl);
    Sampling s = sampling(opt.stop);
    Sample *out = allocate(s.samples, sizeof *out);
    int tokens = 0, count, *prompt = prompt_tokens(t, opt.prompt, strlen(opt.prompt), &count);
    if (s.samples == 1) show_text(stdout, opt.prompt, strlen(opt.prompt));
    double start = seconds();
    generate(m, t, prompt, count, &s, out, stdout);
    for (int i = 0; i < s.samples; i++) {
        if (s.samples > 1) {
            printf("--- %d ---\n", i + 1);
            show_text(stdout, opt.prompt, strlen(opt.prompt));
            show_text(stdout, out[i].text.bytes, out[i].text.size);
            printf("\n");
        }
        tokens += out[i].tokens;
        free(out[i].text.bytes);
    }
    printf("\n");
    finish_output(0);
    fprintf(stderr, "%d tokens, %.1f tok/s\n", tokens, tokens / (seconds() - start));
    free(out), free(prompt), tokenizer_free(t), model_free(m);
    return 0;
}

/* A conversation: a line in, an answer out. When it no longer fits the context, the model sees it
 * without its oldest questions and answers. */
int run_chat(void)
{
    Model *m = model_load(opt.model, opt.adapter);
    Tokenizer *t = tokenizer_load(m);
    Chat chat = {0};
    Sampling s = sampling("\nUser:");
    Sample out;
    char *line = NULL;
    size_t capacity = 0, size;
    int terminal = isatty(0), turn = 0, count;
    s.tokens = min_int(opt.tokens, m->c.T / 4);
    if (terminal) printf("type a message; an empty line starts a new conversation, Ctrl-D ends\n");
    while (!ferror(stdout)) {
        if (terminal) printf("> "), fflush(stdout);
        if (!read_line(&line, &capacity, &size)) break;
        if (size == 0) { chat.from = chat.count; continue; }
        chat_add(&chat, USER, line, size);
        int *prompt = chat_prompt(&chat, t, m->c.T - s.tokens, &count);
        s.key = random_key(sampling(NULL).key, turn++);
        generate(m, t, prompt, count, &s, &out, stdout);
        printf("\n");
        int space = out.text.bytes[0] == ' ';
        chat_add(&chat, ASSISTANT, out.text.bytes + space, out.text.size - space);
        free(out.text.bytes), free(prompt);
    }
    if (terminal) printf("\n");
    chat_free(&chat), free(line), tokenizer_free(t), model_free(m);
    return 0;
}

/* ---- bench: every figure beside what the machine can do. Clocks and neighbours change from second
 * to second, so the limit is measured again right before each trial, and medians are shown. ---- */

int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of x(n), which is sorted. */
double median(double *x, int n)
{
    qsort(x, n, sizeof *x, by_value);
    return x[n / 2];
}

/* Read all of x on all threads, and do nothing with it. */
void read_all(const real *x, size_t count)
{
    enum { PART = 1 << 12 };
    real sum = 0;
#pragma omp parallel for reduction(+ : sum)
    for (size_t i = 0; i < count / PART; i++) sum += dot(x + i * PART, x + i * PART, PART);
    volatile real keep = sum;
    (void)keep;
}

/* Rate at which all threads together read memory, in bytes/s. */
double machine_bandwidth(void)
{
    size_t count = (size_t)1 << 26;
    real *x = allocate_reals(count);
    double best = 0;
    for (size_t i = 0; i < count; i += 512) x[i] = 1;
    for (int trial = 0; trial < 6; trial++) {
        double start = seconds();
        read_all(x, count);
        best = fmax(best, count * sizeof(real) / (seconds() - start));
    }
    free_reals(x);
    return best;
}

/* Time c(M, N) = a(M, K) b(K, N); print GFLOP/s and % of peak. */
void bench_matmul(real *c, View a, View b, int M, int N, int K)
{
    enum { TRIALS = 15 };
    double rate[TRIALS], share[TRIALS];
    for (int i = 0; i < TRIALS; i++) {
        double peak = machine_peak(), start = seconds();
        matmul(assign(c, N), a, b, M, N, K);
        rate[i] = 2.0 * M * N * K / (seconds() - start);
        share[i] = 100 * rate[i] / peak;
    }
    printf("   %6.1f  %3.0f%% ", median(rate, TRIALS) / 1e9, median(share, TRIALS));
    fflush(stdout);
}

/* The three products of a linear layer: forward, and backward to its input and its weight. */
void bench_matmuls(void)
{
    static const int shapes[][3] = {{256, 2304, 768}, {256, 768, 3072}, {256, 3072, 768},
                                    {1024, 3072, 768}, {4096, 3072, 768}, {256, 50257, 768}};
    size_t size = (size_t)50257 * 768;
    real *a = allocate_reals(size), *b = allocate_reals(size), *c = allocate_reals(size);
    for (size_t i = 0; i < size; i++) a[i] = i % 7 - (real)3, b[i] = i % 5 - (real)2;
    printf("\nmatrix multiply, GFLOP/s and %% of peak    y = x w^T       dx = dy w       dw = dy^T "
           "x\n");
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int N = shapes[s][0], OC = shapes[s][1], C = shapes[s][2];
        printf("  N %4d  OC %5d  C %4d            ", N, OC, C);
        bench_matmul(c, view(a, C), transposed(b, C), N, OC, C);
        bench_matmul(c, view(a, OC), view(b, C), N, C, OC);
        bench_matmul(c, transposed(a, OC), view(b, C), OC, C, N);
        printf("\n");
    }
    free_reals(a), free_reals(b), free_reals(c);
}

/* Time training steps of a model with random weights, and print a row of the table. */
void bench_step(Config c, int B, int T)
{
    enum { TRIALS = 7 };
    double time[TRIALS], update[TRIALS], share[TRIALS], peak = machine_peak();
    int trials = B * T > 1024 ? 3 : TRIALS;
    Model *m = model_new(c);
    Batch b = batch_new(B, T);
    model_initialize(m, 1);
    model_prepare(m, TRAINING, B, T, 0);
    for (int n = 0; n < B * T; n++) {
        b.tokens[n] = random_bits(1, n) % c.V, b.targets[n] = random_bits(2, n) % c.V;
        b.loss_weight[n] = (real)1 / (B * T);
    }
    for (int i = -1; i < trials; i++) {                       /* the first one does not count */
        int at = max_int(0, i);
        double start = seconds();
        model_loss(m, &b, (Dropout){0}, 0, 1);
        update[at] = seconds();
        model_update(m, (AdamW){1e-4, 0.9, 0.999, 1e-8, 0.1, 0, 1}, i + 2);
        update[at] = seconds() - update[at];
        time[at] = seconds() - start;
        double before = peak;
        peak = machine_peak();
        share[at] = 100 * step_flops(m, B, T, B * T, 0) / time[at] / ((before + peak) / 2);
    }
    double each = median(time, trials);
    printf("  L %2d  B %d  T %4d            %8.3f %7.0f      %4.0f%%     %5.3f   %.2f GB\n", c.L, B,
           T, each, B * T / each, median(share, trials), median(update, trials),
           training_memory(m, B, T).all / 1e9);
    fflush(stdout);
    batch_free(&b), model_free(m);
}

/* A new token needs every weight once, so the limit of generation is the time of reading them. */
void bench_generation(Config c)
{
    enum { TOKENS = 64 };
    double time[TOKENS], share[TOKENS];
    int token = 1;
    Model *m = model_new_as(c, bf16_products);
    size_t part = bf16_products ? sizeof(real) / sizeof(bfloat16) : 1;      /* numbers in a real */
    size_t blocks = ((size_t)c.Vp + c.T) * c.C;               /* where their weights begin */
    real *logits = allocate_reals(c.Vp), *weights = m->half[0] ? (real *)m->half[0] : m->w.wte;
    model_initialize(m, 1);
    model_prepare(m, INFERENCE, 1, c.T, 0);
    for (int i = 0; i < TOKENS; i++) {
        double start = seconds();
        read_all(weights, (size_t)c.V * c.C / part);
        read_all(weights + blocks / part, (m->count - blocks) / part);
        double limit = seconds() - start;
        start = seconds();
        model_forward(m, &token, NULL, 1, i, 1, (Dropout){0});
        matmul(assign(logits, c.V), view(m->a.ln, c.C), flipped(weight(m, &m->w.wte, 0)), 1, c.V,
               c.C);
        time[i] = seconds() - start, share[i] = 100 * limit / time[i];
    }
    double each = median(time, TOKENS);
    printf("\ngeneration, L 12, C 768, %s: %.1f ms a token, %.1f tok/s, %.0f%% of what reading the "
           "weights once allows\n", opt.precision, 1e3 * each, 1 / each, median(share, TOKENS));
    free_reals(logits), model_free(m);
}

/* Measure products, training steps and generation of GPT-2's sizes, beside the machine's limits. */
int run_bench(void)
{
    static const int depths[] = {12, 6, 24}, lengths[] = {64, 256, 1024};
    Config c = {1024, 50257, 12, 12, 768, 50304};
    printf("machine: %d threads, %d-byte vectors, %.0f GFLOP/s in %s, reads %.1f GB/s\n", threads(),
           VECTOR, machine_peak() / 1e9, opt.precision, machine_bandwidth() / 1e9);
    bench_matmuls();
    printf("\ntraining step, C 768           seconds   tok/s   %% of peak   AdamW   memory\n");
    for (int i = 0; i < (opt.quick ? 1 : 9); i++)
        c.L = depths[i % 3], bench_step(c, 4, lengths[i / 3]);
    c.L = 12;
    bench_generation(c);
    printf("\nmachine after: %.0f GFLOP/s, %.1f GB/s\n", machine_peak() / 1e9,
           machine_bandwidth() / 1e9);
    return 0;
}

/* ---- main ---- */

static const struct { const char *name; char letter; int (*run)(void); } commands[] = {
    {"train", 't', run_train}, {"generate", 'g', run_generate}, {"chat", 'c', run_chat},
    {"bench", 'b', run_bench}, {"eval", 'e', run_eval}, {"compare", 0, NULL},  /* 0: of prepare */
    {"classify", 0, NULL}, {"explain", 0, NULL}, {NULL, 0, NULL}};

/* Run the command of a command line, `train` if it names none; returns the exit status. */
int run_command(int argc, char **argv)
{
    static const char usage[] =
        "./train_gpt [train|generate|chat|eval|compare|classify|explain|bench] --option value ...";
    int named = argc > 1 && argv[1][0] != '-', c = 0, count = argc - 1 - named;
    char **words = argv + 1 + named, *judge = sibling("prepare");
    while (named && commands[c].name && strcmp(argv[1], commands[c].name)) c++;
    if (!commands[c].name) die_usage("unknown command '%s'; %s", argv[1], usage);
    if (!commands[c].letter || (commands[c].letter == 'e' && access(judge, X_OK) == 0))
        return hand_over(commands[c].name, count, words);
    for (int i = 0; commands[c].letter == 't' && i < count; i++)
        if (list_in(words, i)) return hand_over("search", count, words);
    opt.command = command_line(argc, argv);
    if (options_parse(options, commands[c].letter, usage, count, words))
        die_usage("unexpected '%s'; options begin with --", words[0]);
    options_apply();
    free(judge);
    return commands[c].run();
}

/* What `./train_gpt` without a command line does. */
int run_demo(char *program)
{
    char *words[] = {program, "--model", "data/mini.bin", "--tokenizer", "data/mini_tokenizer.bin",
                     "--data", "data/shop", "--context", "256", "--batch", "4", "--epochs", "5",
                     "--lr", "1.2e-3", "--warmup", "40", "--dropout", "0.1", "--attention-dropout",
                     "0.1", "--embedding-dropout", "0.1", "--eval-every", "2000"};
    if (access("data/shop_train.bin", R_OK) != 0)
        die("data/shop_train.bin is missing: run make here, which prepares it");
    puts("A small GPT-2 knows simple English, but nothing about the online shop Fern & Finch.\n"
         "From conversations it learns the shop's 63 rules (doc/shop-rules.md). Three customers\n"
         "whom it does not see in training ask it before and after. Afterwards, out/ holds\n"
         "everything.");
    int status = run_command(sizeof words / sizeof *words, words);
    if (status) return status;
    puts("\nNow the questions in data/shop_heldout.jsonl, none of which is in the training data:");
    char *eval[] = {sibling("prepare"), "eval", "--questions", "data/shop_heldout.jsonl", "--model",
                    "data/mini.bin", "--tuned", "out/best.bin", "--tokenizer",
                    "data/mini_tokenizer.bin", "--out", "out", "--tokens", "64", NULL};
    if (access(eval[0], X_OK) == 0) status = run_program(eval);
    status |= draw_page();
    puts("\nNext:\n"
         "  ./train_gpt chat --model out/best.bin --tokenizer data/mini_tokenizer.bin "
         "--temperature 0\n"
         "  ./train_gpt eval --model out/best.bin --tokenizer data/mini_tokenizer.bin "
         "--questions data/shop_heldout.jsonl --errors\n"
         "  ./train_gpt bench");
    return status;
}

#ifndef NO_MAIN_TRAIN_GPT
int main(int argc, char **argv)
{
    begin_program(argv);
    return finish_output(argc > 1 ? run_command(argc, argv) : run_demo(argv[0]));
}
#endif
