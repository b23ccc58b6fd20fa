// Which instruction set this processor runs.
#pragma once

#include <string>

#include "kernels/kernels.hpp"
#include "kernels/strip_kernels.hpp"

namespace fastconv {

// The kernels for the best instruction set of this processor, or for the one FASTCONV_ISA names.
// Throws std::runtime_error when that one is unknown or the processor lacks it: forced is forced.
FASTCONV_FOR_PYTHON const KernelTable& active_kernels();

// The same for operands of 8 and 16 bits.
const StripTable& active_strips();

// The instruction set's name.
FASTCONV_FOR_PYTHON const char* active_isa();

// Names of the instruction sets compiled into this library, best first, separated by spaces.
FASTCONV_FOR_PYTHON std::string compiled_isas();

// Bytes of one core's second-level cache; half a MiB where the system does not say.
Index second_level_cache_bytes();

template <class T>
const Kernels<T>& kernels_for();
template <class T>
const StripKernels<T>& strips_for();
template <class T>
const DepthwiseKernels<T>& depthwise_for();
// What multiplies pairs of bfloat16 as they are, flushing subnormals; null where nothing does.
const StripKernels<Bfloat16>* bfloat16_pairs();

}  // namespace fastconv
