// Packing weights: panels of a few output channels, step by step of the reduction.
#pragma once

#include "kernels/strip_lines.hpp"
#include "kernels/strip_tile.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Output channels [first, end) of a panel: spread evenly, 64 are 13+13+13+13+12.
struct PanelRows {
    Index first, end;
};

inline PanelRows panel_rows(const Problem& problem, const StripBlocking& b, Index panel) {
    const Index outputs = problem.k / problem.groups;
    if (b.channel_lanes) return {panel * b.panel_rows, least((panel + 1) * b.panel_rows, outputs)};
    return {panel * outputs / b.panels, (panel + 1) * outputs / b.panels};
}

// Whether the weights of one output channel lie in the order (c, r, s): the members of any fold are
// then as far apart as each has taps, and the steps of a reduction of floats are consecutive.
template <class T>
inline bool dense_kernels(const View<const T>& w, const Problem& problem) {
    const Index taps = problem.r * problem.s;
    return (problem.s == 1 || w.stride[3] == 1) && (problem.r == 1 || w.stride[2] == problem.s) &&
           (problem.c == problem.groups || w.stride[1] == taps);
}

// One word of every tap of one output channel, from weights of any strides.
template <class T>
void pack_word(const Problem& problem, const StripBlocking& b, const View<const T>& w,
               const T* kernel, Index word, WordOf<T>* column, Index pitch) {
    constexpr int kM = kMembers<T>;
    const T* from[kM];
    Member member = member_of(problem, b.fold, word * kM);
    const Index left = least(kM, b.channels - word * kM);
    for (Index m = 0; m < left; ++m) {
        from[m] = kernel + member.c * w.stride[1] + member.r * w.stride[2] + member.s * w.stride[3];
        advance(member, problem, b.fold);
    }
    for (Index r = 0; r < b.taps_h; ++r) {
        for (Index s = 0; s < b.taps_w; ++s, column += pitch) {
            T members[kM];
            for (Index m = 0; m < left; ++m) {
                members[m] = from[m][r * w.stride[2] + s * w.stride[3]];
            }
            *column = join(members, left, Narrow<T>::flip_w);
        }
    }
}

// The same for whole words of dense weights. Returns the first word it has left over.
template <class T>
Index pack_dense_words(const StripBlocking& b, const T* kernel, Index word, Index end,
                       WordOf<T>* column, Index pitch) {
    constexpr int kM = kMembers<T>;
    const Index taps = b.taps_h * b.taps_w, total = b.channels * taps;
    WordOf<T> chunk[kChunk];
    for (; word < end; ++word, column += taps * pitch) {
        const T* lines[kM];
        for (int m = 0; m < kM; ++m) lines[m] = kernel + (word * kM + m) * taps;
        const Index last = (word + 1) * kM * taps - taps + (taps - 1) / kChunk * kChunk + kChunk;
        if (last > total) return word;
        for (Index tap = 0; tap < taps; tap += kChunk) {
            interleave_chunk(chunk, lines, tap, Narrow<T>::flip_w);
            const Index count = least(kChunk, taps - tap);
            for (Index i = 0; i < count; ++i) column[(tap + i) * pitch] = chunk[i];
        }
    }
    return word;
}

// And where there is one tap, words are consecutive in memory.
template <class T>
Index pack_consecutive_words(const T* kernel, Index word, Index end, WordOf<T>* column,
                             Index pitch) {
    constexpr int kM = kMembers<T>;
    for (; word < end; ++word, column += pitch) {
        *column = join_whole(kernel + word * kM, Narrow<T>::flip_w);
    }
    return word;
}

// Words [word, end) of rows in which they are consecutive: squares of vectors, turned. Returns the
// first word it has left over.
template <class T>
Index turn_dense_rows(const T* kernel, Index distance, Index word, Index end, WordOf<T>* to,
                      Index rows, Index pitch) {
    constexpr int kL = kLanes<WordOf<T>>;
    for (; word + kL <= end; word += kL, to += kL * pitch) {
        for (Index first = 0; first < rows; first += kL) {
            Vec<WordOf<T>> block[kL];
            for (int i = 0; i < kL; ++i) {
                const Index row = least(first + i, rows - 1);
                block[i] =
                    load_words(kernel + row * distance + word * kMembers<T>, Narrow<T>::flip_w);
            }
            transpose<WordOf<T>>(block);
            for (int i = 0; i < kL; ++i)
                store_some(to + i * pitch + first, block[i], least(kL, rows - first));
        }
    }
    return word;
}

