// The one place that knows OpenMP: dynamic scheduling, fork safety, interruption.
#pragma once

#include <functional>

#include "problem.hpp"

namespace fastconv {

// Called between tasks on the calling thread, at most every few dozen milliseconds; true stops.
using Interrupt = std::function<bool()>;

// Runs body(task, thread) for every task in [0, tasks), each once, on at most `threads` threads;
// `thread` is below `threads`. Tasks must not throw. Returns false if `interrupt` stopped it.
//
// In a forked child of a process that has used OpenMP its thread pool is gone, and waiting for it
// would hang: there the tasks run on threads made for the call.
bool parallel_for(Index tasks, int threads, const std::function<void(Index, int)>& body,
                  const Interrupt& interrupt);

// What the threads are: "OpenMP 4.5" or "std::thread".
const char* threading_layer();

}  // namespace fastconv
