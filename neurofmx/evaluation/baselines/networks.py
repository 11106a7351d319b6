"""How every network is trained and tuned: the same steps, the same choice on the valid split.

A candidate is trained on train for a share of the steps; the one that is best on valid is trained
for all of them, and looked at on valid on the way. With the number of steps that was best there it
is trained again, on train and valid, and answers test. AdamW (Loshchilov & Hutter 2017,
arXiv:1711.05101), a rate that rises linearly and falls as a cosine to 0, chunks of runs that begin
elsewhere in every pass.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.metrics import log_loss
from torch import Tensor, nn

from neurofmx.errors import UserError
from neurofmx.evaluation import linear
from neurofmx.evaluation.baselines import chunks as laid
from neurofmx.evaluation.baselines.base import NetworkParams, Prediction, Problem
from neurofmx.evaluation.baselines.sequences import Sequences
from neurofmx.training.optim import OptimizerParams, optimizers

Setting = dict[str, Any]
BATCH = 64  # chunks that are answered at once


@runtime_checkable
class Learner(Protocol):
    """A network on a problem, with what it is taught by."""

    @property
    def network(self) -> nn.Module:
        """What is trained."""

    @property
    def lr(self) -> float:
        """Its largest learning rate."""

    def loss(self, bins: Int[Tensor, "batch time"]) -> Float[Tensor, ""]:
        """Of chunks; a bin of −1 is none."""

    def answers(self, split: str) -> Float[ndarray, "query output"]:
        """Coded values, or the probability of each class."""


Make = Callable[[Setting, tuple[str, ...]], Learner]  # by setting and the splits it may learn from


def tuned(
    data: Sequences, params: NetworkParams, candidates: list[Setting], make: Make
) -> tuple[Learner, Setting]:
    """A trained learner and what was chosen on valid: its setting, the steps, the score there."""
    with torch.random.fork_rng():
        chosen, search = candidates[0], max(1, round(params.search * params.steps))
        if len(candidates) > 1:
            scores = [_best(data, params, make, each, search, 1)[0] for each in candidates]
            chosen = candidates[int(np.argmax(scores))]
        reached, stop = _best(data, params, make, chosen, params.steps, params.looks)
        both = ("train", "valid")
        learner = _made(make, chosen, both, params)
        for _ in train(learner, data, both, params, (params.steps, stop), 1):
            pass
    return learner, chosen | {"steps": stop, "valid": round(reached, 4)}


def _best(
    data: Sequences, params: NetworkParams, make: Make, setting: Setting, steps: int, looks: int
) -> tuple[float, int]:
    """The best score on valid of one trained on train, and the steps at which it had it."""
    learner, found = _made(make, setting, ("train",), params), (-np.inf, steps)
    for step in train(learner, data, ("train",), params, (steps, steps), looks):
        found = max(found, (score(data, learner.answers("valid")), step))
    return found


def predict(problem: Problem, data: Sequences, learner: Learner, setting: Setting) -> Prediction:
    """Answers to the test queries."""
    values = learner.answers("test")
    size = sum(p.numel() for p in learner.network.parameters())
    size += getattr(learner, "read", 0)
    return Prediction(values if data.n_classes else problem.decoded(values), size, setting)


def train(
    learner: Learner,
    data: Sequences,
    splits: tuple[str, ...],
    params: NetworkParams,
    steps: tuple[int, int],
    looks: int,
) -> Iterator[int]:
    """Train, and pause at each of the looks, with the number of steps taken so far.

    Args:
        steps: That the learning rate is laid out for, and the one to stop at.
    """
    whole, stop = steps
    optimizer = OptimizerParams(lr=learner.lr, weight_decay=params.weight_decay)
    (adam,) = optimizers(learner.network.named_parameters(), optimizer)
    chunks = batches(data, splits, params)
    for step in range(stop):
        for group in adam.param_groups:
            group["lr"] = learner.lr * optimizer.rate(step, whole)
        learner.network.train()
        adam.zero_grad()
        learner.loss(next(chunks)).backward()
        nn.utils.clip_grad_norm_(learner.network.parameters(), optimizer.clip)
        adam.step()
        if step + 1 == stop or (step + 1) % max(1, whole // looks) == 0:
            learner.network.eval()
            yield step + 1


def batches(
    data: Sequences, splits: tuple[str, ...], params: NetworkParams
) -> Iterator[Int[Tensor, "batch time"]]:
    """Chunks of the runs of `splits`, pass after pass; of labels whole windows."""
    rng = np.random.default_rng(params.seed)
    runs = np.concatenate([data.asked[split].runs for split in splits])
    length = chunk_length(data, params)
    while True:
        chunks = laid.anew(runs, length, rng)
        for part in np.array_split(chunks, -(-len(chunks) // params.batch_size)):
            yield torch.as_tensor(part, device=torch.get_default_device())


def chunk_length(data: Sequences, params: NetworkParams) -> int:
    """Bins of a chunk."""
    longest = max(int(np.ptp(asked.runs, axis=1).max()) for asked in data.asked.values())
    return longest if data.n_classes else min(longest, max(2, round(params.chunk * data.rate)))


def outputs(
    data: Sequences,
    split: str,
    params: NetworkParams,
    forward: Callable[[Int[Tensor, "batch time"]], Float[Tensor, "batch time output"]],
    best: float,
) -> Float[ndarray, "bin output"]:
    """What a network says of each bin of a split; 0 elsewhere.

    Args:
        best: A bin is answered by the chunk in which it lies nearest to this share of the chunk.
    """
    runs, length = np.unique(data.asked[split].runs, axis=0), chunk_length(data, params)
    chunks = laid.overlapping(runs, length)
    with torch.no_grad():
        parts = [
            forward(torch.as_tensor(part, device=torch.get_default_device())).cpu().numpy()
            for part in np.array_split(chunks, -(-len(chunks) // BATCH))
        ]
    chunk, place = laid.placed(chunks, data.n, round(best * (length - 1)))
    said = np.concatenate(parts)[chunk, place]
    inside = np.zeros(data.n, bool)
    inside[data.bins([split])] = True
    return np.where(inside[:, None], said, np.float32(0))


def package(name: str) -> ModuleType:
    """An optional package.

    Raises:
        UserError: It is not installed; names the extra.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the package {error.name!r} is not installed, which this baseline is; "
            "`pip install 'neurofmx[baselines]'`, or leave it out of evaluate.methods"
        ) from error


def _made(make: Make, setting: Setting, splits: tuple[str, ...], params: NetworkParams) -> Learner:
    torch.manual_seed(params.seed)
    return make(setting, splits)


def score(data: Sequences, answers: Float[ndarray, "query output"]) -> float:
    """Of answers to valid: mean R² of coded values, or log likelihood of classes; NaN is worst."""
    truth = data.asked["valid"].truth
    if not np.isfinite(answers).all():
        return -np.inf
    if data.n_classes:
        p = answers.clip(1e-6)
        p = p / p.sum(axis=1, keepdims=True)
        return -float(log_loss(truth[:, 0], p, labels=np.arange(data.n_classes)))
    return linear.mean_r2(truth, answers)
