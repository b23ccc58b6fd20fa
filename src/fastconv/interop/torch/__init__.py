"""fastconv for PyTorch: convolutions of tensors, and PyTorch's own computed by fastconv.

>>> import torch, fastconv.interop.torch as fct
>>> fct.conv2d(torch.ones(1, 3, 8, 8), torch.ones(4, 3, 3, 3)).shape
torch.Size([1, 4, 6, 6])
>>> with fct.override() as calls:
...     torch.nn.Conv2d(3, 4, 3)(torch.ones(1, 3, 8, 8)).shape
torch.Size([1, 4, 6, 6])
>>> calls.count
1
"""

from .checks import ConvolutionError
from .functional import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from .overriding import Calls, override

__all__ = [
    "Calls",
    "ConvolutionError",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "override",
]
