// One task of the gradient of w where every group has one input channel: lanes are channels, and
// the sums of all taps stay in registers while the pixels of a box pass by.
#pragma once

#include "kernels/weight_grad_pixels.hpp"
#include "kernels/weight_grad_planes.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int kMostTapColumns = 7;
// Columns of x for which its rows are read in place.
constexpr Index kLongRow = 28;

constexpr int tap_rows(int columns) {
    return kTapSums / columns < kMostTapColumns ? kTapSums / columns : kMostTapColumns;
}

// Copies of the pixels of one box: of x with the border, and of gy, one vector a pixel.
template <class T>
struct GradPixels {
    const T *x, *gy;
    Index gy_row, gy_col;
    Index row, col;            // of x, from tap to tap
    Index stride_h, stride_w;  // from pixel to pixel
};

// sums[r * pitch + s] += gy * x over the rows of one image in a box, for ROWS x COLUMNS taps.
template <class T, int ROWS, int COLUMNS>
void add_taps(T* sums, Index pitch, const GradPixels<T>& from, Index rows, Index cols) {
    constexpr Index kL = kLanes<T>;
    Vec<T> acc[ROWS][COLUMNS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int s = 0; s < COLUMNS; ++s) acc[r][s] = load(sums + (r * pitch + s) * kL);
    for (Index p = 0; p < rows; ++p) {
        const T* x = from.x + p * from.stride_h;
        const T* gy = from.gy + p * from.gy_row;
        for (Index q = 0; q < cols; ++q, x += from.stride_w, gy += from.gy_col) {
            const Vec<T> g = load(gy);
            __builtin_prefetch(gy + from.gy_row);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
                for (int s = 0; s < COLUMNS; ++s) {
                    acc[r][s] += g * load(x + r * from.row + s * from.col);
                }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int s = 0; s < COLUMNS; ++s) store(sums + (r * pitch + s) * kL, acc[r][s]);
}

template <class T>
using AddTaps = void (*)(T*, Index, const GradPixels<T>&, Index, Index);

// The functions, by rows and columns of taps (both counted from one).
template <class T>
struct GradTable {
    AddTaps<T> by_shape[kMostTapColumns][kMostTapColumns];

    template <int R, int S>
    constexpr void fill() {
        by_shape[R - 1][S - 1] = add_taps<T, R, S>;
        if constexpr (R > 1) {
            fill<R - 1, S>();
        } else if constexpr (S > 1) {
            fill<tap_rows(S - 1), S - 1>();
        }
    }
    constexpr GradTable() : by_shape{} { fill<tap_rows(kMostTapColumns), kMostTapColumns>(); }
};

// Elements of each part of a thread's scratch.
struct DepthwiseGradSizes {
    Index sums, x, gy;
};

template <class T>
DepthwiseGradSizes depthwise_grad_sizes(const Problem& problem, const DepthwiseGradCut& cut) {
    constexpr Index kL = kLanes<T>;
    return {problem.k / problem.groups * problem.r * problem.s * cut.block,
            cut.box.images * cut.image_rows * cut.image_cols * kL,
            cut.box.images * cut.box.rows * cut.box.cols * kL};
}

template <class T>
Index depthwise_grad_scratch(const Problem& problem, const DepthwiseGradCut& cut) {
    constexpr Index kLine = 64 / Index(sizeof(T));
    Index elements;
    if (cut.planes) {
        const PlaneSizes size = plane_sizes<T>(problem, cut);
        elements = size.sums + size.zeros + size.x + size.gy;
    } else {
        const DepthwiseGradSizes size = depthwise_grad_sizes<T>(problem, cut);
        elements = size.sums + size.x + size.gy + kLanes<T>;
    }
    return ceil_div(elements, kLine) * kLine;
}

// Adds the products of a box, all taps, to the sums of one output channel of each group.
template <class T>
void add_pixels(T* sums, const Problem& problem, const GradPixels<T>& first, const Box& box,
                Index x_image, Index gy_image) {
    static constexpr GradTable<T> table;
    const Index columns = least(problem.s, kMostTapColumns);
    const Index most_rows = tap_rows(int(columns));
    for (Index r = 0; r < problem.r; r += most_rows) {
        const Index rows = least(most_rows, problem.r - r);
        for (Index s = 0; s < problem.s; s += columns) {
            const auto function = table.by_shape[rows - 1][least(columns, problem.s - s) - 1];
            GradPixels<T> from = first;
            from.x += r * from.row + s * from.col;
            for (Index i = 0; i < box.images; ++i, from.x += x_image, from.gy += gy_image) {
                function(sums + (r * problem.s + s) * kLanes<T>, problem.s, from, box.rows,
                         box.cols);
            }
        }
    }
}

template <class T>
void store_depthwise_grad(const Problem& problem, const View<T>& gw, const T* sums, Index channel,
                          Index channels) {
    constexpr Index kL = kLanes<T>;
    const Index taps = problem.r * problem.s, outputs = problem.k / problem.groups;
    const bool dense = has_dense_kernels(problem, gw);
    for (Index m = 0; m < outputs; ++m, sums += taps * kL) {
        T* to = gw.data + (channel * outputs + m) * gw.stride[0];
        const Index pitch = outputs * gw.stride[0];
        if (dense) {
            store_turned(to, pitch, sums, kL, taps, channels);
            continue;
        }
        for (Index tap = 0; tap < taps; ++tap) {
            T* place = to + tap / problem.s * gw.stride[2] + tap % problem.s * gw.stride[3];
            for (Index c = 0; c < channels; ++c) place[c * pitch] = sums[tap * kL + c];
        }
    }
}

// One task: a vector of channels, and copies of what cannot be read in place.
template <class T>
struct DepthwiseGradTask {
    const Problem& problem;
    const DepthwiseGradCut& cut;
    View<const T> x, gy;  // from the first channel on
    Index channels;
    T *sums, *x_copy, *gy_copy;
};

// Adds the products of a box whose taps, if `inside`, all lie inside of the image, where vectors
// of channels can be read from it.
template <class T>
void add_box(const DepthwiseGradTask<T>& task, const Box& box, bool inside) {
    constexpr Index kL = kLanes<T>;
    const Problem& problem = task.problem;
    const DepthwiseGradCut& cut = task.cut;
    const View<const T>& x = task.x;
    Index row = cut.image_cols * kL, col = kL, x_image = cut.image_rows * row;
    GradPixels<T> from{};
    from.x = task.x_copy;
    if (inside) {
        row = x.stride[2];
        col = x.stride[3];
        x_image = x.stride[0];
        from.x = x.data + box.n * x_image + (box.p * problem.stride_h - problem.pad_top) * row +
                 (box.q * problem.stride_w - problem.pad_left) * col;
    } else {
        const ImageCopy copy{cut.image_rows, cut.image_cols, 1, 1};
        gather_bordered_box(task.x_copy, kL, x, problem, box, copy, task.channels);
    }
    from.row = problem.dilation_h * row;
    from.col = problem.dilation_w * col;
    from.stride_h = problem.stride_h * row;
    from.stride_w = problem.stride_w * col;
    const Index outputs = problem.k / problem.groups;
    for (Index m = 0; m < outputs; ++m) {
        View<const T> gy = task.gy;
        gy.data += m * gy.stride[1];
        gy.stride[1] *= outputs;
        from.gy = task.gy_copy;
        from.gy_row = box.cols * kL;
        from.gy_col = kL;
        Index gy_image = box.rows * box.cols * kL;
        if (gy.stride[1] == 1 && task.channels == kL) {
            from.gy = gy.data + box.n * gy.stride[0] + box.p * gy.stride[2] + box.q * gy.stride[3];
            from.gy_row = gy.stride[2];
            from.gy_col = gy.stride[3];
            gy_image = gy.stride[0];
        } else {
            gather_box(task.gy_copy, kL, gy, problem, box, task.channels);
        }
        add_pixels(task.sums + m * problem.r * problem.s * kL, problem, from, box, x_image,
                   gy_image);
    }
}

// Outputs [begin, end) of an axis have all their taps inside of the image.
inline Inside inside_outputs(Index outputs, Index size, Index taps, Index stride, Index dilation,
                             Index pad) {
    const Index reach = (taps - 1) * dilation;
    const Index begin = least(outputs, ceil_div(pad, stride));
    const Index last = size - 1 - reach + pad;
    const Index end = last < 0 ? 0 : least(outputs, last / stride + 1);
    return {begin, most(begin, end)};
}

// Adds a box row by row, copying only what reads the border.
template <class T>
void add_rows(const DepthwiseGradTask<T>& task, const Box& box) {
    const Problem& problem = task.problem;
    const Inside rows = inside_outputs(problem.p, problem.h, problem.r, problem.stride_h,
                                       problem.dilation_h, problem.pad_top);
    const Inside cols = inside_outputs(problem.q, problem.w, problem.s, problem.stride_w,
                                       problem.dilation_w, problem.pad_left);
    const Index q_end = box.q + box.cols, p_end = box.p + box.rows;
    const Index left = least(most(cols.begin, box.q), q_end);
    const Index right = most(left, least(cols.end, q_end));
    if (left == box.q && right == q_end && rows.begin <= box.p && rows.end >= p_end) {
        return add_box(task, box, true);
    }
    for (Index n = box.n; n < box.n + box.images; ++n) {
        for (Index p = box.p; p < p_end; ++p) {
            if (p < rows.begin || p >= rows.end) {
                add_box(task, {n, 1, p, 1, box.q, box.cols}, false);
                continue;
            }
            if (left > box.q) add_box(task, {n, 1, p, 1, box.q, left - box.q}, false);
            if (right > left) add_box(task, {n, 1, p, 1, left, right - left}, true);
            if (q_end > right) add_box(task, {n, 1, p, 1, right, q_end - right}, false);
        }
    }
}

// Whether the taps of whole vectors of channels may be read where they are, pixel by pixel.
template <class T>
bool reads_pixels(const DepthwiseGradJob<T>& job) {
    return kHoldsNineTaps && job.cut.nine_taps && job.x.stride[1] == 1 && job.gy.stride[1] == 1 &&
           job.problem.k == job.problem.c && job.problem.pad_mode == PadMode::kConstant;
}

// From the pixels of a box to those of the next one.
inline Index next_box(const Problem& problem, const Box& box, Index stride, Index image,
                      Index row) {
    return box.rows == problem.p ? box.images * image : box.rows * stride * row;
}

// Adds a box to the sums of each vector of the task's channels.
template <class T>
void add_vectors(const DepthwiseGradTask<T>& block, const DepthwiseGradJob<T>& job, const Box& box,
                 const T* zeros) {
    constexpr Index kL = kLanes<T>;
    const Problem& problem = job.problem;
    const Index outputs = problem.k / problem.groups, taps = problem.r * problem.s;
    const bool pixels = reads_pixels(job);
    // where strides skip pixels, and rows are worth beginning thrice
    const bool strided = problem.stride_h * problem.stride_w > 1 &&
                         problem.q * problem.stride_w >= kLongRow && block.x.stride[1] == 1;
    DepthwiseGradTask<T> task = block;
    for (Index lane = 0; lane < block.channels; lane += kL) {
        task.channels = least(kL, block.channels - lane);
        task.sums = block.sums + lane * outputs * taps;
        task.x.data = block.x.data + lane * block.x.stride[1];
        task.gy.data = block.gy.data + lane * outputs * block.gy.stride[1];
        const bool whole = task.channels == kL;
        if (whole && pixels) {
            const GradVectors<T> from{
                problem,
                task.x,
                task.gy,
                zeros,
                next_box(problem, box, problem.stride_h, task.x.stride[0], task.x.stride[2]),
                next_box(problem, box, 1, task.gy.stride[0], task.gy.stride[2])};
            const auto function = problem.stride_w == 1 ? add_nine_taps<T, 1> : add_nine_taps<T, 2>;
            function(task.sums, from, box);
        } else if (whole && strided) {
            add_rows(task, box);
        } else {
            add_box(task, box, false);
        }
    }
}

template <class T>
void depthwise_grad_task(const DepthwiseGradJob<T>& job, Index index, T* memory) {
    constexpr Index kL = kLanes<T>;
    const Problem& problem = job.problem;
    const DepthwiseGradCut& cut = job.cut;
    if (cut.planes) return plane_grad_task(job, index, memory);
    const Index channel = index % cut.channel_blocks * cut.block;
    const Index chunk = index / cut.channel_blocks;
    const Index channels = least(cut.block, problem.c - channel);
    const Index outputs = problem.k / problem.groups;
    const DepthwiseGradSizes size = depthwise_grad_sizes<T>(problem, cut);
    T *zeros = memory, *sums = zeros + kL, *x_copy = sums + size.sums, *gy_copy = x_copy + size.x;
    fill_zero(zeros, kL + size.sums);
    DepthwiseGradTask<T> task{problem, cut, job.x, job.gy, channels, sums, x_copy, gy_copy};
    task.x.data += channel * task.x.stride[1];
    task.gy.data += channel * outputs * task.gy.stride[1];
    const BoxRange boxes = chunk_boxes(cut.boxes, cut.chunks, chunk);
    for (Index number = boxes.begin; number < boxes.end; ++number) {
        add_vectors(task, job, make_box(problem, cut.box, number), zeros);
    }
    const View<T> gw = chunk_result(problem, job.gw, job.partial, chunk);
    for (Index lane = 0; lane < channels; lane += kL) {
        store_depthwise_grad(problem, gw, sums + lane * outputs * problem.r * problem.s,
                             channel + lane, least(kL, channels - lane));
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
