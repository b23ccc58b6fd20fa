// What the bindings make of Python's arguments: views and types.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "conv/elements.hpp"
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

}  // namespace fastconv
