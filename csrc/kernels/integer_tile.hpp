// The integer micro-kernel: a tile of y in registers, rows of output channels times lanes of
// pixels. x is read where it lies in the strip, at a distance of its own for every step.
#pragma once

#include "kernels/integer_dot.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

struct IntegerTile {
    Index steps;
    const std::uint32_t* w;       // [steps][rows]
    const char* x;                // the first lane's word
    const std::int32_t* offsets;  // bytes from x, for every step
    const std::int32_t* start;    // of every row
    const std::int32_t* sums;     // added to every lane, or null
    std::int32_t* y;
    Index pitch;
    bool accumulate;  // y is added to
    bool clamp;       // to [low, high] at the end
    std::int32_t low, high;
};

// Wraps around, which signed arithmetic may not.
inline Words add(Words a, Words b) {
    typedef std::uint32_t Unsigned __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
    return (Words)((Unsigned)a + (Unsigned)b);
}

template <int MEMBERS, int ROWS, int VECTORS>
void integer_tile(const IntegerTile& tile) {
    constexpr int kL = kLanes<std::int32_t>;
    Words acc[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) {
            std::int32_t* y = tile.y + i * tile.pitch + j * kL;
            __builtin_prefetch(y, 1);
            acc[i][j] = splat(tile.start[i]);
            if (tile.sums) acc[i][j] = add(acc[i][j], load(tile.sums + j * kL));
            if (tile.accumulate) acc[i][j] = add(acc[i][j], load(y));
        }
    const std::uint32_t* w = tile.w;
    const std::int32_t* offset = tile.offsets;
    for (const std::int32_t* end = offset + tile.steps; offset < end; ++offset) {
        const auto* x = reinterpret_cast<const std::int32_t*>(tile.x + *offset);
        Words col[VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) col[j] = load(x + j * kL);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i) {
            const Words row = splat(std::int32_t(w[i]));
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) acc[i][j] = dot<MEMBERS>(acc[i][j], col[j], row);
        }
        w += ROWS;
    }
    if (tile.clamp) {
        const Words low = splat(tile.low), high = splat(tile.high);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) {
                acc[i][j] = acc[i][j] < low ? low : acc[i][j];
                acc[i][j] = acc[i][j] > high ? high : acc[i][j];
            }
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) store(tile.y + i * tile.pitch + j * kL, acc[i][j]);
}

using IntegerTileFunction = void (*)(const IntegerTile&);

// Tile shapes: wide tiles where there are few rows, because a row's word is loaded once a tile.
#if defined(__AVX512F__)
constexpr int kIntegerRows = 14, kIntegerFewRows = 6;
#elif defined(__aarch64__)
constexpr int kIntegerRows = 8, kIntegerFewRows = 4;
#else
constexpr int kIntegerRows = 6, kIntegerFewRows = 2;
#endif
constexpr int kIntegerVectors = 2, kIntegerManyVectors = 4;

inline int tile_vectors(int rows) {
    return rows <= kIntegerFewRows ? kIntegerManyVectors : kIntegerVectors;
}

// The tile functions, by number of vectors and rows (both counted from one).
template <int MEMBERS>
struct IntegerTileTable {
    IntegerTileFunction by_shape[kIntegerManyVectors][kIntegerRows];

    template <int V, int R>
    constexpr void fill() {
        by_shape[V - 1][R - 1] = integer_tile<MEMBERS, R, V>;
        if constexpr (R > 1) {
            fill<V, R - 1>();
        } else if constexpr (V > 1) {
            fill<V - 1, (V - 1 > kIntegerVectors ? kIntegerFewRows : kIntegerRows)>();
        }
    }
    constexpr IntegerTileTable() : by_shape{} { fill<kIntegerManyVectors, kIntegerFewRows>(); }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
