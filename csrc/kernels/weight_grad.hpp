// One task of the gradient of w: gw = gy * im2col(x)^T, summed over the pixels of one chunk.
//
// Steps of the reduction are output pixels, in the order (n, p, q).
#pragma once

#include "kernels/gemm_tile.hpp"
#include "kernels/weight_grad_operands.hpp"
#include "kernels/weight_grad_store.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// What is fetched while the tiles of a box are computed: the pixels of the next one, where their
// channels are neighbours. Copying those would wait for memory. Each step of a tile fetches a line,
// a step of the rows further than the one before it.
template <class T>
struct NextPixels {
    static constexpr Index kLine = 64 / Index(sizeof(T));
    // more would drive out what the box itself reads
    static constexpr Index kMost = (320 << 10) / Index(sizeof(T));
    const T* data[2] = {};  // of x and of gy
    Index tiles[2] = {};    // that fetch it
    Index step = 0, pixels = 0;

    Index lines() const { return ceil_div(step, kLine); }

    // From a tile's rows to what it fetches.
    Index ahead(Index tile, const T* rows) const {
        for (int i = 0; i < 2; ++i) {
            if (tile < tiles[i]) {
                return data[i] + tile / lines() * pixels * step + tile % lines() * kLine - rows;
            }
            tile -= tiles[i];
        }
        return 0;
    }
};

template <class T>
NextPixels<T> next_pixels(const GradTask<T>& task, const Index* row_offset, const Box& box,
                          const Box& next) {
    const Problem& problem = task.problem;
    const View<const T>&x = task.x, &gy = task.gy;
    NextPixels<T> fetched{};
    fetched.pixels = box.pixels();
    if (x.stride[1] != 1 || gy.stride[1] != 1 || problem.groups > 1 || fetched.pixels < 2) {
        return fetched;
    }
    fetched.step = row_offset[1];
    if (fetched.step < NextPixels<T>::kLine) return fetched;
    const Index top = most(0, next.p * problem.stride_h - problem.pad_top);
    const bool whole = next.rows == problem.p;
    const Index rows = least(problem.h - top, next.rows * problem.stride_h);
    // strides skip rows
    const Index of_x = problem.stride_h > 1 && problem.r == 1 ? 0
                       : whole                                ? next.images * x.stride[0]
                                                              : rows * x.stride[2];
    const Index of_gy = next.pixels() * gy.stride[3], each = fetched.pixels * fetched.step;
    if (of_x + of_gy > NextPixels<T>::kMost) return fetched;
    fetched.data[0] = x.data + next.n * x.stride[0] + (whole ? 0 : top * x.stride[2]);
    fetched.data[1] =
        gy.data + next.n * gy.stride[0] + next.p * gy.stride[2] + next.q * gy.stride[3];
    fetched.tiles[0] = ceil_div(most(of_x, 0), each) * fetched.lines();
    fetched.tiles[1] = ceil_div(most(of_gy, 0), each) * fetched.lines();
    return fetched;
}

// Adds the products of one box to all tiles of the task.
template <class T>
void multiply_box(const GradTask<T>& task, const GradScratch<T>& scratch, const Box& box,
                  bool opens, const Box* following) {
    static constexpr TileTable<T> tiles;
    constexpr Index kC = kCols<T>, kL = kLanes<T>;
    const WeightGradBlocking& b = task.blocking;
    const GradSide<T> lanes =
        b.channel_lanes ? image_lanes(task, scratch, box) : output_lanes(task, scratch, box);
    const GradSide<T> rows =
        b.channel_lanes ? output_rows(task, scratch, box) : image_rows(task, scratch, box);
    const RowPitch pitch = RowPitch::even(rows.pitch);
    NextPixels<T> next{};
    if (following) next = next_pixels(task, scratch.row_offset, box, *following);
    T* sums = scratch.sums;
    Index tile = 0;
    for (Index lane = 0; lane < task.lanes; lane += kC) {
        const Index vectors = ceil_div(least(kC, task.lanes - lane), kL);
        const T* panel = lanes.data + lane / kC * lanes.panel;
        for (Index row = 0; row < task.rows; row += b.row_tile) {
            const auto function =
                tiles.by_shape[vectors - 1][least(b.row_tile, task.rows - row) - 1];
            const T* first = rows.data + row / b.row_tile * rows.panel;
            for (Index tap = 0; tap < b.taps; ++tap, ++tile, sums += kRows * kC) {
                const Operand<T> a{first, scratch.row_offset, next.ahead(tile, first)};
                const Index r = tap / task.problem.s, s = tap % task.problem.s;
                const Operand<T> c{panel + r * lanes.row + s * lanes.col, scratch.lane_offset, 0};
                function(box.pixels(), a, pitch, c, sums, kC, !opens, nullptr);
            }
        }
    }
}

