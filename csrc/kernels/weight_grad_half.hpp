// One task of the gradient of w for operands of 16 bits: what a box reads is widened to floats in
// the caller's layout, and the task of floats goes over that as if it were the image.
#pragma once

#include "kernels/half.hpp"
#include "kernels/weight_grad.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Rows (or columns) of x that a box reads, without the border.
struct Reach {
    Index begin, size;
};

inline Reach box_reach(Index first, Index extent, Index size) {
    const Index begin = least(most(first, 0), size);
    return {begin, most(begin, least(size, first + extent)) - begin};
}

inline Index axis_extent(Index outputs, Index taps, Index stride, Index dilation) {
    return (outputs - 1) * stride + (taps - 1) * dilation + 1;
}

// Channels [first, first + count) of a group.
struct ChannelRange {
    Index first, count;
};

// Rows of the product that are channels of x read in place are widened alone.
inline bool has_channel_rows(const WeightGradBlocking& b) {
    return !b.channel_lanes && b.x_in_place;
}

// The copies of a box.
struct HalfCopies {
    View<float> x, gy;
    Index x_elements, gy_elements;

    Index elements() const {
        constexpr Index kLine = 64 / Index(sizeof(float));
        return ceil_div(x_elements + gy_elements, kLine) * kLine;
    }
};

// An image of floats: channels of a pixel side by side, or planes, in different sets of the cache.
inline Index image_strides(Index (&stride)[4], bool channels_last, Index channels, Index rows,
                           Index cols) {
    if (!channels_last) {
        const Index plane = plane_pitch<float>(rows * cols);
        stride[0] = channels * plane;
        stride[1] = plane;
        stride[2] = cols;
        stride[3] = 1;
    } else {
        const Index pixel = channels < kCols<float> ? channels : plane_pitch<float>(channels);
        stride[0] = rows * cols * pixel;
        stride[1] = 1;
        stride[2] = cols * pixel;
        stride[3] = pixel;
    }
    return stride[0];
}

// Copies of boxes of at most so many pixels, and channels of x and gy.
inline HalfCopies half_copies(const Problem& problem, const PixelBox& box, Index of_x,
                              Index of_gy) {
    const Index height = axis_extent(box.rows, problem.r, problem.stride_h, problem.dilation_h);
    const Index width = axis_extent(box.cols, problem.s, problem.stride_w, problem.dilation_w);
    HalfCopies copies{};
    copies.x_elements =
        box.images * image_strides(copies.x.stride, problem.channels_last, of_x,
                                   least(height, problem.h), least(width, problem.w));
    copies.gy_elements = box.images * image_strides(copies.gy.stride, problem.channels_last, of_gy,
                                                    box.rows, box.cols);
    return copies;
}

inline HalfCopies placed(HalfCopies copies, float* memory) {
    copies.x.data = memory;
    copies.gy.data = memory + copies.x_elements;
    return copies;
}

template <class S>
void widen_run(float* to, const S* from, Index count) {
    constexpr Index kL = kLanes<float>;
    if (count < kL) {
        for (Index i = 0; i < count; ++i) to[i] = widen_one(from[i]);
        return;
    }
    for (Index i = 0; i + kL < count; i += kL) store(to + i, widen(from + i));
    // the last whole vector meets the one before it in the same values
    store(to + count - kL, widen(from + count - kL));
}

// Part of an image: whole rows at once where their elements are neighbours.
template <class S>
void widen_image(const View<float>& to, const View<const S>& from, Index channels, Index rows,
                 Index cols) {
    const bool planes = from.stride[3] == 1 && to.stride[3] == 1;
    if (planes) {
        const bool joined = from.stride[2] == cols && to.stride[2] == cols;
        const Index runs = joined ? 1 : rows, length = joined ? rows * cols : cols;
        for (Index c = 0; c < channels; ++c) {
            for (Index i = 0; i < runs; ++i) {
                widen_run(to.data + c * to.stride[1] + i * to.stride[2],
                          from.data + c * from.stride[1] + i * from.stride[2], length);
            }
        }
        return;
    }
    const bool pixels = from.stride[1] == 1 && to.stride[1] == 1;
    const bool joined = pixels && from.stride[3] == channels && to.stride[3] == channels;
    for (Index row = 0; row < rows; ++row) {
        float* line = to.data + row * to.stride[2];
        const S* source = from.data + row * from.stride[2];
        if (joined) {
            widen_run(line, source, cols * channels);
            continue;
        }
        for (Index col = 0; col < cols; ++col, line += to.stride[3], source += from.stride[3]) {
            if (pixels) {
                widen_run(line, source, channels);
                continue;
            }
            for (Index c = 0; c < channels; ++c) {
                line[c * to.stride[1]] = widen_one(source[c * from.stride[1]]);
            }
        }
    }
}

