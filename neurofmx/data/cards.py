"""Dataset cards: `datasets/<name>.yaml` says what a data set is and how it is to be read.

A card names its source, maps paths inside the files to modalities, and states what is to be
decoded and how time is split. `neurofmx card` writes one from files; a person edits it;
`neurofmx resolve` pins its files in a manifest beside it. Everything else about the pipeline is in
`params.yaml`.
"""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from neurofmx.config import Params, build, read_yaml
from neurofmx.data.sources import AnySource
from neurofmx.data.tasks import CircularTask, Task
from neurofmx.errors import UserError
from neurofmx.modalities import MODALITIES

FOLDER = Path("datasets")
LABEL = "label"  # of `SignalCard.region`, in place of a column: the channel's own name


class Mel(Params):
    """How a sound becomes a log-mel spectrum (`neurofmx.signal.spectra`).

    Attributes:
        bands: Of the spectrum.
        hop: From one frame to the next (s).
        span: Length of a frame (s).
        low: Lower edge of the lowest band (Hz); for calls above hearing, where they begin.
        high: Upper edge of the highest band (Hz); None is half the rate.
    """

    bands: int = Field(64, ge=1)
    hop: float = Field(0.01, gt=0)
    span: float = Field(0.025, gt=0)
    low: float = Field(0.0, ge=0)
    high: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _upward(self):
        if self.high is not None and self.high <= self.low:
            raise ValueError(f"high is {self.high:g} Hz, not above low, {self.low:g} Hz")
        return self


class SignalCard(Params):
    """One signal of every recording.

    Attributes:
        path: Where it lies inside the file, or several places of which the first that is there
            counts; `*` stands for any name.
        modality: A row of `MODALITIES`.
        which: Of several places that `path` matches, in sorted order, this one is meant (from 0);
            None refuses several.
        optional: A recording without it is used all the same.
        keep: Only the units or channels whose column has one of these values, or a number in
            [low, high]; null leaves a side open.
        stamps: Where in its sample or bin a time stamp lies.
        nominal: Rate that the device was set to (Hz); validate holds the times to it.
        frames: Its samples are frames of a device that runs at a fixed rate: align removes the
            jitter of their stamps and finds those that were dropped.
        rate: Rate to resample to in align (Hz); None keeps its own.
        method: How align reads values between samples; None: linear, or previous in a causal card.
        max_gap: Neighbours further apart than this are not joined (s); None: 3 samples.
        size: Height and width to which the frames of a video are shrunk (pixels).
        grid: Of an fMRI, whose channels are the voxels of this grid, the last axis fastest.
        mel: Of a sound.
        position_unit: Of the x, y and z that an NWB file gives of electrodes; the standard has µm.
        tokenizer: One of those that the modality allows; None takes its first.
        same: Regular expression on the ids of recordings: those in which it finds the same text
            have the same channels, by their labels (electrodes of one montage, cells that are
            followed over days); '' is all recordings, None none.
        region: Column of its units or channels that says where each lies, or `label`: their own
            names, of electrodes that everybody wears alike; None takes the first column that is
            known to name a region.
        input: False for what the model must never see (a target, a table).
    """

    path: str | list[str]
    modality: str
    which: int | None = Field(None, ge=0)
    optional: bool = False
    keep: dict[str, list[Any]] = {}
    stamps: Literal["start", "center", "end"] = "start"
    nominal: float | None = Field(None, gt=0)
    frames: bool = False
    rate: float | None = Field(None, gt=0)
    method: Literal["previous", "nearest", "linear", "pchip", "cubic"] | None = None
    max_gap: float | None = Field(None, gt=0)
    size: tuple[int, int] = (32, 32)
    grid: list[Annotated[int, Field(ge=1)]] | None = None
    mel: Mel = Mel()
    position_unit: Literal["um", "mm", "m"] = "um"
    tokenizer: str | None = None
    same: str | None = None
    region: str | None = None
    input: bool = True

    @model_validator(mode="after")
    def _known(self):
        if self.modality not in MODALITIES:
            raise ValueError(f"unknown modality; choose from {', '.join(MODALITIES)}")
        choices = MODALITIES[self.modality].tokenizers
        if self.tokenizer not in (None, *choices):
            raise ValueError(
                f"tokenizer {self.tokenizer!r} does not read {self.modality}; "
                f"choose from {', '.join(choices) or 'none: it is no input'}"
            )
        for key, modality, otherwise in (("grid", "fmri", None), ("mel", "audio", Mel())):
            if self.modality != modality and getattr(self, key) != otherwise:
                raise ValueError(f"{key} is of {modality}, not of {self.modality}; take it out")
        return self

    @field_validator("same")
    @classmethod
    def _pattern(cls, same: str | None) -> str | None:
        try:
            re.compile(same or "")
        except re.error as error:
            raise ValueError(f"same is no regular expression: {error}") from error
        return same

    @property
    def comparable(self) -> bool:
        """Whether channels of one label are alike in some recordings."""
        return self.same is not None or self.region == LABEL

    def shared(self, recording: str) -> str | None:
        """What this recording's channels have in common with others'; None: they are its own."""
        found = None if self.same is None else re.search(self.same, recording)
        return None if found is None else f"{self.same}: {found[0]}"

    @property
    def tokenized_by(self) -> str | None:
        """Row of `TOKENIZERS` that it goes through, or None for what is only a target or table."""
        return self.tokenizer or MODALITIES[self.modality].tokenizer

    @property
    def paths(self) -> list[str]:
        """`path` as a list."""
        return [self.path] if isinstance(self.path, str) else self.path


