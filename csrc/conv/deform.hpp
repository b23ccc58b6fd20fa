// Deformable convolutions: no rung of the ladder, they read more arrays than a convolution.
#pragma once

#include "conv/algorithm.hpp"

namespace fastconv {

template <class T>
struct DeformOperands {
    Operands<T> conv;
    View<const T> offset;  // see DeformJob
    View<const T> mask;
    Index offset_groups;
};

template <class T>
FASTCONV_FOR_PYTHON Footprint deform_footprint(const Problem& problem, const Resources& resources);

template <class T>
FASTCONV_FOR_PYTHON Status deform(const Problem& problem, const DeformOperands<T>& arrays,
                                  const Resources& resources, const Interrupt& interrupt);

}  // namespace fastconv
