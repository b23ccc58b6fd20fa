// The capsule of plain_calls.hpp.
#include "python/plain_calls.hpp"

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>

#include "conv/input_grad.hpp"
#include "conv/weight_grad.hpp"
#include "python/arguments.hpp"
#include "python/module.hpp"

namespace fastconv {
namespace {

enum class Computed { kY, kX, kW };

// Numbers of a call: what is computed, the fields of Problem and of Resources in their order, then
// offset, four strides and the stride of planes of each array, in elements.
constexpr int kProblemFields = 26, kResourceFields = 3, kViewFields = 6;
constexpr int kNumbers = 1 + kProblemFields + kResourceFields + 3 * kViewFields;

class Reader {
  public:
    explicit Reader(const std::int64_t* numbers) : next_(numbers) {}

    Index next() { return *next_++; }

  private:
    const std::int64_t* next_;
};

Problem read_problem(Reader& from) {
    const auto next = [&] { return from.next(); };
    // braces evaluate from left to right
    return Problem{
        next(),          next(),      next(), next(), next(),          next(),
        next(),          next(),      next(), next(), next(),          next(),
        next(),          next(),      next(), next(), PadMode(next()), Activation(next()),
        Element(next()), next() != 0, next(), next(), next(),          next(),
        next(),          next()};
}

// The view that the next numbers describe of an array.
template <class T>
View<T> read_view(Reader& from, const PlainArray& array, const Index (&shape)[4], Index planes) {
    const Index offset = from.next();
    View<T> view{static_cast<T*>(array.data) + offset, {}};
    Index low = offset, high = offset;
    const auto reach = [&](Index size, Index stride) {
        const Index last = (size - 1) * stride;
        (last < 0 ? low : high) += last;
        return stride;
    };
    for (int axis = 0; axis < 4; ++axis) view.stride[axis] = reach(shape[axis], from.next());
    view.plane = reach(planes, from.next());
    if (low < 0 || high >= array.bytes / Index(sizeof(T)) ||
        reinterpret_cast<std::uintptr_t>(array.data) % alignof(T) != 0) {
        throw std::invalid_argument("a view reaches beyond its array");
    }
    return view;
}

class Call {
  public:
    Call(const std::int64_t* numbers, const PlainArray (&arrays)[3])
        : from_(numbers),
          arrays_(arrays),
          computed_(Computed(from_.next())),
          problem_(read_problem(from_)),
          resources_{int(from_.next()), from_.next(), from_.next() != 0} {}

    Status run() {
        const auto body = [&](auto zero) { return run_as<decltype(zero)>(); };
        if (computed_ == Computed::kX) return with_float(problem_.element, body);
        if (computed_ == Computed::kW) return with_any_float(problem_.element, body);
        return with_element(problem_.element, body);
    }

  private:
    template <class T>
    Status run_as() {
        const Interrupt never;
        if (is_empty(problem_)) return Status::kOk;
        if (computed_ == Computed::kY) {
            const Operands<T> arrays{x<const T>(0), w<const T>(1), nullptr, nullptr,
                                     y<ResultOf<T>>(2)};
            return choose<T>(problem_, resources_.fast).run(problem_, arrays, resources_, never);
        }
        if constexpr (std::is_same_v<T, ResultOf<T>>) {
            if (computed_ == Computed::kW) {
                const WeightGradOperands<T> arrays{x<const T>(0), y<const T>(1), w<T>(2)};
                return choose_weight_grad<T>(problem_).run(problem_, arrays, resources_, never);
            }
        }
        if constexpr (std::is_floating_point_v<T>) {
            const InputGradOperands<T> arrays{y<const T>(0), w<const T>(1), nullptr, nullptr,
                                              x<T>(2)};
            return choose_input_grad<T>(problem_).run(problem_, arrays, resources_, never);
        }
        throw std::invalid_argument("no gradient of such numbers");
    }

    template <class T>
    View<T> x(int place) {
        const Problem& d = problem_;
        return read_view<T>(from_, arrays_[place], {d.n, d.c, d.h, d.w}, d.d);
    }
    template <class T>
    View<T> w(int place) {
        const Problem& d = problem_;
        return read_view<T>(from_, arrays_[place], {d.k, d.c / d.groups, d.r, d.s}, d.t);
    }
    template <class T>
    View<T> y(int place) {
        const Problem& d = problem_;
        return read_view<T>(from_, arrays_[place], {d.n, d.k, d.p, d.q}, d.o);
    }

    Reader from_;
    const PlainArray (&arrays_)[3];
    const Computed computed_;
    const Problem problem_;
    const Resources resources_;
};

PlainStatus run(const std::int64_t* numbers, const PlainArray (&arrays)[3]) {
    try {
        const Status status = Call(numbers, arrays).run();
        return status == Status::kOk ? PlainStatus::kOk : PlainStatus::kNoMemory;
    } catch (const std::invalid_argument&) {
        return PlainStatus::kDoesNotFit;
    } catch (const std::bad_alloc&) {
        return PlainStatus::kNoMemory;
    }
}

const PlainCalls kCalls{kPlainVersion, kNumbers, run};

}  // namespace

void bind_plain_calls(py::module_& module) {
    module.attr("plain_calls") = py::capsule(&kCalls, kPlainCalls);
}

}  // namespace fastconv
