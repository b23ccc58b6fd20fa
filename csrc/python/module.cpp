// The module `_native`. The files beside this one are the only ones that know Python: they view,
// check what memory safety needs, release the GIL and call.
#include "python/module.hpp"

#include "conv/algorithm.hpp"
#include "problem.hpp"

using namespace fastconv;

PYBIND11_MODULE(_native, module) {
    module.doc() = "fastconv's C++ kernels; use them through fastconv.conv2d.";
    py::class_<Whole>(module, "Whole")
        .def(py::init([](Index h, Index w, Index p, Index q, Index pad_top, Index pad_left) {
                 return Whole{h, w, p, q, pad_top, pad_left};
             }),
             py::kw_only(), py::arg("h") = 0, py::arg("w") = 0, py::arg("p") = 0, py::arg("q") = 0,
             py::arg("pad_top") = 0, py::arg("pad_left") = 0);
    py::class_<Problem>(module, "Problem")
        .def(py::init([](Index n, Index c, Index h, Index w, Index k, Index r, Index s, Index p,
                         Index q, Index groups, Index stride_h, Index stride_w, Index dilation_h,
                         Index dilation_w, Index pad_top, Index pad_left, int pad_mode,
                         int activation, int element, bool channels_last, Index d, Index t, Index o,
                         Index stride_d, Index dilation_d, Index pad_front, const Whole& whole) {
                 return Problem{n,
                                c,
                                h,
                                w,
                                k,
                                r,
                                s,
                                p,
                                q,
                                groups,
                                stride_h,
                                stride_w,
                                dilation_h,
                                dilation_w,
                                pad_top,
                                pad_left,
                                PadMode(pad_mode),
                                Activation(activation),
                                Element(element),
                                channels_last,
                                d,
                                t,
                                o,
                                stride_d,
                                dilation_d,
                                pad_front,
                                whole};
             }),
             py::kw_only(), py::arg("n"), py::arg("c"), py::arg("h"), py::arg("w"), py::arg("k"),
             py::arg("r"), py::arg("s"), py::arg("p"), py::arg("q"), py::arg("groups"),
             py::arg("stride_h"), py::arg("stride_w"), py::arg("dilation_h"), py::arg("dilation_w"),
             py::arg("pad_top"), py::arg("pad_left"), py::arg("pad_mode"), py::arg("activation"),
             py::arg("element"), py::arg("channels_last"), py::arg("d"), py::arg("t"), py::arg("o"),
             py::arg("stride_d"), py::arg("dilation_d"), py::arg("pad_front"), py::arg("whole"));
    py::class_<Resources>(module, "Resources")
        .def(py::init([](int threads, Index thread_bytes, bool fast) {
                 return Resources{threads, thread_bytes, fast};
             }),
             py::kw_only(), py::arg("threads"), py::arg("thread_bytes"), py::arg("fast"));
    bind_convolutions(module);
    bind_gradients(module);
    bind_others(module);
    bind_machine(module);
    bind_capsule(module);
}
