// One task of the direct convolution of groups of few channels: blocks of y of one image and group.
//
// The rows of x that a block reads are copied with their border, all with one pitch, so that pixels
// of y are consecutive lanes across its rows: small maps waste only the lanes between two rows.
#pragma once

#include "kernels/channel_lanes.hpp"
#include "kernels/channel_planes.hpp"
#include "kernels/channel_tile.hpp"
#include "kernels/finish.hpp"
#include "kernels/kernels.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr Index kChannelLine = 64;  // bytes; parts of scratch begin at cache lines

// Parts of a task's scratch in elements: the lists of vectors, of their segments and of
// the steps of the reduction; the copy of x; the weights of one set of output channels, where w
// cannot be read in place.
struct ChannelScratch {
    Index vectors, segments, offsets, planes, weights;
};

template <class T>
ChannelScratch channel_scratch(const Problem& problem, Index rows, Index cols, Index outputs) {
    const PlaneLayout layout = plane_layout<T>(problem, rows, cols);
    const Index channels = problem.c / problem.groups;
    const Index vectors = count_lanes<T>(rows, cols, layout.pitch).vectors;
    const Index depth = channels * problem.r * problem.s;
    Index channel = layout.channel;
    if (kHasChannelLanes) channel = most(channel, row_layout<T>(problem, rows, cols).channel);
    const auto line = [](Index bytes) {
        return ceil_div(bytes, kChannelLine) * (kChannelLine / Index(sizeof(T)));
    };
    return {line(vectors * Index(sizeof(LaneVector))),
            line((vectors + rows) * Index(sizeof(LaneSegment))),
            line(depth * Index(sizeof(std::int32_t))), channels * channel, outputs * depth};
}

template <class T>
Index channels_scratch(const Problem& problem, Index rows, Index cols, Index outputs) {
    const ChannelScratch parts = channel_scratch<T>(problem, rows, cols, outputs);
    return parts.vectors + parts.segments + parts.offsets + parts.planes + parts.weights;
}

// Fills the lists for a block of this size, given the distances of rows and pixels of y.
template <class T>
LaneCount list_vectors(LaneVector* vectors, LaneSegment* segments, Index rows, Index cols,
                       Index pitch, Index y_row, Index y_pixel) {
    constexpr Index kL = kLanes<T>;
    const LaneCount count = count_lanes<T>(rows, cols, pitch);
    Index used = 0;
    if (!count.across) {
        const Index of_row = ceil_div(cols, kL);
        for (Index i = 0; i < count.vectors; ++i) {
            const Index row = i / of_row;
            // the last vector of a row reaches back where it would reach beyond
            const Index col = most(Index(0), least(i % of_row * kL, cols - kL));
            vectors[i] = {row * pitch + col, used, 1};
            segments[used++] = {row * y_row + col * y_pixel, 0, int(least(kL, cols))};
        }
        return count;
    }
    for (Index i = 0; i < count.vectors; ++i) {
        vectors[i] = {i * kL, used, 0};
        for (Index lane = 0; lane < kL;) {
            const Index row = (i * kL + lane) / pitch, col = (i * kL + lane) % pitch;
            if (row >= rows) break;
            const Index end = least(kL, lane + cols - col);
            if (end > lane) {
                segments[used++] = {row * y_row + (col - lane) * y_pixel, int(lane), int(end)};
                ++vectors[i].segments;
            }
            lane += pitch - col;
        }
    }
    return count;
}

// Arrays of one image and group.
template <class T>
struct ChannelGroup {
    const Problem& problem;
    View<const T> x, w;
    View<T> y;
    const T* bias;    // or null
    Index outputs;    // most output channels of a tile
    const T* packed;  // weights for output channels as lanes, or null
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
    taps.w_pitch = taps.depth;
    for (Index k = k0; k < k0 + outputs; ++k) {
        for (Index c = 0; c < problem.c / problem.groups; ++c) {
            for (Index r = 0; r < problem.r; ++r, room += problem.s) {
                copy_strided(room, w.data + k * w.stride[0] + c * w.stride[1] + r * w.stride[2],
                             w.stride[3], problem.s);
            }
        }
    }
}

