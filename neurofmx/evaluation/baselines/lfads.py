"""Latent factors as the state of a dynamical system that makes the spikes (LFADS).

Two GRUs read a chunk from either side and give a Gaussian from which the first state g₀ of a
generator is drawn; the generator, a GRU, runs on, and its factors give the rates:

    g_t = GRU(g_{t−1}, u_t),   f_t = W g_t,   rates = exp(V f_t + b)

With a controller, a third GRU sees f_{t−1} and what two more have read, and gives the Gaussian of
an input u_t; without one u_t = 0. The loss is the Poisson likelihood and the two divergences from
priors N(0, `PRIOR`), which are let in over the first `WARM` of the steps. For u the paper has an
autoregressive prior; here its steps are independent. The blanks that end a short chunk are read as
bins without a spike. Factors are those of the posterior's mean, not of draws; ridge reads them.

Source: Sussillo et al. 2016, arXiv:1608.06315; Pandarinath et al. 2018,
doi:10.1038/s41592-018-0109-9.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor, nn

from neurofmx.evaluation.baselines import networks
from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.evaluation.baselines.ndt import readout
from neurofmx.evaluation.baselines.reading import read
from neurofmx.evaluation.baselines.sequences import Sequences, sequences

PRIOR = 0.1  # variance of g₀ and of each input
INPUTS = 2  # of the controller
WARM = 0.5  # share of the steps
LEAST = 1e-4  # variance of a posterior
CLIP = 5.0  # largest state of a generator, as in the paper


class Gaussian(nn.Module):
    """A diagonal Gaussian that follows from features, and its divergence from the prior."""

    def __init__(self, features: int, width: int):
        super().__init__()
        self.line = nn.Linear(features, 2 * width)

    def forward(
        self, features: Float[Tensor, "*any features"]
    ) -> tuple[Float[Tensor, "*any width"], Float[Tensor, "*any"]]:
        """A draw (the mean where the network is not trained), and the divergence (nats)."""
        mean, log_variance = self.line(features).chunk(2, dim=-1)
        variance = log_variance.exp() * PRIOR + LEAST
        divergence = (variance + mean.square()) / PRIOR - 1 - (variance / PRIOR).log()
        noise = variance.sqrt() * torch.randn_like(mean) if self.training else 0.0
        return mean + noise, 0.5 * divergence.sum(dim=-1)


class LFADS(nn.Module):
    """Encoders, generator, factors and log rates.

    Args:
        mean: Counts in a bin, which the rates begin at; from elsewhere they take long to learn.
        controlled: Whether inputs to the generator are inferred.
    """

    def __init__(self, mean: Float[ndarray, " unit"], width: int, dropout: float, controlled: bool):
        super().__init__()
        units = len(mean)
        factors = width // 2
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.GRU(units, width, batch_first=True, bidirectional=True)
        self.first = Gaussian(2 * width, width)
        self.generator = nn.GRUCell(INPUTS, width)
        self.factors = nn.Linear(width, factors, bias=False)
        self.rates = readout(factors, mean)
        self.controlled = controlled
        if controlled:
            self.watch = nn.GRU(units, width // 2, batch_first=True, bidirectional=True)
            self.controller = nn.GRUCell(2 * (width // 2) + factors, width // 2)
            self.inputs = Gaussian(width // 2, INPUTS)

    def forward(
        self, counts: Float[Tensor, "batch time unit"], seen: Bool[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch time factor"], Float[Tensor, " batch"]]:
        """Factors of each bin, and the divergence of what was drawn for the chunk (nats)."""
        shown = self.dropout(counts)
        _, ends = self.encoder(shown)
        state, divergence = self.first(self.dropout(torch.cat([ends[0], ends[1]], dim=-1)))
        factor = self._factors(state)
        watched = self.watch(shown)[0] if self.controlled else shown
        control = state.new_zeros(len(state), self.factors.in_features // 2)
        drive, found = state.new_zeros(len(state), INPUTS), []
        for t in range(counts.shape[1]):
            if self.controlled:
                told = torch.cat([watched[:, t], factor], dim=-1)
                control = self.controller(self.dropout(told), control)
                drive, more = self.inputs(control)
                divergence = divergence + more * seen[:, t]
            state = self.generator(drive, state).clamp(-CLIP, CLIP)
            factor = self._factors(state)
            found.append(factor)
        return torch.stack(found, dim=1), divergence

    def _factors(self, state: Float[Tensor, "batch width"]) -> Float[Tensor, "batch factor"]:
        """Rows of the weights have the norm 1, as in the paper."""
        weight = F.normalize(self.factors.weight, dim=1)
        return F.linear(self.dropout(state), weight)


class Variational:
    """LFADS and the bound that it is trained by."""

    def __init__(
        self,
        data: Sequences,
        counts: Float[ndarray, "bin unit"],
        network: LFADS,
        splits: tuple[str, ...],
        params: BaselineParams,
    ):
        self.network, self.lr, self.splits = network, params.networks.lr, splits
        self.data, self.params, self.read, self.step = data, params, 0, 0
        blank = np.zeros((1, counts.shape[1]), np.float32)
        shown = np.concatenate([counts, blank]).astype(np.float32)
        self.counts = torch.as_tensor(shown, device=torch.get_default_device())

    def loss(self, bins: Int[Tensor, "batch time"]) -> Float[Tensor, ""]:
        """Poisson loss and divergence for each bin of each unit."""
        counts, seen = self.counts[bins], bins >= 0
        factors, divergence = self.network(counts, seen)
        log_rates = self.network.rates(factors)
        likelihood = F.poisson_nll_loss(log_rates, counts, reduction="none")[seen].mean()
        self.step += 1
        let_in = min(1.0, self.step / (WARM * self.params.networks.steps))
        return likelihood + let_in * divergence.sum() / (seen.sum() * counts.shape[-1])

    def found(self, split: str, rates: bool = False) -> Float[ndarray, "bin width"]:
        """Factors, or expected counts, of a split's bins."""
        self.network.eval()

        def forward(bins: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time width"]:
            factors, _ = self.network(self.counts[bins], bins >= 0)
            return self.network.rates(factors).exp() if rates else factors

        return networks.outputs(self.data, split, self.params.networks, forward, 0.5)

    def answers(self, split: str) -> Float[ndarray, "query output"]:
        """What a linear readout of the factors says."""
        factors = {each: self.found(each) for each in dict.fromkeys(("train", "valid", split))}
        found, self.read = read(self.data, factors, self.splits, self.params)
        return found


def lfads(problem: Problem, params: BaselineParams) -> Prediction:
    """LFADS whose width, dropout and controller are chosen by how well its factors are read."""
    given = params.networks
    data = sequences(problem, given.rate)
    counts = data.counts(problem.card)
    mean = counts[data.bins(["train"])].mean(axis=0)

    def make(setting: networks.Setting, splits: tuple[str, ...]) -> Variational:
        network = LFADS(mean, **setting).to(torch.get_default_device())
        return Variational(data, counts, network, splits, params)

    candidates = [
        {"width": width, "dropout": dropout / 2, "controlled": controlled}
        for width, dropout in given.sizes
        for controlled in (False, True)
    ]
    return networks.predict(problem, data, *networks.tuned(data, given, candidates, make))
