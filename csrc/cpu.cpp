#include "cpu.hpp"

#include <cstdlib>
#include <stdexcept>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace fastconv {
namespace {

struct Candidate {
    const KernelTable& table;
    bool (*runs_here)();
};

bool always() {
    return true;
}

// Best first. __builtin_cpu_supports also asks whether the operating system saves the registers.
#if defined(__x86_64__)
bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("fma");
}
bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const Candidate kCandidates[] = {
    {kKernelsAvx512, has_avx512},
    {kKernelsAvx2, has_avx2},
    {kKernelsBaseline, always},
};
#elif defined(__aarch64__)
const Candidate kCandidates[] = {{kKernelsNeon, always}};
#else
const Candidate kCandidates[] = {{kKernelsBaseline, always}};
#endif

const KernelTable& choose() {
    const char* forced = std::getenv("FASTCONV_ISA");
    for (const Candidate& candidate : kCandidates) {
        const bool named = forced && *forced;
        if (named && candidate.table.isa != std::string(forced)) continue;
        if (candidate.runs_here()) return candidate.table;
        if (named) {
            throw std::runtime_error(std::string("FASTCONV_ISA=") + forced +
                                     " is forced, and this processor lacks it");
        }
    }
    throw std::runtime_error(std::string("FASTCONV_ISA=") + forced +
                             " names no instruction set of this build; choose from " +
                             compiled_isas());
}

}  // namespace

const KernelTable& active_kernels() {
    static const KernelTable& table = choose();  // a throwing choice is made anew by the next call
    return table;
}

std::string compiled_isas() {
    std::string names;
    for (const Candidate& candidate : kCandidates) {
        names += (names.empty() ? "" : " ") + std::string(candidate.table.isa);
    }
    return names;
}

Index second_level_cache_bytes() {
    Index bytes = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? bytes : Index(512) << 10;
}

template <>
const Kernels<float>& kernels_for<float>() {
    return active_kernels().f32;
}
template <>
const Kernels<double>& kernels_for<double>() {
    return active_kernels().f64;
}

}  // namespace fastconv
