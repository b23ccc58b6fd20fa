// Where tiles of the product go: y's layout, bias and activation, turned stores.
#pragma once

#include "kernels/border.hpp"
#include "kernels/copy.hpp"
#include "kernels/finish.hpp"
#include "kernels/gemm_tile.hpp"
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

    Index pixel(Index i) const { return i / width * stride_p + i % width * stride_q; }
    T* at(Index row, Index col) const {
        return channel_lanes ? data + pixel(row) + col * stride_k
                             : data + row * stride_k + pixel(col);
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
    bool by_vector() const { return kHasMaskedLoad && stride_q >= 1 && stride_q <= kMostSpacing; }
};

// `width` pixels make a row of y.
template <class T>
Output<T> make_output(const Problem& problem, const View<T>& y, bool channel_lanes, Index width) {
    const Index k = y.stride[1], p = y.stride[2], q = y.stride[3];
    const bool even = problem.p * problem.q == width || p == width * q;
    const bool direct = channel_lanes ? k == 1 : q == 1;
    const bool turned = even && channel_lanes && q == 1;
    return {y.data, channel_lanes ? q : k, direct, turned, even, channel_lanes, k, p, q, width};
}

// Bias and activation of a finished tile at `tile`.
template <class T>
void finish_tile(const Problem& problem, const T* bias, const Output<T>& out, T* tile, Index pitch,
                 const TileSpan& span) {
    if (!bias && problem.activation == Activation::kNone) return;
    for (Index i = 0; i < span.rows; ++i) {
        const T* row_bias = bias ? bias + (out.channel_lanes ? span.col : span.row + i) : nullptr;
        finish_row(tile + i * pitch, span.cols, row_bias, out.channel_lanes ? 1 : 0,
                   problem.activation);
    }
}

// Rows of the tile are channels, and columns the pixels of several runs.
template <int SPACING, class T>
void load_runs(T* tile, const Output<T>& out, const TileSpan& span) {
    constexpr int kL = kLanes<T>;
    for (Index col = 0; col < span.cols; col += kL) {
        const PixelRuns<T> runs(span.col + col, least(kL, span.cols - col), out.width, out.stride_p,
                                SPACING);
        const T* from = out.data + span.row * out.stride_k;
        for (Index i = 0; i < span.rows; ++i, from += out.stride_k) {
            store(tile + i * kCols<T> + col, runs.template load<SPACING>(from));
        }
    }
}
template <int SPACING, class T>
void store_runs(const T* tile, const Output<T>& out, const TileSpan& span) {
    constexpr int kL = kLanes<T>;
    for (Index col = 0; col < span.cols; col += kL) {
        const PixelRuns<T> runs(span.col + col, least(kL, span.cols - col), out.width, out.stride_p,
                                SPACING);
        T* to = out.data + span.row * out.stride_k;
        for (Index i = 0; i < span.rows; ++i, to += out.stride_k) {
            runs.template store<SPACING>(to, load(tile + i * kCols<T> + col));
        }
    }
}

template <class T>
void load_tile(T* tile, const Output<T>& out, const TileSpan& span) {
    if (!out.channel_lanes && !(out.direct && out.even) && out.by_vector()) {
        return out.stride_q == 1 ? load_runs<1>(tile, out, span) : load_runs<2>(tile, out, span);
    }
    const bool runs = out.direct && (out.even || out.channel_lanes);
    for (Index i = 0; i < span.rows; ++i, tile += kCols<T>) {
        if (runs) {
            copy_run(tile, out.at(span.row + i, span.col), span.cols);
        } else {
            for (Index j = 0; j < span.cols; ++j) tile[j] = *out.at(span.row + i, span.col + j);
        }
    }
}

// Fetches y for writing: the stores would wait for memory.
template <class T>
void fetch_turned(const Output<T>& out, const TileSpan& span) {
    T* to = out.at(span.row, span.col);
    const Index last = out.at(span.row + span.rows - 1, span.col) - to;
    for (Index j = 0; j < span.cols; ++j, to += out.stride_k) {
        __builtin_prefetch(to, 1);
        __builtin_prefetch(to + last, 1);
    }
}

// Rows of the tile are pixels, columns channels; in y the pixels of a channel are consecutive.
template <class T>
void store_turned(const T* tile, const Output<T>& out, const TileSpan& span) {
    constexpr int kL = kLanes<T>;
    for (Index col = 0; col < span.cols; col += kL) {
        const Index channels = least(kL, span.cols - col);
        for (Index row = 0; row < span.rows; row += kL) {
            const Index pixels = least(kL, span.rows - row);
            Vec<T> block[kL];
#pragma GCC unroll 16
            for (int i = 0; i < kL; ++i) {
                block[i] = i < pixels ? load(tile + (row + i) * kCols<T> + col) : Vec<T>{};
            }
            transpose<T>(block);
            T* to = out.data + (span.col + col) * out.stride_k + span.row + row;
            if (channels == kL) {
#pragma GCC unroll 16
                for (int i = 0; i < kL; ++i) store_first(to + i * out.stride_k, block[i], pixels);
            } else {
                for (int i = 0; i < channels; ++i) {
                    store_first(to + i * out.stride_k, block[i], pixels);
                }
            }
        }
    }
}

// The same with pixels of several runs.
template <int SPACING, class T>
void store_turned_runs(const T* tile, const Output<T>& out, const TileSpan& span) {
    constexpr int kL = kLanes<T>;
    for (Index row = 0; row < span.rows; row += kL) {
        const Index pixels = least(kL, span.rows - row);
        const PixelRuns<T> runs(span.row + row, pixels, out.width, out.stride_p, SPACING);
        for (Index col = 0; col < span.cols; col += kL) {
            Vec<T> block[kL];
#pragma GCC unroll 16
            for (int i = 0; i < kL; ++i) {
                block[i] = i < pixels ? load(tile + (row + i) * kCols<T> + col) : Vec<T>{};
            }
            transpose<T>(block);
            T* to = out.data + (span.col + col) * out.stride_k;
            const Index channels = least(kL, span.cols - col);
            for (Index i = 0; i < channels; ++i, to += out.stride_k) {
                runs.template store<SPACING>(to, block[i]);
            }
        }
    }
}

template <class T>
void store_tile(const T* tile, const Output<T>& out, const TileSpan& span) {
    if (out.turned) return store_turned(tile, out, span);
    const bool lines = out.direct && (out.even || out.channel_lanes);
    if (!lines && out.by_vector()) {
        if (out.channel_lanes) {
            return out.stride_q == 1 ? store_turned_runs<1>(tile, out, span)
                                     : store_turned_runs<2>(tile, out, span);
        }
        return out.stride_q == 1 ? store_runs<1>(tile, out, span) : store_runs<2>(tile, out, span);
    }
    for (Index i = 0; i < span.rows; ++i, tile += kCols<T>) {
        if (lines) {
            copy_run(out.at(span.row + i, span.col), tile, span.cols);
        } else {
            for (Index j = 0; j < span.cols; ++j) *out.at(span.row + i, span.col + j) = tile[j];
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
