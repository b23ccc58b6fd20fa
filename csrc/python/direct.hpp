// The short way from Python's arrays to an algorithm, for calls that need no conversion.
#pragma once

#include <algorithm>
#include <memory>
#include <new>
#include <utility>

#include "conv/algorithm.hpp"
#include "python/arrays.hpp"
#include "python/result_memory.hpp"

namespace fastconv {

namespace py = pybind11;

// Runs `work`, which throws nothing, without the GIL. Unlike py::gil_scoped_release it takes the
// GIL back outside a destructor: at the end of the process Python ends a daemon thread there by
// pthread_exit, which may unwind a function but not a destructor.
template <class Work>
void without_gil(const Work& work) {
    PyThreadState* const state = PyEval_SaveThread();
    work();
    PyEval_RestoreThread(state);
}

// True when a signal handler raised; the exception stays set and is thrown after the loop.
inline bool interrupted() {
    py::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
}

inline void throw_unless_ok(Status status) {
    if (status == Status::kInterrupted) throw py::error_already_set();
    if (status == Status::kNoMemory) throw std::bad_alloc();
}

// The usual call: arrays as the caller holds them that need no conversion and no explanation of
// what is wrong with them. It serves, or declines by returning None and having done nothing; then
// Python looks again, converts, or explains.
class Direct {
  public:
    virtual ~Direct() = default;
    // `w` and `bias` are null where packed weights stand for them; `out` may be None.
    virtual py::object call(PyObject* x, PyObject* w, PyObject* bias, PyObject* out) const = 0;
};

// A new array of `rank` axes, which `axes` finds among the logical ones.
inline py::object new_array(const Index (&logical)[4], const Axes& axes, int rank,
                            const py::dtype& type) {
    Py_intptr_t shape[4] = {};
    double bytes = double(type.itemsize());
    for (int axis = 0; axis < 4; ++axis) {
        bytes *= double(logical[axis]);
        if (axes.at[axis] >= 0) shape[axes.at[axis]] = logical[axis];
    }
    const auto make = [&] {
        const auto& api = py::detail::npy_api::get();
        PyObject* array =
            api.PyArray_NewFromDescr_(api.PyArray_Type_, py::dtype(type).release().ptr(), rank,
                                      shape, nullptr, nullptr, 0, nullptr);
        if (!array) throw py::error_already_set();
        return py::reinterpret_steal<py::object>(array);
    };
    if (bytes < double(kLargeResult)) return make();
    const LargeResults memory;
    return make();
}

// Whether `out` may be written into at all.
template <class T>
const NumpyArray* writeable_array(PyObject* out) {
    const NumpyArray* held = plain_array<T>(out);
    if (!held || !is_writeable(*held)) return nullptr;
    for (int axis = 0; axis < held->nd; ++axis) {
        if (held->dimensions[axis] < 1) return nullptr;
    }
    return held;
}

// Runs `work` with a function that tells interruptions; what takes less than a few microseconds
// keeps the GIL: other threads may as well wait.
template <class Work>
void run_direct(double macs, const Work& work) {
    constexpr double kBrief = 1 << 16;
    Status status;
    if (macs < kBrief) {
        status = work(Interrupt{});
    } else {
        without_gil([&] { status = work(Interrupt{interrupted}); });
    }
    throw_unless_ok(status);
}

template <class T>
class DirectConvolution final : public Direct {
  public:
    using Out = ResultOf<T>;

    // `held`, where there is one, owns the memory of weights, bias and packed form in `fixed`.
    // `pixel` is what x may hold besides T.
    DirectConvolution(const Problem& problem, const Resources& resources, Form form, bool flipped,
                      Element pixel, const Operands<T>& fixed, std::shared_ptr<const void> held)
        : problem_(problem),
          resources_(resources),
          form_(form),
          flipped_(flipped),
          algorithm_(choose<T>(problem, resources.fast)),
          pixel_(std::is_floating_point_v<T> ? pixel : kElementOf<T>),
          fixed_(fixed),
          held_(std::move(held)),
          result_type_(dtype_of<Out>()) {
        const double outputs = double(problem.k) * double(problem.p) * double(problem.q);
        const double terms = double(problem.c / problem.groups * problem.r * problem.s);
        work_ = outputs * (terms + kWorkPerOutput);
        most_images_ = Index(double(PTRDIFF_MAX) / 2 / (outputs * double(sizeof(Out))));
    }

    py::object call(PyObject* x, PyObject* w, PyObject* bias, PyObject* out) const override {
        Problem problem = problem_;
        Operands<T> arrays = fixed_;
        Extent read;
        py::object converted;
        if (!take_image<T>(x, problem, arrays, read)) {
            if (!take_pixels(x, problem, arrays, read)) return py::none();
            if (!algorithm_.converts) {
                converted = py::handle(x).attr("astype")(dtype_of<T>());
                if (!take_image<T>(converted.ptr(), problem, arrays, read)) return py::none();
            }
        }
        if (!held_ && !take_weights(w, bias, arrays)) return py::none();
        py::object result = py::reinterpret_borrow<py::object>(out);
        if (result.is_none()) {
            result = new_array({problem.n, problem.k, problem.p, problem.q}, image_axes(form_),
                               form_.rank, result_type_);
        } else if (!may_hold_result(out, read, w, bias)) {
            return py::none();
        }
        const NumpyArray& held = *py::detail::array_proxy(result.ptr());
        if (!logical_view<Out>(held, form_.rank, image_axes(form_),
                               {problem.n, problem.k, problem.p, problem.q}, arrays.y)) {
            return py::none();
        }
        run_direct(work_ * double(problem.n), [&](const Interrupt& interrupt) {
            return algorithm_.run(problem, arrays, resources_, interrupt);
        });
        return result;
    }

