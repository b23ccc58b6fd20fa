// One task of the im2col GEMM: a block of rows times a block of columns, the whole reduction.
#pragma once

#include "kernels/finish.hpp"
#include "kernels/gemm_tile.hpp"
#include "kernels/pack.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Where y's elements are. Tiles are written in place where y is dense enough (`direct`), and
// through a buffer otherwise.
template <class T>
struct Output {
    T* data;
    Index row_pitch;
    bool direct;
    bool pixel_rows;
    Index stride_k, stride_p, stride_q, width;

    Index pixel(Index i) const { return i / width * stride_p + i % width * stride_q; }
    T* at(Index row, Index col) const {
        return pixel_rows ? data + pixel(row) + col * stride_k : data + row * stride_k + pixel(col);
    }
};

template <class T>
Output<T> make_output(const Problem& problem, const View<T>& y, bool pixel_rows) {
    const Index k = y.stride[1], p = y.stride[2], q = y.stride[3];
    const bool pixels_even = problem.p == 1 || p == problem.q * q;
    const bool direct = pixels_even && (pixel_rows ? k == 1 : q == 1);
    return {y.data, pixel_rows ? q : k, direct, pixel_rows, k, p, q, problem.q};
}

// One task's coordinates and the arrays of its image and group.
template <class T>
struct Task {
    Slice<T> slice;
    Output<T> out;
    const T* bias;  // of this group, or null
    Index row0, rows, col0, cols;
};

template <class T>
Task<T> make_task(const GemmJob<T>& job, Index index) {
    const Problem& problem = job.problem;
    const Blocking& blocking = job.blocking;
    const Operands<T>& arrays = job.arrays;
    // Row blocks change fastest: neighbouring tasks share columns, which are packed.
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
    return {{problem, channels, x, w},
            make_output(problem, y, blocking.pixel_rows),
            arrays.bias ? arrays.bias + group * outputs : nullptr,
            row0,
            least(blocking.row_block, blocking.rows - row0),
            col0,
            least(blocking.col_block, blocking.cols - col0)};
}

template <class T>
void pack_columns(T* packed, const Task<T>& task, Index depth0, Index depth) {
    constexpr int kC = kCols<T>;
    for (Index col = 0; col < task.cols; col += kC) {
        const Index count = least(kC, task.cols - col);
        T* panel = packed + col * depth;
        if (task.out.pixel_rows) {
            pack_kernel_panel(panel, task.slice, task.col0 + col, count, depth0, depth);
        } else {
            pack_pixel_panel(panel, task.slice, task.col0 + col, count, depth0, depth);
        }
    }
}

template <class T>
void pack_rows(T* panel, const Task<T>& task, Index row, Index rows, Index depth0, Index depth) {
    if (task.out.pixel_rows) {
        pack_pixel_rows(panel, task.slice, row, rows, depth0, depth);
    } else {
        pack_kernel_rows(panel, task.slice, row, rows, depth0, depth);
    }
}

// Bias and activation of a finished tile at `y`, in place or in the buffer.
template <class T>
void finish_tile(const Task<T>& task, T* y, Index pitch, Index row, Index rows, Index col,
                 Index cols) {
    const bool pixel_rows = task.out.pixel_rows;
    for (Index i = 0; i < rows; ++i) {
        const T* bias = task.bias ? task.bias + (pixel_rows ? col : row + i) : nullptr;
        finish_row(y + i * pitch, cols, bias, pixel_rows ? 1 : 0, task.slice.problem.activation);
    }
}

template <class T>
void load_tile(T* buffer, const Output<T>& out, Index row, Index rows, Index col, Index cols) {
    for (Index i = 0; i < rows; ++i, buffer += kCols<T>) {
        if (out.direct) {
            copy_run(buffer, out.data + (row + i) * out.row_pitch + col, cols);
        } else {
            for (Index j = 0; j < cols; ++j) buffer[j] = *out.at(row + i, col + j);
        }
    }
}

