// The only file that knows Python: view, check what memory safety needs, release the GIL, call.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <chrono>
#include <complex>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "conv/algorithm.hpp"
#include "conv/complex_planes.hpp"
#include "conv/deform.hpp"
#include "conv/input_grad.hpp"
#include "conv/requantise.hpp"
#include "conv/weight_grad.hpp"
#include "cpu.hpp"
#include "direct.hpp"
#include "direct_gradients.hpp"
#include "parallel.hpp"
#include "parallel_probe.hpp"
#include "workspace.hpp"

namespace py = pybind11;
using namespace fastconv;

namespace {

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

// Calls `body` with a value of the type of x and gy where a gradient of w of theirs is computed.
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

struct FreeMemory {
    void operator()(void* memory) const { std::free(memory); }
};
using PackedMemory = std::unique_ptr<void, FreeMemory>;

PackedMemory allocate_packed(Index bytes) {
    constexpr std::size_t kLine = 64;
    PackedMemory memory(
        std::aligned_alloc(kLine, (std::size_t(bytes) + kLine - 1) / kLine * kLine));
    if (!memory) throw std::bad_alloc();
    return memory;
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

template <class T>
void run(const Problem& problem, const Operands<T>& arrays, const Resources& resources) {
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
        run(problem, operands<decltype(zero)>(problem, x, w, bias, y), resources);
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
            ::run(batch, arrays, resources);
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
    with_float(problem.element, [&](auto zero) {
        using T = decltype(zero);
        run_input_grad(problem, input_grad_operands<T>(problem, gy, w, bias, gx), resources);
    });
}

py::tuple input_grad_algorithm(const Problem& problem, const Resources& resources, bool packed) {
    return with_float(problem.element, [&](auto zero) {
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
        with_float(problem.element, [&](auto zero) {
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
        with_float(batch.element, [&](auto zero) {
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
    return with_float(problem.element, [&](auto zero) {
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
    return with_float(problem.element, [&](auto zero) {
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

// The same for the gradient of w: (x, gy, None, out).
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

double measure_peak(int threads, bool double_precision, double seconds) {
    const KernelTable& table = active_kernels();
    const auto loop = double_precision ? table.f64.peak_loop : table.f32.peak_loop;
    using Clock = std::chrono::steady_clock;
    struct Share {
        double flops = 0, seconds = 0;
    };
    std::vector<Share> shares(std::size_t(std::max(1, threads)));
    // One task a thread; each runs for the same time, so that slow cores are not waited for. The
    // task of a thread that does not come is done by another, and must not count as its speed.
    without_gil([&] {
        parallel_for(threads, threads,
                     [&](Index, int thread) {
                         const auto start = Clock::now();
                         double flops = 0, elapsed = 0;
                         while (elapsed < seconds) {
                             flops += loop(20000);
                             elapsed = std::chrono::duration<double>(Clock::now() - start).count();
                         }
                         shares[std::size_t(thread)].flops += flops;
                         shares[std::size_t(thread)].seconds += elapsed;
                     },
                     {});
    });
    double total = 0;
    for (const Share& share : shares) total += share.seconds > 0 ? share.flops / share.seconds : 0;
    return total / 1e9;
}

py::dict probe(Index tasks, int threads, Index microseconds, bool nested) {
    ParallelProbe seen;
    without_gil(
        [&] { seen = probe_parallel_for(tasks, threads, microseconds, nested, interrupted); });
    if (!seen.completed) throw py::error_already_set();
    using py::operator""_a;
    return py::dict("missed"_a = seen.missed, "repeated"_a = seen.repeated,
                    "shared"_a = seen.shared, "threads"_a = seen.threads,
                    "outside"_a = seen.outside);
}

py::dict build_facts() {
    py::dict facts;
    facts["isa"] = active_isa();
    facts["compiled for"] = compiled_isas();
    facts["threads"] = threading_layer();
#if defined(__clang__)
    facts["compiler"] = std::string("clang ") + __clang_version__;
#else
    facts["compiler"] = std::string("gcc ") + __VERSION__;
#endif
    return facts;
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "fastconv's C++ kernels; use them through fastconv.conv2d.";
    py::class_<Problem>(module, "Problem")
        .def(py::init([](Index n, Index c, Index h, Index w, Index k, Index r, Index s, Index p,
                         Index q, Index groups, Index stride_h, Index stride_w, Index dilation_h,
                         Index dilation_w, Index pad_top, Index pad_left, int pad_mode,
                         int activation, int element, bool channels_last, Index d, Index t, Index o,
                         Index stride_d, Index dilation_d, Index pad_front) {
                 return Problem{n,
                                c,
                                h,
                                w,
                                k,
                                r,
                                s,
                                p,
                                q,
                                groups,
                                stride_h,
                                stride_w,
                                dilation_h,
                                dilation_w,
                                pad_top,
                                pad_left,
                                PadMode(pad_mode),
                                Activation(activation),
                                Element(element),
                                channels_last,
                                d,
                                t,
                                o,
                                stride_d,
                                dilation_d,
                                pad_front};
             }),
             py::kw_only(), py::arg("n"), py::arg("c"), py::arg("h"), py::arg("w"), py::arg("k"),
             py::arg("r"), py::arg("s"), py::arg("p"), py::arg("q"), py::arg("groups"),
             py::arg("stride_h"), py::arg("stride_w"), py::arg("dilation_h"), py::arg("dilation_w"),
             py::arg("pad_top"), py::arg("pad_left"), py::arg("pad_mode"), py::arg("activation"),
             py::arg("element"), py::arg("channels_last"), py::arg("d"), py::arg("t"), py::arg("o"),
             py::arg("stride_d"), py::arg("dilation_d"), py::arg("pad_front"));
    py::class_<Resources>(module, "Resources")
        .def(py::init([](int threads, Index thread_bytes, bool fast) {
                 return Resources{threads, thread_bytes, fast};
             }),
             py::kw_only(), py::arg("threads"), py::arg("thread_bytes"), py::arg("fast"));
    py::class_<PackedWeights, std::shared_ptr<PackedWeights>>(module, "PackedConvolution")
        .def(py::init<const Problem&, const py::array&, const py::object&, const Resources&>(),
             py::arg("problem"), py::arg("w"), py::arg("bias"), py::arg("resources"))
        .def("run", &PackedWeights::run, py::arg("x"), py::arg("out"))
        .def("direct", &make_packed_direct, py::arg("rank"), py::arg("spatial"), py::arg("pixel"))
        .def_readonly("packed_bytes", &PackedWeights::bytes);
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
    module.def("direct", &make_direct, py::arg("problem"), py::arg("resources"), py::arg("rank"),
               py::arg("spatial"), py::arg("flip"), py::arg("pixel"));
    module.def("input_grad_direct", &make_input_grad_direct, py::arg("problem"),
               py::arg("resources"), py::arg("rank"), py::arg("spatial"), py::arg("flip"));
    module.def("weight_grad_direct", &make_weight_grad_direct, py::arg("problem"),
               py::arg("resources"), py::arg("rank"), py::arg("spatial"), py::arg("flip"));
    module.def("conv2d", &conv2d, py::arg("problem"), py::arg("x"), py::arg("w"), py::arg("bias"),
               py::arg("out"), py::arg("resources"));
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
    module.def("algorithm", &algorithm, py::arg("problem"), py::arg("resources"),
               py::arg("packed"));
    module.def("weight_grad", &weight_grad, py::arg("problem"), py::arg("x"), py::arg("gy"),
               py::arg("out"), py::arg("resources"));
    module.def("weight_grad_algorithm", &weight_grad_algorithm, py::arg("problem"),
               py::arg("resources"));
    module.def("isa", &active_isa);
    module.def("build_facts", &build_facts);
    module.def("measure_peak", &measure_peak, py::arg("threads"), py::arg("double_precision"),
               py::arg("seconds"));
    module.def("parallel_probe", &probe, py::arg("tasks"), py::arg("threads"),
               py::arg("microseconds") = 0, py::arg("nested") = false);
    module.def("fail_next_allocations", &fail_next_allocations, py::arg("count"));
}
