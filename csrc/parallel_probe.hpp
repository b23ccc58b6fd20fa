// What the tests look at parallel_for with: what it did with tasks that only pass the time.
#pragma once

#include "parallel.hpp"

namespace fastconv {

struct ParallelProbe {
    bool completed;          // not interrupted
    Index missed, repeated;  // tasks that did not run, runs beyond a task's first
    Index shared;            // tasks that met another one on their thread number
    Index threads;           // thread numbers that ran a task
    Index outside;           // thread numbers out of range, nested calls that left their thread
};

// Runs tasks of so many microseconds each; with `nested` each calls parallel_for once more.
FASTCONV_FOR_PYTHON ParallelProbe probe_parallel_for(Index tasks, int threads, Index microseconds,
                                                     bool nested, const Interrupt& interrupt);

}  // namespace fastconv
