// One task of the direct convolution of groups of few channels: blocks of y of one image and group.
//
// The rows of x that a block reads are copied with their border, all with one pitch, so that pixels
// of y are consecutive lanes across its rows: small maps waste only the lanes between two rows.
#pragma once

#include "kernels/channel_tile.hpp"
#include "kernels/finish.hpp"
#include "kernels/kernels.hpp"
#include "kernels/padded_rows.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Where a block's copy of x has its parts: for each channel, phase of rows and phase of columns a
// plane of `rows` rows, `pitch` elements apart.
struct PlaneLayout {
    Phases tall, wide;
    Index rows, pitch;
    Index plane, channel;  // elements of one plane, of all planes of a channel

    Index lanes(Index p, Index q) const { return (p - 1) * pitch + q; }
};

inline PlaneLayout plane_layout(const Problem& problem, Index rows, Index cols) {
    PlaneLayout layout{};
    layout.tall = make_phases(problem.r, problem.stride_h, problem.dilation_h);
    layout.wide = make_phases(problem.s, problem.stride_w, problem.dilation_w);
    layout.rows = rows + layout.tall.reach(problem.r);
    layout.pitch = cols + layout.wide.reach(problem.s);
    layout.plane = layout.rows * layout.pitch;
    layout.channel = layout.plane * layout.tall.used * layout.wide.used;
    return layout;
}

// Elements of the parts of a task's scratch: the copy of x, which whole vectors may read beyond;
// the tiles of one set of output channels; their weights, where w cannot be read in place.
struct ChannelScratch {
    Index planes, tiles, weights;
    Index tile_pitch;
};

template <class T>
ChannelScratch channel_scratch(const Problem& problem, Index rows, Index cols, Index outputs) {
    constexpr Index kL = kLanes<T>;
    const PlaneLayout layout = plane_layout(problem, rows, cols);
    const Index channels = problem.c / problem.groups;
    const Index tile_pitch = ceil_div(layout.lanes(rows, cols), kL) * kL;
    return {channels * layout.channel + kL, outputs * tile_pitch,
            outputs * channels * problem.r * problem.s, tile_pitch};
}

template <class T>
Index channels_scratch(const Problem& problem, Index rows, Index cols, Index outputs) {
    const ChannelScratch parts = channel_scratch<T>(problem, rows, cols, outputs);
    return parts.planes + parts.tiles + parts.weights;
}

// A block of y.
struct ChannelBlock {
    Index p0, rows, q0, cols;
};

template <class T>
void copy_planes(T* to, const View<const T>& x, const ChannelBlock& block,
                 const PlaneLayout& layout, const Problem& problem) {
    const Index channels = problem.c / problem.groups;
    const Index first = block.p0 * problem.stride_h - problem.pad_top;
    const Index column = block.q0 * problem.stride_w - problem.pad_left;
    for (Index tall = 0; tall < layout.tall.used; ++tall) {
        for (Index i = 0; i < layout.rows; ++i) {
            const Index row = source_index(first + tall * problem.dilation_h + i * problem.stride_h,
                                           problem.h, problem.pad_mode);
            for (Index wide = 0; wide < layout.wide.used; ++wide) {
                const PaddedRun run = padded_run(column + wide * problem.dilation_w,
                                                 problem.stride_w, layout.pitch, problem.w);
                T* out = to + (tall * layout.wide.used + wide) * layout.plane + i * layout.pitch;
                const T* from = row < 0 ? nullptr : x.data + row * x.stride[2];
                for (Index c = 0; c < channels; ++c, out += layout.channel) {
                    copy_padded_run(out, from ? from + c * x.stride[1] : nullptr, x.stride[3], run,
                                    problem);
                }
            }
        }
    }
}

// Copies finished tiles to y, leaving out the lanes between rows.
template <class T>
void store_tiles(const T* tiles, Index tile_pitch, const View<T>& y, Index outputs,
                 const ChannelBlock& block, Index pitch) {
    for (Index k = 0; k < outputs; ++k, tiles += tile_pitch) {
        for (Index i = 0; i < block.rows; ++i) {
            T* to =
                y.data + k * y.stride[1] + (block.p0 + i) * y.stride[2] + block.q0 * y.stride[3];
            const T* from = tiles + i * pitch;
            if (y.stride[3] == 1) {
                copy_run(to, from, block.cols);
            } else {
                for (Index q = 0; q < block.cols; ++q) to[q * y.stride[3]] = from[q];
            }
        }
    }
}

// Arrays of one image and group.
template <class T>
struct ChannelGroup {
    const Problem& problem;
    View<const T> x, w;
    View<T> y;
    const T* bias;  // or null
    Index outputs;  // most output channels of a tile
};