// Sum of the members of words [word, end) of one output channel.
template <class T>
std::uint32_t sum_kernel(const Problem& problem, const StripBlocking& b, const View<const T>& w,
                         const T* kernel, Index word, Index end, bool dense) {
    constexpr int kM = kMembers<T>;
    const Index taps = b.taps_h * b.taps_w;
    const Index last = least(end * kM, b.channels);
    std::uint32_t sum = 0;
    if (dense) {
        Index i = word * kM * taps;
        if constexpr (kM == 4 && Narrow<T>::flip_w == 0) {
            constexpr Index kStep = kM * kLanes<std::int32_t>;
            Words lanes{};
            for (; i + kStep <= last * taps; i += kStep) {
                lanes = dot<kM>(lanes, splat(std::int32_t(0x01010101)), load_words(kernel + i, 0));
            }
            for (int lane = 0; lane < kLanes<std::int32_t>; ++lane)
                sum += std::uint32_t(lanes[lane]);
        }
        for (; i < last * taps; ++i) sum += std::uint32_t(std::int32_t(kernel[i]));
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

// Steps that are packed for all rows before the next: they stay in the first-level cache.
constexpr Index kPackedWords = 4096;

// Words [word, end) of one output channel of dense weights, as far as they are whole.
template <class T>
Index pack_dense(const StripBlocking& b, const T* kernel, Index word, Index end, WordOf<T>* column,
                 Index pitch) {
    const Index whole = least(end, b.channels / kMembers<T>);
    if (b.taps_h * b.taps_w == 1) {
        return pack_consecutive_words(kernel, word, whole, column, pitch);
    }
    return pack_dense_words(b, kernel, word, whole, column, pitch);
}

// Packs [words * taps][rows] behind the header; lanes beyond the last output channel are zero.
template <class T>
void pack_panel(const Problem& problem, const StripBlocking& b, const View<const T>& w, Index panel,
                Index word, Index words, void* packed) {
    const PanelRows range = panel_rows(problem, b, panel);
    const Index rows = range.end - range.first, taps = b.taps_h * b.taps_w, end = word + words;
    const Index pitch = b.channel_lanes ? b.panel_rows : rows;
    const bool dense = dense_kernels(w, problem);
    const T* kernels = w.data + range.first * w.stride[0];
    auto* start = static_cast<std::uint32_t*>(packed);
    auto* to = reinterpret_cast<WordOf<T>*>(static_cast<char*>(packed) + kPanelHeader);
    Index first = word;
    if (dense && kWidens<T>) {  // any step is a word
        first = turn_dense_rows(kernels, w.stride[0], word * taps, end * taps, to, rows, pitch);
        first /= taps;  // steps of a word begun are packed once more
    } else if (dense && taps == 1) {
        const Index whole = least(end, b.channels / kMembers<T>);
        first = turn_dense_rows(kernels, w.stride[0], word, whole, to, rows, pitch);
    }
    const Index at_once = most(1, kPackedWords / (taps * pitch));
    for (; first < end; first += at_once) {
        const Index last = least(first + at_once, end);
        for (Index row = 0; row < rows; ++row) {
            const T* kernel = kernels + row * w.stride[0];
            WordOf<T>* column = to + (first - word) * taps * pitch + row;
            Index done = first;
            if (dense) done = pack_dense(b, kernel, done, last, column, pitch);
            for (; done < last; ++done) {
                pack_word(problem, b, w, kernel, done, to + (done - word) * taps * pitch + row,
                          pitch);
            }
        }
    }
    for (Index row = 0; row < pitch; ++row) {
        start[row] = 0;
        if (row >= rows) {
            for (Index step = 0; step < words * taps; ++step) to[step * pitch + row] = WordOf<T>{};
        } else if constexpr (Narrow<T>::zero_x != 0) {
            start[row] = std::uint32_t(Narrow<T>::zero_x) *
                         sum_kernel(problem, b, w, kernels + row * w.stride[0], word, end, dense);
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
