// What one task of the gradient of w reads: lanes and rows of its tiles, in place or copied.
//
// Lanes are read pixel by pixel, so that they are turned where channels lie in planes; rows are
// broadcast from wherever they are.
#pragma once

#include "kernels/gemm_tile.hpp"
#include "kernels/pack.hpp"
#include "kernels/pixel_boxes.hpp"
#include "kernels/weight_grad_store.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
struct GradScratch {
    T* sums;  // of every tile of the task
    T *lanes, *rows;
    Index *lane_offset, *row_offset;  // of each pixel of a box
};

// Elements of each part.
struct GradSizes {
    Index sums, lanes, rows, pixels;
};

// Copied planes of rows begin in different sets of the cache.
template <class T>
Index plane_pitch(Index pixels) {
    constexpr Index kLine = 64 / Index(sizeof(T));
    return (ceil_div(pixels, kLine) | 1) * kLine;
}

// Copied pixels hold the rows of one task, or all taps of all channels.
template <class T>
Index pixel_pitch(const WeightGradBlocking& b) {
    return plane_pitch<T>(b.channel_lanes ? least(b.row_block, b.rows) : b.rows);
}

template <class T>
GradSizes grad_sizes(const WeightGradBlocking& b) {
    const Index pixels = b.box.images * b.box.rows * b.box.cols;
    const Index panels = b.lane_block / kCols<T>;
    const Index tiles = ceil_div(least(b.row_block, b.rows), b.row_tile);
    GradSizes size{};
    size.pixels = pixels;
    size.sums = panels * tiles * b.taps * kRows * kCols<T>;
    const Index lane_pixels = b.channel_lanes ? b.box.images * b.image_rows * b.image_cols : pixels;
    size.lanes = panels * lane_pixels * kCols<T>;
    size.rows =
        b.pixel_major ? pixels * pixel_pitch<T>(b) : tiles * b.row_tile * plane_pitch<T>(pixels);
    if (b.kernel_rows) {
        size.rows = b.box.images * b.image_rows * b.image_cols * b.row_tile;
    }
    return size;
}

template <class T>
Index offset_elements(Index pixels) {
    constexpr Index kLine = 64 / Index(sizeof(T));
    return ceil_div(2 * pixels * Index(sizeof(Index)), Index(64)) * kLine;
}

template <class T>
Index weight_grad_scratch(const Problem&, const WeightGradBlocking& b) {
    const GradSizes size = grad_sizes<T>(b);
    constexpr Index kLine = 64 / Index(sizeof(T));
    const Index elements = offset_elements<T>(size.pixels) + size.sums + size.lanes + size.rows;
    return ceil_div(elements, kLine) * kLine;
}

template <class T>
GradScratch<T> grad_scratch(const WeightGradBlocking& b, T* memory) {
    const GradSizes size = grad_sizes<T>(b);
    Index* offsets = reinterpret_cast<Index*>(memory);
    T* sums = memory + offset_elements<T>(size.pixels);
    return {sums, sums + size.sums, sums + size.sums + size.lanes, offsets, offsets + size.pixels};
}

// One task's coordinates, and the arrays of its group.
template <class T>
struct GradTask {
    const Problem& problem;
    const WeightGradBlocking& blocking;
    View<const T> x, gy;
    View<T> gw;
    BoxRange boxes;
    Index lane0, lanes, row0, rows;
};

inline Index grad_group(const WeightGradBlocking& b, Index task) {
    return task / (b.row_blocks * b.lane_blocks * b.chunks);
}

template <class T>
GradTask<T> make_grad_task(const WeightGradJob<T>& job, Index index) {
    const WeightGradBlocking& b = job.blocking;
    const Index group = grad_group(b, index);
    const Problem& problem = job.problem;
    const Index row_block = index % b.row_blocks;
    index /= b.row_blocks;
    const Index lane_block = index % b.lane_blocks;
    index /= b.lane_blocks;
    const Index chunk = index % b.chunks;
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    View<const T> x = job.x, gy = job.gy;
    x.data += group * channels * x.stride[1];
    gy.data += group * outputs * gy.stride[1];
    View<T> gw = chunk_result(problem, job.gw, job.partial, chunk);
    gw.data += group * outputs * gw.stride[0];
    const Index lane0 = lane_block * b.lane_block, row0 = row_block * b.row_block;
    return {problem, b,
            x,       gy,
            gw,      chunk_boxes(b.boxes, b.chunks, chunk),
            lane0,   least(b.lane_block, b.lanes - lane0),
            row0,    least(b.row_block, b.rows - row0)};
}

