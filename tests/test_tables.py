"""One contract over every row of every table: a new row is held to it without a new test."""

import dataclasses
import inspect
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from windows import recording, shards, tiny_model

from neurofmx.data.checks import CHECKS
from neurofmx.data.loader import Collator
from neurofmx.data.sources import SOURCES
from neurofmx.evaluation import BASELINES, METRICS
from neurofmx.interpretability import ANALYSES
from neurofmx.modalities import MODALITIES
from neurofmx.models import HEADS
from neurofmx.models.adapters import ADAPTERS, adapt
from neurofmx.objectives import OBJECTIVES
from neurofmx.objectives.likelihoods import LIKELIHOODS
from neurofmx.objectives.masked import hide
from neurofmx.tokenizers import TOKENIZERS
from neurofmx.training.engines import ENGINES

SOURCE = re.compile(r"arXiv:|doi:|\b(18|19|20)\d\d\b|[Ss]ource:")


def says_where_from(thing) -> bool:
    """The docstring of it, or of its module, names a source or writes the equation."""
    documents = (thing.__doc__ or "", inspect.getmodule(thing).__doc__ or "")
    return any(SOURCE.search(d) or " = " in d for d in documents)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("made"), [recording("a")])


@pytest.fixture
def model(made):
    return tiny_model(made, ["a"], 0, prior={"width": 16, "n_layers": 1, "n_heads": 2})


@pytest.fixture
def batch(made, model):
    positions = made.positions("train")[:8]
    return taught(made, Collator(made, model.rows)(positions))


def taught(made, batch):
    """The batch, with what a teacher of other weights says of it."""
    with torch.no_grad():
        return dataclasses.replace(batch, teacher=tiny_model(made, ["a"], 1).eval()(batch))


@pytest.mark.parametrize("name", MODALITIES)
def test_modality(name):
    modality = MODALITIES[name]
    assert set(modality.tokenizers) <= set(TOKENIZERS)
    assert modality.rates[0] <= modality.rates[1]


