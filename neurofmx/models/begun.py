"""A model for other windows that begins with what a pretrained one has learnt.

All that the pretrained model knows stays, its other signals and tasks too, since its times are laid
out by them; what it does not know is drawn anew. Channels are those of the new windows, of which
the ones that it knows keep their embeddings.
"""

import torch

from neurofmx.errors import UserError
from neurofmx.models.adapters import rewire
from neurofmx.models.neurofmx import NeuroFMX, Vocabulary, untrained

DOMAINS = "domain."  # whose classes are others


def begun(core: NeuroFMX, config: NeuroFMX.Config, vocabulary: Vocabulary, seed: int) -> NeuroFMX:
    """A model with the weights of another where both have them, all of it to be trained.

    Args:
        core: Pretrained; it stays as it is.
        config: Of the new windows; signals and tasks of one name are as they are here.
        vocabulary: Channels of the new windows.
        seed: Of all that is new.

    Raises:
        UserError: A weight has another shape here; says which.
    """
    joined = config.model_copy(
        update={
            "duration": max(core.config.duration, config.duration),
            "signals": core.config.signals | config.signals,
            "tasks": core.config.tasks | config.tasks,
        }
    )
    model = untrained(joined, core.vocabulary, seed)
    own = model.state_dict()
    kept = {n: x for n, x in core.state_dict().items() if n in own and not n.startswith(DOMAINS)}
    for name, weight in kept.items():
        if weight.shape != own[name].shape:
            raise UserError(
                f"{name} is {tuple(weight.shape)} in the model to start from and "
                f"{tuple(own[name].shape)} here: give `model` the sizes that it has, and signals "
                "and tasks of one name the same rate and classes, or other names"
            )
    model.load_state_dict(kept, strict=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        rewire(model, vocabulary)
    return model
