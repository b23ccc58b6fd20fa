// The micro-kernels of operands of 8 and 16 bits: a tile of y in registers, rows of output channels
// times lanes of pixels, or the other way round. x is read where it lies in the strip, at a
// distance of its own for every step of the reduction.
#pragma once

#include "kernels/gemm_tile.hpp"
#include "kernels/narrow.hpp"
#include "kernels/strip_kernels.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class W, class S>
struct StripTile {
    Index steps;
    const W* w;                   // [steps][rows], or [steps][lanes]
    const char* x;                // the first pixel's word
    const std::int32_t* offsets;  // bytes from x, for every step and kStepsAhead more
    S* y;
    Index pitch;
    bool accumulate;         // y is added to
    Index x_pitch, w_pitch;  // where lanes are channels: words from pixel to pixel, step to step
    // Integers alone:
    const S* start;  // of every output channel
    const S* sums;   // added to every pixel's, or null
    bool clamp;      // to [low, high] at the end
    S low, high;
};

// Sums of nothing, or what is added to y.
template <bool CHANNEL_LANES, class W, class S, int ROWS, int VECTORS>
inline void begin_tile(const StripTile<W, S>& tile, Vec<S> (&acc)[ROWS][VECTORS]) {
    constexpr int kL = kLanes<S>;
    constexpr bool kIntegers = kSame<S, std::int32_t>;
    S* const y = tile.y;
    const Index pitch = tile.pitch;
    // y is fetched while the tile is computed: the stores at the end would wait for memory
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) {
            __builtin_prefetch(y + i * pitch + j * kL, 1);
            acc[i][j] = Vec<S>{};
            if constexpr (kIntegers) {
                acc[i][j] = CHANNEL_LANES ? load(tile.start + j * kL) : splat(tile.start[i]);
            }
        }
    if constexpr (kIntegers) {
        if (const S* sums = tile.sums) {
#pragma GCC unroll 16
            for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
                for (int j = 0; j < VECTORS; ++j) {
                    acc[i][j] =
                        plus(acc[i][j], CHANNEL_LANES ? splat(sums[i]) : load(sums + j * kL));
                }
        }
    }
    if (!tile.accumulate) return;
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) {
            const Vec<S> before = load(y + i * pitch + j * kL);
            acc[i][j] = kIntegers ? plus(acc[i][j], before) : before;
        }
}

template <class W, class S, int ROWS, int VECTORS>
inline void end_tile(const StripTile<W, S>& tile, Vec<S> (&acc)[ROWS][VECTORS]) {
    constexpr int kL = kLanes<S>;
    S* const y = tile.y;
    const Index pitch = tile.pitch;
    if constexpr (kSame<S, std::int32_t>) {
        if (tile.clamp) {
            const Vec<S> low = splat(tile.low), high = splat(tile.high);
#pragma GCC unroll 16
            for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
                for (int j = 0; j < VECTORS; ++j) {
                    const Vec<S> raised = acc[i][j] < low ? low : acc[i][j];
                    acc[i][j] = raised > high ? high : raised;
                }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) store(y + i * pitch + j * kL, acc[i][j]);
}

// Every element is one chain of multiply-adds in the order of the steps, wherever tiles begin.
template <class W, class S, int MEMBERS, int ROWS, int VECTORS>
void strip_tile(const StripTile<W, S>& tile) {
    constexpr int kL = kLanes<W>;
    Vec<S> acc[ROWS][VECTORS];
    begin_tile<false>(tile, acc);
    const W* w = tile.w;
    const std::int32_t* offset = tile.offsets;
    for (const std::int32_t* end = offset + tile.steps; offset < end; ++offset) {
        const auto* x = reinterpret_cast<const W*>(tile.x + *offset);
        // steps are too far apart for the hardware to see that they are read one after the other
        const auto* ahead = reinterpret_cast<const W*>(tile.x + offset[kStepsAhead]);
        Vec<W> col[VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) {
            col[j] = load(x + j * kL);
            __builtin_prefetch(ahead + j * kL);
        }
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i) {
            const Vec<W> row = splat(w[i]);
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) acc[i][j] = dot<MEMBERS>(acc[i][j], col[j], row);
        }
        w += ROWS;
    }
    end_tile(tile, acc);
}

template <int I, int MEMBERS, class W, class SUMS, class COL, int ROWS, int VECTORS>
inline void channel_update(SUMS (&acc)[ROWS][VECTORS], const COL (&col)[VECTORS], const W* base,
                           const W* second_half, const RowPitches& pitch) {
    const Vec<W> pixel = splat(*row_address<I>(base, second_half, pitch));
#pragma GCC unroll 4
    for (int j = 0; j < VECTORS; ++j) acc[I][j] = dot<MEMBERS>(acc[I][j], pixel, col[j]);
    if constexpr (I + 1 < ROWS) {
        channel_update<I + 1, MEMBERS>(acc, col, base, second_half, pitch);
    }
}

// The same with output channels as lanes, and a row for every pixel.
template <class W, class S, int MEMBERS, int ROWS, int VECTORS>
void channel_tile(const StripTile<W, S>& tile) {
    constexpr int kL = kLanes<W>;
    Vec<S> acc[ROWS][VECTORS];
    begin_tile<true>(tile, acc);
    RowPitches pitch{tile.x_pitch, 3 * tile.x_pitch, 5 * tile.x_pitch};
    Index half = kHalfRows * tile.x_pitch;
    // values whose origin the compiler forgets: it would compute them anew in the loop
    asm("" : "+r"(pitch.three), "+r"(pitch.five), "+r"(half));
    const W* w = tile.w;
    const std::int32_t* offset = tile.offsets;
    for (const std::int32_t* end = offset + tile.steps; offset < end; ++offset) {
        const auto* x = reinterpret_cast<const W*>(tile.x + *offset);
        Vec<W> col[VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) col[j] = load(w + j * kL);
        channel_update<0, MEMBERS>(acc, col, x, x + half, pitch);
        w += tile.w_pitch;
    }
    end_tile(tile, acc);
}

template <class W, class S>
using StripTileFunction = void (*)(const StripTile<W, S>&);

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
template <bool CHANNEL_LANES, class W, class S, int MEMBERS>
struct StripTileTable {
    static constexpr int kMost = CHANNEL_LANES ? kStripVectors : kStripManyVectors;
    StripTileFunction<W, S> by_shape[kMost][kStripRows];

    static constexpr int most_rows(int vectors) {
        return vectors > kStripVectors ? kStripFewRows : kStripRows;
    }
    template <int V, int R>
    constexpr void fill() {
        if constexpr (CHANNEL_LANES) {
            by_shape[V - 1][R - 1] = channel_tile<W, S, MEMBERS, R, V>;
        } else {
            by_shape[V - 1][R - 1] = strip_tile<W, S, MEMBERS, R, V>;
        }
        if constexpr (R > 1) {
            fill<V, R - 1>();
        } else if constexpr (V > 1) {
            fill<V - 1, most_rows(V - 1)>();
        }
    }
    constexpr StripTileTable() : by_shape{} { fill<kMost, most_rows(kMost)>(); }
};
template <class T>
using StripTileOf = StripTile<WordOf<T>, SumOf<T>>;

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