// Whether rows are channels within taps, and not the other way round as in gw.
template <class T>
bool has_taps_first(const GradTask<T>& task) {
    const WeightGradBlocking& b = task.blocking;
    return !b.channel_lanes && b.pixel_major && !b.x_in_place;
}

// Where row `row` of the product is in gw, from its group's first element on.
template <class T>
Index row_of_gw(const GradTask<T>& task, Index row) {
    const Problem& problem = task.problem;
    const View<T>& gw = task.gw;
    if (task.blocking.channel_lanes) return row * gw.stride[0];
    const Index taps = problem.r * problem.s, channels = problem.c / problem.groups;
    const bool taps_first = has_taps_first(task);
    const Index c = taps_first ? row % channels : row / taps;
    const Index tap = taps_first ? row / channels : row % taps;
    return c * gw.stride[1] + tap / problem.s * gw.stride[2] + tap % problem.s * gw.stride[3];
}

template <class T>
void store_task(const GradTask<T>& task, const T* sums) {
    constexpr Index kC = kCols<T>;
    const WeightGradBlocking& b = task.blocking;
    const Problem& problem = task.problem;
    const View<T>& gw = task.gw;
    const bool dense = has_dense_kernels(problem, gw);
    for (Index lane = 0; lane < task.lanes; lane += kC) {
        const Index lanes = least(kC, task.lanes - lane);
        for (Index row = 0; row < task.rows; row += b.row_tile, sums += b.taps * kRows * kC) {
            const Index rows = least(b.row_tile, task.rows - row), first = task.row0 + row;
            if (b.channel_lanes) {
                for (Index i = 0; i < rows; ++i) {
                    T* to =
                        gw.data + row_of_gw(task, first + i) + (task.lane0 + lane) * gw.stride[1];
                    store_taps(to, gw, problem, sums + i * kC, kRows * kC, lanes, dense);
                }
                continue;
            }
            T* to = gw.data + (task.lane0 + lane) * gw.stride[0];
            const Index begin = row_of_gw(task, first);
            if (dense && !has_taps_first(task)) {
                store_turned(to + begin, gw.stride[0], sums, kC, rows, lanes);
                continue;
            }
            for (Index i = 0; i < rows; ++i) {
                const Index place = row_of_gw(task, first + i);
                for (Index j = 0; j < lanes; ++j) to[place + j * gw.stride[0]] = sums[i * kC + j];
            }
        }
    }
}

template <class T>
void weight_grad_task(const WeightGradJob<T>& job, Index index, T* memory) {
    const GradTask<T> task = make_grad_task(job, index);
    const GradScratch<T> scratch = grad_scratch(job.blocking, memory);
    for (Index box = task.boxes.begin; box < task.boxes.end; ++box) {
        const Box following = make_box(job.problem, job.blocking.box, box + 1);
        multiply_box(task, scratch, make_box(job.problem, job.blocking.box, box),
                     box == task.boxes.begin, box + 1 < task.boxes.end ? &following : nullptr);
    }
    store_task(task, static_cast<const T*>(scratch.sums));
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
