// Compiled once per instruction set, as isa.cpp is, with FASTCONV_INTEGERS for the table's name.
#include "kernels/integer_gemm.hpp"
#include "kernels/integer_kernels.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
constexpr IntegerKernels<T> integer_kernels() {
    return {kMembers<T>,           kIntegerRows,          kLanes<std::int32_t>,
            Shift<T>::zero_w != 0, pack_integer_panel<T>, pack_integer_ones<T>,
            integer_task<T>};
}

}  // namespace
}  // namespace FASTCONV_ISA

extern const IntegerTable FASTCONV_INTEGERS;
const IntegerTable FASTCONV_INTEGERS = {
    FASTCONV_ISA::integer_kernels<std::int8_t>(), FASTCONV_ISA::integer_kernels<std::uint8_t>(),
    FASTCONV_ISA::integer_kernels<std::int16_t>(), FASTCONV_ISA::integer_kernels<std::uint16_t>()};

}  // namespace fastconv
