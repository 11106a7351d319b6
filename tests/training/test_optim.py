"""Rates by hand, which weights move how, and their running mean."""

import pytest
import torch
from torch import nn
from windows import recording, shards, tiny_model

from neurofmx.training.optim import Average, OptimizerParams, optimizers


def rates(steps, **params):
    given = OptimizerParams(**params)
    return [given.rate(step, steps) for step in range(steps)]


def test_the_cosine_rises_linearly_and_comes_down_to_0():
    found = rates(10, warmup=0.2)
    assert found[:3] == [0.5, 1.0, 1.0]
    assert found[6] == pytest.approx(0.5)  # half way down
    assert found[4] == pytest.approx(0.5 + 0.5**1.5)  # a quarter: ½ (1 + cos 45°)
    assert found[8] == pytest.approx(0.5 - 0.5**1.5)
    assert OptimizerParams(warmup=0.2).rate(10, 10) == 0


def test_wsd_is_constant_between_its_rise_and_its_fall():
    found = rates(10, schedule="wsd", warmup=0.2, decay=0.4)
    assert found == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
def test_a_rate_is_a_share_of_the_largest_which_some_step_has(schedule, steps, warmup):
    found = rates(steps, schedule=schedule, warmup=warmup)
    assert min(found) > 0
    assert max(found) == 1


