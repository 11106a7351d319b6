"""What a model is built from: its size, as a person chooses it, what it reads, what it answers."""

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from neurofmx.config import Params, build
from neurofmx.errors import UserError
from neurofmx.models.diffusion import DiffusionPrior
from neurofmx.tokenizers import TOKENIZERS
from neurofmx.types import TaskKind

Size = Literal["tiny", "small", "medium", "base", "large"]

# Widths by size; each can be overridden by its own key. With the prior and three rates they make
# about 20M, 150M, 230M and 620M parameters from `small` on.
_WIDTHS = (
    "d_model",
    "n_blocks",
    "d_state",
    "headdim",
    "n_latents",
    "latent_dim",
    "n_layers",
    "n_heads",
    "prior_width",
    "prior_n_layers",
)
SIZES: dict[str, dict[str, int]] = {
    size: dict(zip(_WIDTHS, widths, strict=True))
    for size, widths in {
        "tiny": (64, 2, 32, 32, 16, 64, 1, 4, 64, 2),  # a laptop, one recording
        "small": (384, 4, 64, 64, 64, 320, 2, 8, 192, 2),
        "medium": (768, 9, 128, 64, 128, 512, 3, 8, 512, 4),
        "base": (768, 16, 64, 64, 128, 512, 3, 8, 512, 6),
        "large": (1024, 24, 128, 64, 256, 768, 4, 8, 768, 8),
    }.items()
}


class SignalSpec(Params):
    """A signal that the model reads.

    Attributes:
        tokenizer: Row of `TOKENIZERS`.
        patch: Samples per token.
        dt: Duration of a sample (s); of events, what one is said to last.
        grid: Shape that the channels have in space; [] where they have none.
        counts: Whether it is of counts, whose rates the heads tell.
        neural: Whether it comes from the brain; else it is of body or world.
    """

    tokenizer: str
    patch: int
    dt: float
    grid: list[int] = []
    counts: bool = False
    neural: bool = True


class TaskSpec(Params):
    """A task that the model answers.

    Attributes:
        kind: Row of `HEADS`.
        outputs: Dimensions, angles or classes.
        mean, scale: Of the target over the train split; answers are in units of `scale`. Of an
            angle they are 0 and 1; classes have none.
        classes: Labels of the classes, where they have an order in theirs.
    """

    kind: TaskKind
    outputs: int
    mean: list[float] = []
    scale: list[float] = []
    classes: list[str] = []


class ModelParams(Params):
    """What a person chooses; every width comes from `size` unless it is given.

    Attributes:
        n_seeds: Seeds of the PopT.
        rates: Tokens that a step of each stream of the backbone stands for; None: 1, 4 and 16, of
            `tiny`, whose windows are short, 1 and 4.
        fusion: How the streams become one; row of `FUSIONS`.
        causal: Whether no answer may depend on what comes after it, so that it can stream.
        backend: What runs the scan; `auto` takes the fastest that is there.
        horizons: How far ahead channels are forecast (s); each falls on the nearest later token,
            and those beyond the longest window are left out.
        tokenizers: By row of `TOKENIZERS`, options of its `Config`.
        prior: Of the latent diffusion prior; None: the model has none.
        codes: Codes of the objective `codes`; None: the model has no head for it.
    """

    size: Size = "tiny"
    d_model: int | None = None
    n_blocks: int | None = None
    d_state: int | None = None
    headdim: int | None = None
    n_latents: int | None = None
    latent_dim: int | None = None
    n_layers: int | None = None
    n_heads: int | None = None
    n_seeds: int = 4
    rates: list[PositiveInt] | None = None
    fusion: Literal["concat", "add", "attention"] = "concat"
    causal: bool = False
    backend: Literal["auto", "reference", "chunked", "compiled", "mamba_ssm"] = "auto"
    horizons: list[PositiveFloat] = [0.1, 0.25, 0.5, 1.0]
    dropout: float = 0.1
    tokenizers: dict[str, dict[str, Any]] = {}
    prior: DiffusionPrior.Config | None = None
    codes: int | None = Field(None, ge=2)

    @property
    def streams(self) -> list[int]:
        """Tokens that a step of each stream of the backbone stands for."""
        usual = [1, 4] if self.size == "tiny" else [1, 4, 16]
        return usual if self.rates is None else self.rates

    def width(self, name: str) -> int:
        """A width: its own key, else that of `size`."""
        of_prior = name.startswith("prior_")
        own = getattr(self.prior if of_prior else self, name.removeprefix("prior_"), None)
        return SIZES[self.size][name] if own is None else own


def tokenizer_config(spec: SignalSpec, model: ModelParams) -> Any:
    """What a tokenizer is built from: what the data set and the model fix, and what was chosen."""
    unknown = set(model.tokenizers) - set(TOKENIZERS)
    if unknown:
        raise UserError(
            f"model.tokenizers names {', '.join(sorted(unknown))}; choose from "
            f"{', '.join(TOKENIZERS)}"
        )
    fixed = {
        "kind": spec.tokenizer,
        "width": model.width("d_model"),
        "patch": spec.patch,
        "dt": spec.dt,
        "n_channels": 0,
        "grid": spec.grid,
    }
    options = model.tokenizers.get(spec.tokenizer, {})
    where = f"model.tokenizers.{spec.tokenizer}"
    return build(TOKENIZERS[spec.tokenizer].Config, options | fixed, where)
