"""What a model is built from: its size, as a person chooses it, what it reads, what it answers."""

from typing import Any, Literal

from neurofmx.config import Params, build
from neurofmx.errors import UserError
from neurofmx.tokenizers import TOKENIZERS

Size = Literal["tiny", "small", "base", "medium", "large"]

# Widths by size; each can be overridden by its own key.
_WIDTHS = (
    "d_model",
    "n_blocks",
    "d_state",
    "headdim",
    "n_latents",
    "latent_dim",
    "n_layers",
    "n_heads",
)
SIZES: dict[str, dict[str, int]] = {
    size: dict(zip(_WIDTHS, widths, strict=True))
    for size, widths in {
        "tiny": (64, 2, 32, 32, 16, 64, 1, 4),  # a laptop, one recording
        "small": (512, 6, 64, 64, 64, 512, 2, 8),
        "base": (768, 16, 64, 64, 128, 512, 3, 8),
        "medium": (1024, 18, 64, 64, 128, 512, 3, 8),
        "large": (1536, 32, 64, 64, 256, 768, 4, 8),
    }.items()
}


class SignalSpec(Params):
    """A signal that the model reads.

    Attributes:
        tokenizer: Row of `TOKENIZERS`.
        patch: Samples per token.
        dt: Duration of a sample (s); of events, what one is said to last.
        grid: Shape that the channels have in space; [] where they have none.
    """

    tokenizer: str
    patch: int
    dt: float
    grid: list[int] = []


class TaskSpec(Params):
    """A task that the model answers.

    Attributes:
        kind: Row of `HEADS`.
        outputs: Dimensions, or classes.
        mean, scale: Of the target over the train split; answers are in units of `scale`.
        classes: Labels of a classification.
    """

    kind: Literal["regression", "classification"]
    outputs: int
    mean: list[float] = []
    scale: list[float] = []
    classes: list[str] = []


class ModelParams(Params):
    """What a person chooses; every width comes from `size` unless it is given.

    Attributes:
        n_seeds: Seeds of the PopT.
        tokenizers: By row of `TOKENIZERS`, options of its `Config`.
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
    dropout: float = 0.1
    tokenizers: dict[str, dict[str, Any]] = {}

    def width(self, name: str) -> int:
        """A width: its own key, else that of `size`."""
        own = getattr(self, name)
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