// Computes one tile through a buffer: for activations, and where pixels of y are apart.
template <class T>
void buffered_tile(ChannelFunction<T> function, const ChannelTaps<T>& taps,
                   const ChannelTarget<T>& target, Index outputs, Index vectors, Index pixel_pitch,
                   Activation activation) {
    constexpr Index kL = kLanes<T>, kPitch = kManyVectors * kL;
    alignas(64) T buffer[kChannelOutputs * kPitch];
    function(taps, {buffer, kPitch, nullptr});
    for (Index k = 0; k < outputs; ++k) {
        T* row = buffer + k * kPitch;
        for (Index j = 0; j < vectors; ++j, row += kL) {
            const Vec<T> pixels = activate<T>(load(row), activation);
            store(row, pixels);
            const LaneSegment* segment = target.segments + taps.vectors[j].first_segment;
            for (Index i = 0; i < taps.vectors[j].segments; ++i, ++segment) {
                T* to = target.to + k * target.pitch + segment->to;
                if (pixel_pitch == 1) {
                    store_lanes(to, pixels, segment->begin, segment->end);
                } else {
                    for (int lane = segment->begin; lane < segment->end; ++lane) {
                        to[lane * pixel_pitch] = row[lane];
                    }
                }
            }
        }
    }
}

// Where the steps of the reduction are, from a pixel in the copy of x.
inline void list_steps(std::int32_t* offsets, const PlaneLayout& layout, const Problem& problem) {
    const Phases &tall = layout.tall, &wide = layout.wide;
    const Index taps = problem.r * problem.s, depth = problem.c / problem.groups * taps;
    std::int32_t* first = offsets;
    for (Index r = 0; r < problem.r; ++r) {
        const Index row =
            r % tall.period * layout.tall_phase + r / tall.period * tall.step * layout.pitch;
        for (Index s = 0; s < problem.s; ++s, ++first) {
            *first = std::int32_t(row + s % wide.period * layout.wide_phase +
                                  s / wide.period * wide.step);
        }
    }
    // the other channels follow the first ones, twice as many each time
    for (Index known = taps; known < depth; known *= 2) {
        const std::int32_t further = std::int32_t(known / taps * layout.channel);
        const Index count = least(known, depth - known);
        std::int32_t* __restrict const to = offsets + known;
        const std::int32_t* __restrict const from = offsets;
        for (Index d = 0; d < count; ++d) to[d] = from[d] + further;
    }
}

// What the tiles of one size of block share.
template <class T>
struct BlockPlan {
    PlaneLayout layout;
    LaneVector* vectors;
    LaneSegment* segments;
    std::int32_t* offsets;
    Index depth;
    T *planes, *weights;
    LaneCount count;
};

template <class T>
void plan_block(BlockPlan<T>& plan, const ChannelGroup<T>& group, Index rows, Index cols,
                T* scratch) {
    const ChannelScratch parts = channel_scratch<T>(group.problem, rows, cols, group.outputs);
    plan.layout = group.packed ? row_layout<T>(group.problem, rows, cols)
                               : plane_layout<T>(group.problem, rows, cols);
    plan.vectors = reinterpret_cast<LaneVector*>(scratch);
    plan.segments = reinterpret_cast<LaneSegment*>(scratch += parts.vectors);
    plan.offsets = reinterpret_cast<std::int32_t*>(scratch += parts.segments);
    plan.planes = scratch += parts.offsets;
    plan.weights = scratch + parts.planes;
    if (!group.packed) {
        plan.count = list_vectors<T>(plan.vectors, plan.segments, rows, cols, plan.layout.pitch,
                                     group.y.stride[2], group.y.stride[3]);
    }
    plan.depth = group.problem.c / group.problem.groups * group.problem.r * group.problem.s;
    list_steps(plan.offsets, plan.layout, group.problem);
}

