// Implicit GEMM on the ordinary floating-point units, float or double.
//
// Per group, y[m, k] = sum over e of X[m, e] * W[e, k]: m counts output pixels (n, p, q), e the
// terms (c, r, s) of one sum. X is never stored: loading a tile of it gathers the pixels, border
// included. One block computes BM pixels times BN channels; a thread keeps TM x TN sums in
// registers; tiles of BK terms go through two alternating buffers of shared memory.
//
// Each sum is added up by one thread, term by term in the order of e, with explicit fused
// multiply-adds: the bits depend neither on the tile size nor on the batch.
//
// -D OPERAND_T                float or double
// -D BM, BN, BK, TM, TN       tile
// -D RESIDENT                 blocks that fit a multiprocessor at once
// -D CHANNELS_LAST            order of e: (r, s, c) and x is read along c; else (c, r, s), along q
// -D WIDE                     offsets need 64 bits
// -D PAD_MODE, ACTIVATION     codes of borders.cuh and activations.cuh
#include "activations.cuh"
#include "borders.cuh"
#include "parameters.cuh"

using T = OPERAND_T;
#if WIDE
using Index = i64;
#else
using Index = i32;
#endif

constexpr int THREADS = (BM / TM) * (BN / TN);
constexpr int VECTOR = 16 / sizeof(T);  // items of one shared-memory access
// One vector of padding a row: stores of consecutive terms fall into different banks.
constexpr int X_ROW = BM + VECTOR;
constexpr int W_ROW = BN + VECTOR;
constexpr int X_ITEMS = BM * BK / THREADS;  // items a thread loads per tile
constexpr int W_ITEMS = BN * BK / THREADS;
constexpr int LANES_M = 8, LANES_N = 4;  // a warp's threads, over pixels and channels

static_assert(TM % VECTOR == 0 && TN % VECTOR == 0, "a thread reads whole vectors");
static_assert(BM % (TM * LANES_M) == 0 && BN % (TN * LANES_N) == 0, "warps tile the block");
static_assert(THREADS % BM == 0, "along q, a thread loads one pixel of each tile");
static_assert(THREADS % BK == 0 && BM * BK % THREADS == 0 && BN * BK % THREADS == 0,
              "every thread loads the same number of items");

// One term of the sum: where it lies in x and w.
struct Term {
    Index x, w;       // offsets of its channel in x, of its weight in w
    int down, right;  // from the window's corner, pixels
    bool exists;
};

// One output pixel: where its window starts.
struct Window {
    Index image;  // offset of the image in x
    int top, left;
};

DEVICE Term term_at(const ConvParameters& conv, int e) {
    const int middle = divide(e, conv.inner);
    const int fastest = e - middle * conv.inner.divisor;
    const int slowest = divide(middle, conv.outer);
    const int second = middle - slowest * conv.outer.divisor;
#if CHANNELS_LAST
    const int r = slowest, s = second, c = fastest;
#else
    const int c = slowest, r = second, s = fastest;
#endif
    Term term;
    term.x = c * static_cast<Index>(conv.x_stride_c);
    term.w = c * static_cast<Index>(conv.w_stride_c) + r * static_cast<Index>(conv.w_stride_r) +
             s * static_cast<Index>(conv.w_stride_s);
    term.down = r * static_cast<int>(conv.dilation_h);
    term.right = s * static_cast<int>(conv.dilation_w);
    term.exists = slowest < static_cast<int>(CHANNELS_LAST ? conv.r : conv.c);
    return term;
}

struct Pixel {
    int n, p, q;
};

DEVICE Pixel pixel_at(const ConvParameters& conv, Index m) {
    const Index row = m / static_cast<Index>(conv.q);
    const int n = static_cast<int>(row / static_cast<Index>(conv.p));
    const int q = static_cast<int>(m - row * static_cast<Index>(conv.q));
    return {n, static_cast<int>(row - n * static_cast<Index>(conv.p)), q};
}

