"""What a step of training computes, as one module that an engine can wrap, shard and move.

    batch → laid, hidden, noised (prepare) → model → losses of each objective → one loss

The mean of an objective runs over the whole step, whatever ranks and parts it is spread over: how
much is asked is counted for all of them before the model is run.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from neurofmx.batches import Batch, HeadName, ModelOutput
from neurofmx.models import NeuroFMX
from neurofmx.objectives import Objective
from neurofmx.objectives.draws import Draws
from neurofmx.objectives.masked import Masking, take_turns
from neurofmx.training.curriculum import Lot, shown
from neurofmx.training.weighting import WEIGHTINGS, Fixed, WeightingName

Sums = Float[Tensor, "objective group"]


class Lesson(nn.Module):
    """A model and what it is asked.

    Args:
        model: Trained.
        objectives: Asked.
        weighting: How their losses become one.
        teacher: For distillation; it is not trained, and no part of the module.
        precision: Of products.
    """

    def __init__(
        self,
        model: NeuroFMX,
        objectives: Mapping[str, Objective],
        weighting: WeightingName = "fixed",
        teacher: NeuroFMX | None = None,
        precision: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.model = model
        self.objectives = nn.ModuleDict(objectives)
        self.weighting: Fixed = WEIGHTINGS[weighting](len(self.objectives))
        self.weighting_name = weighting
        self.tied = False  # whether every weight is part of every loss, if with no share in it
        self.precision = precision
        self._teacher = [] if teacher is None else [teacher]  # a list hides it from the module
        self.groups = {name: objective.groups for name, objective in objectives.items()}

    @property
    def _objectives(self) -> dict[str, Any]:
        return dict(self.objectives.items())

    def prepare(
        self, batch: Batch, draws: Draws, lot: Lot, domains: Mapping[str, int] | None = None
    ) -> Batch:
        """The batch as the model is shown it, with what objectives ask of it.

        Args:
            batch: On the device.
            draws: Of its windows.
            lot: What the curriculum says of the step.
            domains: Row of each recording's domain.
        """
        batch = self.model.laid(shown(batch, lot, draws))
        if self.model.domain is not None:
            rows = [(domains or {}).get(recording, -1) for recording in batch.recordings]
            batch = dataclasses.replace(
                batch, domains=torch.tensor(rows, device=draws.seeds.device)
            )
        live = {n: o for n, o in self._objectives.items() if n in lot.live}
        for objective in live.values():
            if not isinstance(objective, Masking):
                batch = objective.prepare(batch, draws)
        maskings = {n: o for n, o in live.items() if isinstance(o, Masking)}
        batch = take_turns(maskings, batch, draws) if maskings else batch
        if "diffusion" in live:
            assert self.model.prior is not None, "Fit refuses it"
            batch = dataclasses.replace(batch, noise=self.model.prior.draw(draws))
        for teacher in self._teacher:
            with torch.no_grad(), self._autocast(draws.seeds.device):
                clear = dataclasses.replace(batch, hidden={}, noise=None)
                said = wide(teacher(clear, heads=self._heads(lot)))
            batch = dataclasses.replace(batch, teacher=said)
        return batch

    def asked(self, batch: Batch, lot: Lot) -> Sums:
        """How much a prepared batch asks of each objective's groups."""
        device = next(self.model.parameters()).device
        return self._table({n: self._objectives[n].asked(batch) for n in lot.live}, device)

    def forward(
        self,
        batch: Batch,
        asked: Sums | None = None,
        lot: Lot | None = None,
        share: float = 1.0,
        heads: Sequence[HeadName] = (),
    ) -> tuple[Float[Tensor, ""], Sums] | ModelOutput:
        """The loss to go down from, and the sums that it is made of.

        Args:
            batch: Prepared.
            asked: Over the whole step, divided by the number of ranks whose gradients are averaged;
                None: nothing is, and what comes out is what the model says, with nothing hidden.
            lot: What the curriculum says of the step.
            share: Of the step that this batch is, between the parts of one rank.
            heads: That answer where nothing is asked.
        """
        if asked is None or lot is None:
            with self._autocast(next(self.model.parameters()).device):
                return wide(self.model(self.model.laid(batch), heads=heads))
        with self._autocast(asked.device):
            output = wide(self.model(batch, heads=self._heads(lot)))
        found = {n: self._objectives[n].total(output, batch) for n in lot.live}
        sums = self._table(found, asked.device)
        shared = [f.tokens for f in output.features.values()]
        weights = torch.tensor([lot.objectives[n] for n in self.objectives], device=asked.device)
        loss = self.weighting(means(sums, asked), weights, shared, share)
        loss = loss + 0.0 * output.latents.sum()  # also where nothing was asked there is a gradient
        if self.tied:
            whole = (p for p in self.parameters() if p.requires_grad and not isinstance(p, DTensor))
            loss = loss + 0.0 * sum(p.sum() for p in whole)
        return loss, sums.detach()

    def learn(self, losses: Float[Tensor, " objective"], asked: Sums) -> None:
        """After a step."""
        for objective in self._objectives.values():
            objective.learn()
        self.weighting.learn(losses, (asked > 0).any(1).to(losses))

    def _heads(self, lot: Lot) -> list[HeadName]:
        """Heads that the step's objectives look at."""
        return list(dict.fromkeys(h for n in lot.live for h in self._objectives[n].heads))

    def _table(self, found: Mapping[str, Mapping[str, Tensor]], device: torch.device) -> Sums:
        """Objective × group, 0 where there is none."""
        width = max((len(groups) for groups in self.groups.values()), default=0)
        zero = torch.zeros((), device=device)
        rows = []
        for name, groups in self.groups.items():
            here = found.get(name, {})
            row = [
                torch.as_tensor(here[g], device=device).float() if g in here else zero
                for g in groups
            ]
            rows.append(torch.stack([*row, *[zero] * (width - len(row))]))
        return torch.stack(rows)

    def _autocast(self, device: torch.device) -> torch.autocast:
        """Around one forward, not a run: autocast keeps the weights as they were when it began."""
        low = self.precision != torch.float32
        return torch.autocast(device.type, self.precision, enabled=low)


def means(sums: Sums, asked: Sums) -> Float[Tensor, " objective"]:
    """Of each objective the mean over its groups, each a mean over what is asked; 0 for nothing."""
    here = asked > 0
    return (sums / asked.where(here, 1.0) * here).sum(1) / here.sum(1).clamp(min=1)


def wide(output: ModelOutput) -> ModelOutput:
    """Answers in float32, in which losses are computed."""
    heads = {n: x.float() if x.is_floating_point() else x for n, x in output.heads.items()}
    return dataclasses.replace(output, heads=heads)
