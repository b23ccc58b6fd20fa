// Tiles whose outputs are taps of kernels that lie side by side in y, two in a row: what lies
// between the pixels of one tap is the other, so that whole lines are written.
#pragma once

#include "kernels/output_layout.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Steps through the outputs of a tile two at a time: taps (r, 0) and (r, 1) of a channel.
template <class T>
struct TapPairs {
    const Output<T>& out;
    T* to;
    Index r;

    TapPairs(const Output<T>& of, Index first)
        : out(of), to(of.data + of.output(first)), r(first % of.taps.count() / of.taps.cols) {}

    void next() {
        to += out.taps.row;
        if (++r == out.taps.rows) {
            r = 0;
            to += out.stride_k - out.taps.rows * out.taps.row;
        }
    }
};

// Rows of the tile are outputs. `first` and `last`: those without the other of their pair.
template <class T, class Pair, class Single>
void for_tap_pairs(const Output<T>& out, const TileSpan& span, Pair pair, Single single) {
    Index i = span.row % 2;
    if (i) single(Index(0));
    TapPairs<T> pairs(out, span.row + i);
    for (; i + 1 < span.rows; i += 2, pairs.next()) pair(i, pairs.to);
    if (i < span.rows) single(i);
}

template <class T>
void load_pairs(T* tile, const Output<T>& out, const TileSpan& span) {
    constexpr int kL = kLanes<T>;
    for (Index col = 0; col < span.cols; col += kL, tile += kL) {
        const Index first = span.col + col, pixels = least(kL, span.cols - col);
        const PixelRuns<T> even(first, pixels, out.width, out.stride_p, 2);
        const auto load_one = [&](Index i, const T* from) {
            store(tile + i * kCols<T>, even.template load<2>(from));
        };
        for_tap_pairs(
            out, span,
            [&](Index i, const T* from) { load_one(i, from), load_one(i + 1, from + 1); },
            [&](Index i) { load_one(i, out.data + out.output(span.row + i)); });
    }
}

template <class T>
void store_pairs(const T* tile, const Output<T>& out, const TileSpan& span) {
    constexpr int kL = kLanes<T>;
    for (Index col = 0; col < span.cols; col += kL, tile += kL) {
        const Index first = span.col + col, pixels = least(kL, span.cols - col);
        const PixelRuns<T, true> runs(first, pixels, out.width, out.stride_p, 2);
        for_tap_pairs(
            out, span,
            [&](Index i, T* to) {
                const T* row = tile + i * kCols<T>;
                runs.store_pairs(to, load(row), load(row + kCols<T>));
            },
            [&](Index i) {
                const PixelRuns<T> even(first, pixels, out.width, out.stride_p, 2);
                even.template store<2>(out.data + out.output(span.row + i),
                                       load(tile + i * kCols<T>));
            });
    }
}

// Fetches the lines of one vector of pixels of every pair of outputs for writing.
template <class T>
void fetch_pairs(const Output<T>& out, const TileSpan& span) {
    const bool lanes = out.channel_lanes;
    const Index first = lanes ? span.row : span.col, pixels = lanes ? span.rows : span.cols;
    const Index outputs = lanes ? span.cols : span.rows;
    for (Index i = 0; i < pixels; i += kLanes<T> / 2) {
        TapPairs<T> pairs(out, lanes ? span.col : span.row);
        const Index pixel = out.pixel(first + i);
        for (Index j = 0; j < outputs; j += 2, pairs.next()) {
            __builtin_prefetch(pairs.to + pixel, 1);
        }
    }
}

// Rows of the tile are pixels, and columns outputs.
template <class T>
void store_turned_pairs(const T* tile, const Output<T>& out, const TileSpan& span) {
    constexpr int kL = kLanes<T>;
    for (Index row = 0; row < span.rows; row += kL) {
        const Index pixels = least(kL, span.rows - row);
        const PixelRuns<T, true> runs(span.row + row, pixels, out.width, out.stride_p, 2);
        for (Index col = 0; col < span.cols; col += kL) {
            Vec<T> block[kL];
            load_turned(block, tile + row * kCols<T> + col, pixels);
            TapPairs<T> pairs(out, span.col + col);
            const Index outputs = least(kL, span.cols - col);
            for (Index i = 0; i < outputs; i += 2, pairs.next()) {
                runs.store_pairs(pairs.to, block[i], block[i + 1]);
            }
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
