#include "conv/complex_planes.hpp"

#include <algorithm>

#include "conv/tasks.hpp"

namespace fastconv {
namespace {

// Numbers of a task, and of one that is worth a thread: some microseconds.
constexpr Index kTask = 1 << 13, kThread = 1 << 14;

// Calls function(first number, first element of its row's planes, count) for pieces of rows.
template <class F>
Status for_pieces(const ComplexRows& rows, const Interrupt& interrupt, const F& function) {
    const Index tasks = (rows.elements + kTask - 1) / kTask;
    const int used = int(
        std::clamp<Index>(rows.elements / kThread, 1, std::max(1, threads_at_most(rows.threads))));
    const bool completed = parallel_for(
        tasks, used,
        [&](Index task, int) {
            const Index end = std::min(rows.elements, (task + 1) * kTask);
            for (Index at = task * kTask; at < end;) {
                const Index row = at / rows.length, column = at % rows.length;
                const Index count = std::min(rows.length - column, end - at);
                function(at, 3 * row * rows.length + column, count);
                at += count;
            }
        },
        interrupt);
    return completed ? Status::kOk : Status::kInterrupted;
}

}  // namespace

template <class T>
Status split_complex(const ComplexRows& rows, const T* numbers, bool conjugate, T* planes,
                     const Interrupt& interrupt) {
    const T sign = conjugate ? T(-1) : T(1);
    return for_pieces(rows, interrupt, [=](Index at, Index to, Index count) {
        const T* __restrict from = numbers + 2 * at;
        T* __restrict real = planes + to;
        T* __restrict imaginary = real + rows.length;
        T* __restrict sum = imaginary + rows.length;
        for (Index i = 0; i < count; ++i) {
            const T re = from[2 * i], im = sign * from[2 * i + 1];
            real[i] = re;
            imaginary[i] = im;
            sum[i] = re + im;
        }
    });
}

template <class T>
Status join_complex(const ComplexRows& rows, const T* planes, T* numbers,
                    const Interrupt& interrupt) {
    return for_pieces(rows, interrupt, [=](Index at, Index from, Index count) {
        const T* __restrict a = planes + from;
        const T* __restrict b = a + rows.length;
        const T* __restrict m = b + rows.length;
        T* __restrict to = numbers + 2 * at;
        for (Index i = 0; i < count; ++i) {
            to[2 * i] = a[i] - b[i];
            to[2 * i + 1] = m[i] - a[i] - b[i];
        }
    });
}

template Status split_complex(const ComplexRows&, const float*, bool, float*, const Interrupt&);
template Status split_complex(const ComplexRows&, const double*, bool, double*, const Interrupt&);
template Status join_complex(const ComplexRows&, const float*, float*, const Interrupt&);
template Status join_complex(const ComplexRows&, const double*, double*, const Interrupt&);

}  // namespace fastconv
