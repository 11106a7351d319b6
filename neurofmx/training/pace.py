"""How far a run is and how fast: a bar in a terminal, a line now and then in a log."""

import math
import sys
import time
from typing import Any

import torch
from tqdm import tqdm

from neurofmx.training.engines import Engine
from neurofmx.training.progress import Progress

EVERY = 15.0  # s between lines of a log
FIRST = 3  # steps that are not timed: caches are cold


class Pace:
    """Tells steps, losses, tokens/s, MFU and what is left; rank 0 does.

    MFU is the share of the machine's own rate of products (`product_rate`, measured at the start)
    that 6 · parameters · tokens need, Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B.

    Args:
        title: Of the run; of one without, nothing is told.
        step, steps: Where it begins, and where it ends.
        engine: Runs it.
        precision: Of its products.
    """

    def __init__(self, title: str, step: int, steps: int, engine: Engine, precision: str):
        self.title, self.begin, self.steps, self.engine = title, step, steps, engine
        self.bar: Any = None
        self._start = self._said = time.perf_counter()
        self._tokens = self._counted = 0
        self.parameters = sum(p.numel() for p in engine.lesson.model.parameters())
        if engine.rank or not title:
            return
        self.rate = product_rate(engine.device, getattr(torch, precision)) * engine.world
        if sys.stderr.isatty():
            self.bar = tqdm(total=steps, initial=step, desc=title, unit="step", mininterval=1.0)

    def tell(self, progress: Progress, losses: dict[str, float], tokens: int) -> None:
        """After a step.

        Args:
            tokens: Of this rank's windows.
        """
        if self.engine.rank or not self.title:
            return
        now = time.perf_counter()
        if progress.step - self.begin == min(FIRST, self.steps - self.begin - 1):
            self._start, self._tokens, self._counted = now, 0, 0
        else:
            self._tokens += tokens * self.engine.world
            self._counted += 1
        figures = self.figures(progress, losses, now)
        if self.bar is not None:
            self.bar.update()
            self.bar.set_postfix(figures)
        elif now - self._said > EVERY or progress.step == self.steps:
            self._said = now
            told = "  ".join(f"{name} {x}" for name, x in figures.items())
            self.say(f"{self.title}: step {progress.step}/{self.steps}  {told}")

    def figures(self, progress: Progress, losses: dict[str, float], now: float) -> dict[str, str]:
        """Loss, valid, tokens/s, MFU, and time left."""
        seconds = max(now - self._start, 1e-9)
        speed = self._tokens / seconds
        figures = {"loss": f"{losses['loss']:.3f}"}
        if progress.valid is not None:
            figures["valid"] = f"{progress.valid:.3f}"
        if self._counted:
            figures["tokens/s"] = f"{speed:.0f}"
            figures["MFU"] = f"{6 * self.parameters * speed / self.rate:.1%}"
            if self.bar is None:  # which has its own
                left = (self.steps - progress.step) * seconds / self._counted
                figures["left"] = time.strftime("%H:%M:%S", time.gmtime(math.ceil(left)))
        return figures

    def close(self) -> None:
        """At the end."""
        if self.bar is not None:
            self.bar.close()

    @staticmethod
    def say(text: str) -> None:
        """A line on stderr, above the bar where there is one."""
        tqdm.write(text, file=sys.stderr)


def product_rate(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """Operations per second of one product of two square matrices: the best of five."""
    a = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        found = a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
        del found
    return 2 * size**3 / best
