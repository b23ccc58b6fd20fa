// Everything that one instruction set computes of one type: the sources that include this,
// isa_float.cpp and isa_double.cpp, are compiled side by side. Everything but the table has
// internal linkage, and no standard C++ header is included: the linker may keep one copy of an
// inline function for the whole library, and must not find one compiled for a newer processor here.
#pragma once

#include "kernels/deform.hpp"
#include "kernels/depthwise.hpp"
#include "kernels/direct_channels.hpp"
#include "kernels/direct_filter.hpp"
#include "kernels/direct_pointwise.hpp"
#include "kernels/direct_signal.hpp"
#include "kernels/dot_product.hpp"
#include "kernels/fold.hpp"
#include "kernels/im2col_gemm.hpp"
#include "kernels/input_grad_depthwise.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pack_taps.hpp"
#include "kernels/peak.hpp"
#include "kernels/weight_grad.hpp"
#include "kernels/weight_grad_depthwise.hpp"
#include "kernels/weight_grad_grouped.hpp"
#include "kernels/winograd.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
constexpr Kernels<T> kernels() {
    Kernels<T> table{};
    table.tile = {kRows, kCols<T>};
    table.lanes = kLanes<T>;
    table.has_masks = kHasMaskedLoad;
    table.max_depth_block = kMaxDepthBlock<T>;
    table.row_panel_lanes = kStepPitch<T>;
    table.half_rows = kHalfRows;
    table.im2col_gemm_scratch = im2col_gemm_scratch<T>;
    table.im2col_gemm_task = im2col_gemm_task<T>;
    table.im2col_gemm_packed = packed_group_elements<T>;
    table.im2col_gemm_pack = im2col_gemm_pack<T>;
    table.volume_pack = volume_pack<T>;
    table.pack_taps = pack_taps<T>;
    table.deform_pack = deform_pack<T>;
    table.deform_task = deform_task<T>;
    table.interleave_channels = interleave_channels<T>;
    table.depthwise = depthwise_kernels<T>();
    table.dot_images = kDotImages;
    table.dot_scratch = dot_scratch<T>;
    table.dot_task = dot_task<T>;
    table.filter_tile = {kFilterRows, kFilterVectors};
    table.filter_pack = filter_pack<T>;
    table.filter_task = filter_task<T>;
    table.signal_tiles = kSignalTiles;
    table.signal_pack = signal_pack<T>;
    table.signal_task = signal_task<T>;
    table.channel_outputs = kChannelOutputs;
    table.channels_scratch = channels_scratch<T>;
    table.channels_packed = lane_weights<T>;
    table.channels_pack = pack_lanes<T>;
    table.channels_task = channels_task<T>;
    table.pointwise_task = pointwise_task<T>;
    table.winograd_row_tile = kRows;
    table.winograd_scratch = winograd_scratch<T>;
    table.winograd_task = winograd_task<T>;
    table.winograd_pack = winograd_pack_task<T>;
    table.weight_grad_scratch = weight_grad_scratch<T>;
    table.weight_grad_task = weight_grad_task<T>;
    table.holds_nine_taps = kHoldsNineTaps;
    table.depthwise_grad_scratch = depthwise_grad_scratch<T>;
    table.depthwise_grad_task = depthwise_grad_task<T>;
    table.fold_rows = fold_rows<T>;
    table.finish_row = finish_row<T>;
    table.input_grad_planes = input_grad_planes<T>;
    table.input_grad_pixels = input_grad_pixels<T>;
    table.grouped_grad_scratch = grouped_grad_scratch<T>;
    table.grouped_grad_task = grouped_grad_task<T>;
    if constexpr (sizeof(T) == sizeof(float)) {
        table.float16_grads = half_grads<Float16>();
        table.bfloat16_grads = half_grads<Bfloat16>();
    }
    table.peak_loop = peak_loop<T>;
    return table;
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
