"""What a card asks to be decoded: numbers, angles, labels, or labels in an order."""

from typing import Annotated, Literal

from pydantic import Field

from neurofmx.config import Params


class SampledTask(Params):
    """Decode a signal at the rate of its samples.

    Attributes:
        columns: Channels of the signal; None takes all.
    """

    signal: str
    columns: list[int] | None = None


class RegressionTask(SampledTask):
    """Decode a continuous signal.

    Attributes:
        while_moving: Score and train only where the target's speed (unit/s) exceeds this.
    """

    kind: Literal["regression"] = "regression"
    while_moving: float | None = None


class CircularTask(SampledTask):
    """Decode angles, such as a heading: 359° lies beside 1°.

    Attributes:
        unit: Of the signal, where its file does not say.
    """

    kind: Literal["circular"] = "circular"
    unit: Literal["radians", "degrees"] | None = None


class LabelTask(Params):
    """Decode a column of an interval table from the stretch that it labels.

    Attributes:
        column: Column with the label.
        classes: Labels to tell apart; rows with another label are left out. None takes all.
    """

    signal: str
    column: str
    classes: list[str] | None = None


class ClassificationTask(LabelTask):
    """Labels in no order."""

    kind: Literal["classification"] = "classification"


class OrdinalTask(LabelTask):
    """Labels in an order, which `classes` gives, such as low, middle and high."""

    kind: Literal["ordinal"] = "ordinal"
    classes: list[str] = Field(min_length=2)


Task = Annotated[
    RegressionTask | ClassificationTask | OrdinalTask | CircularTask, Field(discriminator="kind")
]
