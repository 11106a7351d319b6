"""What runs on the processor runs on `--device` too, with the same numbers."""

import copy

import pandas as pd
import pytest
import torch
from scans import TOLERANCE, arguments, close, with_gradients
from wholes import SIGNALS, TASKS, of_precision, reached, whole, windows

from neurofmx.models import Known, Mamba2, NeuroFMX
from neurofmx.models.kernels import MISSING
from neurofmx.serving import Replay


@pytest.fixture(params=["chunked", "compiled", "mamba_ssm"])
def backend(request, device):
    """Each that can run on the device; a compiler needs the functions without checks of shapes."""
    missing = MISSING.get(request.param, lambda device: "")(device.type)
    if missing or (request.param == "compiled" and device.type == "cpu"):
        pytest.skip(missing or "test_mamba.py has it")
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("time", [1, 7, 64, 200, 515])
def test_every_scan_is_the_loop_forward_and_back(time, dtype, backend, device):
    if backend == "compiled" and time != 200:
        pytest.skip("each length is compiled anew")
    given = arguments(time, dtype, sizes=(4, 32, 16))
    exact = with_gradients([a.double() for a in given], "reference")
    found = with_gradients([a.to(device) for a in given], backend)
    # In bfloat16 gradients of A and D lose more: they are sums over all tokens, and most cancels.
    of_all = (4, 7) if dtype == torch.bfloat16 else ()
    for number, pair in enumerate(zip(found, exact, strict=True)):
        close(pair[:1], pair[1:], TOLERANCE[dtype] * (4 if number in of_all else 1))


@pytest.mark.parametrize("masked", [False, True])
def test_the_mixer_is_the_loop_forward_and_back(masked, backend, device):
    torch.manual_seed(0)
    exact = Mamba2(64, d_state=16, headdim=32, backend="reference").double()
    ours = copy.deepcopy(exact).float().to(device)
    ours.backend = backend
    u = torch.randn(2, 131, 64)
    mask = torch.rand(2, 131) < 0.7 if masked else None
    before = exact.initial(2)
    before = type(before)(*(torch.randn_like(part) for part in before))
    found = []
    for mixer in (exact, ours):
        kind = next(mixer.parameters())
        state = type(before)(*(part.to(kind) for part in before))
        x = u.to(kind).requires_grad_()
        y, left = mixer.run(x, state, None if mask is None else mask.to(kind.device))
        (y.square().sum() + left.ssm.sum() + left.conv.sum()).backward()
        found.append([y, *left, x.grad, *(p.grad for p in mixer.parameters())])
    close(found[1], found[0], 1e-4)


def test_the_whole_model_answers_as_on_the_processor(device):
    model, batch = whole().eval(), windows(SIGNALS)
    with torch.no_grad():
        expected = model(batch)
        found = model.to(device)(batch.to(device))
    for name, head in expected.heads.items():
        close([found.heads[name]], [head], 2e-3 if device.type == "cuda" else 1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("precision", ["bfloat16", "autocast"])
def test_gradients_are_finite_in_bfloat16(precision, causal, device):
    model = of_precision(whole(causal), precision).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "autocast"):
        output = model(windows(SIGNALS).to(device))
    sum(head.float().square().mean() for head in output.heads.values()).backward()
    assert any(x.any() for x in reached(model).values())


def test_a_stream_is_the_batch_forward(device):
    """Counts of 5 units for three seconds, of which each bin is asked for."""
    torch.manual_seed(0)
    config = {
        "model": {"size": "tiny", "causal": True},
        "duration": 1.0,
        "signals": {"binned": SIGNALS["binned"] | {"patch": 1}},
        "tasks": {"regression": {"kind": "regression"} | TASKS["regression"]},
    }
    model = NeuroFMX.from_config(config)
    model.extend({"binned": Known([("a", unit) for unit in range(5)], [])})
    model = model.eval().to(device)
    table = channels()
    counts = torch.poisson(0.4 * torch.ones(2, 150, 5))
    times = 0.02 * torch.arange(1, 151)
    streams = {}
    for pieces in (1, 150):
        stream = model.stream("a", table, batch=2)
        decoded = [stream.push({"binned": x}) for x in counts.split(150 // pieces, dim=1)]
        streams[pieces] = torch.cat([one.values["regression"] for one in decoded], dim=1)
    expected = model.to("cpu").stream("a", table, batch=2).push({"binned": counts})
    assert expected.times == pytest.approx(times.tolist())
    for found in streams.values():
        close([found], [expected.values["regression"]], 1e-4)


def channels():
    """As channels.parquet has them."""
    table = pd.DataFrame({"recording": "a", "signal": "binned", "channel": range(5)})
    table = table.assign(owner="a", number=table["channel"])
    return table.assign(mean=0.3, scale=0.4, region="", x=float("nan"), y=float("nan"), z=0.0)


def test_a_replay_answers_as_the_model_does(device):
    if device.type != "cuda":
        with pytest.raises(ValueError, match="a replay needs CUDA, and the model is on 'cpu'"):
            Replay(whole(), windows(SIGNALS))
        return
    names = ["binned", "continuous"]
    model = whole().eval().to(device)
    one, other = (windows(names).to(device) for _ in range(2))
    for signal in other.signals.values():
        signal.values.mul_(0.5)
    replay = Replay(model, one, dtype=torch.float32)
    for batch in (one, other, one):
        with torch.no_grad():
            expected = model(batch, heads=["decode"]).heads
        for name, head in replay(batch).items():
            torch.testing.assert_close(head, expected[name], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="replays windows shaped as the first"):
        replay(windows(["binned"]).to(device))
