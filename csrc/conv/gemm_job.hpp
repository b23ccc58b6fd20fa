// What a job of the implicit GEMM leaves to the strides of its arrays: results do not depend on it.
#pragma once

#include <algorithm>
#include <numeric>

#include "conv/gemm_blocking.hpp"

namespace fastconv {

// A 1x1 kernel that touches every pixel once sees an image as one long row; y may keep its own.
template <class T>
void join_rows(Problem& problem, const Operands<T>& arrays) {
    const bool pointwise = problem.r == 1 && problem.s == 1 && problem.stride_h == 1 &&
                           problem.stride_w == 1 && problem.p == problem.h &&
                           problem.q == problem.w && problem.pad_top == 0 && problem.pad_left == 0;
    const bool dense_x = arrays.x.stride[2] == problem.w * arrays.x.stride[3];
    if (!pointwise || !dense_x) return;
    problem.w *= problem.h;
    problem.q *= problem.p;
    problem.h = problem.p = 1;
}

// Whether rows of weights that are read in place, side by side in each step, as those of a 1x1
// gradient of x are, have their steps in a few sets of the first-level cache: one line of each is
// read again for every panel of columns.
template <class T>
bool steps_crowd_cache_sets(const Problem& problem, const Blocking& blocking,
                            const View<const T>& w) {
    constexpr Index kSetBytes = 4096, kFewLines = 384;
    const bool side_by_side = w.stride[0] == 1 && problem.t * problem.r * problem.s == 1;
    const Index pitch = std::gcd(w.stride[1] * Index(sizeof(T)), kSetBytes);
    return side_by_side && blocking.depth_block * std::max<Index>(pitch / 64, 1) > kFewLines;
}

// Sees rows as one where they are, and reads in place what the caches and the kernels can.
template <class T>
void fit_to_arrays(GemmJob<T>& job) {
    const Operands<T>& arrays = job.arrays;
    join_rows(job.problem, job.arrays);
    const Index pixel_pitch = job.problem.stride_w * arrays.x.stride[3] * Index(sizeof(T));
    if (job.blocking.channel_lanes) {
        job.blocking.direct_pixels &= !crowds_cache_sets(pixel_pitch);
    } else {
        job.blocking.direct_pixels &= job.problem.stride_w * arrays.x.stride[3] == 1;
    }
    job.blocking.direct_kernels = !crowds_cache_sets(arrays.w.stride[0] * Index(sizeof(T))) &&
                                  !steps_crowd_cache_sets(job.problem, job.blocking, arrays.w);
}

}  // namespace fastconv
