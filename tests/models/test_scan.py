"""The scans against the loop: forward and back, any length, masked, cut anywhere, in bfloat16."""

import logging
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from scans import TOLERANCE, arguments, close, with_gradients
from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

from neurofmx.models import kernels
from neurofmx.models import scan as module
from neurofmx.models.scan import scan, step
from neurofmx.models.ssd import ChunkedScan

LENGTHS = [1, 7, 16, 33, 200]


@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("chunk", [1, 4, 16, 64])
def test_chunks_give_what_the_loop_gives_forward_and_back(time, chunk):
    given = arguments(time)
    close(with_gradients(given, "chunked", chunk=chunk), with_gradients(given, "reference"), 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("time", [7, 200])
@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_every_scan_keeps_its_precision(backend, time, dtype):
    given = arguments(time, dtype)
    exact = with_gradients([a.double() for a in given], "reference")
    close(with_gradients(given, backend), exact, TOLERANCE[dtype])
    assert with_gradients(given, backend)[0].dtype == dtype


@pytest.mark.parametrize("cached", [1, 8, 512])
def test_gradients_are_those_of_finite_differences(cached, monkeypatch):
    monkeypatch.setattr("neurofmx.models.spans.CACHED", cached)
    x, dt, A, B, C, D, state = (a.requires_grad_() for a in arguments(11, batch=3))
    state = state.mT.detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *a: ChunkedScan.apply(*a, 4, False), (x, dt, A, B, C, D, state), fast_mode=True
    )


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("cut", [0, 1, 63, 64, 65, 99])
def test_a_sequence_may_be_cut_anywhere(backend, cut):
    x, dt, A, B, C, D, state = arguments(100)
    whole, last = scan(x, dt, A, B, C, state, backend, D)
    parts = []
    for part in (slice(0, cut), slice(cut, None)):
        y, state = scan(x[:, part], dt[:, part], A, B[:, part], C[:, part], state, backend, D)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state, last, rtol=1e-9, atol=1e-9)


def test_a_window_does_not_depend_on_the_others():
    """Also where they are worked on together, or not: 40 windows of 64 tokens are 5 spans."""
    x, dt, A, B, C, D, state = arguments(70, torch.float32, batch=40)
    together, last = scan(x, dt, A, B, C, state, "chunked", D)
    alone, end = scan(x[33:34], dt[33:34], A, B[33:34], C[33:34], state[33:34], "chunked", D)
    torch.testing.assert_close(together[33:34], alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(last[33:34], end, rtol=1e-5, atol=1e-5)


def test_two_steps_by_hand():
    one = torch.ones(1, 1)
    arguments = (torch.tensor([-1.0]), 2 * one, 5 * one, torch.tensor([7.0]))
    y, h = step(3 * one[..., None], 0.5 * one, *arguments, torch.zeros(1, 1, 1, 1))
    assert y.item() == pytest.approx(0.5 * 3 * 2 * 5 + 7 * 3)  # dt · x · B · C + D · x
    y, h = step(0 * one[..., None], 0.5 * one, *arguments, h)
    assert y.item() == pytest.approx(0.5 * 3 * 2 * 5 * 2.718281828**-0.5)


@pytest.mark.parametrize("faster", [10, 1000])
def test_strong_decay_neither_overflows_nor_loses_what_follows(faster):
    """Every third token forgets all before it; what others leave decays slowly."""
    x, dt, A, B, C, D, state = arguments(200, torch.float32)
    dt[:, ::3] *= faster
    given = [x, dt, A, B, C, D, state]
    exact = with_gradients([a.double() for a in given], "reference")
    close(with_gradients(given, "chunked"), exact, 1e-4)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_no_token_leaves_the_state_as_it_is(backend):
    *given, state = arguments(5)
    x, dt, A, B, C, D = given
    y, last = scan(x[:, :0], dt[:, :0], A, B[:, :0], C[:, :0], state, backend, D)
    assert y.shape == (2, 0, 3, 4)
    assert torch.equal(last, state)


def test_what_is_kept_for_the_backward_pass_grows_linearly():
    kept = []
    for time in (1024, 4096):
        x, dt, A, B, C, D, state = (a.requires_grad_() for a in arguments(time, torch.float32, 1))
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda v, sizes=sizes: sizes.append(v.numel()) or v, lambda v: v
        ):
            scan(x, dt, A, B, C, state, "chunked", D)
        kept.append(sum(sizes))
    assert kept[1] / kept[0] == pytest.approx(4, rel=0.01)


def test_autocast_does_not_reach_into_the_scan():
    x, dt, A, B, C, D, state = arguments(33, torch.float32)
    y, _ = scan(x, dt, A, B, C, state, "chunked", D)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scan(x, dt, A, B, C, state, "chunked", D)[0], y)


@pytest.fixture
def mamba_ssm(monkeypatch):
    """transformers' scan in place of mamba_ssm's kernel, whose arguments it takes."""
    name = "mamba_ssm.ops.triton.ssd_combined"
    for end in [i for i, letter in enumerate(name + ".") if letter == "."]:
        monkeypatch.setitem(sys.modules, name[:end], ModuleType(name[:end]))
    sys.modules[name].mamba_chunk_scan_combined = mamba2_chunk_scan
    triton = ModuleType("triton")
    triton.knobs = SimpleNamespace(language=SimpleNamespace(fp32_default=None))
    monkeypatch.setitem(sys.modules, "triton", triton)
    return triton


def test_the_kernel_is_given_what_it_takes(mamba_ssm):
    x, dt, A, B, C, D, state = arguments(33, torch.float32)
    reference = scan(x, dt, A, B, C, state, "reference", D)
    close(kernels.scan(x, dt, A, B, C, D, state), reference, 1e-4)
    assert mamba_ssm.knobs.language.fp32_default == "ieee"  # else its products would be in tf32


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("mamba", "'mamba' is unknown; choose from auto, reference"),
        ("mamba_ssm", "'mamba_ssm' cannot run: its kernels need CUDA, and the data is on 'cpu'"),
        ("compiled", "'compiled' cannot run: torch.compile needs a C\\+\\+ compiler, not 'absent'"),
    ],
)
def test_a_backend_that_cannot_run_is_refused(backend, reason, monkeypatch):
    monkeypatch.setenv("CXX", "absent")
    x, dt, A, B, C, D, state = arguments(3)
    with pytest.raises(ValueError, match=reason):
        scan(x, dt, A, B, C, state, backend, D)


def test_mamba_ssm_is_taken_on_cuda_and_refused_where_it_is_absent():
    assert module.choose("auto", "cuda") == "chunked"
    with pytest.raises(ValueError, match="mamba_ssm is not installed"):
        module.choose("mamba_ssm", "cuda")


def test_auto_says_once_what_it_took(caplog):
    module._best.cache_clear()
    x, dt, A, B, C, D, state = arguments(3)
    with caplog.at_level(logging.INFO, logger="neurofmx"):
        for _ in range(3):
            scan(x, dt, A, B, C, state, "auto", D)
    assert [r.message for r in caplog.records] == [
        "scan on cpu: backend auto takes 'chunked' "
        "(its kernels need CUDA, and the data is on 'cpu')"
    ]
