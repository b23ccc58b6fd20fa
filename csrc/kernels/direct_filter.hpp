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
struct FilterRun;

// Points `rows` at the rows of x that a pass reads, one function for each Element of x.
template <class T>
using FindRows = void (*)(const T** rows, const Filter<T>& filter, const FilterRun& run,
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
    bool converts;         // x holds another type: all rows are copied
    bool one_pass;         // y is visited once

    Index kernel_elements() const { return channels * problem.r * problem.s; }
};

// Neighbouring tiles of y: rows p0 + j * step of `rows`, columns from q0 on. The rows of x under
// them are found, or copied, together.
struct FilterRun {
    Index p0, rows, step;
    Index q0, vectors;
    Index tiles, first, end;  // of all tiles of the band, those in [first, end)
};

// Whether `vectors` of pixels from q0 on have all their taps inside of the image's rows.
template <class T>
bool is_in_place(const Filter<T>& filter, Index q0, Index vectors) {
    const Problem& problem = filter.problem;
    const Index column = q0 - problem.pad_left;
    return !filter.converts && problem.stride_w == 1 && filter.x.stride[3] == 1 && column >= 0 &&
           column + vectors * kLanes<T> + filter.wide.reach(problem.s) <= problem.w;
}

// See FindRows; x holds S.
template <class T, class S>
void find_rows(const T** rows, const Filter<T>& filter, const FilterRun& run,
               const FilterPass& pass) {
    const Problem& problem = filter.problem;
    const View<const T>& x = filter.x;
    const S* plane =
        reinterpret_cast<const S*>(x.data) + filter.pixel0 + pass.channel * x.stride[1];
    const Index count = run.vectors * kLanes<T> + filter.wide.reach(problem.s);
    const Index column = run.q0 * problem.stride_w - problem.pad_left;
    const bool in_place = is_in_place(filter, run.q0, run.vectors);
    const Index first = (run.p0 + pass.row0 * run.step) * problem.stride_h +
                        pass.phase * problem.dilation_h - problem.pad_top;
    PaddedRun phases[kMaxFilterCols];
    for (Index phase = 0; phase < filter.wide.used; ++phase) {
        phases[phase] =
            padded_run(column + phase * problem.dilation_w, problem.stride_w, count, problem.w);
    }
    T* copy = filter.copies;
    for (Index i = 0; i < run.rows + pass.rows - 1; ++i) {
        const Index row =
            source_index(first + i * run.step * problem.stride_h, problem.h, problem.pad_mode);
        const S* from = row < 0 ? nullptr : plane + row * x.stride[2];
        if (row < 0) {
            rows[i] = filter.zeros;
        } else if (in_place) {
            rows[i] = reinterpret_cast<const T*>(from + column);
        } else {
            rows[i] = copy;
            for (Index phase = 0; phase < filter.wide.used; ++phase, copy += filter.window) {
                copy_padded_run(copy, from, x.stride[3], phases[phase], problem);
            }
        }
    }
}

