// One task of an image filter: bands of rows of one image and group. Rows of x are read in place
// where no border is near, and through copies with their border elsewhere.
#pragma once

#include "kernels/filter_tile.hpp"
#include "kernels/finish.hpp"
#include "kernels/kernels.hpp"
#include "kernels/padded_rows.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr Index kFilterOutputs = 4;  // most channels of y computed from one copy of the rows

// Kernel rows of one phase (see Phases), of one input channel of the group: one visit to y.
struct FilterPass {
    Index channel, phase;
    Index row0, rows;  // within the phase
    Index phase_row0;  // rows of earlier phases, which come first in the packed weights
    Index phase_rows;
};

// First pass, or the one after `pass`; false after the last.
inline bool next_pass(FilterPass& pass, const Problem& problem, Index row_block) {
    const Phases phases = make_phases(problem.r, problem.stride_h, problem.dilation_h);
    pass.row0 += pass.rows;
    if (pass.row0 == pass.phase_rows) {
        pass.row0 = 0;
        pass.phase_row0 += pass.phase_rows;
        if (++pass.phase == phases.used) {
            pass.phase = 0;
            pass.phase_row0 = 0;
            if (++pass.channel == problem.c / problem.groups) return false;
        }
        pass.phase_rows = ceil_div(problem.r - pass.phase, phases.period);
    }
    pass.rows = least(row_block, pass.phase_rows - pass.row0);
    return true;
}

inline FilterPass before_first_pass(const Problem& problem) {
    const Phases phases = make_phases(problem.r, problem.stride_h, problem.dilation_h);
    return {-1, phases.used - 1, 0, 0, 0, 0};
}

// Weights of rows [row0, row0 + rows) of a phase, the rows of a column side by side.
template <class T>
void pack_filter_rows(T* to, Index pitch, const View<const T>& w, Index output, Index channel,
                      Index phase, Index row0, Index rows, const Problem& problem) {
    const Phases phases = make_phases(problem.r, problem.stride_h, problem.dilation_h);
    const T* from = w.data + output * w.stride[0] + channel * w.stride[1] +
                    (phase + row0 * phases.period) * w.stride[2];
    const Index row_pitch = phases.period * w.stride[2];
    for (Index s = 0; s < problem.s; ++s, to += pitch, from += w.stride[3]) {
        for (Index r = 0; r < rows; ++r) to[r] = from[r * row_pitch];
    }
}

// All weights of `outputs` channels of y, the first at w.
template <class T>
void pack_filter(T* to, const View<const T>& w, Index outputs, const Problem& problem) {
    for (Index output = 0; output < outputs; ++output) {
        FilterPass pass = before_first_pass(problem);
        while (next_pass(pass, problem, problem.r)) {
            pack_filter_rows(to, pass.rows, w, output, pass.channel, pass.phase, Index(0),
                             pass.rows, problem);
            to += pass.rows * problem.s;
        }
    }
}

template <class T>
void filter_pack(const Problem& problem, const View<const T>& w, T* packed) {
    pack_filter(packed, w, problem.k, problem);
}

template <class T>
struct Filter;
struct FilterTile;

// Points `rows` at the rows of x that a pass reads, one function for each Element of x.
template <class T>
using FindRows = void (*)(const T** rows, const Filter<T>& filter, const FilterTile& tile,
                          const FilterPass& pass);

// One image and group, and what does not change from tile to tile.
template <class T>
struct Filter {
    const Problem& problem;
    const FilterBlocking& blocking;
    View<const T> x, w;
    View<T> y;
    Index pixel0;  // of the group in x
    FindRows<T> find_rows;
    const T* bias;   // of this group, or null
    const T* whole;  // packed weights of this group, or null
    Index channels, outputs;
    Phases tall, wide;     // of kernel rows and columns
    Index window;          // elements of one phase of a copied row
    const Index* offsets;  // of the kernel's columns in a row
    T* weights;            // room for those of one pass, where `whole` is null
    T* zeros;              // a row of the zero border
    T* copies;             // rows with their border

    Index kernel_elements() const { return channels * problem.r * problem.s; }
};

// A tile of y: rows p0 + j * step of `rows`, columns [q0, q0 + cols).
struct FilterTile {
    Index p0, rows, step;
    Index q0, cols, vectors;
};

