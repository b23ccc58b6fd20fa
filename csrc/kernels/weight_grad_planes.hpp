// Gradients of 3 x 3 depthwise kernels whose lanes are pixels: rows of one plane after another, and
// sums that are vectors until the end, when their lanes are added up.
#pragma once

#include "kernels/padded_rows.hpp"
#include "kernels/weight_grad_pixels.hpp"
#include "kernels/weight_grad_store.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Rows of gy between two visits to the same columns, and how far ahead rows are fetched.
constexpr Index kPlaneRows = 8;
// Vectors of a row of gy: kWidestPlane columns of doubles (conv/weight_grad_depthwise.cpp).
constexpr int kMostPlaneVectors = 32;

// Which lanes of a vector of gy are pixels, and which of those of x that it meets: three columns
// of taps, or, with stride 2, two pairs of vectors whose even and odd lanes are columns.
template <class T>
struct PlaneMasks {
    Mask<T> gy, x[4];
};

// The planes that a call reads: of x from the row of the first tap on, `rows` of which there are
// from row `first` on. Others are zeros.
template <class T>
struct Planes {
    const T *x, *gy, *zeros;
    Index x_row, gy_row, x_image, gy_image;
    Index first, rows, column, lanes;
};

// Elements [begin, end) of `count` beginning at `column` lie inside of a row of `width`.
template <class T>
inline Mask<T> inside_columns(Index column, Index width, Index count) {
    const Inside inside = inside_lanes(column, 1, most(least(count, kLanes<T>), 0), width);
    return lane_mask<T>(int(inside.begin), int(inside.end));
}

template <class T>
inline void make_plane_masks(PlaneMasks<T>* masks, Index stride, Index column, Index width,
                             Index lanes) {
    constexpr Index kL = kLanes<T>;
    for (Index lane = 0; lane < lanes; lane += kL, ++masks, column += stride * kL) {
        const Index count = least(kL, lanes - lane);
        masks->gy = lane_mask<T>(0, int(count));
        for (Index i = 0; i < 4; ++i) {
            masks->x[i] = stride == 1 ? inside_columns<T>(column + i, width, i < 3 ? count : 0)
                                      : inside_columns<T>(column + i % 2 * kL + i / 2 * 2, width,
                                                          2 * count - i % 2 * kL);
        }
    }
}

// The vectors of x that three columns of taps meet in one row.
template <class T, int STRIDE>
__attribute__((always_inline)) inline void load_taps(Vec<T> (&taps)[3], const T* x,
                                                     const Mask<T> (&masks)[4]) {
    constexpr Index kL = kLanes<T>;
    if constexpr (STRIDE == 1) {
#pragma GCC unroll 3
        for (int s = 0; s < 3; ++s) taps[s] = masked_load(x + s, masks[s]);
    } else {
        const Vec<T> a = masked_load(x, masks[0]), b = masked_load(x + kL, masks[1]);
        taps[0] = even_lanes<T>(a, b);
        taps[1] = odd_lanes<T>(a, b);
        taps[2] = even_lanes<T>(masked_load(x + 2, masks[2]), masked_load(x + 2 + kL, masks[3]));
    }
}

// sums[tap] += gy * x for `images` planes of `rows` rows of gy each. A row of x is loaded once for
// all rows of taps.
template <class T, int STRIDE>
__attribute__((noinline)) void add_plane_taps(T* sums, const Planes<T>& from,
                                              const PlaneMasks<T>* masks, Index images,
                                              Index rows) {
    constexpr Index kL = kLanes<T>;
    Vec<T> acc[9];
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) acc[i] = load(sums + i * kL);
    const Index ahead = kPlaneRows * STRIDE * from.x_row, gy_ahead = kPlaneRows * from.gy_row;
    for (Index image = 0; image < images; ++image) {
        for (Index top = 0; top < rows; top += kPlaneRows) {
            const Index bottom = least(rows, top + kPlaneRows);
            for (Index lane = 0, v = 0; lane < from.lanes; lane += kL, ++v) {
                const Mask<T> own[4] = {masks[v].x[0], masks[v].x[1], masks[v].x[2], masks[v].x[3]};
                const Mask<T> gy_mask = masks[v].gy;
                const Index column = from.column + lane * STRIDE;
                const T* x = from.x + image * from.x_image + column;
                const T* gy = from.gy + image * from.gy_image + lane + top * from.gy_row;
                const T* const zeros = from.zeros + column;
                Index h = from.first + top * STRIDE;
                const auto next_row = [&](Vec<T>(&taps)[3]) __attribute__((always_inline)) {
                    const T* at = x + h * from.x_row;
                    __builtin_prefetch(at + ahead);
                    if (STRIDE == 2) __builtin_prefetch(at + ahead + kL);
                    load_taps<T, STRIDE>(taps, h >= 0 && h < from.rows ? at : zeros, own);
                    ++h;
                };
                Vec<T> taps[3][3];
#pragma GCC unroll 2
                for (int r = 0; r < 3 - STRIDE; ++r) next_row(taps[STRIDE + r]);
                for (Index p = top; p < bottom; ++p, gy += from.gy_row) {
#pragma GCC unroll 2
                    for (int r = 0; r < 3 - STRIDE; ++r)
#pragma GCC unroll 3
                        for (int s = 0; s < 3; ++s) taps[r][s] = taps[r + STRIDE][s];
#pragma GCC unroll 2
                    for (int r = 3 - STRIDE; r < 3; ++r) next_row(taps[r]);
                    const Vec<T> g = masked_load(gy, gy_mask);
                    __builtin_prefetch(gy + gy_ahead);
#pragma GCC unroll 9
                    for (int i = 0; i < 9; ++i) acc[i] += g * taps[i / 3][i % 3];
                }
            }
        }
    }
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) store(sums + i * kL, acc[i]);
}

