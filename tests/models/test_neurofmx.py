"""The assembly: shapes, masks, save and load, adaptation."""

import dataclasses

import pytest
import torch
from windows import recording, shards, tiny_model

from neurofmx.data.augment import AugmentParams, augment
from neurofmx.data.loader import Collator
from neurofmx.errors import UserError
from neurofmx.models import Known, ModelParams, NeuroFMX, SignalSpec, TaskSpec
from neurofmx.models.adapters import adapt
from neurofmx.models.features import held, last_known, lately, size
from neurofmx.objectives.draws import Draws
from neurofmx.objectives.masked import Masked
from neurofmx.sequence import Features, TokenizedSequence


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    both = [recording("a", units=6), recording("b", seed=1, units=4)]
    return shards(tmp_path_factory.mktemp("two"), both)


@pytest.fixture(scope="module")
def model(made):
    return tiny_model(made, ["a", "b"], 0).eval()


def batch_of(made, model, n=6):
    positions = [*made.positions("train", ["a"])[:n], *made.positions("train", ["b"])[:n]]
    return Collator(made, model.rows)(positions)


def test_channels_that_are_left_out_at_random_change_no_size(made, model):
    """Else a model is asked for larger features than it was trained on, and answers beside it."""
    batch = batch_of(made, model)
    fewer = augment(batch, AugmentParams(channel_dropout=0.5), range(12))
    for name, signal in batch.signals.items():
        assert (fewer.signals[name].channel_mask.sum(1) < signal.channel_mask.sum(1)).any()
        assert size(fewer.signals[name]).equal(size(signal))
        assert size(dataclasses.replace(signal, population=None)).equal(size(signal))


def test_every_head_answers_in_its_shape(made, model):
    batch = batch_of(made, model)
    output = model(batch)
    assert output.latents.shape == (12, 8, 32)
    for task, target in batch.targets.items():
        value, spread = model.answer(task, output.heads[f"decode.{task}"])
        assert value.shape == spread.shape == (*target.mask.shape, 2)
    for name, signal in batch.signals.items():
        assert output.heads[f"reconstruct.{name}"].shape == model.cells(batch)[name].values.shape
        ahead, (n, *cell) = len(model.horizons[name]), model.cells(batch)[name].values.shape
        assert output.heads[f"forecast.{name}"].shape == (n, ahead, *cell)
        assert output.heads[f"contrastive.{name}"].shape == (n, 128)
        features, spec = output.features[name], model.config.signals[name]
        assert features.middles[0, 0] == pytest.approx(spec.patch * signal.dt / 2)
        assert features.t0.equal(signal.t0)


def test_padded_channels_and_gaps_cannot_change_an_answer(made, model):
    batch = batch_of(made, model)
    before = model(batch).heads["decode.velocity"]
    for signal in batch.signals.values():
        signal.values[~signal.channel_mask[:, None, :].expand_as(signal.values)] = 1e3
        signal.values[~signal.mask] = 1e3
    torch.testing.assert_close(model(batch).heads["decode.velocity"], before)


def test_hidden_channels_and_times_cannot_be_seen(made, model):
    batch = batch_of(made, model)
    draws = Draws(torch.arange(len(batch.windows)))

    def of(shares):
        """Latents, with so much hidden of the samples as they are now."""
        asked = Masked(config=Masked.Config(channels=shares[0], times=shares[1]))
        shown = asked.prepare(model.laid(batch), draws)
        return model(shown).latents, shown.hidden

    for shares in ((0.3, 0.0), (0.0, 0.3), (0.3, 0.3)):
        before, hidden = of(shares)
        assert not torch.allclose(of((0.0, 0.0))[0], before, atol=1e-3)
        for name, signal in batch.signals.items():
            away = hidden[name].repeat_interleave(model.config.signals[name].patch, 1)
            signal.values[away[:, : signal.values.shape[1]]] += 1e3
        torch.testing.assert_close(of(shares)[0], before)


def test_save_and_load_are_bit_equal_after_a_forward(made, model, tmp_path):
    batch = batch_of(made, model)
    before = model(batch)
    model.save_pretrained(tmp_path)
    again = NeuroFMX.from_pretrained(tmp_path)
    after = again(batch)
    assert again.config == model.config
    assert again.vocabulary == model.vocabulary
    for name, head in before.heads.items():
        assert torch.equal(after.heads[name], head)


def test_a_folder_without_a_model_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match=r"no model.safetensors; run `neurofmx pretrain`"):
        NeuroFMX.from_pretrained(tmp_path)


def test_adapting_keeps_the_core_and_trains_only_units_and_head(made, model):
    units = {"spikes": Known([("c", k) for k in range(9)], [])}
    units |= {"lfp": Known([("c", k) for k in range(3)], [])}
    adapted = adapt(model, units, "unit_id", seed=1)
    core = dict(model.named_parameters())
    trained = {n for n, p in adapted.named_parameters() if p.requires_grad}

    assert adapted.vocabulary == units
    assert adapted.tokenizers["spikes"].units.gain.weight.shape == (10, 32)
    assert {name.split(".")[0] for name in trained} == {"tokenizers", "decode"}
    assert all(".gain." in n or ".bias." in n for n in trained if n.startswith("tokenizers"))
    for name, parameter in adapted.named_parameters():
        if name not in trained or name.startswith("decode."):
            assert torch.equal(parameter, core[name])
    # As many LFP channels as before, but not the same ones: theirs are new, and row 0 is kept.
    old = core["tokenizers.lfp.units.gain.weight"]
    new = adapted.tokenizers["lfp"].units.gain.weight
    assert torch.equal(new[0], old[0])
    assert not torch.isclose(new[1:4], old[1:4]).any()


