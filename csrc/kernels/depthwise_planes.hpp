// Depthwise convolution with pixels as lanes: blocks of rows of one channel after another.
#pragma once

#include "kernels/depthwise_rows.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Places the padded rows of a tile, row `first` on, and how they move from plane to plane. A row of
// zeros costs no branch.
template <class T, class N>
inline void place_rows(const Problem& problem, const T* base, Index pitch, Index first, Index step,
                       const T* zeros, Strip<N>& strip, Index* steps) {
    const Index row0 = first - problem.pad_top, size = problem.h;
    const bool constant = problem.pad_mode == PadMode::kConstant;
    for (Index i = 0; i < strip.span; ++i) {
        Index row = row0 + i;
        if (!constant) row = source_index(row, size, problem.pad_mode);
        const bool inside = row >= 0 && row < size;
        strip.rows[i] = inside ? base + row * pitch : zeros;
        steps[i] = inside ? step : 0;
    }
}

// Units of a task where lanes are pixels: blocks of rows of output channels.
template <class E>
struct PlaneTask {
    using T = DepthwiseSum<E>;
    using Result = ResultOf<E>;
    const DepthwiseJob<E>& job;
    const PlaneGeometry<E>& geometry;
    T* zeros;
    T* slots;
    Result* buffer;
    int shape;
    bool in_place;
    Result no_bias{};
    Strip<Copied<E>> strip;
    const T* rows[kMostSpan];
    Index steps[kMostSpan];
    ColumnTaps<T> columns[kMostTaps];
    T own_weights[kMostPlanes * kMostTaps * kMostTaps];

    PlaneTask(const DepthwiseJob<E>& all, const PlaneGeometry<E>& block, T* scratch)
        : job(all),
          geometry(block),
          zeros(scratch),
          slots(zeros + all.cut.slot_pitch),
          buffer(reinterpret_cast<Result*>(slots +
                                           all.cut.planes * all.cut.slots * all.cut.slot_pitch)),
          shape(strip_shape<Copied<E>>(all.problem, false)),
          strip(make_strip<Copied<E>>(all.problem, columns)) {
        for (Index s = 0; s < job.problem.s; ++s) columns[s] = {rows, geometry.offsets[s]};
        in_place = job.arrays.y.stride[3] == 1;
        strip.rows = rows;
        strip.row_steps = steps;
        strip.weight_step = job.problem.r * job.problem.s;
        strip.bias = &no_bias;
        strip.bias_step = job.arrays.bias ? 1 : 0;
        strip.lanes = geometry.lanes;
        strip.masks = geometry.masks;
        strip.y_pitch = in_place ? job.arrays.y.stride[2] : whole_lines<T>(job.cut.col_block);
        strip.y_step = job.arrays.y.stride[1];
    }

    // How many channels from k on are computed together.
    Index group(Index k, Index left) const {
        const Problem& problem = job.problem;
        if (!in_place || problem.k != problem.c || job.cut.row_blocks > 1) return 1;
        return least(least(geometry.planes, left), problem.k - k);
    }

    void run(Index image, Index k, Index planes, Index p0, Index p1) {
        const Problem& problem = job.problem;
        const View<const E>& x = job.arrays.x;
        const View<Result>& y = job.arrays.y;
        const Index channel = problem.k == problem.c ? k : k / (problem.k / problem.groups);
        strip.planes = planes;
        if (job.arrays.bias) strip.bias = job.arrays.bias + k;
        if (job.arrays.packed && !problem.channels_last) {
            strip.weights = static_cast<const T*>(job.arrays.packed) + k * strip.weight_step;
        } else {
            strip.weights = own_weights;
            for (Index i = 0; i < planes; ++i) {
                pack_channel(problem, job.arrays.w, k + i, own_weights + i * strip.weight_step);
            }
        }
        const E* const from = x.data + image * x.stride[0] + channel * x.stride[1];
        Result* const to =
            y.data + image * y.stride[0] + k * y.stride[1] + geometry.q0 * y.stride[3];
        CopiedRows<E> copied{geometry, x,     from,
                             planes,   slots, job.cut.slots * job.cut.slot_pitch,
                             zeros,    rows,  steps};
        for (Index p = p0; p < p1;) {
            const int tile = tile_rows(p1 - p);
            const Index count = kTileRows[tile];
            strip.span = row_span(problem, count);
            strip.y = in_place ? to + p * strip.y_pitch : buffer;
            if (geometry.direct) {
                if constexpr (kSame<E, T>) {
                    if (job.cut.fetches && in_place) fetch_ahead(p, count, p1);
                    place_rows(problem, from + geometry.column, x.stride[2], p * problem.stride_h,
                               x.stride[1], zeros, strip, steps);
                    run_strip<Lanes::kMaskedPixels>(strip, geometry.strip_cut, shape, tile);
                }
            } else {
                copied.advance(p * problem.stride_h, strip.span);
                run_strip<Lanes::kPixels>(strip, geometry.strip_cut, shape, tile);
                if (planes > 1) move_rows(strip, 1 - planes);
            }
            finish(count, to + p * y.stride[2]);
            p += count;
        }
    }

    // What follows a tile: the next one of the same planes, or the first one of the next planes.
    void fetch_ahead(Index p, Index count, Index p1) {
        const Index step = job.problem.stride_h;
        const View<const E>& x = job.arrays.x;
        if (p + count < p1 || strip.planes == 1) {
            strip.x_ahead = count * step * x.stride[2];
            strip.y_ahead = count * strip.y_pitch;
        } else {
            strip.x_ahead = strip.planes * x.stride[1] - p * step * x.stride[2];
            strip.y_ahead = strip.planes * strip.y_step - p * strip.y_pitch;
        }
    }

    void finish(Index count, Result* to) const {
        const View<Result>& y = job.arrays.y;
        if (Copied<E>::plain && finishes_later(job.problem.activation)) {
            for (Index i = 0; i < strip.planes * count; ++i) {
                finish_strip<Copied<E>>(
                    strip.y + i / count * strip.y_step + i % count * strip.y_pitch, strip.lanes,
                    job.problem.activation);
            }
        }
        if (in_place) return;
        for (Index i = 0; i < count; ++i, to += y.stride[2]) {
            const Result* row = strip.y + i * strip.y_pitch;
            for (Index q = 0; q < strip.lanes; ++q) to[q * y.stride[3]] = row[q];
        }
    }
};

template <class E>
void plane_units(const DepthwiseJob<E>& job, Index begin, Index end, DepthwiseSum<E>* scratch) {
    const Problem& problem = job.problem;
    const DepthwiseCut& cut = job.cut;
    for (Index q = 0; q < problem.q; q += cut.col_block) {
        const PlaneGeometry<E> geometry(job, q, least(problem.q, q + cut.col_block));
        PlaneTask<E> task(job, geometry, scratch);
        for (Index unit = begin; unit < end;) {
            const Index row_block = unit % cut.row_blocks, plane = unit / cut.row_blocks;
            const Index k = plane % problem.k, planes = task.group(k, end - unit);
            const Index p = row_block * cut.row_block;
            task.run(plane / problem.k, k, planes, p, least(problem.p, p + cut.row_block));
            unit += planes;
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
