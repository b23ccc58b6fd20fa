// Scratch memory: aligned, kept by the thread for its next call, and failing as a status.
#pragma once

#include <cstddef>

#include "export.hpp"

namespace fastconv {

// Returns at least `bytes` of 64-byte aligned memory, or null. It belongs to the calling thread
// and stays valid until that thread asks again or ends; a much larger block than the thread's
// later calls need is given back. A call from inside parallel_for (a Python signal handler may
// convolve) gets another block than the call it interrupts.
void* thread_workspace(std::size_t bytes);

// Makes the next `count` requests of any thread fail, for tests.
FASTCONV_FOR_PYTHON void fail_next_allocations(int count);

}  // namespace fastconv
