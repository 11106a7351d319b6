"""What every baseline is given, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from pydantic import Field

from neurofmx.config import Params
from neurofmx.data.cards import Card
from neurofmx.data.shards import Shards
from neurofmx.evaluation.queries import Queries
from neurofmx.types import AlignedRecording, TaskKind

NUMBERS: tuple[TaskKind, ...] = ("regression", "circular")  # angles by cosine and sine
CLASSES: tuple[TaskKind, ...] = ("classification", "ordinal")  # an order is not made use of


class NetworkParams(Params):
    """How baselines that are networks are trained.

    Attributes:
        steps: Of the optimiser in a full run; there are two, on train and on train and valid.
        search: Share of the steps that each candidate is given.
        looks: Times that a run is scored on valid.
        batch_size: Chunks of a step; POYO, whose tokens are many, takes fewer.
        chunk: Longest stretch that is seen at once (s); of labels it is the window.
        rate: Bins a second at most (Hz); of labels frames.
        lr: Largest learning rate of recurrent networks; attention takes a third.
        weight_decay: Of matrices.
        sizes: Widths, each with the dropout that it is tried with.
        seed: Of weights, dropout and the order of chunks.
    """

    steps: int = Field(300, ge=1)
    search: float = Field(0.25, gt=0, le=1)
    looks: int = Field(4, ge=1)
    batch_size: int = Field(64, ge=1)
    chunk: float = Field(4.0, gt=0)
    rate: float = Field(25.0, gt=0)
    lr: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    sizes: tuple[tuple[int, float], ...] = ((64, 0.2), (128, 0.4))
    seed: int = 0


class BaselineParams(Params):
    """What baselines choose from, on the valid split.

    Attributes:
        alphas: Penalties of ridge.
        lags: Numbers of bins at the target's rate, the present one included.
        smoothing: Widths of a centred Gaussian (s).
        max_columns: Lags that would make ridge wider than this are left out.
        strengths: Inverse penalties of logistic regression.
        networks: How those that are networks are trained.
        kalman_lags: Bins that the inputs come before the target.
        kalman_spans: Bins that are seen together.
        kalman_noise: Factors of the covariance of the state's own motion.
        components: Numbers of principal components, beside all of them.
        tree_lags: Numbers of bins of boosted trees.
        tree_rate: Share of each tree that is added (ν).
        trees: Most trees for a dimension.
        banks: Bands that traces are filtered to (Hz), by name; without one, traces as they are.
            Where classes are named by a frequency, theirs are tried too.
        harmonics: Multiples of a class's frequency that canonical correlation looks for.
        subbands: Numbers of bands, each reaching less far down, that correlations are taken in.
    """

    alphas: tuple[float, ...] = (1e1, 1e2, 3e2, 1e3, 3e3, 1e4, 1e5)
    lags: tuple[int, ...] = (1, 3, 5, 10, 15)
    smoothing: tuple[float, ...] = (0.0, 0.1, 0.4)
    max_columns: int = 2500
    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    networks: NetworkParams = NetworkParams()
    kalman_lags: tuple[int, ...] = (0, 1, 2)
    kalman_spans: tuple[int, ...] = (1, 5, 10)
    kalman_noise: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)
    components: tuple[int, ...] = (10, 20, 50, 100)
    tree_lags: tuple[int, ...] = (5, 10, 20)
    tree_rate: float = 0.15
    trees: int = Field(200, ge=25)
    banks: dict[str, tuple[tuple[float, float], ...]] = {
        "whole": (),
        "mu_beta": ((8.0, 30.0),),
        "rhythms": ((4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 45.0)),
        "fast": ((20.0, 45.0), (45.0, 95.0)),
    }
    harmonics: tuple[int, ...] = (1, 2, 3)
    subbands: tuple[int, ...] = (1, 3, 5)


@dataclass(frozen=True)
class Problem:
    """A task in a recording.

    Attributes:
        recording: What is read; of one that is tested as a whole, those that are trained on lie
            before it on one clock (`neurofmx.evaluation.pooling`).
        queries: Of the splits train, valid and test.
        positions: Their windows in the shards' index, by split.
        channels: Of several recordings, the columns that all have, by recording and signal; empty
            of one, which has all of its own.
    """

    recording: AlignedRecording
    card: Card
    task: str
    shards: Shards
    positions: dict[str, list[int]]
    queries: dict[str, Queries]
    channels: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    @property
    def n_classes(self) -> int:
        """Classes of the task over all recordings; 0 where it asks for numbers."""
        return len(self.shards.tasks[self.task].get("classes", []))

    @property
    def kind(self) -> TaskKind:
        """How its values are to be understood."""
        return self.shards.tasks[self.task]["kind"]

    def code(self, truth: Float[ndarray, "query dim"]) -> Float[ndarray, "query coded"]:
        """What a linear method is fitted to: the values, of angles their cosines and sines."""
        if self.kind != "circular":
            return truth
        return np.hstack([np.cos(truth), np.sin(truth)])

    def decoded(self, values: Float[ndarray, "query coded"]) -> Float[ndarray, "query dim"]:
        """Values of what `code` made of them; of angles the direction, in [−π, π] (rad)."""
        if self.kind != "circular":
            return values
        cosine, sine = np.split(values, 2, axis=1)
        return np.arctan2(sine, cosine)


@dataclass(frozen=True)
class Prediction:
    """Answers to the test queries.

    Attributes:
        values: In the target's own unit; for classes the probability of each.
        parameters: Numbers that were fitted.
        settings: What was chosen on valid.
        spread: Standard deviation of each value, of a method that gives one.
    """

    values: Float[ndarray, "query output"]
    parameters: int
    settings: dict[str, Any] = field(default_factory=dict)
    spread: Float[ndarray, "query output"] | None = None


@dataclass(frozen=True)
class Baseline:
    """A method.

    Attributes:
        kinds: Of the tasks that it answers.
        about: What it is, for tables.
        fit: Chooses its settings on valid, is fitted to train and valid, and answers test.
        needs: What a problem lacks that the method cannot do without; None where it has all.
    """

    kinds: tuple[TaskKind, ...]
    about: str
    fit: Callable[[Problem, BaselineParams], Prediction]
    needs: Callable[[Problem], str | None] = lambda problem: None
