"""Decode while data come: in constant memory, with the numbers of the causal batch forward.

Samples are gathered to tokens signal by signal (`StreamInput`). A token steps the backbone once;
what comes out goes to the Perceiver (`PerceiverStream`) in the order in which tokens of all
signals end, and at each end every task is asked.

    stream = model.stream("recording", shards.channels)
    for counts in bins:                                  # (sample, unit) each: a bin, or more
        decoded = stream.push({"spikes": counts})
        decoded.times, decoded.values["velocity"]        # of each token that became complete
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Shaped
from numpy import ndarray
from pandas import DataFrame
from torch import Tensor, nn

from neurofmx.data.collate import Channels
from neurofmx.errors import UserError
from neurofmx.models.perceiver import PerceiverIO
from neurofmx.models.perceiver_stream import PerceiverStream
from neurofmx.models.scan import choose
from neurofmx.models.stream_input import StreamInput, Token

if TYPE_CHECKING:
    from neurofmx.models.neurofmx import NeuroFMX

ABUT = 1e-6  # s; ends that are closer than this are one
Samples = Mapping[str, Shaped[Tensor, "..."] | Shaped[ndarray, "..."]]


class Decoded(NamedTuple):
    """What became known.

    Attributes:
        times: Ends of the tokens that became complete, since the stream began (s).
        values: By task, in the target's own unit; of classes, the probability of each.
        spreads: By task, the standard deviation of each.
    """

    times: list[float]
    values: dict[str, Float[Tensor, "batch time output"]]
    spreads: dict[str, Float[Tensor, "batch time output"]]


def wired(model: "NeuroFMX", recording: str, channels: DataFrame) -> dict[str, Channels]:
    """What a model knows of a recording's channels, by signal.

    Args:
        channels: `Shards.channels`.

    Raises:
        UserError: It does not have the recording.
    """
    rows = channels[channels["recording"] == recording]
    if rows.empty:
        raise UserError(
            f"channels.parquet has no recording {recording!r}; it has "
            f"{', '.join(sorted(channels['recording'].unique())[:10])}"
        )
    signals = rows[rows["signal"].isin(model.sampled)].groupby("signal")
    return {str(name): Channels.of(table, model.rows) for name, table in signals}


def check(model: "NeuroFMX", channels: Mapping[str, Channels]) -> None:
    """Refuse what cannot be decoded as it comes.

    Raises:
        UserError: The model is not causal, or does not read such a signal sample by sample.
    """
    if not model.config.model.causal:
        raise UserError(
            "only a causal model can stream, and this one sees a whole window at a time: "
            "pretrain it with `pretrain.model.causal: true`"
        )
    unread = sorted(set(channels) - set(model.sampled))
    if unread or not channels:
        raise UserError(
            f"{', '.join(unread) or 'no signal'} cannot be streamed; this model streams "
            f"{', '.join(model.sampled) or 'none'}, and spikes only as counts in bins"
        )


def capacity(perceiver: PerceiverIO, durations: Sequence[float]) -> int:
    """Tokens that a Perceiver has to hold of signals whose tokens last so long (s)."""
    reach = perceiver.horizon + perceiver.spacing
    return sum(math.ceil(reach / dt) + 2 for dt in durations)


def asked(
    queries: nn.ParameterDict,
    nearest: nn.ModuleDict,
    last: Mapping[str, Token],
    tasks: Iterable[str],
) -> Float[Tensor, "batch task latent_width"]:
    """What each task asks: its query, and what the backbone holds of each signal."""
    known = sum(nearest[name](token.features) for name, token in last.items())
    return torch.stack([queries[task] + known for task in tasks], dim=1)


def added(whole: nn.ModuleDict, last: Mapping[str, Token]) -> Float[Tensor, "..."] | float:
    """What the units of each signal say of late, which is added to every answer."""
    parts = (straight(last[n].lately)[:, None] for n, straight in whole.items() if n in last)
    return sum(parts, start=0.0)


class Stream:
    """A recording, or several that are wired alike, as it comes.

    Args:
        model: Causal; its weights must not change while the stream runs.
        channels: Of the recording, by signal; signals that are not named do not come.
        batch: Streams side by side, on one clock.
        backend: "compiled" runs each step through torch.compile; None: the model's own.

    Raises:
        UserError: The model is not causal, or does not read such a signal sample by sample.
        ValueError: The backend cannot run here.
    """

    def __init__(
        self,
        model: "NeuroFMX",
        channels: Mapping[str, Channels],
        batch: int = 1,
        backend: str | None = None,
    ):
        check(model, channels)
        self.model, self.batch = model.eval(), batch
        asked = backend or model.config.model.backend
        compiled = asked == "compiled"  # of the others, all of which scan, none has part in a step
        if backend or compiled:
            choose(asked, model.hidden_token.device.type)
        with torch.no_grad():
            made = {n: StreamInput(model, n, c, batch, compiled) for n, c in channels.items()}
        self._inputs = made
        held = capacity(model.perceiver, [one.dt for one in self._inputs.values()])
        self._perceiver = PerceiverStream(model.perceiver, batch, held, compiled)

    @torch.no_grad()
    def push(self, values: Samples, masks: Samples | None = None) -> Decoded:
        """Take in samples, and tell what is known once tokens are complete.

        Args:
            values: By signal, the samples that follow those before: (sample, channel), or (stream,
                sample, channel), in the recording's unit (counts, volts, …); NaN is a gap. A signal
                may come later than others: answers wait for it.
            masks: By signal, False for samples that are gaps: (sample) or (stream, sample).

        Raises:
            ValueError: A signal is not of this stream, or of other channels.
        """
        if unknown := sorted(set(values) - set(self._inputs)):
            raise ValueError(
                f"{', '.join(unknown)} came, but this is a stream of {', '.join(self._inputs)}"
            )
        for name, samples in values.items():
            seen = None if masks is None or name not in masks else self._batched(masks[name], 2)
            self._inputs[name].take(self._batched(samples, 3).float(), seen)
        times, answers = [], []
        while (end := self._next()) is not None:
            times.append(end)
            answers.append(self._ask(end))
        return self._decoded(times, answers)

    def state(self) -> dict[str, Tensor]:
        """Everything that the stream remembers, as a copy, to go on from."""
        parts = {name: one.state() for name, one in self._inputs.items()}
        parts |= {"": self._perceiver.state()}
        return {f"{name}/{key}": x for name, part in parts.items() for key, x in part.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state` of a stream of the same model, channels and batch."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            part, _, key = name.rpartition("/")
            parts.setdefault(part, {})[key] = tensor
        self._perceiver.load(parts.pop(""))
        for name, own in parts.items():
            self._inputs[name].load(own)

    def _batched(self, samples: Tensor | ndarray, axes: int) -> Tensor:
        x = torch.as_tensor(samples, device=self.model.hidden_token.device)
        return x.expand(self.batch, *x.shape) if x.ndim < axes else x

    def _next(self) -> float | None:
        """Give the Perceiver what ends next, of all signals; None: not all have come so far."""
        end = min(one.next for one in self._inputs.values())
        due = [one for one in self._inputs.values() if one.next <= end + ABUT]
        if not all(one.waiting for one in due):
            return None
        for one in due:
            token, ends = one.give()
            seen = token.valid[:, None]
            self._perceiver.push(token.features[:, None], ends - one.dt / 2, ends, seen)
        self._perceiver.advance(end)
        return end

    def _ask(self, end: float) -> dict[str, Tensor]:
        """Parameters of each task's answer at the end of a token."""
        tasks, last = self.model.config.tasks, {n: one.last for n, one in self._inputs.items()}
        queries = asked(self.model.queries, self.model.nearest, last, tasks)
        times = torch.full(queries.shape[:2], end, dtype=torch.float64).to(queries.device)
        answers = self._perceiver.answer(queries, times) + added(self.model.whole, last)
        return {task: self.model.decode[task](answers[:, [k]]) for k, task in enumerate(tasks)}

    def _decoded(self, times: list[float], answers: list[dict[str, Tensor]]) -> Decoded:
        values, spreads = {}, {}
        for task in self.model.config.tasks if times else ():
            params = torch.cat([answer[task] for answer in answers], dim=1)
            values[task], spreads[task] = self.model.answer(task, params)
        return Decoded(times, values, spreads)
