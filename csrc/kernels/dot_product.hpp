// Images that shrink to one pixel: each output is the dot product of its weights and the image, and
// weights are read once, where they lie. Lanes run along the reduction.
#pragma once

#include "kernels/border.hpp"
#include "kernels/copy.hpp"
#include "kernels/finish.hpp"
#include "kernels/kernels.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Outputs and images computed together: sums, one vector of weights for each image's load.
constexpr int kDotOutputs = 8;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kDotImages = 2;  // of 32 registers
#else
constexpr int kDotImages = 1;
#endif

// Vectors from which rows of weights are fetched ahead: many short streams, which the hardware does
// not follow.
constexpr int kDotAhead = 8;

// Elements of one image or one output's weights in scratch, whole vectors.
template <class T>
Index dot_row(const Problem& problem) {
    const Index depth = problem.c / problem.groups * problem.r * problem.s;
    return ceil_div(depth, Index(kLanes<T>)) * kLanes<T>;
}

template <class T>
Index dot_scratch(const Problem& problem) {
    return (kDotImages + 1) * dot_row<T>(problem);
}

// Strides of channels, kernel rows and columns.
struct DotStrides {
    Index c, r, s;

    // Whether (c, r, s), or (r, s, c), lie one after the other.
    bool dense(const Problem& problem, Index channels) const {
        const Index row = problem.channels_last ? problem.s * channels : problem.s;
        const Index next = problem.channels_last ? channels : 1;
        const bool channel = problem.channels_last ? c == 1 : c == problem.r * problem.s;
        return (channels == 1 || channel) && (problem.r == 1 || r == row) &&
               (problem.s == 1 || s == next);
    }
};

// Gathers in the order of the reduction, zeros up to a whole vector.
template <class T>
void gather_dot(T* to, const T* from, const DotStrides& stride, const Problem& problem,
                Index channels) {
    const Index depth = channels * problem.r * problem.s;
    if (stride.dense(problem, channels)) {
        copy_run(to, from, depth);
        return fill_zero(to + depth, dot_row<T>(problem) - depth);
    }
    const Index outer = problem.channels_last ? 1 : channels;
    const Index inner = problem.channels_last ? channels : 1;
    Index d = 0;
    for (Index c0 = 0; c0 < outer; ++c0) {
        for (Index r = 0; r < problem.r; ++r) {
            for (Index s = 0; s < problem.s; ++s) {
                const T* tap = from + c0 * stride.c + r * stride.r + s * stride.s;
                for (Index c = 0; c < inner; ++c) to[d++] = tap[c * stride.c];
            }
        }
    }
    fill_zero(to + d, dot_row<T>(problem) - d);
}

// The same tree for every output: lanes, then halves of them.
template <class T>
inline T sum_of_lanes(Vec<T> v) {
    alignas(64) T lane[kLanes<T>];
    store(lane, v);
    for (int half = kLanes<T> / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
    }
    return lane[0];
}

