/* train_gpt.c - GPT-2 from weights to fine-tuned weights: every layer forward and backward, by hand.
 *
 *     make && ./train_gpt                     the demo
 *     cc -O3 -march=native -o train_gpt train_gpt.c -lm          also builds it, on one thread
 *
 * Notation   B batch, T time, C channels, NH heads, HS = C/NH, V vocabulary, L layers, N = B*T rows.
 *            b t c h l v are the loops over them. dx is dloss/dx. Arrays are row-major, so that
 *            x(N, C) keeps one token's C channels together; a weight is (out, in).
 *            Backward functions *add* into gradients of parameters, and write gradients of inputs.
 *
 * Chapters   1 machine   2 matrix multiply   3 layers   4 parameters   5 model   6 optimizer
 *            7 data   8 checkpoints   9 generation   10 evaluation   11 training   12 command line
 *
 * [Vaswani et al. 2017] Attention Is All You Need        [Radford et al. 2019] GPT-2
 * [Ba et al. 2016] Layer Normalization                   [Hendrycks & Gimpel 2016] GELU
 * [Goto & van de Geijn 2008] Anatomy of High-Performance Matrix Multiplication
 * [Dao et al. 2022] FlashAttention                       [Loshchilov & Hutter 2019] AdamW
 * [Srivastava et al. 2014] Dropout                       [Pascanu et al. 2013] gradient clipping
 */
#ifndef TRAIN_GPT_C
#define TRAIN_GPT_C
#define NO_MAIN_TOKENIZER
#include "tokenizer.c"
#include <signal.h>
#include <sys/mman.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* ================================================================================================
 * 1. The machine
 *
 * `real` is float; the tests rebuild everything with double, so that finite differences can prove
 * the gradients to ten digits. Work is split over outputs: a thread owns what it writes, and every
 * sum has one fixed order. So results are the same bits for any number of threads.
 */

#ifdef DOUBLE
typedef double real;
#define REAL_BYTES 8
#else
typedef float real;
#define REAL_BYTES 4
#endif

