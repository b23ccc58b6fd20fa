// The matrix product of one strip and one panel: tiles, and where their sums go.
#pragma once

#include "kernels/strip_part.hpp"
#include "kernels/strip_tile.hpp"
#include "kernels/strip_weights.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Integers: y holds unfinished sums, which the last part brings into the activation's range.
template <class T>
void multiply_integers(const StripPart<T>& part, Index first, Index rows, StripTileOf<T> tile) {
    static constexpr StripTileTable<false, std::int32_t, std::int32_t, kMembers<T>> tiles;
    constexpr int kL = kLanes<std::int32_t>;
    const StripOutput<std::int32_t>& out = part.out;
    const Index most_vectors = tile_vectors(rows);
    alignas(64) std::int32_t buffer[kStripTileVectors * kL];
    for (Index lane = 0; lane < out.lanes; lane += most_vectors * kL) {
        const Index vectors = least(most_vectors, ceil_div(out.lanes - lane, kL));
        const Index width = vectors * kL, count = least(width, out.lanes - lane);
        const auto function = tiles.by_shape[vectors - 1][rows - 1];
        tile.x = reinterpret_cast<const char*>(part.scratch.strip + lane);
        tile.sums = Narrow<T>::zero_w != 0 ? part.scratch.sums + lane : nullptr;
        if (out.holds(lane, width)) {
            tile.y = out.at(first, lane);
            tile.pitch = out.stride_k;
            function(tile);
            continue;
        }
        tile.y = buffer;
        tile.pitch = width;
        if (tile.accumulate) move_tile<false>(out, first, rows, lane, count, buffer, width);
        function(tile);
        move_tile<true>(out, first, rows, lane, count, buffer, width);
    }
}

// Floats: unfinished sums wait in scratch, finished ones are rounded on their way to y. `waiting`
// is their first row there.
template <class T>
void multiply_floats(const StripPart<T>& part, Index first, Index rows, StripTileOf<T> tile,
                     float* waiting) {
    static constexpr StripTileTable<false, WordOf<T>, float, kMembers<T>> tiles;
    constexpr int kL = kLanes<float>;
    const StripOutput<T>& out = part.out;
    const Problem& problem = part.job.problem;
    const Index most_vectors = tile_vectors(rows);
    const Index outputs = problem.k / problem.groups;
    const T* bias = part.job.arrays.bias;
    if (bias) bias += part.group * outputs + first;
    alignas(64) float buffer[kStripTileVectors * kL];
    alignas(64) T rounded[kStripTileVectors * kL];
    for (Index lane = 0; lane < out.lanes; lane += most_vectors * kL) {
        const Index vectors = least(most_vectors, ceil_div(out.lanes - lane, kL));
        const Index width = vectors * kL, count = least(width, out.lanes - lane);
        tile.x = reinterpret_cast<const char*>(part.scratch.strip + lane);
        tile.y = waiting ? waiting + lane : buffer;
        tile.pitch = waiting ? part.job.blocking.partial_pitch : width;
        tiles.by_shape[vectors - 1][rows - 1](tile);
        if (!part.last()) continue;
        const bool whole = out.holds(lane, width);
        T* to = whole ? out.at(first, lane) : rounded;
        const Index pitch = whole ? out.stride_k : width;
        for (Index row = 0; row < rows; ++row) {
            round_row(to + row * pitch, tile.y + row * tile.pitch, width,
                      bias ? bias + row : nullptr, problem.activation);
        }
        if (!whole) move_tile<true>(out, first, rows, lane, count, rounded, width);
    }
}

// The bias of output channels [first, first + outputs), and zeros behind it.
template <class T>
void widen_bias(const StripPart<T>& part, Index first, Index outputs, float* to) {
    constexpr Index kL = kLanes<float>;
    alignas(64) T padded[kStripVectors * kL] = {};
    const T* bias = part.job.arrays.bias;
    if (bias) bias += part.group * (part.job.problem.k / part.job.problem.groups) + first;
    for (Index i = 0; bias && i < outputs; ++i) padded[i] = bias[i];
    for (Index i = 0; i < outputs; i += kL) store(to + i, widen(padded + i));
}