// An operand of the tiles: step d of panel or row tile i begins at data + i * panel + offset[d],
// and of tap (r, s) `row` and `col` further for each.
template <class T>
struct GradSide {
    const T* data;
    Index panel;
    Index row, col;
    Index pitch;  // from row to row of a tile
};

// Lanes that are channels of x.
template <class T>
GradSide<T> image_lanes(const GradTask<T>& task, const GradScratch<T>& scratch, const Box& box) {
    constexpr Index kC = kCols<T>;
    const Problem& problem = task.problem;
    const WeightGradBlocking& b = task.blocking;
    const View<const T>& x = task.x;
    if (b.x_in_place) {
        pixel_offsets(scratch.lane_offset, box, x.stride[0], problem.stride_h * x.stride[2],
                      problem.stride_w * x.stride[3]);
        const T* first = x.data + box.n * x.stride[0] + box.p * problem.stride_h * x.stride[2] +
                         box.q * problem.stride_w * x.stride[3];
        return {first + task.lane0, kC, problem.dilation_h * x.stride[2],
                problem.dilation_w * x.stride[3], 0};
    }
    const Index row = b.image_cols * kC, image = b.image_rows * row;
    const ImageCopy copy{b.image_rows, b.image_cols, b.step_h, b.step_w};
    // memory is read in order: all channels of a pixel, or rows of the planes of one panel
    const Index panel = b.box.images * image, together = x.stride[1] == 1 ? task.lanes : kC;
    for (Index lane = 0; lane < task.lanes; lane += together) {
        View<const T> first = x;
        first.data += (task.lane0 + lane) * x.stride[1];
        gather_bordered_box(scratch.lanes + lane / kC * panel, PixelPitch(kC, panel, kC), first,
                            problem, box, copy, least(together, task.lanes - lane));
    }
    pixel_offsets(scratch.lane_offset, box, image, problem.stride_h / b.step_h * row,
                  problem.stride_w / b.step_w * kC);
    return {scratch.lanes, panel, problem.dilation_h * row, problem.dilation_w * kC, 0};
}

// Lanes that are channels of gy.
template <class T>
GradSide<T> output_lanes(const GradTask<T>& task, const GradScratch<T>& scratch, const Box& box) {
    constexpr Index kC = kCols<T>;
    const View<const T>& gy = task.gy;
    if (task.blocking.gy_in_place) {
        pixel_offsets(scratch.lane_offset, box, gy.stride[0], gy.stride[2], gy.stride[3]);
        const T* first =
            gy.data + box.n * gy.stride[0] + box.p * gy.stride[2] + box.q * gy.stride[3];
        return {first + task.lane0, kC, 0, 0, 0};
    }
    const Index pixels = box.pixels(), together = gy.stride[1] == 1 ? task.lanes : kC;
    for (Index lane = 0; lane < task.lanes; lane += together) {
        View<const T> first = gy;
        first.data += (task.lane0 + lane) * gy.stride[1];
        gather_box(scratch.lanes + lane * pixels, PixelPitch(kC, pixels * kC, kC), first,
                   task.problem, box, least(together, task.lanes - lane));
    }
    for (Index d = 0; d < pixels; ++d) scratch.lane_offset[d] = d * kC;
    return {scratch.lanes, pixels * kC, 0, 0, 0};
}

