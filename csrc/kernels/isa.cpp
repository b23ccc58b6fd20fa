// Compiled once per instruction set, with FASTCONV_ISA, FASTCONV_VECTOR_BYTES and
// FASTCONV_TABLE set by CMakeLists.txt. Everything but the table has internal linkage, and no
// standard C++ header is included: the linker may keep one copy of an inline function for the
// whole library, and must not find one compiled for a newer processor here.
#include "kernels/direct_channels.hpp"
#include "kernels/direct_filter.hpp"
#include "kernels/im2col_gemm.hpp"
#include "kernels/kernels.hpp"
#include "kernels/peak.hpp"

#define FASTCONV_TEXT_(x) #x
#define FASTCONV_TEXT(x) FASTCONV_TEXT_(x)

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
constexpr Kernels<T> kernels() {
    return {{kRows, kCols<T>},      kLanes<T>,           kMaxDepthBlock<T>,
            im2col_gemm_scratch<T>, im2col_gemm_task<T>, {kFilterRows, kFilterVectors},
            filter_pack<T>,         filter_task<T>,      kChannelOutputs,
            channels_scratch<T>,    channels_task<T>,    peak_loop<T>};
}

}  // namespace
}  // namespace FASTCONV_ISA

extern const KernelTable FASTCONV_TABLE;
const KernelTable FASTCONV_TABLE = {FASTCONV_TEXT(FASTCONV_ISA), FASTCONV_ISA::kernels<float>(),
                                    FASTCONV_ISA::kernels<double>()};

}  // namespace fastconv
