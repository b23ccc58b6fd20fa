// What the library finds here, and what tests look at it with.
#include <dlfcn.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cfenv>
#include <chrono>
#include <string>
#include <vector>

#include "capi/fastconv.h"
#include "cpu.hpp"
#include "parallel.hpp"
#include "parallel_probe.hpp"
#include "python/direct.hpp"
#include "python/module.hpp"
#include "workspace.hpp"

namespace fastconv {
namespace {

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

// The shared library that computes, as the loader has found it.
std::string library_path() {
    Dl_info found{};
    const auto address = reinterpret_cast<const void*>(&fastconv_run);
    return dladdr(address, &found) && found.dli_fname ? found.dli_fname : "unknown";
}

// Calls a function with the arithmetic that a process begins with: rounding to nearest, subnormals
// kept. The calling thread may be one of a library that changes it.
py::object in_default_arithmetic(const py::function& function, const py::args& arguments) {
    struct Kept {
        Kept() {
            std::fegetenv(&environment);
            std::fesetenv(FE_DFL_ENV);
        }
        ~Kept() { std::fesetenv(&environment); }
        Kept(const Kept&) = delete;
        Kept& operator=(const Kept&) = delete;

        std::fenv_t environment;
    };
    const Kept kept;
    return function(*arguments);
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
    facts["library"] = library_path();
    return facts;
}

}  // namespace

void bind_machine(py::module_& module) {
    module.def("isa", &active_isa);
    module.def("build_facts", &build_facts);
    module.def("measure_peak", &measure_peak, py::arg("threads"), py::arg("double_precision"),
               py::arg("seconds"));
    module.def("parallel_probe", &probe, py::arg("tasks"), py::arg("threads"),
               py::arg("microseconds") = 0, py::arg("nested") = false);
    module.def("in_default_arithmetic", &in_default_arithmetic, py::arg("function"));
    module.def("fail_next_allocations", &fail_next_allocations, py::arg("count"));
}

}  // namespace fastconv
