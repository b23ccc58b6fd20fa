// NumPy arrays as views, read from NumPy's own structure: no Python call, no conversion, no copy.
#pragma once

#include <pybind11/gil_safe_call_once.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <type_traits>

#include "problem.hpp"

namespace fastconv {

using NumpyArray = pybind11::detail::PyArray_Proxy;

// The dtype that holds T.
template <class T>
pybind11::dtype dtype_of() {
    if constexpr (std::is_same_v<T, Float16>) {
        return pybind11::dtype("float16");
    } else if constexpr (std::is_same_v<T, Bfloat16>) {
        return pybind11::dtype::from_args(pybind11::module_::import("ml_dtypes").attr("bfloat16"));
    } else {
        return pybind11::dtype::of<T>();
    }
}

// NumPy's number for T. bfloat16 is none of NumPy's own types and gets one when it is registered.
template <class T>
int type_number() {
    if constexpr (std::is_same_v<T, Bfloat16>) {
        // importing lets go of the GIL, which a static's own lock must not wait for
        PYBIND11_CONSTINIT static pybind11::gil_safe_call_once_and_store<int> number;
        return number.call_once_and_store_result([] { return dtype_of<T>().num(); }).get_stored();
    } else if constexpr (std::is_same_v<T, Float16>) {
        return 23;  // NPY_HALF, which pybind11 does not name
    } else {
        return pybind11::detail::npy_format_descriptor<T>::value;
    }
}

// How the caller holds images of `spatial` axes, one or two: with two axes more, one (one image) or
// none (one channel of it).
struct Form {
    int rank;
    int spatial;
    bool channels_last;
};

// Where the logical axes stand in the caller's array; -1: nowhere, there is only index 0.
struct Axes {
    int at[4];
};

inline Axes image_axes(Form form) {
    const bool channels = form.rank > form.spatial;
    const int image = form.rank - form.spatial - (form.channels_last ? 1 : 0);
    Axes axes{{form.rank == form.spatial + 2 ? 0 : -1, -1, -1, image + form.spatial - 1}};
    if (channels) axes.at[1] = form.channels_last ? form.rank - 1 : image - 1;
    if (form.spatial == 2) axes.at[2] = image;
    return axes;
}

inline int weight_rank(Form form) {
    return form.rank == form.spatial ? form.spatial : form.spatial + 2;
}

inline Axes weight_axes(Form form) {
    return image_axes({weight_rank(form), form.spatial, false});
}

// The array behind `object`, or null: unless it is of NumPy's own class (no subclass), holds T in
// native byte order, aligned and in whole steps. Python converts what is refused here.
template <class T>
const NumpyArray* plain_array(PyObject* object) {
    using namespace pybind11::detail;
    const npy_api& api = npy_api::get();
    if (Py_TYPE(object) != api.PyArray_Type_) return nullptr;
    const NumpyArray* array = array_proxy(object);
    const auto* type = array_descriptor_proxy(array->descr);
    const bool native = type->byteorder == '=' || type->byteorder == '|';
    if (type->type_num != type_number<std::remove_const_t<T>>() || !native ||
        !(array->flags & npy_api::NPY_ARRAY_ALIGNED_)) {
        return nullptr;
    }
    for (int axis = 0; axis < array->nd; ++axis) {
        if (array->strides[axis] % Index(sizeof(T)) != 0) return nullptr;
    }
    return array;
}

inline bool is_writeable(const NumpyArray& array) {
    return (array.flags & pybind11::detail::npy_api::NPY_ARRAY_WRITEABLE_) != 0;
}

// The logical view of a plain array; false unless it has exactly this logical shape.
template <class T>
bool logical_view(const NumpyArray& array, int rank, const Axes& axes, const Index (&shape)[4],
                  View<T>& view) {
    if (array.nd != rank) return false;
    view.data = reinterpret_cast<T*>(array.data);
    for (int axis = 0; axis < 4; ++axis) {
        const int held = axes.at[axis];
        if ((held < 0 ? 1 : array.dimensions[held]) != shape[axis]) return false;
        view.stride[axis] = held < 0 ? 0 : array.strides[held] / Index(sizeof(T));
    }
    return true;
}

// Turns the kernel by 180 degrees.
template <class T>
void flip(View<T>& view, Index r, Index s) {
    view.data += (r - 1) * view.stride[2] + (s - 1) * view.stride[3];
    view.stride[2] = -view.stride[2];
    view.stride[3] = -view.stride[3];
}

// Whether the address ranges of two non-empty arrays meet: what numpy.may_share_memory says.
struct Extent {
    std::intptr_t begin, end;
};

inline Extent extent(const NumpyArray& array, Index item) {
    Extent found{reinterpret_cast<std::intptr_t>(array.data),
                 reinterpret_cast<std::intptr_t>(array.data) + item};
    for (int axis = 0; axis < array.nd; ++axis) {
        const Index reach = (array.dimensions[axis] - 1) * array.strides[axis];
        (reach < 0 ? found.begin : found.end) += reach;
    }
    return found;
}

inline bool meet(const Extent& a, const Extent& b) {
    return a.begin < b.end && b.begin < a.end;
}

}  // namespace fastconv
