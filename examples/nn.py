"""Layers of a small network, each with `forward` and `backward`, in NumPy and fastconv.

A layer keeps what its gradient needs between the two calls. ``forward(x, training)`` returns y;
``backward(gy)`` returns the gradient of x and leaves those of the parameters in ``gradients``, in
the order of ``parameters``. Everything is float32, and random only through the generators given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import fastconv

Array = np.ndarray[Any, Any]


class Layer:
    """A function of one array; one without parameters unless it says otherwise."""

    def __init__(self) -> None:
        self.parameters: list[Array] = []
        self.gradients: list[Array] = []

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute the layer."""
        raise NotImplementedError

    def backward(self, gy: Array) -> Array:
        """Turn the gradient of the output into those of the input and the parameters."""
        raise NotImplementedError


class Conv(Layer):
    """A convolution with a bias; x (N, C, H, W). Weights are drawn as He et al. do."""

    def __init__(
        self, channels: int, kernels: int, size: int, rng: np.random.Generator, pad: Any = "same"
    ) -> None:
        super().__init__()
        spread = np.sqrt(2 / (channels * size * size))
        w = rng.standard_normal((kernels, channels, size, size)) * spread
        self.parameters = [w.astype("float32"), np.zeros(kernels, "float32")]
        self.pad = pad

    def forward(self, x: Array, training: bool = False) -> Array:
        """Convolve."""
        w, bias = self.parameters
        self.x = x
        return np.asarray(fastconv.conv2d(x, w, pad=self.pad, bias=bias))

    def backward(self, gy: Array) -> Array:
        """Three gradients: of the weights, the bias and the image."""
        w, _ = self.parameters
        self.gradients = [
            fastconv.conv2d_weight_grad(self.x, w.shape, gy, pad=self.pad),
            fastconv.conv2d_bias_grad(gy),
        ]
        return np.asarray(fastconv.conv2d_input_grad(self.x.shape, w, gy, pad=self.pad))


class Linear(Layer):
    """A dense layer with a bias; x (N, ...) is flattened."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        super().__init__()
        w = rng.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
        self.parameters = [w.astype("float32"), np.zeros(outputs, "float32")]

    def forward(self, x: Array, training: bool = False) -> Array:
        """Multiply."""
        w, bias = self.parameters
        self.shape, self.x = x.shape, x.reshape(len(x), -1)
        return np.asarray(self.x @ w + bias)

    def backward(self, gy: Array) -> Array:
        """The matrix product's two gradients, and the bias's."""
        self.gradients = [self.x.T @ gy, gy.sum(axis=0)]
        return np.asarray((gy @ self.parameters[0].T).reshape(self.shape))


class Relu(Layer):
    """max(x, 0)."""

    def forward(self, x: Array, training: bool = False) -> Array:
        """Keep what is positive."""
        self.positive = x > 0
        return x * self.positive

    def backward(self, gy: Array) -> Array:
        """Let the gradient through where x was positive."""
        return gy * self.positive


class MaxPool(Layer):
    """The largest of each 2 x 2 pixels; H and W must be even."""

    def forward(self, x: Array, training: bool = False) -> Array:
        """Take the largest, and note which of the four it is: the first one of equals."""
        n, c, h, w = self.shape = x.shape
        four = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5)
        four = four.reshape(n, c, h // 2, w // 2, 4)
        self.largest = four.argmax(axis=-1)[..., None]
        return np.take_along_axis(four, self.largest, axis=-1)[..., 0]

    def backward(self, gy: Array) -> Array:
        """Send each gradient to the pixel that was taken."""
        n, c, h, w = self.shape
        four = np.zeros((*gy.shape, 4), gy.dtype)
        np.put_along_axis(four, self.largest, gy[..., None], axis=-1)
        four = four.reshape(n, c, h // 2, w // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5)
        return np.ascontiguousarray(four.reshape(n, c, h, w))


class Dropout(Layer):
    """While training, a random `share` of the numbers is 0 and the others are scaled up."""

    def __init__(self, share: float, rng: np.random.Generator) -> None:
        super().__init__()
        self.share, self.rng = share, rng

    def forward(self, x: Array, training: bool = False) -> Array:
        """Drop, or do nothing outside of training."""
        if not training:
            return x
        kept = self.rng.random(x.shape, "float32") >= self.share
        self.scale = kept.astype(x.dtype) / (1 - self.share)
        return np.asarray(x * self.scale)

    def backward(self, gy: Array) -> Array:
        """Drop the same."""
        return np.asarray(gy * self.scale)


class Network:
    """Layers one after the other."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute all layers."""
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, gy: Array) -> Array:
        """Walk back through all layers."""
        for layer in reversed(self.layers):
            gy = layer.backward(gy)
        return gy

    def predict(self, x: Array, batch: int = 256) -> Array:
        """Name the class with the largest output of each image."""
        parts = [self.forward(x[i : i + batch]).argmax(axis=1) for i in range(0, len(x), batch)]
        return np.concatenate(parts)

    @property
    def parameters(self) -> list[Array]:
        """All parameters, to be changed in place."""
        return [p for layer in self.layers for p in layer.parameters]

    @property
    def gradients(self) -> list[Array]:
        """Their gradients, after `backward`."""
        return [g for layer in self.layers for g in layer.gradients]


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """Mean loss of a batch, and its gradient with respect to the logits (N, classes)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -float(np.mean(np.log(np.maximum(p[rows, labels], 1e-30))))
    p[rows, labels] -= 1
    return loss, p / len(labels)


def mean_squared_error(y: Array, target: Array) -> tuple[float, Array]:
    """Mean square of the difference, and its gradient with respect to y."""
    difference = y - target
    return float(np.mean(difference * difference)), difference * (2 / difference.size)


class SGD:
    """Stochastic gradient descent with momentum; weight decay is on weights, not on biases."""

    def __init__(
        self, parameters: list[Array], rate: float, momentum: float = 0.9, decay: float = 0.0
    ) -> None:
        self.parameters, self.rate, self.momentum, self.decay = parameters, rate, momentum, decay
        self.velocities = [np.zeros_like(p) for p in parameters]

    def step(self, gradients: list[Array]) -> None:
        """Move every parameter along its gradient, with the speed it has gathered."""
        for p, g, v in zip(self.parameters, gradients, self.velocities, strict=True):
            decayed = g + self.decay * p if self.decay and p.ndim > 1 else g
            v *= self.momentum
            v -= float(self.rate) * decayed
            p += v


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[Array]:
    """Cut a random order of `count` images into batches."""
    order = rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def train_epoch(
    network: Network, optimizer: SGD, x: Array, labels: Array, rng: np.random.Generator,
    batch: int = 32,
) -> float:  # fmt: skip
    """Show the network every image once; returns the mean loss."""
    total = 0.0
    for chosen in batches(len(x), batch, rng):
        loss, gradient = softmax_cross_entropy(network.forward(x[chosen], True), labels[chosen])
        network.backward(gradient)
        optimizer.step(network.gradients)
        total += loss * len(chosen)
    return total / len(x)
