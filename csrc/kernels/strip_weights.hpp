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

// Steps [step, end) of dense rows of floats: squares of vectors, turned. Returns the first step it
// has left over.
template <class T>
Index turn_dense_rows(const T* kernel, Index distance, Index step, Index end, float* to, Index rows,
                      Index pitch) {
    constexpr int kL = kLanes<float>;
    for (; step + kL <= end; step += kL, to += kL * pitch) {
        for (Index first = 0; first < rows; first += kL) {
            Vec<float> block[kL];
            for (int i = 0; i < kL; ++i) {
                const Index row = least(first + i, rows - 1);
                block[i] = widen(kernel + row * distance + step);
            }
            transpose<float>(block);
            for (int i = 0; i < kL; ++i)
                store_first(to + i * pitch + first, block[i], least(kL, rows - first));
        }
    }
    return step;
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

// Packs [words * taps][rows] behind the header; lanes beyond the last output channel are zero.
template <class T>
void pack_panel(const Problem& problem, const StripBlocking& b, const View<const T>& w, Index panel,
                Index word, Index words, void* packed) {
    const PanelRows range = panel_rows(problem, b, panel);
    const Index rows = range.end - range.first, taps = b.taps_h * b.taps_w;
    const Index pitch = b.channel_lanes ? b.panel_rows : rows;
    const Index end = word + words, whole = least(end, b.channels / kMembers<T>);
    const bool dense = dense_kernels(w, problem);
    const T* kernels = w.data + range.first * w.stride[0];
    auto* start = static_cast<std::uint32_t*>(packed);
    auto* to = reinterpret_cast<WordOf<T>*>(static_cast<char*>(packed) + kPanelHeader);
    Index turned_words = word;
    if constexpr (kWidens<T>) {
        if (dense) {
            const Index steps =
                turn_dense_rows(kernels, w.stride[0], word * taps, end * taps, to, rows, pitch);
            turned_words = steps / taps;  // steps of a word begun are packed once more
        }
    }
    for (Index row = 0; row < rows; ++row) {
        const T* kernel = kernels + row * w.stride[0];
        Index done = turned_words;
        WordOf<T>* column = to + (done - word) * taps * pitch + row;
        if (dense && taps == 1) {
            done = pack_consecutive_words(kernel, done, whole, column, pitch);
        } else if (dense) {
            done = pack_dense_words(b, kernel, done, whole, column, pitch);
        }
        for (; done < end; ++done) {
            pack_word(problem, b, w, kernel, done, to + (done - word) * taps * pitch + row, pitch);
        }
        if constexpr (Narrow<T>::zero_x != 0) {
            start[row] = sum_kernel(problem, b, w, kernel, word, end, dense) *
                         std::uint32_t(Narrow<T>::zero_x);
        } else {
            start[row] = 0;
        }
    }
    for (Index row = rows; row < pitch; ++row) {
        start[row] = 0;
        for (Index step = 0; step < words * taps; ++step) to[step * pitch + row] = WordOf<T>{};
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
