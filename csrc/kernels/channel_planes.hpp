// The copy of x that a direct convolution reads: rows with their border, all with one pitch,
// strides taken apart, so that every tap of every pixel is a fixed distance from the pixel.
#pragma once

#include "kernels/padded_rows.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// A block of y.
struct ChannelBlock {
    Index p0, rows, q0, cols;
};

// Where a block's copy of x has its parts: for each channel, phase of rows and phase of columns a
// plane of `rows` rows, `pitch` elements apart. Whole vectors may be written and read beyond each.
struct PlaneLayout {
    Phases tall, wide;
    Index rows, pitch;
    Index plane, channel;  // elements of one plane, of all planes of a channel
};

template <class T>
PlaneLayout plane_layout(const Problem& problem, Index rows, Index cols) {
    PlaneLayout layout{};
    layout.tall = make_phases(problem.r, problem.stride_h, problem.dilation_h);
    layout.wide = make_phases(problem.s, problem.stride_w, problem.dilation_w);
    layout.rows = rows + layout.tall.reach(problem.r);
    layout.pitch = cols + layout.wide.reach(problem.s);
    layout.plane = layout.rows * layout.pitch + kLanes<T>;
    layout.channel = layout.plane * layout.tall.used * layout.wide.used;
    return layout;
}

// Every second lane of two vectors, from lane `first` on.
template <class T, int FIRST, int... LANE>
inline Vec<T> alternate(Vec<T> a, Vec<T> b, LaneList<LANE...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (2 * LANE + FIRST)...);
#else
    return __builtin_shuffle(a, b, IntVec<T>{(2 * LANE + FIRST)...});
#endif
}
template <class T>
inline Vec<T> even_lanes(Vec<T> a, Vec<T> b) {
    return alternate<T, 0>(a, b, AllLanes<kLanes<T>>{});
}
template <class T>
inline Vec<T> odd_lanes(Vec<T> a, Vec<T> b) {
    return alternate<T, 1>(a, b, AllLanes<kLanes<T>>{});
}

// Lanes across the rows of a small map have to be stored row by row; worth it where that saves more
// vectors than this factor.
#if defined(__AVX512F__)
constexpr double kSplitRows = 1.03;
#else
constexpr double kSplitRows = 1.2;
#endif

// The vectors of a block: lanes run on across rows, or every row has its own vectors.
struct LaneCount {
    bool across;
    Index vectors;
};

template <class T>
LaneCount count_lanes(Index rows, Index cols, Index pitch) {
    constexpr Index kL = kLanes<T>;
    const Index across = ceil_div((rows - 1) * pitch + cols, kL), apart = rows * ceil_div(cols, kL);
    const bool better = double(apart) > kSplitRows * double(across);
    return {better, better ? across : apart};
}

// Sources of the planes' rows: whether whole vectors can be loaded and stored, with lanes outside
// of the image off.
template <class T>
bool copies_vectors(const Problem& problem, const View<const T>& x) {
    const bool pairs = problem.stride_w == 2 && problem.dilation_w == 1 && problem.s > 1;
    return kHasMaskedLoad && x.stride[3] == 1 && problem.pad_mode == PadMode::kConstant &&
           (problem.stride_w == 1 || pairs);
}

// Lanes of the vector at `column` of an image row that lie inside the image.
template <class T>
inline Mask<T> inside_mask(Index column, Index width) {
    constexpr Index kL = kLanes<T>;
    const Index begin = column >= 0 ? 0 : least(kL, -column);
    const Index end = column >= width ? 0 : least(kL, width - column);
    return lane_mask<T>(int(least(begin, end)), int(end));
}

// Rows that a phase copies: those of `inside` are the image's, the others of the zero border.
struct PlaneRows {
    PaddedRun inside;
    Index first;  // row of the image
};

// One phase of rows of all channels, in whole vectors; STEP is the stride of columns, 1 or 2. Both
// phases of columns come from the same pair of vectors.
template <class T, int STEP>
void copy_vectors(T* to, const View<const T>& x, Index channels, const PlaneRows& rows,
                  Index column, const PlaneLayout& layout, const Problem& problem) {
    constexpr Index kL = kLanes<T>;
    const Index step = problem.stride_h * x.stride[2];
    const T* from = x.data + (rows.first + rows.inside.begin * problem.stride_h) * x.stride[2];
    // The last vectors of rows first: they reach into the next row, which is written after them.
    for (Index i = (layout.pitch - 1) / kL * kL; i >= 0; i -= kL) {
        const Index at = column + i * STEP;
        const Mask<T> mask = inside_mask<T>(at, problem.w);
        const Mask<T> second_mask = inside_mask<T>(at + kL, problem.w);
        for (Index c = 0; c < channels; ++c) {
            const T* row = from + c * x.stride[1] + at;
            T* out = to + c * layout.channel + i;
            for (Index r = 0; r < layout.rows; ++r, out += layout.pitch) {
                Vec<T> pixels{}, second{};
                if (r >= rows.inside.begin && r < rows.inside.end) {
                    pixels = masked_load(row, mask);
                    if constexpr (STEP == 2) second = masked_load(row + kL, second_mask);
                    row += step;
                }
                if constexpr (STEP == 1) {
                    store(out, pixels);
                } else {
                    store(out, even_lanes<T>(pixels, second));
                    store(out + layout.plane, odd_lanes<T>(pixels, second));
                }
            }
        }
    }
}

// The same for one phase of columns, whatever the border, strides and layout.
template <class T>
void copy_elements(T* to, const View<const T>& x, Index channels, Index first, Index column,
                   const PlaneLayout& layout, const Problem& problem) {
    const PaddedRun run = padded_run(column, problem.stride_w, layout.pitch, problem.w);
    for (Index i = 0; i < layout.rows; ++i, to += layout.pitch) {
        const Index row = source_index(first + i * problem.stride_h, problem.h, problem.pad_mode);
        const T* from = row < 0 ? nullptr : x.data + row * x.stride[2];
        for (Index c = 0; c < channels; ++c) {
            copy_padded_run(to + c * layout.channel, from ? from + c * x.stride[1] : nullptr,
                            x.stride[3], run, problem);
        }
    }
}

template <class T>
void copy_planes(T* to, const View<const T>& x, const ChannelBlock& block,
                 const PlaneLayout& layout, const Problem& problem) {
    const Index channels = problem.c / problem.groups;
    const Index column = block.q0 * problem.stride_w - problem.pad_left;
    const bool whole = copies_vectors(problem, x);
    for (Index tall = 0; tall < layout.tall.used; ++tall) {
        const Index first =
            block.p0 * problem.stride_h - problem.pad_top + tall * problem.dilation_h;
        if (whole) {
            const PlaneRows rows{padded_run(first, problem.stride_h, layout.rows, problem.h),
                                 first};
            const auto copy = problem.stride_w == 1 ? copy_vectors<T, 1> : copy_vectors<T, 2>;
            copy(to, x, channels, rows, column, layout, problem);
            to += layout.wide.used * layout.plane;
            continue;
        }
        for (Index wide = 0; wide < layout.wide.used; ++wide, to += layout.plane) {
            copy_elements(to, x, channels, first, column + wide * problem.dilation_w, layout,
                          problem);
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
