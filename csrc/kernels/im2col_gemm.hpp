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
    bool channels_last;
    Index stride_k, stride_p, stride_q, width;

    Index pixel(Index i) const { return i / width * stride_p + i % width * stride_q; }
    T* at(Index row, Index col) const {
        return channels_last ? data + pixel(row) + col * stride_k
                             : data + row * stride_k + pixel(col);
    }
};

template <class T>
Output<T> make_output(const Problem& problem, const View<T>& y) {
    const Index k = y.stride[1], p = y.stride[2], q = y.stride[3];
    const bool pixels_even = problem.p == 1 || p == problem.q * q;
    const bool direct = pixels_even && (problem.channels_last ? k == 1 : q == 1);
    return {y.data, problem.channels_last ? q : k, direct, problem.channels_last, k, p, q,
            problem.q};
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
            make_output(problem, y),
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
        if (task.slice.problem.channels_last) {
            pack_kernel_panel(panel, task.slice, task.col0 + col, count, depth0, depth);
        } else {
            pack_pixel_panel(panel, task.slice, task.col0 + col, count, depth0, depth);
        }
    }
}

template <class T>
void pack_rows(T* panel, const Task<T>& task, Index row, Index rows, Index depth0, Index depth) {
    if (task.slice.problem.channels_last) {
        pack_pixel_rows(panel, task.slice, row, rows, depth0, depth);
    } else {
        pack_kernel_rows(panel, task.slice, row, rows, depth0, depth);
    }
}

// The tile through a buffer: for strided y, and for the last columns, where a whole vector would
// reach beyond the block.
template <class T>
void buffered_tile(TileFunction<T> function, Index depth, const T* a, const T* b,
                   const Output<T>& out, Index row, Index rows, Index col, Index cols,
                   bool accumulate) {
    constexpr int kC = kCols<T>;
    alignas(64) T buffer[kRows * kC];
    for (Index i = 0; i < rows * kC; ++i) buffer[i] = T(0);
    if (accumulate) {
        for (Index i = 0; i < rows; ++i) {
            if (out.direct) {
                copy_run(buffer + i * kC, out.data + (row + i) * out.row_pitch + col, cols);
            } else {
                for (Index j = 0; j < cols; ++j) buffer[i * kC + j] = *out.at(row + i, col + j);
            }
        }
    }
    function(depth, a, b, buffer, kC, accumulate);
    for (Index i = 0; i < rows; ++i) {
        if (out.direct) {
            copy_run(out.data + (row + i) * out.row_pitch + col, buffer + i * kC, cols);
        } else {
            for (Index j = 0; j < cols; ++j) *out.at(row + i, col + j) = buffer[i * kC + j];
        }
    }
}

template <class T>
void finish_tile(const Task<T>& task, Index row, Index rows, Index col, Index cols) {
    const Problem& problem = task.slice.problem;
    const Output<T>& out = task.out;
    const int bias_step = problem.channels_last ? 1 : 0;
    for (Index i = 0; i < rows; ++i) {
        const T* bias = task.bias ? task.bias + (problem.channels_last ? col : row + i) : nullptr;
        if (out.direct) {
            finish_row(out.data + (row + i) * out.row_pitch + col, cols, bias, bias_step,
                       problem.activation);
            continue;
        }
        for (Index j = 0; j < cols; ++j) {
            finish_row(out.at(row + i, col + j), Index(1), bias ? bias + j * bias_step : nullptr,
                       bias_step, problem.activation);
        }
    }
}

// Rows [row, row + rows) times all columns of the task, for one depth block.
template <class T>
void multiply_row_panel(const Task<T>& task, const T* packed_rows, const T* packed_cols, Index row,
                        Index rows, Index depth, bool first, bool last) {
    static constexpr TileTable<T> tiles;
    constexpr int kC = kCols<T>, kL = kLanes<T>;
    const bool finish =
        last && (task.bias || task.slice.problem.activation != Activation::kNone);
    for (Index col = 0; col < task.cols; col += kC) {
        const Index cols = least(kC, task.cols - col);
        const Index vectors = ceil_div(cols, kL);
        const TileFunction<T> function = tiles.by_shape[vectors - 1][rows - 1];
        const T* b = packed_cols + col * depth;
        const Index y_col = task.col0 + col;
        if (task.out.direct && cols == vectors * kL) {
            T* c = task.out.data + row * task.out.row_pitch + y_col;
            function(depth, packed_rows, b, c, task.out.row_pitch, !first);
        } else {
            buffered_tile(function, depth, packed_rows, b, task.out, row, rows, y_col, cols,
                          !first);
        }
        if (finish) finish_tile(task, row, rows, y_col, cols);
    }
}

inline Index padded_cols(Index cols, Index tile) { return ceil_div(cols, tile) * tile; }

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
                multiply_row_panel(task, packed_rows, packed_cols + (depth0 - chunk0) * cols,
                                   begin, rows, depth, block == 0,
                                   block + 1 == blocking.depth_blocks);
            }
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
