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

inline void advance(Member& member, const Problem& problem, Fold fold) {
    if (fold == Fold::kTaps && ++member.s < problem.s) return;
    member.s = 0;
    if (fold != Fold::kNone && ++member.r < problem.r) return;
    member.r = 0;
    ++member.c;
}

template <class T>
inline std::uint32_t stored(T value, std::uint32_t flip) {
    constexpr std::uint32_t kMask = kMembers<T> == 4 ? 0xff : 0xffff;
    return (std::uint32_t(std::int32_t(value)) ^ flip) & kMask;
}

template <int BYTES>
struct Bytes {
    char data[BYTES];
};

// Exactly `bytes` of them, BYTES <= bytes: the last chunk overlaps the one before.
template <int BYTES>
inline void copy_chunks(char* to, const char* from, Index bytes) {
    for (Index i = 0; i < bytes; i += BYTES) {
        const Index at = least(i, bytes - BYTES);
        Bytes<BYTES> chunk;
        __builtin_memcpy(&chunk, from + at, BYTES);
        __builtin_memcpy(to + at, &chunk, BYTES);
    }
}

// Lines are a few to a few hundred elements, for which a call of memcpy costs more than the copy.
template <class T>
inline void copy_line(T* to, const T* from, Index count) {
    const Index bytes = count * Index(sizeof(T));
    auto* to_bytes = reinterpret_cast<char*>(to);
    const auto* from_bytes = reinterpret_cast<const char*>(from);
    if (bytes >= 16) {
        copy_chunks<16>(to_bytes, from_bytes, bytes);
    } else if (bytes >= 8) {
        copy_chunks<8>(to_bytes, from_bytes, bytes);
    } else if (bytes >= 4) {
        copy_chunks<4>(to_bytes, from_bytes, bytes);
    } else {
        for (Index i = 0; i < count; ++i) to[i] = from[i];
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
inline void interleave(std::uint32_t* to, const T* const* lines, Index count, std::uint32_t flip) {
    Index i = 0;
    for (; i + kChunk <= count; i += kChunk) interleave_chunk(to + i, lines, i, flip);
    if (i == count) return;
    const Index at = count < kChunk ? 0 : count - kChunk;
    interleave_chunk(to + at, lines, at, flip);
}

// A line's pixels: columns column + i * step, of which [before, end) lie inside the image.
struct Span {
    Index column, step, before, end, count;
};

inline Span make_span(Index column, Index step, Index count, Index size) {
    const Index before = column >= 0 ? 0 : least(count, ceil_div(-column, step));
    const Index after = column >= size ? 0 : least(count, ceil_div(size - column, step));
    return {column, step, before, most(before, after), count};
}

template <class T>
inline void gather_line(T* to, const T* row, Index pixel_pitch, const Span& span, Index size,
                        PadMode mode) {
    const Index inside = span.end - span.before;
    const T* from = row + (span.column + span.before * span.step) * pixel_pitch;
    const Index distance = span.step * pixel_pitch;
    T* to_inside = to + span.before;
    if (distance == 1) {
        copy_line(to_inside, from, inside);
    } else if (distance == 2) {
        for (Index i = 0; i < inside; ++i) to_inside[i] = from[2 * i];
    } else {
        for (Index i = 0; i < inside; ++i) to_inside[i] = from[distance * i];
    }
    for (Index i = 0; i < span.count; ++i) {
        if (i == span.before) i = span.end;
        if (i >= span.count) break;
        const Index source = source_index(span.column + i * span.step, size, mode);
        to[i] = source < 0 ? T(0) : row[source * pixel_pitch];
    }
}

// One block of outputs: what a strip shows.
struct Block {
    Index p, q, rows, cols;
};

// Where lines come from: one image and group.
template <class T>
struct Image {
    const Problem& problem;
    const IntegerBlocking& b;
    View<const T> x;
    Block block;

    // Row `row` of the strip, seen through kernel row r; null where it is a border of zeros.
    const T* row_of(Index c, Index row, Index r) const {
        const Index in_row = (block.p + row) * problem.stride_h + r * problem.dilation_h;
        return padded_row(c, in_row);
    }
    const T* padded_row(Index c, Index in_row) const {
        const Index source = source_index(in_row - problem.pad_top, problem.h, problem.pad_mode);
        return source < 0 ? nullptr : x.data + c * x.stride[1] + source * x.stride[2];
    }
    Span span(Index s, Index count) const {
        return make_span(block.q * problem.stride_w + s * problem.dilation_w - problem.pad_left,
                         problem.stride_w, count, problem.w);
    }
};

// Gathers every line by itself. `lines` has room for kMembers + 1 of them.
template <class T>
void pack_lines(const Image<T>& image, Index word, Index words, T* lines, std::uint32_t* strip) {
    constexpr int kM = kMembers<T>;
    const Problem& problem = image.problem;
    const IntegerBlocking& b = image.b;
    const Index rows = image.block.rows + (b.taps_h - 1) * b.step_h;
    const Index count = image.block.cols + (b.taps_w - 1) * b.step_w;
    T* zeros = lines + kM * b.line_pitch;
    for (Index i = 0; i < b.line_pitch; ++i) zeros[i] = T(0);
    Member member = member_of(problem, b.fold, word * kM);
    for (Index i = 0; i < words; ++i, strip += b.plane) {
        Member members[kM];
        Span spans[kM];
        bool plain[kM];  // read in place
        for (int m = 0; m < kM; ++m) {
            members[m] = member;
            spans[m] = image.span(member.s, count);
            plain[m] = spans[m].before == 0 && spans[m].end == count && count >= kChunk &&
                       spans[m].step * image.x.stride[3] == 1;
            // members beyond the last meet weights of zero: any line will do
            if ((word + i) * kM + m + 1 < b.channels) advance(member, problem, b.fold);
        }
        for (Index row = 0; row < rows; ++row) {
            const T* sources[kM];
            for (int m = 0; m < kM; ++m) {
                const T* from = image.row_of(members[m].c, row, members[m].r);
                sources[m] = zeros;
                if (!from) continue;
                sources[m] = from + spans[m].column;
                if (plain[m]) continue;
                T* line = lines + m * b.line_pitch;
                gather_line(line, from, image.x.stride[3], spans[m], problem.w, problem.pad_mode);
                sources[m] = line;
            }
            interleave(strip + row * b.pitch, sources, count, Shift<T>::flip_x);
        }
    }
}

// Whether some output row of the block reads this row.
inline bool row_is_read(const Problem& problem, Index in_row) {
    if (problem.stride_h == 1) return true;
    for (Index r = 0; r < problem.r && r * problem.dilation_h <= in_row; ++r) {
        if ((in_row - r * problem.dilation_h) % problem.stride_h == 0) return true;
    }
    return false;
}

// All rows of one channel under the block, columns sorted by their remainder to the stride, so
// that every tap's line is a part of one of them: [rows][phases][line_pitch].
template <class T>
void gather_channel(const Image<T>& image, Index c, T* lines) {
    const Problem& problem = image.problem;
    const IntegerBlocking& b = image.b;
    const Index reach_h = (problem.r - 1) * problem.dilation_h;
    const Index reach_w = (problem.s - 1) * problem.dilation_w;
    const Index rows = (image.block.rows - 1) * problem.stride_h + reach_h + 1;
    const Index count = image.block.cols + reach_w / problem.stride_w;
    for (Index phase = 0; phase < b.phases; ++phase) {
        const Index column = image.block.q * problem.stride_w + phase - problem.pad_left;
        const Span span = make_span(column, problem.stride_w, count, problem.w);
        for (Index row = 0; row < rows; ++row) {
            if (!row_is_read(problem, row)) continue;
            T* line = lines + (row * b.phases + phase) * b.line_pitch;
            const T* from = image.padded_row(c, image.block.p * problem.stride_h + row);
            if (from) {
                gather_line(line, from, image.x.stride[3], span, problem.w, problem.pad_mode);
            } else {
                for (Index i = 0; i < count; ++i) line[i] = T(0);
            }
        }
    }
}

// Gathers every channel once and lets its taps share the lines. `lines` has room for the channels
// that one word can show.
template <class T>
void pack_folded(const Image<T>& image, Index word, Index words, T* lines, std::uint32_t* strip) {
    constexpr int kM = kMembers<T>;
    const Problem& problem = image.problem;
    const IntegerBlocking& b = image.b;
    const Index row_pitch = b.phases * b.line_pitch, channel_pitch = b.line_rows * row_pitch;
    const Index count = image.block.cols + (b.taps_w - 1) * b.step_w;
    Member member = member_of(problem, b.fold, word * kM);
    Index gathered = member.c - 1;
    for (Index i = 0; i < words; ++i, strip += b.plane) {
        const T* sources[kM];
        for (int m = 0; m < kM; ++m) {
            if (member.c > gathered) {
                gathered = member.c;
                gather_channel(image, gathered, lines + gathered % b.line_channels * channel_pitch);
            }
            const Index column = member.s * problem.dilation_w;
            sources[m] = lines + member.c % b.line_channels * channel_pitch +
                         member.r * problem.dilation_h * row_pitch +
                         column % problem.stride_w * b.line_pitch + column / problem.stride_w;
            if ((word + i) * kM + m + 1 < b.channels) advance(member, problem, b.fold);
        }
        for (Index row = 0; row < image.block.rows; ++row) {
            interleave(strip + row * b.pitch, sources, count, Shift<T>::flip_x);
            for (int m = 0; m < kM; ++m) sources[m] += problem.stride_h * row_pitch;
        }
    }
}

// One word of a pixel whose channels are consecutive; `left` of them exist.
template <class T>
inline std::uint32_t pixel_word(const T* from, Index left) {
    constexpr int kM = kMembers<T>, kBits = 32 / kM;
    std::uint32_t word = 0;
    for (int m = 0; m < kM; ++m) {
        const T value = from && m < left ? from[m] : T(0);
        word |= stored(value, Shift<T>::flip_x) << m * kBits;
    }
    return word;
}

#if defined(__SSE2__)
constexpr Index kTurned = 4;  // pixels and words that are turned at a time

// Four words of a pixel.
template <class T>
inline __m128i load_pixel_words(const T* from) {
    constexpr int kM = kMembers<T>;
    if constexpr (kM == 4) {
        return _mm_xor_si128(load_bytes(from), _mm_set1_epi8(char(Shift<T>::flip_x)));
    } else if constexpr (sizeof(T) == 2) {
        return _mm_xor_si128(load_bytes(from), _mm_set1_epi16(short(Shift<T>::flip_x)));
    } else {
        const auto* half = reinterpret_cast<const __m128i*>(from);
        return widen_low(_mm_loadl_epi64(half), T(-1) < T(0));
    }
}

template <class T>
inline void turn_pixels(const T* from, Index pixel_pitch, std::uint32_t* to, Index plane) {
    const __m128i a = load_pixel_words(from), b = load_pixel_words(from + pixel_pitch);
    const __m128i c = load_pixel_words(from + 2 * pixel_pitch);
    const __m128i d = load_pixel_words(from + 3 * pixel_pitch);
    const __m128i ab = _mm_unpacklo_epi32(a, b), ab2 = _mm_unpackhi_epi32(a, b);
    const __m128i cd = _mm_unpacklo_epi32(c, d), cd2 = _mm_unpackhi_epi32(c, d);
    const auto put = [&](Index word, __m128i v) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + word * plane), v);
    };
    put(0, _mm_unpacklo_epi64(ab, cd));
    put(1, _mm_unpackhi_epi64(ab, cd));
    put(2, _mm_unpacklo_epi64(ab2, cd2));
    put(3, _mm_unpackhi_epi64(ab2, cd2));
}
#else
constexpr Index kTurned = 4;

