// Depthwise convolution with channels as lanes: an image with its channels together is read in
// place, whatever its borders and strides.
#pragma once

#include "kernels/depthwise_cut.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Which padded rows of an image a tile reads: offsets in bytes of the rows, or of a row of zeros,
// which costs no branch. Loops run over whole blocks, for the compiler to turn into vectors.
struct RowOffsets {
    static constexpr int kBlock = kRowBlock;
    static_assert(kMostSpan % kBlock == 0, "whole blocks");
    Index offset[kMostSpan];
    Index inside[kMostSpan];  // all bits set, or none for a row of zeros
    Index begin = 0, span = 0;
    bool all_inside = false;

    void set(const Problem& problem, Index pitch_bytes, Index first, Index count) {
        if (first == begin && count == span) return;
        begin = first;
        span = count;
        const Index row0 = first - problem.pad_top, size = problem.h;
        all_inside = row0 >= 0 && row0 + count <= size;
        for (Index i = 0; i < count; i += kBlock) {
            for (int j = 0; j < kBlock; ++j) {
                const Index row = row0 + i + j;
                offset[i + j] = row * pitch_bytes;
                inside[i + j] = -Index(row >= 0 && row < size);
            }
        }
        if (all_inside || problem.pad_mode == PadMode::kConstant) return;
        all_inside = true;
        for (Index i = 0; i < count; ++i) {
            offset[i] = source_index(row0 + i, size, problem.pad_mode) * pitch_bytes;
            inside[i] = -1;
        }
    }

    // rows[i]: row i of the image at `base`, or the zeros.
    template <class T>
    void place(const T* base, const T* zeros, const T** rows) const {
        const Index zero = reinterpret_cast<Index>(zeros);
        const Index away = reinterpret_cast<Index>(base) - zero;
        for (Index i = 0; i < span; i += kBlock) {
            for (int j = i; j < i + kBlock; ++j) {
                rows[j] = reinterpret_cast<const T*>(zero + ((away + offset[j]) & inside[j]));
            }
        }
    }
};

// The columns that one pixel reads, where lanes are channels: image rows moved to each column.
template <class T>
struct PixelColumns {
    const T* zeros[kMostSpan];
    const T* rows[kMostSpan];
    const T* moved[kMostTaps][kMostSpan];
    ColumnTaps<T> columns[kMostTaps];

    void set(const Problem& problem, const RowOffsets& offsets, const T* image, Index column_stride,
             Index q) {
        for (Index s = 0; s < problem.s; ++s) {
            const Index column =
                source_index(q * problem.stride_w - problem.pad_left + s * problem.dilation_w,
                             problem.w, problem.pad_mode);
            if (column < 0) {
                columns[s] = {zeros, 0};
            } else if (offsets.all_inside) {
                columns[s] = {rows, column * column_stride};
            } else {
                offsets.place(image + column * column_stride, zeros[0], moved[s]);
                columns[s] = {moved[s], 0};
            }
        }
    }
};

template <class E>
void channel_unit(const DepthwiseJob<E>& job, Index unit, DepthwiseSum<E>* scratch) {
    using T = DepthwiseSum<E>;
    using Result = ResultOf<E>;
    using Weight = ChannelWeight<E>;
    const Problem& problem = job.problem;
    const DepthwiseCut& cut = job.cut;
    const View<const E>& x = job.arrays.x;
    const View<Result>& y = job.arrays.y;
    const Index channel_block = unit % cut.channel_blocks;
    unit /= cut.channel_blocks;
    const Index row_block = unit % cut.row_blocks, image = unit / cut.row_blocks;
    const Index p0 = row_block * cut.row_block, p1 = least(problem.p, p0 + cut.row_block);
    const Index k0 = block_begin<E>(problem, cut, channel_block);
    const Index lanes = block_begin<E>(problem, cut, channel_block + 1) - k0;

    // zeros of any type
    const E* const zeros = reinterpret_cast<const E*>(scratch);
    PixelColumns<E> pixel;
    for (Index i = 0; i < cut.slots; ++i) pixel.zeros[i] = zeros;
    Strip<InPlace<E>> strip = make_strip<InPlace<E>>(problem, pixel.columns);
    strip.lanes = lanes;
    strip.bias = job.arrays.bias ? job.arrays.bias + k0 : reinterpret_cast<const Result*>(scratch);
    if (job.arrays.packed && problem.channels_last) {
        strip.weight_pitch = weight_pitch<T>(problem.k);
        strip.weights = static_cast<const Weight*>(job.arrays.packed) + k0;
    } else {
        auto* const packed = reinterpret_cast<Weight*>(scratch + 2 * cut.slot_pitch);
        strip.weight_pitch = cut.slot_pitch;
        strip.weights = packed;
        pack_channel_vectors(problem, job.arrays.w, k0, lanes, packed, strip.weight_pitch);
    }
    const E* const from = x.data + image * x.stride[0] + k0;
    Result* const to = y.data + image * y.stride[0] + k0;
    strip.y_pitch = y.stride[2];
    const int shape = strip_shape<InPlace<E>>(problem, true);
    const StripCut<InPlace<E>, true> strip_cut(lanes);
    RowOffsets offsets;
    for (Index p = p0; p < p1;) {
        const int tile = tile_rows(p1 - p);
        const Index count = kTileRows[tile];
        offsets.set(problem, x.stride[2] * Index(sizeof(E)), p * problem.stride_h,
                    row_span(problem, count));
        offsets.place(from, zeros, pixel.rows);
        for (Index q = 0; q < problem.q; ++q) {
            pixel.set(problem, offsets, from, x.stride[3], q);
            strip.y = to + p * y.stride[2] + q * y.stride[3];
            run_strip<Lanes::kChannels>(strip, strip_cut, shape, tile);
            if (!InPlace<E>::plain || !finishes_later(problem.activation)) continue;
            for (Index i = 0; i < count; ++i) {
                finish_strip<InPlace<E>>(strip.y + i * strip.y_pitch, lanes, problem.activation);
            }
        }
        p += count;
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
