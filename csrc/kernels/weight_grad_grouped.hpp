// One task of the gradient of w of groups of few channels: lanes are the input channels of several
// groups. A pixel of gy is spread so that each of them meets one output channel of its group, then
// the next, and the sums of several taps and output channels stay in registers.
#pragma once

#include "kernels/gemm_tile.hpp"
#include "kernels/pixel_boxes.hpp"
#include "kernels/weight_grad_half.hpp"
#include "kernels/weight_grad_store.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Taps that are added together with 1, 2, 4 or 8 output channels: as many as registers hold.
constexpr int kSpreadWidths = 4;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kSpreadTaps[kSpreadWidths] = {9, 9, 5, 3};
#else
constexpr int kSpreadTaps[kSpreadWidths] = {7, 5, 2, 1};
#endif

// What a box reads: a vector of x and one of gy a pixel, at offsets from pixel to pixel.
template <class T>
struct SpreadPixels {
    const T *x, *gy;
    const Index *x_offset, *gy_offset;
    Index pixels;
    const IntVec<T>* lane;  // of gy that each lane of x meets, of every output channel
};

// Adds the products of TAPS taps with OUTPUTS output channels: sums[tap][output][lane].
template <class T, int TAPS, int OUTPUTS>
void add_spread(T* sums, const SpreadPixels<T>& from, const Index* tap) {
    constexpr Index kL = kLanes<T>;
    Vec<T> acc[TAPS][OUTPUTS];
#pragma GCC unroll 9
    for (int t = 0; t < TAPS; ++t)
#pragma GCC unroll 8
        for (int j = 0; j < OUTPUTS; ++j) acc[t][j] = load(sums + (t * OUTPUTS + j) * kL);
    for (Index d = 0; d < from.pixels; ++d) {
        const T* x = from.x + from.x_offset[d];
        const Vec<T> pixel = load(from.gy + from.gy_offset[d]);
        Vec<T> image[TAPS];
#pragma GCC unroll 9
        for (int t = 0; t < TAPS; ++t) image[t] = load(x + tap[t]);
#pragma GCC unroll 8
        for (int j = 0; j < OUTPUTS; ++j) {
            const Vec<T> spread = permute<T>(pixel, from.lane[j]);
#pragma GCC unroll 9
            for (int t = 0; t < TAPS; ++t) acc[t][j] += image[t] * spread;
        }
    }
#pragma GCC unroll 9
    for (int t = 0; t < TAPS; ++t)
#pragma GCC unroll 8
        for (int j = 0; j < OUTPUTS; ++j) store(sums + (t * OUTPUTS + j) * kL, acc[t][j]);
}

template <class T>
using AddSpread = void (*)(T*, const SpreadPixels<T>&, const Index*);

// The functions, by the logarithm of their output channels and by taps (counted from one).
template <class T>
struct SpreadTable {
    AddSpread<T> by_shape[kSpreadWidths][kSpreadTaps[0]];

    template <int WIDTH, int TAPS>
    constexpr void fill() {
        by_shape[WIDTH][TAPS - 1] = add_spread<T, TAPS, 1 << WIDTH>;
        if constexpr (TAPS > 1) {
            fill<WIDTH, TAPS - 1>();
        } else if constexpr (WIDTH > 0) {
            fill<WIDTH - 1, kSpreadTaps[WIDTH - 1]>();
        }
    }
    constexpr SpreadTable() : by_shape{} {
        fill<kSpreadWidths - 1, kSpreadTaps[kSpreadWidths - 1]>();
    }
};

// Channels of a vector's groups, and the numbers of its sums.
struct SpreadShape {
    Index channels, outputs;  // of a group
    Index width, taps;        // outputs of a function: 1 << width

    Index sums() const { return taps << width; }  // vectors
};

inline SpreadShape spread_shape(const Problem& problem) {
    SpreadShape shape{};
    shape.channels = problem.c / problem.groups;
    shape.outputs = problem.k / problem.groups;
    while ((Index(1) << shape.width) < shape.outputs) {
        ++shape.width;
    }
    shape.taps = problem.r * problem.s;
    return shape;
}

// Elements of each part of a thread's scratch.
struct GroupedGradSizes {
    Index offsets, sums, x, gy;
};

template <class T>
GroupedGradSizes grouped_grad_sizes(const Problem& problem, const GroupedGradCut& cut) {
    constexpr Index kL = kLanes<T>;
    const Index pixels = cut.box.images * cut.box.rows * cut.box.cols;
    return {offset_elements<T>(pixels), cut.task_vectors * spread_shape(problem).sums() * kL,
            cut.box.images * cut.image_rows * cut.image_cols * kL, pixels * kL};
}

