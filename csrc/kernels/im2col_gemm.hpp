// One task of the im2col GEMM: a block of rows times a block of columns, the whole reduction.
//
// Either side of the product is read where it lies if the micro-kernel can walk it there, and
// packed otherwise: pixels whose taps all lie inside of the image need no copy, nor do those of a
// block that was copied with its border; weights of a plan are packed before.
#pragma once

#include "kernels/bordered_image.hpp"
#include "kernels/gemm_tile.hpp"
#include "kernels/output.hpp"
#include "kernels/pack.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// One task's coordinates and the arrays of its image and group.
template <class T>
struct Task {
    const Blocking& blocking;
    Slice<T> slice;
    Output<T> out;
    const T* bias;    // of this group, or null
    const T* packed;  // weights of this group, or null
    Index row0, rows, col0, cols;
};

// Elements of one group's packed weights.
template <class T>
Index packed_group_elements(const Blocking& b) {
    return b.channel_lanes ? ceil_div(b.cols, Index(kCols<T>)) * kCols<T> * b.depth
                           : ceil_div(b.rows, b.row_tile) * kStepPitch<T> * b.depth;
}

template <class T>
Task<T> make_task(const GemmJob<T>& job, Index index) {
    const Problem& problem = job.problem;
    const Blocking& blocking = job.blocking;
    const Operands<T>& arrays = job.arrays;
    // Row blocks change fastest: neighbouring tasks share columns.
    const Index row_block = index % blocking.row_blocks;
    index /= blocking.row_blocks;
    const Index col_block = index % blocking.col_blocks;
    index /= blocking.col_blocks;
    const Index group = index % problem.groups, image = index / problem.groups;
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    View<const T> x = arrays.x, w = arrays.w;
    x.data += image * x.stride[0] + group * channels * x.stride[1];
    w.data += group * outputs * w.stride[0];
    View<T> y = arrays.y;
    y.data += image * y.stride[0] + group * outputs * y.stride[1];
    const Index row0 = row_block * blocking.row_block, col0 = col_block * blocking.col_block;
    const T* packed = static_cast<const T*>(arrays.packed);
    return {blocking,
            {problem, channels, x, w},
            make_output(problem, y, blocking.channel_lanes),
            arrays.bias ? arrays.bias + group * outputs : nullptr,
            packed ? packed + group * packed_group_elements<T>(blocking) : nullptr,
            row0,
            least(blocking.row_block, blocking.rows - row0),
            col0,
            least(blocking.col_block, blocking.cols - col0)};
}

// Scratch of one thread.
template <class T>
struct Scratch {
    T* image;               // a block of x with its border
    T* rows;                // one packed row panel
    T* cols;                // packed column panels of a block, null where none are needed
    T* sums;                // unfinished tiles of a block, where y cannot hold them
    Index* x_offset;        // steps of the current depth block in x
    Index* w_offset;        // and in w
    const T** col_operand;  // where each column panel of the block lies
    bool* col_direct;
};

template <class T>
struct ScratchSizes {
    Index image, rows, cols, sums, steps, panels;  // elements
};

// Register tiles of `rows` rows of the product.
inline Index row_tiles(const Blocking& b, Index rows) {
    return b.bordered ? ceil_div(rows, b.row_run) * ceil_div(b.row_run, b.row_tile)
                      : ceil_div(rows, b.row_tile);
}

template <class T>
ScratchSizes<T> scratch_sizes(const Blocking& b) {
    const Index row_panel =
        b.bordered ? 0 : most(Index(kRows) * kRowPitch<T>, b.depth_block * kStepPitch<T>);
    const Index panels = ceil_div(least(b.col_block, b.cols), Index(kCols<T>));
    const Index tiles = row_tiles(b, least(b.row_block, b.rows)) * panels;
    return {b.bordered ? b.image.elements : 0,
            row_panel,
            b.channel_lanes && b.packed ? 0 : panels * kCols<T> * b.depth_block,
            b.sums_in_scratch ? tiles * kRows * kCols<T> : 0,
            b.depth_block,
            panels};
}

inline Index whole_lines(Index bytes) {
    return ceil_div(bytes, 64) * 64;
}

template <class T>
Index im2col_gemm_scratch(const Blocking& blocking) {
    const ScratchSizes<T> size = scratch_sizes<T>(blocking);
    return whole_lines((size.image + size.rows + size.cols + size.sums) * Index(sizeof(T))) +
           whole_lines((2 * size.steps + 2 * size.panels) * Index(sizeof(Index)));
}

template <class T>
Scratch<T> make_scratch(const Blocking& blocking, void* memory) {
    const ScratchSizes<T> size = scratch_sizes<T>(blocking);
    T* image = static_cast<T*>(memory);
    T* rows = image + size.image;
    const Index floats = size.image + size.rows + size.cols + size.sums;
    char* rest = static_cast<char*>(memory) + whole_lines(floats * Index(sizeof(T)));
    Index* steps = reinterpret_cast<Index*>(rest);
    const T** operands = reinterpret_cast<const T**>(steps + 2 * size.steps);
    return {image,
            rows,
            rows + size.rows,
            rows + size.rows + size.cols,
            steps,
            steps + size.steps,
            operands,
            reinterpret_cast<bool*>(operands + size.panels)};
}