// See FindRows; x holds S.
template <class T, class S>
void find_rows(const T** rows, const Filter<T>& filter, const FilterTile& tile,
               const FilterPass& pass) {
    const Problem& problem = filter.problem;
    const View<const T>& x = filter.x;
    const S* plane =
        reinterpret_cast<const S*>(x.data) + filter.pixel0 + pass.channel * x.stride[1];
    const Index count = tile.vectors * kLanes<T> + filter.wide.reach(problem.s);
    const Index column = tile.q0 * problem.stride_w - problem.pad_left;
    const bool in_place = kElementOf<S> == kElementOf<T> && problem.stride_w == 1 &&
                          x.stride[3] == 1 && column >= 0 && column + count <= problem.w;
    const Index first = (tile.p0 + pass.row0 * tile.step) * problem.stride_h +
                        pass.phase * problem.dilation_h - problem.pad_top;
    T* copy = filter.copies;
    for (Index i = 0; i < tile.rows + pass.rows - 1; ++i) {
        const Index row =
            source_index(first + i * tile.step * problem.stride_h, problem.h, problem.pad_mode);
        const S* from = row < 0 ? nullptr : plane + row * x.stride[2];
        if (row < 0) {
            rows[i] = filter.zeros;
        } else if (in_place) {
            rows[i] = reinterpret_cast<const T*>(from + column);
        } else {
            rows[i] = copy;
            for (Index phase = 0; phase < filter.wide.used; ++phase, copy += filter.window) {
                const PaddedRun run = padded_run(column + phase * problem.dilation_w,
                                                 problem.stride_w, count, problem.w);
                copy_padded_run(copy, from, x.stride[3], run, problem);
            }
        }
    }
}

// Weights of one pass and output channel, packed now where they are not yet.
template <class T>
FilterTaps<T> find_taps(const T* const* rows, const Filter<T>& filter, Index output,
                        const FilterPass& pass) {
    const Problem& problem = filter.problem;
    FilterTaps<T> taps{rows, filter.offsets, filter.weights, pass.rows, pass.rows, problem.s};
    if (filter.whole) {
        taps.w = filter.whole + output * filter.kernel_elements() +
                 (pass.channel * problem.r + pass.phase_row0) * problem.s + pass.row0;
        taps.w_pitch = pass.phase_rows;
    } else {
        pack_filter_rows(filter.weights, pass.rows, filter.w, output, pass.channel, pass.phase,
                         pass.row0, pass.rows, problem);
    }
    return taps;
}

template <class T>
void compute_tile(const Filter<T>& filter, const FilterTile& tile, Index output0, Index outputs) {
    static constexpr FilterTable<T> functions;
    constexpr Index kL = kLanes<T>, kPitch = kFilterVectors * kL;
    const Problem& problem = filter.problem;
    const View<T>& y = filter.y;
    alignas(64) T buffer[kFilterOutputs][kFilterRows * kPitch];
    const bool direct = y.stride[3] == 1 && tile.cols == tile.vectors * kL;
    const Index pitch = direct ? tile.step * y.stride[2] : kPitch;
    const auto target = [&](Index output) {
        return direct ? y.data + output * y.stride[1] + tile.p0 * y.stride[2] + tile.q0
                      : buffer[output - output0];
    };
    const T* rows[kMaxFilterRowBlock + kFilterRows - 1];
    FilterPass pass = before_first_pass(problem);
    for (bool first = true; next_pass(pass, problem, filter.blocking.row_block); first = false) {
        filter.find_rows(rows, filter, tile, pass);
        const bool small = pass.rows == kSmallKernel;
        const auto& table = small ? functions.small : functions.any;
        const FilterFunction<T> function = table[tile.vectors - 1][tile.rows - 1];
        for (Index k = output0; k < output0 + outputs; ++k) {
            function(find_taps(rows, filter, k, pass), target(k), pitch, !first);
        }
    }
    const bool finish = filter.bias || problem.activation != Activation::kNone;
    for (Index k = output0; k < output0 + outputs; ++k) {
        T* from = target(k);
        for (Index i = 0; i < tile.rows; ++i, from += pitch) {
            if (finish) {
                finish_row(from, tile.cols, filter.bias ? filter.bias + k : nullptr, 0,
                           problem.activation);
            }
            if (direct) continue;
            T* to = y.data + k * y.stride[1] + (tile.p0 + i * tile.step) * y.stride[2] +
                    tile.q0 * y.stride[3];
            if (y.stride[3] == 1) {
                copy_run(to, from, tile.cols);
            } else {
                for (Index q = 0; q < tile.cols; ++q) to[q * y.stride[3]] = from[q];
            }
        }
    }
}

