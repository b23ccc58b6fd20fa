// One task of the integer GEMM: a block of outputs times a block of output channels, for one image
// and a few groups.
#pragma once

#include "kernels/integer_pack.hpp"
#include "kernels/integer_tile.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr std::int32_t kLowest = -0x7fffffff - 1, kHighest = 0x7fffffff;

struct Range {
    std::int32_t low, high;
};

inline Range range_of(Activation activation) {
    if (activation == Activation::kRelu) return {0, kHighest};
    if (activation == Activation::kRelu6) return {0, 6};
    return {kLowest, kHighest};
}

// y of one image and group under one block of outputs, and how the strip's lanes lie on it.
struct IntegerOutput {
    std::int32_t* data;  // of the block's first pixel
    Index stride_k, stride_p, stride_q;
    Index pitch, cols, lanes;  // of the strip's rows, of the block, from first to last output
    bool seamless;             // lanes are consecutive in y
};

// Channels of one pixel: a column of the buffer, in chunks whose loads do not wait for stores.
inline void store_pixel(std::int32_t* y, const std::int32_t* column, Index pitch, Index rows) {
    Index row = 0;
    for (; row + 4 <= rows; row += 4, column += 4 * pitch) {
        const std::int32_t a = column[0], b = column[pitch];
        const std::int32_t c = column[2 * pitch], d = column[3 * pitch];
        y[row] = a;
        y[row + 1] = b;
        y[row + 2] = c;
        y[row + 3] = d;
    }
    for (; row < rows; ++row, column += pitch) y[row] = *column;
}

// Copies rows of a tile between y and a buffer: the lanes that are outputs.
template <bool STORE>
void move_tile(const IntegerOutput& out, Index first, Index rows, Index lane, Index count,
               std::int32_t* buffer, Index buffer_pitch) {
    Index i = lane / out.pitch, j = lane % out.pitch;
    for (Index done = 0; done < count;) {
        const Index length = least(count - done, out.pitch - j);
        const Index valid = least(length, out.cols - j);
        std::int32_t* y = out.data + first * out.stride_k + i * out.stride_p + j * out.stride_q;
        std::int32_t* from = buffer + done;
        if (out.stride_q == 1 && valid > 0) {
            for (Index row = 0; row < rows; ++row) {
                std::int32_t* in_y = y + row * out.stride_k;
                std::int32_t* in_buffer = from + row * buffer_pitch;
                if (STORE) {
                    copy_line(in_y, in_buffer, valid);
                } else {
                    copy_line(in_buffer, in_y, valid);
                }
            }
        } else if (STORE && out.stride_k == 1) {
            for (Index lane_i = 0; lane_i < valid; ++lane_i) {
                store_pixel(y + lane_i * out.stride_q, from + lane_i, buffer_pitch, rows);
            }
        } else {
            for (Index lane_i = 0; lane_i < valid; ++lane_i) {
                for (Index row = 0; row < rows; ++row) {
                    std::int32_t& in_y = y[lane_i * out.stride_q + row * out.stride_k];
                    std::int32_t& in_buffer = from[row * buffer_pitch + lane_i];
                    if (STORE) {
                        in_y = in_buffer;
                    } else {
                        in_buffer = in_y;
                    }
                }
            }
        }
        done += length;
        i += 1;
        j = 0;
    }
}