// Images [n, n + count) of `from`, from `channels` and the pixel (row, col) on.
template <class S>
View<const float> widen_box(const View<float>& to, View<const S> from, Index n, Index count,
                            const ChannelRange& channels, const Reach& rows, const Reach& cols) {
    from.data +=
        channels.first * from.stride[1] + rows.begin * from.stride[2] + cols.begin * from.stride[3];
    for (Index i = 0; i < count; ++i) {
        View<float> image = to;
        View<const S> source = from;
        image.data += i * to.stride[0];
        source.data += (n + i) * from.stride[0];
        widen_image(image, source, channels.count, rows.size, cols.size);
    }
    return {to.data, {to.stride[0], to.stride[1], to.stride[2], to.stride[3]}};
}

// A box as a problem of its own: what it reads of x is the image.
struct HalfPart {
    Problem problem;
    Box box;
    Reach rows, cols;  // of x
};

inline HalfPart half_part(const Problem& whole, const Box& box) {
    const Index top = box.p * whole.stride_h - whole.pad_top;
    const Index left = box.q * whole.stride_w - whole.pad_left;
    const Index height = axis_extent(box.rows, whole.r, whole.stride_h, whole.dilation_h);
    const Index width = axis_extent(box.cols, whole.s, whole.stride_w, whole.dilation_w);
    HalfPart part{whole,
                  {0, box.images, 0, box.rows, 0, box.cols},
                  box_reach(top, height, whole.h),
                  box_reach(left, width, whole.w)};
    part.problem.n = box.images;
    part.problem.h = part.rows.size;
    part.problem.w = part.cols.size;
    part.problem.p = box.rows;
    part.problem.q = box.cols;
    part.problem.pad_top = part.rows.begin - top;
    part.problem.pad_left = part.cols.begin - left;
    return part;
}

template <class S>
View<const float> widen_x(const HalfCopies& copies, const View<const S>& x, const Box& box,
                          const ChannelRange& channels, const HalfPart& part) {
    return widen_box(copies.x, x, box.n, box.images, channels, part.rows, part.cols);
}

template <class S>
View<const float> widen_gy(const HalfCopies& copies, const View<const S>& gy, const Box& box,
                           const ChannelRange& channels) {
    return widen_box(copies.gy, gy, box.n, box.images, channels, Reach{box.p, box.rows},
                     Reach{box.q, box.cols});
}

// Channels of x and gy that a task of the matrix product reads.
struct HalfChannels {
    ChannelRange x, gy;
};

inline HalfChannels half_channels(const Problem& problem, const WeightGradBlocking& b,
                                  const ChannelRange& lanes, const ChannelRange& rows) {
    if (b.channel_lanes) return {lanes, rows};
    return {has_channel_rows(b) ? rows : ChannelRange{0, problem.c / problem.groups}, lanes};
}

inline HalfCopies product_copies(const Problem& problem, const WeightGradBlocking& b) {
    const HalfChannels most = half_channels(problem, b, {0, least(b.lane_block, b.lanes)},
                                            {0, least(b.row_block, b.rows)});
    return half_copies(problem, b.box, most.x.count, most.gy.count);
}

template <class S>
Index half_grad_scratch(const Problem& problem, const WeightGradBlocking& b) {
    return weight_grad_scratch<float>(problem, b) + product_copies(problem, b).elements();
}

template <class S>
void half_grad_task(const HalfJob<S, WeightGradJob<float>>& job, Index index, float* memory) {
    const WeightGradBlocking& b = job.grad.blocking;
    const Problem& problem = job.grad.problem;
    const GradTask<float> task = make_grad_task(job.grad, index);
    const GradScratch<float> scratch = grad_scratch(b, memory);
    const HalfCopies copies =
        placed(product_copies(problem, b), memory + weight_grad_scratch<float>(problem, b));
    const Index group = grad_group(b, index);
    View<const S> x = job.x, gy = job.gy;
    x.data += group * (problem.c / problem.groups) * x.stride[1];
    gy.data += group * (problem.k / problem.groups) * gy.stride[1];
    const HalfChannels of =
        half_channels(problem, b, {task.lane0, task.lanes}, {task.row0, task.rows});
    const Index row0 = b.channel_lanes || has_channel_rows(b) ? 0 : task.row0;
    for (Index number = task.boxes.begin; number < task.boxes.end; ++number) {
        const Box box = make_box(problem, b.box, number);
        const HalfPart part = half_part(problem, box);
        const GradTask<float> local{part.problem,
                                    b,
                                    widen_x(copies, x, box, of.x, part),
                                    widen_gy(copies, gy, box, of.gy),
                                    task.gw,
                                    task.boxes,
                                    0,
                                    task.lanes,
                                    row0,
                                    task.rows};
        multiply_box(local, scratch, part.box, number == task.boxes.begin, nullptr);
    }
    store_task(task, static_cast<const float*>(scratch.sums));
}

template <class S>
void round_run(S* to, const float* from, Index count) {
    constexpr Index kL = kLanes<float>;
    Index i = 0;
    for (; i + kL <= count; i += kL) round_to(to + i, load(from + i));
    if (i == count) return;
    S rounded[kL];
    round_to(rounded, load_first(from + i, count - i));
    for (Index lane = 0; i < count; ++lane, ++i) to[i] = rounded[lane];
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
