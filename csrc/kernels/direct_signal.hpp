// One task of the kernels of one row: blocks of rows of y, a few channels of x after another.
#pragma once

#include "kernels/finish.hpp"
#include "kernels/padded_rows.hpp"
#include "kernels/signal_tile.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Kernel rows (see signal_tile.hpp) between two visits to y; the last one of all has `last` taps.
struct SignalStretch {
    Index row0, rows, last;
};

inline SignalStretch find_stretch(const Problem& problem, const SignalBlocking& b, Index index) {
    const Index row0 = index * b.kernel_rows / b.stretches;
    const Index end = (index + 1) * b.kernel_rows / b.stretches;
    const bool closes = end == b.kernel_rows;
    return {row0, end - row0, closes ? problem.s - (end - 1) * b.taps : b.taps};
}

// Weights of a stretch, the rows of a column side by side; none where its last row has no tap.
template <class T>
void pack_stretch(T* to, const View<const T>& w, Index output, Index channel,
                  const SignalBlocking& b, const SignalStretch& stretch) {
    const T* from =
        w.data + output * w.stride[0] + channel * w.stride[1] + stretch.row0 * b.taps * w.stride[3];
    for (Index s = 0; s < b.taps; ++s, from += w.stride[3]) {
        const Index rows = s < stretch.last ? stretch.rows : stretch.rows - 1;
        for (Index t = 0; t < rows; ++t) to[s * stretch.rows + t] = from[t * b.taps * w.stride[3]];
    }
}

// All weights of output channels [first, first + count).
template <class T>
void pack_signals(T* to, const Problem& problem, const SignalBlocking& b, const View<const T>& w,
                  Index first, Index count) {
    for (Index k = first; k < first + count; ++k) {
        for (Index c = 0; c < problem.c / problem.groups; ++c) {
            for (Index i = 0; i < b.stretches; ++i) {
                const SignalStretch stretch = find_stretch(problem, b, i);
                pack_stretch(to, w, k, c, b, stretch);
                to += stretch.rows * b.taps;
            }
        }
    }
}

template <class T>
void signal_pack(const Problem& problem, const SignalBlocking& b, const View<const T>& w,
                 T* packed) {
    pack_signals(packed, problem, b, w, Index(0), problem.k);
}

// A block of y: `count` pixels from q0 on of row p of one image and group.
struct SignalPlace {
    Index image, group, p, q0, count;
};

template <class T>
using FindWindow = const T* (*)(const SignalJob<T>& job, const SignalPlace& place, Index channel,
                                const SignalStretch& stretch, T* window);

// The pixels under a block and a stretch: in x, or copied with their border; x holds S.
template <class T, class S>
const T* find_window(const SignalJob<T>& job, const SignalPlace& place, Index channel,
                     const SignalStretch& stretch, T* window) {
    const Problem& problem = job.problem;
    const SignalBlocking& b = job.blocking;
    const View<const T>& x = job.arrays.x;
    const Phases wide = make_phases(problem.s, problem.stride_w, problem.dilation_w);
    const Index row =
        source_index(place.p * problem.stride_h - problem.pad_top, problem.h, problem.pad_mode);
    const Index pixel0 = place.image * x.stride[0] +
                         (place.group * (problem.c / problem.groups) + channel) * x.stride[1] +
                         row * x.stride[2];
    const S* from = row < 0 ? nullptr : reinterpret_cast<const S*>(x.data) + pixel0;
    const Index column =
        place.q0 * problem.stride_w - problem.pad_left + stretch.row0 * b.taps * problem.dilation_w;
    if constexpr (kElementOf<S> == kElementOf<T>) {
        const Index reach = ((stretch.rows - 1) * b.taps + stretch.last - 1) * problem.dilation_w;
        if (from && problem.stride_w == 1 && x.stride[3] == 1 && place.count == b.block &&
            column >= 0 && column + b.block + reach <= problem.w) {
            return from + column;
        }
    }
    for (Index phase = 0; phase < wide.used; ++phase) {
        const PaddedRun run =
            padded_run(column + phase * problem.dilation_w, problem.stride_w, b.window, problem.w);
        copy_padded_run(window + phase * b.window, from, x.stride[3], run, problem);
    }
    return window;
}

template <class T>
FindWindow<T> find_window_of(Element pixel) {
    switch (pixel) {
        case Element::kUint8:
            return find_window<T, std::uint8_t>;
        case Element::kInt8:
            return find_window<T, std::int8_t>;
        case Element::kUint16:
            return find_window<T, std::uint16_t>;
        case Element::kInt16:
            return find_window<T, std::int16_t>;
        case Element::kFloat32:
            return find_window<T, float>;
        default:
            return find_window<T, T>;
    }
}

template <class T>
struct SignalTask {
    const SignalJob<T>& job;
    const Problem& problem;
    const SignalBlocking& b;
    Index inputs, outputs;
    FindWindow<T> find;
    const T* whole;  // packed weights of the group, or null: one stretch at a time
    T* weights;      // room for them
    T* window;
    T* buffer;  // the block, of each output, where it is not computed in y
    Index offsets[kMaxSignalTaps];
    const T* rows[kMaxSignalRows + kFilterRows];