// Rows that are channels of gy.
template <class T>
GradSide<T> output_rows(const GradTask<T>& task, const GradScratch<T>& scratch, const Box& box) {
    const WeightGradBlocking& b = task.blocking;
    const View<const T>& gy = task.gy;
    View<const T> first = gy;
    first.data += task.row0 * gy.stride[1];
    if (b.gy_in_place) {
        pixel_offsets(scratch.row_offset, box, gy.stride[0], gy.stride[2], gy.stride[3]);
        const T* data =
            first.data + box.n * gy.stride[0] + box.p * gy.stride[2] + box.q * gy.stride[3];
        return {data, b.row_tile * gy.stride[1], 0, 0, gy.stride[1]};
    }
    const Index pixels = box.pixels();
    if (b.pixel_major) {
        const Index pitch = pixel_pitch<T>(b);
        gather_box(scratch.rows, pitch, first, task.problem, box, task.rows);
        for (Index d = 0; d < pixels; ++d) scratch.row_offset[d] = d * pitch;
        return {scratch.rows, b.row_tile, 0, 0, 1};
    }
    const Index pitch = plane_pitch<T>(b.box.images * b.box.rows * b.box.cols);
    for (Index row = 0; row < task.rows; ++row) {
        T* to = scratch.rows + row * pitch;
        const T* plane = first.data + row * gy.stride[1];
        for (Index i = 0; i < box.images; ++i) {
            for (Index p = 0; p < box.rows; ++p, to += box.cols) {
                copy_strided(to,
                             plane + (box.n + i) * gy.stride[0] + (box.p + p) * gy.stride[2] +
                                 box.q * gy.stride[3],
                             gy.stride[3], box.cols);
            }
        }
    }
    for (Index d = 0; d < pixels; ++d) scratch.row_offset[d] = d;
    return {scratch.rows, b.row_tile * pitch, 0, 0, pitch};
}

// The pixels that one tap of one channel meets in a box, one plane.
template <class T>
void gather_tap(T* to, const GradTask<T>& task, const Box& box, Index row) {
    const Problem& problem = task.problem;
    const View<const T>& x = task.x;
    const Index taps = problem.r * problem.s, c = row / taps, r = row % taps / problem.s;
    const Index s = row % problem.s;
    TapRun<T> run{};
    run.column = box.q * problem.stride_w + s * problem.dilation_w - problem.pad_left;
    run.length = box.cols;
    run.inside = inside_lanes(run.column, problem.stride_w, run.length, problem.w);
    const Index top = box.p * problem.stride_h + r * problem.dilation_h - problem.pad_top;
    for (Index i = 0; i < box.images; ++i) {
        const T* plane = x.data + (box.n + i) * x.stride[0] + c * x.stride[1];
        for (Index p = 0; p < box.rows; ++p, to += box.cols) {
            const Index source =
                source_index(top + p * problem.stride_h, problem.h, problem.pad_mode);
            if (source < 0) {
                fill_zero(to, box.cols);
            } else {
                gather_run(to, plane + source * x.stride[2], run, problem, x.stride[3]);
            }
        }
    }
}

// The same for all channels and taps of each pixel, (r, s, c): runs of channels.
template <class T>
void gather_taps(T* to, Index pitch, const GradTask<T>& task, const Box& box) {
    const Problem& problem = task.problem;
    const View<const T>& x = task.x;
    const Index channels = problem.c / problem.groups;
    const bool runs = x.stride[1] == 1 && x.stride[3] == channels && problem.dilation_w == 1;
    for (Index i = 0; i < box.images; ++i) {
        const T* image = x.data + (box.n + i) * x.stride[0];
        for (Index p = box.p; p < box.p + box.rows; ++p) {
            for (Index q = box.q; q < box.q + box.cols; ++q, to += pitch) {
                const Index left = q * problem.stride_w - problem.pad_left;
                const bool whole = runs && left >= 0 && left + problem.s <= problem.w;
                T* run = to;
                for (Index r = 0; r < problem.r; ++r) {
                    const Index source = source_index(
                        p * problem.stride_h + r * problem.dilation_h - problem.pad_top, problem.h,
                        problem.pad_mode);
                    const T* row = image + source * x.stride[2];
                    if (source < 0) {
                        fill_zero(run, problem.s * channels);
                        run += problem.s * channels;
                        continue;
                    }
                    if (whole) {
                        copy_run(run, row + left * x.stride[3], problem.s * channels);
                        run += problem.s * channels;
                        continue;
                    }
                    for (Index s = 0; s < problem.s; ++s, run += channels) {
                        const Index column = source_index(left + s * problem.dilation_w, problem.w,
                                                          problem.pad_mode);
                        if (column < 0) {
                            fill_zero(run, channels);
                        } else {
                            copy_strided(run, row + column * x.stride[3], x.stride[1], channels);
                        }
                    }
                }
            }
        }
    }
}

