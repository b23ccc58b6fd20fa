// Volumes: the reduction runs over the planes of the kernel, one after the other, and within each
// over the steps of a convolution of images. Planes of x are read where they lie.
#pragma once

#include "kernels/pack.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Steps [first, first + count) of one plane of the kernel, which are steps [at, at + count) of a
// stretch of the reduction.
struct PlanePart {
    Index plane, first, count, at;
};

// Calls `visit` for each plane that has some of the `count` steps from `first` on.
template <class Visit>
void for_planes(Index plane_steps, Index first, Index count, Visit visit) {
    for (Index at = 0; at < count;) {
        const Index plane = (first + at) / plane_steps, begin = (first + at) % plane_steps;
        const Index steps = least(plane_steps - begin, count - at);
        visit(PlanePart{plane, begin, steps, at});
        at += steps;
    }
}

// Steps of one plane of the kernel.
template <class T>
inline Index plane_steps(const Slice<T>& slice) {
    return slice.channels * slice.problem.r * slice.problem.s;
}

// What one plane of the kernel is multiplied with.
template <class T>
inline Slice<T> plane_of(const Slice<T>& slice, Index plane) {
    Slice<T> met = slice;
    met.x.data += plane * slice.problem.dilation_d * slice.x.plane;
    return met;
}

// Offsets of steps [first, first + count), as step_offsets lists them, with planes `pitch` apart.
template <class T>
void step_offsets_of_planes(Index* offset, Index first, Index count, bool taps_first,
                            const Slice<T>& slice, StepStrides stride, Index pitch) {
    const Problem& problem = slice.problem;
    for_planes(plane_steps(slice), first, count, [&](const PlanePart& part) {
        Index* to = offset + part.at;
        step_offsets(to, part.first, part.count, taps_first, slice.channels, problem.r, problem.s,
                     stride);
        const Index shift = part.plane * pitch;
        if (shift == 0) return;
        for (Index d = 0; d < part.count; ++d) to[d] += shift;
    });
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
