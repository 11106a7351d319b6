"""Neural Latents Benchmark: a submission from a run of ours, and its score against the val part.

The model is shown the held-in units of a trial and nothing outside of it. What its heads read at
the time of each bin (`read_out`) goes to a Poisson regression per unit (`glm`), held-in and
held-out alike, fitted on the benchmark's train part: the model itself has no output for a unit that
it was never shown. Bins ahead are read from the last bin's features times 1, h and h², h being how
far ahead they lie. The method `smoothed` puts the trial's own counts, smoothed, in the place of the
model's features: the benchmark's simple baseline.

    <dataset> or <dataset>_20    group, at 5 or 20 ms
        {train,eval}_rates_{heldin,heldout}[_forward]    trial × time × unit, spikes per bin

Source: Pei et al. 2021, Neural Latents Benchmark '21, arXiv:2109.04463; file layout and scores,
nlb_tools.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.ndimage import gaussian_filter1d

from neurofmx.data import store
from neurofmx.data.align import align
from neurofmx.data.cards import Card
from neurofmx.data.reading import read_recording
from neurofmx.data.shards import Shards
from neurofmx.errors import UserError
from neurofmx.evaluation.benchmarks import glm
from neurofmx.evaluation.benchmarks.laid import laid, read_out
from neurofmx.evaluation.benchmarks.nlb_score import Arrays
from neurofmx.evaluation.benchmarks.nlb_score import load as load
from neurofmx.evaluation.benchmarks.nlb_score import save as save
from neurofmx.evaluation.benchmarks.nlb_score import score as score
from neurofmx.evaluation.benchmarks.nlb_trials import (
    FINE,
    Layout,
    Trials,
    counts_of,
    index_of,
    layout_of,
    psths,
    trials_of,
    velocity_of,
)
from neurofmx.models import NeuroFMX
from neurofmx.types import AlignedRecording, Recording

Method = Literal["neurofmx", "smoothed"]
WIDTHS = (0.02, 0.04, 0.06, 0.1)  # s; standard deviations that `smoothed` chooses from
UNITS = {"heldin": "spikes", "heldout": "heldout"}  # the benchmark's name → the card's


@dataclass(frozen=True)
class Run:
    """What a run left of a data set of the benchmark.

    Attributes:
        recording: Aligned, with signals `spikes`, `heldout` and `trials`.
        ingested: The same before its velocity was resampled.
        known: Folder of its windows.
        model: None for a method that needs none.
    """

    card: Card
    recording: AlignedRecording
    ingested: Recording
    known: Path
    model: NeuroFMX | None

    @classmethod
    def of(cls, card: Card, storage: Path, method: Method = "neurofmx") -> "Run":
        """What lies in a `storage/` up to pretrain, or up to tokenize for `smoothed`.

        Raises:
            UserError: The data set is none of the benchmark's, or has not one recording.
            DataError: A stage has left nothing.
        """
        layout_of(card.name)
        ids = sorted(path.stem for path in (storage / "align").glob("*.zarr"))
        if len(ids) != 1:
            raise UserError(
                f"{storage}/align holds {len(ids)} recordings, and a data set of NLB is one: run "
                f"`neurofmx run --dataset {card.name} --until pretrain` first"
            )
        aligned = store.read_aligned(storage / "align" / f"{ids[0]}.zarr")
        if aligned.dataset != card.name:
            raise UserError(f"{storage}/align is of {aligned.dataset}, not of {card.name}")
        ingested = store.read(storage / "ingest" / f"{ids[0]}.zarr")
        model = None if method == "smoothed" else NeuroFMX.from_pretrained(storage / "pretrain")
        return cls(card, aligned, ingested, storage / "tokenize", model)


def submission(
    run: Run, width: float = 0.02, method: Method = "neurofmx", test: Path | None = None
) -> tuple[dict[str, Arrays], dict[str, Arrays]]:
    """Rates by group, and the truth that they can be scored against.

    Args:
        width: Of a bin (s): 0.005 or 0.02.
        method: Where features come from.
        test: NWB file of the test part; its trials are predicted then, from a fit on train and
            val, and the truth is empty, since the benchmark alone has it. None: val from train.

    Raises:
        UserError: The card is no data set of the benchmark, or the model was shown held-out units.
        DataError: The recording, or the file, lacks what the benchmark cuts by.
    """
    name, layout = layout_of(run.card.name)
    if "heldout" in run.card.inputs:
        raise UserError(f"card {run.card.name}: `heldout` is an input; give it `input: false`")
    parts = ("train", "val") if test else ("train",)
    train = trials_of(run.recording, layout, parts, width)
    other = run.recording if test is None else _test_recording(test, run)
    shown = trials_of(other, layout, ("test",) if test else ("val",), width)
    if method == "neurofmx" and test is None:
        _hold_to_unseen(run, shown)
    features = {"train": _features(run, run.recording, train, method)}
    features["eval"] = _features(run, other, shown, method)
    group = group_of(name, width)
    rates = _rates(run.recording, train, features)
    return {group: rates}, ({} if test else {group: truth(run, layout, train, shown)})


def group_of(name: str, width: float) -> str:
    """The group of a data set in files of the benchmark, in bins of this width (s)."""
    return name if round(width * 1e3) == 5 else f"{name}_{round(width * 1e3)}"


def _hold_to_unseen(run: Run, trials: Trials) -> None:
    """Refuse to score trials that the model was trained or chosen on.

    Raises:
        UserError: A train or valid window reaches into one.
    """
    index = Shards(run.known).columns("split", "start", "stop").to_pandas()
    seen = index[index["split"] != "test"]
    stop = trials.start + trials.duration
    over = (seen["start"].to_numpy()[:, None] < stop - FINE) & (
        seen["stop"].to_numpy()[:, None] > trials.start + FINE
    )
    if over.any():
        raise UserError(
            f"the model has seen {over.any(axis=0).sum()} of {len(trials)} trials of the val part: "
            "their velocity was decoded in training. Let `windows.within` of the card name a "
            "signal of the train trials, as the cards nlb_* do, and run from tokenize on"
        )


def _rates(
    recording: Recording, train: Trials, features: dict[str, dict[str, glm.Features]]
) -> Arrays:
    rates, ahead = {}, {s: {k: _ahead(x, train) for k, x in f.items()} for s, f in features.items()}
    for units, signal in UNITS.items():
        for suffix, given, trials in (
            ("", features, train),
            ("_forward", ahead, train.ahead),
        ):
            readout = glm.fit(given["train"], counts_of(recording, signal, trials))
            for split, x in given.items():
                rates[f"{split}_rates_{units}{suffix}"] = readout(x)
    return rates


def _ahead(features: glm.Features, trials: Trials) -> Float[ndarray, "trial _ahead _powers"]:
    """Features of the bins ahead: those of the last bin, times powers of the time to each."""
    h = (np.arange(trials.ahead.n_bins) + 0.5) / trials.ahead.n_bins
    last = features[:, -1]
    powers = np.stack([h**0, h, h**2])  # power × bin
    return np.einsum("iw,pb->ibpw", last, powers).reshape(len(last), len(h), -1)


def _features(
    run: Run, recording: AlignedRecording, trials: Trials, method: Method
) -> dict[str, glm.Features]:
    if method == "smoothed":
        counts = np.nan_to_num(counts_of(recording, "spikes", trials))
        sds = {f"{sd:g} s": sd / trials.width for sd in WIDTHS}
        return {kind: gaussian_filter1d(counts, sd, axis=1) for kind, sd in sds.items()}
    assert run.model is not None, "the method neurofmx needs a model"
    return {"model": _read(run.model, run, recording, trials)}


def _read(model: NeuroFMX, run: Run, recording: AlignedRecording, trials: Trials) -> glm.Features:
    """What the heads read at every bin, from windows that reach no further than the trial.

    A trial that is longer than the model's windows is read in several that overlap, and each bin in
    the one in whose middle it is; a causal model reads any length at once, and to the bin's end.
    """
    causal, length = model.config.model.causal, trials.duration
    longest = length if causal else min(length, model.config.duration)
    n = int(np.ceil(length / longest - 1e-9))
    offsets = np.linspace(0.0, length - longest, n)
    at = (np.arange(trials.n_bins) + (1.0 if causal else 0.5)) * trials.width
    chosen = np.abs(at[:, None] - offsets - longest / 2).argmin(axis=1)
    found: Any = None
    for number, offset in enumerate(offsets):
        spans = [(start + offset, start + offset + longest) for start in trials.start]
        bins = np.flatnonzero(chosen == number)
        times = np.tile(at[bins] - offset, (len(spans), 1))
        with laid(recording, run.card, spans, run.known) as shards:
            some = read_out(model, shards, times)
        found = np.empty((len(spans), trials.n_bins, some.shape[-1])) if found is None else found
        found[:, bins] = some
    return found


def _test_recording(path: Path, run: Run) -> AlignedRecording:
    """The test part, under the id by which the model knows its units."""
    wanted = {n: s for n, s in run.card.signals.items() if n in {*run.card.inputs, "trials"}}
    wanted |= {n: s for n, s in run.card.signals.items() if n == "observed"}
    card = run.card.model_copy(update={"signals": wanted, "tasks": {}})
    with read_recording(run.recording.id, [path], card) as recording:
        return align(recording, card)


def truth(run: Run, layout: Layout, train: Trials, shown: Trials) -> Arrays:
    """What `nlb_tools.evaluation` scores against, of trials whose held-out units are known."""
    ahead = shown.ahead
    found: Arrays = {"eval_spikes_heldout": counts_of(run.recording, "heldout", shown)}
    for units, signal in UNITS.items():
        found[f"eval_spikes_{units}_forward"] = counts_of(run.recording, signal, ahead)
    if layout.velocity:
        for split, trials in (("train", train), ("eval", shown)):
            velocity = velocity_of(run.ingested, layout.velocity, trials, layout.lag)
            found[f"{split}_behavior"] = velocity
            if layout.groups:
                values = np.sort(train.table[layout.groups].unique())
                found[f"{split}_decode_mask"] = (
                    trials.table[layout.groups].to_numpy()[:, None] == values
                )
    if layout.conditions:
        both = trials_of(run.recording, layout, ("train", "val"), shown.width)
        means = psths(run.recording, tuple(UNITS.values()), both, layout)
        found["psth"] = np.stack(list(means.values()))
        for split, trials in (("train", train), ("eval", shown)):
            found[f"{split}_cond_idx"] = index_of(trials, layout, list(means))
    return found
