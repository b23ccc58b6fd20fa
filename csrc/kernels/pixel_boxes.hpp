// Boxes of output pixels in the order of a gradient's sum, and copies of what they read with the
// channels of a pixel side by side.
#pragma once

#include "kernels/border.hpp"
#include "kernels/copy.hpp"
#include "kernels/kernels.hpp"
#include "kernels/transpose.hpp"
#include "kernels/vec.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Elements from a pixel of a long run to what is fetched meanwhile.
constexpr Index kAhead = 64;

struct Box {
    Index n, images, p, rows, q, cols;

    Index pixels() const { return images * rows * cols; }
};

// Box number `index`: they follow one another as the pixels (n, p, q) do.
inline Box make_box(const Problem& problem, const PixelBox& size, Index index) {
    const Index wide = ceil_div(problem.q, size.cols), tall = ceil_div(problem.p, size.rows);
    const Index q = index % wide * size.cols;
    index /= wide;
    const Index p = index % tall * size.rows, n = index / tall * size.images;
    return {n, least(size.images, problem.n - n), p, least(size.rows, problem.p - p),
            q, least(size.cols, problem.q - q)};
}

// Boxes [begin, end) of one chunk.
struct BoxRange {
    Index begin, end;
};

inline BoxRange chunk_boxes(Index boxes, Index chunks, Index chunk) {
    return {chunk * boxes / chunks, (chunk + 1) * boxes / chunks};
}

// Where each pixel of the box is in an array with these distances.
inline void pixel_offsets(Index* offset, const Box& box, Index image, Index row, Index col) {
    for (Index i = 0; i < box.images; ++i) {
        for (Index p = 0; p < box.rows; ++p) {
            for (Index q = 0; q < box.cols; ++q) *offset++ = i * image + p * row + q * col;
        }
    }
}

// Turns `count` neighbouring pixels of `channels` planes into `pitch` elements a pixel, whole
// vectors of channels: those that do not exist are zeros. What lies `ahead` of it is fetched: rows
// of planes are too short for the processor to see where they lead.
template <class T>
void turn_pixels(T* to, Index pitch, const T* from, Index plane, Index channels, Index count,
                 Index ahead) {
    constexpr Index kL = kLanes<T>;
    for (Index lane = 0; lane < channels; lane += kL) {
        const Index lanes = least(kL, channels - lane);
        for (Index pixel = 0; pixel < count; pixel += kL) {
            const Index pixels = least(kL, count - pixel);
            const T* first = from + lane * plane + pixel;
            for (Index i = 0; i < lanes; ++i) __builtin_prefetch(first + i * plane + ahead);
            Vec<T> block[kL];
            if (lanes == kL && pixels == kL) {
                for (int i = 0; i < kL; ++i) block[i] = load(first + i * plane);
            } else {
                for (Index i = 0; i < kL; ++i) {
                    block[i] = i < lanes ? load_first(first + i * plane, pixels) : Vec<T>{};
                }
            }
            transpose<T>(block);
            T* line = to + pixel * pitch + lane;
            if (pixels == kL) {
                for (int i = 0; i < kL; ++i) store(line + i * pitch, block[i]);
            } else {
                for (Index i = 0; i < pixels; ++i) store(line + i * pitch, block[i]);
            }
        }
    }
}

// `count` pixels `step` apart whose channels are `plane` apart, as turn_pixels leaves them.
template <class T>
void gather_pixels(T* to, Index pitch, const T* from, Index plane, Index step, Index channels,
                   Index count, Index ahead) {
    constexpr Index kL = kLanes<T>;
    if (step == 1) return turn_pixels(to, pitch, from, plane, channels, count, ahead);
    const Index whole = ceil_div(channels, kL) * kL;
    for (Index i = 0; i < count; ++i, to += pitch, from += step) {
        if (plane == 1) {
            Index lane = 0;
            for (; lane + kL <= channels; lane += kL) {
                __builtin_prefetch(from + lane + ahead);
                store(to + lane, load(from + lane));
            }
            if (lane < channels) store(to + lane, load_first(from + lane, channels - lane));
        } else {
            copy_strided(to, from, plane, channels);
            fill_zero(to + channels, whole - channels);
        }
    }
}

// What the copy of one row of x holds: `count` pixels that lie `step` columns apart, from `column`
// on, with the border.
template <class T>
void gather_bordered_row(T* to, Index pitch, const T* row, const View<const T>& x,
                         const Problem& problem, Index column, Index step, Index channels,
                         Index count, Index ahead) {
    const Index whole = ceil_div(channels, Index(kLanes<T>)) * kLanes<T>;
    const Inside inside = row ? inside_lanes(column, step, count, problem.w) : Inside{count, count};
    for (Index i = 0; i < count; ++i) {
        if (i == inside.begin) i = inside.end;
        if (i >= count) break;
        const Index source =
            row ? source_index(column + i * step, problem.w, problem.pad_mode) : -1;
        if (source < 0) {
            fill_zero(to + i * pitch, whole);
        } else {
            gather_pixels(to + i * pitch, pitch, row + source * x.stride[3], x.stride[1], Index(0),
                          channels, 1, 0);
        }
    }
    if (inside.end > inside.begin) {
        gather_pixels(to + inside.begin * pitch, pitch,
                      row + (column + inside.begin * step) * x.stride[3], x.stride[1],
                      step * x.stride[3], channels, inside.end - inside.begin, ahead);
    }
}

// The copy of x that a box reads: rows and columns `step_h` and `step_w` apart.
struct ImageCopy {
    Index rows, cols, step_h, step_w;
};

template <class T>
void gather_bordered_box(T* to, Index pitch, const View<const T>& x, const Problem& problem,
                         const Box& box, const ImageCopy& image, Index channels) {
    const Index top = box.p * problem.stride_h - problem.pad_top;
    const Index left = box.q * problem.stride_w - problem.pad_left;
    // a box at the end of the image needs less
    const Index rows = (box.rows - 1) * (problem.stride_h / image.step_h) +
                       (problem.r - 1) * problem.dilation_h + 1;
    const Index cols = (box.cols - 1) * (problem.stride_w / image.step_w) +
                       (problem.s - 1) * problem.dilation_w + 1;
    for (Index i = 0; i < box.images; ++i) {
        const T* from = x.data + (box.n + i) * x.stride[0];
        for (Index row = 0; row < rows; ++row) {
            const Index source =
                source_index(top + row * image.step_h, problem.h, problem.pad_mode);
            gather_bordered_row(to + (i * image.rows + row) * image.cols * pitch, pitch,
                                source < 0 ? nullptr : from + source * x.stride[2], x, problem,
                                left, image.step_w, channels, cols, image.step_h * x.stride[2]);
        }
    }
}

// The pixels of a box of gy.
template <class T>
void gather_box(T* to, Index pitch, const View<const T>& gy, const Problem& problem, const Box& box,
                Index channels) {
    const bool joined = box.cols == problem.q && gy.stride[2] == problem.q * gy.stride[3];
    const Index runs = joined ? 1 : box.rows, length = joined ? box.rows * box.cols : box.cols;
    for (Index i = 0; i < box.images; ++i) {
        const T* from =
            gy.data + (box.n + i) * gy.stride[0] + box.p * gy.stride[2] + box.q * gy.stride[3];
        for (Index run = 0; run < runs; ++run, to += length * pitch) {
            gather_pixels(to, pitch, from + run * gy.stride[2], gy.stride[1], gy.stride[3],
                          channels, length, joined ? kAhead : gy.stride[2]);
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
