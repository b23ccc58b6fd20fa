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
    static constexpr StripTileTable<std::int32_t, std::int32_t, kMembers<T>> tiles;
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
    static constexpr StripTileTable<WordOf<T>, float, kMembers<T>> tiles;
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

// Adds the bias, applies the activation and rounds the sums of `rows` pixels; panels without a
// remainder are whole vectors of channels, and so is the room for others.
template <class T>
void round_pixels(const StripPart<T>& part, Index first, Index outputs, const float* sums,
                  Index sums_pitch, T* to, Index pitch, Index rows) {
    constexpr Index kL = kLanes<float>;
    const Problem& problem = part.job.problem;
    alignas(64) T padded[kStripVectors * kL] = {};
    const T* bias = part.job.arrays.bias;
    if (bias) {
        bias += part.group * (problem.k / problem.groups) + first;
        for (Index i = 0; i < outputs; ++i) padded[i] = bias[i];
    }
    for (Index i = 0; i < outputs; i += kL) {
        const Vec<float> addend = widen(padded + i);
        for (Index row = 0; row < rows; ++row) {
            Vec<float> v = load(sums + row * sums_pitch + i);
            if (bias) v += addend;
            round_to(to + row * pitch + i, activate<float>(v, problem.activation));
        }
    }
}

// Channels as lanes: y, or the sums that wait in scratch, in rows of pixels.
template <class T>
void multiply_channels(const StripPart<T>& part, Index first, Index outputs, StripTileOf<T> tile,
                       SumOf<T>* waiting) {
    static constexpr ChannelTileTable<WordOf<T>, SumOf<T>, kMembers<T>> tiles;
    constexpr Index kL = kLanes<WordOf<T>>;
    const StripBlocking& b = part.job.blocking;
    const StripOutput<ResultOf<T>>& out = part.out;
    const Index vectors = ceil_div(outputs, kL), width = vectors * kL;
    const Index most_rows = ceil_div(out.lanes, ceil_div(out.lanes, kStripRows));
    alignas(64) SumOf<T> buffer[kStripRows * kStripVectors * kL];
    alignas(64) ResultOf<T> rounded[kStripRows * kStripVectors * kL];
    tile.x_pitch = b.pixel_pitch;
    tile.w_pitch = b.panel_rows;
    for (Index lane = 0; lane < out.lanes; lane += most_rows) {
        const Index rows = least(most_rows, out.lanes - lane);
        const bool whole = out.stride_k == 1 && width == outputs && out.in_row(lane, rows);
        tile.x = reinterpret_cast<const char*>(part.scratch.strip + lane * b.pixel_pitch);
        if constexpr (kIsFloat<T>) {
            tile.y = waiting ? waiting + lane * b.panel_rows : buffer;
            tile.pitch = waiting ? b.panel_rows : width;
            tiles.by_shape[vectors - 1][rows - 1](tile);
            if (!part.last()) continue;
            T* to = whole ? out.at(first, lane) : rounded;
            const Index pitch = whole ? out.stride_q : width;
            round_pixels(part, first, outputs, tile.y, tile.pitch, to, pitch, rows);
            if (!whole) move_pixels<true>(out, first, outputs, lane, rows, rounded, width);
        } else {
            if (Narrow<T>::zero_w != 0) tile.sums = part.scratch.sums + lane;
            tile.y = whole ? out.at(first, lane) : buffer;
            tile.pitch = whole ? out.stride_q : width;
            if (!whole && tile.accumulate) {
                move_pixels<false>(out, first, outputs, lane, rows, buffer, width);
            }
            tiles.by_shape[vectors - 1][rows - 1](tile);
            if (!whole) move_pixels<true>(out, first, outputs, lane, rows, buffer, width);
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
    if constexpr (kIsFloat<T>) {
        SumOf<T>* waiting = nullptr;
        if (b.partial_pitch > 0) {
            waiting = part.scratch.partial + (panel - panel0) * b.panel_rows * b.partial_pitch;
        }
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
            multiply_channels<T>(part, channels.first, rows, tile, nullptr);
        } else {
            multiply_integers(part, channels.first, rows, tile);
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
