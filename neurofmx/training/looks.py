"""What is left to explain of windows that are not trained on."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Integer
from numpy import ndarray

from neurofmx.data.loader import Collator
from neurofmx.objectives.decode import unexplained
from neurofmx.objectives.forecast import Forecast
from neurofmx.training.engines import Engine


class Look(NamedTuple):
    """What a look at windows that are not trained on found.

    Attributes:
        left: Mean over tasks of what is unexplained: 0 is perfect, 1 the train mean or a blind
            guess.
        error: Its standard error, over answers taken as independent: neighbours are not, so that
            it is too small rather than too large. 0 of a model without tasks.
    """

    left: float
    error: float


@torch.no_grad()
def left_unexplained(
    engine: Engine,
    collate: Collator,
    steps: Sequence[Integer[ndarray, " window"]],
    note: Callable[[list[str]], None] = lambda skipped: None,
) -> Look:
    """What is unexplained of windows.

    A model without tasks is asked for the later samples of every signal. Ranks share the windows
    out between them, and all get the same figure.

    Args:
        engine: Holds the model.
        collate: Reads windows.
        steps: Windows, in batches.
        note: Told what was wrong with windows that were left out.
    """
    model = engine.lesson.model
    tasks, signals = list(model.config.tasks), list(model.config.signals)
    later, names = Forecast(tasks, signals), tasks or signals
    engine.lesson.eval()
    total = torch.zeros(3, len(names), device=engine.device, dtype=torch.float64)
    for number in range(-(-len(steps) // engine.world)):
        place = number * engine.world + engine.rank
        own = place < len(steps)  # else this rank only keeps the others company
        batch = collate(steps[place if own else 0]).to(engine.device)
        note(batch.skipped if own else [])
        output = engine.ask(batch, ["decode" if tasks else "forecast"])
        if tasks:
            found = {
                name: (x.sum(), x.new_tensor(x.numel()), x.square().sum())
                for name, x in unexplained(output, batch).items()
            }
        else:
            batch = model.laid(batch)
            sums, asked = later.total(output, batch), later.asked(batch)
            found = {name: (sums[name], asked[name], torch.zeros(())) for name in sums}
        for name, parts in found.items() if own else ():
            total[:, names.index(name)] += torch.stack([x.to(total) for x in parts])
    total = engine.sum(total)
    sums, asked, squares = total[:, total[1] > 0]
    left = sums / asked
    variance = (squares / asked - left.square()).clamp(min=0) / asked
    return Look(left.mean().item(), variance.sum().sqrt().item() / len(left))
