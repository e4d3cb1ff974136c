"""Records what MONAI, PyTorch and scikit-learn compute on seeded random cases, as oracles for the tests.

Writes tests/oracles/{segmentation,classification,regression}.npz: inputs, values and gradients, with the
versions of the packages that computed them. The tests read these files and need none of the packages. Nothing
of jaxexp is imported: an oracle that ran the code under test would agree with it. To rebuild, in an
environment of its own:

    python -m venv oracles && . oracles/bin/activate
    pip install torch==2.13.0 monai scikit-learn numpy    # the `oracle` extra of pyproject.toml
    python scripts/record_oracles.py
"""

import argparse
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from monai.losses.dice import DiceLoss, GeneralizedDiceLoss
from monai.losses.focal_loss import FocalLoss
from sklearn import metrics

PACKAGES = ("torch", "monai", "scikit-learn", "numpy")
FOLDER = Path(__file__).resolve().parents[1] / "tests" / "oracles"

Arrays = dict[str, np.ndarray]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def main() -> None:
    """Writes the three files."""
    parser = argparse.ArgumentParser(description="Record the oracles of the loss tests.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (default: tests/oracles)")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    versions = np.array([f"{package} {version(package)}" for package in PACKAGES])
    for name, record in {
        "segmentation": segmentation(),
        "classification": classification(),
        "regression": regression(),
    }.items():
        np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, versions=versions, **record)
        print(f"{folder / name}.npz: {len(record)} arrays")


def segmentation() -> Arrays:
    """Returns Dice losses and their gradients, in 1 to 3 dimensions.

    Class 0 is about half of the voxels, class 3 is absent from the first image, class 2 from the second and
    class 4 from all; the third image has one class only. In the cases called blank all is background. Masks may
    overlap, and all of one image and one of another are empty.
    """
    random = np.random.default_rng(20240501)
    arrays: Arrays = {}
    for name, spatial in {"line": (9,), "image": (4, 5), "volume": (3, 2, 4)}.items():
        labels = np.where(random.random((3, *spatial)) < 0.5, 0, random.integers(0, 4, (3, *spatial)))
        labels[0][labels[0] == 3] = 1
        labels[1][labels[1] == 2] = 0
        labels[2] = 1
        logits = 2 * random.normal(size=(3, *spatial, 5))
        arrays |= {f"{name}.logits": logits, f"{name}.labels": labels.astype(np.int8)}
        truth = np.eye(5)[labels]
        arrays |= _judged(name, _exclusive_losses(), logits, truth)
        predicted = logits.argmax(-1).ravel()
        score = metrics.f1_score(labels.ravel(), predicted, labels=[1, 2, 3, 4], average="micro")
        arrays[f"{name}.foreground_dice"] = np.array(score)
    for name, spatial in {"masks": (5, 4), "masks_line": (9,), "masks_volume": (3, 2, 4)}.items():
        masks = (random.random((3, *spatial, 2)) < 0.4).astype(float)
        masks[0, ..., 0] = 0
        masks[1] = 0
        logits = random.normal(size=masks.shape)
        arrays |= {f"{name}.logits": logits, f"{name}.labels": masks.astype(np.int8)}
        arrays |= _judged(name, _mask_losses(), logits, masks)
    for name, spatial in {"blank_line": (9,), "blank_image": (4, 5), "blank_volume": (3, 2, 4)}.items():
        labels, logits = np.zeros((3, *spatial), int), 2 * random.normal(size=(3, *spatial, 5))
        arrays |= {f"{name}.logits": logits, f"{name}.labels": labels.astype(np.int8)}
        arrays |= _judged(name, _exclusive_losses(), logits, np.eye(5)[labels])
    return arrays


def _exclusive_losses() -> dict[str, Loss]:
    """Returns MONAI's losses of softmax outputs, and its generalized Dice with other weights than its own."""
    losses: dict[str, Loss] = {}
    for batch in (False, True):
        span = "batch" if batch else "sample"
        for smoothing in (0.0, 1e-5):
            smooth = {"batch": batch, "smooth_nr": smoothing, "smooth_dr": smoothing}
            losses[f"soft.{span}.{smoothing:g}"] = DiceLoss(softmax=True, **smooth)
            losses[f"absent_row_largest.{span}.{smoothing:g}"] = GeneralizedDiceLoss(softmax=True, **smooth)
        losses[f"uniform.{span}.0"] = _Reweighted(torch.ones_like, batch)
        for name, weights in _WEIGHTS.items():
            losses[f"{name}.{span}.0"] = _Reweighted(weights, batch)
    return losses


def _mask_losses() -> dict[str, Loss]:
    """Returns MONAI's losses of sigmoid outputs, smoothed since empty masks divide by 0 otherwise."""
    losses: dict[str, Loss] = {}
    for span, batch in {"sample": False, "batch": True}.items():
        losses[f"soft.{span}.1e-05"] = DiceLoss(sigmoid=True, batch=batch)
        losses[f"absent_row_largest.{span}.1e-05"] = GeneralizedDiceLoss(sigmoid=True, batch=batch)
        for name, weights in {"uniform": torch.ones_like, **_WEIGHTS}.items():
            losses[f"{name}.{span}.1e-05"] = _Reweighted(weights, batch, sigmoid=True, smoothing=1e-5)
    return losses


