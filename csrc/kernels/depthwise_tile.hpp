// The register tile of a depthwise convolution: a few output rows of one vector of lanes. Lanes are
// pixels of a row (weights are splats) or channels of a pixel (weights are vectors); the rest is
// the same.
#pragma once

#include "kernels/vec.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// A vector of any width up to the instruction set's: rows of 7 pixels would leave more than half of
// 16 lanes idle.
template <class T, int BYTES>
struct Pack {
    typedef T Type __attribute__((vector_size(BYTES)));
    typedef T Unaligned __attribute__((vector_size(BYTES), aligned(alignof(T)), may_alias));
    using Element = T;
    static constexpr int kLanes = BYTES / int(sizeof(T));

    static Type load(const T* p) { return *reinterpret_cast<const Unaligned*>(p); }
    static void store(T* p, Type v) { *reinterpret_cast<Unaligned*>(p) = v; }
    static Type splat(T value) { return value - Type{}; }
};

// Kernels of up to this many rows and columns.
constexpr int kMostTaps = 9;

// One column of the kernel: where its input rows are, for every input row of the tile in turn.
template <class T>
struct ColumnTaps {
    const T* const* rows;
    Index offset;  // added to every row
};

// The operands of one strip: `rows` output rows (a template argument) of `lanes` lanes.
template <class T>
struct Strip {
    const ColumnTaps<T>* columns;
    Index column_count, row_count;  // of the kernel
    Index stride, dilation;         // of rows
    const T* weights;               // [column][row], a vector each where lanes are channels
    Index weight_pitch;             // from one such vector to the next
    const T* bias;                  // of every lane, where lanes are channels; else of all
    T low, high;                    // y is clamped: relu and relu6
    T* y[8];
    Index lanes;
};

template <class V>
inline void store_lanes(typename V::Element* to, typename V::Type v, Index count) {
    using T = typename V::Element;
    if (count >= V::kLanes) return V::store(to, v);
    alignas(64) T buffer[V::kLanes];
    V::store(buffer, v);
    for (Index i = 0; i < count; ++i) to[i] = buffer[i];
}

// Adds the products of one kernel column, in the order of its rows, to every row of the tile. An
// input row is loaded once and serves all the output rows that it belongs to.
template <class V, int R, int ROWS, int STRIDE, bool WIDE>
inline void add_column(typename V::Type (&acc)[ROWS], const Strip<typename V::Element>& strip,
                       const ColumnTaps<typename V::Element>& column,
                       const typename V::Element* weights, Index lane) {
    using Type = typename V::Type;
    const auto* const* rows = column.rows;
    const Index offset = column.offset + lane;
    if constexpr (R > 0) {
        Type weight[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            weight[r] =
                WIDE ? V::load(weights + r * strip.weight_pitch + lane) : V::splat(weights[r]);
        }
#pragma GCC unroll 32
        for (int i = 0; i < (ROWS - 1) * STRIDE + R; ++i) {
            const Type value = V::load(rows[i] + offset);
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; ++row) {
                const int r = i - row * STRIDE;
                if (r >= 0 && r < R) acc[row] += weight[r] * value;
            }
        }
    } else {
        for (Index r = 0; r < strip.row_count; ++r, rows += strip.dilation) {
            const Type weight =
                WIDE ? V::load(weights + r * strip.weight_pitch + lane) : V::splat(weights[r]);
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; ++row) {
                acc[row] += weight * V::load(rows[row * strip.stride] + offset);
            }
        }
    }
}

// A strip, vector by vector. The last vector is moved back to end with the strip: what it computes
// a second time has the same bits. Every element is one chain: bias, then column by column, each in
// the order of its rows.
template <class V, int R, int ROWS, int STRIDE, bool WIDE>
void strip_tile(const Strip<typename V::Element>& given) {
    using Type = typename V::Type;
    const Strip<typename V::Element> strip = given;  // y cannot alias it
    const Index column_weights = (R > 0 ? R : strip.row_count) * (WIDE ? strip.weight_pitch : 1);
    const Type low = V::splat(strip.low), high = V::splat(strip.high);
    for (Index lane = 0; lane < strip.lanes; lane += V::kLanes) {
        if (lane > 0 && lane + V::kLanes > strip.lanes) lane = strip.lanes - V::kLanes;
        Type acc[ROWS];
        const Type start = WIDE ? V::load(strip.bias + lane) : V::splat(*strip.bias);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; ++row) acc[row] = start;
        const auto* weights = strip.weights;
        for (Index s = 0; s < strip.column_count; ++s, weights += column_weights) {
            add_column<V, R, ROWS, STRIDE, WIDE>(acc, strip, strip.columns[s], weights, lane);
        }
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; ++row) {
            Type v = acc[row];
            v = v < low ? low : v;
            v = v > high ? high : v;
            store_lanes<V>(strip.y[row] + lane, v, strip.lanes - lane);
        }
    }
}

