// One task's scratch, and a part of the reduction in it.
#pragma once

#include "kernels/strip_kernels.hpp"
#include "kernels/strip_output.hpp"
#include "kernels/strip_tile.hpp"
#include "kernels/strip_words.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// One task's scratch, as StripBlocking cuts it.
template <class T>
struct StripScratch {
    std::int32_t* offsets;
    char* panel;
    SumOf<T>* pixel_sums;  // of every pixel of the strip
    SumOf<T>* sums;
    SumOf<T>* partial;  // unfinished sums of all the task's output channels
    T* lines;
    WordOf<T>* strip;
};

template <class T>
StripScratch<T> cut_scratch(const StripBlocking& b, char* scratch) {
    const auto sums = [&](Index at) { return reinterpret_cast<SumOf<T>*>(scratch + at); };
    return {reinterpret_cast<std::int32_t*>(scratch + b.offsets_at),
            scratch + b.panel_at,
            sums(b.pixel_sums_at),
            sums(b.sums_at),
            sums(b.partial_at),
            reinterpret_cast<T*>(scratch + b.lines_at),
            reinterpret_cast<WordOf<T>*>(scratch + b.strip_at)};
}

// Pixels of the strip from an output's first one to the one under tap (r, s).
inline Index tap_distance(const StripBlocking& b, Index r, Index s) {
    const Index row = r * b.step_h, column = s * b.step_w;
    const Index phase = row % b.hop_h * b.phases_w + column % b.hop_w;
    return (phase * b.strip_rows + row / b.hop_h) * b.pitch + column / b.hop_w;
}

// Bytes from an output's first word to the one that a step of the reduction multiplies.
inline void list_offsets(const StripBlocking& b, std::int32_t* offsets) {
    const Index taps = b.taps_h * b.taps_w, steps = b.word_block * taps;
    for (Index tap = 0; tap < taps; ++tap) {
        const Index distance = tap_distance(b, tap / b.taps_w, tap % b.taps_w);
        offsets[tap] = std::int32_t(4 * distance * b.pixel_pitch);
    }
    const auto word_bytes = std::int32_t(4 * b.word_pitch);
    for (Index step = taps; step < steps; ++step) offsets[step] = offsets[step - taps] + word_bytes;
    // and then the tile that begins where this one ends
    constexpr std::int32_t kTileBytes = kStripVectors * FASTCONV_VECTOR_BYTES;
    for (Index i = 0; i < kStepsAhead; ++i) {
        offsets[steps + i] = i < steps ? offsets[i] + kTileBytes : 0;
    }
}

// A part of the reduction, of one group's outputs under one block.
template <class T>
struct StripPart {
    const StripJob<T>& job;
    const StripScratch<T>& scratch;
    StripOutput<ResultOf<T>> out;
    Index group, word, words;

    bool first() const { return word == 0; }
    bool last() const { return word + words == job.blocking.words; }
    Index steps() const { return words * job.blocking.taps_h * job.blocking.taps_w; }
};

// zw * sum x' of every output, where weights are stored less their zero point.
template <class T>
void sum_outputs(const StripPart<T>& part) {
    constexpr int kM = kMembers<T>;
    constexpr Index kL = kLanes<std::int32_t>;
    const StripBlocking& b = part.job.blocking;
    const StripScratch<T>& scratch = part.scratch;
    T members[kM];
    for (int m = 0; m < kM; ++m) members[m] = T(1);
    // members beyond the last channel hold anything
    const Index left = least(kM, b.channels - (part.word + part.words - 1) * kM);
    const std::int32_t all = join(members, kM, 0), last = join(members, left, 0);
    if (b.channel_lanes) {
        alignas(64) std::int32_t lanes[kL];
        for (Index pixel = 0; pixel < b.plane; ++pixel) {
            const std::int32_t* words = scratch.strip + pixel * b.pixel_pitch;
            const Index whole = (part.words - 1) / kL * kL;
            Words sum{};
            for (Index i = 0; i < whole; i += kL) sum = dot<kM>(sum, load(words + i), splat(all));
            for (Index i = whole; i < whole + kL; ++i) {
                lanes[i - whole] = i < part.words ? words[i] : 0;
            }
            Words ones = splat(all);
            ones[part.words - 1 - whole] = last;
            sum = dot<kM>(sum, load(lanes), ones);
            std::uint32_t total = 0;
            for (Index i = 0; i < kL; ++i) total += std::uint32_t(sum[i]);
            scratch.pixel_sums[pixel] = std::int32_t(total);
        }
    } else {
        for (Index pixel = 0; pixel < b.plane; pixel += kL) {
            const std::int32_t* words = scratch.strip + pixel;
            Words sum{};
            for (Index i = 0; i < part.words; ++i, words += b.plane) {
                sum = dot<kM>(sum, load(words), splat(i + 1 < part.words ? all : last));
            }
            store(scratch.pixel_sums + pixel, sum);
        }
    }
    for (Index lane = 0; lane < part.out.lanes; lane += kL) {
        Words sum{};
        for (Index r = 0; r < b.taps_h; ++r) {
            for (Index s = 0; s < b.taps_w; ++s) {
                sum = plus(sum, load(scratch.pixel_sums + lane + tap_distance(b, r, s)));
            }
        }
        store(scratch.sums + lane, times(sum, Narrow<T>::zero_w));
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
