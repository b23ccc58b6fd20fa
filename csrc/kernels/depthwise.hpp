// One task of a depthwise convolution: every output channel reads one input channel.
#pragma once

#include "kernels/copy.hpp"
#include "kernels/depthwise_channels.hpp"
#include "kernels/depthwise_planes.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
void depthwise_task(const DepthwiseJob<T>& job, Index task, T* scratch) {
    const DepthwiseCut& cut = job.cut;
    fill_zero(scratch, cut.slot_pitch);
    const Index begin = task * cut.task_units, end = least(cut.units, begin + cut.task_units);
    if (!cut.channel_lanes) return plane_units(job, begin, end, scratch);
    for (Index unit = begin; unit < end; ++unit) channel_unit(job, unit, scratch);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
