// Where tiles of the product go: y's layout, bias and activation, turned stores.
#pragma once

#include "kernels/border.hpp"
#include "kernels/copy.hpp"
#include "kernels/finish.hpp"
#include "kernels/gemm_tile.hpp"
#include "kernels/transpose.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Rows and columns of the product that one tile covers.
struct TileSpan {
    Index row, rows, col, cols;
};

// Where y's elements are. The micro-kernel writes into y itself where a row of the product is
// consecutive (`direct`); where a column is, tiles are turned on their way (`turned`).
template <class T>
struct Output {
    T* data;
    Index row_pitch;
    bool direct, turned;
    bool channel_lanes;
    Index stride_k, stride_p, stride_q, width;

    Index pixel(Index i) const { return i / width * stride_p + i % width * stride_q; }
    T* at(Index row, Index col) const {
        return channel_lanes ? data + pixel(row) + col * stride_k
                             : data + row * stride_k + pixel(col);
    }
};

template <class T>
Output<T> make_output(const Problem& problem, const View<T>& y, bool channel_lanes) {
    const Index k = y.stride[1], p = y.stride[2], q = y.stride[3];
    const bool pixels_even = problem.p == 1 || p == problem.q * q;
    const bool direct = pixels_even && (channel_lanes ? k == 1 : q == 1);
    const bool turned = pixels_even && channel_lanes && q == 1;
    return {y.data, channel_lanes ? q : k, direct, turned, channel_lanes, k, p, q, problem.q};
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

template <class T>
void load_tile(T* tile, const Output<T>& out, const TileSpan& span) {
    for (Index i = 0; i < span.rows; ++i, tile += kCols<T>) {
        if (out.direct) {
            copy_run(tile, out.data + (span.row + i) * out.row_pitch + span.col, span.cols);
        } else {
            for (Index j = 0; j < span.cols; ++j) tile[j] = *out.at(span.row + i, span.col + j);
        }
    }
}

// Fetches y for writing: the stores would wait for memory.
template <class T>
void fetch_turned(const Output<T>& out, const TileSpan& span) {
    T* to = out.data + span.col * out.stride_k + span.row;
    for (Index j = 0; j < span.cols; ++j, to += out.stride_k) {
        __builtin_prefetch(to, 1);
        __builtin_prefetch(to + span.rows - 1, 1);
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

template <class T>
void store_tile(const T* tile, const Output<T>& out, const TileSpan& span) {
    if (out.turned) return store_turned(tile, out, span);
    for (Index i = 0; i < span.rows; ++i, tile += kCols<T>) {
        if (out.direct) {
            copy_run(out.data + (span.row + i) * out.row_pitch + span.col, tile, span.cols);
        } else {
            for (Index j = 0; j < span.cols; ++j) *out.at(span.row + i, span.col + j) = tile[j];
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
