// The strip GEMM over pairs of bfloat16, for precision="fast": compiled for processors that
// multiply them as they are.
#include "kernels/strip_gemm.hpp"
#include "kernels/strip_kernels.hpp"

namespace fastconv {

extern const StripKernels<Bfloat16> FASTCONV_PAIRS;
const StripKernels<Bfloat16> FASTCONV_PAIRS = FASTCONV_ISA::strip_kernels<Bfloat16>();

}  // namespace fastconv
