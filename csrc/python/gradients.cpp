// Gradients of w and of x, and weights packed for the latter.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>

#include "conv/input_grad.hpp"
#include "conv/weight_grad.hpp"
#include "python/arguments.hpp"
#include "python/direct_gradients.hpp"
#include "python/module.hpp"

namespace fastconv {
namespace {

void weight_grad(const Problem& problem, const py::array& x, const py::array& gy,
                 const py::array& gw, const Resources& resources) {
    with_any_float(problem.element, [&](auto zero) {
        using T = decltype(zero);
        const Problem& d = problem;
        const WeightGradOperands<T> arrays{view<const T>(x, {d.n, d.c, d.h, d.w}, "x"),
                                           view<const T>(gy, {d.n, d.k, d.p, d.q}, "gy"),
                                           view<T>(gw, {d.k, d.c / d.groups, d.r, d.s}, "out")};
        if (problem.k == 0) return;
        Status status;
        without_gil([&] {
            status = choose_weight_grad<T>(problem).run(problem, arrays, resources, interrupted);
        });
        throw_unless_ok(status);
    });
}

py::tuple weight_grad_algorithm(const Problem& problem, const Resources& resources) {
    return with_any_float(problem.element, [&](auto zero) {
        const auto& chosen = choose_weight_grad<decltype(zero)>(problem);
        const Footprint footprint = chosen.footprint(problem, resources);
        return py::make_tuple(chosen.name, footprint.scratch_bytes, footprint.threads);
    });
}

// The function of direct.hpp: (x, gy, None, out).
py::object make_weight_grad_direct(const Problem& problem, const Resources& resources, int rank,
                                   int spatial, bool flipped) {
    if (is_empty(problem)) return py::none();
    return with_any_float(problem.element, [&](auto zero) {
        const Form form{rank, spatial, problem.channels_last};
        return direct_function(
            std::make_unique<DirectWeightGrad<decltype(zero)>>(problem, resources, form, flipped),
            false);
    });
}

template <class T>
InputGradOperands<T> input_grad_operands(const Problem& d, const py::array& gy, const py::array& w,
                                         const py::object& bias, const py::array& gx) {
    return {view<const T>(gy, {d.n, d.k, d.p, d.q}, "gy"), weight_view<T>(d, w), nullptr,
            bias_pointer<T>(d.c, bias), view<T>(gx, {d.n, d.c, d.h, d.w}, "out")};
}

template <class T>
void run_input_grad(const Problem& problem, const InputGradOperands<T>& arrays,
                    const Resources& resources) {
    if (is_empty_gradient(problem)) return;
    Status status;
    without_gil([&] {
        status = choose_input_grad<T>(problem).run(problem, arrays, resources, interrupted);
    });
    throw_unless_ok(status);
}

void input_grad(const Problem& problem, const py::array& gy, const py::array& w,
                const py::object& bias, const py::array& gx, const Resources& resources) {
    with_any_float(problem.element, [&](auto zero) {
        using T = decltype(zero);
        run_input_grad(problem, input_grad_operands<T>(problem, gy, w, bias, gx), resources);
    });
}

py::tuple input_grad_algorithm(const Problem& problem, const Resources& resources, bool packed) {
    return with_any_float(problem.element, [&](auto zero) {
        const auto& chosen = choose_input_grad<decltype(zero)>(problem);
        const Footprint footprint = chosen.footprint(problem, resources, packed);
        return py::make_tuple(chosen.name(problem, resources.fast), footprint.scratch_bytes,
                              footprint.threads);
    });
}

// As PackedWeights, of a gradient of x.
struct PackedInputGrad {
    PackedInputGrad(const Problem& described, const py::array& kernel, const py::object& addend,
                    const Resources& given)
        : problem(described), resources(given), w(kernel), bias(addend) {
        problem.n = 1;
        if (is_empty_gradient(problem)) return;
        with_any_float(problem.element, [&](auto zero) {
            using T = decltype(zero);
            const InputGradAlgorithm<T>& algorithm = choose_input_grad<T>(problem);
            const View<const T> weights = weight_view<T>(problem, w);
            bytes = algorithm.packed_bytes(problem, resources.fast);
            if (bytes == 0) return;
            memory = allocate_packed(bytes);
            Status status;
            without_gil(
                [&] { status = algorithm.pack(problem, resources.fast, weights, memory.get()); });
            throw_unless_ok(status);
        });
    }