// Rows of y that one band of a phase has: phase + j * phases for j in [first, first + rows).
struct Band {
    Index phase, first, rows;
};

inline Band find_band(const FilterBlocking& blocking, Index p, Index index) {
    const Index phase = index / blocking.bands, band = index % blocking.bands;
    const Index count = ceil_div(p - phase, blocking.phases);
    const Index first = band * count / blocking.bands;
    return {phase, first, (band + 1) * count / blocking.bands - first};
}

template <class T>
void filter_band(const Filter<T>& filter, Index index) {
    const Problem& problem = filter.problem;
    const FilterBlocking& blocking = filter.blocking;
    const Band band = find_band(blocking, problem.p, index);
    if (band.rows == 0) return;
    const Index vectors = ceil_div(problem.q, Index(kLanes<T>));
    const Index tiles = ceil_div(vectors, blocking.tile_vectors);
    FilterTile tile{};
    tile.p0 = band.phase + band.first * blocking.phases;
    tile.rows = band.rows;
    tile.step = filter.tall.step;
    for (Index i = 0; i < tiles; ++i) {
        const Index begin = i * vectors / tiles, end = (i + 1) * vectors / tiles;
        tile.vectors = end - begin;
        tile.q0 = begin * kLanes<T>;
        tile.cols = least(end * kLanes<T>, problem.q) - tile.q0;
        for (Index k = 0; k < filter.outputs; k += kFilterOutputs) {
            compute_tile(filter, tile, k, least(kFilterOutputs, filter.outputs - k));
        }
    }
}

template <class T>
FindRows<T> find_rows_of(Element pixel) {
    switch (pixel) {
        case Element::kUint8:
            return find_rows<T, std::uint8_t>;
        case Element::kInt8:
            return find_rows<T, std::int8_t>;
        case Element::kUint16:
            return find_rows<T, std::uint16_t>;
        case Element::kInt16:
            return find_rows<T, std::int16_t>;
        case Element::kFloat32:
            return find_rows<T, float>;
        default:
            return find_rows<T, T>;
    }
}

template <class T>
void filter_task(const FilterJob<T>& job, Index index, T* scratch) {
    const Problem& problem = job.problem;
    const FilterBlocking& blocking = job.blocking;
    const Operands<T>& arrays = job.arrays;
    const Index block = index % blocking.group_tasks;
    index /= blocking.group_tasks;
    const Index group = index % problem.groups, image = index / problem.groups;
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;

    Index offsets[kMaxFilterCols];
    const Phases tall = make_phases(problem.r, problem.stride_h, problem.dilation_h);
    const Phases wide = make_phases(problem.s, problem.stride_w, problem.dilation_w);
    const Index window = blocking.tile_vectors * kLanes<T> + wide.reach(problem.s);
    for (Index s = 0; s < problem.s; ++s) {
        offsets[s] = s % wide.period * window + s / wide.period * wide.step;
    }
    const Index pixel0 = image * arrays.x.stride[0] + group * channels * arrays.x.stride[1];
    Filter<T> filter{problem,  blocking,
                     arrays.x, arrays.w,
                     arrays.y, pixel0,
                     find_rows_of<T>(arrays.pixel),
                     arrays.bias ? arrays.bias + group * outputs : nullptr,
                     nullptr,  channels,
                     outputs,  tall,
                     wide,     window,
                     offsets,  scratch,
                     nullptr,  nullptr};
    filter.w.data += group * outputs * filter.w.stride[0];
    filter.y.data += image * filter.y.stride[0] + group * outputs * filter.y.stride[1];
    const Index group_elements = outputs * filter.kernel_elements();
    if (arrays.packed) {
        filter.whole = static_cast<const T*>(arrays.packed) + group * group_elements;
        filter.zeros = scratch;
    } else if (blocking.whole_weights) {
        pack_filter(scratch, filter.w, outputs, problem);
        filter.whole = scratch;
        filter.zeros = scratch + group_elements;
    } else {
        filter.zeros = scratch + blocking.row_block * problem.s;
    }
    filter.copies = filter.zeros + wide.used * window;
    fill_zero(filter.zeros, wide.used * window);
    const Index bands = blocking.phases * blocking.bands;
    const Index end = least(bands, (block + 1) * blocking.task_bands);
    for (Index band = block * blocking.task_bands; band < end; ++band) filter_band(filter, band);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