// The rows of w of some output channels, in place or copied.
template <class T>
void find_channel_weights(ChannelTaps<T>& taps, T* room, const ChannelGroup<T>& group, Index k0,
                          Index outputs) {
    const Problem& problem = group.problem;
    const View<const T>& w = group.w;
    if (w.stride[3] == 1 && w.stride[2] == problem.s && w.stride[1] == problem.r * problem.s) {
        taps.w = w.data + k0 * w.stride[0];
        taps.w_pitch = w.stride[0];
        return;
    }
    taps.w = room;
    taps.w_pitch = taps.channels * taps.taps;
    for (Index k = k0; k < k0 + outputs; ++k) {
        for (Index c = 0; c < taps.channels; ++c) {
            for (Index r = 0; r < problem.r; ++r, room += problem.s) {
                copy_strided(room, w.data + k * w.stride[0] + c * w.stride[1] + r * w.stride[2],
                             w.stride[3], problem.s);
            }
        }
    }
}

template <class T>
void channel_block(const ChannelGroup<T>& group, const ChannelBlock& block, const Index* offsets,
                   const PlaneLayout& layout, T* scratch) {
    static constexpr ChannelTable<T> functions;
    constexpr Index kL = kLanes<T>;
    const Problem& problem = group.problem;
    const ChannelScratch parts = channel_scratch<T>(problem, block.rows, block.cols, group.outputs);
    T* tiles = scratch + parts.planes;
    copy_planes(scratch, group.x, block, layout, problem);
    ChannelTaps<T> taps{scratch, problem.c / problem.groups, layout.channel,
                        offsets, problem.r * problem.s,      nullptr,
                        0};
    const Index all = problem.k / problem.groups, sets = ceil_div(all, group.outputs);
    const Index vectors = parts.tile_pitch / kL;
    for (Index set = 0; set < sets; ++set) {
        const Index k0 = set * all / sets, outputs = (set + 1) * all / sets - k0;
        find_channel_weights(taps, tiles + parts.tiles, group, k0, outputs);
        const Index count = ceil_div(vectors, Index(channel_vectors(int(outputs))));
        for (Index i = 0; i < count; ++i) {
            const Index begin = i * vectors / count, end = (i + 1) * vectors / count;
            taps.x = scratch + begin * kL;
            functions.by_shape[outputs - 1][end - begin - 1](taps, tiles + begin * kL,
                                                             parts.tile_pitch);
        }
        View<T> y = group.y;
        y.data += k0 * y.stride[1];
        if (group.bias || problem.activation != Activation::kNone) {
            for (Index k = 0; k < outputs; ++k) {
                finish_row(tiles + k * parts.tile_pitch, parts.tile_pitch,
                           group.bias ? group.bias + k0 + k : nullptr, 0, problem.activation);
            }
        }
        store_tiles(tiles, parts.tile_pitch, y, outputs, block, layout.pitch);
    }
}

template <class T>
void channels_task(const ChannelsJob<T>& job, Index index, T* scratch) {
    const Problem& problem = job.problem;
    const ChannelsBlocking& blocking = job.blocking;
    const Operands<T>& arrays = job.arrays;
    const Index share = index % blocking.group_tasks;
    index /= blocking.group_tasks;
    const Index group_index = index % problem.groups, image = index / problem.groups;
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    ChannelGroup<T> group{problem,
                          arrays.x,
                          arrays.w,
                          arrays.y,
                          arrays.bias ? arrays.bias + group_index * outputs : nullptr,
                          blocking.outputs};
    group.x.data += image * group.x.stride[0] + group_index * channels * group.x.stride[1];
    group.w.data += group_index * outputs * group.w.stride[0];
    group.y.data += image * group.y.stride[0] + group_index * outputs * group.y.stride[1];

    Index offsets[kMaxChannelTaps];
    const Index blocks = blocking.row_blocks * blocking.col_blocks;
    const Index first = share * blocks / blocking.group_tasks;
    const Index last = (share + 1) * blocks / blocking.group_tasks;
    for (Index i = first; i < last; ++i) {
        const Index row_block = i / blocking.col_blocks, col_block = i % blocking.col_blocks;
        ChannelBlock block{};
        block.p0 = row_block * problem.p / blocking.row_blocks;
        block.rows = (row_block + 1) * problem.p / blocking.row_blocks - block.p0;
        block.q0 = col_block * problem.q / blocking.col_blocks;
        block.cols = (col_block + 1) * problem.q / blocking.col_blocks - block.q0;
        const PlaneLayout layout = plane_layout(problem, block.rows, block.cols);
        for (Index r = 0; r < problem.r; ++r) {
            for (Index s = 0; s < problem.s; ++s) {
                const Index plane =
                    r % layout.tall.period * layout.wide.used + s % layout.wide.period;
                offsets[r * problem.s + s] =
                    plane * layout.plane +
                    r / layout.tall.period * layout.tall.step * layout.pitch +
                    s / layout.wide.period * layout.wide.step;
            }
        }
        channel_block(group, block, offsets, layout, scratch);
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
