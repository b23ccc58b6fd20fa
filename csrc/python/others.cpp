// Deformable convolutions, quantised results, and the parts of complex numbers.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <complex>
#include <cstdint>

#include "conv/complex_planes.hpp"
#include "conv/deform.hpp"
#include "conv/requantise.hpp"
#include "python/arguments.hpp"
#include "python/direct.hpp"
#include "python/module.hpp"

namespace fastconv {
namespace {

void deform_conv2d(const Problem& problem, const py::array& x, const py::array& w,
                   const py::array& offset, const py::object& mask, const py::object& bias,
                   const py::array& y, Index offset_groups, const Resources& resources) {
    if (is_empty(problem)) return;
    if (offset_groups < 1 || problem.c % offset_groups != 0) {
        throw std::invalid_argument("offset_groups does not divide the channels");
    }
    with_float(problem.element, [&](auto zero) {
        using T = decltype(zero);
        const Problem& d = problem;
        const Index taps = offset_groups * d.r * d.s;
        DeformOperands<T> arrays{operands<T>(d, x, w, bias, y),
                                 view<const T>(offset, {d.n, 2 * taps, d.p, d.q}, "offset"),
                                 {},
                                 offset_groups};
        if (!mask.is_none()) {
            arrays.mask = view<const T>(py::cast<py::array>(mask), {d.n, taps, d.p, d.q}, "mask");
        }
        Status status;
        without_gil([&] { status = deform<T>(d, arrays, resources, interrupted); });
        throw_unless_ok(status);
    });
}

// Arrays are contiguous, which Python has seen to; out is of int8 or uint8.
void requantise_sums(const py::array& sums, const py::array& scales, bool each, Index length,
                     float low, float high, int zero, const py::array& out, int threads) {
    const auto contiguous = [](const py::array& array) {
        return (array.flags() & py::array::c_style) != 0;
    };
    const bool byte = out.dtype().itemsize() == 1;
    if (!sums.dtype().equal(dtype_of<std::int32_t>()) || !byte || out.size() != sums.size() ||
        !scales.dtype().equal(dtype_of<float>()) || !contiguous(sums) || !contiguous(out) ||
        !contiguous(scales) || length < 1 || sums.size() % length != 0 || scales.size() < 1 ||
        (each && scales.size() != length)) {
        throw std::invalid_argument("requantise: wrong dtype, size or stride");
    }
    const Requantisation job{static_cast<const std::int32_t*>(sums.data()),
                             static_cast<std::uint8_t*>(const_cast<py::array&>(out).mutable_data()),
                             sums.size(),
                             length,
                             static_cast<const float*>(scales.data()),
                             scales.size(),
                             each,
                             {low, high, std::uint8_t(zero)}};
    Status status;
    without_gil([&] { status = requantise(job, threads, interrupted); });
    throw_unless_ok(status);
}

// Calls function(rows, numbers, planes) for contiguous arrays, which Python has seen to, whose
// planes hold three parts of T for each number.
template <class T, class F>
void with_rows(const py::array& numbers, const py::array& planes, Index length, int threads,
               const F& function) {
    const auto contiguous = [](const py::array& array) {
        return (array.flags() & py::array::c_style) != 0;
    };
    if (!numbers.dtype().equal(dtype_of<std::complex<T>>()) ||
        !planes.dtype().equal(dtype_of<T>()) || !contiguous(numbers) || !contiguous(planes) ||
        planes.size() != 3 * numbers.size() || length < 1 || numbers.size() % length != 0) {
        throw std::invalid_argument("complex planes: wrong dtype, size or stride");
    }
    const ComplexRows rows{numbers.size(), length, threads};
    Status status;
    const auto data = [](const py::array& array) {
        return static_cast<T*>(const_cast<void*>(array.data()));
    };
    T *const first = data(numbers), *const second = data(planes);
    without_gil([&] { status = function(rows, first, second); });
    throw_unless_ok(status);
}

template <class F>
void with_planes_of(const py::array& planes, const F& function) {
    if (planes.dtype().equal(dtype_of<float>())) return function(float{});
    function(double{});
}

void split_planes(const py::array& numbers, Index length, bool conjugate, const py::array& planes,
                  int threads) {
    with_planes_of(planes, [&](auto zero) {
        using T = decltype(zero);
        with_rows<T>(numbers, planes, length, threads,
                     [&](const ComplexRows& rows, const T* from, T* to) {
                         return split_complex<T>(rows, from, conjugate, to, interrupted);
                     });
    });
}

void join_planes(const py::array& planes, Index length, const py::array& numbers, int threads) {
    with_planes_of(planes, [&](auto zero) {
        using T = decltype(zero);
        with_rows<T>(numbers, planes, length, threads,
                     [&](const ComplexRows& rows, T* to, const T* from) {
                         return join_complex<T>(rows, from, to, interrupted);
                     });
    });
}

Index deform_scratch(const Problem& problem, const Resources& resources) {
    return with_float(problem.element, [&](auto zero) {
        return deform_footprint<decltype(zero)>(problem, resources).scratch_bytes;
    });
}

}  // namespace

void bind_others(py::module_& module) {
    module.def("deform_conv2d", &deform_conv2d, py::arg("problem"), py::arg("x"), py::arg("w"),
               py::arg("offset"), py::arg("mask"), py::arg("bias"), py::arg("out"),
               py::arg("offset_groups"), py::arg("resources"));
    module.def("deform_scratch", &deform_scratch, py::arg("problem"), py::arg("resources"));
    module.def("requantise", &requantise_sums, py::arg("sums"), py::arg("scales"), py::arg("each"),
               py::arg("length"), py::arg("low"), py::arg("high"), py::arg("zero"), py::arg("out"),
               py::arg("threads"));
    module.def("split_complex", &split_planes, py::arg("numbers"), py::arg("length"),
               py::arg("conjugate"), py::arg("planes"), py::arg("threads"));
    module.def("join_complex", &join_planes, py::arg("planes"), py::arg("length"),
               py::arg("numbers"), py::arg("threads"));
}

}  // namespace fastconv