class ClockCard(Params):
    """A device on its own clock, tied to the recording's by events that both saw.

    Attributes:
        signals: Signals whose times are the device's.
        device: Signal with the shared events on the device's clock.
        reference: Signal with the same events on the recording's clock.
    """

    signals: list[str]
    device: str
    reference: str


class Windows(Params):
    """How a recording is cut.

    Attributes:
        duration: Length of a window (s).
        step: From one training window to the next (s); valid and test windows overlap only by
            `context`, and each instant is scored once.
        context: Stretch at the start of a window that is seen but not scored (s).
        bin_width: Spike times are counted in bins of this width (s).
        within: Interval signal whose edges no window crosses (trials, joined segments); None
            cuts the whole recording.
        begin, end: What is used of such an interval begins and ends this long after its own start
            and stop (s): to leave out a hand that is still settling, or for blood that follows
            neurons by 5 s.
    """

    duration: float = Field(1.0, gt=0)
    step: float = Field(0.5, gt=0)
    context: float = Field(0.0, ge=0)
    bin_width: float = Field(0.02, gt=0)
    within: str | None = None
    begin: float = 0.0
    end: float = 0.0

    @model_validator(mode="after")
    def _of_intervals(self):
        if (self.begin or self.end) and not self.within:
            raise ValueError("begin and end are of the intervals that `within` names; name some")
        return self


class Split(Params):
    """Contiguous blocks of time, in order: train, valid, test; never shuffled.

    Attributes:
        by: `time` cuts the recording once; `trial` cuts the list of trials, in order, within
            each class where the task has classes.
        guard: Nothing within this of a cut is used, so that no window sees across it (s).
        test_on: Ids of recordings that are test as a whole, `*` standing for any text; the others
            then have no test part, and `train` and `valid` share them out.
        train_on: Of the others, those that are used; empty takes all.
    """

    by: Literal["time", "trial"] = "time"
    train: float = Field(0.6, gt=0, lt=1)
    valid: float = Field(0.1, gt=0, lt=1)
    guard: float = Field(1.0, ge=0)
    test_on: list[str] = []
    train_on: list[str] = []

    def parts(self, recording: str) -> tuple[str, ...]:
        """The splits that a recording has windows of; none where it is not used."""
        if not self.test_on:
            return ("train", "valid", "test")
        if _any(self.test_on, recording):
            return ("test",)
        return ("train", "valid") if not self.train_on or _any(self.train_on, recording) else ()

    @property
    def shares(self) -> tuple[float, float]:
        """Where a recording is cut for the first and the second time, from 0 to 1."""
        whole = self.train + self.valid if self.test_on else 1.0
        return self.train / whole, (self.train + self.valid) / whole

    @model_validator(mode="after")
    def _leaves_a_test(self):
        if self.train + self.valid >= 1:
            raise ValueError("train + valid must leave a part for test")
        if self.train_on and not self.test_on:
            raise ValueError("train_on needs test_on, the recordings that are tested")
        return self


