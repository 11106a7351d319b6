"""What is left to explain of windows that are not trained on."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Integer
from numpy import ndarray

from neurofmx.data.loader import Collator
from neurofmx.objectives.decode import unexplained
from neurofmx.objectives.forecast import Forecast
from neurofmx.training.engines import Engine


@torch.no_grad()
def left_unexplained(
    engine: Engine,
    collate: Collator,
    steps: Sequence[Integer[ndarray, " _window"]],
    note: Callable[[list[str]], None] = lambda skipped: None,
) -> float:
    """Mean over tasks of what is unexplained: 0 is perfect, 1 the train mean or a blind guess.

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
    total = torch.zeros(2, len(names), device=engine.device)
    for number in range(-(-len(steps) // engine.world)):
        place = number * engine.world + engine.rank
        own = place < len(steps)  # else this rank only keeps the others company
        batch = collate(steps[place if own else 0]).to(engine.device)
        note(batch.skipped if own else [])
        output = engine.ask(batch, ["decode" if tasks else "forecast"])
        if tasks:
            left = unexplained(output, batch)
            found = {n: (x.sum(), torch.tensor(float(x.numel()))) for n, x in left.items()}
        else:
            batch = model.laid(batch)
            sums, asked = later.total(output, batch), later.asked(batch)
            found = {name: (sums[name], asked[name]) for name in sums}
        for name, pair in found.items() if own else ():
            total[:, names.index(name)] += torch.stack([x.to(total) for x in pair])
    total = engine.sum(total)
    return (total[0] / total[1])[total[1] > 0].mean().item()
