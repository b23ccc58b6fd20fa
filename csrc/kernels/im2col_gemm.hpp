// One task of the im2col GEMM: a block of rows times a block of columns, the whole reduction.
//
// Either side of the product is read where it lies if the micro-kernel can walk it there, and
// packed otherwise: pixels whose taps all lie inside of the image need no copy, nor do those of a
// block that was copied with its border; weights of a plan are packed before.
#pragma once

#include "kernels/border_taps.hpp"
#include "kernels/gemm_operands.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// A row tile times one column panel of the task, for one stretch of the reduction.
template <class T>
void multiply_tile(const Task<T>& task, const Scratch<T>& scratch, const RowPanel<T>& a,
                   const RowTile& tile, Index panel, const Depth& depth, const TileSteps& steps) {
    static constexpr TileTable<T> tiles;
    constexpr int kC = kCols<T>, kL = kLanes<T>;
    const bool sums = task.blocking.sums_in_scratch;
    const Index col = task.col0 + panel * kC, cols = least(kC, task.cols - panel * kC);
    const Index vectors = ceil_div(cols, kL);
    const auto& by_shape = steps.skipped ? tiles.skipping : tiles.by_shape;
    const bool even = vectors == 1 && steps.even && !scratch.col_direct[panel];
    const TileFunction<T> function =
        even ? tiles.even[tile.rows - 1] : by_shape[vectors - 1][tile.rows - 1];
    const Operand<T> b{scratch.col_operand[panel],
                       scratch.col_direct[panel] ? scratch.x_offset : steps.w, 0};
    const TileSpan span{tile.row, tile.rows, col, cols};
    if (depth.closes && task.out.channel_lanes && !task.out.direct) fetch_turned(task.out, span);
    T* y = cols == vectors * kL ? task.out.in_place(span) : nullptr;
    if (y) {
        function(steps.count, a.operand, a.pitch, b, y, task.out.row_pitch, !depth.opens,
                 steps.skipped);
        if (depth.closes) {
            finish_tile(task.slice.problem, task.bias, task.out, y, task.out.row_pitch, span);
        }
        return;
    }
    alignas(64) T buffer[kRows * kC];
    const Index panels = ceil_div(task.cols, Index(kC));
    T* c = sums ? scratch.sums + (tile.index * panels + panel) * kRows * kC : buffer;
    if (!sums && !depth.opens) load_tile(c, task.out, span);
    function(steps.count, a.operand, a.pitch, b, c, kC, !depth.opens, steps.skipped);
    if (depth.closes) finish_tile(task.slice.problem, task.bias, task.out, c, Index(kC), span);
    if (depth.closes || !sums) store_tile(c, task.out, span);
}

// Pixels are rows and read from a copy with their border, or in x where no tap that is kept meets
// it. Rows need no packing: a panel of weights stays in the cache while all pass by.
template <class T>
void multiply_bordered(const Task<T>& task, const Scratch<T>& scratch) {
    const Blocking& b = task.blocking;
    BorderTaps<T> border(task, scratch);
    for (Index block = 0; block < b.depth_blocks; ++block) {
        const Depth depth = begin_depth(task, scratch, block);
        prepare_columns(task, scratch, depth);
        begin_image(task, scratch, depth);
        border.begin_depth(depth.first, depth.count, scratch.x_offset);
        for (Index panel = 0; panel * kCols<T> < task.cols; ++panel) {
            const bool finite = scratch.col_finite[panel];
            for_row_tiles(task, [&](const RowTile& tile) {
                const TileSteps steps = border.steps_of(tile, finite, depth.count);
                const RowPanel<T> a = b.borderless && steps.meets_border
                                          ? pixel_rows(task, scratch, tile.row, tile.rows, depth)
                                          : bordered_rows(task, scratch, tile, depth, steps);
                multiply_tile(task, scratch, a, tile, panel, depth, steps);
            });
        }
    }
}