template <class T>
inline void turn_pixels(const T* from, Index pixel_pitch, std::uint32_t* to, Index plane) {
    for (Index i = 0; i < kTurned; ++i) {
        for (Index word = 0; word < kTurned; ++word) {
            to[word * plane + i] =
                pixel_word(from + i * pixel_pitch + word * kMembers<T>, kMembers<T>);
        }
    }
}
#endif

// Channels that are consecutive in memory: words are read as they are, and turned.
template <class T>
void pack_pixels(const Image<T>& image, Index word, Index words, std::uint32_t* strip) {
    constexpr int kM = kMembers<T>;
    const Problem& problem = image.problem;
    const IntegerBlocking& b = image.b;
    const Index rows = image.block.rows + (b.taps_h - 1) * b.step_h;
    const Index pixel_pitch = image.x.stride[3];
    const Span span = image.span(0, image.block.cols + (b.taps_w - 1) * b.step_w);
    const Index whole = least(words, b.channels / kM - word) / kTurned * kTurned;
    const auto put = [&](const T* pixel, std::uint32_t* to, Index first) {
        for (Index i = first; i < words; ++i) {
            const Index channel = (word + i) * kM;
            to[i * b.plane] = pixel_word(pixel ? pixel + channel : nullptr, b.channels - channel);
        }
    };
    for (Index row = 0; row < rows; ++row, strip += b.pitch) {
        const T* from = image.row_of(0, row, 0);
        Index i = 0;
        while (i < span.count) {
            const bool inside = from && i >= span.before && i < span.end;
            if (inside && i + kTurned <= span.end && whole > 0) {
                const T* pixel = from + (span.column + i) * pixel_pitch + word * kM;
                for (Index done = 0; done < whole; done += kTurned) {
                    turn_pixels(pixel + done * kM, pixel_pitch, strip + done * b.plane + i,
                                b.plane);
                }
                for (Index j = 0; whole < words && j < kTurned; ++j) {
                    put(from + (span.column + i + j) * pixel_pitch, strip + i + j, whole);
                }
                i += kTurned;
                continue;
            }
            const Index column =
                from ? source_index(span.column + i, problem.w, problem.pad_mode) : -1;
            put(column < 0 ? nullptr : from + column * pixel_pitch, strip + i, 0);
            ++i;
        }
    }
}

