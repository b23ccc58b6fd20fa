// One task of the strip GEMM: a block of outputs times a block of output channels, for one image
// and a few groups.
#pragma once

#include "kernels/strip_kernels.hpp"
#include "kernels/strip_masked.hpp"
#include "kernels/strip_output.hpp"
#include "kernels/strip_tile.hpp"
#include "kernels/strip_weights.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// One task's scratch, as StripBlocking cuts it.
template <class T>
struct StripScratch {
    std::int32_t* offsets;
    char* panel;
    WordOf<T>* ones;
    WordOf<T>* sums;
    WordOf<T>* partial;  // unfinished sums of all the task's output channels
    T* lines;
    WordOf<T>* strip;
};

template <class T>
StripScratch<T> cut_scratch(const StripBlocking& b, char* scratch) {
    const auto words = [&](Index at) { return reinterpret_cast<WordOf<T>*>(scratch + at); };
    return {reinterpret_cast<std::int32_t*>(scratch + b.offsets_at),
            scratch + b.panel_at,
            words(b.ones_at),
            words(b.sums_at),
            words(b.partial_at),
            reinterpret_cast<T*>(scratch + b.lines_at),
            words(b.strip_at)};
}

// Bytes from a lane's first word to the one that a step of the reduction multiplies.
inline void list_offsets(const StripBlocking& b, std::int32_t* offsets) {
    const auto in_phase = [&](Index r, Index s) {
        const Index row = r * b.step_h, column = s * b.step_w;
        const Index phase = row % b.hop_h * b.phases_w + column % b.hop_w;
        return (phase * b.strip_rows + row / b.hop_h) * b.pitch + column / b.hop_w;
    };
    for (Index word = 0; word < b.word_block; ++word) {
        for (Index r = 0; r < b.taps_h; ++r) {
            for (Index s = 0; s < b.taps_w; ++s) {
                *offsets++ = std::int32_t(4 * (word * b.plane + in_phase(r, s)));
            }
        }
    }
}

// A part of the reduction, of one group's outputs under one block.
template <class T>
struct StripPart {
    const StripJob<T>& job;
    const StripScratch<T>& scratch;
    StripOutput<ResultOf<T>> out;
    Index group, word, words;

    bool first() const { return word == 0; }
    bool last() const { return word + words == job.blocking.words; }
    Index steps() const { return words * job.blocking.taps_h * job.blocking.taps_w; }
};

// zw * sum x' of every lane.
template <class T>
void sum_lanes(const StripPart<T>& part) {
    constexpr int kL = kLanes<WordOf<T>>;
    const StripScratch<T>& scratch = part.scratch;
    pack_ones<T>(part.job.blocking, part.word, part.words, scratch.ones);
    const WordOf<T> start = 0;
    StripTile<WordOf<T>> tile{};
    tile.steps = part.steps();
    tile.w = scratch.ones;
    tile.offsets = scratch.offsets;
    tile.start = &start;
    tile.pitch = kL;
    for (Index lane = 0; lane < part.out.lanes; lane += kL) {
        tile.x = reinterpret_cast<const char*>(scratch.strip + lane);
        tile.y = scratch.sums + lane;
        strip_tile<WordOf<T>, kMembers<T>, 1, 1>(tile);
        store(tile.y, times(load(tile.y), Narrow<T>::zero_w));
    }
}

// Integers: y holds unfinished sums, which the last part brings into the activation's range.
template <class T>
void multiply_integers(const StripPart<T>& part, Index first, Index rows,
                       StripTile<std::int32_t> tile) {
    static constexpr StripTileTable<std::int32_t, kMembers<T>> tiles;
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
void multiply_floats(const StripPart<T>& part, Index first, Index rows, StripTile<float> tile,
                     float* waiting) {
    static constexpr StripTileTable<float, 1> tiles;
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
    StripTile<WordOf<T>> tile{};
    tile.steps = part.steps();
    tile.w = reinterpret_cast<const WordOf<T>*>(packed + kPanelHeader) + skipped * rows;
    tile.offsets = part.scratch.offsets;
    tile.accumulate = !part.first();
    if constexpr (kIsFloat<T>) {
        const Index waits = (panel - panel0) * b.panel_rows * b.partial_pitch;
        multiply_floats(part, channels.first, rows, tile,
                        b.partial_pitch > 0 ? part.scratch.partial + waits : nullptr);
    } else {
        std::int32_t start[kStripRows];
        begin_rows(part, packed, channels.first, rows, start);
        tile.start = start;
        const Range range = range_of(problem.activation);
        tile.clamp = part.last() && range.low != kLowest;
        tile.low = range.low;
        tile.high = range.high;
        multiply_integers(part, channels.first, rows, tile);
    }
}

// All parts of the reduction for one group under one block, output channels of panels [panel0,
// panel1).
template <class T>
void multiply_group(const StripJob<T>& job, const StripScratch<T>& scratch, const Image<T>& image,
                    const StripOutput<ResultOf<T>>& out, Index group, Index panel0, Index panel1) {
    const StripBlocking& b = job.blocking;
    for (Index word = 0; word < b.words; word += b.word_block) {
        const Index words = least(b.word_block, b.words - word);
        const StripPart<T> part{job, scratch, out, group, word, words};
        pack_strip(image, word, words, scratch.lines, scratch.strip);
        if constexpr (Narrow<T>::zero_w != 0) sum_lanes(part);
        for (Index panel = panel0; panel < panel1; ++panel) multiply_panel(part, panel, panel0);
    }
}

template <class T>
void strip_task(const StripJob<T>& job, Index index, char* memory) {
    const Problem& problem = job.problem;
    const StripBlocking& b = job.blocking;
    // Blocks of output channels change fastest: neighbouring tasks read the same pixels.
    const Index panel_block = index % b.panel_blocks;
    index /= b.panel_blocks;
    const Index col_block = index % b.col_blocks;
    index /= b.col_blocks;
    const Index row_block = index % b.row_blocks;
    index /= b.row_blocks;
    const Index group_block = index % b.group_blocks, n = index / b.group_blocks;
    const Index p = row_block * b.rows, q = col_block * b.cols;
    const Block block{p, q, least(b.rows, problem.p - p), least(b.cols, problem.q - q)};
    const StripScratch<T> scratch = cut_scratch<T>(b, memory);
    list_offsets(b, scratch.offsets);

    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    const View<ResultOf<T>>& y = job.arrays.y;
    const Index panel0 = panel_block * b.panel_block;
    const Index panel1 = least(panel0 + b.panel_block, b.panels);
    const Index last_group = least((group_block + 1) * b.group_block, problem.groups);
    for (Index group = group_block * b.group_block; group < last_group; ++group) {
        Image<T> image{problem, b, job.arrays.x, block};
        image.x.data += n * image.x.stride[0] + group * channels * image.x.stride[1];
        View<ResultOf<T>> under = y;
        under.data +=
            n * y.stride[0] + group * outputs * y.stride[1] + p * y.stride[2] + q * y.stride[3];
        multiply_group(job, scratch, image, make_output(under, b.pitch, block), group, panel0,
                       panel1);
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
