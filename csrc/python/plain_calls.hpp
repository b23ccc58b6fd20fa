// A convolution by plain numbers and pointers, for extensions beside `_native`: they include this
// file alone, link nothing and find the functions in the capsule `fastconv._native.plain_calls`.
#pragma once

#include <cstdint>

namespace fastconv {

struct PlainArray {
    void* data;
    std::int64_t bytes;
};

enum class PlainStatus : int { kOk, kNoMemory, kDoesNotFit };

struct PlainCalls {
    std::int64_t version;
    std::int64_t numbers;  // that describe a call: fastconv.backends.native.plain_call
    // Computes, on this thread and the pool's, without Python and without the GIL. Arrays are both
    // operands and the result; what the numbers would reach beyond them does not fit.
    PlainStatus (*run)(const std::int64_t* numbers, const PlainArray (&arrays)[3]);
};

constexpr std::int64_t kPlainVersion = 1;
constexpr char kPlainCalls[] = "fastconv._native.plain_calls";

}  // namespace fastconv
