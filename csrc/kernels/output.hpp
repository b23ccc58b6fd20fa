// Where tiles of the product go: y's layout, bias and activation, turned stores.
#pragma once

#include "kernels/copy.hpp"
#include "kernels/finish.hpp"
#include "kernels/output_pairs.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Bias and activation of a finished tile at `tile`.
template <class T>
void finish_tile(const Problem& problem, const T* bias, const Output<T>& out, T* tile, Index pitch,
                 const TileSpan& span) {
    if (!bias && problem.activation == Activation::kNone) return;
    const Index taps = out.taps.count();
    T of_lanes[kCols<T>];
    if (bias && taps > 1 && out.channel_lanes) {
        for (Index j = 0; j < span.cols; ++j) of_lanes[j] = bias[(span.col + j) / taps];
    }
    for (Index i = 0; i < span.rows; ++i) {
        const T* row_bias = bias;
        if (bias && out.channel_lanes) row_bias = taps > 1 ? of_lanes : bias + span.col;
        if (bias && !out.channel_lanes) row_bias = bias + (span.row + i) / taps;
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
    if (!out.channel_lanes && out.by_pairs()) return load_pairs(tile, out, span);
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
    if (out.taps.count() > 1) return;
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
            load_turned(block, tile + row * kCols<T> + col, pixels);
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
            load_turned(block, tile + row * kCols<T> + col, pixels);
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
    if (out.by_pairs()) {
        return out.channel_lanes ? store_turned_pairs(tile, out, span)
                                 : store_pairs(tile, out, span);
    }
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
