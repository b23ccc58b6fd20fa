// What the bindings make of Python's arguments: views, types, memory.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "problem.hpp"
#include "python/arrays.hpp"

namespace fastconv {

namespace py = pybind11;

// Views an array of exactly this dtype and shape, of four axes or, where it is of volumes, five;
// Python has already explained errors to the user, these only keep a wrong call from reading
// foreign memory.
template <class T>
View<T> view(const py::array& array, const Index (&shape)[4], const char* name, Index planes = 1) {
    const int rank = int(array.ndim());
    const bool flat = rank == 4 && planes == 1;
    if (!array.dtype().equal(dtype_of<std::remove_const_t<T>>()) || (!flat && rank != 5)) {
        throw std::invalid_argument(std::string(name) + ": wrong dtype or rank");
    }
    View<T> result{};
    for (int axis = 0; axis < rank; ++axis) {
        const bool plane = !flat && axis == 2;
        const int logical = !flat && axis > 2 ? axis - 1 : axis;
        const Index stride = array.strides(axis);
        if (array.shape(axis) != (plane ? planes : shape[logical]) ||
            stride % Index(sizeof(T)) != 0) {
            throw std::invalid_argument(std::string(name) + ": wrong shape or uneven stride");
        }
        (plane ? result.plane : result.stride[logical]) = stride / Index(sizeof(T));
    }
    if constexpr (std::is_const_v<T>) {
        result.data = static_cast<T*>(array.data());
    } else {
        result.data = static_cast<T*>(const_cast<py::array&>(array).mutable_data());
    }
    if (reinterpret_cast<std::uintptr_t>(result.data) % alignof(T) != 0) {
        throw std::invalid_argument(std::string(name) + ": misaligned");
    }
    return result;
}

template <class T>
View<const T> weight_view(const Problem& problem, const py::array& w) {
    return view<const T>(w, {problem.k, problem.c / problem.groups, problem.r, problem.s}, "w",
                         problem.t);
}

template <class T>
const ResultOf<T>* bias_pointer(Index channels, const py::object& bias) {
    if (bias.is_none()) return nullptr;
    const py::array values = py::cast<py::array>(bias);
    if (!values.dtype().equal(dtype_of<ResultOf<T>>()) || values.ndim() != 1 ||
        values.shape(0) != channels ||
        (channels > 1 && values.strides(0) != Index(sizeof(ResultOf<T>)))) {
        throw std::invalid_argument("bias: wrong dtype, shape or stride");
    }
    return static_cast<const ResultOf<T>*>(values.data());
}

template <class T>
Operands<T> operands(const Problem& problem, const py::array& x, const py::array& w,
                     const py::object& bias, const py::array& y) {
    const Problem& d = problem;
    return {view<const T>(x, {d.n, d.c, d.h, d.w}, "x", d.d), weight_view<T>(problem, w), nullptr,
            bias_pointer<T>(problem.k, bias),
            view<ResultOf<T>>(y, {d.n, d.k, d.p, d.q}, "out", d.o)};
}

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
