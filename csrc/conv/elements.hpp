// From the Element of a problem to a type, and memory for packed weights: what everything that
// stands on the algorithms needs.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>

#include "problem.hpp"

namespace fastconv {

// Calls `body` with a value of the type of operands that are float32 or float64.
template <class Body>
auto with_float(Element element, Body body) {
    if (element == Element::kFloat64) return body(double{});
    if (element == Element::kFloat32) return body(float{});
    throw std::invalid_argument("computes float32 and float64 alone");
}

// The same, and floats of 16 bits.
template <class Body>
auto with_any_float(Element element, Body body) {
    if (element == Element::kFloat16) return body(Float16{});
    if (element == Element::kBfloat16) return body(Bfloat16{});
    return with_float(element, body);
}

// Calls `body` with a value of the type that x and w hold.
template <class Body>
auto with_element(Element element, Body body) {
    switch (element) {
        case Element::kFloat64:
            return body(double{});
        case Element::kInt8:
            return body(std::int8_t{});
        case Element::kUint8:
            return body(std::uint8_t{});
        case Element::kInt16:
            return body(std::int16_t{});
        case Element::kUint16:
            return body(std::uint16_t{});
        case Element::kFloat16:
            return body(Float16{});
        case Element::kBfloat16:
            return body(Bfloat16{});
        case Element::kFloat32:
            break;
    }
    return body(float{});
}

struct FreeMemory {
    void operator()(void* memory) const { std::free(memory); }
};
using PackedMemory = std::unique_ptr<void, FreeMemory>;

inline PackedMemory allocate_packed(Index bytes) {
    constexpr std::size_t kLine = 64;
    PackedMemory memory(
        std::aligned_alloc(kLine, (std::size_t(bytes) + kLine - 1) / kLine * kLine));
    if (!memory) throw std::bad_alloc();
    return memory;
}

}  // namespace fastconv
