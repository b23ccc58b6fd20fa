// Finished sums of a gradient on their way into gw, or into the sums of a chunk.
#pragma once

#include "kernels/copy.hpp"
#include "kernels/kernels.hpp"
#include "kernels/transpose.hpp"
#include "kernels/vec.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// gw itself, or the sums of one of several chunks.
template <class T>
View<T> chunk_result(const Problem& problem, const View<T>& gw, T* partial, Index chunk) {
    if (!partial) return gw;
    const Index taps = problem.r * problem.s, kernel = problem.c / problem.groups * taps;
    return {partial + chunk * problem.k * kernel, {kernel, taps, problem.s, 1}};
}

// Whether all taps of all channels of an output channel are neighbours.
template <class T>
bool has_dense_kernels(const Problem& problem, const View<T>& gw) {
    const Index taps = problem.r * problem.s;
    return (problem.s == 1 || gw.stride[3] == 1) && (problem.r == 1 || gw.stride[2] == problem.s) &&
           (problem.c == problem.groups || gw.stride[1] == taps);
}

// Rows of vectors become lanes: element (i, j) of `from` goes to to[j * pitch + i].
template <class T>
void store_turned(T* to, Index pitch, const T* from, Index from_pitch, Index rows, Index lanes) {
    constexpr Index kL = kLanes<T>;
    for (Index row = 0; row < rows; row += kL) {
        const Index count = least(kL, rows - row);
        for (Index lane = 0; lane < lanes; lane += kL) {
            Vec<T> block[kL];
            for (Index i = 0; i < kL; ++i) {
                block[i] = i < count ? load(from + (row + i) * from_pitch + lane) : Vec<T>{};
            }
            transpose<T>(block);
            const Index last = least(kL, lanes - lane);
            T* line = to + lane * pitch + row;
            for (Index j = 0; j < last; ++j) store_first(line + j * pitch, block[j], count);
        }
    }
}

// The taps of `channels` channels of one output channel; those of one channel are `pitch` apart
// in `from`.
template <class T>
void store_taps(T* to, const View<T>& gw, const Problem& problem, const T* from, Index pitch,
                Index channels, bool dense) {
    constexpr Index kL = kLanes<T>;
    const Index taps = problem.r * problem.s;
    if (dense && taps == 1) {
        Index lane = 0;
        for (; lane + kL <= channels; lane += kL) store(to + lane, load(from + lane));
        if (lane < channels) store_first(to + lane, load(from + lane), channels - lane);
    } else if (dense) {
        store_turned(to, taps, from, pitch, taps, channels);
    } else {
        for (Index tap = 0; tap < taps; ++tap) {
            T* place = to + tap / problem.s * gw.stride[2] + tap % problem.s * gw.stride[3];
            for (Index c = 0; c < channels; ++c) place[c * gw.stride[1]] = from[tap * pitch + c];
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
