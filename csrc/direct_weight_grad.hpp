// The short way from Python's arrays to the gradient of w.
#pragma once

#include "conv/weight_grad.hpp"
#include "direct.hpp"

namespace fastconv {

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
        py::object result = py::reinterpret_borrow<py::object>(out);
        if (result.is_none()) {
            result = new_array(gradient, weights, weight_rank(form_), result_type_);
        } else if (const NumpyArray* held = writeable_array<T>(out)) {
            const Extent written = extent(*held, sizeof(T));
            if (meet(written, extent(*image, sizeof(T))) ||
                meet(written, extent(*change, sizeof(T)))) {
                return py::none();
            }
        } else {
            return py::none();
        }
        if (!logical_view<T>(*py::detail::array_proxy(result.ptr()), weight_rank(form_), weights,
                             gradient, arrays.gw)) {
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

}  // namespace fastconv