// A stretch of the reduction.
struct Depth {
    Index first, count;
    bool dense_weights;  // its steps are consecutive in w
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
    step_offsets(scratch.x_offset, b.bordered && !b.taps_first ? 0 : first, count, b.taps_first,
                 task.slice.channels, problem.r, problem.s, b.bordered ? image : in_place);
    bool dense = false;
    if (!task.packed) {
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
// are the last of its steps.
template <class T>
void begin_image(const Task<T>& task, const Scratch<T>& scratch, const Depth& depth) {
    const Blocking& b = task.blocking;
    const Problem& problem = task.slice.problem;
    const Index p = task.row0 / problem.q, rows = task.rows / problem.q;
    if (b.taps_first) {
        if (!depth.opens) return;
        copy_bordered_image(scratch.image, task.slice.x, problem, b.image, p, rows, 0,
                            task.slice.channels);
    } else {
        const Index taps = problem.r * problem.s;
        copy_bordered_image(scratch.image, task.slice.x, problem, b.image, p, rows,
                            depth.first / taps, depth.count / taps);
    }
}

// Pixels as rows, in the copy: those of one row of y, or of two with a half of the tile each.
template <class T>
RowPanel<T> bordered_rows(const Task<T>& task, const Scratch<T>& scratch, Index row, Index rows) {
    const Problem& problem = task.slice.problem;
    const ImageBlock& image = task.blocking.image;
    const Index p = (row - task.row0) / problem.q, q = row % problem.q;
    const Index pitch = problem.stride_w * image.pixel;
    const T* first = scratch.image + p * problem.stride_h * image.row + q * pitch;
    const Index half = rows > problem.q ? problem.stride_h * image.row : kHalfRows * pitch;
    return {{first, scratch.x_offset, rows * pitch}, {pitch, half}};
}

// Pixels as rows.
template <class T>
RowPanel<T> pixel_rows(const Task<T>& task, const Scratch<T>& scratch, Index row, Index rows,
                       const Depth& depth) {
    const Slice<T>& slice = task.slice;
    const T* inside = task.blocking.direct_pixels ? inside_pixels(slice, row, rows) : nullptr;
    if (inside) {
        const Index pitch = slice.problem.stride_w * slice.x.stride[3];
        return {{inside, scratch.x_offset, rows * pitch}, RowPitch::even(pitch)};
    }
    if (task.blocking.taps_first) {
        pack_pixel_rows(scratch.rows, slice, row, rows, depth.first, depth.count);
        return {{scratch.rows, kEvenSteps<T, 1>.offset, 0}, RowPitch::even(kRowPitch<T>)};
    }
    pack_pixel_panel<kRowVectors<T>>(scratch.rows, slice, row, rows, depth.first, depth.count);
    return {{scratch.rows, kEvenSteps<T, kStepPitch<T>>.offset, 0}, RowPitch::even(1)};
}

// Output channels as rows.
template <class T>
RowPanel<T> kernel_rows(const Task<T>& task, const Scratch<T>& scratch, Index row, Index rows,
                        const Depth& depth) {
    if (task.packed) {
        const Index panel = row / task.blocking.row_tile;
        const T* from = task.packed + (panel * task.blocking.depth + depth.first) * kStepPitch<T>;
        return {{from, kEvenSteps<T, kStepPitch<T>>.offset, 0}, RowPitch::even(1)};
    }
    const View<const T>& w = task.slice.w;
    const T* kernels = w.data + row * w.stride[0];
    if (task.blocking.direct_kernels) {
        return {{kernels, scratch.w_offset, 0}, RowPitch::even(w.stride[0])};
    }
    pack_kernel_rows(scratch.rows, kernels, w.stride[0], rows, scratch.w_offset, depth.count,
                     depth.dense_weights);
    return {{scratch.rows, kEvenSteps<T, 1>.offset, 0}, RowPitch::even(kRowPitch<T>)};
}

// Finds or packs every column panel of the block for one stretch of the reduction.
template <class T>
void prepare_columns(const Task<T>& task, const Scratch<T>& scratch, const Depth& depth) {
    constexpr int kC = kCols<T>;
    const Blocking& b = task.blocking;
    const View<const T>& w = task.slice.w;
    for (Index panel = 0; panel * kC < task.cols; ++panel) {
        const Index col = task.col0 + panel * kC, count = least(kC, task.cols - panel * kC);
        const T* inside = nullptr;
        T* to = scratch.cols + panel * kC * depth.count;
        if (b.channel_lanes && task.packed) {
            scratch.col_operand[panel] = task.packed + (col / kC * b.depth + depth.first) * kC;
        } else if (b.channel_lanes) {
            pack_kernel_panel(to, w.data + col * w.stride[0], w.stride[0], count, scratch.w_offset,
                              depth.count, depth.dense_weights);
            scratch.col_operand[panel] = to;
        } else {
            if (b.direct_pixels && count % kLanes<T> == 0) {
                inside = inside_pixels(task.slice, col, count);
            }
            if (!inside) {
                pack_pixel_panel<kVectors>(to, task.slice, col, count, depth.first, depth.count);
            }
            scratch.col_operand[panel] = inside ? inside : to;
        }
        scratch.col_direct[panel] = inside != nullptr;
    }
}

// Rows of the product that one register tile covers; tiles are counted within their task.
struct RowTile {
    Index row, rows, index;
};

// Calls `visit` for each row tile of the task.
template <class T, class Visit>
void for_row_tiles(const Task<T>& task, Visit visit) {
    const Blocking& b = task.blocking;
    const Index end = task.row0 + task.rows;
    RowTile tile{task.row0, 0, 0};
    while (tile.row < end) {
        const Index run_end = b.bordered ? least(end, tile.row + b.row_run) : end;
        while (tile.row < run_end) {
            const Index left = run_end - tile.row;
            tile.rows =
                b.bordered ? ceil_div(left, ceil_div(left, b.row_tile)) : least(left, b.row_tile);
            visit(tile);
            tile.row += tile.rows;
            ++tile.index;
        }
    }
}

// A row tile times one column panel of the task, for one stretch of the reduction.
template <class T>
void multiply_tile(const Task<T>& task, const Scratch<T>& scratch, const RowPanel<T>& a,
                   const RowTile& tile, Index panel, const Depth& depth) {
    static constexpr TileTable<T> tiles;
    constexpr int kC = kCols<T>, kL = kLanes<T>;
    const bool sums = task.blocking.sums_in_scratch;
    const Index col = task.col0 + panel * kC, cols = least(kC, task.cols - panel * kC);
    const Index vectors = ceil_div(cols, kL);
    const TileFunction<T> function = tiles.by_shape[vectors - 1][tile.rows - 1];
    const Operand<T> b{scratch.col_operand[panel],
                       scratch.col_direct[panel] ? scratch.x_offset : kEvenSteps<T, kC>.offset, 0};
    const TileSpan span{tile.row, tile.rows, col, cols};
    if (depth.closes && task.out.turned) fetch_turned(task.out, span);
    if (task.out.direct && cols == vectors * kL) {
        T* y = task.out.data + tile.row * task.out.row_pitch + col;
        function(depth.count, a.operand, a.pitch, b, y, task.out.row_pitch, !depth.opens);
        if (depth.closes) {
            finish_tile(task.slice.problem, task.bias, task.out, y, task.out.row_pitch, span);
        }
        return;
    }
    alignas(64) T buffer[kRows * kC];
    const Index panels = ceil_div(task.cols, Index(kC));
    T* c = sums ? scratch.sums + (tile.index * panels + panel) * kRows * kC : buffer;
    if (!sums && !depth.opens) load_tile(c, task.out, span);
    function(depth.count, a.operand, a.pitch, b, c, kC, !depth.opens);
    if (depth.closes) finish_tile(task.slice.problem, task.bias, task.out, c, Index(kC), span);
    if (depth.closes || !sums) store_tile(c, task.out, span);
}

template <class T>
void im2col_gemm_task(const GemmJob<T>& job, Index index, void* memory) {
    const Blocking& b = job.blocking;
    const Task<T> task = make_task(job, index);
    const Scratch<T> scratch = make_scratch<T>(b, memory);
    const Index panels = ceil_div(task.cols, Index(kCols<T>));
    for (Index block = 0; block < b.depth_blocks; ++block) {
        const Depth depth = begin_depth(task, scratch, block);
        prepare_columns(task, scratch, depth);
        if (b.bordered) {
            begin_image(task, scratch, depth);
            // rows need no packing: a panel of weights stays in the cache while all pass by
            for (Index panel = 0; panel < panels; ++panel) {
                for_row_tiles(task, [&](const RowTile& tile) {
                    const RowPanel<T> a = bordered_rows(task, scratch, tile.row, tile.rows);
                    multiply_tile(task, scratch, a, tile, panel, depth);
                });
            }
            continue;
        }
        for_row_tiles(task, [&](const RowTile& tile) {
            const RowPanel<T> a = b.channel_lanes
                                      ? pixel_rows(task, scratch, tile.row, tile.rows, depth)
                                      : kernel_rows(task, scratch, tile.row, tile.rows, depth);
            for (Index panel = 0; panel < panels; ++panel) {
                multiply_tile(task, scratch, a, tile, panel, depth);
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
                T* to = to_group + (k / step * b.depth + first) * pitch;
                if (b.channel_lanes) {
                    pack_kernel_panel(to, kernels, w.stride[0], count, offset, depth, dense);
                } else {
                    pack_kernel_steps(to, kernels, w.stride[0], count, offset, depth);
                }
            }
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