template <class T>
Index grouped_grad_scratch(const Problem& problem, const GroupedGradCut& cut) {
    const GroupedGradSizes size = grouped_grad_sizes<T>(problem, cut);
    constexpr Index kLine = 64 / Index(sizeof(T));
    return ceil_div(size.offsets + size.sums + size.x + size.gy, kLine) * kLine;
}

// One task: some vectors of groups, and copies of what one of them reads.
template <class T>
struct GroupedGradTask {
    const GroupedGradCut& cut;
    SpreadShape shape;
    BoxRange boxes;
    Index chunk;
    Index group, groups;  // of all vectors
    IntVec<T>* lane;
    Index *x_offset, *gy_offset;
    T *sums, *x_copy, *gy_copy;
};

template <class T>
GroupedGradTask<T> make_grouped_task(const Problem& problem, const GroupedGradCut& cut, Index index,
                                     T* memory, IntVec<T>* lane) {
    const GroupedGradSizes size = grouped_grad_sizes<T>(problem, cut);
    const Index part = index % cut.parts, chunk = index / cut.parts;
    const Index pixels = cut.box.images * cut.box.rows * cut.box.cols;
    GroupedGradTask<T> task{
        cut,    spread_shape(problem), {}, chunk, 0, 0, lane, nullptr, nullptr, nullptr, nullptr,
        nullptr};
    task.boxes = chunk_boxes(cut.boxes, cut.chunks, chunk);
    task.group = part * cut.task_vectors * cut.groups;
    task.groups = least(cut.task_vectors * cut.groups, problem.groups - task.group);
    task.x_offset = reinterpret_cast<Index*>(memory);
    task.gy_offset = task.x_offset + pixels;
    task.sums = memory + size.offsets;
    task.x_copy = task.sums + size.sums;
    task.gy_copy = task.x_copy + size.x;
    const SpreadShape& shape = task.shape;
    for (Index j = 0; j < Index(1) << shape.width; ++j) {
        for (Index i = 0; i < kLanes<T>; ++i) {
            // lanes without a channel or an output repeat one
            const Index group = least(i / shape.channels, cut.groups - 1);
            lane[j][i] = group * shape.outputs + least(j, shape.outputs - 1);
        }
    }
    fill_zero(task.sums, size.sums);
    return task;
}

// Adds the products of a box to the sums of one vector of groups, whose first channels `x` and `gy`
// begin with.
template <class T>
void add_grouped(const GroupedGradTask<T>& task, const Problem& problem, const Box& box, T* sums,
                 const View<const T>& x, const View<const T>& gy, Index groups) {
    static constexpr SpreadTable<T> table;
    constexpr Index kL = kLanes<T>;
    const GroupedGradCut& cut = task.cut;
    const SpreadShape& shape = task.shape;
    const Index row = cut.image_cols * kL, image = cut.image_rows * row;
    const ImageCopy copy{cut.image_rows, cut.image_cols, cut.step_h, cut.step_w};
    gather_bordered_box(task.x_copy, kL, x, problem, box, copy, groups * shape.channels);
    SpreadPixels<T> from{task.x_copy,    task.gy_copy, task.x_offset,
                         task.gy_offset, box.pixels(), task.lane};
    pixel_offsets(task.x_offset, box, image, problem.stride_h / cut.step_h * row,
                  problem.stride_w / cut.step_w * kL);
    if (gy.stride[1] == 1 && groups * shape.outputs == kL) {
        from.gy = gy.data + box.n * gy.stride[0] + box.p * gy.stride[2] + box.q * gy.stride[3];
        pixel_offsets(task.gy_offset, box, gy.stride[0], gy.stride[2], gy.stride[3]);
    } else {
        gather_box(task.gy_copy, kL, gy, problem, box, groups * shape.outputs);
        for (Index d = 0; d < from.pixels; ++d) task.gy_offset[d] = d * kL;
    }
    Index tap[kMaxChannelTaps];
    for (Index t = 0; t < shape.taps; ++t) {
        tap[t] = t / problem.s * problem.dilation_h * row + t % problem.s * problem.dilation_w * kL;
    }
    const Index calls = ceil_div(shape.taps, kSpreadTaps[shape.width]);
    const Index together = ceil_div(shape.taps, calls);
    for (Index t = 0; t < shape.taps; t += together) {
        const Index taps = least(together, shape.taps - t);
        table.by_shape[shape.width][taps - 1](sums, from, tap + t);
        sums += (taps << shape.width) * kL;
    }
}

