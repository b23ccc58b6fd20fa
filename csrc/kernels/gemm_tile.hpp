// The micro-kernel: a tile of y in registers, one rank-1 update per step of the reduction.
#pragma once

#include "kernels/vec.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Depth steps per pass over y, and the row pitch of the packed A panel. The pitch is a constant so
// that every row is a fixed displacement from one pointer, and no multiple of 4 KiB so that the
// rows do not fall into the same cache sets.
template <class T>
constexpr int kMaxDepthBlock = 1024 / int(sizeof(T));
template <class T>
constexpr int kPanelPitch = kMaxDepthBlock<T> + 64 / int(sizeof(T));

// Adds A[ROWS, depth] * B[depth, VECTORS * lanes] to c (or overwrites it): every element of the
// tile is one chain of multiply-adds in the order of depth, whatever ROWS and VECTORS are, which
// is what makes results independent of where tiles begin.
template <class T, int ROWS, int VECTORS, int PANEL>
void gemm_tile(Index depth, const T* a, const T* b, T* c, Index c_pitch, bool accumulate) {
    constexpr int kL = kLanes<T>;
    static_assert(VECTORS * kL <= PANEL, "a tile is no wider than the packed panel");
    Vec<T> acc[ROWS][VECTORS];
    if (accumulate) {
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) acc[i][j] = load(c + i * c_pitch + j * kL);
    } else {
        // y is fetched while the tile is computed: the stores at the end would wait for memory
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) {
                __builtin_prefetch(c + i * c_pitch + j * kL, 1);
                acc[i][j] = Vec<T>{};
            }
    }
#pragma GCC unroll 2
    for (Index d = 0; d < depth; ++d) {
        Vec<T> col[VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) col[j] = load(b + j * kL);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i) {
            const Vec<T> row = splat(a[i * kPanelPitch<T>]);
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) acc[i][j] += row * col[j];
        }
        a += 1;
        b += PANEL;
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) store(c + i * c_pitch + j * kL, acc[i][j]);
}

template <class T>
using TileFunction = void (*)(Index, const T*, const T*, T*, Index, bool);

// Tile shapes of this instruction set: registers hold ROWS * VECTORS accumulators, VECTORS columns
// and one broadcast row.
#if defined(__AVX512F__)
constexpr int kRows = 14, kVectors = 2;
static_assert(kRows * kVectors + kVectors + 1 <= 32, "32 registers of 64 bytes");
#elif defined(__aarch64__)
constexpr int kRows = 7, kVectors = 3;  // GCC spills at 6 x 4
static_assert(kRows * kVectors + kVectors + 1 <= 32, "32 registers of 16 bytes");
#elif defined(__AVX2__)
constexpr int kRows = 6, kVectors = 2;
static_assert(kRows * kVectors + kVectors + 1 <= 16, "16 registers of 32 bytes");
#else
constexpr int kRows = 5, kVectors = 2;
static_assert(kRows * kVectors + kVectors + 2 <= 16, "16 registers, one for the product");
#endif

template <class T>
constexpr int kCols = kVectors * kLanes<T>;

// The tile functions, by number of vectors and rows (both counted from one).
template <class T>
struct TileTable {
    TileFunction<T> by_shape[kVectors][kRows];

    template <int V, int R>
    constexpr void fill() {
        by_shape[V - 1][R - 1] = gemm_tile<T, R, V, kCols<T>>;
        if constexpr (R > 1) {
            fill<V, R - 1>();
        } else if constexpr (V > 1) {
            fill<V - 1, kRows>();
        }
    }
    constexpr TileTable() : by_shape{} { fill<kVectors, kRows>(); }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