// Adds the bias, applies the activation and rounds the sums of `rows` pixels, whole vectors.
template <class T>
void round_pixels(const StripPart<T>& part, Index first, Index outputs, const float* sums,
                  Index sums_pitch, T* to, Index pitch, Index rows) {
    constexpr Index kL = kLanes<float>;
    alignas(64) float bias[kStripVectors * kL];
    widen_bias(part, first, outputs, bias);
    for (Index i = 0; i < outputs; i += kL) {
        const Vec<float> addend = load(bias + i);
        for (Index row = 0; row < rows; ++row) {
            Vec<float> v = load(sums + row * sums_pitch + i);
            if (part.job.arrays.bias) v += addend;
            round_to(to + row * pitch + i, activate<float>(v, part.job.problem.activation));
        }
    }
}

// Finished sums of `rows` consecutive pixels into planes: squares of vectors, turned.
template <class T>
void store_planes(const StripPart<T>& part, Index first, Index outputs, Index lane, Index rows,
                  const SumOf<T>* sums, Index sums_pitch) {
    constexpr Index kL = kLanes<SumOf<T>>;
    ResultOf<T>* to = part.out.at(first, lane);
    alignas(64) float bias[kStripVectors * kL];
    if constexpr (kIsFloat<T>) widen_bias(part, first, outputs, bias);
    for (Index pixel = 0; pixel < rows; pixel += kL) {
        const Index count = least(kL, rows - pixel);
        for (Index i = 0; i < outputs; i += kL) {
            Vec<SumOf<T>> square[kL] = {};
            for (Index row = 0; row < count; ++row) {
                square[row] = load(sums + (pixel + row) * sums_pitch + i);
            }
            transpose<SumOf<T>>(square);
            for (Index k = 0; k < least(kL, outputs - i); ++k) {
                ResultOf<T>* plane = to + (i + k) * part.out.stride_k + pixel;
                if constexpr (kIsFloat<T>) {
                    alignas(64) T rounded[kL];
                    Vec<float> v = square[k];
                    if (part.job.arrays.bias) v += splat(bias[i + k]);
                    round_to(rounded, activate<float>(v, part.job.problem.activation));
                    copy_line(plane, rounded, count);
                } else {
                    store_some(plane, square[k], count);
                }
            }
        }
    }
}

// One tile of `rows` pixels from `lane` on, `outputs` channels from `first` on. `waiting`: the
// panel's unfinished sums of all pixels, where they do not wait in y.
template <class T>
void multiply_pixels(const StripPart<T>& part, Index first, Index outputs, Index lane, Index rows,
                     StripTileOf<T> tile, SumOf<T>* waiting) {
    static constexpr StripTileTable<true, WordOf<T>, SumOf<T>, kMembers<T>> tiles;
    constexpr Index kL = kLanes<WordOf<T>>;
    const StripBlocking& b = part.job.blocking;
    const StripOutput<ResultOf<T>>& out = part.out;
    const Index vectors = ceil_div(outputs, kL), width = vectors * kL;
    const bool in_row = out.in_row(lane, rows);
    const bool whole = in_row && out.stride_k == 1 && width == outputs;
    const bool in_y = !kIsFloat<T> && !waiting && whole;
    alignas(64) SumOf<T> buffer[kStripRows * kStripVectors * kL];
    tile.x = reinterpret_cast<const char*>(part.scratch.strip + lane * b.pixel_pitch);
    tile.y = waiting ? waiting + lane * b.panel_rows : buffer;
    tile.pitch = waiting ? b.panel_rows : width;
    if constexpr (!kIsFloat<T>) {
        if (Narrow<T>::zero_w != 0) tile.sums = part.scratch.sums + lane;
        if (in_y) {
            tile.y = out.at(first, lane);
            tile.pitch = out.stride_q;
        } else if (tile.accumulate && !waiting) {
            move_pixels<false>(out, first, outputs, lane, rows, buffer, width);
        }
    }
    tiles.by_shape[vectors - 1][rows - 1](tile);
    if (in_y || (waiting && !part.last())) return;
    if (in_row && out.stride_q == 1 && out.stride_k != 1) {
        store_planes(part, first, outputs, lane, rows, tile.y, tile.pitch);
    } else if constexpr (kIsFloat<T>) {
        alignas(64) T rounded[kStripRows * kStripVectors * kL];
        T* to = whole ? out.at(first, lane) : rounded;
        const Index pitch = whole ? out.stride_q : width;
        round_pixels(part, first, outputs, tile.y, tile.pitch, to, pitch, rows);
        if (!whole) move_pixels<true>(out, first, outputs, lane, rows, rounded, width);
    } else {
        move_pixels<true>(out, first, outputs, lane, rows, tile.y, tile.pitch);
    }
}