class Small(nn.Module):
    """A matrix inside, one at its end, an embedding, vectors, and something frozen."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.units = nn.Embedding(3, 4)
        self.readout = nn.Linear(4, 2)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_only_matrices_decay(name):
    """Of a step without gradient nothing but the decay is left."""
    torch.manual_seed(0)
    model, params = Small(), OptimizerParams(name=name, lr=0.1, weight_decay=0.5)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    for optimizer in optimizers(model.named_parameters(), params):
        optimizer.step()
    for n, p in model.named_parameters():
        decays = p.ndim > 1 and p.requires_grad
        torch.testing.assert_close(p, before[n] * (1 - 0.1 * 0.5 if decays else 1))


def moved(named, name):
    """Names of the parameters of AdamW, and of Muon where there is one."""
    by_id = {id(p): n for n, p in named}
    made = optimizers(named, OptimizerParams(name=name))
    return [[by_id[id(p)] for g in o.param_groups for p in g["params"]] for o in made]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = shards(tmp_path_factory.mktemp("made"), [recording("a")])
    prior = {"width": 16, "n_layers": 1, "n_heads": 2}
    return tiny_model(made, ["a"], rates=[1, 4], prior=prior, codes=8)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_trained_parameter_is_moved_by_one_optimiser(name, model):
    named = list(model.named_parameters())
    frozen = {n for n, p in named if n.startswith("perceiver.layers")}
    for n, p in named:
        p.requires_grad_(n not in frozen)
    found = [n for names in moved(named, name) for n in names]
    model.requires_grad_(True)
    assert sorted(found) == sorted({n for n, _ in named} - frozen)
    assert len(moved(named, name)) == (1 if name == "adamw" else 2)


def test_muon_moves_the_matrices_between_features(model):
    adamw, muon = moved(list(model.named_parameters()), "muon")
    shapes = {n: p.shape for n, p in model.named_parameters()}
    assert all(len(shapes[n]) == 2 for n in muon)
    assert {n.split(".")[0] for n in muon} == {"backbone", "perceiver", "prior"}
    for inside in (
        "backbone.streams.0.blocks.0.mixer.in_proj.weight",
        "backbone.fuse.join.weight",
        "perceiver.read.to_key_value.weight",
        "perceiver.layers.0.feed_forward.1.weight",
        "prior.net.blocks.0.feed_forward.0.weight",
    ):
        assert inside in muon
    for outside in (
        "tokenizers.spikes.units.gain.weight",  # an embedding
        "tokenizers.lfp.filters.weight",
        "perceiver.latents",  # queries
        "prior.net.places",  # an embedding of places
        "prior.net.leave.weight",  # a readout
        "decode.velocity.readout.weight",
        "reconstruct.lfp.readout",
        "hidden_token",
    ):
        assert outside in adamw


def test_where_nothing_is_muons_there_is_adamw_alone():
    named = [("readout.weight", nn.Parameter(torch.ones(2, 2)))]
    assert moved(named, "muon") == [["readout.weight"]]


def test_muon_moves_along_every_direction_of_a_gradient_alike_and_as_far_as_adamw_would():
    g = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(8, 8, generator=g)).Q for _ in range(2))
    matrix = nn.Parameter(torch.zeros(8, 8))
    matrix.grad = u @ torch.linspace(1, 30, 8).diag() @ v.T
    params = OptimizerParams(name="muon", lr=1.0, weight_decay=0.0)
    named = [("backbone.weight", matrix), ("bias", nn.Parameter(torch.ones(8)))]
    for optimizer in optimizers(named, params):
        optimizer.step()
    step = -(u.T @ matrix.detach() @ v)
    along = step.diag() / step.diag().mean()
    assert along.min() > 0.6
    assert along.max() < 1.4
    assert (step - step.diag().diag()).abs().max() < 0.1 * step.diag().mean()
    assert step.square().mean().sqrt() == pytest.approx(0.2, rel=0.25)  # of AdamW usual


def test_the_running_mean_is_its_recurrence():
    parameter, keep = nn.Parameter(torch.tensor([1.0, -2.0])), 0.5
    average = Average([parameter, nn.Parameter(torch.ones(1), requires_grad=False)], keep)
    expected = parameter.detach().double()
    for step in range(20):
        with torch.no_grad():
            parameter.add_(torch.tensor([0.3, -0.1]) * step)
        average.update(step)
        k = min(keep, (step + 1) / (step + 10))  # 0.1, 2/11, 3/12 … until it is `keep`
        expected = k * expected + (1 - k) * parameter.detach().double()
    (mean,) = average.mean
    torch.testing.assert_close(mean.double(), expected, rtol=1e-6, atol=1e-6)


def test_the_mean_stands_in_for_the_weights_and_gives_them_back_bit_for_bit():
    parameter = nn.Parameter(torch.randn(50, generator=torch.Generator().manual_seed(0)))
    average = Average([parameter], 0.9)
    with torch.no_grad():
        parameter.mul_(1.1)
    average.update(0)
    own, mean = parameter.detach().clone(), average.mean[0].clone()
    with average.in_place():
        assert torch.equal(parameter, mean)
    assert torch.equal(parameter, own)
    assert torch.equal(average.mean[0], mean)
    with pytest.raises(KeyboardInterrupt), average.in_place():
        raise KeyboardInterrupt
    assert torch.equal(parameter, own)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_planted_map_is_learnt(name):
    """A linear network of two layers finds the product that made its targets."""
    g = torch.Generator().manual_seed(0)
    x, truth = torch.randn(256, 6, generator=g), torch.randn(6, 6, generator=g)
    torch.manual_seed(0)
    model = nn.ModuleDict({"backbone": nn.Linear(6, 16), "readout": nn.Linear(16, 6)})
    params = OptimizerParams(name=name, lr=0.02, weight_decay=0.0)
    made = optimizers(model.named_parameters(), params)
    for step in range(300):
        loss = (model["readout"](model["backbone"](x)) - x @ truth).square().mean()
        for optimizer in made:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = params.lr * params.rate(step, 300)
        loss.backward()
        for optimizer in made:
            optimizer.step()
    assert loss.item() < 1e-3


def table(rows=6, width=4):
    """Embeddings of units as the optimisers know them, and a matrix beside them."""
    g = torch.Generator().manual_seed(0)
    units, inner = (nn.Parameter(torch.randn(rows, width, generator=g)) for _ in range(2))
    return [("tokenizers.spikes.units.gain.weight", units), ("backbone.weight", inner)]


def test_units_move_in_proportion_to_their_gradients_and_all_else_by_its_sign():
    named = table()
    size = torch.logspace(-4, 0, 6)[:, None].expand(6, 4)
    before = [p.detach().clone() for _, p in named]
    for _, p in named:
        p.grad = size.clone()
    (adam,) = optimizers(named, OptimizerParams(lr=0.1, weight_decay=0.0))
    adam.step()
    units, inner = (b - p.detach() for b, (_, p) in zip(before, named, strict=True))
    torch.testing.assert_close(units, 0.1 * size / size.square().mean().sqrt())
    torch.testing.assert_close(inner, torch.full_like(inner, 0.1), rtol=1e-3, atol=0)
    assert torch.equal(named[0][1].grad, size)


def test_the_shared_moment_is_its_recurrence_over_what_has_had_a_gradient():
    named, lr, decay, steps = table(), 0.01, 0.1, 7
    ((_, units), _) = named
    g = torch.Generator().manual_seed(1)
    grads = torch.randn(steps, 6, 4, generator=g).double()
    grads[:, 4:] = 0  # units of a recording that is never drawn
    grads[:5, 3] = 0  # and of one that comes late
    x, m, v = units.detach().double(), torch.zeros(6, 4).double(), torch.zeros(6, 4).double()
    (adam,) = optimizers(named, OptimizerParams(lr=lr, weight_decay=decay))
    for t, grad in enumerate(grads, start=1):
        units.grad = grad.float()
        adam.step()
        m, v = 0.9 * m + 0.1 * grad, 0.98 * v + 0.02 * grad**2
        root = (v[v > 0].mean() / (1 - 0.98**t)).sqrt() + 1e-8
        x = x * (1 - lr * decay) - lr * m / (1 - 0.9**t) / root
    torch.testing.assert_close(units.detach().double(), x, rtol=1e-5, atol=1e-6)


def test_units_without_a_gradient_stay():
    named = table()
    before = named[0][1].detach().clone()
    (adam,) = optimizers(named, OptimizerParams())
    adam.step()
    named[0][1].grad = torch.zeros_like(before)
    optimizers(named, OptimizerParams(weight_decay=0.0))[0].step()
    assert torch.equal(named[0][1], before)


def test_few_units_that_say_something_are_found_among_many():
    """Three units of 300 carry the label, 60 trials, halves apart: by its own moment for each entry
    the rest is learned by heart."""

    def score(named, params, seed):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(120, 300, generator=g)
        y = (x[:, :3].sum(1) > 0).float()
        (adam,) = optimizers(named, params)
        for _ in range(60):
            adam.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(
                x[:60] @ named[0][1][:, 0], y[:60]
            )
            loss.backward()
            adam.step()
        return ((x[60:] @ named[0][1][:, 0] > 0) == (y[60:] > 0)).float().mean().item()

    params, gained = OptimizerParams(lr=0.01, weight_decay=0.0), []
    for seed in range(8):
        found = []
        for name in ("tokenizers.spikes.units.gain.weight", "backbone.weight"):
            found.append(score([(name, nn.Parameter(torch.zeros(300, 1)))], params, seed))
        gained.append(found[0] - found[1])
    assert sum(gained) / len(gained) > 0.02
