// Where the outputs of the product and their pixels are in y.
#pragma once

#include "kernels/gemm_tile.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pixel_runs.hpp"
#include "kernels/transpose.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Rows and columns of the product that one tile covers.
struct TileSpan {
    Index row, rows, col, cols;
};

// Where y's elements are. The micro-kernel writes into y itself where a row of the product is
// consecutive (`direct`); where a column is, tiles are turned on their way (`turned`). Both hold
// for the whole image where all its pixels are evenly spaced (`even`), and otherwise for tiles
// whose pixels lie in one row of y, which the stride phases of an input gradient keep apart.
template <class T>
struct Output {
    T* data;
    Index row_pitch;
    bool direct, turned, even;
    bool channel_lanes;
    Index stride_k, stride_p, stride_q, width;
    OutputTaps taps;

    Index output(Index i) const {
        if (taps.count() == 1) return i * stride_k;
        const Index tap = i % taps.count();
        return i / taps.count() * stride_k + tap / taps.cols * taps.row +
               tap % taps.cols * taps.col;
    }
    Index pixel(Index i) const { return i / width * stride_p + i % width * stride_q; }
    T* at(Index row, Index col) const {
        return channel_lanes ? data + pixel(row) + output(col) : data + output(row) + pixel(col);
    }
    // Where the micro-kernel writes a tile, or null.
    T* in_place(const TileSpan& span) const {
        if (!direct) return nullptr;
        if (even) return data + span.row * row_pitch + span.col;
        const Index first = channel_lanes ? span.row : span.col;
        const Index pixels = channel_lanes ? span.rows : span.cols;
        return first % width + pixels <= width ? at(span.row, span.col) : nullptr;
    }
    // Whether vectors of pixels are stored, that lie in rows of y.
    bool by_vector() const {
        return kHasMaskedLoad && taps.count() == 1 && stride_q >= 1 && stride_q <= kMostSpacing;
    }
    // Whether two taps fill what lies between pixels.
    bool by_pairs() const {
        return kHasMaskedLoad && taps.cols == 2 && taps.col == 1 && stride_q == 2;
    }
};

// `width` pixels make a row of y.
template <class T>
Output<T> make_output(const Problem& problem, const View<T>& y, bool channel_lanes, Index width,
                      const OutputTaps& taps) {
    const Index k = y.stride[1], p = y.stride[2], q = y.stride[3];
    const bool even = problem.p * problem.q == width || p == width * q;
    const bool direct = taps.count() == 1 && (channel_lanes ? k == 1 : q == 1);
    const bool turned = even && channel_lanes && q == 1 && taps.count() == 1;
    return {y.data, channel_lanes ? q : k, direct, turned, even, channel_lanes, k, p, q, width,
            taps};
}

// A square of a tile whose rows are pixels, of which there are so many.
template <class T>
inline void load_turned(Vec<T> (&block)[kLanes<T>], const T* tile, Index pixels) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; ++i) {
        block[i] = i < pixels ? load(tile + i * kCols<T>) : Vec<T>{};
    }
    transpose<T>(block);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