// Output channels [first, first + rows) of all lanes. `tile` holds w, offsets, start and range.
template <int MEMBERS>
void multiply_panel(const IntegerOutput& out, Index first, Index rows, IntegerTile tile,
                    const std::uint32_t* strip, const std::int32_t* sums) {
    static constexpr IntegerTileTable<MEMBERS> tiles;
    constexpr int kL = kLanes<std::int32_t>;
    const Index most_vectors = tile_vectors(int(rows));
    alignas(64) std::int32_t
        buffer[kIntegerRows * kIntegerVectors * kL > kIntegerFewRows * kIntegerManyVectors * kL
                   ? kIntegerRows * kIntegerVectors * kL
                   : kIntegerFewRows * kIntegerManyVectors * kL];
    for (Index lane = 0; lane < out.lanes; lane += most_vectors * kL) {
        const Index vectors = least(most_vectors, ceil_div(out.lanes - lane, kL));
        const Index width = vectors * kL;
        const IntegerTileFunction function = tiles.by_shape[vectors - 1][rows - 1];
        tile.x = reinterpret_cast<const char*>(strip + lane);
        tile.sums = sums ? sums + lane : nullptr;
        const Index i = lane / out.pitch, j = lane % out.pitch;
        const bool whole =
            out.seamless ? lane + width <= out.lanes : out.stride_q == 1 && j + width <= out.cols;
        if (whole) {
            tile.y = out.data + first * out.stride_k + i * out.stride_p + j;
            tile.pitch = out.stride_k;
            function(tile);
            continue;
        }
        const Index count = least(width, out.lanes - lane);
        tile.y = buffer;
        tile.pitch = width;
        if (tile.accumulate) move_tile<false>(out, first, rows, lane, count, buffer, width);
        function(tile);
        move_tile<true>(out, first, rows, lane, count, buffer, width);
    }
}

// zw * sum x' of every lane.
template <class T>
void sum_lanes(const IntegerOutput& out, Index steps, const std::uint32_t* ones,
               const std::int32_t* offsets, const std::uint32_t* strip, std::int32_t* sums) {
    constexpr int kL = kLanes<std::int32_t>;
    const std::int32_t start = 0;
    for (Index lane = 0; lane < out.lanes; lane += kL) {
        integer_tile<kMembers<T>, 1, 1>({steps, ones, reinterpret_cast<const char*>(strip + lane),
                                         offsets, &start, nullptr, sums + lane, kL, false, false, 0,
                                         0});
        Words v = load(sums + lane);
        typedef std::uint32_t Unsigned __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
        v = (Words)((Unsigned)v * std::uint32_t(Shift<T>::zero_w));
        store(sums + lane, v);
    }
}

// One task's scratch, as IntegerBlocking cuts it.
template <class T>
struct IntegerScratch {
    std::int32_t* offsets;
    char* panel;
    std::uint32_t* ones;
    std::int32_t* sums;
    T* lines;
    std::uint32_t* strip;
};

template <class T>
IntegerScratch<T> cut_scratch(const IntegerBlocking& b, char* scratch) {
    return {reinterpret_cast<std::int32_t*>(scratch + b.offsets_at),
            scratch + b.panel_at,
            reinterpret_cast<std::uint32_t*>(scratch + b.ones_at),
            reinterpret_cast<std::int32_t*>(scratch + b.sums_at),
            reinterpret_cast<T*>(scratch + b.lines_at),
            reinterpret_cast<std::uint32_t*>(scratch + b.strip_at)};
}

// Bytes from a lane's first word to the one that a step of the reduction multiplies.
inline void list_offsets(const IntegerBlocking& b, std::int32_t* offsets) {
    for (Index word = 0; word < b.word_block; ++word) {
        for (Index r = 0; r < b.taps_h; ++r) {
            for (Index s = 0; s < b.taps_w; ++s) {
                *offsets++ =
                    std::int32_t(4 * (word * b.plane + r * b.step_h * b.pitch + s * b.step_w));
            }
        }
    }
}

