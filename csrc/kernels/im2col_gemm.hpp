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
    if (depth.closes && task.out.by_pairs()) {
        fetch_pairs(task.out, span);
    } else if (depth.closes && task.out.channel_lanes && !task.out.direct) {
        fetch_turned(task.out, span);
    }
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
    for_passes(task, [&](const Task<T>& pass, bool first_pass) {
        for (Index block = 0; block < b.depth_blocks; ++block) {
            const Depth depth = begin_depth(pass, scratch, block);
            prepare_columns(pass, scratch, depth);
            begin_image(pass, scratch, depth, first_pass);
            border.begin_depth(depth.first, depth.count, scratch.x_offset);
            for (Index panel = 0; panel * kCols<T> < pass.cols; ++panel) {
                const bool finite = scratch.col_finite[panel];
                for_row_tiles(pass, [&](const RowTile& tile) {
                    const TileSteps steps = border.steps_of(tile, finite, depth.count);
                    const RowPanel<T> a =
                        b.borderless && steps.meets_border
                            ? pixel_rows(pass, scratch, tile.row, tile.rows, depth)
                            : bordered_rows(pass, scratch, tile, depth, steps);
                    multiply_tile(pass, scratch, a, tile, panel, depth, steps);
                });
            }
        }
    });
}

template <class T>
void im2col_gemm_task(const GemmJob<T>& job, Index index, void* memory) {
    const Blocking& b = job.blocking;
    const Task<T> task = make_task(job, index);
    const Scratch<T> scratch = make_scratch<T>(b, memory);
    if (b.bordered) return multiply_bordered(task, scratch);
    for_passes(task, [&](const Task<T>& pass, bool) {
        const Index panels = ceil_div(pass.cols, Index(kCols<T>));
        for (Index block = 0; block < b.depth_blocks; ++block) {
            const Depth depth = begin_depth(pass, scratch, block);
            const TileSteps steps = all_steps<T>(scratch, depth.count, false);
            prepare_columns(pass, scratch, depth);
            for_row_tiles(pass, [&](const RowTile& tile) {
                const RowPanel<T> a = b.channel_lanes
                                          ? pixel_rows(pass, scratch, tile.row, tile.rows, depth)
                                          : kernel_rows(pass, scratch, tile.row, tile.rows, depth);
                for (Index panel = 0; panel < panels; ++panel) {
                    multiply_tile(pass, scratch, a, tile, panel, depth, steps);
                }
            });
        }
    });
}

// A plan's weights, packed as the task of the same blocking reads them.
template <class T>
void im2col_gemm_pack(const Problem& problem, const Blocking& b, const View<const T>& w,
                      T* packed) {
    constexpr Index kPanels = 64;  // at a time
    const Index outputs = problem.k / problem.groups, channels = problem.c / problem.groups;
    const WeightSteps steps(w.stride, channels, problem.r, problem.s, b.taps_first);
    const Index step = b.channel_lanes ? kCols<T> : b.row_tile;
    const Index vectors = b.channel_lanes ? kVectors : kRowVectors<T>;
    const Index panel = b.depth * vectors * kLanes<T>;
    bool finite = b.channel_lanes;  // it matters there alone
    for (Index group = 0; group < problem.groups; ++group) {
        const T* kernels = w.data + group * outputs * w.stride[0];
        T* to = packed + group * packed_group_elements<T>(b);
        for (Index k = 0; k < outputs; k += kPanels * step, to += kPanels * panel) {
            const Index count = least(kPanels * step, outputs - k);
            bool of_panels[kPanels];
            pack_weights<T>({to, panel, step, vectors}, kernels + k * w.stride[0], w.stride[0],
                            count, steps, 0, b.depth, of_panels);
            for (Index i = 0; i < ceil_div(count, step); ++i) finite &= of_panels[i];
        }
    }
    packed[problem.groups * packed_group_elements<T>(b)] = finite ? T(1) : T(0);
}

// One panel of weights of several planes, those of a plane after those of the one before.
template <class T>
bool volume_pack(const Problem& problem, const Blocking& b, const View<const T>& w, Index panel,
                 T* packed) {
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    const Index steps = channels * problem.r * problem.s;
    const Index step = b.channel_lanes ? kCols<T> : b.row_tile;
    const Index vectors = b.channel_lanes ? kVectors : kRowVectors<T>;
    const Index first = panel * step, count = least(step, outputs - first);
    const WeightSteps of_plane(w.stride, channels, problem.r, problem.s, b.taps_first);
    bool finite = true;
    for (Index plane = 0; plane < problem.t; ++plane) {
        T* to = packed + (panel * b.packed_depth + plane * steps) * vectors * kLanes<T>;
        const T* from = w.data + first * w.stride[0] + plane * w.plane;
        bool finite_plane;
        pack_weights<T>({to, 0, step, vectors}, from, w.stride[0], count, of_plane, 0, steps,
                        &finite_plane);
        finite &= finite_plane;
    }
    return finite;
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