int threads(void)
{
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

static inline int min_int(int a, int b) { return a < b ? a : b; }
static inline int max_int(int a, int b) { return a > b ? a : b; }

enum { HUGE_PAGE = 1 << 21 };

/* An array that begins on a cache line, all zero. Large ones ask for pages of 2 MB, so that walking
 * down a matrix does not miss the table of addresses at every row. */
real *allocate_reals(size_t count)
{
    size_t bytes;
    void *p;
    if (__builtin_mul_overflow(count + 64, sizeof(real), &bytes) || posix_memalign(&p, bytes < HUGE_PAGE ? 64 : HUGE_PAGE, bytes))
        die("out of memory: %.1f GB are needed; choose a smaller batch, context or model",
            (double)count * sizeof(real) / 1e9);
    #ifdef MADV_HUGEPAGE
    madvise(p, bytes, MADV_HUGEPAGE);
#endif
    return memset(p, 0, bytes);
}

/* A random number is a function of what it is for, not a state that someone advances: hash the key
 * (seed, step, place) with a counter. So a dropout mask can be made again in backward, on any
 * thread, and a resumed run needs to remember nothing. The mixer is a 32-bit finalizer, twice. */
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
/* A new key for the n-th use of a key. */
static inline uint64_t random_key(uint64_t key, uint64_t n)
{
    uint64_t x = key + 0x9e3779b97f4a7c15u * (n + 1);           /* splitmix64 [Steele et al. 2014] */
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

/* e^x. x = n ln2 + r with |r| <= ln2/2, so e^x = 2^n e^r: a Taylor sum for e^r, and n goes straight
 * into the exponent bits. Adding and subtracting 1.5 * 2^(digits) rounds to an integer. There is no
 * branch and no table, so the compiler turns loops over it into vector code. Relative error under
 * 2e-7 (float), 3e-16 * 2 (double); 0 below the smallest normal number; NaN stays NaN. */
static inline float exp_float(float x)
{
    union { float f; int32_t i; } scale;
    float y = x < -87.3f ? -87.3f : x > 88.7f ? 88.7f : x;
    float n = (y * 1.44269504f + 12582912.0f) - 12582912.0f;
    float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1 + r * (1 + r * (0.5f + r * (1.6666667e-1f + r * (4.1666668e-2f +
              r * (8.3333333e-3f + r * 1.3888889e-3f)))));
    scale.i = ((int32_t)n + 127 - 1) << 23;                 /* 2^(n-1): 2^128 would overflow */
    float e = p * scale.f * 2;
    return x < -87.3f ? 0 : x > 88.72283f ? INFINITY : e;
}
static inline double exp_double(double x)
{
    union { double f; int64_t i; } scale;
    double y = x < -708 ? -708 : x > 709.7 ? 709.7 : x;
    double n = (y * 1.4426950408889634 + 0x1.8p52) - 0x1.8p52;
    double r = (y - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1;
    for (int k = 13; k > 0; k--) p = 1 + p * r / k;
    scale.i = ((int64_t)n + 1023 - 1) << 52;
    double e = p * scale.f * 2;
    return x < -708 ? 0 : x > 709.7 ? exp(x) : e;
}
#define exp_real(x) (REAL_BYTES == 4 ? (real)exp_float((float)(x)) : (real)exp_double(x))

/* ================================================================================================
 * 2. Matrix multiply
 *
 * A dot product does 2 flops for 2 loads, and no machine loads as fast as it multiplies. A tile of
 * MR x NR outputs does 2*MR*NR flops for MR + NR loads: so hold the tile in registers, all through
 * the sum over k. That is the microkernel; the rest feeds it. It wants its operands contiguous, so
 * blocks of A and B are copied ("packed") into micropanels first: A's holds MR rows, k by k, B's
 * NR columns. A block of A (MC x KC) stays in the L2 cache while panels of B (KC x NR), packed into
 * the L1 cache, pass by. A View has strides for rows and columns; transposing swaps them, so that
 * the same loop serves all four cases and a transpose vanishes in the packing.
 *                                                                   [Goto & van de Geijn 2008]
 * Rejected: BLAS (a dependency; and its small shapes are slower), intrinsics (one machine only).
 */

/* Vectors as wide as the target's. There are MR*NV accumulators, NV vectors of B, one of A: 28 of
 * 32 registers, 16 of 16. */
#if defined __AVX512F__
#define VECTOR 64
enum { MR = 8 };
#elif defined __AVX__
#define VECTOR 32
enum { MR = 4 };
#elif defined __aarch64__
#define VECTOR 16
enum { MR = 8 };
#else
#define VECTOR 16
enum { MR = 4 };
#endif
#define VL (VECTOR / REAL_BYTES)                              /* numbers in a vector */
enum { NV = 3, NR = NV * VL, KC = 128, MC = 512, NC = 8 * NR };
typedef real vector __attribute__((vector_size(VECTOR)));
typedef real loose_vector __attribute__((vector_size(VECTOR), aligned(REAL_BYTES), may_alias));

typedef struct { const real *p; size_t rs, cs; } View;        /* X(i, j) = p[i*rs + j*cs] */

View view(const real *p, size_t columns) { return (View){p, columns, 1}; }
View transposed(const real *p, size_t columns) { return (View){p, 1, columns}; }

/* To riffle vectors a and b is to interleave them, a0 b0 a1 b1 ...: first the low halves of both,
 * then the high halves. */
#if VL == 16
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VL == 8
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif VL == 4
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#else
#define LOW 0, 2
#define HIGH 1, 3
#endif
#ifdef __clang__
#define RIFFLE(a, b, half) __builtin_shufflevector(a, b, half)
#elif REAL_BYTES == 4
typedef int32_t indices __attribute__((vector_size(VECTOR)));
#define RIFFLE(a, b, half) __builtin_shuffle(a, b, (indices){half})
#else
typedef int64_t indices __attribute__((vector_size(VECTOR)));
#define RIFFLE(a, b, half) __builtin_shuffle(a, b, (indices){half})
#endif

/* Transpose VL vectors like a pack of cards: riffle its two halves, log2(VL) times. */
static inline void transpose(vector v[VL])
{
    for (int round = 1; round < VL; round *= 2) {
        vector w[VL];
        for (int i = 0; i < VL / 2; i++) {
            w[2 * i] = RIFFLE(v[i], v[i + VL / 2], LOW);
            w[2 * i + 1] = RIFFLE(v[i], v[i + VL / 2], HIGH);
        }
        for (int i = 0; i < VL; i++) v[i] = w[i];
    }
}

/* Pack a block of X as panels of `width` rows each, one after the other: within a panel, for each k,
 * the `width` numbers side by side; the last panel is filled up with zeros. Where rows are the
 * contiguous direction of X, eight panels grow together, so that whole cache lines are used, and
 * the lines of a later k are called for ahead of time. Where k is, VL x VL squares are transposed;
 * a vector that sticks out of a panel of width < VL is overwritten by the next k. */
static inline __attribute__((always_inline))
void pack(real *to, View x, int rows, int width, int depth)
{
    int whole = rows / width * width;
    for (int group = 0; x.rs == 1 && group < whole; group += 8 * width)
        for (int k = 0; k < depth; k++)
            for (int i = group; i < min_int(whole, group + 8 * width); i += width) {
                real *panel = to + (size_t)i * depth + k * width;
                const real *from = x.p + i + k * x.cs;
                for (int j = 0; j < width; j += 64 / REAL_BYTES)
                    __builtin_prefetch(from + 12 * x.cs + j);
                for (int j = 0; j < width; j++) panel[j] = from[j];
            }
    for (int i = 0; x.rs != 1 && i < whole; i += width) {
        real *panel = to + (size_t)i * depth;
        const real *from = x.p + i * x.rs;
        int k = 0;
        for (; x.cs == 1 && k + VL <= depth; k += VL)
            for (int j = 0; j < width; j += VL) {
                vector v[VL] = {{0}};
                for (int r = 0; r < VL && j + r < width; r++)
                    v[r] = *(loose_vector *)&from[(j + r) * x.rs + k];
                transpose(v);
                for (int r = 0; r < VL; r++)
                    *(loose_vector *)&panel[(k + r) * width + j] = v[r];
            }
        for (; k < depth; k++)
            for (int j = 0; j < width; j++) panel[k * width + j] = from[j * x.rs + k * x.cs];
    }
    for (int k = 0; whole < rows && k < depth; k++)
        for (int j = 0; j < width; j++)
            to[(size_t)whole * depth + k * width + j] =
                whole + j < rows ? x.p[(whole + j) * x.rs + k * x.cs] : 0;
}

/* c(MR, vectors*VL) = start + sum over k of a(k, MR) outer b(k, vectors*VL), held in registers. Rows
 * of start are start_rs apart: 0 repeats a bias; start = c accumulates; NULL is zero. `vectors` is a
 * constant wherever this is called, so that every loop but the one over k unrolls. */
static inline __attribute__((always_inline))
void microkernel(real *c, size_t ldc, const real *start, size_t start_rs, const real *a,
                 const real *b, int depth, int vectors)
{
    vector sum[MR][NV] = {{{0}}};
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < vectors; j++) __builtin_prefetch(&c[i * ldc + j * VL], 1);
    for (int k = 0; k < depth; k++) {
        vector bk[NV];
        for (int j = 0; j < vectors; j++) bk[j] = *(vector *)&b[(k * vectors + j) * VL];
        for (int i = 0; i < MR; i++)
            for (int j = 0; j < vectors; j++) sum[i][j] += a[k * MR + i] * bk[j];
    }
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < vectors; j++) {
            if (start) sum[i][j] += *(loose_vector *)&start[i * start_rs + j * VL];
            *(loose_vector *)&c[i * ldc + j * VL] = sum[i][j];
        }
}

/* One tile of `rows` x `columns`. A tile that sticks out of C is computed in a corner of its own. */
static void tile(real *c, size_t ldc, const real *start, size_t start_rs, const real *a,
                 const real *b, int depth, int rows, int columns)
{
    real corner[MR * NR] __attribute__((aligned(64)));
    int vectors = (columns + VL - 1) / VL, whole = rows == MR && columns == vectors * VL;
    real *to = whole ? c : corner;
    const real *from = whole ? start : NULL;
    size_t ld = whole ? ldc : NR;
    if (vectors == 3) microkernel(to, ld, from, start_rs, a, b, depth, 3);
    else if (vectors == 2) microkernel(to, ld, from, start_rs, a, b, depth, 2);
    else microkernel(to, ld, from, start_rs, a, b, depth, 1);
    if (whole) return;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            c[i * ldc + j] = corner[i * NR + j] + (start ? start[i * start_rs + j] : 0);
}

/* c(rows, columns) = start + a(rows, depth) b(depth, columns) on the calling thread, with pack
 * buffers of its own: nothing inside calls back, so nested use cannot share them. rows <= MC. */
void matmul_block(real *c, size_t ldc, const real *start, size_t start_rs, View a, View b, int rows,
                  int columns, int depth)
{
    static _Thread_local real *buffer;
    if (!buffer) buffer = allocate_reals(MC * KC + KC * NR + VL);
    real *a_pack = buffer, *b_pack = buffer + MC * KC + VL;
    assert(rows <= MC);
    for (int p = 0; p < depth; p += KC) {
        int kc = min_int(KC, depth - p);
        pack(a_pack, (View){a.p + p * a.cs, a.rs, a.cs}, rows, MR, kc);
        for (int j = 0; j < columns; j += NR) {
            int width = min_int(NR, columns - j);
            View bt = {b.p + p * b.rs + j * b.cs, b.cs, b.rs};
            if (width == NR) pack(b_pack, bt, NR, NR, kc);
            else pack(b_pack, bt, width, (width + VL - 1) / VL * VL, kc);
            for (int i = 0; i < rows; i += MR)
                tile(c + i * ldc + j, ldc, start ? start + i * start_rs + j : NULL, start_rs,
                     a_pack + (size_t)i * kc, b_pack, kc, min_int(MR, rows - i), width);
        }
        start = c, start_rs = ldc;
    }
}

/* c(M, N) = start + a(M, K) b(K, N) on all threads, which take blocks of c in turn. */
void matmul(real *c, size_t ldc, const real *start, size_t start_rs, View a, View b, int M, int N,
            int K)
{
    int blocks = (M + MC - 1) / MC, mc = ((M + blocks - 1) / blocks + MR - 1) / MR * MR;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int i = 0; i < M; i += mc)
        for (int j = 0; j < N; j += NC)
            matmul_block(c + i * ldc + j, ldc, start ? start + i * start_rs + j : NULL, start_rs,
                         (View){a.p + i * a.rs, a.rs, a.cs}, (View){b.p + j * b.cs, b.rs, b.cs},
                         min_int(mc, M - i), min_int(NC, N - j), K);
}

#endif /* TRAIN_GPT_C */
