// The micro-kernel of operands of 8 and 16 bits: a tile of y in registers, rows of output channels
// times lanes of pixels. x is read where it lies in the strip, at a distance of its own for every
// step of the reduction.
#pragma once

#include "kernels/narrow.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class W>
struct StripTile {
    Index steps;
    const W* w;                   // [steps][rows]
    const char* x;                // the first lane's word
    const std::int32_t* offsets;  // bytes from x, for every step
    W* y;
    Index pitch;
    bool accumulate;  // y is added to
    // Integers alone:
    const W* start;  // of every row
    const W* sums;   // added to every lane, or null
    bool clamp;      // to [low, high] at the end
    W low, high;
};

// What the sums of row `row` begin with, or go on from.
inline Vec<float> begin_sums(const StripTile<float>& tile, const float* y, int, int) {
    return tile.accumulate ? load(y) : Vec<float>{};
}
inline Words begin_sums(const StripTile<std::int32_t>& tile, const std::int32_t* y, int row,
                        int lane) {
    Words sums = splat(tile.start[row]);
    if (tile.sums) sums = plus(sums, load(tile.sums + lane));
    return tile.accumulate ? plus(sums, load(y)) : sums;
}

inline Vec<float> end_sums(const StripTile<float>&, Vec<float> sums) {
    return sums;
}
inline Words end_sums(const StripTile<std::int32_t>& tile, Words sums) {
    if (!tile.clamp) return sums;
    const Words low = splat(tile.low), high = splat(tile.high);
    sums = sums < low ? low : sums;
    return sums > high ? high : sums;
}

// Every element is one chain of multiply-adds in the order of the steps, wherever tiles begin.
template <class W, int MEMBERS, int ROWS, int VECTORS>
void strip_tile(const StripTile<W>& tile) {
    constexpr int kL = kLanes<W>;
    Vec<W> acc[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) {
            W* y = tile.y + i * tile.pitch + j * kL;
            __builtin_prefetch(y, 1);
            acc[i][j] = begin_sums(tile, y, i, j * kL);
        }
    const W* w = tile.w;
    const std::int32_t* offset = tile.offsets;
    for (const std::int32_t* end = offset + tile.steps; offset < end; ++offset) {
        const auto* x = reinterpret_cast<const W*>(tile.x + *offset);
        Vec<W> col[VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) col[j] = load(x + j * kL);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i) {
            const Vec<W> row = splat(w[i]);
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) acc[i][j] = dot<MEMBERS>(acc[i][j], col[j], row);
        }
        w += ROWS;
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) {
            store(tile.y + i * tile.pitch + j * kL, end_sums(tile, acc[i][j]));
        }
}

template <class W>
using StripTileFunction = void (*)(const StripTile<W>&);

// Tile shapes: wide tiles where there are few rows, because a row's word is loaded once a tile.
#if defined(__AVX512F__)
constexpr int kStripRows = 14, kStripFewRows = 6;
#elif defined(__aarch64__)
constexpr int kStripRows = 8, kStripFewRows = 4;
#else
constexpr int kStripRows = 6, kStripFewRows = 2;
#endif
constexpr int kStripVectors = 2, kStripManyVectors = 4;
constexpr int kStripTileVectors = kStripRows * kStripVectors > kStripFewRows* kStripManyVectors
                                      ? kStripRows * kStripVectors
                                      : kStripFewRows * kStripManyVectors;

inline int tile_vectors(Index rows) {
    return rows <= kStripFewRows ? kStripManyVectors : kStripVectors;
}

// The tile functions, by number of vectors and rows (both counted from one).
template <class W, int MEMBERS>
struct StripTileTable {
    StripTileFunction<W> by_shape[kStripManyVectors][kStripRows];

    template <int V, int R>
    constexpr void fill() {
        by_shape[V - 1][R - 1] = strip_tile<W, MEMBERS, R, V>;
        if constexpr (R > 1) {
            fill<V, R - 1>();
        } else if constexpr (V > 1) {
            fill<V - 1, (V - 1 > kStripVectors ? kStripFewRows : kStripRows)>();
        }
    }
    constexpr StripTileTable() : by_shape{} { fill<kStripManyVectors, kStripFewRows>(); }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
