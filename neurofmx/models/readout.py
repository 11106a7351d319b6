"""What a model says of one signal of a batch, besides the tasks: its channels, and its points."""

from collections.abc import Collection
from typing import TYPE_CHECKING, cast

from jaxtyping import Float
from torch import Tensor

from neurofmx.batches import Batch, HeadName
from neurofmx.models.channel_heads import CodeHead
from neurofmx.models.features import halves, last_known, mean
from neurofmx.sequence import Features, TokenizedSequence
from neurofmx.tokenizers import Tokenizer

if TYPE_CHECKING:
    from neurofmx.models.neurofmx import NeuroFMX


def of_channels(
    model: "NeuroFMX",
    name: str,
    batch: Batch,
    latents: Float[Tensor, "batch latent width"],
    features: dict[str, Features],
    near: dict[str, Features],
    heads: Collection[HeadName],
) -> dict[str, Tensor]:
    """What is told of a sampled signal's channels, as `ModelOutput.heads` holds it.

    Args:
        batch: Laid.
        features: Of every signal.
        near: Those that queries may start from.
        heads: Which are to answer.
    """
    found: dict[str, Tensor] = {}
    cells, signal = batch.cells[name], batch.signals[name]
    gain = cast(Tokenizer, model.tokenizers[name]).embeddings(signal)[0]
    coded = "codes" in heads and name in model.codes
    if "reconstruct" in heads or coded:
        answers = model.ask(name, latents, near, features[name].middles)
        if "reconstruct" in heads:
            found[f"reconstruct.{name}"] = model.reconstruct[name](answers, gain, cells.rate)
        if coded:
            coder = cast(CodeHead, model.codes[name])
            found |= {f"codes.{name}": coder(answers, gain), f"code.{name}": coder.code(cells)}
    if "forecast" in heads and name in batch.horizons:
        told = model.forecast[name](features[name].tokens, gain, cells.rate)
        found[f"forecast.{name}"] = told
    return found


def on_sphere(
    model: "NeuroFMX",
    name: str,
    batch: Batch,
    entered: TokenizedSequence,
    features: TokenizedSequence,
    heads: Collection[HeadName],
) -> dict[str, Tensor]:
    """Points of a signal: of the window, of its halves, or of a moment of it.

    Args:
        entered, features: Its tokens before and behind the backbone.
        heads: Which are to answer.
    """
    found, project = {}, model.contrastive[name]
    if "contrastive" in heads:
        found[f"contrastive.{name}"] = project(mean(features))
    if "halves" in heads:
        past, later = halves(features, entered)
        found |= {f"past.{name}": project(past), f"later.{name}": project(later)}
    if "moment" in heads and batch.moments is not None:
        known = last_known(features, batch.moments.times[:, None], model.config.model.causal)
        found[f"moment.{name}"] = project(known[:, 0])
    return found
