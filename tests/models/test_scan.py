"""The chunked scan against the loop, and our Mamba-2 against transformers'."""

import pytest
import torch
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from neurofmx.models import Mamba2, MambaBackbone
from neurofmx.models.scan import scan, scan_reference


def arguments(time, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(2, time, 3, 4, generator=g, dtype=torch.float64)
    dt = torch.rand(2, time, 3, generator=g, dtype=torch.float64)
    A = -torch.rand(3, generator=g, dtype=torch.float64) - 0.1
    B, C = (torch.randn(2, time, 5, generator=g, dtype=torch.float64) for _ in range(2))
    return x, dt, A, B, C


@pytest.mark.parametrize("time", [1, 7, 16, 33])
@pytest.mark.parametrize("chunk", [1, 4, 16, 64])
def test_chunks_give_what_the_loop_gives_forward_and_back(time, chunk):
    gradients = []
    for function in (scan_reference, lambda *a: scan(*a, chunk=chunk)):
        inputs = [a.requires_grad_() for a in arguments(time)]
        y = function(*inputs)
        y.square().sum().backward()
        gradients.append([y, *(a.grad for a in inputs)])
    for reference, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


def test_one_step_by_hand():
    one = torch.ones(1, 1, 1, 1)
    y = scan(3 * one, 0.5 * one[..., 0], torch.tensor([-1.0]), 2 * one[..., 0], 5 * one[..., 0])
    assert y.item() == pytest.approx(0.5 * 3 * 2 * 5)  # dt · x · B · C, from an empty state


def test_mamba2_is_that_of_transformers():
    torch.manual_seed(0)
    ours = Mamba2(d_model=32, d_state=16, headdim=16)
    config = Mamba2Config(
        num_heads=4, head_dim=16, hidden_size=32, state_size=16, n_groups=1, expand=2, chunk_size=8
    )
    theirs = Mamba2Mixer(config, layer_idx=0)
    theirs.load_state_dict(ours.state_dict())  # the same names and shapes
    u = torch.randn(2, 19, 32)
    torch.testing.assert_close(ours(u), theirs(u), rtol=1e-5, atol=1e-5)


def test_the_backbone_is_causal():
    torch.manual_seed(0)
    backbone = MambaBackbone(32, 2, d_state=8, headdim=16).eval()
    u = torch.randn(1, 20, 32)
    changed = u.clone()
    changed[:, 12:] += 1.0
    before, after = backbone(u), backbone(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_masked_tokens_change_nothing():
    torch.manual_seed(0)
    backbone = MambaBackbone(32, 2, d_state=8, headdim=16).eval()
    u, mask = torch.randn(1, 20, 32), torch.ones(1, 20, dtype=torch.bool)
    mask[:, 8:12] = False
    other = u.clone()
    other[:, 8:12] = 100.0
    seen = mask[0]
    torch.testing.assert_close(backbone(u, mask)[:, seen], backbone(other, mask)[:, seen])


def test_a_headdim_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="= 64 is no multiple of headdim 48"):
        Mamba2(32, headdim=48)
