// Filling a strip by masked loads: lines are read where they lie in the image, and whatever of them
// is border is zero without a branch.
#pragma once

#include "kernels/strip_lines.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

#if defined(__AVX512BW__) && defined(__AVX512VL__)
constexpr bool kMasksLines = true;

// Which of kChunk lanes lie inside of the image, and which elements of memory hold them: masked
// loads touch nothing else.
struct ChunkMask {
    __mmask16 lanes;
    __mmask32 elements;
};

// Lanes [at, at + kChunk) of those from `before` to `end`, elements `step` apart.
inline ChunkMask chunk_mask(const Span& span, Index at) {
    const auto first = unsigned(least(most(span.before - at, 0), kChunk));
    const auto last = unsigned(least(most(span.end - at, 0), kChunk));
    if (last <= first) return {0, 0};
    const auto step = unsigned(span.step);
    const std::uint64_t elements =
        (std::uint64_t(2) << step * (last - 1)) - (std::uint64_t(1) << step * first);
    return {__mmask16((1u << last) - (1u << first)), __mmask32(elements)};
}

// kChunk elements STEP apart.
template <int STEP>
inline __m128i load_chunk8(const void* from, ChunkMask mask) {
    if constexpr (STEP == 1) return _mm_maskz_loadu_epi8(mask.lanes, from);
    return _mm256_maskz_cvtepi16_epi8(mask.lanes, _mm256_maskz_loadu_epi8(mask.elements, from));
}
template <int STEP>
inline __m256i load_chunk16(const void* from, ChunkMask mask) {
    if constexpr (STEP == 1) return _mm256_maskz_loadu_epi16(mask.lanes, from);
    return _mm512_maskz_cvtepi32_epi16(mask.lanes, _mm512_maskz_loadu_epi16(mask.elements, from));
}

// Masked, and all lanes on: GCC 12 warns of the undefined vector that it merges into otherwise.
constexpr __mmask16 kAllWords = 0xffff;

inline __m512i widen_chunk16(__m256i halves) {
    return _mm512_maskz_cvtepu16_epi32(kAllWords, halves);
}
template <class T, int STEP>
inline __m512i load_wide_chunk(const T* from, ChunkMask mask) {
    if constexpr (sizeof(T) == 2) {
        return widen_chunk16(load_chunk16<STEP>(from, mask));
    } else {
        const __m128i bytes = load_chunk8<STEP>(from, mask);
        return T(-1) < T(0) ? _mm512_maskz_cvtepi8_epi32(kAllWords, bytes)
                            : _mm512_maskz_cvtepu8_epi32(kAllWords, bytes);
    }
}

// Four lines of bytes side by side, brought together by one shuffle of dwords and one of bytes.
template <int STEP, class T>
inline __m512i join_quads(const T* const (&from)[4], const ChunkMask (&masks)[4]) {
    const __m128i a = load_chunk8<STEP>(from[0], masks[0]);
    const __m128i b = load_chunk8<STEP>(from[1], masks[1]);
    const __m128i c = load_chunk8<STEP>(from[2], masks[2]);
    const __m128i d = load_chunk8<STEP>(from[3], masks[3]);
    const __m256i ab = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
    const __m256i cd = _mm256_inserti128_si256(_mm256_castsi128_si256(c), d, 1);
    const __m512i abcd = _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(ab), cd, 1);
    const __m512i quarters =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i turned = _mm512_maskz_permutexvar_epi32(kAllWords, quarters, abcd);
    const __m128i bytes = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i in_words = _mm512_maskz_broadcast_i32x4(kAllWords, bytes);
    return _mm512_shuffle_epi8(turned, in_words);
}

// kChunk words.
template <int STEP, class T>
inline Vec<WordOf<T>> join_chunk(const T* const (&from)[kMembers<T>],
                                 const ChunkMask (&masks)[kMembers<T>]) {
    if constexpr (sizeof(T) == 2 && kWidens<T>) {
        alignas(32) T chunk[kChunk];
        _mm256_store_si256(reinterpret_cast<__m256i*>(chunk),
                           load_chunk16<STEP>(from[0], masks[0]));
        return widen(chunk);
    } else {
        __m512i words;
        if constexpr (kMembers<T> == 4) {
            words = join_quads<STEP>(from, masks);
        } else {
            const __m512i low = load_wide_chunk<T, STEP>(from[0], masks[0]);
            const __m512i high = load_wide_chunk<T, STEP>(from[1], masks[1]);
            words = _mm512_mask_blend_epi16(0xaaaaaaaa, low,
                                            _mm512_maskz_slli_epi32(kAllWords, high, 16));
        }
        constexpr std::uint32_t kFlips =
            Narrow<T>::flip_x * (kMembers<T> == 4 ? 0x01010101u : 0x00010001u);
        return (Words)words ^ std::int32_t(kFlips);
    }
}

