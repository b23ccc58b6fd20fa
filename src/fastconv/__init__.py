"""fastconv: fast, exact and deterministic convolution for NumPy and CuPy arrays.

>>> import numpy as np, fastconv
>>> fastconv.conv2d(np.ones((1, 3, 8, 8)), np.ones((4, 3, 3, 3)), stride=1, pad="same").shape
(1, 4, 8, 8)
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._config import (
    available_backends,
    get_cmake_dir,
    get_include,
    get_pkgconfig_dir,
    show_config,
)
from .api import conv2d, conv_cost, explain, output_shape
from .errors import (
    BackendUnavailable,
    BackendUnsupported,
    DTypeError,
    FastconvError,
    GradientError,
    OutputError,
    ResumeError,
    ShapeError,
    SizeError,
)
from .explanation import Explanation
from .options import options
from .plan import Conv2dPlan, plan_conv2d
from .problem import ConvProblem, Cost

if TYPE_CHECKING:  # the operators, imported when one of them is first asked for
    from .interop.blocks import conv2d_blocks
    from .operators.deform import deform_conv2d
    from .operators.depthwise import depthwise_conv2d, separable_conv2d
    from .operators.filters import convolve2d, correlate2d
    from .operators.forward import conv1d, conv3d
    from .operators.gradients import (
        conv1d_bias_grad,
        conv1d_input_grad,
        conv1d_weight_grad,
        conv2d_bias_grad,
        conv2d_input_grad,
        conv2d_weight_grad,
        conv3d_bias_grad,
        conv3d_input_grad,
        conv3d_weight_grad,
    )
    from .operators.per_sample import (
        conv2d_per_sample,
        conv2d_per_sample_input_grad,
        conv2d_per_sample_weight_grad,
    )
    from .operators.quantised import conv2d_integer, qlinear_conv2d
    from .operators.together import Gradients, conv1d_grads, conv2d_grads, conv3d_grads
    from .operators.transposed import (
        conv_transpose1d,
        conv_transpose1d_input_grad,
        conv_transpose1d_weight_grad,
        conv_transpose2d,
        conv_transpose2d_input_grad,
        conv_transpose2d_weight_grad,
        conv_transpose3d,
        conv_transpose3d_input_grad,
        conv_transpose3d_weight_grad,
    )
    from .operators.unfold import col2im, im2col, im2col_view

__all__ = [
    "BackendUnavailable",
    "BackendUnsupported",
    "Conv2dPlan",
    "ConvProblem",
    "Cost",
    "DTypeError",
    "Explanation",
    "FastconvError",
    "GradientError",
    "Gradients",
    "OutputError",
    "ResumeError",
    "ShapeError",
    "SizeError",
    "__version__",
    "available_backends",
    "col2im",
    "conv1d",
    "conv1d_bias_grad",
    "conv1d_grads",
    "conv1d_input_grad",
    "conv1d_weight_grad",
    "conv2d",
    "conv2d_bias_grad",
    "conv2d_blocks",
    "conv2d_grads",
    "conv2d_input_grad",
    "conv2d_integer",
    "conv2d_per_sample",
    "conv2d_per_sample_input_grad",
    "conv2d_per_sample_weight_grad",
    "conv2d_weight_grad",
    "conv3d",
    "conv3d_bias_grad",
    "conv3d_grads",
    "conv3d_input_grad",
    "conv3d_weight_grad",
    "conv_cost",
    "conv_transpose1d",
    "conv_transpose1d_input_grad",
    "conv_transpose1d_weight_grad",
    "conv_transpose2d",
    "conv_transpose2d_input_grad",
    "conv_transpose2d_weight_grad",
    "conv_transpose3d",
    "conv_transpose3d_input_grad",
    "conv_transpose3d_weight_grad",
    "convolve2d",
    "correlate2d",
    "deform_conv2d",
    "depthwise_conv2d",
    "explain",
    "get_cmake_dir",
    "get_include",
    "get_pkgconfig_dir",
    "im2col",
    "im2col_view",
    "options",
    "output_shape",
    "plan_conv2d",
    "qlinear_conv2d",
    "separable_conv2d",
    "show_config",
]


#: Where the operators are defined: module, names.
_OPERATORS = {
    "deform": "deform_conv2d",
    "depthwise": "depthwise_conv2d separable_conv2d",
    "filters": "convolve2d correlate2d",
    "forward": "conv1d conv3d",
    "gradients": """
        conv1d_bias_grad conv1d_input_grad conv1d_weight_grad conv2d_bias_grad
        conv2d_input_grad conv2d_weight_grad conv3d_bias_grad conv3d_input_grad
        conv3d_weight_grad
    """,
    "per_sample": "conv2d_per_sample conv2d_per_sample_input_grad conv2d_per_sample_weight_grad",
    "quantised": "conv2d_integer qlinear_conv2d",
    "together": "Gradients conv1d_grads conv2d_grads conv3d_grads",
    "transposed": """
        conv_transpose1d conv_transpose1d_input_grad conv_transpose1d_weight_grad
        conv_transpose2d conv_transpose2d_input_grad conv_transpose2d_weight_grad
        conv_transpose3d conv_transpose3d_input_grad conv_transpose3d_weight_grad
    """,
    "unfold": "col2im im2col im2col_view",
}
_MODULES = {
    name: f"operators.{module}" for module, names in _OPERATORS.items() for name in names.split()
}
_MODULES["conv2d_blocks"] = "interop.blocks"


def __getattr__(name: str) -> Any:
    """Look up what few ask for only when they do: importing it all takes milliseconds."""
    if name in _MODULES:
        module = importlib.import_module(f".{_MODULES[name]}", __name__)
        found = globals()[name] = getattr(module, name)
        return found
    if name == "__version__":
        from ._config import version

        return version()
    if name == "_C_API":  # what PyCapsule_Import asks for
        from ._config import c_api

        return c_api()
    if name == "grad":
        return importlib.import_module(".grad", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what is there, and what would be once it is asked for."""
    return sorted({*globals(), *__all__, "grad"})
