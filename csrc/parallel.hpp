// The one place that knows threads: dynamic scheduling, fork safety, interruption.
#pragma once

#include <functional>

#include "problem.hpp"

namespace fastconv {

// Called between tasks on the calling thread, at most every few dozen milliseconds; true stops.
using Interrupt = std::function<bool()>;

// A reference to any callable void(Index task, int thread), which must outlive it.
class TaskBody {
  public:
    template <class F>
    TaskBody(const F& body)
        : body_(&body), call_([](const void* object, Index task, int thread) {
              (*static_cast<const F*>(object))(task, thread);
          }) {}

    void operator()(Index task, int thread) const { call_(body_, task, thread); }

  private:
    const void* body_;
    void (*call_)(const void*, Index, int);
};

// Runs body(task, thread) for every task in [0, tasks), each once, on the calling thread (0) and
// those of the process's pool that are free, at most `threads` in all; `thread` is below `threads`
// and no two that run at the same time share it. Returns when the tasks are done: a thread that
// comes too late to get one is not waited for. Tasks must not throw. Returns false if `interrupt`
// stopped it.
//
// Called from inside a task or from `interrupt`, it runs serially. A forked child makes a pool of
// its own; if `interrupt` itself forks, the child runs all tasks again.
FASTCONV_FOR_PYTHON bool parallel_for(Index tasks, int threads, TaskBody body,
                                      const Interrupt& interrupt);

// How many calls of parallel_for the calling thread is in.
int parallel_depth();

// What the threads are, for reports.
FASTCONV_FOR_PYTHON const char* threading_layer();

}  // namespace fastconv
