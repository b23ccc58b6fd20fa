// The gradient of w with respect to y.
#pragma once

#include "conv/algorithm.hpp"
#include "cpu.hpp"

namespace fastconv {

template <class T>
struct WeightGradOperands {
    View<const T> x, gy;
    View<T> gw;
};

template <class T>
struct WeightGradAlgorithm {
    const char* name;
    Footprint (*footprint)(const Problem& problem, const Resources& resources);
    // `problem` has output channels; without images the gradient is zero.
    Status (*run)(const Problem& problem, const WeightGradOperands<T>& arrays,
                  const Resources& resources, const Interrupt& interrupt);
};

// Which algorithm computes the gradient: a function of the problem alone.
template <class T>
FASTCONV_FOR_PYTHON const WeightGradAlgorithm<T>& choose_weight_grad(const Problem& problem);

// What follows is for the algorithms themselves.
template <class T>
const WeightGradAlgorithm<T>& weight_grad_gemm();
template <class T>
const WeightGradAlgorithm<T>& weight_grad_depthwise();
template <class T>
const WeightGradAlgorithm<T>& weight_grad_grouped();
template <class T>
bool takes_weight_grad_grouped(const Problem& problem);
template <class T>
bool takes_weight_grad_depthwise(const Problem& problem);

// Boxes of at most so many pixels, and how many there are.
PixelBox make_pixel_box(const Problem& problem, Index pixels);
Index count_boxes(const Problem& problem, const PixelBox& box);

// Elements of the sums of all chunks; 0 of a single one, unless it is `rounded` afterwards.
inline Index partial_elements(const Problem& problem, Index chunks, bool rounded = false) {
    const Index outputs = problem.k * (problem.c / problem.groups) * problem.r * problem.s;
    return chunks > 1 || rounded ? chunks * outputs : 0;
}

// gw = the sum of `chunks` arrays (K, C/groups, R, S), in their order, rounded to S; zeros of none.
template <class T, class S>
Status add_chunks(const Problem& problem, const View<S>& gw, const T* partial, Index chunks,
                  int threads, const Interrupt& interrupt);

// What gradients of operands of 16 bits need of the instruction set.
template <class S>
const HalfGradKernels<S>& half_grads_for();

}  // namespace fastconv