// One phase of one word: where its members' pixels lie, and which of them are border.
template <class T>
struct MaskedPhase {
    static constexpr int kM = kMembers<T>;
    Span columns[kM], lines[kM];
    const T* data;
    Index first[kM];           // where the first row's first column is or would be
    Index row_step, rows;      // from row to row, and how many
    Index row_begin, row_end;  // all members have these rows,
    Index col_begin, col_end;  // and these columns of them, whole chunks

    MaskedPhase(const Image<T>& image, const Member (&members)[kM], Index phase_h, Index phase_w)
        : data(image.x.data),
          row_step(image.problem.stride_h * image.x.stride[2]),
          rows(image.rows()),
          row_begin(0),
          row_end(rows),
          col_begin(0),
          col_end(image.cols()) {
        const Problem& problem = image.problem;
        for (int m = 0; m < kM; ++m) {
            const Member& member = members[m];
            columns[m] = image.span(phase_w + member.s * problem.dilation_w, image.cols());
            const Index row = image.block.p * problem.stride_h + phase_h +
                              member.r * problem.dilation_h - problem.pad_top;
            lines[m] = make_span(row, problem.stride_h, rows, problem.h);
            first[m] = member.c * image.x.stride[1] + row * image.x.stride[2] + columns[m].column;
            row_begin = most(row_begin, lines[m].before);
            row_end = least(row_end, lines[m].end);
            col_begin = most(col_begin, columns[m].before);
            col_end = least(col_end, columns[m].end);
        }
        row_end = most(row_begin, row_end);
        col_begin = ceil_div(col_begin, kChunk) * kChunk;
        col_end = most(col_begin, col_end / kChunk * kChunk);
    }
};

// Chunk `at` of rows [row, end), which all members have; `at` is in elements.
template <int STEP, class T>
inline void join_rows(const MaskedPhase<T>& phase, Index row, Index end, Index at,
                      const ChunkMask (&masks)[kMembers<T>], WordOf<T>* to, Index pitch) {
    const T* from[kMembers<T>];
    for (int m = 0; m < kMembers<T>; ++m) {
        from[m] = phase.data + phase.first[m] + row * phase.row_step + at * STEP;
    }
    for (to += row * pitch + at; row < end; ++row, to += pitch) {
        store(to, join_chunk<STEP, T>(from, masks));
        for (int m = 0; m < kMembers<T>; ++m) from[m] += phase.row_step;
    }
}

// The same of a row that some members lack.
template <int STEP, class T>
inline void join_border(const MaskedPhase<T>& phase, Index row, Index at,
                        const ChunkMask (&masks)[kMembers<T>], WordOf<T>* to, Index pitch) {
    const T* from[kMembers<T>];
    ChunkMask read[kMembers<T>];
    for (int m = 0; m < kMembers<T>; ++m) {
        const bool has = row >= phase.lines[m].before && row < phase.lines[m].end;
        from[m] = phase.data + (has ? phase.first[m] + row * phase.row_step + at * STEP : 0);
        read[m] = has ? masks[m] : ChunkMask{0, 0};
    }
    store(to + row * pitch + at, join_chunk<STEP, T>(from, read));
}

// `to` is the first row of the phase, and `plane` is from channel to channel.
template <int STEP, class T>
void pack_masked_phase(const MaskedPhase<T>& phase, WordOf<T>* to, Index pitch, Index plane) {
    constexpr int kM = kMembers<T>;
    const Index count = phase.columns[0].count;
    // the last chunk first: it runs over into the row below, whose first comes after it
    for (Index at = (count - 1) / kChunk * kChunk; at >= 0; at -= kChunk) {
        const bool whole = at >= phase.col_begin && at < phase.col_end;
        if (whole && phase.row_begin == 0 && phase.row_end == phase.rows) continue;
        ChunkMask masks[kM];
        for (int m = 0; m < kM; ++m) masks[m] = chunk_mask(phase.columns[m], at);
        Index row = 0;
        for (; row < phase.row_begin; ++row) join_border<STEP>(phase, row, at, masks, to, pitch);
        if (!whole) join_rows<STEP>(phase, row, phase.row_end, at, masks, to, pitch);
        row = phase.row_end;
        for (; row < phase.rows; ++row) join_border<STEP>(phase, row, at, masks, to, pitch);
    }
    ChunkMask whole[kM];
    for (int m = 0; m < kM; ++m) whole[m] = {0xffff, STEP == 1 ? 0xffffu : 0x7fffffffu};
    const T* from[kM];
    for (Index row = phase.row_begin; row < phase.row_end; ++row) {
        for (int m = 0; m < kM; ++m) {
            from[m] = phase.data + phase.first[m] + row * phase.row_step + phase.col_begin * STEP;
        }
        for (Index at = phase.col_begin; at < phase.col_end; at += kChunk) {
            // each chunk fetches a line of one member of the next word: together they fetch all
            __builtin_prefetch(from[0] + (kM + at / kChunk % kM) * plane);
            store(to + row * pitch + at, join_chunk<STEP, T>(from, whole));
            for (int m = 0; m < kM; ++m) from[m] += kChunk * STEP;
        }
    }
}

