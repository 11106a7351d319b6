"""The diffusion objective by hand."""

import pytest
import torch

from neurofmx.batches import Batch, ModelOutput
from neurofmx.objectives.diffusion import Diffusion


def output(**heads):
    return ModelOutput(torch.zeros(2, 1, 2), {}, heads)


def test_diffusion_is_the_mean_squared_error_of_what_was_said():
    said = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]])
    truth = torch.tensor([[[1.0, 0.0]], [[2.0, -2.0]]])
    heads = {"denoise.prediction": said, "denoise.truth": truth}
    batch = Batch({}, {}, ["r", "r"], [0, 1])
    assert Diffusion().loss(output(**heads), batch).item() == (0 + 4 + 4 + 4) / 4


def test_without_noise_it_says_what_to_do():
    with pytest.raises(ValueError, match=r"needs a model with a prior.*prior\.draw"):
        Diffusion().loss(output(), Batch({}, {}, ["r", "r"], [0, 1]))
