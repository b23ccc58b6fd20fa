// One task of a depthwise convolution: every output channel reads one input channel.
#pragma once

#include "kernels/copy.hpp"
#include "kernels/depthwise_channels.hpp"
#include "kernels/depthwise_planes.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class E>
void depthwise_task(const DepthwiseJob<E>& job, Index task, char* memory) {
    auto* const scratch = reinterpret_cast<DepthwiseSum<E>*>(memory);
    const DepthwiseCut& cut = job.cut;
    fill_zero(scratch, cut.slot_pitch);
    const Index begin = task * cut.task_units, end = least(cut.units, begin + cut.task_units);
    if (!cut.channel_lanes) return plane_units(job, begin, end, scratch);
    for (Index unit = begin; unit < end; ++unit) channel_unit(job, unit, scratch);
}

template <class E>
constexpr DepthwiseKernels<E> depthwise_kernels() {
    using T = DepthwiseSum<E>;
    return {kLanes<T>,         sizeof(T),        depthwise_geometry<E>, depthwise_scratch<E>,
            depthwise_task<E>, depthwise_pack<E>};
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
