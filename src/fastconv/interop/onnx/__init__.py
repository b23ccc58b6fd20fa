"""fastconv under ONNX models: its convolutions in `onnx.reference.ReferenceEvaluator`.

`new_ops` are the operators that fastconv computes; whatever else is in a graph runs in ONNX's own
reference implementation. `Backend` is the same behind the interface of `onnx.backend.base`.

>>> import numpy as np, onnx.parser
>>> from fastconv.interop.onnx import Backend
>>> model = onnx.parser.parse_model('''
... <ir_version: 10, opset_import: ["": 22]>
... blur (float[n, 1, h, w] x) => (float[n, 1, p, q] y)
... <float[1, 1, 2, 2] kernel = {1, 1, 1, 1}> { y = Conv (x, kernel) }''')
>>> prepared = Backend.prepare(model)
>>> prepared.run([np.ones((1, 1, 3, 3), "float32")])[0][0, 0]
array([[4., 4.],
       [4., 4.]], dtype=float32)
"""

from .backend import Backend, BackendRep, Evaluator
from .nodes import new_ops

__all__ = ["Backend", "BackendRep", "Evaluator", "new_ops"]
