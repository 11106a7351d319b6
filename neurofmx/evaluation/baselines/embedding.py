"""CEBRA: an embedding of the bins by contrast, read by the nearest neighbours.

Bins whose labels change alike (or, without labels, that are near in time) are drawn together, all
others apart; an answer is the mean label of the k bins that are nearest by cosine distance among
those with a label. The package's convolutions slide over one long recording, across the edges of
its stretches; here each bin is shown with those beside it in its own run, `BESIDE` either way, to
the package's model of one bin.

Source: Schneider, Lee & Mathis 2023, doi:10.1038/s41586-023-06031-6; the package `cebra`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import nn

from neurofmx.evaluation.baselines import networks
from neurofmx.evaluation.baselines.base import BaselineParams, NetworkParams, Prediction, Problem
from neurofmx.evaluation.baselines.sequences import Asked, Sequences, sequences
from neurofmx.evaluation.design import lagged

BESIDE = 5  # bins either way
BATCH = 256  # the package compares each of a batch with every bin: its time grows with both
HIDDEN = 64  # width of the package's model
LATER = 10  # bins between two that are near in time
NEIGHBOURS = (1, 5, 9, 25, 49, 101)
DIMENSIONS = (8, 32)


def cebra(problem: Problem, params: BaselineParams) -> Prediction:
    """CEBRA-Behaviour or CEBRA-Time, as wide and with as many neighbours as is best on valid."""
    networks.package("cebra")
    data, given = sequences(problem, params.networks.rate), params.networks
    search = max(1, round(given.search * given.steps))
    tried = []
    for labels in (True, False):
        for width in DIMENSIONS:
            setting = {"labels": labels, "dimensions": width}
            space = Space(data, ("train",), setting, search, given)
            scores = {k: networks.score(data, space.answers("valid", k)) for k in NEIGHBOURS}
            k = max(scores, key=scores.__getitem__)
            tried.append((scores[k], setting | {"neighbours": k}))
    reached, chosen = max(tried, key=lambda each: each[0])
    space = Space(data, ("train", "valid"), chosen, given.steps, given)
    values = space.answers("test", chosen["neighbours"])
    values = values if data.n_classes else problem.decoded(values)
    return Prediction(values, space.size, chosen | {"valid": round(reached, 4)})


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Seed torch, and numpy's own generator, which the package draws from too."""
    before = np.random.get_state()  # noqa: NPY002
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


class Space:
    """A fitted embedding, and the labelled bins in it.

    Args:
        splits: Whose bins it learns from.
        setting: Whether it is shown labels, and how wide it is.
        steps: Of the package's optimiser.
    """

    def __init__(
        self,
        data: Sequences,
        splits: tuple[str, ...],
        setting: networks.Setting,
        steps: int,
        params: NetworkParams,
    ):
        self.data, self.x = data, data.standardised()
        rows = [self._labelled(data.asked[split]) for split in splits]
        self.labels = np.concatenate([labels for _, labels in rows])
        shown = np.concatenate(
            [self._beside(bins, split) for split, (bins, _) in zip(splits, rows, strict=True)]
        )
        with torch.random.fork_rng(), drawn_from(params.seed):
            self.model = self._fitted(shown, setting, steps, params)
        self.known = self._embedded(shown)
        self.size = sum(p.numel() for p in self.model.parameters())

    def _fitted(
        self,
        shown: Float[ndarray, "row column"],
        setting: networks.Setting,
        steps: int,
        params: NetworkParams,
    ) -> nn.Module:
        cebra, device = networks.package("cebra"), torch.get_default_device()
        x, labels = torch.as_tensor(shown), torch.as_tensor(self._scaled())
        kind = "discrete" if self.data.n_classes else "continuous"
        dataset = cebra.data.TensorDataset(x, **{kind: labels}).to(device)
        given = {"num_steps": steps, "batch_size": BATCH}
        if setting["labels"] and self.data.n_classes:
            loader = cebra.data.DiscreteDataLoader(dataset, **given, prior="empirical")
        else:
            by = "time_delta" if setting["labels"] else "time"
            offset = 1 if setting["labels"] else LATER
            loader = cebra.data.ContinuousDataLoader(
                dataset, **given, conditional=by, time_offset=offset
            )
        # The package seeds its generators from the clock.
        for each in (loader.distribution, getattr(loader.distribution, "prior", None)):
            if each is not None:
                each.generator.manual_seed(params.seed)
        model = cebra.models.init("offset1-model", x.shape[1], HIDDEN, setting["dimensions"])
        dataset.configure_for(model)
        criterion = cebra.models.criterions.FixedCosineInfoNCE(temperature=1.0)
        optimizer = torch.optim.Adam(model.parameters(), params.lr / 3)
        solver = cebra.solver.init(
            "single-session", model=model, criterion=criterion, optimizer=optimizer, tqdm_on=False
        )
        solver.to(device).fit(loader)
        return model.eval()

    def _embedded(self, shown: Float[ndarray, "row column"]) -> Float[ndarray, "row width"]:
        x = torch.as_tensor(shown, device=torch.get_default_device())
        with torch.no_grad():
            return self.model(x[..., None]).cpu().numpy()

    def answers(self, split: str, k: int) -> Float[ndarray, "query output"]:
        """From the `k` nearest labelled bins: their mean, of classes their shares."""
        decoder = networks.package("cebra").KNNDecoder(min(k, len(self.known)), metric="cosine")
        targets = self.labels
        if self.data.n_classes:
            targets = np.eye(self.data.n_classes, dtype=np.float32)[targets]
        decoder.fit(self.known, targets)
        bins = self.data.bins([split])
        found = decoder.predict(self._embedded(self._beside(bins, split)))
        said = np.zeros((self.data.n, targets.shape[1]), np.float32)
        said[bins] = found
        return self.data.read(said, split).astype(float)

    def _labelled(self, asked: Asked) -> tuple[Int[ndarray, " row"], Any]:
        """Bins and the label of each: of numbers that in its middle, of a window all its frames."""
        if self.data.n_classes:
            bins = np.concatenate([np.arange(a, b) for a, b in asked.runs])
            return bins, np.repeat(asked.truth[:, 0].astype(int), np.ptp(asked.runs, axis=1))
        middle = asked.at[:, 1] == self.data.slots // 2
        return asked.at[middle, 0], asked.truth[middle].astype(np.float32)

    def _scaled(self) -> Any:
        """Numbers in deviations, so that no dimension outweighs another."""
        if self.data.n_classes:
            return self.labels
        scale = self.labels.std(axis=0)
        return self.labels / np.where(scale > 0, scale, 1.0).astype(np.float32)

    def _beside(self, bins: Int[ndarray, " row"], split: str) -> Float[ndarray, "row column"]:
        run = self.data.run_of(split)[:, 0]
        return lagged(self.x, bins, range(-BESIDE, BESIDE + 1), run)
