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

// Where copied pixels go: `pixel` elements apart, channels in panels of `lanes` that are `panel`
// apart, or all of them side by side.
struct PixelPitch {
    Index pixel, panel = 0, lanes = Index(1) << 40;

    PixelPitch(Index to_next) : pixel(to_next) {}
    PixelPitch(Index to_next, Index to_panel, Index of_panel)
        : pixel(to_next), panel(to_panel), lanes(of_panel) {}
};

// The first lanes of a vector of pixels of a plane that are STEP apart, of `pixels` pixels.
template <int STEP, class T>
inline Vec<T> load_pixels(const T* from, Index pixels) {
    constexpr Index kL = kLanes<T>;
    if constexpr (STEP == 1) return load_first(from, pixels);
    const Index last = 2 * pixels - 1;  // elements up to the last pixel
    const Vec<T> low = load_first(from, least(kL, last));
    return even_lanes<T>(low, last > kL ? load_first(from + kL, last - kL) : Vec<T>{});
}

// Turns `count` pixels STEP apart of `channels` planes into `pitch` elements a pixel, whole vectors
// of channels: those that do not exist are zeros. What lies `ahead` of it is fetched: rows of
// planes are too short for the processor to see where they lead.
template <int STEP, class T>
void turn_pixels(T* to, Index pitch, const T* from, Index plane, Index channels, Index count,
                 Index ahead) {
    constexpr Index kL = kLanes<T>;
    for (Index lane = 0; lane < channels; lane += kL) {
        const Index lanes = least(kL, channels - lane);
        for (Index pixel = 0; pixel < count; pixel += kL) {
            const Index pixels = least(kL, count - pixel);
            const T* first = from + lane * plane + STEP * pixel;
            for (Index i = 0; i < lanes; ++i) {
                __builtin_prefetch(first + i * plane + ahead);
                if (STEP > 1) __builtin_prefetch(first + i * plane + ahead + kL);
            }
            Vec<T> block[kL];
            if (STEP == 1 && lanes == kL && pixels == kL) {
                for (int i = 0; i < kL; ++i) block[i] = load(first + i * plane);
            } else {
                for (Index i = 0; i < kL; ++i) {
                    block[i] = i < lanes ? load_pixels<STEP>(first + i * plane, pixels) : Vec<T>{};
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

// The channels of one pixel that lie side by side, whole vectors of them.
template <class T>
inline void copy_pixel(T* to, const PixelPitch& pitch, const T* from, Index channels, Index ahead) {
    constexpr Index kL = kLanes<T>;
    for (Index first = 0; first < channels; first += pitch.lanes, to += pitch.panel) {
        const Index last = least(pitch.lanes, channels - first);
        Index lane = 0;
        for (; lane + kL <= last; lane += kL) {
            __builtin_prefetch(from + first + lane + ahead);
            store(to + lane, load(from + first + lane));
        }
        if (lane < last) store(to + lane, load_first(from + first + lane, last - lane));
    }
}

template <class T>
inline void zero_pixel(T* to, const PixelPitch& pitch, Index channels) {
    constexpr Index kL = kLanes<T>;
    for (Index first = 0; first < channels; first += pitch.lanes, to += pitch.panel) {
        fill_zero(to, ceil_div(least(pitch.lanes, channels - first), kL) * kL);
    }
}

// `count` pixels `step` apart whose channels are `plane` apart, as turn_pixels leaves them; panels
// only of channels that are neighbours.
template <class T>
void gather_pixels(T* to, const PixelPitch& pitch, const T* from, Index plane, Index step,
                   Index channels, Index count, Index ahead) {
    constexpr Index kL = kLanes<T>;
    if (step == 1 && (plane != 1 || channels == 1)) {
        return turn_pixels<1>(to, pitch.pixel, from, plane, channels, count, ahead);
    }
    if (plane == 1) {
        for (Index i = 0; i < count; ++i, to += pitch.pixel, from += step) {
            copy_pixel(to, pitch, from, channels, ahead);
        }
        return;
    }
    if (step == 2) return turn_pixels<2>(to, pitch.pixel, from, plane, channels, count, ahead);
    const Index whole = ceil_div(channels, kL) * kL;
    for (Index i = 0; i < count; ++i, to += pitch.pixel, from += step) {
        copy_strided(to, from, plane, channels);
        fill_zero(to + channels, whole - channels);
    }
}

// What the copy of one row of x holds: `count` pixels that lie `step` columns apart, from `column`
// on, with the border.
template <class T>
void gather_bordered_row(T* to, const PixelPitch& pitch, const T* row, const View<const T>& x,
                         const Problem& problem, Index column, Index step, Index channels,
                         Index count, Index ahead) {
    const Inside inside = row ? inside_lanes(column, step, count, problem.w) : Inside{count, count};
    for (Index i = 0; i < count; ++i) {
        if (i == inside.begin) i = inside.end;
        if (i >= count) break;
        const Index source =
            row ? source_index(column + i * step, problem.w, problem.pad_mode) : -1;
        if (source < 0) {
            zero_pixel(to + i * pitch.pixel, pitch, channels);
        } else {
            gather_pixels(to + i * pitch.pixel, pitch, row + source * x.stride[3], x.stride[1],
                          Index(0), channels, 1, 0);
        }
    }
    if (inside.end > inside.begin) {
        gather_pixels(to + inside.begin * pitch.pixel, pitch,
                      row + (column + inside.begin * step) * x.stride[3], x.stride[1],
                      step * x.stride[3], channels, inside.end - inside.begin, ahead);
    }
}

// The copy of x that a box reads: rows and columns `step_h` and `step_w` apart.
struct ImageCopy {
    Index rows, cols, step_h, step_w;
};

template <class T>
void gather_bordered_box(T* to, const PixelPitch& pitch, const View<const T>& x,
                         const Problem& problem, const Box& box, const ImageCopy& image,
                         Index channels) {
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
            gather_bordered_row(to + (i * image.rows + row) * image.cols * pitch.pixel, pitch,
                                source < 0 ? nullptr : from + source * x.stride[2], x, problem,
                                left, image.step_w, channels, cols, image.step_h * x.stride[2]);
        }
    }
}

// The pixels of a box of gy.
template <class T>
void gather_box(T* to, const PixelPitch& pitch, const View<const T>& gy, const Problem& problem,
                const Box& box, Index channels) {
    const bool joined = box.cols == problem.q && gy.stride[2] == problem.q * gy.stride[3];
    const Index runs = joined ? 1 : box.rows, length = joined ? box.rows * box.cols : box.cols;
    for (Index i = 0; i < box.images; ++i) {
        const T* from =
            gy.data + (box.n + i) * gy.stride[0] + box.p * gy.stride[2] + box.q * gy.stride[3];
        for (Index run = 0; run < runs; ++run, to += length * pitch.pixel) {
            gather_pixels(to, pitch, from + run * gy.stride[2], gy.stride[1], gy.stride[3],
                          channels, length, joined ? kAhead : gy.stride[2]);
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
