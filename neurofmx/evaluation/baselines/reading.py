"""What is read from networks that learn without answers: ridge, or logistic regression of labels.

Ridge reads the features of as many bins on both sides as `ridge_centred` may. Strength and bins
are chosen on valid, and the readout is fitted again on what the network may learn from.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sklearn.metrics import log_loss

from neurofmx.evaluation import linear
from neurofmx.evaluation.baselines.base import BaselineParams
from neurofmx.evaluation.baselines.sequences import Sequences
from neurofmx.evaluation.design import lagged

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
    y = {split: asked.truth for split, asked in data.asked.items()}
    if data.n_classes:
        x = {split: data.read(f, split) for split, f in features.items()}
        return _classes(_scaled(x), y, splits, params, data.n_classes)
    width = features["train"].shape[1]
    fitting = [n for n in params.lags if n * width <= params.max_columns] or [1]
    x = {split: _beside(data, f, split, max(fitting)) for split, f in features.items()}
    return _numbers(_scaled(x), y, splits, params, [n * width for n in fitting])


def _beside(
    data: Sequences, features: Float[ndarray, "bin width"], split: str, n: int
) -> Float[ndarray, "query column"]:
    """Features of `n` bins about each query, the nearest first; 0 beyond its run."""
    run = data.run_of(split)[:, 0]
    offsets = sorted(range(-(n // 2), n - n // 2), key=abs)
    bins, moved = data.bins([split]), np.zeros_like(features)
    columns = []
    for offset in offsets:
        moved[bins] = lagged(features, bins, [offset], run)
        columns.append(data.read(moved, split))
    return np.hstack(columns)


def _scaled(x: Queries) -> Queries:
    mean, scale = x["train"].mean(axis=0), x["train"].std(axis=0)
    return {split: (f - mean) / np.where(scale > 1e-6, scale, 1.0) for split, f in x.items()}


def _numbers(
    x: Queries, y: Truth, splits: tuple[str, ...], params: BaselineParams, columns: list[int]
) -> tuple[Float[ndarray, "query output"], int]:
    lines = linear.ridge_paths(x["train"], y["train"], params.alphas, columns)
    said = {key: line(x["valid"]) for key, line in lines.items()}
    best = max(said, key=lambda key: linear.mean_r2(y["valid"], said[key]))
    line = lines[best]
    if "test" not in x:
        return said[best], line.weight.size + line.intercept.size
    a, b = _taught(x, splits), _taught(y, splits)
    line = linear.ridge_paths(a, b, [best[0]], [best[1]])[best]
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