// Words [word, word + words) of the reduction of one group's panels: y is written by the first and
// added to by the others.
template <class T>
void multiply_strip(const IntegerJob<T>& job, const IntegerOutput& out, Index group, Index panel0,
                    Index panel1, Index word, Index words, const IntegerScratch<T>& scratch) {
    const Problem& problem = job.problem;
    const IntegerBlocking& b = job.blocking;
    const Operands<T>& arrays = job.arrays;
    const Index outputs = problem.k / problem.groups, taps = b.taps_h * b.taps_w;
    const auto* packed = static_cast<const char*>(arrays.packed);
    const bool last = word + words == b.words;
    const Range range = last ? range_of(problem.activation) : range_of(Activation::kNone);
    std::int32_t* sums = nullptr;
    if constexpr (Shift<T>::zero_w != 0) {
        sums = scratch.sums;
        pack_integer_ones<T>(b, word, words, scratch.ones);
        sum_lanes<T>(out, words * taps, scratch.ones, scratch.offsets, scratch.strip, sums);
    }
    View<const T> w = arrays.w;
    w.data += group * outputs * w.stride[0];
    for (Index panel = panel0; panel < panel1; ++panel) {
        const PanelRows channels = panel_rows(problem, b, panel);
        const Index rows = channels.end - channels.first;
        const char* panel_data = scratch.panel;
        const std::uint32_t* weights;
        if (packed) {
            panel_data = packed + (group * b.panels + panel) * b.panel_bytes;
            weights = reinterpret_cast<const std::uint32_t*>(panel_data + kPanelHeader) +
                      word * taps * rows;
        } else {
            pack_integer_panel(problem, b, w, panel, word, words, scratch.panel);
            weights = reinterpret_cast<const std::uint32_t*>(panel_data + kPanelHeader);
        }
        std::int32_t start[kIntegerRows];
        const auto* header = reinterpret_cast<const std::uint32_t*>(panel_data);
        for (Index row = 0; row < rows; ++row) {
            // a packed header is of the whole reduction, one of this call is of these words
            std::uint32_t value = packed && word > 0 ? 0 : header[row];
            if (arrays.bias && word == 0) {
                value += std::uint32_t(arrays.bias[group * outputs + channels.first + row]);
            }
            start[row] = std::int32_t(value);
        }
        multiply_panel<kMembers<T>>(
            out, channels.first, rows,
            {words * taps, weights, nullptr, scratch.offsets, start, nullptr, nullptr, 0, word > 0,
             range.low != kLowest, range.low, range.high},
            scratch.strip, sums);
    }
}

template <class T>
void integer_task(const IntegerJob<T>& job, Index index, char* memory) {
    const Problem& problem = job.problem;
    const IntegerBlocking& b = job.blocking;
    // Blocks of output channels change fastest: neighbouring tasks read the same pixels.
    const Index panel_block = index % b.panel_blocks;
    index /= b.panel_blocks;
    const Index col_block = index % b.col_blocks;
    index /= b.col_blocks;
    const Index row_block = index % b.row_blocks;
    index /= b.row_blocks;
    const Index group_block = index % b.group_blocks, image = index / b.group_blocks;
    const Index p = row_block * b.rows, q = col_block * b.cols;
    const Block block{p, q, least(b.rows, problem.p - p), least(b.cols, problem.q - q)};
    const IntegerScratch<T> scratch = cut_scratch<T>(b, memory);
    list_offsets(b, scratch.offsets);

    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    const View<std::int32_t>& y = job.arrays.y;
    const Index panel0 = panel_block * b.panel_block;
    const Index panel1 = least(panel0 + b.panel_block, b.panels);
    const Index last_group = least((group_block + 1) * b.group_block, problem.groups);
    for (Index group = group_block * b.group_block; group < last_group; ++group) {
        const IntegerOutput out{y.data + image * y.stride[0] + group * outputs * y.stride[1] +
                                    p * y.stride[2] + q * y.stride[3],
                                y.stride[1],
                                y.stride[2],
                                y.stride[3],
                                b.pitch,
                                block.cols,
                                (block.rows - 1) * b.pitch + block.cols,
                                y.stride[3] == 1 && (block.rows == 1 || y.stride[2] == b.pitch) &&
                                    b.pitch == block.cols};
        Image<T> source{problem, b, job.arrays.x, block};
        source.x.data += image * source.x.stride[0] + group * channels * source.x.stride[1];
        for (Index word = 0; word < b.words; word += b.word_block) {
            const Index words = least(b.word_block, b.words - word);
            pack_strip(source, word, words, scratch.lines, scratch.strip);
            multiply_strip(job, out, group, panel0, panel1, word, words, scratch);
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
