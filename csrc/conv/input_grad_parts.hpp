// A gradient of x as convolutions of gy, one for each stride phase: views of the three arrays.
//
// Along one axis, gx[h] = sum over r of w[r] * gy[(h + pad - r * dilation) / stride] where the
// division leaves no rest. Rows h = a, a + stride, ... of one phase a meet the same taps, every
// (stride / gcd)-th of them, and neighbouring rows meet neighbouring pixels of gy: a convolution of
// gy with stride 1 and the phase's taps turned round. Zeros are never inserted, and taps that would
// meet them never multiplied (Shi et al., "Is the deconvolution layer the same as a convolutional
// layer?", 2016). fastconv/lowering/input_grad.py is the same in Python.
#pragma once

#include <vector>

#include "conv/input_grad.hpp"
#include "kernels/kernels.hpp"

namespace fastconv {

// Rows (or columns) of gx, `first` and every `stride`-th behind it, that meet the same taps.
struct AxisPhase {
    Index first, count;
    Index tap, taps, step;  // of w: the last, how many, and from one to the next: negative
    Index pixel, pixels;    // of gy
    Index pad;              // before them
    Index dilation;
};

struct GradientPart {
    Problem problem;  // with channels of gy as c and those of gx as k
    AxisPhase rows, cols;
    bool all_taps = false;  // one product with each tap of each channel of gx as an output
};

// Whether kernels lie side by side in the planes of gx, two columns wide. Every phase has one tap
// then, and all meet the same pixels of gy: one product, whose pixels are packed once, writes
// whole lines of gx.
bool kernels_lie_together(const Problem& problem);

struct GradientParts {
    std::vector<GradientPart> parts;
    bool any_empty;  // pixels of gx that meet no taps

    // `all_taps`: the one product of kernels that lie together.
    explicit GradientParts(const Problem& problem, bool all_taps = false);
};

// Rows of gx that meet no taps, and, in the others, columns. It takes memory for every row: what
// asks about a problem whose gx does not exist yet must not make one.
struct EmptyPixels {
    std::vector<bool> rows;
    std::vector<Index> cols;

    explicit EmptyPixels(const Problem& problem);
};

// What a part reads and writes; `turned` are weights from K to C channels (`turned_weights`).
template <class T>
Operands<T> part_operands(const GradientPart& part, const Problem& problem,
                          const InputGradOperands<T>& arrays, const View<const T>& turned);

// Where the outputs of a part are in gx; of rows and pixels of `gx` itself.
template <class T>
OutputTaps part_taps(const GradientPart& part, const Problem& problem, const View<T>& gx);

// Weights (K, C/groups, R, S) as weights (C, K/groups, R, S) from K to C channels: a view, or,
// where groups have several channels on either side, a copy of so many elements.
Index turned_elements(const Problem& problem);
template <class T>
View<const T> turned_weights(const Problem& problem, const View<const T>& w, T* copy);
// The copy.
template <class T>
View<const T> copied_weights(const Problem& problem, const T* copy);

}  // namespace fastconv
