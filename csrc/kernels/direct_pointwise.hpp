// 1x1 kernels of few outputs: every pixel of x is read once, where it lies, and does so little work
// that reading is all there is to do well. In planes, lanes are pixels, and sums wait in scratch
// while a few channels at a time are read along a strip, each a long stream. Where channels are
// consecutive they are the lanes, and x is one stream.
#pragma once

#include "kernels/border.hpp"
#include "kernels/copy.hpp"
#include "kernels/finish.hpp"
#include "kernels/kernels.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Registers hold the weights of so many planes and outputs, or so many sums of pixels and outputs.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kPlaneWeights = 16, kPixelSums = 16;
#else
constexpr int kPlaneWeights = 8, kPixelSums = 8;
#endif
// Sums of a pixel: a power of two, so that pixels fill vectors.
constexpr int pixel_sums(int outputs) {
    return outputs == 3 ? 4 : outputs;
}
// Bytes of x that are fetched ahead where channels are lanes.
constexpr int kBytesAhead = 4096;

// A strip of one row of one image and group.
template <class T>
struct PixelRun {
    const Problem& problem;
    View<const T> x, w;  // strides alone matter: `x.data` is the strip's first pixel
    View<T> y;
    const T* bias;  // of this group, or null
    Index channels, pixels;
    const T* next;  // first pixel of the strip after this one
};

// `count` lanes that are `step` apart.
template <class T>
inline Vec<T> load_apart(const T* from, Index step, Index count) {
    if (step == 1) return load_first(from, count);
    Vec<T> v{};
    for (Index lane = 0; lane < count; ++lane) v[lane] = from[lane * step];
    return v;
}

// Adds CHANNELS planes, times their weights, to the sums of OUTPUTS rows `pitch` apart. The same
// pixels of `next`, the planes that follow, are fetched meanwhile: where planes are large, theirs
// are pages that no hardware prefetcher expects.
template <class T, int OUTPUTS, int CHANNELS>
void add_planes(T* sums, Index pitch, const T* x, const T* w, const PixelRun<T>& strip,
                const T* next) {
    constexpr int kL = kLanes<T>;
    const Index plane = strip.x.stride[1], step = strip.x.stride[3];
    Vec<T> weight[OUTPUTS][CHANNELS];
#pragma GCC unroll 4
    for (int k = 0; k < OUTPUTS; ++k)
#pragma GCC unroll 16
        for (int c = 0; c < CHANNELS; ++c)
            weight[k][c] = splat(w[k * strip.w.stride[0] + c * strip.w.stride[1]]);
    const auto add = [&](Index i, auto load_pixels) {
        Vec<T> sum[OUTPUTS];
#pragma GCC unroll 4
        for (int k = 0; k < OUTPUTS; ++k) sum[k] = load(sums + k * pitch + i);
#pragma GCC unroll 16
        for (int c = 0; c < CHANNELS; ++c) {
            const Vec<T> pixels = load_pixels(x + c * plane + i * step);
#pragma GCC unroll 4
            for (int k = 0; k < OUTPUTS; ++k) sum[k] += weight[k][c] * pixels;
        }
#pragma GCC unroll 4
        for (int k = 0; k < OUTPUTS; ++k) store(sums + k * pitch + i, sum[k]);
    };
    Index i = 0;
    if (step == 1) {
        for (; i + kL <= strip.pixels; i += kL) {
#pragma GCC unroll 16
            for (int c = 0; c < CHANNELS; ++c) __builtin_prefetch(next + c * plane + i);
            add(i, [](const T* from) { return load(from); });
        }
    }
    for (; i < strip.pixels; i += kL) {
        const Index count = least(kL, strip.pixels - i);
        add(i, [&](const T* from) { return load_apart(from, step, count); });
    }
}

