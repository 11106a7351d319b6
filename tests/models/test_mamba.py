"""Our Mamba-2 against transformers'; the same numbers whole, cut, and token by token."""

import copy
import shutil
import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from unchecked import in_own_process

from neurofmx.models import Mamba2, MambaBlock, kernels, spans
from neurofmx.models.pointwise import causal_conv, gated_norm

BACKENDS = ["reference", "chunked"]


def mixer(backend="auto", seed=0):
    """A mixer of which no weight is one or zero."""
    torch.manual_seed(seed)
    ours = Mamba2(d_model=32, d_state=16, headdim=16, backend=backend)
    for parameter in ours.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return ours


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_the_state_dict_is_that_of_mamba_ssm():
    ours = Mamba2(d_model=256, d_state=64, headdim=64)
    assert {name: tuple(v.shape) for name, v in ours.state_dict().items()} == {
        "dt_bias": (8,),
        "A_log": (8,),
        "D": (8,),
        "in_proj.weight": (1160, 256),
        "conv1d.weight": (640, 1, 4),
        "conv1d.bias": (640,),
        "norm.weight": (512,),
        "out_proj.weight": (256, 512),
    }


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("time", [1, 2, 19, 64, 131])
def test_mamba2_is_that_of_transformers_forward_and_back(time, backend):
    ours = mixer(backend)
    config = Mamba2Config(
        num_heads=4, head_dim=16, hidden_size=32, state_size=16, n_groups=1, expand=2, chunk_size=8
    )
    theirs = Mamba2Mixer(config, layer_idx=0)
    theirs.load_state_dict(ours.state_dict())  # the same names and shapes
    inputs = [torch.randn(2, time, 32).requires_grad_()]
    inputs.append(inputs[0].detach().clone().requires_grad_())
    outputs = [m(u) for m, u in zip((ours, theirs), inputs, strict=True)]
    for y in outputs:
        y.square().sum().backward()
    close(*outputs)
    close(inputs[0].grad, inputs[1].grad)
    other = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        largest = other[name].grad.abs().max().clamp(min=1e-6)
        close(parameter.grad / largest, other[name].grad / largest, 1e-4)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_the_compiled_mixer_is_the_other_forward_and_back():
    in_own_process(__file__, "compiled_and_not()")


def compiled_and_not():
    """In two spans that are compiled and one that is shorter and is not."""
    spans.CACHED = 128
    masked = torch.rand(2, 131, generator=torch.Generator().manual_seed(0)) < 0.7
    for mask in (None, masked):
        found = []
        for backend in ("chunked", "compiled"):
            ours, u = mixer(backend), torch.linspace(-1, 1, 2 * 131 * 32).view(2, 131, 32)
            u = u.sin().requires_grad_()
            y, state = ours.run(u, None, mask)
            (y.square().sum() + state.ssm.sum() + state.conv.sum()).backward()
            found.append([y, *state, u.grad, *(p.grad for p in ours.parameters())])
        for one, other in zip(*found, strict=True):
            close(one, other, 1e-4 * max(1.0, float(one.abs().max())))


@pytest.mark.parametrize("cut", [1, 2, 3, 40, 64, 69])
def test_a_sequence_may_be_cut_anywhere(cut):
    torch.manual_seed(0)
    block, x = MambaBlock(32, d_state=8, headdim=16).eval(), torch.randn(2, 70, 32)
    mask = torch.rand(2, 70) < 0.8
    whole, last = block.run(x, None, mask)
    first, state = block.run(x[:, :cut], block.initial(2), mask[:, :cut])
    second, state = block.run(x[:, cut:], state, mask[:, cut:])
    close(torch.cat([first, second], dim=1), whole)
    close(state.ssm, last.ssm)
    close(state.conv, last.conv)


