"""Codes: name the code of what was hidden, out of a fixed book.

A cell's samples x are projected at random and get the number of the nearest of K random unit
vectors,

    code(x) = argmax_k ⟨c_k, P x / |P x|⟩

with P and c drawn once and never trained. A cross-entropy over codes can say that one of two things
happened, where a mean would say neither. It is divided by log K: a blind guess leaves 1.

Source: Chiu et al. 2022 (BEST-RQ), arXiv:2202.01855; codes as targets, Hsu et al. 2021 (HuBERT),
arXiv:2106.07447.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F

from neurofmx.batches import Batch, HeadName, ModelOutput
from neurofmx.objectives.base import Groups, summed
from neurofmx.objectives.masked import Masked


class Codes(Masked):
    """Mean cross-entropy of the codes of hidden cells, as a share of that of guessing.

    Source: the module's.
    """

    heads: ClassVar[Sequence[HeadName]] = ("codes",)
    name = "codes"

    def asked(self, batch: Batch) -> Groups:
        """Hidden cells of which all samples were recorded."""
        return {
            name: (wanted & batch.cells[name].seen.all(3)).sum()
            for name, wanted in batch.asked.get(self.name, {}).items()
        }

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """Their cross-entropies."""
        found = {}
        for name, wanted in batch.asked.get(self.name, {}).items():
            logits, codes = output.heads[f"codes.{name}"], output.heads[f"code.{name}"]
            loss = F.cross_entropy(logits.flatten(0, -2).float(), codes.flatten(), reduction="none")
            asked = wanted & batch.cells[name].seen.all(3)
            found[name] = summed(loss.view_as(codes) / math.log(logits.shape[-1]), asked)
        return found
