"""What a dataset card says of one signal of every recording."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from neurofmx.config import Params
from neurofmx.modalities import MODALITIES

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
