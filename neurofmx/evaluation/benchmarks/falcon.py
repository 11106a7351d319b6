"""FALCON: a decoder of its interface around our causal model, for its own evaluator.

A file of the benchmark is decoded by a stream of the model that knows the file's session: the
pretrained one, or the adapter that adapt left for it. Files that are decoded side by side have a
stream each, since they are different recordings. The evaluator gives the counts of a 20 ms bin and
wants an answer at once; a model whose tokens last longer answers at the end of a token and repeats
that answer until the next.

The evaluator compares with the numbers of the file as they are; ours are SI, so its unit is undone.

What is answered for bin k is the model's answer to a query at the time that the card gives that
bin's sample. FALCON stamps samples of H1 and M1 at the end of their bins and those of M2 at the
start; with the stamps that the ready cards name all lie at the start, so a sample is told from the
bins before its own. Written as `stamps: start` in a card of H1 or M1, it is told from its own too.

Source: Karpowicz et al. 2024, FALCON, doi:10.1101/2024.09.15.613126, and falcon_challenge 1.0.2.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from jaxtyping import Float, Real, Shaped
from numpy import ndarray

from neurofmx.data.cards import Card
from neurofmx.data.readers.units import SI
from neurofmx.data.reading import LAG
from neurofmx.data.shards import Shards
from neurofmx.data.tasks import RegressionTask
from neurofmx.errors import DataError, UserError
from neurofmx.evaluation.benchmarks import extra
from neurofmx.models import NeuroFMX
from neurofmx.models.adapter_files import load_adapter
from neurofmx.models.stream import Stream

BIN = 0.02  # s
ROUNDING = 1e-6  # of a bin
STAMPED = {"h1": "end", "m1": "end", "m2": "start"}  # where in its bin FALCON stamps a sample
Phase = Literal["minival", "test"]


@dataclass(frozen=True)
class Session:
    """What decodes one file.

    Attributes:
        shards: That know how its units were normalised.
        recording: Id by which the model knows its units.
        signal: That their counts are.
        task: That is decoded.
        behind: Bins by which an answer is held back to be of its own bin: 0 or 1.
        scale: Of the file's numbers to SI, in which the model answers.
    """

    model: NeuroFMX
    shards: Shards
    recording: str
    signal: str
    task: str
    behind: int
    scale: float

    def stream(self) -> "Held":
        """A decoder of the file from its first bin on; it answers the mean until it has a token."""
        table = self.shards.channels
        mine = table[table["signal"] == self.signal]
        mean = np.array(self.model.config.tasks[self.task].mean)
        stream = self.model.stream(self.recording, mine)
        channels = int((mine["recording"] == self.recording).sum())
        return Held(self, stream, channels, [mean / self.scale] * (self.behind + 1))


@dataclass
class Held:
    """A stream that has an answer at every bin.

    Attributes:
        answers: The last ones; the first is that of the bin under way.
    """

    session: Session
    stream: Stream
    channels: int
    answers: list[Float[ndarray, " output"]]

    def push(self, counts: Real[ndarray, " channel"]) -> Float[ndarray, " output"]:
        """The answer of a bin, once its counts are known.

        Raises:
            DataError: They are of another number of units.
        """
        if len(counts) != self.channels:
            raise DataError(
                f"{self.session.recording}: counts of {len(counts)} units came, and the model "
                f"knows {self.channels}; the card has to keep every unit, in the file's order"
            )
        found = self.stream.push({self.session.signal: counts[None].astype(np.float32)})
        newest = self.answers[-1]
        if found.times:
            newest = found.values[self.session.task][0, -1].double().cpu().numpy()
            newest /= self.session.scale
        self.answers = [*self.answers[1:], newest]
        return self.answers[0]


class Sessions:
    """The sessions that a run of ours can decode.

    Args:
        card: One of `falcon_h1`, `falcon_m1`, `falcon_m2`.
        storage: Up to pretrain, and adapt where there is one.

    Raises:
        UserError: The card decodes nothing of FALCON's, or the model cannot answer bin by bin.
    """

    def __init__(self, card: Card, storage: Path):
        self.split = split_of(card)
        self.hash: Callable[[Any], str] = config_of(self.split).hash_dataset
        self.card, self.storage = card, storage
        self.task, spec = next(iter(card.tasks.items()))
        assert isinstance(spec, RegressionTask), "the ready cards ask for numbers"
        (self.target,) = card.signals[spec.signal].paths
        lead = LAG[STAMPED[self.split]] - LAG[card.signals[spec.signal].stamps]
        self.behind = 0 if lead >= 1 - ROUNDING else 1
        (self.signal,) = card.inputs if len(card.inputs) == 1 else ("spikes",)
        self.shards = Shards(storage / "tokenize")
        self.core = NeuroFMX.from_pretrained(storage / "pretrain")
        self._check()
        known = sorted(self.shards.channels["recording"].unique())
        self.known = {self.hash(handle_of(recording)): recording for recording in known}

    def of(self, file: Path | str) -> Session:
        """What decodes a file of the benchmark.

        Raises:
            UserError: The run has no recording of its session.
        """
        path = Path(file)
        recording = self.known.get(self.hash(path))
        if recording is None:
            raise UserError(
                f"{path.name} is of session {self.hash(path)}, of which the run has no recording, "
                f"but of {', '.join(sorted(self.known))}; its calibration file has to be among "
                "those of the card"
            )
        model, folder = self.core, self.storage / "adapt" / recording
        if (folder / "adapter.json").exists():
            model = load_adapter(self.core, folder)
        scale = scale_of(path, self.target)
        return Session(model, self.shards, recording, self.signal, self.task, self.behind, scale)

    def _check(self) -> None:
        spec = self.core.config.signals[self.signal]
        if abs(spec.dt - BIN) > ROUNDING * BIN:
            raise UserError(
                f"the model counts spikes in bins of {spec.dt:g} s, and FALCON in bins of {BIN} s; "
                f"write `bin_width: {BIN}` in the card's windows"
            )
        wanted = config_of(self.split).out_dim
        outputs = self.core.config.tasks[self.task].outputs
        if outputs != wanted:
            raise UserError(f"{self.task} has {outputs} outputs; FALCON {self.split} has {wanted}")


def split_of(card: Card) -> str:
    """FALCON's name of a card's data set.

    Raises:
        UserError: It is none, or one of which our models decode nothing.
    """
    split = card.name.removeprefix("falcon_")
    if split in ("h2", "b1"):
        what = {"h2": "sentences", "b1": "spectrograms"}[split]
        raise UserError(f"{card.name} asks for {what}, which our models do not decode")
    if split not in STAMPED or not card.tasks:
        raise UserError(f"card {card.name!r} is none of falcon_{', falcon_'.join(STAMPED)}")
    return split


def config_of(split: str) -> Any:
    """FALCON's own facts of a data set: channels, outputs, how a file names its session."""
    config = extra("falcon_challenge.config")
    return config.FalconConfig(task=config.FalconTask[split])


