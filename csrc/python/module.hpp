// The parts of the module `_native`, one a source file.
#pragma once

#include <pybind11/pybind11.h>

namespace fastconv {

namespace py = pybind11;

void bind_convolutions(py::module_& module);
void bind_gradients(py::module_& module);
void bind_others(py::module_& module);
void bind_machine(py::module_& module);
void bind_capsule(py::module_& module);

}  // namespace fastconv
