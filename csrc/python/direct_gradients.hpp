// The short ways from Python's arrays to gradients.
#pragma once

#include <initializer_list>
#include <memory>
#include <utility>

#include "conv/input_grad.hpp"
#include "conv/weight_grad.hpp"
#include "python/direct.hpp"

namespace fastconv {

// `out`, or a new array where it is None; null where `out` may not be written into, or lies in what
// is read.
template <class T>
py::object result_array(PyObject* out, const Index (&logical)[4], const Axes& axes, int rank,
                        const py::dtype& type, std::initializer_list<Extent> read) {
    if (out == Py_None) return new_array(logical, axes, rank, type);
    const NumpyArray* held = writeable_array<T>(out);
    if (!held) return {};
    const Extent written = extent(*held, sizeof(T));
    for (const Extent& each : read) {
        if (meet(written, each)) return {};
    }
    return py::reinterpret_borrow<py::object>(out);
}

template <class T>
class DirectWeightGrad final : public Direct {
  public:
    DirectWeightGrad(const Problem& problem, const Resources& resources, Form form, bool flipped)
        : problem_(problem),
          resources_(resources),
          form_(form),
          flipped_(flipped),
          algorithm_(choose_weight_grad<T>(problem)),
          result_type_(dtype_of<T>()) {
        const double sums =
            double(problem.k) * double(problem.c / problem.groups * problem.r * problem.s);
        macs_ = sums * double(problem.n) * double(problem.p * problem.q);
    }

    // There is no bias.
    py::object call(PyObject* x, PyObject* gy, PyObject* bias, PyObject* out) const override {
        const Problem& d = problem_;
        const Axes images = image_axes(form_), weights = weight_axes(form_);
        const Index gradient[4] = {d.k, d.c / d.groups, d.r, d.s};
        WeightGradOperands<T> arrays{};
        const NumpyArray* image = plain_array<T>(x);
        const NumpyArray* change = plain_array<T>(gy);
        if (bias != Py_None || !image || !change ||
            !logical_view<const T>(*image, form_.rank, images, {d.n, d.c, d.h, d.w}, arrays.x) ||
            !logical_view<const T>(*change, form_.rank, images, {d.n, d.k, d.p, d.q}, arrays.gy)) {
            return py::none();
        }
        const py::object result =
            result_array<T>(out, gradient, weights, weight_rank(form_), result_type_,
                            {extent(*image, sizeof(T)), extent(*change, sizeof(T))});
        if (!result || !logical_view<T>(*py::detail::array_proxy(result.ptr()), weight_rank(form_),
                                        weights, gradient, arrays.gw)) {
            return py::none();
        }
        if (flipped_) flip(arrays.gw, d.r, d.s);
        run_direct(macs_, [&](const Interrupt& interrupt) {
            return algorithm_.run(d, arrays, resources_, interrupt);
        });
        return result;
    }

  private:
    const Problem problem_;
    const Resources resources_;
    const Form form_;
    const bool flipped_;
    const WeightGradAlgorithm<T>& algorithm_;
    const py::dtype result_type_;
    double macs_;
};

// (gy, w, bias, out), or (gy, out) where `held` owns the memory of what is in `fixed`.
template <class T>
class DirectInputGrad final : public Direct {
  public:
    DirectInputGrad(const Problem& problem, const Resources& resources, Form form, bool flipped,
                    const InputGradOperands<T>& fixed, std::shared_ptr<const void> held)
        : problem_(problem),
          resources_(resources),
          form_(form),
          flipped_(flipped),
          algorithm_(choose_input_grad<T>(problem)),
          fixed_(fixed),
          held_(std::move(held)),
          result_type_(dtype_of<T>()) {
        const double changes = double(problem.k) * double(problem.p) * double(problem.q);
        macs_ = changes * double(problem.c / problem.groups * problem.r * problem.s);
        const double results = double(problem.c) * double(problem.h) * double(problem.w);
        most_images_ = Index(double(PTRDIFF_MAX) / 2 / (results * double(sizeof(T))));
    }

    py::object call(PyObject* gy, PyObject* w, PyObject* bias, PyObject* out) const override {
        Problem d = problem_;
        InputGradOperands<T> arrays = fixed_;
        const Axes images = image_axes(form_);
        const NumpyArray* change = plain_array<T>(gy);
        if (!change || change->nd != form_.rank) return py::none();
        if (held_ && images.at[0] == 0) d.n = change->dimensions[0];
        if (d.n < 1 || d.n > most_images_ ||
            !logical_view<const T>(*change, form_.rank, images, {d.n, d.k, d.p, d.q}, arrays.gy)) {
            return py::none();
        }
        Extent kernel{}, addend{};  // what a plan holds is nobody else's, and meets nothing
        if (!held_ && !take_weights(w, bias, arrays, kernel, addend)) return py::none();
        const Index gradient[4] = {d.n, d.c, d.h, d.w};
        const py::object result = result_array<T>(out, gradient, images, form_.rank, result_type_,
                                                  {extent(*change, sizeof(T)), kernel, addend});
        if (!result || !logical_view<T>(*py::detail::array_proxy(result.ptr()), form_.rank, images,
                                        gradient, arrays.gx)) {
            return py::none();
        }
        run_direct(macs_ * double(d.n), [&](const Interrupt& interrupt) {
            return algorithm_.run(d, arrays, resources_, interrupt);
        });
        return result;
    }

  private:
    bool take_weights(PyObject* w, PyObject* bias, InputGradOperands<T>& arrays, Extent& kernel,
                      Extent& addend) const {
        const Problem& d = problem_;
        const NumpyArray* weights = plain_array<T>(w);
        if (!weights || !logical_view<const T>(*weights, weight_rank(form_), weight_axes(form_),
                                               {d.k, d.c / d.groups, d.r, d.s}, arrays.w)) {
            return false;
        }
        if (flipped_) flip(arrays.w, d.r, d.s);
        kernel = extent(*weights, sizeof(T));
        if (bias == Py_None) return true;
        const NumpyArray* added = plain_array<T>(bias);
        if (!added || added->nd != 1 || added->dimensions[0] != d.c ||
            (d.c > 1 && added->strides[0] != Index(sizeof(T)))) {
            return false;
        }
        arrays.bias = reinterpret_cast<const T*>(added->data);
        addend = extent(*added, sizeof(T));
        return true;
    }

    const Problem problem_;
    const Resources resources_;
    const Form form_;
    const bool flipped_;
    const InputGradAlgorithm<T>& algorithm_;
    const InputGradOperands<T> fixed_;
    const std::shared_ptr<const void> held_;
    const py::dtype result_type_;
    double macs_;
    Index most_images_;
};

}  // namespace fastconv