def test_steps_are_the_whole_run():
    torch.manual_seed(0)
    block, x = MambaBlock(32, d_state=8, headdim=16).eval(), torch.randn(2, 70, 32)
    mask, state = torch.rand(2, 70) < 0.8, block.initial(2)
    whole, last = block.run(x, None, mask)
    for t in range(70):
        y, state = block.step(x[:, t], state, mask[:, t])
        close(y, whole[:, t])
    close(state.ssm, last.ssm)
    assert [tuple(v.shape) for v in state] == [tuple(v.shape) for v in block.initial(2)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_masked_tokens_change_nothing(backend):
    block = mixer(backend)
    u, mask = torch.randn(1, 20, 32), torch.ones(1, 20, dtype=torch.bool)
    mask[:, 8:12] = False
    other = torch.where(mask[..., None], u, 100.0)
    close(block(u, mask)[mask], block(other, mask)[mask])
    before = block.run(u[:, :8], None)[1]
    assert torch.equal(block.run(u[:, 8:12], before, mask[:, 8:12])[1].ssm, before.ssm)


def test_gradients_do_not_pass_through_masked_tokens():
    block, u = mixer(), torch.randn(1, 20, 32).requires_grad_()
    mask = torch.arange(20)[None] != 8
    block(u, mask)[mask].sum().backward()
    assert (u.grad[:, 8] == 0).all()
    assert (u.grad[:, :8] != 0).all()


def test_the_block_is_causal():
    block, u = mixer(), torch.randn(1, 90, 32)
    changed = u.clone()
    changed[:, 70:] += 1.0
    before, after = block(u), block(changed)
    assert torch.equal(before[:, :70], after[:, :70])
    assert not torch.allclose(before[:, 70:], after[:, 70:])


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bfloat16_stays_near_float32(how):
    exact, u = mixer(), torch.randn(2, 131, 32)
    ours = copy.deepcopy(exact).to(torch.bfloat16) if how == "weights" else copy.deepcopy(exact)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        y, state = ours.run(u.bfloat16() if how == "weights" else u, None)
        stepped, _ = ours.step(u[:, 0].to(y.dtype), ours.initial(2))
    expected = exact(u)
    (y.float() * expected.detach()).sum().backward()
    (expected * expected.detach()).sum().backward()
    assert y.dtype == torch.bfloat16
    assert state.ssm.dtype == torch.float32
    assert (y - expected).norm() < 1e-2 * expected.norm()
    assert (stepped - expected[:, 0]).norm() < 1e-2 * expected[:, 0].norm()
    reference = dict(exact.named_parameters())
    for name, parameter in ours.named_parameters():
        true = reference[name].grad
        assert (parameter.grad - true).norm() < 5e-2 * true.norm(), name


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cached", [1, 8, 512])
def test_the_convolution_by_finite_differences(cached, masked, monkeypatch):
    monkeypatch.setattr("neurofmx.models.spans.CACHED", cached)
    g = torch.Generator().manual_seed(0)
    shapes = [(3, 70, 2), (2, 4), (2,), (3, 3, 2)]
    x, weight, bias, state = (
        torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes
    )
    mask = torch.rand(3, 70, generator=g) < 0.7 if masked else None
    inputs = (x, weight, bias, state)
    assert torch.autograd.gradcheck(lambda *a: causal_conv(*a, mask), inputs, fast_mode=True)
    shown = x * mask[..., None] if masked else x
    padded = torch.cat([state, shown], dim=1)
    expected = F.silu(F.conv1d(padded.mT, weight[:, None], bias, groups=2)).mT
    y, last = causal_conv(*inputs, mask)
    close(y, expected)
    assert torch.equal(last, padded[:, -3:])


def test_the_kernel_of_the_convolution_is_given_what_it_takes(monkeypatch):
    """Layouts and shapes as causal_conv1d's interface asks for them: width before time, but last
    in memory, in multiples of 8."""

    def causal_conv1d_fn(x, weight, bias, initial_states, return_final_states, activation):
        for given in (x, initial_states):
            assert given.stride(1) == 1
            assert given.stride(0) % 8 == given.stride(2) % 8 == 0
        assert (return_final_states, activation) == (True, "silu")
        padded = torch.cat([initial_states, x], dim=-1)
        y = F.conv1d(padded, weight[:, None], bias, groups=len(weight))
        last = padded[..., -3:].clone()
        if last.requires_grad:
            last.register_hook(lambda gradient: widths_apart.append(gradient.stride(1)))
        return F.silu(y), last

    widths_apart: list[int] = []
    module = ModuleType("causal_conv1d")
    module.causal_conv1d_fn = causal_conv1d_fn
    monkeypatch.setitem(sys.modules, "causal_conv1d", module)
    x = torch.randn(2, 9, 30)[..., 3:19]
    given = (x, torch.randn(16, 4), torch.randn(16), torch.randn(2, 3, 16), torch.rand(2, 9) < 0.7)
    for kernel, ours in zip(kernels.causal_conv(*given), causal_conv(*given), strict=True):
        close(kernel, ours)
    kernels.causal_conv(x.requires_grad_(), *given[1:])[1].sum().backward()
    assert widths_apart == [1]  # of a sum it is expanded, and the kernel would read past its end


def test_the_gated_norm_by_finite_differences():
    g = torch.Generator().manual_seed(0)
    shapes = [(2, 70, 3), (2, 70, 3), (3,)]
    x, z, w = (torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes)
    assert torch.autograd.gradcheck(lambda *a: gated_norm(*a, 1e-5), (x, z, w))
    close(gated_norm(x, z, w, 1e-5), F.rms_norm(x * F.silu(z), (3,), w, 1e-5))


def test_a_headdim_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="= 64 is no multiple of headdim 48"):
        Mamba2(32, headdim=48)


def test_an_unknown_backend_is_refused_when_it_is_named():
    with pytest.raises(ValueError, match="'fast' is unknown; choose from auto"):
        MambaBlock(32, backend="fast")
