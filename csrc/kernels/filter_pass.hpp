// In which order an image filter takes the rows of its kernel, and their weights, packed in it.
#pragma once

#include "kernels/kernels.hpp"
#include "kernels/padded_rows.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

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

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