template <class T>
void im2col_gemm_task(const GemmJob<T>& job, Index index, void* memory) {
    const Blocking& b = job.blocking;
    const Task<T> task = make_task(job, index);
    const Scratch<T> scratch = make_scratch<T>(b, memory);
    if (b.bordered) return multiply_bordered(task, scratch);
    const Index panels = ceil_div(task.cols, Index(kCols<T>));
    for (Index block = 0; block < b.depth_blocks; ++block) {
        const Depth depth = begin_depth(task, scratch, block);
        const TileSteps steps = all_steps<T>(scratch, depth.count, false);
        prepare_columns(task, scratch, depth);
        for_row_tiles(task, [&](const RowTile& tile) {
            const RowPanel<T> a = b.channel_lanes
                                      ? pixel_rows(task, scratch, tile.row, tile.rows, depth)
                                      : kernel_rows(task, scratch, tile.row, tile.rows, depth);
            for (Index panel = 0; panel < panels; ++panel) {
                multiply_tile(task, scratch, a, tile, panel, depth, steps);
            }
        });
    }
}

// A plan's weights, packed as the task of the same blocking reads them.
template <class T>
void im2col_gemm_pack(const Problem& problem, const Blocking& b, const View<const T>& w,
                      T* packed) {
    const Index outputs = problem.k / problem.groups, channels = problem.c / problem.groups;
    Index offset[kMaxDepthBlock<T>];
    bool finite = b.channel_lanes;  // it matters there alone
    const Index step = b.channel_lanes ? kCols<T> : b.row_tile;
    const Index pitch = b.channel_lanes ? kCols<T> : kStepPitch<T>;
    for (Index group = 0; group < problem.groups; ++group) {
        T* to_group = packed + group * packed_group_elements<T>(b);
        for (Index first = 0; first < b.depth; first += kMaxDepthBlock<T>) {
            const Index depth = least(kMaxDepthBlock<T>, b.depth - first);
            step_offsets(offset, first, depth, b.taps_first, channels, problem.r, problem.s,
                         {w.stride[1], w.stride[2], w.stride[3]});
            const bool dense = consecutive(offset, depth);
            for (Index k = 0; k < outputs; k += step) {
                const T* kernels = w.data + (group * outputs + k) * w.stride[0];
                const Index count = least(step, outputs - k);
                T* to = to_group + (k / step * b.packed_depth + first) * pitch;
                if (b.channel_lanes) {
                    finite &=
                        pack_kernel_panel(to, kernels, w.stride[0], count, offset, depth, dense);
                } else {
                    pack_kernel_steps(to, kernels, w.stride[0], count, offset, depth);
                }
            }
        }
    }
    packed[problem.groups * packed_group_elements<T>(b)] = finite ? T(1) : T(0);
}

// Whether all of `vectors` vectors are finite: 0 * w is 0 then.
template <class T>
bool all_finite(const T* values, Index vectors) {
    Vec<T> zeros[4] = {};  // sums that do not wait for each other
    for (Index i = 0; i < vectors; ++i) zeros[i % 4] += load(values + i * kLanes<T>) * T(0);
    const Vec<T> sum = (zeros[0] + zeros[1]) + (zeros[2] + zeros[3]);
    bool finite = true;
    for (int lane = 0; lane < kLanes<T>; ++lane) finite &= sum[lane] == 0;
    return finite;
}

// One panel of weights of several planes, those of a plane after those of the one before.
template <class T>
bool volume_pack(const Problem& problem, const Blocking& b, const View<const T>& w, Index panel,
                 T* packed) {
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    const Index steps = channels * problem.r * problem.s;
    const Index step = b.channel_lanes ? kCols<T> : b.row_tile;
    const Index pitch = b.channel_lanes ? kCols<T> : kStepPitch<T>;
    const Index first = panel * step, count = least(step, outputs - first);
    const T* kernels = w.data + first * w.stride[0];
    Index offset[kMaxDepthBlock<T>];
    bool finite = true;
    for (Index begin = 0; begin < steps; begin += kMaxDepthBlock<T>) {
        const Index depth = least(kMaxDepthBlock<T>, steps - begin);
        step_offsets(offset, begin, depth, b.taps_first, channels, problem.r, problem.s,
                     {w.stride[1], w.stride[2], w.stride[3]});
        const bool dense = consecutive(offset, depth);
        for (Index plane = 0; plane < problem.t; ++plane) {
            const T* from = kernels + plane * w.plane;
            T* to = packed + (panel * b.packed_depth + plane * steps + begin) * pitch;
            if (b.channel_lanes) {
                pack_kernel_panel(to, from, w.stride[0], count, offset, depth, dense);
            } else {
                pack_kernel_steps(to, from, w.stride[0], count, offset, depth);
            }
            finite &= all_finite(to, depth * pitch / kLanes<T>);
        }
    }
    return finite;
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