template <class T>
void store_tile(const T* buffer, const Output<T>& out, Index row, Index rows, Index col,
                Index cols) {
    for (Index i = 0; i < rows; ++i, buffer += kCols<T>) {
        if (out.direct) {
            copy_run(out.data + (row + i) * out.row_pitch + col, buffer, cols);
        } else {
            for (Index j = 0; j < cols; ++j) *out.at(row + i, col + j) = buffer[j];
        }
    }
}

// Rows [row, row + rows) times all columns of the task, for one depth block.
template <class T>
void multiply_row_panel(const Task<T>& task, const T* packed_rows, const T* packed_cols, Index row,
                        Index rows, Index depth, bool first, bool last) {
    static constexpr TileTable<T> tiles;
    constexpr int kC = kCols<T>, kL = kLanes<T>;
    const bool finish = last && (task.bias || task.slice.problem.activation != Activation::kNone);
    for (Index col = 0; col < task.cols; col += kC) {
        const Index cols = least(kC, task.cols - col);
        const Index vectors = ceil_div(cols, kL);
        const TileFunction<T> function = tiles.by_shape[vectors - 1][rows - 1];
        const T* b = packed_cols + col * depth;
        const Index y_col = task.col0 + col;
        if (task.out.direct && cols == vectors * kL) {
            T* y = task.out.data + row * task.out.row_pitch + y_col;
            function(depth, packed_rows, b, y, task.out.row_pitch, !first);
            if (finish) finish_tile(task, y, task.out.row_pitch, row, rows, y_col, cols);
            continue;
        }
        // Through a buffer: for strided y, and for last columns narrower than a vector.
        alignas(64) T buffer[kRows * kC] = {};
        if (!first) load_tile(buffer, task.out, row, rows, y_col, cols);
        function(depth, packed_rows, b, buffer, kC, !first);
        if (finish) finish_tile(task, buffer, Index(kC), row, rows, y_col, cols);
        store_tile(buffer, task.out, row, rows, y_col, cols);
    }
}

inline Index padded_cols(Index cols, Index tile) {
    return ceil_div(cols, tile) * tile;
}

template <class T>
Index im2col_gemm_scratch(const Blocking& blocking) {
    const Index cols = padded_cols(least(blocking.col_block, blocking.cols), kCols<T>);
    const Index depth = least(blocking.depth_chunk * blocking.depth_block, blocking.depth);
    return kRows * kPanelPitch<T> + cols * depth;
}

template <class T>
void im2col_gemm_task(const GemmJob<T>& job, Index index, T* scratch) {
    const Blocking& blocking = job.blocking;
    const Task<T> task = make_task(job, index);
    T* packed_rows = scratch;
    T* packed_cols = scratch + kRows * kPanelPitch<T>;
    const Index cols = padded_cols(task.cols, kCols<T>);
    // Rows are spread evenly over the panels: 64 rows are 13+13+13+13+12, not 14+14+14+14+8.
    const Index panels = ceil_div(task.rows, Index(kRows));
    for (Index chunk = 0; chunk < blocking.depth_blocks; chunk += blocking.depth_chunk) {
        const Index chunk_end = least(chunk + blocking.depth_chunk, blocking.depth_blocks);
        const Index chunk0 = chunk * blocking.depth_block;
        for (Index block = chunk; block < chunk_end; ++block) {
            const Index depth0 = block * blocking.depth_block;
            const Index depth = least(blocking.depth_block, blocking.depth - depth0);
            pack_columns(packed_cols + (depth0 - chunk0) * cols, task, depth0, depth);
        }
        for (Index panel = 0; panel < panels; ++panel) {
            const Index begin = task.row0 + panel * task.rows / panels;
            const Index rows = task.row0 + (panel + 1) * task.rows / panels - begin;
            for (Index block = chunk; block < chunk_end; ++block) {
                const Index depth0 = block * blocking.depth_block;
                const Index depth = least(blocking.depth_block, blocking.depth - depth0);
                pack_rows(packed_rows, task, begin, rows, depth0, depth);
                multiply_row_panel(task, packed_rows, packed_cols + (depth0 - chunk0) * cols, begin,
                                   rows, depth, block == 0, block + 1 == blocking.depth_blocks);
            }
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
