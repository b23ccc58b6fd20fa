// Strips: a few neighbouring tiles of one row, [rows][pixels][lanes] with channels as lanes. They
// are read and written in whole vectors in both layouts: where pixels are consecutive in memory,
// by transposing squares of lanes pixels times lanes channels.
#pragma once

#include "kernels/border.hpp"
#include "kernels/copy.hpp"
#include "kernels/transpose.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Pixels before the next whole cache line, where the chunks of `count` of them are cut: in planes
// of a power of two lines all channels fall into the same set of a cache, which would not hold the
// two lines of each that unaligned chunks share.
template <class T>
inline Index unaligned_head(const T* p, Index count) {
    constexpr Index kLine = 64 / Index(sizeof(T));
    const Index head = -Index(reinterpret_cast<__UINTPTR_TYPE__>(p) / sizeof(T)) & (kLine - 1);
    return count > head + kLanes<T> ? head % kLanes<T> : 0;
}

// `count` <= lanes consecutive pixels of `channels` <= lanes channels, which become the lanes.
// Writes pixels up to the number of lanes.
template <class T>
inline void gather_square(T* strip, const T* x, Index channel_pitch, Index channels, Index count) {
    constexpr int kL = kLanes<T>;
    Vec<T> square[kL];
    if (channels == kL && count == kL) {
#pragma GCC unroll 16
        for (int c = 0; c < kL; ++c) square[c] = load(x + c * channel_pitch);
    } else {
#pragma GCC unroll 16
        for (int c = 0; c < kL; ++c) {
            square[c] = c < channels ? load_first(x + c * channel_pitch, count) : Vec<T>{};
        }
    }
    transpose<T>(square);
#pragma GCC unroll 16
    for (int p = 0; p < kL; ++p) store(strip + p * kL, square[p]);
}

// Reads pixels up to the number of lanes.
template <class T>
inline void scatter_square(const T* strip, T* y, Index channel_pitch, Index channels, Index count) {
    constexpr int kL = kLanes<T>;
    Vec<T> square[kL];
#pragma GCC unroll 16
    for (int p = 0; p < kL; ++p) square[p] = load(strip + p * kL);
    transpose<T>(square);
    if (channels == kL && count == kL) {
#pragma GCC unroll 16
        for (int c = 0; c < kL; ++c) store(y + c * channel_pitch, square[c]);
    } else {
#pragma GCC unroll 16
        for (int c = 0; c < kL; ++c) {
            if (c < channels) store_first(y + c * channel_pitch, square[c], count);
        }
    }
}

// Pixels that the strip must have room for beyond its last.
template <class T>
constexpr Index kStripSlack = kLanes<T>;

// `count` pixels of `channels` <= lanes channels; the other lanes become zero.
template <class T>
void gather_pixels(T* strip, const T* x, Index channel_pitch, Index pixel_pitch, Index channels,
                   Index count) {
    constexpr int kL = kLanes<T>;
    if (channel_pitch == 1) {
        for (Index i = 0; i < count; ++i) {
            store(strip + i * kL, load_first(x + i * pixel_pitch, channels));
        }
    } else if (pixel_pitch == 1) {
        Index i = unaligned_head(x, count);
        if (i > 0) gather_square(strip, x, channel_pitch, channels, i);
        for (; i < count; i += kL) {
            gather_square(strip + i * kL, x + i, channel_pitch, channels, least(kL, count - i));
        }
    } else {
        for (Index i = 0; i < count; ++i) {
            for (Index c = 0; c < channels; ++c) {
                strip[i * kL + c] = x[c * channel_pitch + i * pixel_pitch];
            }
            fill_zero(strip + i * kL + channels, kL - channels);
        }
    }
}

template <class T>
void scatter_pixels(const T* strip, T* y, Index channel_pitch, Index pixel_pitch, Index channels,
                    Index count) {
    constexpr int kL = kLanes<T>;
    if (channel_pitch == 1) {
        for (Index i = 0; i < count; ++i) {
            store_first(y + i * pixel_pitch, load(strip + i * kL), channels);
        }
    } else if (pixel_pitch == 1) {
        Index i = unaligned_head(y, count);
        if (i > 0) scatter_square(strip, y, channel_pitch, channels, i);
        for (; i < count; i += kL) {
            scatter_square(strip + i * kL, y + i, channel_pitch, channels, least(kL, count - i));
        }
    } else {
        for (Index i = 0; i < count; ++i) {
            for (Index c = 0; c < channels; ++c) {
                y[c * channel_pitch + i * pixel_pitch] = strip[i * kL + c];
            }
        }
    }
}

// Where a strip of the padded image comes from.
struct StripPlace {
    Index row, column;              // of the image, may lie outside of it
    Index rows, columns;            // of the strip
    Index used_rows, used_columns;  // those that some output reads; the rest is zero
};

// One row of a strip. `x` is the image's first pixel of the first of `channels` channels.
template <class T>
void gather_row(T* strip, const View<const T>& x, Index channels, const Problem& problem,
                const StripPlace& place, Index row) {
    constexpr int kL = kLanes<T>;
    const Index source =
        row < place.used_rows ? source_index(place.row + row, problem.h, problem.pad_mode) : -1;
    if (source < 0) return fill_zero(strip, place.columns * kL);
    const T* from = x.data + source * x.stride[2];
    const Index first = least(most(0, -place.column), place.used_columns);
    const Index end = most(first, least(place.used_columns, problem.w - place.column));
    if (end > first) {
        gather_pixels(strip + first * kL, from + (place.column + first) * x.stride[3], x.stride[1],
                      x.stride[3], channels, end - first);
    }
    // the border last: pixels are gathered in whole squares
    for (Index i = 0; i < place.columns; ++i) {
        if (i == first) i = end;
        if (i >= place.columns) break;
        const Index column = i < place.used_columns
                                 ? source_index(place.column + i, problem.w, problem.pad_mode)
                                 : -1;
        store(strip + i * kL, Vec<T>{});
        for (Index c = 0; column >= 0 && c < channels; ++c) {
            strip[i * kL + c] = from[c * x.stride[1] + column * x.stride[3]];
        }
    }
}

inline bool is_inside(const StripPlace& place, const Problem& problem) {
    return place.row >= 0 && place.column >= 0 && place.row + place.rows <= problem.h &&
           place.column + place.columns <= problem.w && place.used_rows == place.rows &&
           place.used_columns == place.columns;
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
