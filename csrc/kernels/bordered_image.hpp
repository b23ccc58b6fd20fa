// A block of x copied with its border: every tap of every pixel is then read in place. Each pixel
// is copied once for all taps that meet it, where im2col would gather it for each of them.
#pragma once

#include "kernels/border.hpp"
#include "kernels/copy.hpp"
#include "kernels/kernels.hpp"
#include "kernels/vec.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// One row of one channel, columns `pitch` apart in x and consecutive in the copy.
template <class T>
void copy_bordered_row(T* to, const T* from, Index pitch, Index width, const Problem& problem) {
    const Index begin = least(width, problem.pad_left);
    const Index end = most(begin, least(width, problem.pad_left + problem.w));
    copy_strided(to + begin, from, pitch, end - begin);
    if (problem.pad_mode == PadMode::kConstant) {
        fill_zero(to, begin);
        fill_zero(to + end, width - end);
        return;
    }
    for (Index i = 0; i < width; ++i) {
        if (i == begin) i = end;
        if (i >= width) break;
        to[i] = from[source_index(i - problem.pad_left, problem.w, problem.pad_mode) * pitch];
    }
}

// Lanes of each vector of a row that x fills; the others are the zero of the border.
template <class T>
struct RowMasks {
    static constexpr Index kMost = 64;
    Mask<T> mask[kMost];
    Index count;

    RowMasks(const ImageBlock& image, const Problem& problem)
        : count(ceil_div(image.width, Index(kLanes<T>))) {
        for (Index i = 0; i < least(count, kMost); ++i) {
            const Index first = i * kLanes<T> - problem.pad_left;
            const Inside inside = inside_lanes(first, 1, kLanes<T>, problem.w);
            mask[i] = lane_mask<T>(int(inside.begin), int(inside.end));
        }
    }
};

// The same row, a vector at a time. The last store may reach a vector beyond the row, into a row
// that is copied later or the gap behind the last.
template <class T>
void copy_bordered_vectors(T* to, const T* from, const RowMasks<T>& masks) {
    for (Index i = 0; i < masks.count; ++i, to += kLanes<T>, from += kLanes<T>) {
        store(to, masked_load(from, masks.mask[i]));
    }
}

// One row of all channels of each pixel.
template <class T>
void copy_bordered_pixels(T* to, const T* from, const View<const T>& x, Index channels,
                          const ImageBlock& image, const Problem& problem) {
    for (Index i = 0; i < image.width; ++i, to += image.pixel) {
        const Index column = source_index(i - problem.pad_left, problem.w, problem.pad_mode);
        if (column < 0) {
            fill_zero(to, channels);
            continue;
        }
        const Index inside = least(image.width - i, problem.w - column);
        const bool run = i - problem.pad_left == column && image.pixel == channels &&
                         x.stride[1] == 1 && x.stride[3] == channels;
        if (run) {
            copy_run(to, from + column * channels, inside * channels);
            i += inside - 1;
            to += (inside - 1) * channels;
        } else {
            copy_strided(to, from + column * x.stride[3], x.stride[1], channels);
        }
    }
}

// What `rows` rows of y from `p` on read of channels [channel, channel + channels): the copy holds
// each channel's rows together, or, where pixels do not lie side by side, each pixel's channels.
template <class T>
void copy_bordered_image(T* to, const View<const T>& x, const Problem& problem,
                         const ImageBlock& image, Index p, Index rows, Index channel,
                         Index channels) {
    const Index first = p * problem.stride_h - problem.pad_top;
    const Index count = (rows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1;
    const T* from = x.data + channel * x.stride[1];
    if (image.pixel != 1) {
        for (Index i = 0; i < count; ++i, to += image.row) {
            const Index row = source_index(first + i, problem.h, problem.pad_mode);
            if (row < 0) {
                fill_zero(to, image.row);
            } else {
                copy_bordered_pixels(to, from + row * x.stride[2], x, channels, image, problem);
            }
        }
        return;
    }
    const RowMasks<T> masks(image, problem);
    const bool by_vector = kHasMaskedLoad && x.stride[3] == 1 && masks.count <= masks.kMost &&
                           problem.pad_mode == PadMode::kConstant;
    for (Index c = 0; c < channels; ++c, to += image.channel, from += x.stride[1]) {
        for (Index i = 0; i < count; ++i) {
            const Index row = source_index(first + i, problem.h, problem.pad_mode);
            T* line = to + i * image.row;
            if (row < 0) {
                fill_zero(line, image.width);
            } else if (by_vector) {
                copy_bordered_vectors(line, from + row * x.stride[2] - problem.pad_left, masks);
            } else {
                copy_bordered_row(line, from + row * x.stride[2], x.stride[3], image.width,
                                  problem);
            }
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