DEVICE Window window_at(const ConvParameters& conv, Index m) {
    const Pixel at = pixel_at(conv, m);
    return {at.n * static_cast<Index>(conv.x_stride_n),
            at.p * static_cast<int>(conv.stride_h) - static_cast<int>(conv.pad_top),
            at.q * static_cast<int>(conv.stride_w) - static_cast<int>(conv.pad_left)};
}

DEVICE T load_pixel(const ConvParameters& conv, const T* x, const Window& window,
                    const Term& term) {
    constexpr PadMode MODE = static_cast<PadMode>(PAD_MODE);
    const int h = source_index<MODE>(window.top + term.down, static_cast<int>(conv.h));
    const int w = source_index<MODE>(window.left + term.right, static_cast<int>(conv.w));
    if (!term.exists || h < 0 || w < 0) {
        return 0;  // multiplied like any pixel: 0 * inf is NaN at the border as well
    }
    return load_global(x + (window.image + term.x + h * static_cast<Index>(conv.x_stride_h) +
                            w * static_cast<Index>(conv.x_stride_w)));
}

// Position in the tile of the i-th of a thread's SUMS rows (or columns): whole vectors, spread
// over the tile so that the threads of a warp read consecutive ones.
template <int SUMS, int TILE>
DEVICE int position(int thread, int i) {
    return (i / VECTOR) * (TILE / (SUMS / VECTOR)) + thread * VECTOR + i % VECTOR;
}

template <int SUMS, int TILE, int SIZE>
DEVICE void load_fragment(T (&fragment)[SUMS], SharedArray<T, SIZE>& tile, int row, int thread) {
#pragma unroll
    for (int v = 0; v < SUMS; v += VECTOR) {
        T items[VECTOR];
        load_vector(items, tile, row + position<SUMS, TILE>(thread, v));
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) {
            fragment[v + i] = items[i];
        }
    }
}

