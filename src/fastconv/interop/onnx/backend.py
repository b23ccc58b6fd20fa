"""fastconv as a backend of ONNX: models and nodes, behind `onnx.backend.base`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx.backend.base
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops.op_batch_normalization import BatchNormalization_6, BatchNormalization_9

from ...errors import BackendUnsupported, ShapeError
from .nodes import new_ops
from .served import Served, freeze


class Evaluator(ReferenceEvaluator):  # type: ignore[misc]
    """ONNX's evaluator with `new_ops`, in functions and branches of the model as well.

    Arguments as of `onnx.reference.ReferenceEvaluator`; operators in `new_ops` come before ours.
    """

    def __init__(self, proto: Any, *args: Any, new_ops: Any = None, **kwargs: Any) -> None:
        super().__init__(proto, *args, new_ops=[*(new_ops or ()), *OPERATORS], **kwargs)
        if self.container_ is None:  # or they are the caller's
            for value in self.rt_inits_.values():
                freeze(value)

        for node in self.rt_nodes_:
            if node.op_type == "BatchNormalization" and len(node.output) == 1:
                self._as_trained(node)

    def _as_trained(self, node: Any) -> None:
        """Have a normalisation take the statistics it is given, as one output asks for.

        Of operator sets 7 to 13 the reference takes part of the batch's own (onnx/onnx#8442).
        """
        if isinstance(node, BatchNormalization_9):
            node.momentum = None
        elif isinstance(node, BatchNormalization_6) and self.opsets.get("", 0) >= 7:
            node.is_test = 1
            node.attributes_names_.add("is_test")

    def served(self) -> list[Served]:
        """Return the nodes that fastconv computes, those of branches included.

        ``node.calls_`` counts how often it did.
        """
        return list(_served(self))


OPERATORS = new_ops


def _served(evaluator: Any) -> Iterator[Served]:
    for node in evaluator.rt_nodes_:
        if isinstance(node, Served):
            yield node
        for value in vars(node).values():
            if isinstance(value, ReferenceEvaluator):
                yield from _served(value)


class BackendRep(onnx.backend.base.BackendRep):  # type: ignore[misc]
    """A model that is ready to run; made by `Backend.prepare`."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        names = list(evaluator.input_names)
        self._every = names
        self._needed = [name for name in names if name not in evaluator.rt_inits_]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Compute the model's outputs.

        Parameters
        ----------
        inputs : sequence of array, or mapping of names to arrays
            Initialisers that are inputs as well may be left out.

        Raises
        ------
        ShapeError, RuntimeError, TypeError
            Inputs are missing, or an operator refuses its own; the message names the node.
        """
        if not isinstance(inputs, Mapping):
            given = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
            names = self._every if len(given) == len(self._every) else self._needed
            if len(given) != len(names):
                raise ShapeError(
                    f"the model takes {len(names)} inputs ({', '.join(names)}), got {len(given)}"
                )
            inputs = dict(zip(names, given, strict=True))
        return tuple(self.evaluator.run(None, inputs))

    def served(self) -> list[Served]:
        """Return the nodes that fastconv computes; ``node.calls_`` counts how often it did."""
        return self.evaluator.served()


class Backend(onnx.backend.base.Backend):  # type: ignore[misc]
    """ONNX models on the processor: convolutions in fastconv, the rest in ONNX's own evaluator."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> BackendRep:
        """Check a model and make it ready.

        Raises
        ------
        BackendUnsupported
            Another device than the processor.
        onnx.checker.ValidationError, NotImplementedError
            The model is none, or has an operator that ONNX's evaluator lacks.
        """
        cls._check_device(device)
        super().prepare(model, device, **kwargs)
        return BackendRep(Evaluator(model))

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Compute one node; `inputs` are those that it names, in their order."""
        cls._check_device(device)
        super().run_node(node, inputs, device, outputs_info, **kwargs)
        names = [name for name in node.input if name]
        if len(inputs) != len(names):
            raise ShapeError(
                f"node {node.name!r}: {node.op_type} takes {len(names)} inputs "
                f"({', '.join(names)}), got {len(inputs)}"
            )
        return tuple(Evaluator(node).run(None, dict(zip(names, inputs, strict=True))))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Say whether there is such a device: the processor alone."""
        return device.partition(":")[0] == "CPU"

    @classmethod
    def _check_device(cls, device: str) -> None:
        if not cls.supports_device(device):
            raise BackendUnsupported(
                f"device={device!r}: models run on the processor; pass device='CPU'"
            )