template <class T>
void channel_block(const ChannelGroup<T>& group, const ChannelBlock& block,
                   const BlockPlan<T>& plan) {
    static constexpr ChannelTable<T> functions;
    const Problem& problem = group.problem;
    copy_planes(plan.planes, group.x, block, plan.layout, problem);
    ChannelTaps<T> taps{plan.planes, nullptr, plan.offsets, plan.depth, nullptr, 0, nullptr};
    const Index all = problem.k / problem.groups;
    if constexpr (kHasChannelLanes) {
        if (group.packed) {
            View<T> at = group.y;
            at.data += block.p0 * at.stride[2] + block.q0 * at.stride[3];
            const LaneTaps<T> lanes{plan.planes,
                                    plan.layout.pitch,
                                    plan.offsets,
                                    plan.depth,
                                    group.packed,
                                    group.bias,
                                    0};
            return lane_block(lanes, at, all, block.rows, block.cols, problem.activation);
        }
    }
    const Index sets = ceil_div(all, group.outputs);
    const View<T>& y = group.y;
    const bool buffered = y.stride[3] != 1 || problem.activation != Activation::kNone;
    const Index vectors = plan.count.vectors;
    for (Index set = 0; set < sets; ++set) {
        const Index k0 = set * all / sets, outputs = (set + 1) * all / sets - k0;
        find_channel_weights(taps, plan.weights, group, k0, outputs);
        taps.bias = group.bias ? group.bias + k0 : nullptr;
        const ChannelTarget<T> target{
            y.data + k0 * y.stride[1] + block.p0 * y.stride[2] + block.q0 * y.stride[3],
            y.stride[1], plan.segments};
        const Index tiles = ceil_div(vectors, Index(channel_vectors(int(outputs))));
        for (Index i = 0; i < tiles; ++i) {
            const Index begin = i * vectors / tiles, end = (i + 1) * vectors / tiles;
            taps.vectors = plan.vectors + begin;
            const ChannelFunction<T> function = functions.by_shape[outputs - 1][end - begin - 1];
            if (buffered) {
                buffered_tile(function, taps, target, outputs, end - begin, y.stride[3],
                              problem.activation);
            } else {
                function(taps, target);
            }
        }
    }
}

inline ChannelBlock find_block(const Problem& problem, const ChannelsBlocking& blocking, Index i) {
    const Index row = i / blocking.col_blocks, col = i % blocking.col_blocks;
    const Index p0 = row * problem.p / blocking.row_blocks;
    const Index q0 = col * problem.q / blocking.col_blocks;
    return {p0, (row + 1) * problem.p / blocking.row_blocks - p0, q0,
            (col + 1) * problem.q / blocking.col_blocks - q0};
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
                          blocking.outputs,
                          nullptr};
    if (arrays.packed) {
        group.packed =
            static_cast<const T*>(arrays.packed) + group_index * lane_weights<T>(problem);
    }
    group.x.data += image * group.x.stride[0] + group_index * channels * group.x.stride[1];
    group.w.data += group_index * outputs * group.w.stride[0];
    group.y.data += image * group.y.stride[0] + group_index * outputs * group.y.stride[1];

    BlockPlan<T> plan{};
    Index rows = 0, cols = 0;  // that the plan is for
    const Index blocks = blocking.row_blocks * blocking.col_blocks;
    const Index last = (share + 1) * blocks / blocking.group_tasks;
    for (Index i = share * blocks / blocking.group_tasks; i < last; ++i) {
        const ChannelBlock block = find_block(problem, blocking, i);
        if (block.rows != rows || block.cols != cols) {
            rows = block.rows;
            cols = block.cols;
            plan_block(plan, group, rows, cols, scratch);
        }
        channel_block(group, block, plan);
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
