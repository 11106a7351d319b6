"""Dataset cards: `datasets/<name>.yaml` says what a data set is and how it is to be read.

A card names its source, maps paths inside the files to modalities, and states what is to be
decoded and how time is split. `neurofmx card` writes one from files; a person edits it;
`neurofmx resolve` pins its files in a manifest beside it. Everything else about the pipeline is in
`params.yaml`.
"""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from neurofmx.config import Params, build, read_yaml
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.sources import AnySource
from neurofmx.data.tasks import CircularTask, Task
from neurofmx.errors import UserError

FOLDER = Path("datasets")


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
            `context` and `ahead`, and each instant is scored once.
        context: Stretch at the start of a window that is seen but not scored (s).
        ahead: The same at its end, where answers may know what comes after (s).
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
    ahead: float = Field(0.0, ge=0)
    bin_width: float = Field(0.02, gt=0)
    within: str | None = None
    begin: float = 0.0
    end: float = 0.0

    @model_validator(mode="after")
    def _of_intervals(self):
        if (self.begin or self.end) and not self.within:
            raise ValueError("begin and end are of the intervals that `within` names; name some")
        return self

    @model_validator(mode="after")
    def _scores_something(self):
        if self.context + self.ahead >= self.duration:
            raise ValueError(
                f"context {self.context} s and ahead {self.ahead} s leave nothing of a window of "
                f"{self.duration} s to be scored; they must be less together"
            )
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
        if self.causal and self.windows.ahead:
            raise ValueError(
                f"windows.ahead is {self.windows.ahead} s, which answers would read before it has "
                "come, and the card is causal; leave it out"
            )
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
