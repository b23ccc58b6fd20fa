// Which tile computes a strip: functions by kernel, rows and width of vectors.
#pragma once

#include "kernels/depthwise_tile.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class N>
using StripFunction = void (*)(const Strip<N>&, Index first);

// Rows of a tile: 7 divides the maps of networks (7, 14, 28, 56, 112), and 7 sums, 7 weights, a
// value and a mask fit 16 registers.
constexpr int kTileRows[] = {1, 2, 4, 7};

// How many of `left` rows the next tile takes, as an index into kTileRows.
inline int tile_rows(Index left) {
    if (left >= 7 && left != 8 && left != 10 && left != 12) return 3;
    return left >= 4 ? 2 : left >= 2 ? 1 : 0;
}

// Shapes of StripTable. Numbers that are widened or rounded have functions for fewer of them, to
// keep the library small: the others' conversions weigh more.
enum Shape : int { kAnyShape, k3, k3By2, k5, k5By2, k7, k7By2, kUnitShape, kPairsShape, kShapes };

// Functions by shape of the kernel's columns and index into kTileRows.
template <class V, Lanes LANES>
struct StripTable {
    StripFunction<typename V::Numbers> by_shape[kShapes][4];

    template <int SHAPE, int R, int STRIDE, Pattern PATTERN = Pattern::kAny>
    constexpr void fill() {
        by_shape[SHAPE][0] = strip_tile<V, R, kTileRows[0], STRIDE, LANES, PATTERN>;
        by_shape[SHAPE][1] = strip_tile<V, R, kTileRows[1], STRIDE, LANES, PATTERN>;
        by_shape[SHAPE][2] = strip_tile<V, R, kTileRows[2], STRIDE, LANES, PATTERN>;
        by_shape[SHAPE][3] = strip_tile<V, R, kTileRows[3], STRIDE, LANES, PATTERN>;
    }
    constexpr StripTable() : by_shape{} {
        fill<kAnyShape, 0, 1>();
        fill<k3, 3, 1>();
        fill<k3By2, 3, 2>();
        fill<k5, 5, 1>();
        fill<k5By2, 5, 2>();
        fill<k7, 7, 1>();
        if constexpr (V::Numbers::plain) {
            fill<k7By2, 7, 2>();
            if constexpr (LANES != Lanes::kChannels) fill<kUnitShape, 3, 1, Pattern::kUnit>();
            fill<kPairsShape, 3, 2, Pattern::kPairs>();
        }
    }
};

// Row of StripTable for a kernel.
template <class N>
inline int strip_shape(const Problem& problem, bool channel_lanes) {
    const Index taps = problem.r, stride = problem.stride_h;
    const bool listed = taps == 3 || taps == 5 || taps == 7;
    if (!listed || stride > 2 || problem.dilation_h > 1) return kAnyShape;
    const int shape = int(taps - 3 + stride);
    if (!N::plain) return shape == k7By2 ? int(kAnyShape) : shape;
    const bool square =
        taps == 3 && problem.s == 3 && problem.stride_w == stride && problem.dilation_w == 1;
    if (square && stride == 2) return kPairsShape;
    return square && !channel_lanes ? int(kUnitShape) : shape;
}

template <Lanes LANES, class N>
inline void run_strip(Strip<N>& strip, const StripCut<N, LANES == Lanes::kChannels>& cut, int shape,
                      int rows) {
    using Cut = StripCut<N, LANES == Lanes::kChannels>;
    using V = Vectors<N, LANES == Lanes::kChannels>;
    using T = typename N::Sum;
    static constexpr StripTable<typename V::Full, LANES> full;
    static constexpr StripTable<typename V::Narrow, LANES> narrow;
    const Index lanes = strip.lanes;
    const Mask<T>* const masks = strip.masks;
    if (cut.full > 0) {
        strip.lanes = cut.full;
        full.by_shape[shape][rows](strip, 0);
        strip.lanes = lanes;
    }
    if (Cut::kN < Cut::kL && cut.narrow) {
        if (cut.full > 0 && strip.planes > 1) move_rows(strip, 1 - strip.planes);
        if (LANES == Lanes::kMaskedPixels) {
            strip.masks = masks + cut.full_vectors() * strip.column_count;
        }
        narrow.by_shape[shape][rows](strip, cut.narrow_first);
        strip.masks = masks;
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
