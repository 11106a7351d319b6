"""What the analyses share: the model, its untrained twin, and what is computed once of them."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from neurofmx.config import Params
from neurofmx.data import store
from neurofmx.data.cards import Card
from neurofmx.data.shards import Shards
from neurofmx.data.tasks import RegressionTask
from neurofmx.interpretability.capture import Captured, capture
from neurofmx.interpretability.sae import SAEParams, Scaling, TopKSAE, fit_sae
from neurofmx.interpretability.tuning import TuningParams
from neurofmx.models import NeuroFMX
from neurofmx.types import AlignedRecording

OURS, UNTRAINED, FROZEN, SECOND = "neurofmx", "untrained", "frozen dictionary", "second seed"


class StudyParams(Params):
    """Parameters of the analyses.

    Attributes:
        signal: Whose backbone features are taken apart; None takes the one with most channels.
    """

    signal: str | None = None
    sae: SAEParams = SAEParams()
    tuning: TuningParams = TuningParams()


@dataclass(frozen=True)
class Result:
    """What an analysis found.

    Attributes:
        tables: By the name of their file.
        values: Main figures.
        failed: Checks that failed and what could not be done, for the report.
    """

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Study:
    """A model, its untrained twin, and the recordings that it was trained on.

    Attributes:
        models: `neurofmx` and `untrained`.
        storage: Where the stages write.
    """

    card: Card
    shards: Shards
    recordings: list[str]
    models: dict[str, NeuroFMX]
    storage: Path
    params: StudyParams
    seed: int

    @cached_property
    def signals(self) -> list[str]:
        """Those of these windows; a model that was trained on other data sets too knows more."""
        return [name for name in self.models[OURS].config.signals if name in self.shards.signals]

    @cached_property
    def signal(self) -> str:
        """Whose features are taken apart."""
        known, sampled = self.models[OURS].vocabulary, self.models[OURS].sampled
        here = [name for name in self.signals if name in sampled]
        return self.params.signal or max(here, key=lambda name: len(known[name].keys))

    @cached_property
    def captured(self) -> dict[str, Captured]:
        """Backbone features by signal."""
        shared = (self.models, self.shards, self.recordings)
        return {name: capture(*shared, name, self.held_out) for name in self.signals}

    @property
    def held_out(self) -> str:
        """Split that is looked at as test: where a card tests other recordings, these have none."""
        return "valid" if self.card.split.test_on else "test"

    @property
    def regressions(self) -> list[str]:
        """Tasks with a continuous target."""
        return [t for t, spec in self.card.tasks.items() if isinstance(spec, RegressionTask)]

    @cached_property
    def scaling(self) -> dict[str, Scaling]:
        """Of the features that are taken apart, by model."""
        here = self.captured[self.signal]
        return {model: Scaling.fit(here.of(model, "train")) for model in self.models}

    @cached_property
    def dictionaries(self) -> dict[str, tuple[str, TopKSAE]]:
        """The autoencoder and its controls: name → (model whose features, autoencoder)."""
        made = {}
        for name, model, seed in (
            (OURS, OURS, self.seed),
            (SECOND, OURS, self.seed + 1),
            (FROZEN, OURS, self.seed + 2),  # shares no start with ours
            (UNTRAINED, UNTRAINED, self.seed),
        ):
            x = self.scaled(model, "train")
            size = self.params.sae.expansion * x.shape[1]
            made[name] = (model, fit_sae(x, size, self.params.sae, seed, name == FROZEN))
        return made

    def scaled(
        self, model: str, split: str, recording: str | None = None
    ) -> Float[Tensor, "token width"]:
        """Features as the autoencoder reads them."""
        return self.scaling[model](self.captured[self.signal].of(model, split, recording))

    def aligned(self, recording: str) -> AlignedRecording:
        """A recording on one clock."""
        found = store.read(self.storage / "align" / f"{recording}.zarr")
        assert isinstance(found, AlignedRecording)
        return found
