// The gradient of x with respect to y, which is the transposed convolution.
#pragma once

#include <string>

#include "conv/algorithm.hpp"

namespace fastconv {

template <class T>
struct InputGradOperands {
    View<const T> gy, w;
    const void* packed;  // the algorithm's own form of w, or null: then w is read
    const T* bias;       // contiguous (C,), or null
    View<T> gx;
};

// Problems are those of y: n images, c channels of gx, k of gy; bias and activation are gx's.
template <class T>
struct InputGradAlgorithm {
    // Never a function of n, of strides in memory or of the number of threads.
    bool (*takes)(const Problem& problem);
    std::string (*name)(const Problem& problem, bool fast);
    Footprint (*footprint)(const Problem& problem, const Resources& resources, bool packed);
    // Of all weights; 0 where they are read in place. It does not depend on n.
    Index (*packed_bytes)(const Problem& problem, bool fast);
    Status (*pack)(const Problem& problem, bool fast, const View<const T>& w, void* packed);
    // `problem` is not empty.
    Status (*run)(const Problem& problem, const InputGradOperands<T>& arrays,
                  const Resources& resources, const Interrupt& interrupt);
};

template <class T>
const InputGradAlgorithm<T>& input_grad_depthwise();
template <class T>
const InputGradAlgorithm<T>& input_grad_columns();
template <class T>
const InputGradAlgorithm<T>& input_grad_phases();

// The ladder of input gradients: the first algorithm that takes the problem.
template <class T>
FASTCONV_FOR_PYTHON const InputGradAlgorithm<T>& choose_input_grad(const Problem& problem);

inline bool is_empty_gradient(const Problem& problem) {
    return problem.n == 0 || problem.c == 0 || problem.h == 0 || problem.w == 0;
}

}  // namespace fastconv
