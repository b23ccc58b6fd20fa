// What a pass of an image filter reads: rows of x in place where no border is near, and copied with
// their border elsewhere; and the weights that go with them.
#pragma once

#include "kernels/filter_pass.hpp"
#include "kernels/filter_tile.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

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

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
