"""A model that begins with what another has learnt: what is kept, drawn and refused."""

import pytest
import torch
from windows import recording, shards, tiny_model

from neurofmx.data.loader import Collator
from neurofmx.errors import UserError
from neurofmx.models import Known, NeuroFMX
from neurofmx.models.begun import begun

DOWN = {"kind": "classification", "outputs": 2, "classes": ["no", "yes"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    both = [recording("a", units=6), recording("b", seed=1, units=9)]
    return shards(tmp_path_factory.mktemp("two"), both)


@pytest.fixture(scope="module")
def core(made):
    return tiny_model(made, ["a"], 0).eval()


def config_of(core, **changes):
    return NeuroFMX.Config.model_validate(core.config.model_dump() | changes)


def answers(made, model):
    batch = Collator(made, model.rows)(made.positions("train", ["a"])[:4])
    with torch.no_grad():
        return model(batch).heads


def test_about_what_both_know_it_answers_as_before(made, core):
    tasks = {name: spec.model_dump() for name, spec in core.config.tasks.items()}
    model = begun(core, config_of(core, tasks=tasks | {"down": DOWN}), core.vocabulary, seed=1)
    found, before = answers(made, model.eval()), answers(made, core)
    assert all(torch.equal(found[name], x) for name, x in before.items())
    assert set(model.decode) == {*core.decode, "down"}
    assert all(p.requires_grad for p in model.parameters())


def test_what_is_new_is_drawn_by_the_seed(core):
    vocabulary = core.vocabulary | {"spikes": Known([("a", 1), ("b", 0)], [])}
    models = [begun(core, core.config, vocabulary, seed) for seed in (1, 1, 2)]
    rows = [model.tokenizers["spikes"].units.gain.weight.detach() for model in models]
    known = core.tokenizers["spikes"].units
    old = known.gain.weight[known.rows([("a", 1)])[0]]
    new, kept = (
        [r[m.rows("spikes", [k], [])[0]] for m, r in zip(models, rows, strict=True)]
        for k in (("b", 0), ("a", 1))
    )
    assert torch.equal(new[0], new[1])
    assert not torch.equal(new[0], new[2])
    assert all(torch.equal(row, old) for row in kept)
    assert models[0].vocabulary["spikes"].keys == vocabulary["spikes"].keys


def test_signals_that_only_the_core_has_stay(made, core):
    signals = {"spikes": core.config.signals["spikes"].model_dump()}
    model = begun(core, config_of(core, signals=signals), core.vocabulary, seed=1)
    assert set(model.tokenizers) == set(core.tokenizers)
    assert all(
        torch.equal(x, answers(made, core)[n]) for n, x in answers(made, model.eval()).items()
    )


def test_other_sizes_are_refused_by_name(core):
    sizes = core.config.model.model_dump() | {"n_latents": 3}
    with pytest.raises(UserError, match=r"latents is \(\d+, \d+\) in the model to start from"):
        begun(core, config_of(core, model=sizes), core.vocabulary, seed=1)