// Rows of fewer pixels than this share tiles, and compute what lies between them in vain.
constexpr Index kLeastTileRows = kStripRows / 3;

// Output channels as lanes.
template <class T>
void multiply_channels(const StripPart<T>& part, Index first, Index outputs, StripTileOf<T> tile,
                       SumOf<T>* waiting) {
    const StripOutput<ResultOf<T>>& out = part.out;
    tile.x_pitch = part.job.blocking.pixel_pitch;
    tile.w_pitch = part.job.blocking.panel_rows;
    const bool by_row = out.pitch > out.cols && out.cols >= kLeastTileRows;
    const Index length = by_row ? out.cols : out.lanes;
    const Index most_rows = ceil_div(length, ceil_div(length, kStripRows));
    for (Index row = 0; row < out.lanes; row += by_row ? out.pitch : out.lanes) {
        for (Index lane = 0; lane < length; lane += most_rows) {
            multiply_pixels(part, first, outputs, row + lane, least(most_rows, length - lane), tile,
                            waiting);
        }
    }
}

// What the sums of a panel's rows begin with: the header's terms, and the bias.
template <class T>
void begin_rows(const StripPart<T>& part, const char* panel, Index first, Index rows,
                std::int32_t* start) {
    const Operands<T>& arrays = part.job.arrays;
    const Index outputs = part.job.problem.k / part.job.problem.groups;
    const auto* header = reinterpret_cast<const std::uint32_t*>(panel);
    for (Index row = 0; row < rows; ++row) {
        // a plan's header is of the whole reduction, one of this call is of this part
        std::uint32_t value = arrays.packed && !part.first() ? 0 : header[row];
        if (arrays.bias && part.first()) {
            value += std::uint32_t(arrays.bias[part.group * outputs + first + row]);
        }
        start[row] = std::int32_t(value);
    }
}

template <class T>
void multiply_panel(const StripPart<T>& part, Index panel, Index panel0) {
    const Problem& problem = part.job.problem;
    const StripBlocking& b = part.job.blocking;
    const Operands<T>& arrays = part.job.arrays;
    const PanelRows channels = panel_rows(problem, b, panel);
    const Index rows = channels.end - channels.first, taps = b.taps_h * b.taps_w;
    const char* packed = part.scratch.panel;
    Index skipped = 0;  // steps of earlier parts
    if (arrays.packed) {
        packed = static_cast<const char*>(arrays.packed) +
                 (part.group * b.panels + panel) * b.panel_bytes;
        skipped = part.word * taps;
    } else {
        View<const T> w = arrays.w;
        w.data += part.group * (problem.k / problem.groups) * w.stride[0];
        pack_panel(problem, b, w, panel, part.word, part.words, part.scratch.panel);
    }
    StripTileOf<T> tile{};
    tile.steps = part.steps();
    tile.w = reinterpret_cast<const WordOf<T>*>(packed + kPanelHeader) +
             skipped * (b.channel_lanes ? b.panel_rows : rows);
    tile.offsets = part.scratch.offsets;
    tile.accumulate = !part.first();
    SumOf<T>* waiting = nullptr;
    if (b.partial_pitch > 0) {
        waiting = part.scratch.partial + (panel - panel0) * b.panel_rows * b.partial_pitch;
    }
    if constexpr (kIsFloat<T>) {
        if (b.channel_lanes) return multiply_channels(part, channels.first, rows, tile, waiting);
        multiply_floats(part, channels.first, rows, tile, waiting);
    } else {
        alignas(64) std::int32_t start[kPanelHeader / 4] = {};
        begin_rows(part, packed, channels.first, rows, start);
        tile.start = start;
        const Range range = range_of(problem.activation);
        tile.clamp = part.last() && range.low != kLowest;
        tile.low = range.low;
        tile.high = range.high;
        if (b.channel_lanes) {
            multiply_channels(part, channels.first, rows, tile, waiting);
        } else {
            multiply_integers(part, channels.first, rows, tile);
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