  private:
    // An output costs at least this many multiply-adds: loops, bias, activation.
    static constexpr double kWorkPerOutput = 32;

    // Takes x if it holds S and has the problem's shape, n aside.
    template <class S>
    bool take_image(PyObject* x, Problem& problem, Operands<T>& arrays, Extent& read) const {
        const NumpyArray* image = plain_array<S>(x);
        if (!image || image->nd != form_.rank) return false;
        if (image_axes(form_).at[0] == 0) problem.n = image->dimensions[0];
        if (problem.n < 1 || problem.n > most_images_) return false;
        View<const S> view;
        if (!logical_view<const S>(*image, form_.rank, image_axes(form_),
                                   {problem.n, problem.c, problem.h, problem.w}, view)) {
            return false;
        }
        arrays.x.data = reinterpret_cast<const T*>(view.data);
        std::copy(view.stride, view.stride + 4, arrays.x.stride);
        arrays.pixel = kElementOf<S>;
        read = extent(*image, sizeof(S));
        return true;
    }

    // The same for an x of other numbers, all of which T holds.
    bool take_pixels(PyObject* x, Problem& problem, Operands<T>& arrays, Extent& read) const {
        if (pixel_ == kElementOf<T>) return false;
        switch (pixel_) {
            case Element::kUint8:
                return take_image<std::uint8_t>(x, problem, arrays, read);
            case Element::kInt8:
                return take_image<std::int8_t>(x, problem, arrays, read);
            case Element::kUint16:
                return take_image<std::uint16_t>(x, problem, arrays, read);
            case Element::kInt16:
                return take_image<std::int16_t>(x, problem, arrays, read);
            case Element::kFloat32:
                return take_image<float>(x, problem, arrays, read);
            default:
                return false;
        }
    }

    bool take_weights(PyObject* w, PyObject* bias, Operands<T>& arrays) const {
        const NumpyArray* kernel = plain_array<T>(w);
        const Problem& d = problem_;
        if (!kernel || !logical_view<const T>(*kernel, weight_rank(form_), weight_axes(form_),
                                              {d.k, d.c / d.groups, d.r, d.s}, arrays.w)) {
            return false;
        }
        if (flipped_) flip(arrays.w, d.r, d.s);
        if (bias == Py_None) return true;
        const NumpyArray* addend = plain_array<Out>(bias);
        if (!addend || addend->nd != 1 || addend->dimensions[0] != d.k ||
            (d.k > 1 && addend->strides[0] != Index(sizeof(Out)))) {
            return false;
        }
        arrays.bias = reinterpret_cast<const Out*>(addend->data);
        return true;
    }

    bool may_hold_result(PyObject* out, const Extent& read, PyObject* w, PyObject* bias) const {
        const NumpyArray* held = writeable_array<Out>(out);
        if (!held) return false;
        const Extent written = extent(*held, sizeof(Out));
        if (meet(written, read)) return false;
        if (held_) return true;  // nobody else has its memory
        if (meet(written, extent(*py::detail::array_proxy(w), sizeof(T)))) return false;
        return bias == Py_None ||
               !meet(written, extent(*py::detail::array_proxy(bias), sizeof(Out)));
    }

    const Problem problem_;
    const Resources resources_;
    const Form form_;
    const bool flipped_;
    const Algorithm<T>& algorithm_;
    const Element pixel_;
    const Operands<T> fixed_;
    const std::shared_ptr<const void> held_;
    const py::dtype result_type_;
    double work_;
    Index most_images_;
};

constexpr char kDirect[] = "fastconv.Direct";

// Python's calling convention itself: pybind11's costs more than a small convolution.
template <int kCount>
PyObject* call_direct(PyObject* capsule, PyObject* const* arguments, Py_ssize_t count) {
    if (count != kCount) {
        return PyErr_Format(PyExc_TypeError, "takes %d arguments, got %zd", kCount, count);
    }
    const auto* direct = static_cast<const Direct*>(PyCapsule_GetPointer(capsule, kDirect));
    if (!direct) return nullptr;
    try {
        PyObject* const w = kCount == 4 ? arguments[1] : nullptr;
        PyObject* const bias = kCount == 4 ? arguments[2] : nullptr;
        return direct->call(arguments[0], w, bias, arguments[kCount - 1]).release().ptr();
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
}

// The Python function over `direct`: (x, w, bias, out), or (x, out) where weights are packed.
inline py::object direct_function(std::unique_ptr<Direct> direct, bool packed) {
    static PyMethodDef with_weights = {
        "direct", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&call_direct<4>)),
        METH_FASTCALL, "direct(x, w, bias, out) -> result or None"};
    static PyMethodDef with_packed = {
        "direct", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&call_direct<2>)),
        METH_FASTCALL, "direct(x, out) -> result or None"};
    const py::capsule capsule(direct.release(), kDirect, [](PyObject* held) {
        delete static_cast<Direct*>(PyCapsule_GetPointer(held, kDirect));
    });
    PyObject* function = PyCFunction_New(packed ? &with_packed : &with_weights, capsule.ptr());
    if (!function) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(function);
}

}  // namespace fastconv