// Channels [first, channels) of a strip, in the order of the sum.
template <class T, int OUTPUTS, int CHANNELS>
void add_channels(T* sums, Index pitch, const PixelRun<T>& strip, Index first) {
    const Index plane = strip.x.stride[1];
    for (; first + CHANNELS <= strip.channels; first += CHANNELS) {
        const T* const x = strip.x.data + first * plane;
        const bool last = first + CHANNELS == strip.channels;
        add_planes<T, OUTPUTS, CHANNELS>(sums, pitch, x, strip.w.data + first * strip.w.stride[1],
                                         strip, last ? strip.next : x + CHANNELS * plane);
    }
    if constexpr (CHANNELS > 1) add_channels<T, OUTPUTS, CHANNELS / 2>(sums, pitch, strip, first);
}

template <class T, int OUTPUTS>
void strip_of_planes(const PixelRun<T>& strip, T* scratch) {
    const Index pitch = ceil_div(strip.pixels, Index(kLanes<T>)) * kLanes<T>;
    fill_zero(scratch, OUTPUTS * pitch);
    constexpr int kFit = kPlaneWeights / OUTPUTS;
    add_channels<T, OUTPUTS, kFit >= 8 ? 8 : kFit >= 4 ? 4 : 2>(scratch, pitch, strip, 0);
    for (Index k = 0; k < OUTPUTS; ++k) {
        T* const row = scratch + k * pitch;
        if (strip.bias || strip.problem.activation != Activation::kNone) {
            finish_row(row, strip.pixels, strip.bias ? strip.bias + k : nullptr, 0,
                       strip.problem.activation);
        }
        T* const to = strip.y.data + k * strip.y.stride[1];
        if (strip.y.stride[3] == 1) {
            copy_run(to, row, strip.pixels);
        } else {
            for (Index i = 0; i < strip.pixels; ++i) to[i * strip.y.stride[3]] = row[i];
        }
    }
}

// Adds up the lanes of COUNT vectors, neighbours first: their sums, in order, fill the first
// vectors.
template <class T, int COUNT, int LANES = kLanes<T>>
inline void add_lanes(Vec<T>* sums) {
    if constexpr (LANES > 1) {
#pragma GCC unroll 16
        for (int i = 0; i < COUNT / 2; ++i) {
            sums[i] = even_lanes<T>(sums[2 * i], sums[2 * i + 1]) +
                      odd_lanes<T>(sums[2 * i], sums[2 * i + 1]);
        }
        add_lanes<T, COUNT / 2, LANES / 2>(sums);
    }
}

// The outputs of kPixelSums / pixel_sums(OUTPUTS) pixels from x on, of which `count` exist.
template <class T, int OUTPUTS, bool IN_PLACE>
inline void sum_pixels(Vec<T>* sums, const T* x, Index count, const PixelRun<T>& strip) {
    constexpr int kL = kLanes<T>, kSums = pixel_sums(OUTPUTS), kPixels = kPixelSums / kSums;
    const Index pixel = strip.x.stride[3], step = IN_PLACE ? 1 : strip.x.stride[1];
    const Index output = strip.w.stride[0], w_step = IN_PLACE ? 1 : strip.w.stride[1];
#pragma GCC unroll 16
    for (int i = 0; i < kPixelSums; ++i) sums[i] = Vec<T>{};
    const auto add = [&](Index c, auto load_lanes) {
        Vec<T> weight[OUTPUTS];
#pragma GCC unroll 4
        for (int k = 0; k < OUTPUTS; ++k)
            weight[k] = load_lanes(strip.w.data + k * output + c * w_step, w_step);
#pragma GCC unroll 16
        for (int i = 0; i < kPixels; ++i) {
            const Index at = IN_PLACE ? i : least(i, count - 1);
            const T* const from = x + at * pixel + c * step;
            if (IN_PLACE) __builtin_prefetch(from + kBytesAhead / int(sizeof(T)));
            const Vec<T> channels = load_lanes(from, step);
#pragma GCC unroll 4
            for (int k = 0; k < OUTPUTS; ++k) sums[i * kSums + k] += weight[k] * channels;
        }
    };
    Index c = 0;
    for (; c + kL <= strip.channels; c += kL) {
        add(c, [](const T* from, Index apart) {
            return IN_PLACE ? load(from) : load_apart(from, apart, Index(kL));
        });
    }
    if (c < strip.channels) {
        const Index rest = strip.channels - c;
        add(c, [&](const T* from, Index apart) { return load_apart(from, apart, rest); });
    }
    add_lanes<T, kPixelSums>(sums);
}