    void run(const py::array& gy, const py::array& gx) const {
        Problem batch = problem;
        batch.n = gy.ndim() > 0 ? gy.shape(0) : 0;
        with_any_float(batch.element, [&](auto zero) {
            auto arrays = input_grad_operands<decltype(zero)>(batch, gy, w, bias, gx);
            arrays.packed = memory.get();
            run_input_grad(batch, arrays, resources);
        });
    }

    Problem problem;
    Resources resources;
    py::array w;
    py::object bias;
    PackedMemory memory;
    Index bytes = 0;
};

py::object make_input_grad_direct(const Problem& problem, const Resources& resources, int rank,
                                  int spatial, bool flipped) {
    if (is_empty_gradient(problem)) return py::none();
    return with_any_float(problem.element, [&](auto zero) {
        using T = decltype(zero);
        const Form form{rank, spatial, problem.channels_last};
        return direct_function(
            std::make_unique<DirectInputGrad<T>>(problem, resources, form, flipped,
                                                 InputGradOperands<T>{}, nullptr),
            false);
    });
}

py::object make_packed_input_grad_direct(const std::shared_ptr<PackedInputGrad>& packed, int rank,
                                         int spatial) {
    const Problem& problem = packed->problem;
    if (is_empty_gradient(problem)) return py::none();
    return with_any_float(problem.element, [&](auto zero) {
        using T = decltype(zero);
        InputGradOperands<T> fixed{};
        fixed.w = weight_view<T>(problem, packed->w);
        fixed.packed = packed->memory.get();
        fixed.bias = bias_pointer<T>(problem.c, packed->bias);
        const Form form{rank, spatial, problem.channels_last};
        return direct_function(std::make_unique<DirectInputGrad<T>>(problem, packed->resources,
                                                                    form, false, fixed, packed),
                               true);
    });
}

}  // namespace

void bind_gradients(py::module_& module) {
    py::class_<PackedInputGrad, std::shared_ptr<PackedInputGrad>>(module, "PackedInputGrad")
        .def(py::init<const Problem&, const py::array&, const py::object&, const Resources&>(),
             py::arg("problem"), py::arg("w"), py::arg("bias"), py::arg("resources"))
        .def("run", &PackedInputGrad::run, py::arg("gy"), py::arg("out"))
        .def("direct", &make_packed_input_grad_direct, py::arg("rank"), py::arg("spatial"))
        .def_readonly("packed_bytes", &PackedInputGrad::bytes);
    module.def("input_grad", &input_grad, py::arg("problem"), py::arg("gy"), py::arg("w"),
               py::arg("bias"), py::arg("out"), py::arg("resources"));
    module.def("input_grad_algorithm", &input_grad_algorithm, py::arg("problem"),
               py::arg("resources"), py::arg("packed"));
    module.def("input_grad_direct", &make_input_grad_direct, py::arg("problem"),
               py::arg("resources"), py::arg("rank"), py::arg("spatial"), py::arg("flip"));
    module.def("weight_grad_direct", &make_weight_grad_direct, py::arg("problem"),
               py::arg("resources"), py::arg("rank"), py::arg("spatial"), py::arg("flip"));
    module.def("weight_grad", &weight_grad, py::arg("problem"), py::arg("x"), py::arg("gy"),
               py::arg("out"), py::arg("resources"));
    module.def("weight_grad_algorithm", &weight_grad_algorithm, py::arg("problem"),
               py::arg("resources"));
}

}  // namespace fastconv
