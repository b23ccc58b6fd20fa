// Compiled once per instruction set, as isa.cpp is, with FASTCONV_STRIPS for the table's name.
#include "kernels/strip_dot.hpp"
#include "kernels/strip_gemm.hpp"
#include "kernels/strip_kernels.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
constexpr StripKernels<T> strip_kernels() {
    return {kMembers<T>, kStripRows,    kLanes<WordOf<T>>, Narrow<T>::zero_w != 0,
            kIsFloat<T>, pack_panel<T>, strip_task<T>,     dot_task<T>};
}

}  // namespace
}  // namespace FASTCONV_ISA

extern const StripTable FASTCONV_STRIPS;
const StripTable FASTCONV_STRIPS = {
    FASTCONV_ISA::strip_kernels<std::int8_t>(),  FASTCONV_ISA::strip_kernels<std::uint8_t>(),
    FASTCONV_ISA::strip_kernels<std::int16_t>(), FASTCONV_ISA::strip_kernels<std::uint16_t>(),
    FASTCONV_ISA::strip_kernels<Float16>(),      FASTCONV_ISA::strip_kernels<Bfloat16>()};

}  // namespace fastconv
