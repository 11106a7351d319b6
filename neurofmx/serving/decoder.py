"""A causal model's next answer as a pure function of tensors, so that it can be exported.

It is `model.stream` without its branches: at each step every signal brings the samples of one
token, and all tasks are answered at its end. What a step may have to do or not is done always, and
kept where it was due:

    step = DecoderStep(model, wired(model, "recording", shards.channels))
    export_step(step, step.inputs(), step.initial(), "folder")
    OnnxStep("folder")(spikes=counts)["output.velocity.value"]      # (stream, sample, unit) each
"""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurofmx.data.collate import Channels
from neurofmx.data.shards import Shards
from neurofmx.errors import UserError
from neurofmx.models import NeuroFMX
from neurofmx.models.rings import Held, Rings
from neurofmx.models.stream import added, asked, capacity, check, wired
from neurofmx.models.stream_input import SignalState, SignalStep, Token
from neurofmx.serving.export import export_step

ROUNDING = 1e-12  # of a ratio of two durations


class DecoderState(NamedTuple):
    """What the next step has to know of those before; its size does not grow.

    Attributes:
        tokens: Steps so far.
        signals: By name.
        rings: Of the Perceiver.
    """

    tokens: Int[Tensor, "1"]
    signals: dict[str, SignalState]
    rings: Held


class DecoderStep(nn.Module):
    """One token of each signal in, an answer to each task out.

    Args:
        model: Causal.
        channels: Of the recording, by signal (`neurofmx.models.stream.wired`).
        batch: Streams side by side, on one clock.

    Raises:
        UserError: The model or a signal cannot stream, or tokens of signals last differently long.
    """

    def __init__(self, model: NeuroFMX, channels: Mapping[str, Channels], batch: int = 1):
        check(model, channels)
        super().__init__()
        model, self.batch = model.eval(), batch
        steps = {name: SignalStep(model, name, known, batch) for name, known in channels.items()}
        self.dt = _shared({name: step.dt for name, step in steps.items()})
        self.signals = nn.ModuleDict(steps)
        # Its parts, since a graph carries the weights of all that is in the module.
        self.perceiver, self.queries = model.perceiver, model.queries
        self.nearest, self.whole, self.decode = model.nearest, model.whole, model.decode
        self._answer = model.answer

    def inputs(self) -> dict[str, Tensor]:
        """A step's inputs, of which nothing was recorded: a token's samples of each signal."""
        return {
            name: torch.full((self.batch, step.spec.patch, len(step.gain)), math.nan)
            for name, step in self._steps().items()
        }

    def initial(self) -> DecoderState:
        """The state before the first token."""
        held = capacity(self.perceiver, [self.dt] * len(self.signals))
        return DecoderState(
            torch.zeros(1, dtype=torch.int64),
            {name: step.initial() for name, step in self._steps().items()},
            Rings.empty(self.perceiver, self.batch, held),
        )

    def step(
        self, *, state: DecoderState, **values: Float[Tensor, "batch _sample _channel"]
    ) -> tuple[dict[str, dict[str, Float[Tensor, "batch _output"]]], DecoderState]:
        """The answers when these samples have been seen, and the state that they leave.

        Args:
            values: By signal, the samples of its next token in the recording's unit (counts,
                volts, …); a sample of which a channel is NaN is a gap.

        Returns:
            By task, `value` in the target's own unit (of classes, the probability of each) and
            `spread`, its standard deviation; and the state.
        """
        end = (state.tokens + 1).double() * self.dt
        ends = end.expand(self.batch, 1)
        rings = Rings(self.perceiver, {name: held.clone() for name, held in state.rings.items()})
        last, signals = {}, {}
        for name, step in self._steps().items():
            normalised = step.normalised(values[name])
            token, signals[name] = step.token(*normalised, state.signals[name])
            last[name] = token
            shown = ends.masked_fill(~token.valid[:, None], -math.inf)
            rings.push(token.features[:, None], ends - self.dt / 2, shown)
        for _ in range(math.ceil(self.dt / self.perceiver.spacing - ROUNDING)):
            rings.make(end)  # at most as many are due
        return self._answers(rings, last, end), DecoderState(state.tokens + 1, signals, rings.held)

    def _answers(
        self, rings: Rings, last: dict[str, Token], end: Float[Tensor, "1"]
    ) -> dict[str, dict[str, Float[Tensor, "batch _output"]]]:
        queries = asked(self.queries, self.nearest, last, self.decode)
        answers = rings.answer(queries, end.expand(queries.shape[:2])) + added(self.whole, last)
        found = {}
        for k, task in enumerate(self.decode):
            params = self.decode[task](answers[:, [k]])
            value, spread = self._answer(task, params[:, 0])
            found[task] = {"value": value, "spread": spread}
        return found

    def _steps(self) -> dict[str, SignalStep]:
        return cast(dict[str, SignalStep], dict(self.signals.items()))


def _shared(durations: dict[str, float]) -> float:
    """How long a token lasts, of whichever signal (s).

    Raises:
        UserError: Those of one last longer than those of another.
    """
    dt, *others = durations.values()
    if not all(math.isclose(dt, other, rel_tol=ROUNDING) for other in others):
        told = ", ".join(f"{name} {duration:g} s" for name, duration in durations.items())
        raise UserError(
            f"tokens last differently long ({told}), and an exported step takes one of each "
            "signal: choose signals whose tokens last equally long, or decode with model.stream"
        )
    return dt


def export_decoder(
    model: Path | str,
    recording: str,
    out: Path | str,
    shards: str = "storage/tokenize",
    signals: Collection[str] | None = None,
) -> str:
    """Write the step of a model in a folder for a recording; says how it is run.

    Args:
        shards: Folder or URL of shards that know its channels.
        signals: Those that come; None: all that the model can stream.

    Raises:
        UserError: There is no such model, recording or signal, or no stream of it.
    """
    made = NeuroFMX.from_pretrained(model)
    channels = wired(made, recording, Shards(shards).channels)
    chosen = channels if not signals else {n: channels[n] for n in channels if n in signals}
    if unknown := sorted(set(signals or ()) - set(chosen)):
        raise UserError(
            f"the model streams {', '.join(channels) or 'nothing'} of {recording!r}, and not "
            f"{', '.join(unknown)}"
        )
    step = DecoderStep(made, chosen)
    export_step(step, step.inputs(), step.initial(), out)
    shapes = [f"{name} {tuple(x.shape)}" for name, x in step.inputs().items()]
    given = ", ".join(f"{name}=…" for name in step.inputs())
    return (
        f"{out}: a step takes {', '.join(shapes)} (stream, sample, channel) as float32 every "
        f"{step.dt:g} s, NaN for a gap, as in neurofmx.serving.OnnxStep({str(out)!r})({given})"
    )
