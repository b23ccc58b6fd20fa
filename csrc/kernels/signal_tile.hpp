// The micro-kernel of kernels of one row. A signal is read as an image whose rows begin `pitch`
// pixels apart, and its kernel as one whose rows have as many taps as that is worth: row t of the
// kernel meets row j of y in row j + t of x, so that one vector of x serves all rows of a tile.
#pragma once

#include "kernels/filter_tile.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Tile shapes, in rows and vectors of y: for long kernels, for shorter ones, and for those without
// whole rows, where a weight serves all vectors and each is loaded anew; then what a row's end
// needs.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr TileShape kSignalTiles[kSignalShapes] = {{8, 2}, {4, 2}, {1, 12}, {1, 3}};
#else
constexpr TileShape kSignalTiles[kSignalShapes] = {{4, 2}, {4, 1}, {1, 6}, {1, 2}};
#endif

// Rows of x that meet the last row of the kernel, which has taps in `head` alone.
template <class T, int ROWS, int VECTORS, int FIRST>
[[gnu::always_inline]] inline void signal_tail(Vec<T> (&acc)[ROWS][VECTORS],
                                               const FilterTaps<T>& head,
                                               const FilterTaps<T>& rest) {
    if constexpr (FIRST < ROWS) {
        const Index i = head.kernel_rows - 1 + FIRST;
        filter_row<T, ROWS, VECTORS, FIRST, ROWS>(acc, head, i);
        if constexpr (FIRST + 1 < ROWS) {
            if (rest.kernel_cols) filter_row<T, ROWS, VECTORS, FIRST + 1, ROWS>(acc, rest, i);
        }
        signal_tail<T, ROWS, VECTORS, FIRST + 1>(acc, head, rest);
    }
}

// Adds all taps to the tile at y, or overwrites it: every element is one chain in the order of the
// taps, whatever the tile's shape. `whole` are all columns of the kernel, `head` those that its
// last row has, `rest` the others; it has at least ROWS rows.
template <class T, int ROWS, int VECTORS>
void signal_tile(const FilterTaps<T>& whole, const FilterTaps<T>& head, const FilterTaps<T>& rest,
                 T* y, Index y_pitch, bool accumulate) {
    constexpr int kL = kLanes<T>;
    Vec<T> acc[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 16
        for (int j = 0; j < VECTORS; ++j) {
            acc[i][j] = accumulate ? load(y + i * y_pitch + j * kL) : Vec<T>{};
        }
    }
    filter_head<T, ROWS, VECTORS, 0>(acc, whole);
    for (Index i = ROWS - 1; i < whole.kernel_rows - 1; ++i) {
        filter_row<T, ROWS, VECTORS, 0, ROWS>(acc, whole, i);
    }
    signal_tail<T, ROWS, VECTORS, 0>(acc, head, rest);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 16
        for (int j = 0; j < VECTORS; ++j) store(y + i * y_pitch + j * kL, acc[i][j]);
    }
}

template <class T>
using SignalFunction = void (*)(const FilterTaps<T>&, const FilterTaps<T>&, const FilterTaps<T>&,
                                T*, Index, bool);

// The tile functions, by shape.
template <class T, int SHAPE>
constexpr SignalFunction<T> signal_function() {
    return signal_tile<T, int(kSignalTiles[SHAPE].rows), int(kSignalTiles[SHAPE].cols)>;
}
template <class T>
constexpr SignalFunction<T> kSignalFunctions[kSignalShapes] = {
    signal_function<T, 0>(), signal_function<T, 1>(), signal_function<T, 2>(),
    signal_function<T, 3>()};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