    SignalTask(const SignalJob<T>& all, T* scratch)
        : job(all),
          problem(all.problem),
          b(all.blocking),
          inputs(problem.c / problem.groups),
          outputs(problem.k / problem.groups),
          find(find_window_of<T>(all.arrays.pixel)),
          whole(nullptr),
          weights(scratch),
          window(scratch + (all.arrays.packed ? 0 : b.weights)) {
        const Phases wide = make_phases(problem.s, problem.stride_w, problem.dilation_w);
        buffer = window + wide.used * b.window;
        for (Index s = 0; s < b.taps; ++s) {
            offsets[s] = s % wide.period * b.window + s / wide.period * wide.step;
        }
    }

    void begin_group(Index group) {
        const Index elements = outputs * inputs * b.kernel_rows * b.taps;
        if (job.arrays.packed) {
            whole = static_cast<const T*>(job.arrays.packed) + group * elements;
        } else if (b.whole_weights) {
            pack_signals(weights, problem, b, job.arrays.w, group * outputs, outputs);
            whole = weights;
        }
    }

    const T* find_weights(Index group, Index output, Index channel, const SignalStretch& stretch) {
        if (whole) {
            return whole + ((output * inputs + channel) * b.kernel_rows + stretch.row0) * b.taps;
        }
        pack_stretch(weights, job.arrays.w, group * outputs + output, channel, b, stretch);
        return weights;
    }

    // Adds a stretch to a block at y: tiles of the problem's shape, or what covers a row's end.
    void add(const SignalStretch& stretch, const T* w, T* y, Index count, bool accumulate) const {
        FilterTaps<T> taps{rows, 0, offsets, w, stretch.rows, stretch.rows, b.taps};
        FilterTaps<T> head = taps, rest = taps;
        head.kernel_cols = stretch.last;
        rest.kernel_cols = b.taps - stretch.last;
        rest.offsets += stretch.last;
        rest.w += stretch.last * stretch.rows;
        const bool full = count == b.block;
        const Index end = full ? (b.tile_rows > 1 ? b.row_pitch : b.block) : count;
        for (Index q = 0; q < end;) {
            const Index shape = full                                           ? b.shape
                                : count - q > kSignalTiles[3].cols * kLanes<T> ? 2
                                                                               : 3;
            taps.column = head.column = rest.column = q;
            kSignalFunctions<T>[shape](taps, head, rest, y + q, b.row_pitch, accumulate);
            q += kSignalTiles[shape].cols * kLanes<T>;
        }
    }

    void compute(const SignalPlace& place) {
        const View<T>& out = job.arrays.y;
        const bool in_place = out.stride[3] == 1 && place.count == b.block;
        T* const y0 = out.data + place.image * out.stride[0] +
                      place.group * outputs * out.stride[1] + place.p * out.stride[2] +
                      place.q0 * out.stride[3];
        const auto target = [&](Index k) {
            return in_place ? y0 + k * out.stride[1] : buffer + k * b.extent;
        };
        for (Index c = 0; c < inputs; ++c) {
            for (Index i = 0; i < b.stretches; ++i) {
                const SignalStretch stretch = find_stretch(problem, b, i);
                const T* x = find(job, place, c, stretch, window);
                for (Index row = 0; row < stretch.rows + b.tile_rows - 1; ++row) {
                    rows[row] = x + row * b.row_pitch;
                }
                for (Index k = 0; k < outputs; ++k) {
                    add(stretch, find_weights(place.group, k, c, stretch), target(k), place.count,
                        c + i > 0);
                }
            }
        }
        for (Index k = 0; k < outputs; ++k) {
            const T* bias = job.arrays.bias;
            if (bias) bias += place.group * outputs + k;
            T* const sums = target(k);
            if (bias || problem.activation != Activation::kNone) {
                finish_row(sums, place.count, bias, 0, problem.activation);
            }
            if (in_place) continue;
            T* const to = y0 + k * out.stride[1];
            if (out.stride[3] == 1) {
                copy_run(to, sums, place.count);
            } else {
                for (Index q = 0; q < place.count; ++q) to[q * out.stride[3]] = sums[q];
            }
        }
    }
};

template <class T>
void signal_task(const SignalJob<T>& job, Index index, T* scratch) {
    const Problem& problem = job.problem;
    const SignalBlocking& b = job.blocking;
    SignalTask<T> task(job, scratch);
    Index group = -1;
    const Index end = (index + 1) * b.units / b.tasks;
    for (Index unit = index * b.units / b.tasks; unit < end; ++unit) {
        const Index block = unit % b.blocks, row = unit / b.blocks;
        const Index plane = row / problem.p;
        const Index q0 = block * b.block;
        const SignalPlace place{plane / problem.groups, plane % problem.groups, row % problem.p, q0,
                                least(b.block, problem.q - q0)};
        if (place.group != group) task.begin_group(group = place.group);
        task.compute(place);
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