def handle_of(recording: str) -> str:
    """The name of the file that a recording came from, as FALCON reads sessions from it."""
    return recording.replace("behavior_ecephys", "behavior+ecephys")


def scale_of(file: Path, target: str) -> float:
    """Factor from a file's numbers of a series to SI; only its unit is read.

    Raises:
        UserError: There is no such file, or no such series in it.
    """
    if not file.exists():
        raise UserError(f"{file} does not exist, so the unit of its answers is unknown")
    with h5py.File(file) as nwb:
        if target not in nwb:
            raise UserError(f"{file} has no {target}, so the unit of its answers is unknown")
        series = nwb[target]
        if "data" not in series:  # a container of a series per muscle or finger, all in one unit
            series = next(iter(series.values()))
        about = series["data"].attrs
        _, factor = SI.get(str(about["unit"]).strip().lower(), ("", 1.0))
        return float(factor * about.get("conversion", 1.0))


def decoder(sessions: Sessions, batch_size: int = 1) -> Any:
    """A `BCIDecoder` for FALCON's evaluator.

    Args:
        batch_size: Files that are decoded side by side.
    """
    interface: Any = extra("falcon_challenge.interface")

    class Decoder(interface.BCIDecoder):
        """Streams of the causal model behind FALCON's interface."""

        def reset(self, dataset_tags: Sequence[Path | str] = ("",)) -> None:
            """Begin files anew; the evaluator passes paths, a last batch may have fewer."""
            self.streams = [sessions.of(tag).stream() for tag in dataset_tags]

        def predict(
            self, neural_observations: Shaped[ndarray, "batch channel"]
        ) -> Float[ndarray, "batch output"]:
            """Answers to a bin of each file."""
            pairs = zip(self.streams, neural_observations, strict=True)
            return np.stack([stream.push(counts) for stream, counts in pairs])

        def on_done(self, dones: Any) -> None:
            """Ends of trials change nothing: a recording is one stream."""

    return Decoder(config_of(sessions.split), batch_size)


def evaluate(
    sessions: Sessions,
    data: Path,
    phase: Phase = "minival",
    batch_size: int = 1,
    remote: bool = False,
    out: Path = Path("."),
) -> dict[str, float]:
    """Scores by FALCON's own evaluator.

    Args:
        data: Folder that holds `h1`, `m1` or `m2` (or the dandiset of that number), and in it
            `minival` or `eval` with the files.
        remote: On FALCON's server, where the scores stay there and nothing is returned.
        out: Folder for the answers and the truth that it writes, which are read back by pickle.

    Raises:
        UserError: The files are not there, or not those of every session that the phase has.
    """
    os.environ["EVAL_DATA_PATH"] = str(data)
    if not remote:
        out.mkdir(parents=True, exist_ok=True)
        os.environ["PREDICTION_PATH_LOCAL"] = str(out / "prediction.pkl")
        os.environ["GT_PATH"] = str(out / "truth.pkl")
    judge = extra("falcon_challenge.evaluator").FalconEvaluator(
        eval_remote=remote, split=sessions.split, dataloader_workers=0
    )
    try:
        found = judge.evaluate(decoder(sessions, batch_size), phase=phase)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"FALCON's evaluator cannot score {data}: {error}") from error
    if found is None:
        return {}
    (scores,) = found["result"][0].values()
    return {name: float(value) for name, value in scores.items()}
