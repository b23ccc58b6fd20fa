// Compiled once per instruction set, with FASTCONV_ISA, FASTCONV_VECTOR_BYTES and
// FASTCONV_FLOATS set by CMakeLists.txt.
#include "kernels/isa.hpp"

namespace fastconv {

extern const Kernels<float> FASTCONV_FLOATS;
const Kernels<float> FASTCONV_FLOATS = FASTCONV_ISA::kernels<float>();

}  // namespace fastconv