def _any(patterns: list[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class CheckCard(Params):
    """A threshold of one check, for one data set.

    Attributes:
        min, max: Instead of the check's own; None keeps that.
        severity: `critical` quarantines, `warning` only lists, `off` leaves the check out.
    """

    min: float | None = None
    max: float | None = None
    severity: Literal["critical", "warning", "off"] | None = None

    @field_validator("severity", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return "off" if value is False else value  # as YAML reads a bare off


class Card(Params):
    """A data set.

    Attributes:
        synthetic: True for made-up data; every page and table then says so.
        signals: By the name they have in every later stage.
        tasks: What is decoded, by name.
        adapt: Ids of recordings kept out of pretraining, to adapt to.
        dialect: What is particular to the files of a data set: a row of `DIALECTS`.
        causal: No sample is computed from a later one: align filters and reads values forward.
        checks: Thresholds of validate that differ from `CHECKS` for this data set.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    title: str
    licence: str
    citation: str = ""
    synthetic: bool = False
    source: AnySource
    dialect: Literal["plain", "ibl", "allen", "nlb", "falcon", "alf"] = "plain"
    signals: dict[str, SignalCard]
    clocks: dict[str, ClockCard] = {}
    tasks: dict[str, Task]
    windows: Windows = Windows()
    split: Split = Split()
    adapt: list[str] = []
    causal: bool = False
    checks: dict[str, CheckCard] = {}

    @model_validator(mode="after")
    def _names_exist(self):
        named = {f"tasks.{t}.signal": task.signal for t, task in self.tasks.items()}
        for c, clock in self.clocks.items():
            named |= {f"clocks.{c}.signals": s for s in clock.signals}
            named |= {f"clocks.{c}.device": clock.device, f"clocks.{c}.reference": clock.reference}
        if self.windows.within:
            named["windows.within"] = self.windows.within
        for where, signal in named.items():
            if signal not in self.signals:
                raise ValueError(
                    f"{where} names {signal!r}, which is not among signals: "
                    f"{', '.join(self.signals)}"
                )
        return self

    @model_validator(mode="after")
    def _causal(self):
        for name, signal in self.signals.items():
            if self.causal and signal.method not in (None, "previous"):
                raise ValueError(
                    f"signals.{name}.method is {signal.method!r}, which reads later samples, and "
                    "the card is causal; choose 'previous'"
                )
        return self

    @model_validator(mode="after")
    def _angles(self):
        for name, task in self.tasks.items():
            signal = self.signals[task.signal]
            if isinstance(task, CircularTask) and (
                signal.rate is not None or signal.method not in ("previous", "nearest")
            ):
                raise ValueError(
                    f"tasks.{name} is circular, so align must not average {task.signal!r}: halfway "
                    f"between 359° and 1° is not 180°. Write `method: nearest` (or previous) in "
                    f"signals.{task.signal}, and no `rate`"
                )
        return self

    @model_validator(mode="after")
    def _adapts_to_what_trains(self):
        for recording in self.adapt:
            if "train" not in self.split.parts(recording):
                raise ValueError(
                    f"adapt names {recording!r}, of which split.test_on and train_on leave no "
                    "train part to adapt to; take it out of adapt"
                )
        return self

    def pretrains(self, recording: str) -> bool:
        """Whether pretraining may see the recording."""
        return recording not in self.adapt and "train" in self.split.parts(recording)

    @property
    def inputs(self) -> dict[str, SignalCard]:
        """The signals that the model reads: those with a tokenizer that are not held back."""
        return {
            name: signal
            for name, signal in self.signals.items()
            if signal.input and signal.tokenized_by
        }


def load_card(name: str, folder: Path = FOLDER) -> Card:
    """The card `datasets/<name>.yaml`.

    Raises:
        UserError: There is no such card, or a key in it is wrong; the message names the choices.
    """
    path = folder / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise UserError(
            f"there is no dataset {name!r}: {path} does not exist. Known: {known}. "
            f"`neurofmx card PATH --name {name}` writes one from NWB files."
        )
    return build(Card, read_yaml(path), str(path))


def save_card(card: Card, folder: Path = FOLDER) -> Path:
    """Write a card; the file is meant to be edited by a person, so defaults are left out."""
    path = folder / f"{card.name}.yaml"
    folder.mkdir(exist_ok=True)
    content = card.model_dump(mode="json", exclude_none=True)
    for key, field in Card.model_fields.items():
        if key not in ("windows", "split") and content.get(key) == field.default:
            del content[key]
    for name, signal in card.signals.items():
        content["signals"][name] = signal.model_dump(mode="json", exclude_defaults=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100))
    return path
