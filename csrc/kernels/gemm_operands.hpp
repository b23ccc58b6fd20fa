// Operands of the implicit GEMM: where a task reads pixels and weights, and what it packs for that.
#pragma once

#include "kernels/bordered_image.hpp"
#include "kernels/gemm_task.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// A stretch of the reduction.
struct Depth {
    Index first, count;
    bool dense_weights;  // its steps are consecutive in w, where weights are rows
    bool opens, closes;  // the reduction begins, ends here
};

template <class T>
Depth begin_depth(const Task<T>& task, const Scratch<T>& scratch, Index block) {
    const Blocking& b = task.blocking;
    const Problem& problem = task.slice.problem;
    const View<const T>&x = task.slice.x, &w = task.slice.w;
    const Index first = block * b.depth_block, count = least(b.depth_block, b.depth - first);
    const StepStrides image{b.image.channel, problem.dilation_h * b.image.row,
                            problem.dilation_w * b.image.pixel};
    const StepStrides in_place{x.stride[1], problem.dilation_h * x.stride[2],
                               problem.dilation_w * x.stride[3]};
    if (b.bordered && !b.taps_first) {
        // channels of all planes follow each other in the copy
        step_offsets(scratch.x_offset, 0, count, false, task.slice.channels, problem.r, problem.s,
                     b.borderless ? in_place : image);
    } else {
        const bool copied = b.bordered && !b.borderless;
        step_offsets_of_planes(scratch.x_offset, first, count, b.taps_first, task.slice,
                               copied ? image : in_place,
                               copied ? b.image.plane : problem.dilation_d * x.plane);
    }
    bool dense = false;
    if (!task.packed && !b.channel_lanes) {
        step_offsets(scratch.w_offset, first, count, b.taps_first, task.slice.channels, problem.r,
                     problem.s, {w.stride[1], w.stride[2], w.stride[3]});
        dense = consecutive(scratch.w_offset, count);
    }
    return {first, count, dense, block == 0, block + 1 == b.depth_blocks};
}

// The first of `count` consecutive output pixels in x, if they lie in one row of y and all their
// taps inside of the image; null otherwise.
template <class T>
const T* inside_pixels(const Slice<T>& slice, Index first, Index count) {
    const Problem& problem = slice.problem;
    const Index p = first / problem.q, q = first % problem.q;
    const Index row = p * problem.stride_h - problem.pad_top;
    const Index column = q * problem.stride_w - problem.pad_left;
    const Index last_row = row + (problem.r - 1) * problem.dilation_h;
    const Index last_column =
        column + (count - 1) * problem.stride_w + (problem.s - 1) * problem.dilation_w;
    const bool inside = q + count <= problem.q && row >= 0 && column >= 0 && last_row < problem.h &&
                        last_column < problem.w;
    return inside ? slice.x.data + row * slice.x.stride[2] + column * slice.x.stride[3] : nullptr;
}

template <class T>
struct RowPanel {
    Operand<T> operand;
    RowPitch pitch;
};

// Copies what the task reads in this stretch of the reduction: all channels at once where they
// are the last of its steps, and in the first pass alone.
template <class T>
void begin_image(const Task<T>& task, const Scratch<T>& scratch, const Depth& depth,
                 bool first_pass) {
    const Blocking& b = task.blocking;
    const Problem& problem = task.slice.problem;
    const Index p = task.row0 / problem.q, rows = task.rows / problem.q;
    if (b.borderless) return;
    const Index channels = task.slice.channels, taps = problem.r * problem.s;
    if (b.taps_first) {
        if (!depth.opens || !first_pass) return;
        for (Index plane = 0; plane < problem.t; ++plane) {
            copy_bordered_image(scratch.image + plane * b.image.plane,
                                plane_of(task.slice, plane).x, problem, b.image, p, rows, 0,
                                channels);
        }
        return;
    }
    for_planes(channels, depth.first / taps, depth.count / taps, [&](const PlanePart& part) {
        copy_bordered_image(scratch.image + part.at * b.image.channel,
                            plane_of(task.slice, part.plane).x, problem, b.image, p, rows,
                            part.first, part.count);
    });
}

// Pixels as rows, in the copy or in x: those of one row of y, or of two with a half of the tile
// each.
template <class T>
RowPanel<T> bordered_rows(const Task<T>& task, const Scratch<T>& scratch, const RowTile& tile,
                          const Depth& depth, const TileSteps& steps) {
    const Index row = tile.row, rows = tile.rows;
    const Problem& problem = task.slice.problem;
    const ImageBlock& image = task.blocking.image;
    const View<const T>& x = task.slice.x;
    const bool copied = !task.blocking.borderless;
    const Index p = (copied ? row - task.row0 : row) / problem.q, q = row % problem.q;
    const Index down = problem.stride_h * (copied ? image.row : x.stride[2]);
    const Index pitch = problem.stride_w * (copied ? image.pixel : x.stride[3]);
    const T* first = scratch.image + p * down + q * pitch;
    if (!copied) {
        first = x.data + p * down - problem.pad_top * x.stride[2] + q * pitch -
                problem.pad_left * x.stride[3];
        if (!task.blocking.taps_first) {
            first += depth.first / (problem.r * problem.s) * x.stride[1];
        }
    }
    const Index half = rows > problem.q ? down : kHalfRows * pitch;
    return {{first, steps.x, rows * pitch}, {pitch, half}};
}