// Rows of x with their border, as they lie: what the taps of all pixels of a box meet.
template <class T>
void copy_image_rows(T* to, const GradTask<T>& task, const Box& box) {
    const Problem& problem = task.problem;
    const View<const T>& x = task.x;
    const Index channels = problem.c;
    const Index left = box.q * problem.stride_w - problem.pad_left;
    const Index rows = (box.rows - 1) * problem.stride_h + problem.r;
    const Index cols = (box.cols - 1) * problem.stride_w + problem.s;
    const Index begin = least(cols, most(0, -left));
    const Index end = most(begin, least(cols, problem.w - left));
    const bool dense = x.stride[1] == 1 && x.stride[3] == channels;
    const Index pitch = task.blocking.image_cols * channels;
    for (Index i = 0; i < box.images; ++i, to += task.blocking.image_rows * pitch) {
        for (Index row = 0; row < rows; ++row) {
            const Index source = box.p * problem.stride_h - problem.pad_top + row;
            T* const copy = to + row * pitch;
            if (source < 0 || source >= problem.h) {
                fill_zero(copy, cols * channels);
                continue;
            }
            fill_zero(copy, begin * channels);
            fill_zero(copy + end * channels, (cols - end) * channels);
            const T* from = x.data + (box.n + i) * x.stride[0] + source * x.stride[2];
            if (dense && end > begin) {
                copy_run(copy + begin * channels, from + (left + begin) * channels,
                         (end - begin) * channels);
                continue;
            }
            for (Index col = begin; col < end; ++col) {
                copy_strided(copy + col * channels, from + (left + col) * x.stride[3], x.stride[1],
                             channels);
            }
        }
    }
}

// Rows that are channels of x and taps.
template <class T>
GradSide<T> image_rows(const GradTask<T>& task, const GradScratch<T>& scratch, const Box& box) {
    const WeightGradBlocking& b = task.blocking;
    const Problem& problem = task.problem;
    const View<const T>& x = task.x;
    if (b.x_in_place) {
        pixel_offsets(scratch.row_offset, box, x.stride[0], problem.stride_h * x.stride[2],
                      problem.stride_w * x.stride[3]);
        const T* first = x.data + task.row0 * x.stride[1] + box.n * x.stride[0] +
                         box.p * problem.stride_h * x.stride[2] +
                         box.q * problem.stride_w * x.stride[3];
        return {first, b.row_tile * x.stride[1], 0, 0, x.stride[1]};
    }
    const Index pixels = box.pixels();
    if (b.kernel_rows) {
        copy_image_rows(scratch.rows, task, box);
        const Index row = b.image_cols * problem.c;
        pixel_offsets(scratch.row_offset, box, b.image_rows * row, problem.stride_h * row,
                      problem.stride_w * problem.c);
        return {scratch.rows + task.row0 / b.row_tile * row, row, 0, 0, 1};
    }
    if (b.pixel_major) {
        const Index pitch = pixel_pitch<T>(b);
        gather_taps(scratch.rows, pitch, task, box);
        for (Index d = 0; d < pixels; ++d) scratch.row_offset[d] = d * pitch;
        return {scratch.rows + task.row0, b.row_tile, 0, 0, 1};
    }
    const Index pitch = plane_pitch<T>(b.box.images * b.box.rows * b.box.cols);
    for (Index row = 0; row < task.rows; ++row) {
        gather_tap(scratch.rows + row * pitch, task, box, task.row0 + row);
    }
    for (Index d = 0; d < pixels; ++d) scratch.row_offset[d] = d;
    return {scratch.rows, b.row_tile * pitch, 0, 0, pitch};
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