# What each takes with its default settings, and the tokens that come out.
ARRAYS = {
    "spikes": (torch.randint(0, 96, (2, 100), generator=torch.Generator().manual_seed(0)), 100),
    "binned": (torch.ones(2, 100, 96), 100),
    "continuous": (torch.randn(2, 64, 1000, generator=torch.Generator().manual_seed(0)), 250),
    "image": (torch.ones(2, 30, 8, 12), 30),
    "audio": (torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)), 25),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizer(name, dtype, tmp_path):
    """What holds whatever the options is in tests/tokenizers/test_laws.py."""
    cls, (array, tokens) = TOKENIZERS[name], ARRAYS[name]
    torch.manual_seed(0)
    tokenizer, t0 = cls().to(dtype), torch.tensor([1.7e9, 5.0], dtype=torch.float64)
    sequence = tokenizer(array, t0=t0)
    sequence.tokens.float().square().mean().backward()

    assert sequence.tokens.shape == (2, tokens, 768)
    assert sequence.tokens.dtype == dtype
    assert torch.equal(sequence.t0, t0)
    reached = [p for p in tokenizer.parameters() if p.grad is not None]
    assert any(p is tokenizer.mixing for p in reached)
    assert all(p.grad.isfinite().all() for p in reached)
    save_file(tokenizer.state_dict(), tmp_path / "tokenizer.safetensors")
    again = cls(cls.Config(n_channels=1)).to(dtype)
    again.load_state_dict(load_file(tmp_path / "tokenizer.safetensors"))
    assert torch.equal(again(array, t0=t0).tokens, sequence.tokens)
    assert tokenizer.config.kind == name
    assert says_where_from(cls)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective(name, model, batch):
    hidden = hide(model.cells(batch), 0.3, 0.3, torch.Generator().manual_seed(0))
    noise = model.prior.draw(len(batch.windows), torch.Generator().manual_seed(0))
    loss = OBJECTIVES[name](model(batch, hidden, noise=noise), batch, hidden)
    loss.backward()
    reached = [p for p in model.parameters() if p.grad is not None]

    assert loss.shape == ()
    assert loss.isfinite()
    assert loss > 0
    assert reached
    assert all(p.grad.isfinite().all() for p in reached)
    assert says_where_from(OBJECTIVES[name])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_does_not_grow_with_the_batch(name, model, made):
    """A mask or a larger batch must not change the scale of the loss."""
    model.eval()
    collate = Collator(made, model.rows)
    windows = made.positions("train")[:4].tolist()
    few = hide(model.cells(collate(windows)), 0.3, 0.3, torch.Generator().manual_seed(0))
    noise = model.prior.draw(4, torch.Generator().manual_seed(0))
    losses = []
    for repeats in (1, 3):
        batch = taught(made, collate(windows * repeats))
        hidden = type(few)(
            {n: m.repeat(repeats, 1) for n, m in few.channels.items()},
            {n: m.repeat(repeats, 1) for n, m in few.tokens.items()},
        )
        many = type(noise)(*(x.repeat(repeats, *[1] * (x.ndim - 1)) for x in noise))
        losses.append(OBJECTIVES[name](model(batch, hidden, noise=many), batch, hidden).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_head(name):
    assert says_where_from(HEADS[name])


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihood(name):
    """What holds of every kind is in tests/objectives/test_likelihoods.py and its heads' tests."""
    assert name in HEADS
    assert any(name in metric.kinds for metric in METRICS.values())
    assert any(name in baseline.kinds for baseline in BASELINES.values())
    assert says_where_from(type(LIKELIHOODS[name]))


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapter(name, model, batch):
    """Tests of what each changes, files and merging are in tests/models/test_adapters.py."""
    adapted = adapt(model, model.vocabulary, name, seed=1)
    OBJECTIVES["decode"](adapted(batch), batch).backward()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    share = sum(p.numel() for p in trained) / sum(p.numel() for p in adapted.parameters())
    assert share == 1 if name == "full" else 0 < share < 0.5
    reached = [p for p in adapted.parameters() if p.grad is not None]
    assert len(reached) == len(trained) or name == "full"  # no task asks the channels' heads
    assert all(p.requires_grad and p.grad.isfinite().all() for p in reached)
    assert says_where_from(ADAPTERS[name])


@pytest.mark.parametrize("name", ENGINES)
def test_engine_has_what_the_loop_asks(name):
    assert all(hasattr(ENGINES[name], method) for method in ("step", "save", "load"))


@pytest.mark.parametrize("name", METRICS)
def test_metric_of_a_perfect_answer_is_perfect_and_of_a_wrong_one_far_from_it(name):
    metric, rng = METRICS[name], np.random.default_rng(0)
    if "regression" in metric.kinds:
        truth = rng.normal(size=(50, 2))
        right, wrong = truth, truth[::-1]
    elif "circular" in metric.kinds:
        truth = rng.uniform(-np.pi, np.pi, (50, 2))
        right, wrong = truth + 2 * np.pi, truth + np.pi
    else:
        truth = rng.integers(0, 3, (50, 1)).astype(float)
        right = np.eye(3)[truth[:, 0].astype(int)]
        wrong = np.roll(right, 1, axis=1)
    scores = [metric.value(metric.statistics(truth, p).sum(0)) for p in (right, wrong)]
    np.testing.assert_allclose(scores[0], metric.perfect, atol=1e-9)
    assert (np.abs(scores[1] - metric.perfect) >= 1 - 1e-9).all()
    assert ((scores[1] > scores[0]) == (metric.perfect == 0)).all()  # 0 is perfect of errors only
    assert metric.variant
    assert says_where_from(metric.value)


@pytest.mark.parametrize("name", BASELINES)
def test_baseline(name):
    assert set(BASELINES[name].kinds) <= set(LIKELIHOODS)
    assert BASELINES[name].about
    assert says_where_from(BASELINES[name].fit)


@pytest.mark.parametrize("name", ANALYSES)
def test_analysis(name):
    assert callable(ANALYSES[name])
    assert ANALYSES[name].__doc__


def test_sources_and_checks_are_documented():
    assert all(callable(source) and source.__doc__ for source in SOURCES.values())
    assert len(CHECKS) == len(np.unique(list(CHECKS)))
