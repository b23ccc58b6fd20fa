// The table of one instruction set, compiled with FASTCONV_ISA, FASTCONV_VECTOR_BYTES and the names
// of the tables set by CMakeLists.txt. See isa.hpp for what such sources may include.
#include "kernels/depthwise.hpp"
#include "kernels/kernels.hpp"

#define FASTCONV_TEXT_(x) #x
#define FASTCONV_TEXT(x) FASTCONV_TEXT_(x)

namespace fastconv {

extern const Kernels<float> FASTCONV_FLOATS;
extern const Kernels<double> FASTCONV_DOUBLES;
extern const KernelTable FASTCONV_TABLE;
const KernelTable FASTCONV_TABLE = {FASTCONV_TEXT(FASTCONV_ISA), FASTCONV_FLOATS, FASTCONV_DOUBLES,
                                    FASTCONV_ISA::depthwise_kernels<Float16>(),
                                    FASTCONV_ISA::depthwise_kernels<Bfloat16>()};

}  // namespace fastconv
