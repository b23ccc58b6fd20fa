#include "conv/input_grad_parts.hpp"

#include <algorithm>
#include <numeric>

#include "conv/phases.hpp"
#include "conv/sizes.hpp"

namespace fastconv {
namespace {

// One axis of the problem.
struct Axis {
    Index size, outputs, taps, stride, pad, dilation;
};

// x with a * x = 1 (modulo m).
Index inverse(Index a, Index m) {
    Index x = 0, next_x = 1, rest = m, next_rest = a % m;
    while (next_rest != 0) {
        const Index quotient = rest / next_rest;
        x -= quotient * next_x;
        rest -= quotient * next_rest;
        std::swap(x, next_x);
        std::swap(rest, next_rest);
    }
    return (x % m + m) % m;
}

Index modulo(Index a, Index m) {
    return (a % m + m) % m;
}

// The phase that begins with row `first`; it has no taps where it meets none inside of gy.
AxisPhase axis_phase(const Axis& axis, Index first) {
    const Index common = std::gcd(axis.stride, axis.dilation);
    const Index step = axis.stride / common, spread = axis.dilation / common;
    AxisPhase phase{first, ceil_div(axis.size - first, axis.stride), 0, 0, -step, 0, 0, 0, spread};
    if (modulo(first + axis.pad, common) != 0) return phase;
    const Index turns = (first + axis.pad) / common;
    const Index tap = step > 1 ? modulo(turns, step) * inverse(spread % step, step) % step : 0;
    if (tap >= axis.taps) return phase;
    const Index taps = ceil_div(axis.taps - tap, step);
    // the first row meets pixel `start` with its first tap; the taps behind it reach back
    const Index start = (first + axis.pad - tap * axis.dilation) / axis.stride;
    const Index before = (taps - 1) * spread - start;
    const Index after = phase.count - 1 + start - (axis.outputs - 1);
    const Index begin = std::max<Index>(-before, 0);
    const Index end = axis.outputs - std::max<Index>(-after, 0);
    if (begin >= end) return phase;
    phase.tap = tap + (taps - 1) * step;
    phase.taps = taps;
    phase.pixel = begin;
    phase.pixels = end - begin;
    phase.pad = std::max<Index>(before, 0);
    return phase;
}

// Phases that meet taps: at most as many as there are taps, whatever the stride.
std::vector<AxisPhase> axis_phases(const Axis& axis) {
    const Index step = axis.stride / std::gcd(axis.stride, axis.dilation);
    std::vector<AxisPhase> found;
    for (Index tap = 0; tap < std::min(step, axis.taps); ++tap) {
        const Index first = modulo(tap * axis.dilation - axis.pad, axis.stride);
        if (first >= axis.size) continue;
        const AxisPhase phase = axis_phase(axis, first);
        if (phase.taps > 0) found.push_back(phase);
    }
    std::sort(found.begin(), found.end(),
              [](const AxisPhase& a, const AxisPhase& b) { return a.first < b.first; });
    return found;
}

Axis row_axis(const Problem& d) {
    return {d.h, d.p, d.r, d.stride_h, d.pad_top, d.dilation_h};
}
Axis column_axis(const Problem& d) {
    return {d.w, d.q, d.s, d.stride_w, d.pad_left, d.dilation_w};
}

Index met(const std::vector<AxisPhase>& phases) {
    Index rows = 0;
    for (const AxisPhase& phase : phases) rows += phase.count;
    return rows;
}

// Which rows, or columns, no phase reaches.
std::vector<bool> unmet(const Axis& axis) {
    std::vector<bool> empty(std::size_t(axis.size), true);
    for (const AxisPhase& phase : axis_phases(axis)) {
        for (Index row = phase.first; row < axis.size; row += axis.stride) {
            empty[std::size_t(row)] = false;
        }
    }
    return empty;
}

}  // namespace

bool kernels_lie_together(const Problem& d) {
    return !d.channels_last && d.groups == 1 && d.o * d.t == 1 && d.k > 0 && d.s == 2 &&
           d.r == d.stride_h && d.s == d.stride_w && d.dilation_h == 1 && d.dilation_w == 1 &&
           d.pad_top == 0 && d.pad_left == 0 && d.h == d.p * d.r && d.w == d.q * d.s;
}

GradientParts::GradientParts(const Problem& problem, bool all_taps) {
    if (all_taps) {
        Problem part = problem;
        part.c = problem.k, part.k = problem.c * problem.r * problem.s;
        part.h = problem.p, part.w = problem.q;
        part.r = part.s = part.stride_h = part.stride_w = 1;
        parts.push_back({part, {}, {}, true});
        any_empty = false;
        return;
    }
    const auto rows = axis_phases(row_axis(problem)), cols = axis_phases(column_axis(problem));
    any_empty = met(rows) < problem.h || met(cols) < problem.w || problem.k == 0;
    if (problem.k == 0) return;
    for (const AxisPhase& row : rows) {
        for (const AxisPhase& col : cols) {
            Problem part = problem;
            part.c = problem.k, part.k = problem.c;
            part.h = row.pixels, part.w = col.pixels;
            part.r = row.taps, part.s = col.taps;
            part.p = row.count, part.q = col.count;
            part.stride_h = part.stride_w = 1;
            part.dilation_h = row.dilation, part.dilation_w = col.dilation;
            part.pad_top = row.pad, part.pad_left = col.pad;
            parts.push_back({part, row, col, false});
        }
    }
}

EmptyPixels::EmptyPixels(const Problem& problem) : rows(unmet(row_axis(problem))) {
    const std::vector<bool> empty_cols = unmet(column_axis(problem));
    for (Index col = 0; col < problem.w; ++col) {
        if (empty_cols[std::size_t(col)]) cols.push_back(col);
    }
    if (Index(cols.size()) == problem.w || problem.k == 0) rows.assign(rows.size(), true);
}

template <class T>
Operands<T> part_operands(const GradientPart& part, const Problem& problem,
                          const InputGradOperands<T>& arrays, const View<const T>& turned) {
    const AxisPhase &rows = part.rows, &cols = part.cols;
    View<const T> gy = arrays.gy, w = turned;
    View<T> gx = arrays.gx;
    if (part.all_taps) {
        w.stride[0] = 1;
        gx.stride[2] *= problem.stride_h;
        gx.stride[3] *= problem.stride_w;
        return {gy, w, nullptr, arrays.bias, gx};
    }
    gy.data += rows.pixel * gy.stride[2] + cols.pixel * gy.stride[3];
    w.data += rows.tap * w.stride[2] + cols.tap * w.stride[3];
    w.stride[2] *= rows.step;
    w.stride[3] *= cols.step;
    gx.data += rows.first * gx.stride[2] + cols.first * gx.stride[3];
    gx.stride[2] *= problem.stride_h;
    gx.stride[3] *= problem.stride_w;
    return {gy, w, nullptr, arrays.bias, gx};
}

template <class T>
OutputTaps part_taps(const GradientPart& part, const Problem& problem, const View<T>& gx) {
    if (!part.all_taps) return {};
    return {problem.r, problem.s, gx.stride[2], gx.stride[3]};
}

Index turned_elements(const Problem& problem) {
    const Index channels = problem.c / problem.groups;
    return problem.groups > 1 && channels > 1 ? problem.k * channels * problem.r * problem.s : 0;
}

template <class T>
View<const T> copied_weights(const Problem& problem, const T* copy) {
    const Index taps = problem.r * problem.s;
    return {copy, {problem.k / problem.groups * taps, taps, problem.s, 1}};
}

template <class T>
View<const T> turned_weights(const Problem& problem, const View<const T>& w, T* copy) {
    const Index* stride = w.stride;
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    if (problem.groups == 1) return {w.data, {stride[1], stride[0], stride[2], stride[3]}};
    if (channels == 1) return {w.data, {outputs * stride[0], stride[0], stride[2], stride[3]}};
    T* to = copy;
    for (Index group = 0; group < problem.groups; ++group) {
        for (Index c = 0; c < channels; ++c) {
            for (Index k = 0; k < outputs; ++k) {
                const T* kernel = w.data + (group * outputs + k) * stride[0] + c * stride[1];
                for (Index r = 0; r < problem.r; ++r) {
                    for (Index s = 0; s < problem.s; ++s) {
                        *to++ = kernel[r * stride[2] + s * stride[3]];
                    }
                }
            }
        }
    }
    return copied_weights<T>(problem, copy);
}

#define FASTCONV_PARTS_OF(T)                                                               \
    template Operands<T> part_operands(const GradientPart&, const Problem&,                \
                                       const InputGradOperands<T>&, const View<const T>&); \
    template OutputTaps part_taps(const GradientPart&, const Problem&, const View<T>&);    \
    template View<const T> turned_weights(const Problem&, const View<const T>&, T*);       \
    template View<const T> copied_weights(const Problem&, const T*);

FASTCONV_PARTS_OF(float)
FASTCONV_PARTS_OF(double)
FASTCONV_PARTS_OF(Float16)
FASTCONV_PARTS_OF(Bfloat16)

}  // namespace fastconv
