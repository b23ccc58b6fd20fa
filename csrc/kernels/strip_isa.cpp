// Compiled once per instruction set, as isa.cpp is, with FASTCONV_STRIPS for the table's name.
#include "kernels/depthwise.hpp"
#include "kernels/requantise.hpp"
#include "kernels/strip_dot.hpp"
#include "kernels/strip_gemm.hpp"
#include "kernels/strip_kernels.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
constexpr StripKernels<T> with_dots() {
    StripKernels<T> kernels = strip_kernels<T>();
    kernels.dot_task = dot_task<T>;
    return kernels;
}

}  // namespace
}  // namespace FASTCONV_ISA

extern const StripTable FASTCONV_STRIPS;
const StripTable FASTCONV_STRIPS = {FASTCONV_ISA::with_dots<std::int8_t>(),
                                    FASTCONV_ISA::with_dots<std::uint8_t>(),
                                    FASTCONV_ISA::with_dots<std::int16_t>(),
                                    FASTCONV_ISA::with_dots<std::uint16_t>(),
                                    FASTCONV_ISA::with_dots<Float16>(),
                                    FASTCONV_ISA::with_dots<Bfloat16>(),
                                    FASTCONV_ISA::depthwise_kernels<std::int8_t>(),
                                    FASTCONV_ISA::depthwise_kernels<std::uint8_t>(),
                                    FASTCONV_ISA::depthwise_kernels<std::int16_t>(),
                                    FASTCONV_ISA::depthwise_kernels<std::uint16_t>(),
                                    FASTCONV_ISA::requantise};

}  // namespace fastconv