// Adds a box; the channels of the task's first group are the first of both views.
template <class T>
void add_grouped_box(const GroupedGradTask<T>& task, const Problem& problem, const Box& box,
                     View<const T> x, View<const T> gy) {
    const GroupedGradCut& cut = task.cut;
    T* sums = task.sums;
    for (Index group = 0; group < task.groups; group += cut.groups) {
        add_grouped(task, problem, box, sums, x, gy, least(cut.groups, task.groups - group));
        sums += task.shape.sums() * kLanes<T>;
        x.data += cut.groups * task.shape.channels * x.stride[1];
        gy.data += cut.groups * task.shape.outputs * gy.stride[1];
    }
}

template <class T>
void store_grouped_grad(const GroupedGradTask<T>& task, const Problem& problem, const View<T>& gw) {
    constexpr Index kL = kLanes<T>;
    const SpreadShape& shape = task.shape;
    const Index width = Index(1) << shape.width;
    for (Index group = 0; group < task.groups; ++group) {
        const T* vector = task.sums + group / task.cut.groups * shape.sums() * kL +
                          group % task.cut.groups * shape.channels;
        for (Index k = 0; k < shape.outputs; ++k) {
            const T* from = vector + k * kL;
            T* to = gw.data + ((task.group + group) * shape.outputs + k) * gw.stride[0];
            for (Index c = 0; c < shape.channels; ++c, to += gw.stride[1], ++from) {
                for (Index t = 0; t < shape.taps; ++t) {
                    to[t / problem.s * gw.stride[2] + t % problem.s * gw.stride[3]] =
                        from[t * width * kL];
                }
            }
        }
    }
}

template <class T>
void grouped_grad_task(const GroupedGradJob<T>& job, Index index, T* memory) {
    const Problem& problem = job.problem;
    IntVec<T> lane[kMostGroupOutputs];
    const GroupedGradTask<T> task = make_grouped_task<T>(problem, job.cut, index, memory, lane);
    View<const T> x = job.x, gy = job.gy;
    x.data += task.group * task.shape.channels * x.stride[1];
    gy.data += task.group * task.shape.outputs * gy.stride[1];
    for (Index box = task.boxes.begin; box < task.boxes.end; ++box) {
        add_grouped_box(task, problem, make_box(problem, job.cut.box, box), x, gy);
    }
    store_grouped_grad(task, problem, chunk_result(problem, job.gw, job.partial, task.chunk));
}

inline HalfCopies grouped_copies(const Problem& problem, const GroupedGradCut& cut) {
    const SpreadShape shape = spread_shape(problem);
    const Index groups = cut.task_vectors * cut.groups;
    return half_copies(problem, cut.box, groups * shape.channels, groups * shape.outputs);
}

template <class S>
Index half_grouped_scratch(const Problem& problem, const GroupedGradCut& cut) {
    return grouped_grad_scratch<float>(problem, cut) + grouped_copies(problem, cut).elements();
}

template <class S>
void half_grouped_task(const HalfJob<S, GroupedGradJob<float>>& job, Index index, float* memory) {
    const Problem& problem = job.grad.problem;
    const GroupedGradCut& cut = job.grad.cut;
    IntVec<float> lane[kMostGroupOutputs];
    const GroupedGradTask<float> task = make_grouped_task(problem, cut, index, memory, lane);
    const HalfCopies copies =
        placed(grouped_copies(problem, cut), memory + grouped_grad_scratch<float>(problem, cut));
    const SpreadShape& shape = task.shape;
    const ChannelRange of_x{task.group * shape.channels, task.groups * shape.channels};
    const ChannelRange of_gy{task.group * shape.outputs, task.groups * shape.outputs};
    for (Index number = task.boxes.begin; number < task.boxes.end; ++number) {
        const Box box = make_box(problem, cut.box, number);
        const HalfPart part = half_part(problem, box);
        add_grouped_box(task, part.problem, part.box, widen_x(copies, job.x, box, of_x, part),
                        widen_gy(copies, job.gy, box, of_gy));
    }
    store_grouped_grad(task, problem,
                       chunk_result(problem, job.grad.gw, job.grad.partial, task.chunk));
}

template <class S>
constexpr HalfGradKernels<S> half_grads() {
    return {half_grad_scratch<S>, half_grad_task<S>, half_grouped_scratch<S>, half_grouped_task<S>,
            round_run<S>};
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