// Fills the strip's words [word, word + words).
template <class T>
void pack_strip(const Image<T>& image, Index word, Index words, T* lines, std::uint32_t* strip) {
    if (image.b.fold == Fold::kNone && image.x.stride[1] == 1 && image.b.channels > 1) {
        pack_pixels(image, word, words, strip);
    } else if (image.b.line_rows > 0) {
        pack_folded(image, word, words, lines, strip);
    } else {
        pack_lines(image, word, words, lines, strip);
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
inline bool dense_kernels(const View<const T>& w, const Problem& problem) {
    const Index taps = problem.r * problem.s;
    return (problem.s == 1 || w.stride[3] == 1) && (problem.r == 1 || w.stride[2] == problem.s) &&
           (problem.c == problem.groups || w.stride[1] == taps);
}

// One word of every tap of one output channel, from weights of any strides.
template <class T>
void pack_word(const Problem& problem, const IntegerBlocking& b, const View<const T>& w,
               const T* kernel, Index word, std::uint32_t* column, Index rows) {
    constexpr int kM = kMembers<T>, kBits = 32 / kM;
    for (Index tap = 0; tap < b.taps_h * b.taps_w; ++tap) column[tap * rows] = 0;
    Member member = member_of(problem, b.fold, word * kM);
    for (int m = 0; m < kM && word * kM + m < b.channels; ++m) {
        const T* from =
            kernel + member.c * w.stride[1] + member.r * w.stride[2] + member.s * w.stride[3];
        std::uint32_t* to = column;
        for (Index r = 0; r < b.taps_h; ++r) {
            for (Index s = 0; s < b.taps_w; ++s, to += rows) {
                const T value = from[r * w.stride[2] + s * w.stride[3]];
                *to |= stored(value, Shift<T>::flip_w) << m * kBits;
            }
        }
        advance(member, problem, b.fold);
    }
}

// The same for whole words of dense weights, where members lie `taps` apart in any fold. Returns
// the first word it has left over.
template <class T>
Index pack_dense_words(const IntegerBlocking& b, const T* kernel, Index word, Index end,
                       std::uint32_t* column, Index rows) {
    constexpr int kM = kMembers<T>;
    const Index taps = b.taps_h * b.taps_w, total = b.channels * taps;
    std::uint32_t chunk[kChunk];
    for (; word < end; ++word, column += taps * rows) {
        const T* lines[kM];
        for (int m = 0; m < kM; ++m) lines[m] = kernel + (word * kM + m) * taps;
        const Index last = (word + 1) * kM * taps - taps + (taps - 1) / kChunk * kChunk + kChunk;
        if (last > total) return word;
        for (Index tap = 0; tap < taps; tap += kChunk) {
            interleave_chunk(chunk, lines, tap, Shift<T>::flip_w);
            const Index count = least(kChunk, taps - tap);
            for (Index i = 0; i < count; ++i) column[(tap + i) * rows] = chunk[i];
        }
    }
    return word;
}

// And where there is one tap, words are consecutive in memory.
template <class T>
Index pack_consecutive_words(const T* kernel, Index word, Index end, std::uint32_t* column,
                             Index rows) {
    constexpr int kM = kMembers<T>, kBits = 32 / kM;
    for (; word < end; ++word, column += rows) {
        const T* from = kernel + word * kM;
        std::uint32_t value = 0;
        if constexpr (kM * sizeof(T) == 4) {
            __builtin_memcpy(&value, from, 4);
            for (int m = 0; m < kM; ++m) value ^= Shift<T>::flip_w << m * kBits;
        } else {
            for (int m = 0; m < kM; ++m) value |= stored(from[m], Shift<T>::flip_w) << m * kBits;
        }
        *column = value;
    }
    return word;
}

// Sum of the members of words [word, end) of one output channel.
template <class T>
std::uint32_t sum_kernel(const Problem& problem, const IntegerBlocking& b, const View<const T>& w,
                         const T* kernel, Index word, Index end, bool dense) {
    constexpr int kM = kMembers<T>;
    const Index taps = b.taps_h * b.taps_w;
    const Index last = least(end * kM, b.channels);
    std::uint32_t sum = 0;
    if (dense) {
        for (Index i = word * kM * taps; i < last * taps; ++i) {
            sum += std::uint32_t(std::int32_t(kernel[i]));
        }
        return sum;
    }
    Member member = member_of(problem, b.fold, word * kM);
    for (Index channel = word * kM; channel < last; ++channel) {
        const T* from =
            kernel + member.c * w.stride[1] + member.r * w.stride[2] + member.s * w.stride[3];
        for (Index r = 0; r < b.taps_h; ++r) {
            for (Index s = 0; s < b.taps_w; ++s) {
                sum += std::uint32_t(std::int32_t(from[r * w.stride[2] + s * w.stride[3]]));
            }
        }
        advance(member, problem, b.fold);
    }
    return sum;
}

template <class T>
void pack_integer_panel(const Problem& problem, const IntegerBlocking& b, const View<const T>& w,
                        Index panel, Index word, Index words, void* packed) {
    const PanelRows range = panel_rows(problem, b, panel);
    const Index rows = range.end - range.first, taps = b.taps_h * b.taps_w;
    const Index end = word + words, whole = least(end, b.channels / kMembers<T>);
    const bool dense = dense_kernels(w, problem);
    auto* start = static_cast<std::uint32_t*>(packed);
    std::uint32_t* to = start + kPanelHeader / 4;
    for (Index row = 0; row < rows; ++row) {
        const T* kernel = w.data + (range.first + row) * w.stride[0];
        Index done = word;
        if (dense && taps == 1) {
            done = pack_consecutive_words(kernel, word, whole, to + row, rows);
        } else if (dense) {
            done = pack_dense_words(b, kernel, word, whole, to + row, rows);
        }
        for (; done < end; ++done) {
            pack_word(problem, b, w, kernel, done, to + (done - word) * taps * rows + row, rows);
        }
        start[row] = 0;
        if constexpr (Shift<T>::zero_x != 0) {
            start[row] = sum_kernel(problem, b, w, kernel, word, end, dense) *
                         std::uint32_t(Shift<T>::zero_x);
        }
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