KERNEL(THREADS, RESIDENT) igemm_simt(const ConvParameters conv) {
    SHARED_ARRAY(T, 2 * BK * X_ROW, x_tile);
    SHARED_ARRAY(T, 2 * BK * W_ROW, w_tile);

    const int thread = thread_index();
    const Index pixels =
        static_cast<Index>(conv.n) * static_cast<Index>(conv.p) * static_cast<Index>(conv.q);
    const int channels = static_cast<int>(conv.k);
    // Blocks that run together share pixels: channels vary fastest.
    const int tiles_n = (channels + BN - 1) / BN;
    const int tiles_m = static_cast<int>((pixels + BM - 1) / BM);
    const int block = block_index();
    const int first_channel = block % tiles_n * BN;
    const Index first_pixel = static_cast<Index>(block / tiles_n % tiles_m) * BM;
    const i64 group = block / tiles_n / tiles_m;
    const T* x = static_cast<const T*>(conv.x_data) + group * conv.c * conv.x_stride_c;
    const T* w = static_cast<const T*>(conv.w_data) + group * conv.k * conv.w_stride_k;

    // What this thread loads. Beyond the last pixel it repeats the last one, whose extra sums are
    // never stored.
#if CHANNELS_LAST
    constexpr int WINDOWS = X_ITEMS;
#else
    constexpr int WINDOWS = 1;
#endif
    Window windows[WINDOWS];
#pragma unroll
    for (int i = 0; i < WINDOWS; ++i) {
        const int row = CHANNELS_LAST ? thread / BK + i * (THREADS / BK) : thread % BM;
        const Index m = first_pixel + row;
        windows[i] = window_at(conv, m < pixels ? m : pixels - 1);
    }
    const int w_column = thread / BK;
    w += (first_channel + w_column) * conv.w_stride_k;

    T x_items[X_ITEMS], w_items[W_ITEMS];
    auto fetch = [&](int e0) {
        const Term term = term_at(conv, e0 + thread % BK);
#pragma unroll
        for (int i = 0; i < W_ITEMS; ++i) {
            const int column = i * (THREADS / BK);
            const bool exists = term.exists && first_channel + w_column + column < channels;
            const Index offset = column * static_cast<Index>(conv.w_stride_k) + term.w;
            w_items[i] = exists ? load_global(w + offset) : T(0);
        }
#pragma unroll
        for (int i = 0; i < X_ITEMS; ++i) {
#if CHANNELS_LAST
            x_items[i] = load_pixel(conv, x, windows[i], term);
#else
            const int e = e0 + thread / BM + i * (THREADS / BM);
            x_items[i] = load_pixel(conv, x, windows[0], term_at(conv, e));
#endif
        }
    };
    auto put = [&](int buffer) {
#pragma unroll
        for (int i = 0; i < W_ITEMS; ++i) {
            const int column = w_column + i * (THREADS / BK);
            w_tile[(buffer * BK + thread % BK) * W_ROW + column] = w_items[i];
        }
#pragma unroll
        for (int i = 0; i < X_ITEMS; ++i) {
#if CHANNELS_LAST
            const int row = thread / BK + i * (THREADS / BK), e = thread % BK;
#else
            const int row = thread % BM, e = thread / BM + i * (THREADS / BM);
#endif
            x_tile[(buffer * BK + e) * X_ROW + row] = x_items[i];
        }
    };

    const int lane = thread % 32, warp = thread / 32;
    constexpr int WARPS_N = BN / (TN * LANES_N);
    const int thread_m = warp / WARPS_N * LANES_M + lane / LANES_N;
    const int thread_n = warp % WARPS_N * LANES_N + lane % LANES_N;

    T sums[TM][TN];
#pragma unroll
    for (int i = 0; i < TM; ++i) {
#pragma unroll
        for (int j = 0; j < TN; ++j) {
            sums[i][j] = 0;
        }
    }

    const int terms = static_cast<int>(conv.c * conv.r * conv.s);
    const int steps = (terms + BK - 1) / BK;
    fetch(0);
    put(0);
    BARRIER();
    for (int step = 0; step < steps; ++step) {
        const int buffer = step % 2;
        const bool more = step + 1 < steps;
        if (more) {
            fetch((step + 1) * BK);
        }
#pragma unroll
        for (int e = 0; e < BK; ++e) {
            T x_fragment[TM], w_fragment[TN];
            load_fragment<TM, BM>(x_fragment, x_tile, (buffer * BK + e) * X_ROW, thread_m);
            load_fragment<TN, BN>(w_fragment, w_tile, (buffer * BK + e) * W_ROW, thread_n);
#pragma unroll
            for (int i = 0; i < TM; ++i) {
#pragma unroll
                for (int j = 0; j < TN; ++j) {
                    sums[i][j] = multiply_add(x_fragment[i], w_fragment[j], sums[i][j]);
                }
            }
        }
        if (more) {
            // The other buffer was last read before the previous barrier.
            put(1 - buffer);
            BARRIER();
        }
    }

    const T* bias = static_cast<const T*>(conv.bias_data) + group * conv.k;
    T* y = static_cast<T*>(conv.y_data) + group * conv.k * conv.y_stride_k;
    T offsets[TN];
#pragma unroll
    for (int j = 0; j < TN; ++j) {
        const int k = first_channel + position<TN, BN>(thread_n, j);
        offsets[j] = conv.bias_data != nullptr && k < channels ? load_global(bias + k) : T(0);
    }
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const Index m = first_pixel + position<TM, BM>(thread_m, i);
        if (m < pixels) {
            const Pixel at = pixel_at(conv, m);
            const Index pixel = at.n * static_cast<Index>(conv.y_stride_n) +
                                at.p * static_cast<Index>(conv.y_stride_p) +
                                at.q * static_cast<Index>(conv.y_stride_q);
#pragma unroll
            for (int j = 0; j < TN; ++j) {
                const int k = first_channel + position<TN, BN>(thread_n, j);
                if (k < channels) {
                    const T sum = sums[i][j] + offsets[j];
                    store_global(y + (pixel + k * static_cast<Index>(conv.y_stride_k)),
                                 activate<static_cast<Activation>(ACTIVATION)>(sum));
                }
            }
        }
    }
}
