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
    bool inside;  // either pixel may be one of the image
};

// The fraction is that of the offset alone: its precision does not depend on where a pixel lies.
template <class T>
inline Place<T> place(T offset, Index base, Index size) {
    constexpr T kFar = T(Index(1) << 60);
    if (!(offset > -kFar && offset < kFar)) return {0, T(0), T(0), false};
    const T floor = floor_of(offset), after = offset - floor;
    // both differences are rounded once: neither weight is 1 minus a rounded other
    const T before = after == 0 ? T(1) : floor + 1 - offset;
    const Index low = base + Index(floor);
    return {low, before, after, low >= 0 ? low < size : low == -1 && after > 0};
}

// The four pixels around a position, of the first channel of a run, and their weights.
template <class T>
struct Sample {
    const T* corner[4];
    T weight[4];
};

template <class T>
inline Sample<T> sample_at(const Place<T>& row, const Place<T>& column, T scale, const T* x,
                           const Problem& problem, Index row_pitch, Index pixel_pitch) {
    const T* zeros = kZeros<T>.item;
    if (!row.inside || !column.inside) {
        return {{zeros, zeros, zeros, zeros}, {scale, scale, scale, scale}};
    }
    const bool above = row.low >= 0, below = row.low + 1 < problem.h;
    const bool left = column.low >= 0, right = column.low + 1 < problem.w;
    const Index at = row.low * row_pitch + column.low * pixel_pitch;
    return {{above && left ? x + at : zeros, above && right ? x + (at + pixel_pitch) : zeros,
             below && left ? x + (at + row_pitch) : zeros,
             below && right ? x + (at + row_pitch + pixel_pitch) : zeros},
            {scale * (row.before * column.before), scale * (row.before * column.after),
             scale * (row.after * column.before), scale * (row.after * column.after)}};
}

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

    // Where tap `tap` of offset group `group` of output pixel (p, q) samples.
    Sample<T> sample(Index group, Index tap, Index p, Index q, const View<const T>& x) const {
        const Problem& problem = job.gemm.problem;
        const Index number = group * problem.r * problem.s + tap;
        const Index* stride = job.offset.stride;
        const T* at = offset + 2 * number * stride[1] + p * stride[2] + q * stride[3];
        const Index row =
            p * problem.stride_h - problem.pad_top + tap / problem.s * problem.dilation_h;
        const Index column =
            q * problem.stride_w - problem.pad_left + tap % problem.s * problem.dilation_w;
        const T down = at[0], across = at[stride[1]];
        T scale = 1;
        if (mask) {
            const Index* step = job.mask.stride;
            scale = mask[number * step[1] + p * step[2] + q * step[3]];
        }
        // a position that is not a number makes a sample that is none
        if (down != down || across != across) scale = down + across;
        return sample_at(place(down, row, problem.h), place(across, column, problem.w), scale,
                         x.data, problem, x.stride[2], x.stride[3]);
    }
};

// Pixels as rows of kRowPitch, (r, s, c), sampled.
template <class T>
void sample_rows(T* panel, const Moves<T>& moves, const Slice<T>& slice, Index channel0,
                 Index first, Index rows, const Depth& depth) {
    const Problem& problem = slice.problem;
    const Index shared = problem.c / moves.job.offset_groups;  // channels of an offset group
    for (Index d = 0; d < depth.count;) {
        const Index tap = (depth.first + d) / slice.channels,
                    c = (depth.first + d) % slice.channels;
        const Index group = (channel0 + c) / shared;
        const Index run =
            least(least(depth.count - d, slice.channels - c), (group + 1) * shared - channel0 - c);
        View<const T> x = slice.x;
        x.data += c;
        Index p = first / problem.q, q = first % problem.q;
        for (Index i = 0; i < rows; ++i) {
            sample_run(panel + i * kRowPitch<T> + d, moves.sample(group, tap, p, q, x), run);
            if (++q == problem.q) {
                q = 0;
                ++p;
            }
        }
        d += run;
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
