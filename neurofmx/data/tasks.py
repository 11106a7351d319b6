"""What a card asks to be decoded: numbers, angles, labels, or labels in an order."""

from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurofmx.config import Params

MISSING = ("", "nan", "None", "<NA>")


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
        column: Column with the label, or an expression in columns, as pandas' `eval` reads it:
            `contrast_left > contrast_right` has the labels True and False.
        where: Expression that a row must fulfil to be asked; None asks all.
        classes: Labels to tell apart; rows with another label are left out. None takes all.
    """

    signal: str
    column: str
    where: str | None = None
    classes: list[str] | None = None

    def labels(self, table: pd.DataFrame) -> list[str]:
        """The label of each row, empty where the row is not asked.

        Raises:
            ValueError: An expression cannot be computed from the table's columns; names both.
        """
        values = self._of(self.column, table)
        asked = self._of(self.where, table) if self.where else np.ones(len(table), bool)
        named = [str(value) if seen else "" for value, seen in zip(values, asked, strict=True)]
        return ["" if name in MISSING else name for name in named]

    @staticmethod
    def _of(text: str, table: pd.DataFrame) -> Any:
        if text in table:  # a name need not be an expression
            return table[text]
        try:
            return table.eval(text, engine="python")
        except (NameError, SyntaxError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{text!r} is no column and no expression in columns; the table has "
                f"{', '.join(map(str, table.columns))}"
            ) from error


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
