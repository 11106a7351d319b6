"""What a model says of an answer: the parameters of a distribution, and what follows from them.

    regression      y ~ N(μ, σ²), each dimension by itself       parameters  μ, log σ²
    classification  P(y = k) = softmax(z)_k                      parameters  z
    ordinal         P(y ≤ k) = sigmoid(c_k), c_0 < c_1 < …       parameters  c
    circular        y ~ von Mises(μ, κ), each angle by itself    parameters  η = κ (cos μ, sin μ)

Every row of `LIKELIHOODS` answers the same questions, so that nobody has to ask of which kind a
task is. Values are those of `Target`: scaled, an angle in radians, or the class as a float.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from neurofmx.types import TaskKind

BETA = 0.5  # power of the variance by which the Gaussian loss is weighed


class Likelihood(ABC):
    """A distribution of answers, by its parameters."""

    @abstractmethod
    def loss(
        self, params: Float[Tensor, "*query param"], values: Float[Tensor, "*query dim"]
    ) -> Float[Tensor, "*query"]:
        """What training makes small: least, on average, at the distribution of the values."""

    @abstractmethod
    def predict(self, params: Float[Tensor, "*query param"]) -> Float[Tensor, "*query output"]:
        """The mean, in the coding of the values; of classes, the probability of each."""

    @abstractmethod
    def spread(self, params: Float[Tensor, "*query param"]) -> Float[Tensor, "*query output"]:
        """Standard deviation of what `predict` is the mean of, in the same unit."""

    @abstractmethod
    def unexplained(
        self, params: Float[Tensor, "*query param"], values: Float[Tensor, "*query dim"]
    ) -> Float[Tensor, "*query"]:
        """What is left to explain: 0 is perfect, and 1 on average what knowing nothing gives."""


class Gaussian(Likelihood):
    """N(μ, σ²), learnt by β-NLL: σ^(2β) (log σ² + (y − μ)² / σ²), the weight held constant.

    Plain likelihood (β = 0) lets queries with a large variance count for little, so that one
    badly told from the start stays so; β = 1 has the gradient of the squared error for μ. For
    each β the optimum is the mean and the variance of the values.

    Source: Seitzer et al. 2022, arXiv:2203.09168.
    """

    def loss(
        self, params: Float[Tensor, "*query param"], values: Float[Tensor, "*query dim"]
    ) -> Float[Tensor, "*query"]:
        """β-NLL, twice and without constants: at σ = 1 its gradient for μ is that of (y − μ)²."""
        mean, log_variance = params.chunk(2, dim=-1)
        error = (values - mean).square() * (-log_variance).exp()
        weight = (BETA * log_variance).exp().detach()
        return (weight * (log_variance + error)).mean(-1)

    def predict(self, params: Float[Tensor, "*query param"]) -> Float[Tensor, "*query output"]:
        """μ."""
        return params.chunk(2, dim=-1)[0]

    def spread(self, params: Float[Tensor, "*query param"]) -> Float[Tensor, "*query output"]:
        """σ."""
        return (0.5 * params.chunk(2, dim=-1)[1]).exp()

    def unexplained(
        self, params: Float[Tensor, "*query param"], values: Float[Tensor, "*query dim"]
    ) -> Float[Tensor, "*query"]:
        """Squared error of scaled values: 1 is the train mean's."""
        return (self.predict(params) - values).square().mean(-1)


class Classes(Likelihood):
    """One of several classes; how the parameters give their probabilities is left open."""

    @abstractmethod
    def log_probabilities(
        self, params: Float[Tensor, "*query param"]
    ) -> Float[Tensor, "*query output"]:
        """Of each class."""

    def loss(
        self, params: Float[Tensor, "*query param"], values: Float[Tensor, "*query dim"]
    ) -> Float[Tensor, "*query"]:
        """Cross-entropy (nats)."""
        known = self.log_probabilities(params)
        return -known.gather(-1, values[..., :1].long())[..., 0]

    def predict(self, params: Float[Tensor, "*query param"]) -> Float[Tensor, "*query output"]:
        """Probability of each class."""
        return self.log_probabilities(params).exp()

    def spread(self, params: Float[Tensor, "*query param"]) -> Float[Tensor, "*query output"]:
        """Of each class being the one: √(p (1 − p))."""
        p = self.predict(params)
        return (p * (1 - p)).clamp(min=0).sqrt()