// Adds up the lanes of each of a vector's worth of vectors, in pairs of neighbours first: the order
// is the same for all of them.
#if defined(FASTCONV_HAS_SHUFFLE)
template <int SPAN, class T>
inline void add_across(Vec<T> (&rows)[kLanes<T>]) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T> / SPAN / 2; ++i) {
        Vec<T> upper = rows[2 * i], lower = rows[2 * i + 1];
        exchange<SPAN, T>(upper, lower, AllLanes<kLanes<T>>{});
        rows[i] = upper + lower;
    }
    if constexpr (2 * SPAN < kLanes<T>) add_across<2 * SPAN, T>(rows);
}
template <class T>
inline Vec<T> added_lanes(Vec<T> (&rows)[kLanes<T>]) {
    add_across<1, T>(rows);
    return rows[0];
}
#else
template <class T>
inline Vec<T> added_lanes(Vec<T> (&rows)[kLanes<T>]) {
    Vec<T> sums{};
    for (int i = 0; i < kLanes<T>; ++i) {
        for (int span = 1; span < kLanes<T>; span *= 2) {
            for (int lane = 0; lane < kLanes<T>; lane += 2 * span) {
                rows[i][lane] += rows[i][lane + span];
            }
        }
        sums[i] = rows[i][0];
    }
    return sums;
}
#endif

// Stores the taps of output channels [first, first + outputs), each a vector of sums.
template <class T>
void store_plane_sums(const Problem& problem, const View<T>& gw, const T* sums, Index first,
                      Index outputs) {
    constexpr Index kL = kLanes<T>;
    const bool dense = has_dense_kernels(problem, gw) && gw.stride[0] == 9;
    for (Index i = 0; i < 9 * outputs; i += kL) {
        const Index count = least(kL, 9 * outputs - i);
        Vec<T> rows[kL];
        for (Index j = 0; j < kL; ++j) rows[j] = j < count ? load(sums + (i + j) * kL) : Vec<T>{};
        const Vec<T> found = added_lanes<T>(rows);
        if (dense) {
            store_first(gw.data + 9 * first + i, found, count);
            continue;
        }
        for (Index j = 0; j < count; ++j) {
            const Index tap = (i + j) % 9;
            gw.data[(first + (i + j) / 9) * gw.stride[0] + tap / 3 * gw.stride[2] +
                    tap % 3 * gw.stride[3]] = found[j];
        }
    }
}

// Elements of each part of a thread's scratch.
struct PlaneSizes {
    Index sums, zeros, x, gy;
};

template <class T>
PlaneSizes plane_sizes(const Problem& problem, const DepthwiseGradCut& cut) {
    constexpr Index kL = kLanes<T>;
    return {cut.block * (problem.k / problem.groups) * 9 * kL,
            ceil_div(most(problem.w, cut.image_cols), kL) * kL,
            ceil_div(cut.image_rows * cut.image_cols, kL) * kL,
            ceil_div(cut.box.rows * cut.box.cols, kL) * kL};
}

// One task: the planes of some channels, which are copied where their rows are no vectors or their
// border is not zero.
template <class T>
struct PlaneGradTask {
    const DepthwiseGradJob<T>& job;
    const Problem& problem;
    PlaneSizes size;
    T* memory;
    bool copies_x, copies_gy;
    PlaneMasks<T> masks[kMostPlaneVectors];