def test_from_config_names_an_unknown_key(model):
    config = model.config.model_dump()
    config["model"]["d_modell"] = 3
    with pytest.raises(UserError, match=r"model\.d_modell: unknown key\. Did you mean 'd_model'"):
        NeuroFMX.from_config(config)


@pytest.mark.parametrize(
    ("size", "millions"),
    [("tiny", 0.5), ("small", 20), ("medium", 150), ("base", 230), ("large", 620)],
)
def test_one_dial_sets_the_size(size, millions):
    """With the prior, as the project's first description counts them."""
    config = NeuroFMX.Config(
        model=ModelParams(size=size, prior={}),
        duration=2.0,
        signals={"spikes": SignalSpec(tokenizer="binned", patch=1, dt=0.02)},
        tasks={"v": TaskSpec(kind="regression", outputs=2, mean=[0, 0], scale=[1, 1])},
    )
    with torch.device("meta"):
        model = NeuroFMX(config)
    assert model.num_parameters() / 1e6 == pytest.approx(millions, rel=0.05)


def test_options_of_a_tokenizer_come_are_checked(made):
    model = tiny_model(made, ["a"], tokenizers={"binned": {"rates": [1, 2]}})
    assert model.tokenizers["spikes"].config.rates == [1, 2]
    assert model(batch_of(made, model)).latents.isfinite().all()
    with pytest.raises(UserError, match=r"model.tokenizers.binned .*\n.*ratez: unknown key"):
        tiny_model(made, ["a"], tokenizers={"binned": {"ratez": [1]}})
    with pytest.raises(UserError, match=r"names bined; choose from .*binned"):
        tiny_model(made, ["a"], tokenizers={"bined": {}})


STARTS = torch.tensor([[0.0, 0.05, 0.05, 1.0]])  # of events (s)


def test_a_query_finds_the_last_token_that_has_begun():
    sequence = TokenizedSequence(
        torch.arange(4.0)[None, :, None], torch.zeros(1), 0.1, torch.tensor([[True] * 3 + [False]])
    )
    asked = torch.tensor([[0.0, 0.0999, 0.1, 0.3 - 1e-8, 0.35]])  # of 0.3: rounding
    assert last_known(sequence, asked, False)[0, :, 0].tolist() == [
        0,
        0,
        1,
        0,
        0,
    ]  # token 3 is masked
    # A causal model knows a token when it has ended: token 1 at 0.2.
    assert last_known(sequence, asked, True)[0, :, 0].tolist() == [0, 0, 0, 2, 2]
    assert last_known(sequence, asked - 0.1, True)[0, :, 0].tolist() == [0, 0, 0, 1, 1]
    events = dataclasses.replace(sequence, offsets=STARTS)
    assert last_known(events, asked, False)[0, :, 0].tolist() == [0, 2, 2, 2, 2]


def test_between_the_starts_of_two_tokens_a_query_finds_both():
    sequence = TokenizedSequence(
        torch.tensor([[0.0, 1.0, 4.0, 9.0]])[..., None],
        torch.zeros(1),
        0.1,
        torch.tensor([[True] * 3 + [False]]),
    )
    asked = torch.tensor([[0.0, 0.05, 0.1 - 1e-8, 0.175, 0.25, 0.35, 0.4, -0.1]])
    # Token 3 is masked: of 0.25 only the token that has begun is known, of 0.35 and later nothing.
    torch.testing.assert_close(
        held(sequence, asked, False)[0, :, 0], torch.tensor([0, 0.5, 1, 3.25, 4, 0, 0, 0])
    )
    for causal, other in ((True, sequence), (False, dataclasses.replace(sequence, offsets=STARTS))):
        assert torch.equal(held(other, asked, causal), last_known(other, asked, causal))


def test_what_a_window_says_is_the_mean_of_what_was_seen_of_it_until_then():
    tokens, mask = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), torch.tensor([1, 1, 0, 1, 1]).bool()
    given = (torch.zeros(1, 5, 1), torch.zeros(1), torch.tensor(0.1), mask[None], None)
    features = Features(*given, entered=tokens[None, :, None])
    asked = torch.tensor([[0.05, 0.2, 0.35, 0.5]])
    whole = lately(features, asked, causal=False, span=0.3)
    assert whole.expand(-1, 4, -1).flatten().tolist() == [6.75] * 4
    # By 0.2 s two tokens have ended, by 0.35 s three, of which the last was not seen; then the last
    # three, from 0.2 s on.
    known = lately(features, asked, causal=True, span=0.3)[0, :, 0]
    assert known.tolist() == [0.0, 1.5, 1.5, 12.0]


def test_what_units_say_is_added_straight_to_what_a_task_is_answered(made, model):
    """By a linear map of the tokens' mean, as large as the root of their number; of LFP it is not.

    Whatever comes between, the answers move by exactly that.
    """
    assert set(model.whole) == {"spikes"}
    batch, name = batch_of(made, model), "spikes"
    output = model(batch)
    with torch.no_grad():
        weight = model.whole[name].weight.clone()
        model.whole[name].weight.zero_()
        without = model(batch).heads["answer.velocity"]
        model.whole[name].weight.copy_(weight)
    sequence, units = model.tokens(name, batch.signals[name]), [6] * 6 + [4] * 6
    kept = sequence.mask[..., None]
    mean = (sequence.tokens * kept).sum(1) / kept.sum(1)
    moved = 0.3 * torch.tensor(units).sqrt()[:, None] * mean @ weight.T
    said = output.heads["answer.velocity"] - without
    torch.testing.assert_close(said, moved[:, None].expand_as(said), atol=1e-5, rtol=1e-3)