// Weights of one pass and output channel, packed now where they are not yet.
template <class T>
FilterTaps<T> find_taps(const T* const* rows, Index column, const Filter<T>& filter, Index output,
                        const FilterPass& pass) {
    const Problem& problem = filter.problem;
    FilterTaps<T> taps{rows,      column,    filter.offsets, filter.weights,
                       pass.rows, pass.rows, problem.s};
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

// A tile of y, rows p0 + j * step of `rows`, columns [q0, q0 + cols), of several channels.
template <class T>
struct FilterTile {
    static constexpr Index kPitch = kFilterVectors * kLanes<T>;
    Index p0, rows, step;
    Index q0, cols, vectors;
    bool in_place;  // otherwise in `buffer`
    alignas(64) T buffer[kFilterOutputs][kFilterRows * kPitch];
};

template <class T>
void place_tile(FilterTile<T>& tile, const Filter<T>& filter, const FilterRun& run, Index index) {
    constexpr Index kL = kLanes<T>;
    const Index vectors = ceil_div(filter.problem.q, kL);
    const Index begin = index * vectors / run.tiles, end = (index + 1) * vectors / run.tiles;
    tile.p0 = run.p0;
    tile.rows = run.rows;
    tile.step = run.step;
    tile.q0 = begin * kL;
    tile.cols = least(end * kL, filter.problem.q) - tile.q0;
    tile.vectors = end - begin;
    tile.in_place = filter.y.stride[3] == 1 && tile.cols == tile.vectors * kL;
}

// Bias, activation and the way out of the buffer, for the `index`-th of the tile's channels.
template <class T>
void finish_tile(FilterTile<T>& tile, const Filter<T>& filter, Index output, Index index) {
    const Problem& problem = filter.problem;
    const View<T>& y = filter.y;
    const bool finish = filter.bias || problem.activation != Activation::kNone;
    if (tile.in_place && !finish) return;
    for (Index i = 0; i < tile.rows; ++i) {
        T* to = y.data + output * y.stride[1] + (tile.p0 + i * tile.step) * y.stride[2] +
                tile.q0 * y.stride[3];
        T* from = tile.in_place ? to : tile.buffer[index] + i * tile.kPitch;
        if (finish) {
            finish_row(from, tile.cols, filter.bias ? filter.bias + output : nullptr, 0,
                       problem.activation);
        }
        if (tile.in_place) continue;
        if (y.stride[3] == 1) {
            copy_run(to, from, tile.cols);
        } else {
            for (Index q = 0; q < tile.cols; ++q) to[q * y.stride[3]] = from[q];
        }
    }
}

// Several tiles in one pass, or one in several.
template <class T>
void compute_run(const Filter<T>& filter, const FilterRun& run, Index output0, Index outputs) {
    static constexpr FilterTable<T> functions;
    const Problem& problem = filter.problem;
    const View<T>& y = filter.y;
    const T* rows[kMaxFilterRowBlock + kFilterRows - 1];
    FilterTile<T> tile;
    FilterPass pass = before_first_pass(problem);
    for (bool first = true; next_pass(pass, problem, filter.blocking.row_block); first = false) {
        filter.find_rows(rows, filter, run, pass);
        const auto& table = pass.rows == kSmallKernel ? functions.small : functions.any;
        for (Index index = run.first; index < run.end; ++index) {
            place_tile(tile, filter, run, index);
            const FilterFunction<T> function = table[tile.vectors - 1][tile.rows - 1];
            const Index pitch = tile.in_place ? tile.step * y.stride[2] : tile.kPitch;
            for (Index k = output0; k < output0 + outputs; ++k) {
                T* to = tile.in_place ? y.data + k * y.stride[1] + tile.p0 * y.stride[2] + tile.q0
                                      : tile.buffer[k - output0];
                function(find_taps(rows, tile.q0 - run.q0, filter, k, pass), to, pitch, !first);
                if (filter.one_pass) finish_tile(tile, filter, k, k - output0);
            }
        }
    }
    if (filter.one_pass) return;
    for (Index k = output0; k < output0 + outputs; ++k) finish_tile(tile, filter, k, k - output0);
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
    FilterRun run{};
    run.p0 = band.phase + band.first * blocking.phases;
    run.rows = band.rows;
    run.step = filter.tall.step;
    run.tiles = ceil_div(vectors, blocking.tile_vectors);
    const auto vectors_before = [&](Index tile) { return tile * vectors / run.tiles; };
    for (run.first = 0; run.first < run.tiles; run.first = run.end) {
        const Index begin = vectors_before(run.first);
        run.q0 = begin * kLanes<T>;
        run.end = run.first + 1;
        run.vectors = vectors_before(run.end) - begin;
        const bool in_place = is_in_place(filter, run.q0, run.vectors);
        while (filter.one_pass && run.end < run.tiles) {
            const Index more = vectors_before(run.end + 1) - begin;
            // rows outside of the image are read from a row of zeros as long as the longest copy
            if (more > blocking.run_vectors) break;
            if (in_place && !is_in_place(filter, run.q0, more)) break;
            ++run.end;
            run.vectors = more;
        }
        for (Index k = 0; k < filter.outputs; k += kFilterOutputs) {
            compute_run(filter, run, k, least(kFilterOutputs, filter.outputs - k));
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
    const Index window = blocking.run_vectors * kLanes<T> + wide.reach(problem.s);
    for (Index s = 0; s < problem.s; ++s) {
        offsets[s] = s % wide.period * window + s / wide.period * wide.step;
    }
    const Index pixel0 = image * arrays.x.stride[0] + group * channels * arrays.x.stride[1];
    Filter<T> filter{problem,
                     blocking,
                     arrays.x,
                     arrays.w,
                     arrays.y,
                     pixel0,
                     find_rows_of<T>(arrays.pixel),
                     arrays.bias ? arrays.bias + group * outputs : nullptr,
                     nullptr,
                     channels,
                     outputs,
                     tall,
                     wide,
                     window,
                     offsets,
                     scratch,
                     nullptr,
                     nullptr,
                     arrays.pixel != kElementOf<T>,
                     false};
    FilterPass pass = before_first_pass(problem);
    next_pass(pass, problem, blocking.row_block);
    filter.one_pass = !next_pass(pass, problem, blocking.row_block);
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
