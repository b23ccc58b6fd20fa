// One task of a deformable convolution: the im2col GEMM with output channels as lanes, whose rows
// are not copied pixels but samples between them.
//
// Where a tap samples, and the weights of the four pixels around it, are found once for all
// channels that share an offset; the samples themselves are vectors of channels.
#pragma once

#include "kernels/im2col_gemm.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Pixels outside of the image; a run of channels is no longer than a stretch of the reduction.
template <class T>
struct Zeros {
    T item[kMaxDepthBlock<T>];
};
template <class T>
alignas(64) constexpr Zeros<T> kZeros{};

// Pixels of a register tile, in whole vectors.
template <class T>
constexpr int kTilePixels = kStepPitch<T>;

// Offsets from here on lie outside of every image.
template <class T>
constexpr T kFar = T(Index(1) << 60);

// From here on every number is whole.
template <class T>
constexpr T kWhole = T(Index(1) << (sizeof(T) == 4 ? 23 : 52));

// By way of integers: not every instruction set rounds.
template <class T>
inline Vec<T> floor_of(Vec<T> v) {
    const auto fractional = absolute<T>(v) < kWhole<T>;
    const Vec<T> small = fractional ? v : Vec<T>{};
    const Vec<T> whole = __builtin_convertvector(__builtin_convertvector(small, IntVec<T>), Vec<T>);
    return fractional ? (whole > small ? whole - 1 : whole) : v;
}

// Offsets and masks of one image.
template <class T>
struct Moves {
    const DeformJob<T>& job;
    const T* offset;
    const T* mask;  // null: ones
};

// The output pixels of a register tile: in offsets, in masks, and in x before any tap.
template <class T>
struct TilePixels {
    Index offset[kRows], mask[kRows], row[kRows], column[kRows];
    Index count;

    TilePixels(const DeformJob<T>& job, Index first, Index rows) : count(rows) {
        const Problem& problem = job.gemm.problem;
        const Index *moved = job.offset.stride, *masked = job.mask.stride;
        Index p = first / problem.q, q = first % problem.q;
        for (Index i = 0; i < rows; ++i) {
            offset[i] = p * moved[2] + q * moved[3];
            mask[i] = p * masked[2] + q * masked[3];
            row[i] = p * problem.stride_h - problem.pad_top;
            column[i] = q * problem.stride_w - problem.pad_left;
            if (++q < problem.q) continue;
            q = 0;
            ++p;
        }
    }
};

// Positions along one axis: pixels `low` and low + 1 weigh `before` and `after`.
template <class T>
struct Places {
    Vec<T> low, before, after;
};

// The fractions are those of the offsets alone: their precision does not depend on where a pixel
// lies. A NaN lies outside of the image and has weights of NaN.
template <class T>
inline Places<T> places(Vec<T> offset) {
    const Vec<T> far = splat(kFar<T>);
    const Vec<T> least = offset < -far ? -far : offset;
    const Vec<T> moved = least > far ? far : least;
    const Vec<T> low = floor_of<T>(moved), after = moved - low;
    // both differences are rounded once: neither weight is 1 minus a rounded other
    const Vec<T> before = after == 0 ? splat(T(1)) : low + 1 - moved;
    return {moved == moved ? low : far, before, after};
}

// Where one tap of one offset group samples x for every pixel of a tile.
template <class T>
struct TapPlaces {
    alignas(64) T row[kTilePixels<T>];
    alignas(64) T column[kTilePixels<T>];
    alignas(64) T down[kTilePixels<T>];  // weights of the second row and column
    alignas(64) T across[kTilePixels<T>];
    alignas(64) T weight[4][kTilePixels<T>];
    Index tap_row, tap_column;