// OUTPUTS rows of w, `w_pitch` apart, times IMAGES rows of x, `x_pitch` apart. The last vector of a
// row of w may be a part: what is behind the array must not be read.
template <class T, int OUTPUTS, int IMAGES>
void dot_tile(T* sums, const T* w, Index w_pitch, const T* x, Index x_pitch, Index depth) {
    constexpr int kL = kLanes<T>;
    Vec<T> acc[OUTPUTS][IMAGES];
#pragma GCC unroll 8
    for (int k = 0; k < OUTPUTS; ++k)
#pragma GCC unroll 2
        for (int n = 0; n < IMAGES; ++n) acc[k][n] = Vec<T>{};
    Index d = 0;
    for (; d + kL <= depth; d += kL) {
        Vec<T> pixel[IMAGES];
#pragma GCC unroll 2
        for (int n = 0; n < IMAGES; ++n) pixel[n] = load(x + n * x_pitch + d);
#pragma GCC unroll 8
        for (int k = 0; k < OUTPUTS; ++k) {
            const T* weights = w + k * w_pitch + d;
            __builtin_prefetch(weights + kDotAhead * kL);
            const Vec<T> weight = load(weights);
#pragma GCC unroll 2
            for (int n = 0; n < IMAGES; ++n) acc[k][n] += weight * pixel[n];
        }
    }
    if (d < depth) {
#pragma GCC unroll 8
        for (int k = 0; k < OUTPUTS; ++k) {
            alignas(64) T rest[kL] = {};
            copy_short<T, kL>(rest, w + k * w_pitch + d, depth - d);
#pragma GCC unroll 2
            for (int n = 0; n < IMAGES; ++n) acc[k][n] += load(rest) * load(x + n * x_pitch + d);
        }
    }
    for (int k = 0; k < OUTPUTS; ++k) {
        for (int n = 0; n < IMAGES; ++n) sums[n * kDotOutputs + k] = sum_of_lanes<T>(acc[k][n]);
    }
}

template <class T, int IMAGES>
void dot_outputs(T* sums, Index outputs, const T* w, Index w_pitch, const T* x, Index x_pitch,
                 Index depth) {
    if (outputs == kDotOutputs) {
        return dot_tile<T, kDotOutputs, IMAGES>(sums, w, w_pitch, x, x_pitch, depth);
    }
    for (Index k = 0; k < outputs; ++k) {
        dot_tile<T, 1, IMAGES>(sums + k, w + k * w_pitch, w_pitch, x, x_pitch, depth);
    }
}

// Outputs [first, first + count) of one group, of up to kDotImages images.
template <class T>
void dot_task(const DotJob<T>& job, Index index, T* scratch) {
    const Problem& problem = job.problem;
    const Operands<T>& arrays = job.arrays;
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    const Index block = index % job.blocks;
    index /= job.blocks;
    const Index group = index % problem.groups, image0 = index / problem.groups * kDotImages;
    const Index images = least(kDotImages, problem.n - image0);
    const Index depth = channels * problem.r * problem.s, row = dot_row<T>(problem);
    const View<const T>&x = arrays.x, &w = arrays.w;
    const DotStrides in_x{x.stride[1], problem.dilation_h * x.stride[2],
                          problem.dilation_w * x.stride[3]};
    const DotStrides in_w{w.stride[1], w.stride[2], w.stride[3]};
    for (Index n = 0; n < images; ++n) {
        gather_dot(scratch + n * row,
                   x.data + (image0 + n) * x.stride[0] + group * channels * x.stride[1], in_x,
                   problem, channels);
    }
    T* gathered = scratch + kDotImages * row;
    const bool dense = in_w.dense(problem, channels);
    const Index end = least(outputs, (block + 1) * job.block);
    const Index step = dense ? kDotOutputs : 1;
    for (Index k = block * job.block; k < end; k += step) {
        const Index count = least(step, end - k), output = group * outputs + k;
        const T* weights = w.data + output * w.stride[0];
        if (!dense) {
            gather_dot(gathered, weights, in_w, problem, channels);
            weights = gathered;
        }
        T sums[kDotImages * kDotOutputs];
        if (images == kDotImages) {
            dot_outputs<T, kDotImages>(sums, count, weights, w.stride[0], scratch, row, depth);
        } else {
            dot_outputs<T, 1>(sums, count, weights, w.stride[0], scratch, row, depth);
        }
        for (Index n = 0; n < images; ++n) {
            T* sum = sums + n * kDotOutputs;
            finish_row(sum, count, arrays.bias ? arrays.bias + output : nullptr, 1,
                       problem.activation);
            T* y = arrays.y.data + (image0 + n) * arrays.y.stride[0] + output * arrays.y.stride[1];
            for (Index i = 0; i < count; ++i) y[i * arrays.y.stride[1]] = sum[i];
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