// Pixels as rows.
template <class T>
RowPanel<T> pixel_rows(const Task<T>& task, const Scratch<T>& scratch, Index row, Index rows,
                       const Depth& depth) {
    const Slice<T>& slice = task.slice;
    const T* inside = task.blocking.direct_pixels ? inside_pixels(slice, row, rows) : nullptr;
    if (inside) {
        const Index pitch = slice.problem.stride_w * slice.x.stride[3];
        // whole pixels, one behind the other
        const bool dense = slice.x.stride[1] == 1 && pitch == depth.count;
        return {{inside, scratch.x_offset, rows * pitch, dense ? rows - 1 : 0},
                RowPitch::even(pitch)};
    }
    const bool taps_first = task.blocking.taps_first;
    for_planes(plane_steps(slice), depth.first, depth.count, [&](const PlanePart& part) {
        const Slice<T> met = plane_of(slice, part.plane);
        if (taps_first) {
            pack_pixel_rows(scratch.rows + part.at, met, row, rows, part.first, part.count);
        } else {
            pack_pixel_panel<kRowVectors<T>>(scratch.rows + part.at * kStepPitch<T>, met, row, rows,
                                             part.first, part.count);
        }
    });
    if (taps_first) {
        return {{scratch.rows, kEvenSteps<T, 1>.offset, 0}, RowPitch::even(kRowPitch<T>)};
    }
    return {{scratch.rows, kEvenSteps<T, kStepPitch<T>>.offset, 0}, RowPitch::even(1)};
}

template <class T>
WeightSteps weight_steps(const Task<T>& task) {
    const Problem& problem = task.slice.problem;
    return {task.slice.w.stride, task.slice.channels, problem.r, problem.s,
            task.blocking.taps_first};
}

// Output channels as rows.
template <class T>
RowPanel<T> kernel_rows(const Task<T>& task, const Scratch<T>& scratch, Index row, Index rows,
                        const Depth& depth) {
    if (task.packed) {
        const Index panel = row / task.blocking.row_tile;
        const T* from =
            task.packed + packed_step(task.blocking, panel, depth.first) * kStepPitch<T>;
        return {{from, kEvenSteps<T, kStepPitch<T>>.offset, 0}, RowPitch::even(1)};
    }
    const View<const T>& w = task.slice.w;
    const T* kernels = w.data + row * w.stride[0];
    if (task.blocking.direct_kernels) {
        return {{kernels, scratch.w_offset, 0}, RowPitch::even(w.stride[0])};
    }
    if (depth.dense_weights) {
        copy_weights(scratch.rows, kernels + scratch.w_offset[0], w.stride[0], rows, depth.count);
        return {{scratch.rows, kEvenSteps<T, 1>.offset, 0}, RowPitch::even(kRowPitch<T>)};
    }
    bool finite;
    pack_weights<T>({scratch.rows, 0, kStepPitch<T>, kRowVectors<T>}, kernels, w.stride[0], rows,
                    weight_steps(task), depth.first, depth.count, &finite);
    return {{scratch.rows, kEvenSteps<T, kStepPitch<T>>.offset, 0}, RowPitch::even(1)};
}

// Finds or packs every column panel of the block for one stretch of the reduction.
template <class T>
void prepare_columns(const Task<T>& task, const Scratch<T>& scratch, const Depth& depth) {
    constexpr int kC = kCols<T>;
    const Blocking& b = task.blocking;
    const Index begun = depth.first % b.pass_depth, opened = depth.first - begun;
    const Index pass_depth = least(b.pass_depth, b.depth - opened);
    if (b.channel_lanes && !task.packed && begun == 0) {
        const View<const T>& w = task.slice.w;
        pack_weights<T>({scratch.cols, kC * pass_depth, kC, kVectors},
                        w.data + task.col0 * w.stride[0], w.stride[0], task.cols,
                        weight_steps(task), opened, pass_depth, scratch.col_finite);
    }
    for (Index panel = 0; panel * kC < task.cols; ++panel) {
        const Index col = task.col0 + panel * kC, count = least(kC, task.cols - panel * kC);
        const T* inside = nullptr;
        if (b.channel_lanes && task.packed) {
            scratch.col_operand[panel] = task.packed + packed_step(b, col / kC, depth.first) * kC;
            scratch.col_finite[panel] = task.finite;
        } else if (b.channel_lanes) {
            scratch.col_operand[panel] = scratch.cols + (panel * pass_depth + begun) * kC;
        } else {
            T* to = scratch.cols + panel * kC * depth.count;
            if (b.direct_pixels && count % kLanes<T> == 0) {
                inside = inside_pixels(task.slice, col, count);
            }
            if (!inside) {
                for_planes(plane_steps(task.slice), depth.first, depth.count,
                           [&](const PlanePart& part) {
                               pack_pixel_panel<kVectors>(to + part.at * kC,
                                                          plane_of(task.slice, part.plane), col,
                                                          count, part.first, part.count);
                           });
            }
            scratch.col_operand[panel] = inside ? inside : to;
        }
        scratch.col_direct[panel] = inside != nullptr;
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
