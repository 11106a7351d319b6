"""One contract over every row of every table: a new row is held to it without a new test."""

import inspect
import re

import numpy as np
import pytest
import torch
from windows import model_config, recording, shards

from neurofmx.data.checks import CHECKS
from neurofmx.data.loader import Collator
from neurofmx.data.sources import SOURCES
from neurofmx.evaluation import BASELINES, METRICS
from neurofmx.interpretability import ANALYSES
from neurofmx.modalities import MODALITIES
from neurofmx.models import HEADS
from neurofmx.models.adapters import ADAPTERS, adapt
from neurofmx.objectives import OBJECTIVES
from neurofmx.objectives.masked import hide
from neurofmx.tokenizers import TOKENIZERS
from neurofmx.training.engines import ENGINES
from neurofmx.training.fit import untrained
from neurofmx.training.inference import vocabulary

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
    return untrained(model_config(made, ["a"]), seed=0)


@pytest.fixture
def batch(made, model):
    positions = made.positions("train")[:8]
    return Collator(made, vocabulary(model))([made[p] for p in positions])


@pytest.mark.parametrize("name", MODALITIES)
def test_modality(name):
    modality = MODALITIES[name]
    assert modality.tokenizer is None or modality.tokenizer in TOKENIZERS
    assert modality.rates[0] <= modality.rates[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizer(name, dtype, tmp_path):
    cls = TOKENIZERS[name]
    torch.manual_seed(0)
    tokenizer = cls(cls.Config(kind=name, width=16, patch=4, n_channels=5)).to(dtype)
    values = torch.randn(2, 30, 5).to(dtype)
    sequence = tokenizer(values, dt=0.01)
    sequence.tokens.float().square().sum().backward()

    assert sequence.tokens.shape == (2, 8, 16)  # the last patch is padded
    assert sequence.tokens.dtype == dtype
    assert sequence.mask.all()
    torch.testing.assert_close(sequence.times[0, :2], torch.tensor([0.02, 0.06]))
    assert all(p.grad.isfinite().all() for p in tokenizer.parameters())
    again = cls(tokenizer.config).to(dtype)
    again.load_state_dict(tokenizer.state_dict())
    assert torch.equal(again(values, dt=0.01).tokens, sequence.tokens)
    assert says_where_from(cls)


@pytest.mark.parametrize(("name", "shape"), [("binned", (2, 100, 96))])
def test_tokenizer_public_shape(name, shape):
    assert TOKENIZERS[name](TOKENIZERS[name].Config())(torch.zeros(shape)).tokens.shape == (
        2,
        100,
        768,
    )


@pytest.mark.parametrize("name", TOKENIZERS)
def test_masked_samples_change_no_token(name):
    tokenizer = TOKENIZERS[name](
        TOKENIZERS[name].Config(kind=name, width=16, patch=4, n_channels=3)
    )
    values, mask = torch.randn(1, 16, 3), torch.ones(1, 16, dtype=torch.bool)
    mask[:, 4:9] = False
    other = torch.where(mask[..., None], values, torch.tensor(1e3))
    before, after = tokenizer(values, mask=mask), tokenizer(other, mask=mask)
    torch.testing.assert_close(before.tokens, after.tokens)
    assert before.mask.tolist() == [[True, False, True, True]]  # only one patch is all gap


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective(name, model, batch):
    patch = {n: spec.patch for n, spec in model.config.signals.items()}
    hidden = hide(batch, 0.3, 0.3, patch, torch.Generator().manual_seed(0))
    loss = OBJECTIVES[name](model(batch, hidden), batch, hidden)
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
    collate = Collator(made, vocabulary(model))
    samples = [made[p] for p in made.positions("train")[:4]]
    patch = {n: spec.patch for n, spec in model.config.signals.items()}
    losses = []
    for repeats in (1, 3):
        batch = collate(samples * repeats)
        few = hide(collate(samples), 0.3, 0.3, patch, torch.Generator().manual_seed(0))
        hidden = type(few)(
            {n: m.repeat(repeats, 1) for n, m in few.channels.items()},
            {n: m.repeat(repeats, 1) for n, m in few.patches.items()},
        )
        losses.append(OBJECTIVES[name](model(batch, hidden), batch, hidden).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_head(name):
    assert says_where_from(HEADS[name])


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapter(name, model, batch):
    channels = {n: list(spec.channels) for n, spec in model.config.signals.items()}
    adapted = adapt(model, channels, name, seed=1)
    OBJECTIVES["decode"](adapted(batch), batch).backward()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert 0 < sum(p.numel() for p in trained) < 0.5 * sum(p.numel() for p in adapted.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


@pytest.mark.parametrize("name", ENGINES)
def test_engine_has_what_the_loop_asks(name):
    assert all(hasattr(ENGINES[name], method) for method in ("step", "save", "load"))


@pytest.mark.parametrize("name", METRICS)
def test_metric_of_a_perfect_answer_is_1_and_of_a_wrong_one_less(name):
    metric, rng = METRICS[name], np.random.default_rng(0)
    if metric.kind == "regression":
        truth = rng.normal(size=(50, 2))
        right, wrong = truth, truth[::-1]
    else:
        truth = rng.integers(0, 3, (50, 1)).astype(float)
        right = np.eye(3)[truth[:, 0].astype(int)]
        wrong = np.roll(right, 1, axis=1)
    scores = [metric.value(metric.statistics(truth, p).sum(0)) for p in (right, wrong)]
    np.testing.assert_allclose(scores[0], 1.0)
    assert (scores[1] <= 0).all()
    assert metric.variant
    assert says_where_from(metric.value)


@pytest.mark.parametrize("name", BASELINES)
def test_baseline(name):
    assert set(BASELINES[name].kinds) <= {"regression", "classification"}
    assert BASELINES[name].about
    assert says_where_from(BASELINES[name].fit)


@pytest.mark.parametrize("name", ANALYSES)
def test_analysis(name):
    assert callable(ANALYSES[name])
    assert ANALYSES[name].__doc__


def test_sources_and_checks_are_documented():
    assert all(callable(source) and source.__doc__ for source in SOURCES.values())
    assert len(CHECKS) == len(np.unique(list(CHECKS)))
