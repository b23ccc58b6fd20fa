// Memory of large results. Memory from the system costs several times what a small kernel computes
// in it, page by page; the C library keeps what is freed for the next allocation, but not blocks of
// more than 32 MiB (glibc). One such block is kept here.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>

namespace fastconv {

// Results from this size on come from here; freed blocks up to the other are kept.
constexpr std::size_t kLargeResult = std::size_t(32) << 20;
constexpr std::size_t kLargestKept = std::size_t(128) << 20;

// While it lives, the calling thread's new NumPy arrays have their data from here (NEP 49): they
// own it as any other, and give it back when they are deleted. A program that has chosen a handler
// itself keeps it.
class LargeResults {
  public:
    LargeResults();
    ~LargeResults();
    LargeResults(const LargeResults&) = delete;
    LargeResults& operator=(const LargeResults&) = delete;

  private:
    PyObject* previous_;
};

}  // namespace fastconv
