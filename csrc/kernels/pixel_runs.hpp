// Vectors of neighbouring pixels that lie one or two elements apart in y: the rows of an image, or
// every second pixel of them, as the stride phases of an input gradient are stored.
#pragma once

#include "kernels/border.hpp"
#include "kernels/vec.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// The widest spacing that vectors are stored and loaded with.
constexpr Index kMostSpacing = 2;

// Lanes of a vector that lie in one row of y. Masks are of the elements of `spacing` consecutive
// vectors, of which the first begins where lane 0 would be: `offset` from the channel's first
// pixel.
template <class T>
struct RowRun {
    Index offset;
    Mask<T> mask[kMostSpacing];
    bool used[kMostSpacing];
};

// The runs of one vector of pixels. PAIRS: of pixels two apart, with those right behind them.
template <class T, bool PAIRS = false>
struct PixelRuns {
    RowRun<T> run[kLanes<T>];
    int count = 0;

    // Pixels [first, first + lanes) of y, whose rows are `width` pixels.
    PixelRuns(Index first, Index lanes, Index width, Index row_pitch, Index spacing) {
        Index p = first / width, q = first % width;
        for (Index lane = 0; lane < lanes; ++p, q = 0) {
            const Index end = least(lanes, lane + width - q);
            RowRun<T>& to = run[count++];
            to.offset = p * row_pitch + (q - lane) * spacing;
            for (Index v = 0; v < spacing; ++v) {
                const Index element = v * kLanes<T>;
                const Index from = least(most(spacing * lane - element, 0), kLanes<T>);
                const Index behind = spacing * (end - 1) + (PAIRS ? 2 : 1);
                const Index last = least(most(behind - element, 0), kLanes<T>);
                to.used[v] = from < last;
                to.mask[v] = lane_mask<T>(int(from), int(last));
                if (spacing == 2 && !PAIRS) to.mask[v] = even_mask<T>(to.mask[v]);
            }
            lane = end;
        }
    }

    // `to` is the channel's first pixel.
    template <int SPACING>
    void store(T* to, Vec<T> v) const {
        for (int i = 0; i < count; ++i) {
            const RowRun<T>& of = run[i];
            T* row = to + of.offset;
            if constexpr (SPACING == 1) {
                masked_store(row, v, of.mask[0]);
            } else {
                if (of.used[0]) masked_store(row, zip_low<T>(v, Vec<T>{}), of.mask[0]);
                if (of.used[1]) masked_store(row + kLanes<T>, zip_high<T>(v, Vec<T>{}), of.mask[1]);
            }
        }
    }

    void store_pairs(T* to, Vec<T> even, Vec<T> odd) const {
        const Vec<T> low = zip_low<T>(even, odd), high = zip_high<T>(even, odd);
        for (int i = 0; i < count; ++i) {
            const RowRun<T>& of = run[i];
            T* row = to + of.offset;
            if (of.used[0]) masked_store(row, low, of.mask[0]);
            if (of.used[1]) masked_store(row + kLanes<T>, high, of.mask[1]);
        }
    }

    template <int SPACING>
    Vec<T> load(const T* from) const {
        Vec<T> lanes{};
        for (int i = 0; i < count; ++i) {
            const RowRun<T>& of = run[i];
            const T* row = from + of.offset;
            Vec<T> some = masked_load(row, of.mask[0]);
            if constexpr (SPACING == 2) {
                Vec<T> high{};
                if (of.used[1]) high = masked_load(row + kLanes<T>, of.mask[1]);
                some = even_lanes<T>(some, high);
            }
            lanes = bitwise_or<T>(lanes, some);
        }
        return lanes;
    }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