class Categorical(Classes):
    """Classes in no order, by their logits.

    Source: maximum likelihood; Bishop 2006, section 4.3.
    """

    def log_probabilities(
        self, params: Float[Tensor, "*query param"]
    ) -> Float[Tensor, "*query output"]:
        """Log-softmax."""
        return F.log_softmax(params, dim=-1)

    def unexplained(
        self, params: Float[Tensor, "*query param"], values: Float[Tensor, "*query dim"]
    ) -> Float[Tensor, "*query"]:
        """Errors of the most probable class over those of guessing.

        Unlike cross-entropy it does not grow with the confidence of a wrong answer, so it tells
        which weights decode best.
        """
        wrong = (params.argmax(-1) != values[..., 0].long()).float()
        return wrong / (1 - 1 / params.shape[-1])


class CumulativeLink(Classes):
    """Classes in order, by the logits c_k of P(y ≤ k) for all but the last.

    With σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b − a)) no probability is a difference of two near 1.

    Source: McCullagh 1980, doi:10.1111/j.2517-6161.1980.tb01109.x.
    """

    def log_probabilities(
        self, params: Float[Tensor, "*query param"]
    ) -> Float[Tensor, "*query output"]:
        """log (P(y ≤ k) − P(y ≤ k − 1))."""
        below, above = F.logsigmoid(params), F.logsigmoid(-params)
        apart = torch.log(-torch.expm1(params[..., :-1] - params[..., 1:]))
        between = below[..., 1:] + above[..., :-1] + apart
        return torch.cat([below[..., :1], between, above[..., -1:]], dim=-1)

    def unexplained(
        self, params: Float[Tensor, "*query param"], values: Float[Tensor, "*query dim"]
    ) -> Float[Tensor, "*query"]:
        """Classes between the median and the true one, over those of always naming the middle."""
        classes = params.shape[-1] + 1
        blind = (classes**2 // 4) / classes  # mean distance from the middle of as many classes
        return (self.median(params) - values[..., 0]).abs() / blind

    def median(self, params: Float[Tensor, "*query param"]) -> Int[Tensor, "*query"]:
        """The class that as much lies below as above: its distance is the least on average."""
        return (params < 0).sum(-1)


class VonMises(Likelihood):
    """Angles about a direction μ with concentration κ; κ = 0 is any direction, as likely as others.

    In its natural parameters η = κ (cos μ, sin μ) the loss is convex and 2π − ε lies beside ε:

        −log p(y) = log 2π I₀(κ) − η · (cos y, sin y),    κ = |η|

    Source: Mardia & Jupp 2000, Directional Statistics, section 3.5.4.
    """

    def loss(
        self, params: Float[Tensor, "*query param"], values: Float[Tensor, "*query dim"]
    ) -> Float[Tensor, "*query"]:
        """Negative log-likelihood (nats), the mean over angles."""
        eta, kappa = self._natural(params)
        along = eta[..., 0] * values.cos() + eta[..., 1] * values.sin()
        # I₀(κ) overflows from κ ≈ 90; e^(−κ) I₀(κ) does not.
        log_bessel = torch.special.i0e(kappa).log() + kappa
        return (math.log(2 * math.pi) + log_bessel - along).mean(-1)

    def predict(self, params: Float[Tensor, "*query param"]) -> Float[Tensor, "*query output"]:
        """Mean direction μ in (−π, π] (rad)."""
        eta, _ = self._natural(params)
        return torch.atan2(eta[..., 1], eta[..., 0])

    def spread(self, params: Float[Tensor, "*query param"]) -> Float[Tensor, "*query output"]:
        """Circular standard deviation √(−2 log R), R = I₁(κ) / I₀(κ) (rad); infinite at κ = 0."""
        _, kappa = self._natural(params)
        resultant = torch.special.i1e(kappa) / torch.special.i0e(kappa)
        return (-2 * resultant.log()).clamp(min=0).sqrt()

    def unexplained(
        self, params: Float[Tensor, "*query param"], values: Float[Tensor, "*query dim"]
    ) -> Float[Tensor, "*query"]:
        """1 − cos of the error: 1 for a guess of any direction."""
        return (1 - (self.predict(params) - values).cos()).mean(-1)

    def _natural(
        self, params: Float[Tensor, "*query param"]
    ) -> tuple[Float[Tensor, "*query dim 2"], Float[Tensor, "*query dim"]]:
        """η and κ of each angle."""
        eta = rearrange(params, "... (dim xy) -> ... dim xy", xy=2)
        return eta, torch.linalg.vector_norm(eta, dim=-1)


LIKELIHOODS: dict[TaskKind, Likelihood] = {
    "regression": Gaussian(),
    "classification": Categorical(),
    "ordinal": CumulativeLink(),
    "circular": VonMises(),
}
