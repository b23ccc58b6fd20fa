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

// One phase of rows of one channel, in whole vectors; STEP is the stride of columns, 1 or 2. Both
// phases of columns come from the same pair of vectors.
template <class T, int STEP>
void copy_plane(T* to, const T* from, Index row_pitch, Index first, Index column,
                const PlaneLayout& layout, const Problem& problem) {
    constexpr Index kL = kLanes<T>;
    const PaddedRun inside = padded_run(first, problem.stride_h, layout.rows, problem.h);
    const Index step = problem.stride_h * row_pitch;
    const T* const start = from + (first + inside.begin * problem.stride_h) * row_pitch;
    // The last vectors of rows first: they reach into the next row, which is written after them.
    for (Index i = (layout.pitch - 1) / kL * kL; i >= 0; i -= kL) {
        const Index at = column + i * STEP;
        const Mask<T> mask = inside_mask<T>(at, problem.w);
        const Mask<T> second_mask = inside_mask<T>(at + kL, problem.w);
        const T* row = start + at;
        T* out = to + i;
        for (Index r = 0; r < layout.rows; ++r, out += layout.pitch) {
            Vec<T> pixels{}, second{};
            if (r >= inside.begin && r < inside.end) {
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

template <class T>
void copy_planes(T* to, const View<const T>& x, const ChannelBlock& block,
                 const PlaneLayout& layout, const Problem& problem) {
    const Index channels = problem.c / problem.groups;
    const Index column = block.q0 * problem.stride_w - problem.pad_left;
    const bool whole = copies_vectors(problem, x);
    for (Index c = 0; c < channels; ++c) {
        const T* from = x.data + c * x.stride[1];
        for (Index tall = 0; tall < layout.tall.used; ++tall) {
            const Index first =
                block.p0 * problem.stride_h - problem.pad_top + tall * problem.dilation_h;
            if (whole) {
                const auto copy = problem.stride_w == 1 ? copy_plane<T, 1> : copy_plane<T, 2>;
                copy(to, from, x.stride[2], first, column, layout, problem);
                to += layout.wide.used * layout.plane;
                continue;
            }
            for (Index wide = 0; wide < layout.wide.used; ++wide, to += layout.plane) {
                const PaddedRun run = padded_run(column + wide * problem.dilation_w,
                                                 problem.stride_w, layout.pitch, problem.w);
                for (Index i = 0; i < layout.rows; ++i) {
                    const Index row =
                        source_index(first + i * problem.stride_h, problem.h, problem.pad_mode);
                    copy_padded_run(to + i * layout.pitch,
                                    row < 0 ? nullptr : from + row * x.stride[2], x.stride[3], run,
                                    problem);
                }
            }
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
