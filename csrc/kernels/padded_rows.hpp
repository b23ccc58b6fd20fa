// Rows of x with their border, copied into scratch: the direct algorithms read every tap from there
// (or from x itself where no border is near), so that no tap is ever skipped.
#pragma once

#include "kernels/border.hpp"
#include "kernels/convert.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// A row of padded pixels: `count` of them, `step` apart, the first at `column` of the image.
struct PaddedRun {
    Index column, step, count;
    Index begin, end;  // elements of the run that lie inside the image
};

inline PaddedRun padded_run(Index column, Index step, Index count, Index width) {
    const Index begin = column >= 0 ? 0 : least(count, ceil_div(-column, step));
    const Index end = column >= width ? 0 : least(count, ceil_div(width - column, step));
    return {column, step, count, begin, most(begin, end)};
}

// Copies a run of the image row at `row`, or zeros where that is null (a row of the zero border).
template <class T, class S>
void copy_padded_run(T* to, const S* row, Index pixel_pitch, const PaddedRun& run,
                     const Problem& problem) {
    if (!row) return fill_zero(to, run.count);
    if (problem.pad_mode == PadMode::kConstant) {
        fill_zero(to, run.begin);
        fill_zero(to + run.end, run.count - run.end);
    } else {
        for (Index i = 0; i < run.count; ++i) {
            if (i == run.begin) i = run.end;
            if (i >= run.count) break;
            to[i] = T(row[source_index(run.column + i * run.step, problem.w, problem.pad_mode) *
                          pixel_pitch]);
        }
    }
    if (run.end > run.begin) {
        convert_strided(to + run.begin, row + (run.column + run.begin * run.step) * pixel_pitch,
                        run.step * pixel_pitch, run.end - run.begin);
    }
}

// One axis of a strided, dilated kernel as several unstrided ones: tap t reads phase t % period of
// the padded image, t / period * step elements on; phase f begins f * dilation into it, and its
// elements are `stride` apart.
struct Phases {
    Index period, step;
    Index used;  // phases that have taps

    Index reach(Index taps) const { return (taps - 1) / period * step; }
};

inline Phases make_phases(Index taps, Index stride, Index dilation) {
    Index a = stride, b = dilation;
    while (b != 0) {
        const Index rest = a % b;
        a = b;
        b = rest;
    }
    return {stride / a, dilation / a, least(stride / a, taps)};
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
