// y, and weights packed for it.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>

#include "conv/algorithm.hpp"
#include "python/arguments.hpp"
#include "python/direct.hpp"
#include "python/module.hpp"

namespace fastconv {
namespace {

template <class T>
void run_convolution(const Problem& problem, const Operands<T>& arrays,
                     const Resources& resources) {
    if (is_empty(problem)) return;
    Status status;
    without_gil([&] {
        status = choose<T>(problem, resources.fast).run(problem, arrays, resources, interrupted);
    });
    throw_unless_ok(status);
}

void conv2d(const Problem& problem, const py::array& x, const py::array& w, const py::object& bias,
            const py::array& y, const Resources& resources) {
    with_element(problem.element, [&](auto zero) {
        run_convolution(problem, operands<decltype(zero)>(problem, x, w, bias, y), resources);
    });
}

// Weights in the form their algorithm reads, made once; see fastconv/plan.py. Nothing changes
// after construction, so any number of threads may use it at once.
struct PackedWeights {
    PackedWeights(const Problem& described, const py::array& kernel, const py::object& addend,
                  const Resources& given)
        : problem(described), resources(given), w(kernel), bias(addend) {
        problem.n = 1;
        if (is_empty(problem)) return;
        with_element(problem.element, [&](auto zero) {
            using T = decltype(zero);
            const Algorithm<T>& algorithm = choose<T>(problem, resources.fast);
            const View<const T> weights = weight_view<T>(problem, w);
            bytes = algorithm.packed_bytes(problem);
            if (bytes == 0) return;
            memory = allocate_packed(bytes);
            without_gil([&] { algorithm.pack(problem, weights, memory.get()); });
        });
    }

    void run(const py::array& x, const py::array& y) const {
        Problem batch = problem;
        batch.n = x.ndim() > 0 ? x.shape(0) : 0;
        with_element(batch.element, [&](auto zero) {
            auto arrays = operands<decltype(zero)>(batch, x, w, bias, y);
            arrays.packed = memory.get();
            run_convolution(batch, arrays, resources);
        });
    }

    Problem problem;
    Resources resources;
    py::array w;
    py::object bias;
    PackedMemory memory;
    Index bytes = 0;
};

py::tuple algorithm(const Problem& problem, const Resources& resources, bool packed) {
    return with_element(problem.element, [&](auto zero) {
        const auto& chosen = choose<decltype(zero)>(problem, resources.fast);
        const Footprint footprint = chosen.footprint(problem, resources, packed);
        return py::make_tuple(chosen.name, footprint.scratch_bytes, footprint.threads);
    });
}

// The function of direct.hpp; None where there is nothing to compute.
py::object make_direct(const Problem& problem, const Resources& resources, int rank, int spatial,
                       bool flipped, int pixel) {
    if (is_empty(problem)) return py::none();
    return with_element(problem.element, [&](auto zero) {
        using T = decltype(zero);
        const Form form{rank, spatial, problem.channels_last};
        return direct_function(
            std::make_unique<DirectConvolution<T>>(problem, resources, form, flipped,
                                                   Element(pixel), Operands<T>{}, nullptr),
            false);
    });
}

py::object make_packed_direct(const std::shared_ptr<PackedWeights>& packed, int rank, int spatial,
                              int pixel) {
    const Problem& problem = packed->problem;
    if (is_empty(problem)) return py::none();
    return with_element(problem.element, [&](auto zero) {
        using T = decltype(zero);
        Operands<T> fixed{};
        fixed.w = weight_view<T>(problem, packed->w);
        fixed.packed = packed->memory.get();
        fixed.bias = bias_pointer<T>(problem.k, packed->bias);
        const Form form{rank, spatial, problem.channels_last};
        return direct_function(
            std::make_unique<DirectConvolution<T>>(problem, packed->resources, form, false,
                                                   Element(pixel), fixed, packed),
            true);
    });
}

}  // namespace

void bind_convolutions(py::module_& module) {
    py::class_<PackedWeights, std::shared_ptr<PackedWeights>>(module, "PackedConvolution")
        .def(py::init<const Problem&, const py::array&, const py::object&, const Resources&>(),
             py::arg("problem"), py::arg("w"), py::arg("bias"), py::arg("resources"))
        .def("run", &PackedWeights::run, py::arg("x"), py::arg("out"))
        .def("direct", &make_packed_direct, py::arg("rank"), py::arg("spatial"), py::arg("pixel"))
        .def_readonly("packed_bytes", &PackedWeights::bytes);
    module.def("direct", &make_direct, py::arg("problem"), py::arg("resources"), py::arg("rank"),
               py::arg("spatial"), py::arg("flip"), py::arg("pixel"));
    module.def("conv2d", &conv2d, py::arg("problem"), py::arg("x"), py::arg("w"), py::arg("bias"),
               py::arg("out"), py::arg("resources"));
    module.def("algorithm", &algorithm, py::arg("problem"), py::arg("resources"),
               py::arg("packed"));
}

}  // namespace fastconv
