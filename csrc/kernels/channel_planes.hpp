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

// Lanes [column, column + lanes) of an image row, zero outside of it.
template <class T>
inline Vec<T> load_pixels(const T* row, Index column, Index width) {
    constexpr Index kL = kLanes<T>;
    if (column >= 0 && column + kL <= width) return load(row + column);
    const int begin = int(column >= 0 ? 0 : least(kL, -column));
    const int end = int(column >= width ? 0 : least(kL, width - column));
    if (begin >= end) return Vec<T>{};
    return masked_load(row + column, lane_mask<T>(begin, end));
}

template <class T>
inline void copy_vectors(T* to, const T* row, Index column, Index count, Index width) {
    constexpr Index kL = kLanes<T>;
    for (Index i = 0; i < count; i += kL) {
        store(to + i, row ? load_pixels(row, column + i, width) : Vec<T>{});
    }
}

// Even and odd columns of a row into two planes.
template <class T>
inline void copy_pairs(T* even, T* odd, const T* row, Index column, Index count, Index width) {
    constexpr Index kL = kLanes<T>;
    for (Index i = 0; i < count; i += kL) {
        Vec<T> first{}, second{};
        if (row) {
            first = load_pixels(row, column + 2 * i, width);
            second = load_pixels(row, column + 2 * i + kL, width);
        }
        store(even + i, even_lanes<T>(first, second));
        store(odd + i, odd_lanes<T>(first, second));
    }
}

template <class T>
void copy_planes(T* to, const View<const T>& x, const ChannelBlock& block,
                 const PlaneLayout& layout, const Problem& problem) {
    const Index channels = problem.c / problem.groups;
    const Index first = block.p0 * problem.stride_h - problem.pad_top;
    const Index column = block.q0 * problem.stride_w - problem.pad_left;
    const bool whole = copies_vectors(problem, x);
    for (Index c = 0; c < channels; ++c) {
        const T* from = x.data + c * x.stride[1];
        for (Index tall = 0; tall < layout.tall.used;
             ++tall, to += layout.wide.used * layout.plane) {
            for (Index i = 0; i < layout.rows; ++i) {
                const Index at = first + tall * problem.dilation_h + i * problem.stride_h;
                const Index index = source_index(at, problem.h, problem.pad_mode);
                const T* row = index < 0 ? nullptr : from + index * x.stride[2];
                T* out = to + i * layout.pitch;
                if (whole && problem.stride_w == 1) {
                    copy_vectors(out, row, column, layout.pitch, problem.w);
                } else if (whole) {
                    copy_pairs(out, out + layout.plane, row, column, layout.pitch, problem.w);
                } else {
                    for (Index wide = 0; wide < layout.wide.used; ++wide, out += layout.plane) {
                        const PaddedRun run = padded_run(column + wide * problem.dilation_w,
                                                         problem.stride_w, layout.pitch, problem.w);
                        copy_padded_run(out, row, x.stride[3], run, problem);
                    }
                }
            }
        }
    }
}

// Cache lines that are fetched little by little while tiles are computed, some runs of memory.
class LineStream {
  public:
    LineStream() = default;
    LineStream(const void* first, Index bytes, Index runs, Index pitch_bytes)
        : run_(static_cast<const char*>(first)), bytes_(bytes), pitch_(pitch_bytes), runs_(runs) {}

    Index lines() const { return runs_ * (bytes_ / kLine + 1); }

    void fetch(Index lines) {
        for (; lines > 0 && runs_ > 0; --lines) {
            __builtin_prefetch(run_ + at_);
            at_ += kLine;
            if (at_ > bytes_) {
                at_ = 0;
                run_ += pitch_;
                --runs_;
            }
        }
    }

  private:
    static constexpr Index kLine = 64;
    const char* run_ = nullptr;
    Index bytes_ = 0, pitch_ = 0, runs_ = 0, at_ = 0;
};

// The pixels of x that a block copies, if they lie side by side.
template <class T>
LineStream block_pixels(const View<const T>& x, const ChannelBlock& block,
                        const PlaneLayout& layout, const Problem& problem) {
    if (x.stride[3] != 1 || x.stride[2] < 0) return {};
    const Index first = block.p0 * problem.stride_h - problem.pad_top;
    const Index begin = most(Index(0), first);
    const Index rows = layout.rows * problem.stride_h;
    const Index end = least(problem.h, first + rows);
    if (end <= begin) return {};
    const Index bytes = ((end - begin - 1) * x.stride[2] + problem.w) * Index(sizeof(T));
    return {x.data + begin * x.stride[2], bytes, problem.c / problem.groups,
            x.stride[1] * Index(sizeof(T))};
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