class _Reweighted(GeneralizedDiceLoss):
    """MONAI's generalized Dice, with class weights that are another function of the counts."""

    def __init__(
        self,
        weights: Callable[[torch.Tensor], torch.Tensor],
        batch: bool,
        sigmoid: bool = False,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(softmax=not sigmoid, sigmoid=sigmoid, batch=batch, smooth_nr=smoothing, smooth_dr=smoothing)
        self._weights = weights

    def w_func(self, grnd: torch.Tensor) -> torch.Tensor:
        """Returns the weights, given the counts."""
        return self._weights(grnd)


def _filled(counts: torch.Tensor, absent: float) -> torch.Tensor:
    return torch.where(counts > 0, 1 / counts**2, torch.full_like(counts, absent))


_WEIGHTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "added_eps": lambda counts: 1 / (counts**2 + 1e-5),
    "absent_eps": lambda counts: _filled(counts, 1e-6),
    "absent_zero": lambda counts: _filled(counts, 0.0),
    "absent_largest": lambda counts: _filled(counts, float(_filled(counts, 0.0).max())),
}


def _judged(case: str, losses: Mapping[str, Loss], logits: np.ndarray, truth: np.ndarray) -> Arrays:
    """Returns values and gradients of losses that want the classes on axis 1."""
    arrays: Arrays = {}
    for name, loss in losses.items():
        outputs = torch.tensor(logits, requires_grad=True)
        value = loss(outputs.movedim(-1, 1), torch.tensor(truth).movedim(-1, 1))
        arrays |= _value_and_gradient(f"{case}.{name}", value, outputs)
    return arrays


def classification() -> Arrays:
    """Returns losses of one logit a label and of one logit a class, and scores of both."""
    random = np.random.default_rng(20240502)
    logits, labels = 3 * random.normal(size=40), random.integers(0, 2, 40)
    arrays: Arrays = {"binary.logits": logits, "binary.labels": labels.astype(np.int8)}
    for name, loss in _binary_losses().items():
        outputs = torch.tensor(logits, requires_grad=True)
        value = loss(outputs, torch.tensor(labels, dtype=torch.float64))
        arrays |= _value_and_gradient(f"binary.{name}", value, outputs)
    signs = 2 * labels - 1
    hinge = float(metrics.hinge_loss(signs, logits))
    arrays["binary.hinge"] = np.array(hinge)
    # The ramp is the hinge loss less the hinge loss of margins that are 2 larger: 1 - m less -1 - m.
    arrays["binary.ramp"] = np.array(hinge - float(metrics.hinge_loss(signs, logits + 2 * signs)))
    arrays["binary.zero_one"] = np.array(metrics.zero_one_loss(labels, logits > 0))
    arrays["binary.accuracy"] = np.array(metrics.accuracy_score(labels, logits > 0.7))
    return arrays | _categorical(random)


def _binary_losses() -> dict[str, Loss]:
    """Returns losses of logits and 0/1 labels."""
    return {
        "cross_entropy": torch.nn.BCEWithLogitsLoss(),
        "nll": torch.nn.BCEWithLogitsLoss(reduction="sum"),
        "probability_nll": lambda x, y: torch.nn.BCELoss(reduction="sum")(torch.sigmoid(x), y),
        "focal": lambda x, y: FocalLoss(gamma=2.0)(x[:, None], y[:, None]),
        "focal_balanced": lambda x, y: FocalLoss(gamma=0.5, alpha=0.3)(x[:, None], y[:, None]),
        "absolute": lambda x, y: torch.nn.L1Loss()(torch.sigmoid(x), y),
    }


def _categorical(random: np.random.Generator) -> Arrays:
    """Returns the negative log-likelihoods of classes."""
    logits, labels = 2 * random.normal(size=(25, 4)), random.integers(0, 4, 25)
    arrays: Arrays = {"classes.logits": logits, "classes.labels": labels.astype(np.int8)}
    outputs = torch.tensor(logits, requires_grad=True)
    value = torch.nn.CrossEntropyLoss()(outputs, torch.tensor(labels))
    arrays |= _value_and_gradient("classes.cross_entropy", value, outputs)
    scores = random.random((25, 4)) + 0.01
    normalized = scores / scores.sum(axis=1, keepdims=True)
    arrays["classes.scores"] = scores
    arrays["classes.normalized_nll"] = np.array(metrics.log_loss(labels, normalized, normalize=False))
    raw = torch.nn.NLLLoss(reduction="sum")(torch.tensor(scores).log(), torch.tensor(labels))
    arrays["classes.raw_nll"] = raw.numpy()
    arrays["classes.accuracy"] = np.array(metrics.accuracy_score(labels, logits.argmax(axis=1)))
    return arrays


def regression() -> Arrays:
    """Returns squared errors, weighted ones among them, and normal likelihoods."""
    random = np.random.default_rng(20240503)
    outputs, labels, weights = random.normal(size=(3, 12, 3))
    weights = np.where(weights > 0, weights, 0)
    variance = np.exp(random.normal(size=(12, 3)))
    arrays: Arrays = {"outputs": outputs, "labels": labels, "weights": weights, "variance": variance}
    predicted, true = torch.tensor(outputs), torch.tensor(labels)
    for reduction in ("none", "mean", "sum"):
        arrays[f"mse.{reduction}"] = torch.nn.MSELoss(reduction=reduction)(predicted, true).numpy()
    weighted = metrics.mean_squared_error(labels.ravel(), outputs.ravel(), sample_weight=weights.ravel())
    arrays["mse.weighted_mean"] = np.array(weighted)
    likelihood = torch.nn.GaussianNLLLoss(full=True, reduction="sum")
    arrays["gaussian_nll"] = likelihood(predicted, true, torch.tensor(variance)).numpy()
    return arrays


def _value_and_gradient(name: str, value: torch.Tensor, outputs: torch.Tensor) -> Arrays:
    """Returns a loss and its gradient; float32 holds the gradient to well under the tests' 1e-6."""
    (gradient,) = torch.autograd.grad(value, outputs)
    return {name: value.detach().numpy(), f"{name}.gradient": gradient.numpy().astype(np.float32)}


if __name__ == "__main__":
    main()