    TapPlaces(const Moves<T>& moves, const TilePixels<T>& pixels, Index group, Index tap) {
        const DeformJob<T>& job = moves.job;
        const Problem& problem = job.gemm.problem;
        const Index number = group * problem.r * problem.s + tap;
        tap_row = tap / problem.s * problem.dilation_h;
        tap_column = tap % problem.s * problem.dilation_w;
        alignas(64) T scale[kTilePixels<T>] = {}, vertical[kTilePixels<T>] = {},
                      horizontal[kTilePixels<T>] = {};
        const T* offset = moves.offset + 2 * number * job.offset.stride[1];
        for (Index i = 0; i < pixels.count; ++i) {
            vertical[i] = offset[pixels.offset[i]];
            horizontal[i] = offset[pixels.offset[i] + job.offset.stride[1]];
        }
        const T* mask = moves.mask ? moves.mask + number * job.mask.stride[1] : nullptr;
        for (Index i = 0; i < pixels.count; ++i) scale[i] = mask ? mask[pixels.mask[i]] : T(1);
        for (int v = 0; v < kTilePixels<T>; v += kLanes<T>) {
            const Places<T> rows = places<T>(load(vertical + v));
            const Places<T> columns = places<T>(load(horizontal + v));
            const Vec<T> above = load(scale + v) * rows.before;
            const Vec<T> below = load(scale + v) * rows.after;
            store(row + v, rows.low);
            store(column + v, columns.low);
            store(down + v, rows.after);
            store(across + v, columns.after);
            store(weight[0] + v, above * columns.before);
            store(weight[1] + v, above * columns.after);
            store(weight[2] + v, below * columns.before);
            store(weight[3] + v, below * columns.after);
        }
    }
};

// The four pixels around a position, of the first channel of a run.
template <class T>
struct Corners {
    const T* at[4];
};

template <class T>
inline Corners<T> corners_of(const TapPlaces<T>& places, const TilePixels<T>& pixels, Index i,
                             const Slice<T>& slice, Index channel) {
    const Problem& problem = slice.problem;
    const Index* pitch = slice.x.stride;
    const Index row = Index(places.row[i]) + (pixels.row[i] + places.tap_row);
    const Index column = Index(places.column[i]) + (pixels.column[i] + places.tap_column);
    const T* x = slice.x.data + channel;
    const auto inside = [](Index at, Index size) {
        return std::uint64_t(at) < std::uint64_t(size);
    };
    if (__builtin_expect(inside(row, problem.h - 1) && inside(column, problem.w - 1), 1)) {
        x += row * pitch[2] + column * pitch[3];
        return {{x, x + pitch[3], x + pitch[2], x + (pitch[2] + pitch[3])}};
    }
    const bool above = inside(row, problem.h), left = inside(column, problem.w);
    // at -1 itself nothing of pixel 0 is met, not even zero times it
    const bool below = inside(row + 1, problem.h) && (row >= 0 || places.down[i] > 0);
    const bool right = inside(column + 1, problem.w) && (column >= 0 || places.across[i] > 0);
    const auto pixel = [&](bool met, Index y, Index z) {
        return met ? x + (y * pitch[2] + z * pitch[3]) : kZeros<T>.item;
    };
    return {{pixel(above && left, row, column), pixel(above && right, row, column + 1),
             pixel(below && left, row + 1, column), pixel(below && right, row + 1, column + 1)}};
}

template <class T>
inline Vec<T> blend(const Vec<T> (&weight)[4], const Vec<T> (&pixel)[4]) {
    return weight[0] * pixel[0] + weight[1] * pixel[1] + weight[2] * pixel[2] +
           weight[3] * pixel[3];
}

// Samples `channels` consecutive channels.
template <class T>
inline void sample_run(T* to, const Corners<T>& corners, const Vec<T> (&weight)[4],
                       Index channels) {
    constexpr int kL = kLanes<T>;
    Vec<T> pixel[4];
    Index c = 0;
    for (; c + kL <= channels; c += kL) {
        for (int i = 0; i < 4; ++i) pixel[i] = load(corners.at[i] + c);
        store(to + c, blend<T>(weight, pixel));
    }
    if (c == channels) return;
    for (int i = 0; i < 4; ++i) pixel[i] = load_first(corners.at[i] + c, channels - c);
    store_first(to + c, blend<T>(weight, pixel), channels - c);
}

