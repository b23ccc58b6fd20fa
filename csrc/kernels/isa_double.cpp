// Compiled once per instruction set, with FASTCONV_ISA, FASTCONV_VECTOR_BYTES and
// FASTCONV_DOUBLES set by CMakeLists.txt.
#include "kernels/isa.hpp"

namespace fastconv {

extern const Kernels<double> FASTCONV_DOUBLES;
const Kernels<double> FASTCONV_DOUBLES = FASTCONV_ISA::kernels<double>();

}  // namespace fastconv
