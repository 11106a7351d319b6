"""What is read from networks that learn without answers: ridge, or logistic regression of labels.

Its strength is chosen on valid, and it is fitted again on what the network may learn from.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sklearn.metrics import log_loss

from neurofmx.evaluation import linear
from neurofmx.evaluation.baselines.base import BaselineParams
from neurofmx.evaluation.baselines.sequences import Sequences

Queries = dict[str, Float[ndarray, "_query width"]]
Truth = dict[str, Float[ndarray, "_query coded"]]


def read(
    data: Sequences,
    features: dict[str, Float[ndarray, "bin width"]],
    splits: tuple[str, ...],
    params: BaselineParams,
) -> tuple[Float[ndarray, "query output"], int]:
    """Answers to the queries of the last split of `features`, and the numbers that were fitted.

    Args:
        features: Of every bin, by split; train and valid come first.
        splits: What the readout of test may learn from. Valid is answered by the readout of train,
            by which its strength is chosen.
    """
    x: Queries = {split: data.read(features[split], split) for split in features}
    mean, scale = x["train"].mean(axis=0), x["train"].std(axis=0)
    x = {split: (f - mean) / np.where(scale > 1e-6, scale, 1.0) for split, f in x.items()}
    y = {split: asked.truth for split, asked in data.asked.items()}
    return (_classes if data.n_classes else _numbers)(x, y, splits, params, data.n_classes)


def _numbers(
    x: Queries, y: Truth, splits: tuple[str, ...], params: BaselineParams, n: int
) -> tuple[Float[ndarray, "query output"], int]:
    width = x["train"].shape[1]
    lines = linear.ridge_paths(x["train"], y["train"], params.alphas, [width])
    said = {alpha: lines[alpha, width](x["valid"]) for alpha in params.alphas}
    best = max(said, key=lambda alpha: linear.mean_r2(y["valid"], said[alpha]))
    line = lines[best, width]
    if "test" not in x:
        return said[best], line.weight.size + line.intercept.size
    line = linear.ridge_paths(_taught(x, splits), _taught(y, splits), [best], [width])[best, width]
    return line(x["test"]), line.weight.size + line.intercept.size


def _classes(
    x: Queries, y: Truth, splits: tuple[str, ...], params: BaselineParams, n: int
) -> tuple[Float[ndarray, "query class"], int]:
    size = (x["train"].shape[1] + 1) * n
    said = {
        c: linear.probabilities(linear.fit_logistic(x["train"], y["train"][:, 0], c), x["valid"], n)
        for c in params.strengths
    }
    best = min(said, key=lambda c: _loss(y["valid"], said[c]))
    if "test" not in x:
        return said[best], size
    model = linear.fit_logistic(_taught(x, splits), _taught(y, splits)[:, 0], best)
    return linear.probabilities(model, x["test"], n), size


def _taught(parts: dict[str, ndarray], splits: tuple[str, ...]) -> Float[ndarray, "query column"]:
    return np.concatenate([parts[split] for split in splits])


def _loss(truth: Float[ndarray, "query 1"], p: Float[ndarray, "query class"]) -> float:
    p = p.clip(1e-6) / p.clip(1e-6).sum(axis=1, keepdims=True)  # as in linear.logistic
    return float(log_loss(truth[:, 0], p, labels=np.arange(p.shape[1])))
