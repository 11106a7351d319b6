"""A file laid out as those of the Neural Latents Benchmark, of a population with known rates."""

from pathlib import Path

import numpy as np
import pandas as pd
from dialects.base import new_file, save, trials_of
from pynwb import TimeSeries

from neurofmx.data import store
from neurofmx.data.align import align
from neurofmx.data.cards import Card, load_card
from neurofmx.data.reading import read_recording

TRIAL, PAUSE = 1.2, 0.3  # s
LAG = 0.12  # s, as the benchmark has it of MC_Maze Small
HELD_IN, HELD_OUT = 18, 6
PARTS = ("train", "val", "train", "test")  # by turns
NAME = "sub-Made_ses-1_desc-{}"


def plan(n: int, seed: int) -> pd.DataFrame:
    """Trials: their times (s), part and condition."""
    rng = np.random.default_rng(seed)
    start = 0.5 + np.arange(n) * (TRIAL + PAUSE)
    onset = np.round(start + 0.4 + rng.uniform(0, 0.1, n), 3)
    split = [PARTS[k % len(PARTS)] for k in range(n)]
    kinds = rng.integers(0, 3, n)
    about = {"start": start, "onset": onset, "split": split, "trial_type": kinds}
    return pd.DataFrame(about | {"trial_version": 0})


def latents(trials: pd.DataFrame, seed: int, n: int) -> np.ndarray:
    """Three slow signals at 1 kHz, which the trial's type sets off and chance moves on."""
    rng = np.random.default_rng(seed + 1)
    kernel = np.hanning(401)
    slow = np.stack([np.convolve(x, kernel, "same") for x in rng.normal(size=(3, n))], axis=1)
    slow *= 0.7 / slow.std(axis=0)
    time = np.arange(n) / 1e3
    for row in trials.itertuples():
        bump = np.exp(-(((time - row.onset - 0.1) / 0.12) ** 2))
        slow[:, row.trial_type] += 2.0 * bump
    return slow


def made(folder: Path, n: int = 40, seed: int = 0) -> tuple[Path, Path, np.ndarray]:
    """Train and test file, and the true rate of every unit at 1 kHz (Hz), held-in ones first."""
    trials = plan(n, seed)
    length = round((trials["start"].iloc[-1] + TRIAL + PAUSE) * 1e3)
    z, rng = latents(trials, seed, length), np.random.default_rng(seed + 2)
    gains = rng.normal(size=(3, HELD_IN + HELD_OUT)) * 0.9
    rates = np.minimum(15.0 * np.exp(z @ gains), 200.0)
    spikes = rng.random(rates.shape) < rates / 1e3
    files = [_file(folder, part, trials, z, spikes) for part in ("train", "test")]
    return files[0], files[1], rates


def _file(folder: Path, part: str, trials: pd.DataFrame, z: np.ndarray, spikes: np.ndarray) -> Path:
    """The trials of one part: those of the test file lie unobserved in the train file."""
    nwb = new_file("Made")
    rows = trials[(trials["split"] == "test") == (part == "test")]
    columns = {name: rows[name].tolist() for name in ("split", "trial_type", "trial_version")}
    columns["move_onset_time"] = rows["onset"].tolist()
    trials_of(nwb, columns, rows["start"].to_numpy(), rows["start"].to_numpy() + TRIAL)
    early = rows["start"].to_numpy() - 0.1
    spans = np.stack([early, rows["start"].to_numpy() + TRIAL + 0.1], axis=1).round(3)
    time = (np.arange(len(spikes)) / 1e3).round(6)
    inside = ((time >= spans[:, :1]) & (time < spans[:, 1:])).any(axis=0)
    nwb.add_unit_column("heldout", "not to be seen")
    for unit in range(spikes.shape[1]):
        heldout = unit >= HELD_IN
        if not (heldout and part == "test"):
            at = time[spikes[:, unit] & inside] + 4e-4
            nwb.add_unit(spike_times=at, obs_intervals=spans, heldout=heldout)
    if part == "train":
        behavior = nwb.create_processing_module("behavior", "behaviour")
        later = np.roll(z[:, :2], round(LAG * 1e3), axis=0)  # the hand follows
        velocity = {"data": later[inside], "timestamps": time[inside], "unit": "m/s"}
        behavior.add(TimeSeries(name="hand_vel", comments="columns=[x,y]", **velocity))
    suffix = "behavior+ecephys" if part == "train" else "ecephys"
    return save(nwb, folder / f"{NAME.format(part)}_{suffix}.nwb")


def card_of(root: Path) -> Card:
    """The card of MC_Maze Small, for shorter trials."""
    card = load_card("nlb_mc_maze_small", root / "datasets")
    return card.model_copy(update={"synthetic": True})


def stored(storage: Path, train: Path, card: Card) -> str:
    """What ingest and align would leave; gives the recording's id."""
    with read_recording("made", [train], card) as recording:
        store.write(recording, storage / "ingest" / "made.zarr", "key")
        store.write(align(recording, card), storage / "align" / "made.zarr", "key")
    return "made"
