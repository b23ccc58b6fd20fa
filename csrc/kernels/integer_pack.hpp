// Packing for the integer GEMM: members of a word side by side, borders resolved.
#pragma once

#include "kernels/border.hpp"
#include "kernels/integer_dot.hpp"
#include "kernels/integer_kernels.hpp"
#include "kernels/integer_tile.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int kChunk = 16;  // elements of a line that are interleaved at a time

// What one channel of the reduction means: an image channel seen through the folded taps.
struct Member {
    Index c, r, s;
};

inline Member member_of(const Problem& problem, Fold fold, Index channel) {
    if (fold == Fold::kNone) return {channel, 0, 0};
    if (fold == Fold::kRows) return {channel / problem.r, channel % problem.r, 0};
    return {channel / (problem.r * problem.s), channel / problem.s % problem.r,
            channel % problem.s};
}

template <class T>
inline std::uint32_t stored(T value, std::uint32_t flip) {
    constexpr std::uint32_t kMask = kMembers<T> == 4 ? 0xff : 0xffff;
    return (std::uint32_t(std::int32_t(value)) ^ flip) & kMask;
}

// Exactly `count` elements; lines are a few to a few hundred of them.
template <class T>
inline void copy_line(T* to, const T* from, Index count) {
    constexpr Index kStep = 16 / Index(sizeof(T));
    if (count < kStep) {
        for (Index i = 0; i < count; ++i) to[i] = from[i];
        return;
    }
    for (Index i = 0; i < count; i += kStep) {
        const Index at = least(i, count - kStep);  // the last chunk overlaps
        __builtin_memcpy(to + at, from + at, 16);
    }
}

#if defined(__SSE2__)
inline __m128i load_bytes(const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
inline void store_words(std::uint32_t* to, __m128i low, __m128i high) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), low);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 4), high);
}
inline void store_pairs(std::uint32_t* to, __m128i a, __m128i b) {
    store_words(to, _mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b));
}
inline __m128i widen_low(__m128i v, bool is_signed) {
    return is_signed ? _mm_srai_epi16(_mm_unpacklo_epi8(v, v), 8)
                     : _mm_unpacklo_epi8(v, _mm_setzero_si128());
}
inline __m128i widen_high(__m128i v, bool is_signed) {
    return is_signed ? _mm_srai_epi16(_mm_unpackhi_epi8(v, v), 8)
                     : _mm_unpackhi_epi8(v, _mm_setzero_si128());
}