template <class T>
using StripFunction = void (*)(const Strip<T>&);

// Rows of a tile: 7 divides the maps of networks (7, 14, 28, 56, 112), and 7 sums, 7 weights, a
// value and a constant fit 16 registers.
constexpr int kTileRows[] = {1, 2, 4, 7};

// How many of `left` rows the next tile takes.
inline int tile_rows(Index left) {
    if (left >= 7 && left != 8 && left != 10 && left != 12) return 3;
    return left >= 4 ? 2 : left >= 2 ? 1 : 0;
}

// Functions by index into kTileRows and shape of the kernel's columns.
template <class V, bool WIDE>
struct StripTable {
    StripFunction<typename V::Element> by_shape[7][4];

    template <int SHAPE, int R, int STRIDE>
    constexpr void fill() {
        by_shape[SHAPE][0] = strip_tile<V, R, kTileRows[0], STRIDE, WIDE>;
        by_shape[SHAPE][1] = strip_tile<V, R, kTileRows[1], STRIDE, WIDE>;
        by_shape[SHAPE][2] = strip_tile<V, R, kTileRows[2], STRIDE, WIDE>;
        by_shape[SHAPE][3] = strip_tile<V, R, kTileRows[3], STRIDE, WIDE>;
    }
    constexpr StripTable() : by_shape{} {
        fill<0, 0, 1>();
        fill<1, 3, 1>();
        fill<2, 3, 2>();
        fill<3, 5, 1>();
        fill<4, 5, 2>();
        fill<5, 7, 1>();
        fill<6, 7, 2>();
    }
};

// Row of StripTable for a kernel of `taps` rows.
inline int strip_shape(Index taps, Index stride, Index dilation) {
    const bool listed = taps == 3 || taps == 5 || taps == 7;
    return listed && stride <= 2 && dilation == 1 ? int(taps - 3 + stride) : 0;
}

// Narrowest vector that is worth having functions of its own.
#if defined(__AVX512F__)
constexpr int kNarrowBytes = FASTCONV_VECTOR_BYTES / 2;
#else
constexpr int kNarrowBytes = FASTCONV_VECTOR_BYTES;
#endif
template <class T>
constexpr int kNarrowLanes = kNarrowBytes / int(sizeof(T));

// Computes a strip of `rows` (an index into kTileRows) with full vectors, and with a narrow one
// what that is enough for. Lanes are read up to the end of the last vector; where there are fewer
// than a narrow vector has, `strip` must be readable beyond them.
template <class T, bool WIDE>
inline void run_strip(const Strip<T>& strip, int shape, int rows) {
    static constexpr StripTable<Pack<T, FASTCONV_VECTOR_BYTES>, WIDE> full;
    static constexpr StripTable<Pack<T, kNarrowBytes>, WIDE> narrow;
    constexpr Index kL = kLanes<T>, kN = kNarrowLanes<T>;
    const Index rest = strip.lanes % kL;
    if (kN == kL || rest == 0 || rest > kN) {
        if (strip.lanes >= kL || !WIDE) return full.by_shape[shape][rows](strip);
        return narrow.by_shape[shape][rows](strip);
    }
    Strip<T> part = strip;
    if (strip.lanes > rest) {
        part.lanes = strip.lanes - rest;
        full.by_shape[shape][rows](part);
    }
    // the narrow vector ends with the strip
    const Index begin = strip.lanes < kN ? 0 : strip.lanes - kN;
    ColumnTaps<T> columns[kMostTaps];
    for (Index s = 0; s < strip.column_count; ++s) {
        columns[s] = {strip.columns[s].rows, strip.columns[s].offset + begin};
    }
    part.columns = columns;
    part.lanes = strip.lanes - begin;
    for (T*& row : part.y) row += begin;
    if (WIDE) {
        part.weights += begin;
        part.bias += begin;
    }
    narrow.by_shape[shape][rows](part);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
