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

inline float floor_of(float v) {
    return __builtin_floorf(v);
}
inline double floor_of(double v) {
    return __builtin_floor(v);
}

// A position along one axis: between pixels `low` and low + 1, which weigh `before` and `after`.
template <class T>
struct Place {
    Index low;
    T before, after;
    bool first, second;  // whether either pixel is one of the image
};

// The fraction is that of the offset alone: its precision does not depend on where a pixel lies.
// |offset| < kFar.
template <class T>
inline Place<T> place(T offset, Index base, Index size) {
    const T floor = floor_of(offset), after = offset - floor;
    // both differences are rounded once: neither weight is 1 minus a rounded other
    const T before = after == 0 ? T(1) : floor + 1 - offset;
    const Index low = base + Index(floor);
    const auto inside = [size](Index i) { return std::uint64_t(i) < std::uint64_t(size); };
    // at -1 itself nothing of pixel 0 is met, not even zero times it
    return {low, before, after, inside(low), inside(low + 1) && (low >= 0 || after > 0)};
}

template <class T>
constexpr T kFar = T(Index(1) << 60);

// The four pixels around a position, of the first channel of a run, and their weights.
template <class T>
struct Sample {
    const T* corner[4];
    T weight[4];
};

template <class T>
inline Vec<T> blend(const Vec<T> (&weight)[4], const Vec<T> (&pixel)[4]) {
    return weight[0] * pixel[0] + weight[1] * pixel[1] + weight[2] * pixel[2] +
           weight[3] * pixel[3];
}

// Samples `channels` consecutive channels.
template <class T>
inline void sample_run(T* to, const Sample<T>& sample, Index channels) {
    constexpr int kL = kLanes<T>;
    Vec<T> weight[4], pixel[4];
    for (int i = 0; i < 4; ++i) weight[i] = splat(sample.weight[i]);
    Index c = 0;
    for (; c + kL <= channels; c += kL) {
        for (int i = 0; i < 4; ++i) pixel[i] = load(sample.corner[i] + c);
        store(to + c, blend<T>(weight, pixel));
    }
    if (c == channels) return;
    for (int i = 0; i < 4; ++i) pixel[i] = load_first(sample.corner[i] + c, channels - c);
    store_first(to + c, blend<T>(weight, pixel), channels - c);
}

// Offsets and masks of one image.
template <class T>
struct Moves {
    const DeformJob<T>& job;
    const T* offset;
    const T* mask;  // null: ones
};

// One tap of one offset group, seen from output pixel (0, 0).
template <class T>
struct Tap {
    const T* down;
    const T* across;
    const T* mask;  // null: ones
    Index row, column;
};

template <class T>
inline Tap<T> tap_of(const Moves<T>& moves, Index group, Index tap) {
    const Problem& problem = moves.job.gemm.problem;
    const Index number = group * problem.r * problem.s + tap;
    const T* down = moves.offset + 2 * number * moves.job.offset.stride[1];
    return {down, down + moves.job.offset.stride[1],
            moves.mask ? moves.mask + number * moves.job.mask.stride[1] : nullptr,
            tap / problem.s * problem.dilation_h - problem.pad_top,
            tap % problem.s * problem.dilation_w - problem.pad_left};
}

// Where a tap of output pixel (p, q) samples x.
template <class T>
inline Sample<T> sample_at(const Moves<T>& moves, const Tap<T>& tap, Index p, Index q,
                           const View<const T>& x) {
    const Problem& problem = moves.job.gemm.problem;
    const Index* moved = moves.job.offset.stride;
    const Index* masked = moves.job.mask.stride;
    const Index at = p * moved[2] + q * moved[3];
    const T down = tap.down[at], across = tap.across[at];
    const T scale = tap.mask ? tap.mask[p * masked[2] + q * masked[3]] : T(1);
    const T* zeros = kZeros<T>.item;
    const bool near = down > -kFar<T> && down < kFar<T> && across > -kFar<T> && across < kFar<T>;
    if (__builtin_expect(!near, 0)) {
        // a position that is not a number makes a sample that is none
        const T weight = down != down || across != across ? down + across : scale;
        return {{zeros, zeros, zeros, zeros}, {weight, weight, weight, weight}};
    }
    const Place<T> row = place(down, p * problem.stride_h + tap.row, problem.h);
    const Place<T> column = place(across, q * problem.stride_w + tap.column, problem.w);
    const Index row_pitch = x.stride[2], pixel_pitch = x.stride[3];
    const Index pixel = row.low * row_pitch + column.low * pixel_pitch;
    const T above = scale * row.before, below = scale * row.after;
    return {
        {row.first && column.first ? x.data + pixel : zeros,
         row.first && column.second ? x.data + (pixel + pixel_pitch) : zeros,
         row.second && column.first ? x.data + (pixel + row_pitch) : zeros,
         row.second && column.second ? x.data + (pixel + row_pitch + pixel_pitch) : zeros},
        {above * column.before, above * column.after, below * column.before, below * column.after}};
}

// Pixels as rows of kRowPitch, (r, s, c), sampled.
template <class T>
void sample_rows(T* panel, const Moves<T>& moves, const Slice<T>& slice, Index channel0,
                 Index first, Index rows, const Depth& depth) {
    const Problem& problem = slice.problem;
    const Index shared = problem.c / moves.job.offset_groups;  // channels of an offset group
    const Index first_p = first / problem.q, first_q = first % problem.q;
    Index c = depth.first % slice.channels, number = depth.first / slice.channels;
    for (Index d = 0; d < depth.count;) {
        const Index group = (channel0 + c) / shared;
        const Index run =
            least(least(depth.count - d, slice.channels - c), (group + 1) * shared - channel0 - c);
        const Tap<T> tap = tap_of(moves, group, number);
        View<const T> x = slice.x;
        x.data += c;
        Index p = first_p, q = first_q;
        T* to = panel + d;
        for (Index i = 0; i < rows; ++i, to += kRowPitch<T>) {
            sample_run(to, sample_at(moves, tap, p, q, x), run);
            if (++q == problem.q) {
                q = 0;
                ++p;
            }
        }
        d += run;
        c += run;
        if (c == slice.channels) {
            c = 0;
            ++number;
        }
    }
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
        prepare_columns(task, scratch, depth);
        for_row_tiles(task, [&](const RowTile& tile) {
            sample_rows(scratch.rows, moves, task.slice, group * task.slice.channels, tile.row,
                        tile.rows, depth);
            const RowPanel<T> rows{{scratch.rows, kEvenSteps<T, 1>.offset, 0},
                                   RowPitch::even(kRowPitch<T>)};
            for (Index panel = 0; panel < panels; ++panel) {
                multiply_tile(task, scratch, rows, tile, panel, depth);
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
