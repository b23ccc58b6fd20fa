// The only file that knows Python: view, check what memory safety needs, release the GIL, call.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>

#include "conv/conv.hpp"
#include "cpu.hpp"
#include "parallel.hpp"
#include "parallel_probe.hpp"
#include "workspace.hpp"

namespace py = pybind11;
using namespace fastconv;

namespace {

// Views a four-axis array of exactly this dtype and shape; Python has already explained errors to
// the user, these only keep a wrong call from reading foreign memory.
template <class T>
View<T> view(const py::array& array, const Index (&shape)[4], const char* name) {
    if (!array.dtype().equal(py::dtype::of<std::remove_const_t<T>>()) || array.ndim() != 4) {
        throw std::invalid_argument(std::string(name) + ": wrong dtype or rank");
    }
    View<T> result{};
    for (int axis = 0; axis < 4; ++axis) {
        const Index stride = array.strides(axis);
        if (array.shape(axis) != shape[axis] || stride % Index(sizeof(T)) != 0) {
            throw std::invalid_argument(std::string(name) + ": wrong shape or uneven stride");
        }
        result.stride[axis] = stride / Index(sizeof(T));
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
Operands<T> operands(const Problem& problem, const py::array& x, const py::array& w,
                     const py::object& bias, const py::array& y) {
    const Problem& d = problem;
    Operands<T> arrays{view<const T>(x, {d.n, d.c, d.h, d.w}, "x"),
                       view<const T>(w, {d.k, d.c / d.groups, d.r, d.s}, "w"), nullptr,
                       view<T>(y, {d.n, d.k, d.p, d.q}, "out")};
    if (!bias.is_none()) {
        const py::array values = py::cast<py::array>(bias);
        if (!values.dtype().equal(py::dtype::of<T>()) || values.ndim() != 1 ||
            values.shape(0) != d.k || (d.k > 1 && values.strides(0) != Index(sizeof(T)))) {
            throw std::invalid_argument("bias: wrong dtype, shape or stride");
        }
        arrays.bias = static_cast<const T*>(values.data());
    }
    return arrays;
}

// Runs `work`, which throws nothing, without the GIL. Unlike py::gil_scoped_release it takes the
// GIL back outside a destructor: at the end of the process Python ends a daemon thread there by
// pthread_exit, which may unwind a function but not a destructor.
template <class Work>
void without_gil(const Work& work) {
    PyThreadState* const state = PyEval_SaveThread();
    work();
    PyEval_RestoreThread(state);
}

// True when a signal handler raised; the exception stays set and is thrown after the loop.
bool interrupted() {
    py::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
}

template <class T>
void run(const Problem& problem, const py::array& x, const py::array& w, const py::object& bias,
         const py::array& y, const Resources& resources) {
    const Operands<T> arrays = operands<T>(problem, x, w, bias, y);
    Status status;
    without_gil([&] { status = run_conv2d<T>(problem, arrays, resources, interrupted); });
    if (status == Status::kInterrupted) throw py::error_already_set();
    if (status == Status::kNoMemory) throw std::bad_alloc();
}

void conv2d(const Problem& problem, const py::array& x, const py::array& w, const py::object& bias,
            const py::array& y, int threads, Index thread_bytes) {
    const Resources resources{threads, thread_bytes};
    if (problem.double_precision) {
        run<double>(problem, x, w, bias, y, resources);
    } else {
        run<float>(problem, x, w, bias, y, resources);
    }
}

py::tuple algorithm(const Problem& problem, int threads, Index thread_bytes) {
    const Resources resources{threads, thread_bytes};
    const Plan plan = problem.double_precision ? plan_conv2d<double>(problem, resources)
                                               : plan_conv2d<float>(problem, resources);
    return py::make_tuple(plan.algorithm, plan.scratch_bytes);
}

double measure_peak(int threads, bool double_precision, double seconds) {
    py::gil_scoped_release no_gil;
    const KernelTable& table = active_kernels();
    const auto loop = double_precision ? table.f64.peak_loop : table.f32.peak_loop;
    using Clock = std::chrono::steady_clock;
    std::atomic<double> total{0};
    // one task a thread; each runs for the same time, so that slow cores are not waited for
    parallel_for(threads, threads,
                 [&](Index, int) {
                     const auto start = Clock::now();
                     double flops = 0, elapsed = 0;
                     while (elapsed < seconds) {
                         flops += loop(20000);
                         elapsed = std::chrono::duration<double>(Clock::now() - start).count();
                     }
                     double sum = total.load();
                     while (!total.compare_exchange_weak(sum, sum + flops / elapsed)) {
                     }
                 },
                 {});
    return total.load() / 1e9;
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
    facts["isa"] = active_kernels().isa;
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
                         int activation, bool channels_last, bool double_precision) {
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
                                channels_last,
                                double_precision};
             }),
             py::kw_only(), py::arg("n"), py::arg("c"), py::arg("h"), py::arg("w"), py::arg("k"),
             py::arg("r"), py::arg("s"), py::arg("p"), py::arg("q"), py::arg("groups"),
             py::arg("stride_h"), py::arg("stride_w"), py::arg("dilation_h"), py::arg("dilation_w"),
             py::arg("pad_top"), py::arg("pad_left"), py::arg("pad_mode"), py::arg("activation"),
             py::arg("channels_last"), py::arg("double_precision"));
    module.def("conv2d", &conv2d, py::arg("problem"), py::arg("x"), py::arg("w"), py::arg("bias"),
               py::arg("out"), py::arg("threads"), py::arg("thread_bytes"));
    module.def("algorithm", &algorithm, py::arg("problem"), py::arg("threads"),
               py::arg("thread_bytes"));
    module.def("isa", [] { return active_kernels().isa; });
    module.def("build_facts", &build_facts);
    module.def("measure_peak", &measure_peak, py::arg("threads"), py::arg("double_precision"),
               py::arg("seconds"));
    module.def("parallel_probe", &probe, py::arg("tasks"), py::arg("threads"),
               py::arg("microseconds") = 0, py::arg("nested") = false);
    module.def("fail_next_allocations", &fail_next_allocations, py::arg("count"));
}
