"""Our model as a classifier of scikit-learn, of arrays of trials.

An array of trials becomes one recording of one signal, each trial a window that is asked for its
label at its end. The model is trained from scratch, or starts from a pretrained one: an adapter on
its frozen core, or all of it (`adapter="full"`). The last fifth of each class's trials says when to
stop; nothing outside of `fit` is seen.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Real, Shaped
from numpy import ndarray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from neurofmx.config import build
from neurofmx.data.cards import Card
from neurofmx.data.parts import join_parts, write_part
from neurofmx.data.shard_writer import SHARD_BYTES
from neurofmx.data.shards import Shards
from neurofmx.errors import UserError
from neurofmx.evaluation.benchmarks.laid import KNOWN, laid
from neurofmx.models import ModelParams, NeuroFMX, TaskSpec, untrained, vocabulary_of
from neurofmx.models.adapters import AdapterName, adapt
from neurofmx.training.configure import configure
from neurofmx.training.fit import Fit
from neurofmx.training.inference import batches
from neurofmx.training.optim import OptimizerParams
from neurofmx.training.recipe import FitParams
from neurofmx.types import AlignedRecording, Intervals, Samples, Signal

RECORDING, TRIALS, TASK = "trials", "trials", "label"
TRAINED, VALID = 0.72, 0.18  # 4 : 1; a card has to leave something for test, which is not cut
ROUNDING = 1e-6  # of a sample


class NeuroFMXClassifier(ClassifierMixin, BaseEstimator):
    """Classes of trials.

    Args:
        rate: Of the arrays (Hz).
        model: Folder of a pretrained model; None trains one from scratch.
        signal: Of the pretrained model that the arrays are; None: its only sampled one.
        adapter: Row of `ADAPTERS`, of a pretrained model.
        options: Of `ModelParams`, of one from scratch.
        tokens: That a trial is cut into, of one from scratch.
        epochs: Times that every trial is seen.
        batch_size: Trials of a step.
        lr: Highest learning rate.
        weight_decay: Of the optimiser.
        seed: Of everything random.

    Attributes:
        classes_: Labels, in the order of the columns of `predict_proba`.
        model_: The fitted `NeuroFMX`.
    """

    def __init__(
        self,
        rate: float,
        model: str | None = None,
        signal: str | None = None,
        adapter: AdapterName = "full",
        options: dict[str, Any] | None = None,
        tokens: int = 30,
        epochs: int = 40,
        batch_size: int = 32,
        lr: float = 3e-3,
        weight_decay: float = 0.01,
        seed: int = 0,
    ):
        self.rate = rate
        self.model = model
        self.signal = signal
        self.adapter = adapter
        self.options = options
        self.tokens = tokens
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.seed = seed

    def fit(
        self, X: Real[ndarray, "trial channel time"], y: Shaped[ndarray, " trial"]
    ) -> "NeuroFMXClassifier":
        """Train on trials, in the order that they were recorded in.

        Raises:
            UserError: There is one class alone, or the pretrained model does not read such arrays.
        """
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise UserError(f"trials of two classes are needed; all are {str(self.classes_[0])!r}")
        self.n_channels_, self.n_times_ = X.shape[1:]
        core = NeuroFMX.from_pretrained(self.model) if self.model else None
        self.signal_ = self._signal(core)
        with TemporaryDirectory() as folder:
            shards = self._windows(Path(folder), X, index)
            self.known_ = {n: (Path(shards.folder) / n).read_bytes() for n in KNOWN}
            made = self._started(shards, core)
            (Path(folder) / "fit").mkdir()
            fit = Fit(made, shards, [RECORDING], self._params(), self.seed, Path(folder) / "fit")
            fit.run("NeuroFMXClassifier")
            self.model_ = fit.model.eval()
        return self

    @torch.inference_mode()
    def predict_proba(
        self, X: Real[ndarray, "trial channel time"]
    ) -> Float[ndarray, "trial class"]:
        """Probability of each class."""
        check_is_fitted(self, "model_")
        if X.shape[1:] != (self.n_channels_, self.n_times_):
            raise UserError(
                f"trials of {X.shape[1:]} (channel, time) came; it was fitted on "
                f"{(self.n_channels_, self.n_times_)}"
            )
        recording, length = self._recording(X, np.zeros(len(X), int)), self._length
        spans = [(k * length, (k + 1) * length) for k in range(len(X))]
        found = []
        with TemporaryDirectory() as folder:
            for name, content in self.known_.items():
                (Path(folder) / name).write_bytes(content)
            with laid(recording, self._card(), spans, Path(folder)) as shards:
                for batch in batches(self.model_, shards, np.arange(len(shards))):
                    output = self.model_(batch, heads=())
                    at = torch.full((len(batch.windows), 1), length)
                    at = at.to(output.latents.device)
                    answers = self.model_.ask(TASK, output.latents, output.features, at)
                    p, _ = self.model_.answer(TASK, self.model_.decode[TASK](answers))
                    found.append(p[:, 0].double().cpu().numpy())
        return np.concatenate(found)

    def predict(self, X: Real[ndarray, "trial channel time"]) -> Shaped[ndarray, " trial"]:
        """The most probable class of each trial."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    @property
    def _length(self) -> float:
        return self.n_times_ / self.rate

    def _signal(self, core: NeuroFMX | None) -> str:
        """What the arrays are called in the model.

        Raises:
            UserError: The pretrained model has no such signal, or one of another rate or length.
        """
        if core is None:
            return self.signal or "eeg"
        names = [n for n in core.sampled if not core.config.signals[n].counts]
        name = self.signal or (names[0] if len(names) == 1 else "")
        if name not in names:
            raise UserError(
                f"signal is {self.signal!r}; the model in {self.model} reads the traces "
                f"{', '.join(names) or 'of none'}: name one of them"
            )
        rate, longest = 1 / core.config.signals[name].dt, core.config.duration
        if abs(rate / self.rate - 1) > ROUNDING:
            raise UserError(
                f"the arrays have {self.rate:g} Hz, and the model reads {name} at {rate:g} Hz; let "
                f"the paradigm resample to that"
            )
        if self._length > longest * (1 + ROUNDING) and not core.config.model.causal:
            raise UserError(
                f"a trial lasts {self._length:g} s, and the model's windows {longest:g} s; cut the "
                "trials shorter by tmin and tmax of the paradigm"
            )
        return name

    def _started(self, shards: Shards, core: NeuroFMX | None) -> NeuroFMX:
        """The model before it is trained."""
        known = vocabulary_of(shards, [RECORDING])
        if core is None:
            sizes = build(ModelParams, self.options or {}, "options")
            return untrained(configure(shards, sizes), known, self.seed)
        task = TaskSpec(kind="classification", outputs=len(self.classes_), classes=self._labels)
        config = core.config.model_copy(update={"tasks": {TASK: task}, "domains": []})
        asking = untrained(config, core.vocabulary, self.seed)
        fresh, old = asking.state_dict(), core.state_dict()
        taken = {n: x for n, x in old.items() if n in fresh and x.shape == fresh[n].shape}
        asking.load_state_dict(fresh | taken)
        model = adapt(asking, known, self.adapter, self.seed)
        model.queries[TASK].requires_grad_(True)  # it is as new as the readout
        return model

    def _params(self) -> FitParams:
        optimizer = OptimizerParams(lr=self.lr, weight_decay=self.weight_decay)
        return FitParams(
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=optimizer,
            objectives={"decode": 1.0, "masked": 0.1},
            valid_every=10,
        )

    def _windows(
        self, folder: Path, X: Real[ndarray, "trial channel time"], index: Shaped[ndarray, " trial"]
    ) -> Shards:
        part, windows = folder / "part", folder / "windows"
        part.mkdir()
        windows.mkdir()
        write_part(part, self._recording(X, index), self._card())
        join_parts({RECORDING: part}, windows, self._card(), self.tokens, SHARD_BYTES, 1)
        return Shards(windows)

    def _recording(
        self, X: Real[ndarray, "trial channel time"], index: Shaped[ndarray, " trial"]
    ) -> AlignedRecording:
        """Trials, one right after the other."""
        values = np.ascontiguousarray(X.transpose(0, 2, 1).reshape(-1, X.shape[1]), np.float32)
        start = np.arange(len(X)) * self._length
        table = pd.DataFrame({TASK: index.astype(str)})
        signals: dict[str, Signal] = {
            self.signal_: Samples(values, "V", self.rate, modality="eeg"),
            TRIALS: Intervals(start, start + self._length, table),
        }
        return AlignedRecording(RECORDING, "unknown", "Homo sapiens", "trials", signals)

    @property
    def _labels(self) -> list[str]:
        return [str(k) for k in range(len(self.classes_))]

    def _card(self) -> Card:
        task = {"kind": "classification", "signal": TRIALS, "column": TASK}
        content = {
            "name": "trials",
            "title": "arrays of trials",
            "licence": "",
            "source": {"kind": "local", "path": "."},
            "signals": {
                self.signal_: {"path": "X", "modality": "eeg"},
                TRIALS: {"path": "y", "modality": "trials"},
            },
            "tasks": {TASK: task | {"classes": self._labels}},
            "windows": {"duration": self._length, "step": self._length, "within": TRIALS},
            "split": {
                "by": "trial",
                "train": TRAINED,
                "valid": VALID,
                "guard": 0.0,
                "test_on": ["no recording"],
            },
        }
        return Card.model_validate(content)
