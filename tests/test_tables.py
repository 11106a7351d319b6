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
from neurofmx.models import HEADS, Known, NeuroFMX
from neurofmx.models.adapters import ADAPTERS, adapt
from neurofmx.objectives import OBJECTIVES
from neurofmx.objectives.decode import Decode
from neurofmx.objectives.draws import Draws
from neurofmx.objectives.likelihoods import LIKELIHOODS
from neurofmx.tokenizers import TOKENIZERS
from neurofmx.training.spread import ENGINES
from neurofmx.training.tracking import TRACKERS
from neurofmx.training.weighting import WEIGHTINGS

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
    prior = {"width": 16, "n_layers": 1, "n_heads": 2}
    model = tiny_model(made, ["a"], 0, prior=prior, codes=8)
    torch.manual_seed(0)
    other = NeuroFMX.from_config(model.config.model_copy(update={"domains": ["a", "b"]}))
    known = model.vocabulary.items()
    other.extend({name: Known(units.keys, ["A", "B"]) for name, units in known})
    return other


def asked(name, model):
    """An objective, as Fit makes it."""
    signals = list(model.config.signals)
    if name == "contrastive_three":  # the windows have two signals
        signals.append(signals[0])
    return OBJECTIVES[name](list(model.config.tasks), signals)


def prepared(objective, model, batch):
    """The batch as it is shown to the model, with regions and domains that differ."""
    rows = torch.tensor(batch.windows)
    draws = Draws(rows)
    signals = {
        n: dataclasses.replace(
            s, regions=1 + torch.arange(s.values.shape[2]).expand(len(rows), -1) % 2
        )
        for n, s in batch.signals.items()
    }
    laid = model.laid(dataclasses.replace(batch, signals=signals))
    neural = frozenset(["spikes"])  # so that there is something to tell it from
    laid = dataclasses.replace(laid, domains=rows % 2, neural=neural)
    laid = objective.prepare(laid, draws)
    return dataclasses.replace(laid, noise=model.prior.draw(draws))


def taught(made, model, batch):
    """The batch, with what a teacher of other weights says of it."""
    teacher = tiny_model(made, ["a"], 1).eval()
    teacher.extend(model.vocabulary)
    clear = dataclasses.replace(batch, hidden={}, noise=None)
    with torch.no_grad():
        return dataclasses.replace(batch, teacher=teacher(clear, heads=["decode"]))


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective(name, dtype, model, made):
    model, objective = model.to(dtype), asked(name, model)
    batch = Collator(made, model.rows)(made.positions("train")[:8])
    batch = taught(made, model, prepared(objective, model, batch))
    output = model(batch, heads=objective.heads)
    loss = objective.loss(output, batch)
    loss.backward()
    reached = [p for p in model.parameters() if p.grad is not None]

    assert loss.shape == ()
    assert loss.isfinite()
    assert loss.abs() > 1e-6
    assert any(p.grad.any() for p in reached)
    assert all(p.grad.isfinite().all() for p in reached)
    assert set(objective.total(output, batch)) == set(objective.asked(batch))
    assert set(objective.asked(batch)) <= set(objective.groups)
    assert says_where_from(OBJECTIVES[name])
    objective.learn()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_does_not_grow_with_the_batch(name, model, made):
    """A mask or a larger batch must not change the scale of the loss."""
    model.eval()
    objective, collate = asked(name, model).eval(), Collator(made, model.rows)
    windows, losses = made.positions("train")[:8].tolist(), []
    for repeats in (1, 3):
        batch = taught(made, model, prepared(objective, model, collate(windows * repeats)))
        losses.append(objective.loss(model(batch, heads=objective.heads), batch).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_the_same_in_parts(name, model, made):
    """Sums over parts of a step, by what is asked over the whole, make the loss of the whole."""
    between = ("contrastive", "contrastive_time", "contrastive_behaviour", "contrastive_three")
    if name in (*between, "mmd"):
        pytest.skip("it tells windows of a batch from each other")
    model.eval()
    objective, collate = asked(name, model).eval(), Collator(made, model.rows)
    windows = made.positions("train")[:8].tolist()

    def told(chosen):
        batch = taught(made, model, prepared(objective, model, collate(chosen)))
        return objective.total(model(batch, heads=objective.heads), batch), objective.asked(batch)

    (whole, number), parts = told(windows), [told(windows[:3]), told(windows[3:])]
    for group in whole:
        total = sum(sums[group].item() for sums, _ in parts if group in sums)
        count = sum(n[group].item() for _, n in parts if group in n)
        assert total == pytest.approx(whole[group].item(), rel=1e-3, abs=1e-4)
        assert count == pytest.approx(number[group].item())


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
def test_adapter(name, made):
    """Tests of what each changes, files and merging are in tests/models/test_adapters.py."""
    model = tiny_model(made, ["a"], 0)
    batch = Collator(made, model.rows)(made.positions("train")[:8])
    adapted = adapt(model, model.vocabulary, name, seed=1)
    Decode().loss(adapted(batch), batch).backward()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    share = sum(p.numel() for p in trained) / sum(p.numel() for p in adapted.parameters())
    assert share == 1 if name == "full" else 0 < share < 0.5
    reached = [p for p in adapted.parameters() if p.grad is not None]
    assert len(reached) == len(trained) or name == "full"  # no task asks the channels' heads
    assert all(p.requires_grad and p.grad.isfinite().all() for p in reached)
    assert says_where_from(ADAPTERS[name])


@pytest.mark.parametrize("name", ENGINES)
def test_engine_has_what_the_loop_asks(name):
    """What they do is in tests/training: the same steps, and the same after a stop."""
    methods = ("run", "backward", "step", "save", "load", "weights", "take", "ask")
    assert all(hasattr(ENGINES[name], method) for method in methods)
    assert says_where_from(ENGINES[name])


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weighting(name):
    """What they do is in tests/training/test_weighting.py."""
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = WEIGHTINGS[name](2)(x * x, torch.tensor([1.0, 0.5]), [x], 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(3.0)  # as given, until something has been learnt
    assert x.grad.tolist() == [2.0, 2.0]
    assert says_where_from(type(WEIGHTINGS[name](2)))


def test_trackers_are_documented():
    assert all(tracker.__doc__ for tracker in TRACKERS.values())


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
    scores = [metric.score(truth, answer) for answer in (right, wrong)]
    np.testing.assert_allclose(scores[0], metric.perfect, atol=1e-9)
    assert (np.abs(scores[1] - metric.perfect) > 0.5).all()
    assert ((scores[1] > scores[0]) == metric.is_error).all()
    assert metric.variant
    assert says_where_from(metric.by_block)


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
