#include "cpu.hpp"

#include <cstdlib>
#include <stdexcept>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fastconv {
namespace {

// What one instruction set adds to another may change the kernels of some types alone.
struct Candidate {
    const char* isa;
    const KernelTable& table;
    const StripTable& strips;
    const StripKernels<Bfloat16>* pairs;  // of bfloat16, for precision="fast"
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
bool has_avx512vnni() {
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
// Compilers differ in whether __builtin_cpu_supports knows these two.
bool has_avx512bf16() {
    constexpr unsigned kBfloat16 = 1 << 5;
    unsigned a, b, c, d;
    return has_avx512vnni() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & kBfloat16);
}
bool has_f16c() {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

const Candidate kCandidates[] = {
    {"avx512bf16", kKernelsAvx512, kStripsAvx512Vnni, &kPairsAvx512Bf16, has_avx512bf16},
    {"avx512vnni", kKernelsAvx512, kStripsAvx512Vnni, nullptr, has_avx512vnni},
    {"avx512", kKernelsAvx512, kStripsAvx512, nullptr, has_avx512},
    {"avx2", kKernelsAvx2, kStripsAvx2, nullptr, has_avx2},
    {"baseline", kKernelsBaseline, kStripsBaseline, nullptr, always},
};
#elif defined(__aarch64__)
const Candidate kCandidates[] = {{"neon", kKernelsNeon, kStripsNeon, nullptr, always}};
#else
const Candidate kCandidates[] = {{"baseline", kKernelsBaseline, kStripsBaseline, nullptr, always}};
#endif

const Candidate& choose() {
    const char* forced = std::getenv("FASTCONV_ISA");
    for (const Candidate& candidate : kCandidates) {
        const bool named = forced && *forced;
        if (named && candidate.isa != std::string(forced)) continue;
        if (candidate.runs_here()) return candidate;
        if (named) {
            throw std::runtime_error(std::string("FASTCONV_ISA=") + forced +
                                     " is forced, and this processor lacks it");
        }
    }
    throw std::runtime_error(std::string("FASTCONV_ISA=") + forced +
                             " names no instruction set of this build; choose from " +
                             compiled_isas());
}

const Candidate& active() {
    static const Candidate& choice = choose();  // a throwing choice is made anew by the next call
    return choice;
}

}  // namespace

const KernelTable& active_kernels() {
    return active().table;
}

const StripTable& active_strips() {
    return active().strips;
}

const char* active_isa() {
    return active().isa;
}

std::string compiled_isas() {
    std::string names;
    for (const Candidate& candidate : kCandidates) {
        names += (names.empty() ? "" : " ") + std::string(candidate.isa);
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

template <>
const StripKernels<std::int8_t>& strips_for<std::int8_t>() {
    return active().strips.i8;
}
template <>
const StripKernels<std::uint8_t>& strips_for<std::uint8_t>() {
    return active().strips.u8;
}
template <>
const StripKernels<std::int16_t>& strips_for<std::int16_t>() {
    return active().strips.i16;
}
template <>
const StripKernels<std::uint16_t>& strips_for<std::uint16_t>() {
    return active().strips.u16;
}
template <>
const StripKernels<Float16>& strips_for<Float16>() {
    return active().strips.f16;
}
template <>
const StripKernels<Bfloat16>& strips_for<Bfloat16>() {
    return active().strips.bf16;
}

template <>
const DepthwiseKernels<float>& depthwise_for<float>() {
    return active_kernels().f32.depthwise;
}
template <>
const DepthwiseKernels<double>& depthwise_for<double>() {
    return active_kernels().f64.depthwise;
}
template <>
const DepthwiseKernels<Float16>& depthwise_for<Float16>() {
    return active_kernels().depthwise_f16;
}
template <>
const DepthwiseKernels<Bfloat16>& depthwise_for<Bfloat16>() {
    return active_kernels().depthwise_bf16;
}
template <>
const DepthwiseKernels<std::int8_t>& depthwise_for<std::int8_t>() {
    return active().strips.depthwise_i8;
}
template <>
const DepthwiseKernels<std::uint8_t>& depthwise_for<std::uint8_t>() {
    return active().strips.depthwise_u8;
}
template <>
const DepthwiseKernels<std::int16_t>& depthwise_for<std::int16_t>() {
    return active().strips.depthwise_i16;
}
template <>
const DepthwiseKernels<std::uint16_t>& depthwise_for<std::uint16_t>() {
    return active().strips.depthwise_u16;
}

const StripKernels<Bfloat16>* bfloat16_pairs() {
    return active().pairs;
}

}  // namespace fastconv
