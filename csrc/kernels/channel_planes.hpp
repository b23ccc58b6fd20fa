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

constexpr double kRoundedRows = 1.2;  // most room that whole vectors may take

// Where a block's copy of x has its parts: for each channel, phase of rows and phase of columns a
// plane of `rows` rows of `width` elements. Whole vectors may be written and read beyond each.
struct PlaneLayout {
    Phases tall, wide;
    Index rows, width;
    Index pitch, wide_phase;    // from row to row, from one phase of columns to the next
    Index tall_phase, channel;  // the same of phases of rows, and of channels
};

template <class T>
PlaneLayout plane_layout(const Problem& problem, Index rows, Index cols) {
    PlaneLayout layout{};
    layout.tall = make_phases(problem.r, problem.stride_h, problem.dilation_h);
    layout.wide = make_phases(problem.s, problem.stride_w, problem.dilation_w);
    layout.rows = rows + layout.tall.reach(problem.r);
    layout.width = cols + layout.wide.reach(problem.s);
    layout.pitch = layout.width;
    layout.wide_phase = layout.rows * layout.pitch + kLanes<T>;
    layout.tall_phase = layout.wide_phase * layout.wide.used;
    layout.channel = layout.tall_phase * layout.tall.used;
    return layout;
}

// The same where pixels of neighbouring rows need not be neighbours: rows begin at cache lines if
// they nearly do anyway, and both phases of a narrow row share a vector.
template <class T>
PlaneLayout row_layout(const Problem& problem, Index rows, Index cols) {
    constexpr Index kL = kLanes<T>;
    PlaneLayout layout = plane_layout<T>(problem, rows, cols);
    const Index whole = ceil_div(layout.width, kL) * kL;
    if (layout.wide.used == 2 && 2 * layout.width <= kL) {
        layout.pitch = kL;
        layout.wide_phase = kL / 2;
        layout.tall_phase = layout.rows * kL;
    } else if (double(whole) <= kRoundedRows * double(layout.width)) {
        layout.pitch = whole;
        layout.wide_phase = layout.rows * whole;
        layout.tall_phase = layout.wide_phase * layout.wide.used;
    }
    layout.channel = layout.tall_phase * layout.tall.used;
    return layout;
}

// The even lanes of a vector, then its odd ones.
template <class T, int... LANE>
inline Vec<T> part_lanes(Vec<T> a, LaneList<LANE...>) {
    constexpr int kL = kLanes<T>;
#if defined(__clang__)
    return __builtin_shufflevector(a, a, (LANE < kL / 2 ? 2 * LANE : 2 * LANE + 1 - kL)...);
#else
    return __builtin_shuffle(a, IntVec<T>{(LANE < kL / 2 ? 2 * LANE : 2 * LANE + 1 - kL)...});
#endif
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

// How the vectors of a row are copied: as they are, or every second pixel apart, into two rows or
// into the halves of one vector.
enum class RowCopy { kPlain, kApart, kHalves };

// One phase of rows of all channels, in whole vectors. Both phases of columns come from the same
// vectors.
template <class T, RowCopy HOW>
void copy_vectors(T* to, const View<const T>& x, Index channels, const PlaneRows& rows,
                  Index column, const PlaneLayout& layout, const Problem& problem) {
    constexpr Index kL = kLanes<T>;
    const Index step = problem.stride_h * x.stride[2], pitch = layout.pitch;
    const Index phase = layout.wide_phase;
    const PaddedRun inside = rows.inside;
    const T* from = x.data + (rows.first + inside.begin * problem.stride_h) * x.stride[2];
    const auto put_zeros = [&](T* out, Index count) {
        for (Index r = 0; r < count; ++r, out += pitch) {
            store(out, Vec<T>{});
            if constexpr (HOW == RowCopy::kApart) store(out + phase, Vec<T>{});
        }
    };
    // The last vectors of rows first: they reach into the next row, which is written after them.
    for (Index i = (layout.width - 1) / kL * kL; i >= 0; i -= kL) {
        const Index at = column + i * (HOW == RowCopy::kPlain ? 1 : 2);
        const Mask<T> mask = inside_mask<T>(at, problem.w);
        const Mask<T> second_mask = inside_mask<T>(at + kL, problem.w);
        for (Index c = 0; c < channels; ++c) {
            const T* row = from + c * x.stride[1] + at;
            T* out = to + c * layout.channel + i;
            put_zeros(out, inside.begin);
            out += inside.begin * pitch;
            for (Index r = inside.begin; r < inside.end; ++r, out += pitch, row += step) {
                const Vec<T> pixels = masked_load(row, mask);
                if constexpr (HOW == RowCopy::kPlain) {
                    store(out, pixels);
                } else if constexpr (HOW == RowCopy::kHalves) {
                    store(out, part_lanes<T>(pixels, AllLanes<kLanes<T>>{}));
                } else {
                    const Vec<T> second = masked_load(row + kL, second_mask);
                    store(out, even_lanes<T>(pixels, second));
                    store(out + phase, odd_lanes<T>(pixels, second));
                }
            }
            put_zeros(out, layout.rows - inside.end);
        }
    }
}

// The same for one phase of columns, whatever the border, strides and layout.
template <class T>
void copy_elements(T* to, const View<const T>& x, Index channels, Index first, Index column,
                   const PlaneLayout& layout, const Problem& problem) {
    const PaddedRun run = padded_run(column, problem.stride_w, layout.width, problem.w);
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
            const auto copy = problem.stride_w == 1              ? copy_vectors<T, RowCopy::kPlain>
                              : layout.wide_phase < layout.pitch ? copy_vectors<T, RowCopy::kHalves>
                                                                 : copy_vectors<T, RowCopy::kApart>;
            copy(to, x, channels, rows, column, layout, problem);
        } else {
            for (Index wide = 0; wide < layout.wide.used; ++wide) {
                copy_elements(to + wide * layout.wide_phase, x, channels, first,
                              column + wide * problem.dilation_w, layout, problem);
            }
        }
        to += layout.tall_phase;
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