template <class T>
void pack_masked(const Image<T>& image, Index word, Index words, WordOf<T>* strip) {
    const StripBlocking& b = image.b;
    Member member = member_of(image.problem, b.fold, word * kMembers<T>);
    for (Index i = 0; i < words; ++i, strip += b.plane) {
        Member members[kMembers<T>];
        take_members(members, image, word + i, member);
        for_each_phase(b, strip, [&](Index phase_h, Index phase_w, WordOf<T>* to) {
            const MaskedPhase<T> phase(image, members, phase_h, phase_w);
            const Index plane = image.x.stride[1];
            if (image.problem.stride_w == 1) {
                pack_masked_phase<1>(phase, to, b.pitch, plane);
            } else {
                pack_masked_phase<2>(phase, to, b.pitch, plane);
            }
        });
    }
}

// Up to kChunk pixels of up to as many words from `word` on, turned: a row of words for every
// pixel. `line` is where the row of the first channel begins, or null; no taps are folded.
template <int STEP, class T>
void turn_square(const Image<T>& image, const T* line, const Span& columns, Index at, Index word,
                 Index words, WordOf<T>* to) {
    constexpr int kM = kMembers<T>;
    const StripBlocking& b = image.b;
    const ChunkMask inside = line ? chunk_mask(columns, at) : ChunkMask{0, 0};
    const T* first = (line ? line : image.x.data) + columns.column + at * STEP;
    ChunkMask masks[kM];
    for (int m = 0; m < kM; ++m) masks[m] = inside;
    Vec<WordOf<T>> square[kChunk] = {};
    for (Index i = 0; i < words; ++i) {
        const T* from[kM];
        for (int m = 0; m < kM; ++m) {
            // members beyond the last meet weights of zero: any line will do
            const Index last = b.channels - 1 - word * kM;
            from[m] = first + least(i * kM + m, last) * image.x.stride[1];
        }
        square[i] = join_chunk<STEP, T>(from, masks);
    }
    transpose<WordOf<T>>(square);
    const Index pixels = least(kChunk, columns.count - at);
    for (Index i = 0; i < pixels; ++i) store_some(to + i * b.pixel_pitch, square[i], words);
}

// Words whose pixels keep them together, from planes.
template <class T>
void turn_masked(const Image<T>& image, Index word, Index words, WordOf<T>* strip) {
    const Problem& problem = image.problem;
    const StripBlocking& b = image.b;
    for_each_phase(b, strip, [&](Index phase_h, Index phase_w, WordOf<T>* to) {
        const Span columns = image.span(phase_w, image.cols());
        for (Index done = 0; done < words; done += kChunk) {
            const Index first = word + done, count = least(kChunk, words - done);
            for (Index row = 0; row < image.rows(); ++row) {
                const T* line =
                    image.padded_row(first * kMembers<T>, row * problem.stride_h + phase_h);
                for (Index at = 0; at < columns.count; at += kChunk) {
                    WordOf<T>* pixels = to + (row * b.pitch + at) * b.pixel_pitch + done;
                    if (problem.stride_w == 1) {
                        turn_square<1>(image, line, columns, at, first, count, pixels);
                    } else {
                        turn_square<2>(image, line, columns, at, first, count, pixels);
                    }
                }
            }
        }
    });
}
#else
constexpr bool kMasksLines = false;

template <class T>
void turn_masked(const Image<T>&, Index, Index, WordOf<T>*) {}

template <class T>
void pack_masked(const Image<T>&, Index, Index, WordOf<T>*) {}
#endif

// Whether masked loads take lines out of the image.
template <class T>
inline bool masks_lines(const Image<T>& image) {
    return kMasksLines && image.problem.stride_w <= 2 && image.x.stride[3] == 1 &&
           image.problem.pad_mode == PadMode::kConstant;
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