// kChunk words from kChunk elements of every member's line.
template <class T>
inline void interleave_chunk(std::uint32_t* to, const T* const* lines, Index at,
                             std::uint32_t flip) {
    if constexpr (kMembers<T> == 4) {
        const __m128i flips = _mm_set1_epi8(char(flip));
        const __m128i a = _mm_xor_si128(load_bytes(lines[0] + at), flips);
        const __m128i b = _mm_xor_si128(load_bytes(lines[1] + at), flips);
        const __m128i c = _mm_xor_si128(load_bytes(lines[2] + at), flips);
        const __m128i d = _mm_xor_si128(load_bytes(lines[3] + at), flips);
        store_pairs(to, _mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
        store_pairs(to + 8, _mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
    } else if constexpr (sizeof(T) == 1) {
        constexpr bool kSigned = T(-1) < T(0);
        const __m128i a = load_bytes(lines[0] + at), b = load_bytes(lines[1] + at);
        store_pairs(to, widen_low(a, kSigned), widen_low(b, kSigned));
        store_pairs(to + 8, widen_high(a, kSigned), widen_high(b, kSigned));
    } else {
        const __m128i flips = _mm_set1_epi16(short(flip));
        for (int half = 0; half < kChunk; half += 8) {
            const __m128i a = _mm_xor_si128(load_bytes(lines[0] + at + half), flips);
            const __m128i b = _mm_xor_si128(load_bytes(lines[1] + at + half), flips);
            store_pairs(to + half, a, b);
        }
    }
}
#else
template <class T>
inline void interleave_chunk(std::uint32_t* to, const T* const* lines, Index at,
                             std::uint32_t flip) {
    constexpr int kBits = 32 / kMembers<T>;
    for (int i = 0; i < kChunk; ++i) to[i] = 0;
    for (int m = 0; m < kMembers<T>; ++m) {
        const T* line = lines[m] + at;
        for (int i = 0; i < kChunk; ++i) to[i] |= stored(line[i], flip) << m * kBits;
    }
}
#endif

// `count` words from lines of `count` elements; lines shorter than a chunk must be readable, and
// `to` writable, up to the end of it.
template <class T>
void interleave(std::uint32_t* to, const T* const* lines, Index count, std::uint32_t flip) {
    Index i = 0;
    for (; i + kChunk <= count; i += kChunk) interleave_chunk(to + i, lines, i, flip);
    if (i == count) return;
    const Index at = count < kChunk ? 0 : count - kChunk;
    interleave_chunk(to + at, lines, at, flip);
}

// Part of a line that lies inside the image; the rest reads the border.
template <class T>
void gather_line(T* to, const T* row, Index pixel_pitch, Index column, Index step, Index count,
                 Index size, PadMode mode) {
    const Index before = column >= 0 ? 0 : least(count, ceil_div(-column, step));
    const Index after = column >= size ? 0 : least(count, ceil_div(size - column, step));
    const Index end = most(before, after);
    const T* from = row + (column + before * step) * pixel_pitch;
    const Index distance = step * pixel_pitch;
    if (distance == 1) {
        copy_line(to + before, from, end - before);
    } else if (distance == 2) {
        for (Index i = 0; i < end - before; ++i) to[before + i] = from[2 * i];
    } else {
        for (Index i = 0; i < end - before; ++i) to[before + i] = from[distance * i];
    }
    for (Index i = 0; i < count; ++i) {
        if (i == before) i = end;
        if (i >= count) break;
        const Index source = source_index(column + i * step, size, mode);
        to[i] = source < 0 ? T(0) : row[source * pixel_pitch];
    }
}

// One block of outputs: what a strip shows.
struct Block {
    Index p, q, rows, cols;
};

// Fills the strip's words [word, word + words). `lines` has room for kMembers + 1 lines.
template <class T>
void pack_strip(const Problem& problem, const IntegerBlocking& b, const View<const T>& x,
                const Block& block, Index word, Index words, T* lines, std::uint32_t* strip) {
    constexpr int kM = kMembers<T>;
    const Index rows = block.rows + (b.taps_h - 1) * b.step_h;
    const Index count = block.cols + (b.taps_w - 1) * b.step_w;
    const Index line_pitch = ceil_div(count, kChunk) * kChunk;
    T* zeros = lines + kM * line_pitch;
    for (Index i = 0; i < line_pitch; ++i) zeros[i] = T(0);
    for (Index i = 0; i < words; ++i) {
        Member members[kM];
        for (int m = 0; m < kM; ++m) {
            // members beyond the last meet weights of zero: any line will do
            const Index channel = least((word + i) * kM + m, b.channels - 1);
            members[m] = member_of(problem, b.fold, channel);
        }
        for (Index row = 0; row < rows; ++row) {
            const T* sources[kM];
            for (int m = 0; m < kM; ++m) {
                const Member& member = members[m];
                const Index in_row =
                    source_index((block.p + row) * problem.stride_h +
                                     member.r * problem.dilation_h - problem.pad_top,
                                 problem.h, problem.pad_mode);
                if (in_row < 0) {
                    sources[m] = zeros;
                    continue;
                }
                const T* from = x.data + member.c * x.stride[1] + in_row * x.stride[2];
                const Index column =
                    block.q * problem.stride_w + member.s * problem.dilation_w - problem.pad_left;
                const bool plain = column >= 0 && column + count <= problem.w &&
                                   problem.stride_w == 1 && x.stride[3] == 1 && count >= kChunk;
                if (plain) {
                    sources[m] = from + column;
                    continue;
                }
                T* line = lines + m * line_pitch;
                gather_line(line, from, x.stride[3], column, problem.stride_w, count, problem.w,
                            problem.pad_mode);
                sources[m] = line;
            }
            interleave(strip + i * b.plane + row * b.pitch, sources, count, Shift<T>::flip_x);
        }
    }
}

// Output channels [first, end) of a panel: spread evenly, 64 are 13+13+13+13+12.
struct PanelRows {
    Index first, end;
};

inline PanelRows panel_rows(const Problem& problem, const IntegerBlocking& b, Index panel) {
    const Index outputs = problem.k / problem.groups;
    return {panel * outputs / b.panels, (panel + 1) * outputs / b.panels};
}

template <class T>
void pack_integer_panel(const Problem& problem, const IntegerBlocking& b, const View<const T>& w,
                        Index panel, Index word, Index words, void* packed) {
    constexpr int kM = kMembers<T>, kBits = 32 / kM;
    const PanelRows range = panel_rows(problem, b, panel);
    const Index rows = range.end - range.first, taps = b.taps_h * b.taps_w;
    auto* start = static_cast<std::uint32_t*>(packed);
    std::uint32_t* to = start + kPanelHeader / 4;
    for (Index row = 0; row < rows; ++row) {
        std::uint32_t sum = 0;
        for (Index i = 0; i < words; ++i) {
            std::uint32_t* column = to + i * taps * rows + row;
            for (Index tap = 0; tap < taps; ++tap) column[tap * rows] = 0;
            for (int m = 0; m < kM; ++m) {
                const Index channel = (word + i) * kM + m;
                if (channel >= b.channels) break;
                const Member member = member_of(problem, b.fold, channel);
                const T* from = w.data + (range.first + row) * w.stride[0] +
                                member.c * w.stride[1] + member.r * w.stride[2] +
                                member.s * w.stride[3];
                Index tap = 0;
                for (Index r = 0; r < b.taps_h; ++r) {
                    for (Index s = 0; s < b.taps_w; ++s, ++tap) {
                        const T value = from[r * w.stride[2] + s * w.stride[3]];
                        sum += std::uint32_t(std::int32_t(value));
                        column[tap * rows] |= stored(value, Shift<T>::flip_w) << m * kBits;
                    }
                }
            }
        }
        start[row] = sum * std::uint32_t(Shift<T>::zero_x);
    }
}

// One row of ones: sum x', for the term zw * sum x'.
template <class T>
void pack_integer_ones(const IntegerBlocking& b, Index word, Index words, void* packed) {
    constexpr int kM = kMembers<T>, kBits = 32 / kM;
    auto* to = static_cast<std::uint32_t*>(packed);
    for (Index i = 0; i < words; ++i) {
        std::uint32_t ones = 0;
        for (int m = 0; m < kM; ++m) {
            if ((word + i) * kM + m < b.channels) ones |= 1u << m * kBits;
        }
        for (Index tap = 0; tap < b.taps_h * b.taps_w; ++tap) *to++ = ones;
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