    PlaneGradTask(const DepthwiseGradJob<T>& all, T* scratch)
        : job(all),
          problem(all.problem),
          size(plane_sizes<T>(all.problem, all.cut)),
          memory(scratch),
          copies_x(all.x.stride[3] != 1 || all.problem.pad_mode != PadMode::kConstant),
          copies_gy(all.gy.stride[3] != 1) {
        fill_zero(memory, size.sums + size.zeros);
        make_plane_masks<T>(masks, problem.stride_w, copies_x ? 0 : -problem.pad_left,
                            copies_x ? job.cut.image_cols : problem.w, problem.q);
    }

    T* sums() const { return memory; }
    T* zeros() const { return memory + size.sums; }
    T* x_copy() const { return zeros() + size.zeros; }
    T* gy_copy() const { return x_copy() + size.x; }

    void add(T* to, const Planes<T>& from, Index images, Index rows) const {
        const auto function = problem.stride_w == 1 ? add_plane_taps<T, 1> : add_plane_taps<T, 2>;
        function(to, from, masks, images, rows);
    }

    void copy_x(const Box& box, Index n, Index channel) const {
        const Index rows = (box.rows - 1) * problem.stride_h + 3, cols = job.cut.image_cols;
        const PaddedRun run = padded_run(-problem.pad_left, 1, cols, problem.w);
        const T* plane = job.x.data + n * job.x.stride[0] + channel * job.x.stride[1];
        for (Index row = 0; row < rows; ++row) {
            const Index h = source_index(box.p * problem.stride_h - problem.pad_top + row,
                                         problem.h, problem.pad_mode);
            copy_padded_run(x_copy() + row * cols, h < 0 ? nullptr : plane + h * job.x.stride[2],
                            job.x.stride[3], run, problem);
        }
    }

    void add_box(const Box& box, Index channel, T* to) const {
        const Index outputs = problem.k / problem.groups;
        const bool copies = copies_x || copies_gy;
        Planes<T> from{nullptr,          nullptr,
                       zeros(),          job.x.stride[2],
                       job.gy.stride[2], job.x.stride[0],
                       job.gy.stride[0], box.p * problem.stride_h - problem.pad_top,
                       problem.h,        -problem.pad_left,
                       problem.q};
        if (copies_x) {
            from.x_row = job.cut.image_cols;
            from.first = from.column = 0;
            from.rows = job.cut.image_rows;
        }
        if (copies_gy) from.gy_row = problem.q;
        for (Index n = box.n; n < box.n + box.images; n += copies ? 1 : box.images) {
            if (copies_x) copy_x(box, n, channel);
            from.x =
                copies_x ? x_copy() : job.x.data + n * job.x.stride[0] + channel * job.x.stride[1];
            for (Index m = 0; m < outputs; ++m) {
                const T* gy = job.gy.data + n * job.gy.stride[0] +
                              (channel * outputs + m) * job.gy.stride[1] + box.p * job.gy.stride[2];
                for (Index p = 0; copies_gy && p < box.rows; ++p) {
                    copy_strided(gy_copy() + p * problem.q, gy + p * job.gy.stride[2],
                                 job.gy.stride[3], problem.q);
                }
                from.gy = copies_gy ? gy_copy() : gy;
                add(to + m * 9 * kLanes<T>, from, copies ? 1 : box.images, box.rows);
            }
        }
    }
};

template <class T>
void plane_grad_task(const DepthwiseGradJob<T>& job, Index index, T* memory) {
    if constexpr (kHasMaskedLoad) {
        const Problem& problem = job.problem;
        const DepthwiseGradCut& cut = job.cut;
        const Index outputs = problem.k / problem.groups;
        const Index begin = index % cut.channel_blocks * cut.block;
        const Index end = least(problem.c, begin + cut.block);
        const Index chunk = index / cut.channel_blocks;
        const PlaneGradTask<T> task(job, memory);
        const BoxRange boxes = chunk_boxes(cut.boxes, cut.chunks, chunk);
        for (Index c = begin; c < end; ++c) {
            T* sums = task.sums() + (c - begin) * outputs * 9 * kLanes<T>;
            for (Index number = boxes.begin; number < boxes.end; ++number) {
                task.add_box(make_box(problem, cut.box, number), c, sums);
            }
        }
        store_plane_sums(problem, chunk_result(problem, job.gw, job.partial, chunk), task.sums(),
                         begin * outputs, (end - begin) * outputs);
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
