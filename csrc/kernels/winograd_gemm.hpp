// The matrix product of the Winograd algorithm: M[tiles, K] = V[tiles, C] * U[C, K], once for each
// of the tile's positions, on operands of a few rows that are packed by the transforms.
#pragma once

#include "kernels/gemm_tile.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// v holds blocks of one vector of channels, [block][ROWS][lanes]; u is [depth][VECTORS * lanes],
// m [ROWS][VECTORS * lanes]. Every element is one chain of multiply-adds in the order of depth,
// which continues m's where `accumulate`.
template <class T, int ROWS, int VECTORS>
void winograd_gemm(Index depth, const T* v, const T* u, T* m, bool accumulate) {
    constexpr int kL = kLanes<T>, kCols = VECTORS * kL;
    Vec<T> acc[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) {
            acc[i][j] = accumulate ? load(m + i * kCols + j * kL) : Vec<T>{};
        }
    const auto step = [&](const T* row_values) {
        Vec<T> col[VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) col[j] = load(u + j * kL);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i) {
            const Vec<T> row = splat(row_values[i * kL]);
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) acc[i][j] += row * col[j];
        }
        u += kCols;
    };
    for (; depth >= kL; depth -= kL, v += ROWS * kL) {
#pragma GCC unroll 2
        for (int d = 0; d < kL; ++d) step(v + d);
    }
    for (Index d = 0; d < depth; ++d) step(v + d);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) store(m + i * kCols + j * kL, acc[i][j]);
}

template <class T>
struct WinogradGemmTable {
    using Function = void (*)(Index, const T*, const T*, T*, bool);
    Function by_shape[kVectors][kRows];

    template <int V, int R>
    constexpr void fill() {
        by_shape[V - 1][R - 1] = winograd_gemm<T, R, V>;
        if constexpr (R > 1) {
            fill<V, R - 1>();
        } else if constexpr (V > 1) {
            fill<V - 1, kRows>();
        }
    }
    constexpr WinogradGemmTable() : by_shape{} { fill<kVectors, kRows>(); }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