// Pixels as rows of kRowPitch, (r, s, c), sampled.
template <class T>
void sample_rows(T* panel, const Moves<T>& moves, const Slice<T>& slice, Index channel0,
                 Index first, Index rows, const Depth& depth) {
    const Index shared = slice.problem.c / moves.job.offset_groups;  // channels of an offset group
    const TilePixels<T> pixels(moves.job, first, rows);
    Index c = depth.first % slice.channels, tap = depth.first / slice.channels;
    for (Index d = 0; d < depth.count;) {
        const Index group = (channel0 + c) / shared;
        const Index run =
            least(least(depth.count - d, slice.channels - c), (group + 1) * shared - channel0 - c);
        const TapPlaces<T> places(moves, pixels, group, tap);
        T* to = panel + d;
        for (Index i = 0; i < rows; ++i, to += kRowPitch<T>) {
            Vec<T> weight[4];
            for (int j = 0; j < 4; ++j) weight[j] = splat(places.weight[j][i]);
            sample_run(to, corners_of(places, pixels, i, slice, c), weight, run);
        }
        d += run;
        c += run;
        if (c < slice.channels) continue;
        c = 0;
        ++tap;
    }
}

// Packs panel `number` of one group's weights `w` as the tasks read it.
template <class T>
void deform_pack(const Problem& problem, const View<const T>& w, Index number, T* panel) {
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    const Index first = number * kCols<T>, count = least(kCols<T>, outputs - first);
    const WeightSteps steps(w.stride, channels, problem.r, problem.s, true);
    bool finite;
    pack_weights<T>({panel, 0, kCols<T>, kVectors}, w.data + first * w.stride[0], w.stride[0],
                    count, steps, 0, channels * problem.r * problem.s, &finite);
}

template <class T>
void deform_task(const DeformJob<T>& job, Index index, void* memory) {
    const Blocking& b = job.gemm.blocking;
    const Problem& problem = job.gemm.problem;
    const Task<T> task = make_task(job.gemm, index);
    const Scratch<T> scratch = make_scratch<T>(b, memory);
    const Index place = index / (b.row_blocks * b.col_blocks);
    const Index image = place / problem.groups, group = place % problem.groups;
    const Moves<T> moves{job, job.offset.data + image * job.offset.stride[0],
                         job.mask.data ? job.mask.data + image * job.mask.stride[0] : nullptr};
    const Index panels = ceil_div(task.cols, Index(kCols<T>));
    for (Index block = 0; block < b.depth_blocks; ++block) {
        const Depth depth = begin_depth(task, scratch, block);
        const TileSteps steps = all_steps<T>(scratch, depth.count, false);
        prepare_columns(task, scratch, depth);
        for_row_tiles(task, [&](const RowTile& tile) {
            sample_rows(scratch.rows, moves, task.slice, group * task.slice.channels, tile.row,
                        tile.rows, depth);
            const RowPanel<T> rows{{scratch.rows, kEvenSteps<T, 1>.offset, 0},
                                   RowPitch::even(kRowPitch<T>)};
            for (Index panel = 0; panel < panels; ++panel) {
                multiply_tile(task, scratch, rows, tile, panel, depth, steps);
            }
        });
    }
}

// Copies `count` pixels, `pitch` apart in x, with their channels side by side.
template <class T>
void interleave_channels(T* to, const T* from, Index channels, Index channel_pitch, Index count,
                         Index pitch) {
    constexpr int kL = kLanes<T>;
    if (pitch != 1) {
        for (Index i = 0; i < count; ++i) {
            copy_strided(to + i * channels, from + i * pitch, channel_pitch, channels);
        }
        return;
    }
    for (Index i = 0; i < count; i += kL) {
        const Index pixels = least(kL, count - i);
        for (Index c = 0; c < channels; c += kL) {
            const Index planes = least(kL, channels - c);
            Vec<T> block[kL];
            for (int j = 0; j < kL; ++j) {
                block[j] =
                    j < planes ? load_first(from + (c + j) * channel_pitch + i, pixels) : Vec<T>{};
            }
            transpose<T>(block);
            for (int j = 0; j < pixels; ++j)
                store_first(to + (i + j) * channels + c, block[j], planes);
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
