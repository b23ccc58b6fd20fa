// One task of the implicit GEMM: which part of the product it is, its scratch, its register tiles.
#pragma once

#include "kernels/gemm_tile.hpp"
#include "kernels/kernel_planes.hpp"
#include "kernels/kernels.hpp"
#include "kernels/output.hpp"
#include "kernels/pack.hpp"
#include "kernels/pack_weights.hpp"

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
    bool finite;      // they are known to be
    Index row0, rows, col0, cols;
};

// Elements of one group's packed weights; behind those of all groups is one that tells whether
// they are known to be finite: 1 or 0.
template <class T>
Index packed_group_elements(const Blocking& b) {
    return b.channel_lanes ? ceil_div(b.cols, Index(kCols<T>)) * kCols<T> * b.packed_depth
                           : ceil_div(b.rows, b.row_tile) * kStepPitch<T> * b.packed_depth;
}

// Where a step of the product is in a panel of them.
inline Index packed_step(const Blocking& b, Index panel, Index step) {
    return panel * b.packed_depth + b.packed_first + step;
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
    const Index images = problem.n * problem.o;
    const Index group = blocking.groups_first ? index / images : index % problem.groups;
    const Index image = blocking.groups_first ? index % images : index / problem.groups;
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    const Index volume = image / problem.o, plane = image % problem.o;
    View<const T> x = arrays.x, w = arrays.w;
    x.data +=
        volume * x.stride[0] + plane * problem.stride_d * x.plane + group * channels * x.stride[1];
    w.data += group * outputs * w.stride[0];
    View<T> y = arrays.y;
    y.data += volume * y.stride[0] + plane * y.plane + group * outputs * y.stride[1];
    const Index row0 = row_block * blocking.row_block, col0 = col_block * blocking.col_block;
    const T* packed = static_cast<const T*>(arrays.packed);
    const Index group_elements = packed_group_elements<T>(blocking);
    return {blocking,
            {problem, channels, x, w},
            make_output(problem, y, blocking.channel_lanes, job.row_width, job.taps),
            arrays.bias ? arrays.bias + group * outputs : nullptr,
            packed ? packed + group * group_elements : nullptr,
            packed && packed[problem.groups * group_elements] != 0,
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
    bool* col_finite;           // whether its weights are known to be finite
    Index* table_x;             // tables of steps without taps that meet only the border:
    Index* table_w;             // where they are in x, in a panel of columns,
    RowSet* table_skipped;      // and the rows that they leave out
    unsigned char* tile_table;  // which of them each row tile reads
};

template <class T>
struct ScratchSizes {
    Index image, rows, cols, sums, steps, panels, table_steps, tiles;  // elements
};

// Register tiles of `rows` rows of the product.
inline Index row_tiles(const Blocking& b, Index rows) {
    return b.bordered ? ceil_div(rows, b.row_run) * ceil_div(b.row_run, b.row_tile)
                      : ceil_div(rows, b.row_tile);
}

template <class T>
ScratchSizes<T> scratch_sizes(const Blocking& b) {
    const Index row_panel = b.bordered && !b.borderless
                                ? 0
                                : most(Index(kRows) * kRowPitch<T>, b.depth_block * kStepPitch<T>);
    const Index panels = ceil_div(least(b.col_block, b.cols), Index(kCols<T>));
    const Index packed_panels = b.channel_lanes
                                    ? least(panels, b.pass_cols / kCols<T>) * b.pass_depth
                                    : panels * b.depth_block;
    const Index tiles = row_tiles(b, least(b.row_block, b.rows));
    return {b.bordered && !b.borderless ? b.image.elements : 0,
            row_panel,
            b.channel_lanes && b.packed ? 0 : packed_panels * kCols<T>,
            b.sums_in_scratch ? tiles * panels * kRows * kCols<T> : 0,
            b.depth_block,
            panels,
            b.skips_border ? kTapTables * b.depth_block : 0,
            b.skips_border ? tiles : 0};
}

inline Index whole_lines(Index bytes) {
    return ceil_div(bytes, 64) * 64;
}

template <class T>
Index im2col_gemm_scratch(const Blocking& blocking) {
    const ScratchSizes<T> size = scratch_sizes<T>(blocking);
    return whole_lines((size.image + size.rows + size.cols + size.sums) * Index(sizeof(T))) +
           whole_lines((2 * (size.steps + size.table_steps) + size.panels) * Index(sizeof(Index)) +
                       size.table_steps * Index(sizeof(RowSet)) + 2 * size.panels + size.tiles);
}

template <class T>
Scratch<T> make_scratch(const Blocking& blocking, void* memory) {
    const ScratchSizes<T> size = scratch_sizes<T>(blocking);
    T* image = static_cast<T*>(memory);
    T* rows = image + size.image;
    const Index floats = size.image + size.rows + size.cols + size.sums;
    char* rest = static_cast<char*>(memory) + whole_lines(floats * Index(sizeof(T)));
    Index* steps = reinterpret_cast<Index*>(rest);
    Index* tables = steps + 2 * size.steps;
    const T** operands = reinterpret_cast<const T**>(tables + 2 * size.table_steps);
    RowSet* skipped = reinterpret_cast<RowSet*>(operands + size.panels);
    bool* of_panels = reinterpret_cast<bool*>(skipped + size.table_steps);
    return {image,
            rows,
            rows + size.rows,
            rows + size.rows + size.cols,
            steps,
            steps + size.steps,
            operands,
            of_panels,
            of_panels + size.panels,
            tables,
            tables + size.table_steps,
            skipped,
            reinterpret_cast<unsigned char*>(of_panels + 2 * size.panels)};
}

// Calls `visit` for each part of the task's columns whose weights are packed together, and whether
// it is the first.
template <class T, class Visit>
void for_passes(const Task<T>& task, Visit visit) {
    const Index cols = task.blocking.pass_cols;
    for (Index col = 0; col < task.cols; col += cols) {
        Task<T> pass = task;
        pass.col0 += col;
        pass.cols = least(cols, task.cols - col);
        visit(pass, col == 0);
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

// The steps of a tile in the current stretch of the reduction.
struct TileSteps {
    Index count;
    const Index* x;         // where each is in x,
    const Index* w;         // and in a packed panel of columns
    const RowSet* skipped;  // null where every row takes part in every step
    bool meets_border;      // some of them meet the zeros of the border
    bool even;              // they are all steps, of which none is left out
};

// All `depth` steps of a stretch.
template <class T>
TileSteps all_steps(const Scratch<T>& scratch, Index depth, bool meets_border) {
    return {depth, scratch.x_offset, kEvenSteps<T, kCols<T>>.offset, nullptr, meets_border, true};
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