template <class T, int OUTPUTS>
void strip_of_pixels(const PixelRun<T>& strip, T*) {
    constexpr int kL = kLanes<T>, kSums = pixel_sums(OUTPUTS), kPixels = kPixelSums / kSums;
    const View<const T>& x = strip.x;
    const View<T>& y = strip.y;
    const bool in_place = x.stride[1] == 1 && strip.w.stride[1] == 1;
    const bool dense = kSums == OUTPUTS && y.stride[1] == 1 && y.stride[3] == OUTPUTS;
    alignas(64) T bias[kPixelSums] = {};
    for (int i = 0; strip.bias && i < kPixelSums; ++i) {
        if (i % kSums < OUTPUTS) bias[i] = strip.bias[i % kSums];
    }
    for (Index i = 0; i < strip.pixels; i += kPixels) {
        const Index count = least(kPixels, strip.pixels - i);
        const T* const from = x.data + i * x.stride[3];
        Vec<T> sums[kPixelSums];
        if (in_place && count == kPixels) {
            sum_pixels<T, OUTPUTS, true>(sums, from, count, strip);
        } else {
            sum_pixels<T, OUTPUTS, false>(sums, from, count, strip);
        }
        alignas(64) T finished[kPixelSums];
        for (int v = 0; v < kPixelSums / kL; ++v) store(finished + v * kL, sums[v]);
        if (strip.bias || strip.problem.activation != Activation::kNone) {
            finish_row(finished, Index(kPixelSums), bias, 1, strip.problem.activation);
        }
        T* const to = y.data + i * y.stride[3];
        if (dense) {
            copy_run(to, finished, count * OUTPUTS);
            continue;
        }
        for (Index p = 0; p < count; ++p) {
            for (Index k = 0; k < OUTPUTS; ++k) {
                to[p * y.stride[3] + k * y.stride[1]] = finished[p * kSums + k];
            }
        }
    }
}

template <class T>
void pointwise_task(const PointwiseJob<T>& job, Index task, T* scratch) {
    using Function = void (*)(const PixelRun<T>&, T*);
    static constexpr Function planes[] = {strip_of_planes<T, 1>, strip_of_planes<T, 2>,
                                          strip_of_planes<T, 3>, strip_of_planes<T, 4>};
    static constexpr Function pixels[] = {strip_of_pixels<T, 1>, strip_of_pixels<T, 2>,
                                          strip_of_pixels<T, 3>, strip_of_pixels<T, 4>};
    const Problem& problem = job.problem;
    const PointwiseCut& cut = job.cut;
    const Operands<T>& arrays = job.arrays;
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    const Function function = (problem.channels_last ? pixels : planes)[outputs - 1];
    const Index vectors = ceil_div(problem.q, Index(kLanes<T>));
    const auto column = [&](Index index) {
        return least(problem.q, index * vectors / cut.strips * kLanes<T>);
    };
    const Index last = least(cut.units, (task + 1) * cut.task_units);
    for (Index unit = task * cut.task_units; unit < last; ++unit) {
        const Index index = unit % cut.strips;
        Index rest = unit / cut.strips;
        const Index row = rest % problem.p;
        rest /= problem.p;
        const Index group = rest % problem.groups, image = rest / problem.groups;
        const Index q = column(index), end = column(index + 1);
        PixelRun<T> strip{problem,
                          arrays.x,
                          arrays.w,
                          arrays.y,
                          arrays.bias ? arrays.bias + group * outputs : nullptr,
                          channels,
                          end - q,
                          nullptr};
        strip.x.data += image * strip.x.stride[0] + group * channels * strip.x.stride[1] +
                        row * strip.x.stride[2] + q * strip.x.stride[3];
        strip.w.data += group * outputs * strip.w.stride[0];
        strip.y.data += image * strip.y.stride[0] + group * outputs * strip.y.stride[1] +
                        row * strip.y.stride[2] + q * strip.y.stride[3];
        strip.next = strip.x.data + strip.pixels * strip.x.stride[3];
        function(strip, scratch);
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
