// The micro-kernel of image filters: a tile of several rows of y times several vectors of pixels in
// registers. A vector of x is loaded once for each tap column and serves every row it belongs to.
#pragma once

#include "kernels/kernels.hpp"
#include "kernels/vec.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Tile shapes: registers hold ROWS * VECTORS accumulators, VECTORS pixels and one weight.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kFilterRows = 8, kFilterVectors = 3;
static_assert(kFilterRows * kFilterVectors + kFilterVectors + 1 <= 32, "32 registers");
#elif defined(__AVX2__)
constexpr int kFilterRows = 6, kFilterVectors = 2;
static_assert(kFilterRows * kFilterVectors + kFilterVectors + 1 <= 16, "16 registers");
#else
constexpr int kFilterRows = 5, kFilterVectors = 2;
static_assert(kFilterRows * kFilterVectors + kFilterVectors + 2 <= 16, "one for the product");
#endif
// Kernels of this many rows, fewer than a tile has, are unrolled whole.
constexpr int kSmallKernel = int(kSmallFilterRows);

// What a tile reads. Tap (r, s) of row j of the tile reads rows[j + r] at column + offsets[s].
template <class T>
struct FilterTaps {
    const T* const* rows;
    Index column;
    const Index* offsets;
    const T* w;  // tap (r, s) at [s * w_pitch + r]: taps of one column are constants apart
    Index w_pitch;
    Index kernel_rows, kernel_cols;
};

// Row `i` of x, all its taps: it meets rows [FIRST, LAST) of the tile.
template <class T, int ROWS, int VECTORS, int FIRST, int LAST>
[[gnu::always_inline]] inline void filter_row(Vec<T> (&acc)[ROWS][VECTORS],
                                              const FilterTaps<T>& taps, Index i) {
    const T* x = taps.rows[i] + taps.column;
    const T* w = taps.w + i;
    const Index* offset = taps.offsets;
    const Index* const end = offset + taps.kernel_cols;
    do {
        const T* from = x + *offset;
        Vec<T> pixels[VECTORS];
#pragma GCC unroll 16
        for (int j = 0; j < VECTORS; ++j) pixels[j] = load(from + j * kLanes<T>);
#pragma GCC unroll 8
        for (int row = FIRST; row < LAST; ++row) {
            const Vec<T> weight = splat(w[-row]);
#pragma GCC unroll 16
            for (int j = 0; j < VECTORS; ++j) acc[row][j] += weight * pixels[j];
        }
        w += taps.w_pitch;
    } while (++offset != end);
}

// Rows of x above those that meet all rows of the tile.
template <class T, int ROWS, int VECTORS, int I>
[[gnu::always_inline]] inline void filter_head(Vec<T> (&acc)[ROWS][VECTORS],
                                               const FilterTaps<T>& taps) {
    if constexpr (I < ROWS - 1) {
        filter_row<T, ROWS, VECTORS, 0, I + 1>(acc, taps, I);
        filter_head<T, ROWS, VECTORS, I + 1>(acc, taps);
    }
}

// Rows of x below them.
template <class T, int ROWS, int VECTORS, int FIRST>
[[gnu::always_inline]] inline void filter_tail(Vec<T> (&acc)[ROWS][VECTORS],
                                               const FilterTaps<T>& taps) {
    if constexpr (FIRST < ROWS) {
        filter_row<T, ROWS, VECTORS, FIRST, ROWS>(acc, taps, taps.kernel_rows + FIRST - 1);
        filter_tail<T, ROWS, VECTORS, FIRST + 1>(acc, taps);
    }
}

// All rows of x for a kernel of R rows, fewer than the tile has.
template <class T, int ROWS, int VECTORS, int R, int I>
[[gnu::always_inline]] inline void filter_small(Vec<T> (&acc)[ROWS][VECTORS],
                                                const FilterTaps<T>& taps) {
    if constexpr (I < ROWS + R - 1) {
        constexpr int first = I < R ? 0 : I - R + 1, last = I < ROWS ? I + 1 : ROWS;
        filter_row<T, ROWS, VECTORS, first, last>(acc, taps, I);
        filter_small<T, ROWS, VECTORS, R, I + 1>(acc, taps);
    }
}

// Adds all taps to the tile at y, or overwrites it: every element is one chain of multiply-adds in
// the order (r, s), whatever the tile's shape. R is kSmallKernel, or 0 for any number of kernel
// rows that is at least ROWS.
template <class T, int ROWS, int VECTORS, int R>
void filter_tile(const FilterTaps<T>& taps, T* y, Index y_pitch, bool accumulate) {
    constexpr int kL = kLanes<T>;
    Vec<T> acc[ROWS][VECTORS];
    if (accumulate) {
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) acc[i][j] = load(y + i * y_pitch + j * kL);
    } else {
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) acc[i][j] = Vec<T>{};
    }
    if constexpr (R != 0) {
        filter_small<T, ROWS, VECTORS, R, 0>(acc, taps);
    } else {
        filter_head<T, ROWS, VECTORS, 0>(acc, taps);
        for (Index i = ROWS - 1; i < taps.kernel_rows; ++i) {
            filter_row<T, ROWS, VECTORS, 0, ROWS>(acc, taps, i);
        }
        filter_tail<T, ROWS, VECTORS, 1>(acc, taps);
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) store(y + i * y_pitch + j * kL, acc[i][j]);
}

template <class T>
using FilterFunction = void (*)(const FilterTaps<T>&, T*, Index, bool);

// The tile functions, by number of vectors and rows (both counted from one).
template <class T>
struct FilterTable {
    FilterFunction<T> any[kFilterVectors][kFilterRows];
    FilterFunction<T> small[kFilterVectors][kFilterRows];

    template <int V, int ROWS>
    constexpr void fill() {
        any[V - 1][ROWS - 1] = filter_tile<T, ROWS, V, 0>;
        if constexpr (ROWS > kSmallKernel) {
            small[V - 1][ROWS - 1] = filter_tile<T, ROWS, V, kSmallKernel>;
        } else {
            small[V - 1][ROWS - 1] = any[V - 1][ROWS - 1];
        }
        if constexpr (ROWS > 1) {
            fill<V, ROWS - 1>();
        } else if constexpr (V > 1) {
            fill<V - 1, kFilterRows>();
        }
    }
    constexpr FilterTable() : any{}, small{} { fill<kFilterVectors, kFilterRows>(); }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
