"""The latent diffusion prior: its steps by hand, exact denoisers, and planted mixtures."""

import functools
import math

import pytest
import torch
from torch import Generator

from neurofmx.batches import Target
from neurofmx.models.conditions import condition_dim, condition_of
from neurofmx.models.diffusion import DiffusionPrior
from neurofmx.models.diffusion_net import Denoiser
from neurofmx.models.diffusion_steps import (
    SCHEDULES,
    Level,
    asked_for,
    cleaned,
    earlier,
    make_schedule,
    sample,
)
from neurofmx.models.whitening import Whitening
from neurofmx.objectives.draws import Draws

CENTRES = torch.tensor([[-1.5, -1.0], [1.5, -1.0], [0.0, 1.6]])
SHARES = torch.tensor([0.2, 0.3, 0.5])
SPREAD = 0.3


def mixture(n, generator):
    """Latents of one token with two features, and the mode that each is from."""
    mode = torch.multinomial(SHARES, n, replacement=True, generator=generator)
    return (CENTRES[mode] + SPREAD * torch.randn(n, 2, generator=generator))[:, None], mode


def nearest(latents):
    return torch.cdist(latents[:, 0], CENTRES).argmin(dim=1)


def mmd(x, y, width):
    """Squared maximum mean discrepancy under a Gaussian kernel (Gretton et al. 2012)."""
    x, y = x.flatten(1), y.flatten(1)
    near = [torch.exp(-(torch.cdist(*pair) ** 2) / (2 * width**2)) for pair in ((x, x), (y, y))]
    across = torch.exp(-(torch.cdist(x, y) ** 2) / (2 * width**2))
    return sum(k.mean() for k in near) - 2 * across.mean()


@functools.cache
def held_out(n):
    """Held-out data, the kernel's width, and the MMD that 95% of true sets are below."""
    generator = Generator().manual_seed(1)
    held, _ = mixture(n, generator)
    width = torch.cdist(held[:, 0], held[:, 0]).median()
    true = torch.stack([mmd(mixture(n, generator)[0], held, width) for _ in range(200)])
    return held, width, true.quantile(0.95)


def is_the_mixture(samples):
    held, width, most = held_out(len(samples))
    return bool(mmd(samples, held, width) < most)


def seeded(n, step=0):
    """Draws of n windows."""
    return Draws(torch.arange(n) + n * step)


def trained(steps=600, batch=256, **options):
    """A small prior that has learned the mixture, maybe with its modes as condition."""
    torch.manual_seed(0)
    generator = Generator().manual_seed(0)
    prior = DiffusionPrior(2, 1, width=32, n_layers=2, n_heads=2, **options)
    optimizer = torch.optim.Adam(prior.parameters(), lr=4e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        latents, mode = mixture(batch, generator)
        told = torch.eye(3)[mode] if prior.condition_dim else None
        optimizer.zero_grad()
        prior.loss(latents, told, seeded(batch, step)).backward()
        optimizer.step()
        rate.step()
    return prior.eval()


@pytest.fixture(scope="module")
def prior():
    """Learned with the mode as its condition, so that it serves for both kinds of sample."""
    return trained(condition_dim=3, untold=0.4)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("steps", [10, 1000])
def test_a_schedule_goes_from_signal_to_noise(kind, steps):
    schedule = make_schedule(kind, steps)
    assert schedule.steps == steps
    assert schedule.level(0) == Level(1.0, 0.0)
    assert schedule.alpha.dtype == torch.float64
    assert (schedule.alpha.diff() < 0).all()
    assert (schedule.sigma.diff() > 0).all()
    assert 0 < schedule.alpha[-1] < 0.05
    torch.testing.assert_close(
        schedule.alpha**2 + schedule.sigma**2, torch.ones(steps + 1).double()
    )


def test_schedules_worked_out_by_hand():
    linear = make_schedule("linear", 1000).alpha ** 2
    step = (0.02 - 1e-4) / 999
    by_hand = [(1 - 1e-4), (1 - 1e-4) * (1 - 1e-4 - step)]
    assert linear[1:3].tolist() == pytest.approx(by_hand, rel=1e-12)
    cosine = make_schedule("cosine", 4).alpha ** 2

    def signal(time):
        return math.cos((time / 4 + 0.008) / 1.008 * math.pi / 2) ** 2

    assert cosine[2].item() == pytest.approx(signal(2) / signal(0), rel=1e-12)
    assert cosine[4].item() == pytest.approx(signal(3) / signal(0) * 0.001, rel=1e-12)  # β ≤ 0.999


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_what_the_network_says_gives_the_clean_latents_back(target):
    generator = Generator().manual_seed(0)
    clean, eps = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    for time in (1, 500, 1000):
        alpha, sigma = make_schedule("cosine", 1000).level(time)
        said = asked_for(target, clean, eps, alpha, sigma)
        found = cleaned(target, said, alpha * clean + sigma * eps, alpha, sigma)
        torch.testing.assert_close(found, clean, rtol=0, atol=1e-10)


def test_v_at_a_hand_computed_level():
    clean, eps = torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), -1.0)
    assert asked_for("v", clean, eps, 0.6, 0.8).item() == pytest.approx(0.6 * -1 - 0.8 * 2)
    assert cleaned("v", torch.tensor([[[-2.2]]]), torch.tensor([[[0.4]]]), 0.6, 0.8).item() == (
        pytest.approx(2.0)
    )


def test_an_ancestral_step_has_the_mean_and_variance_of_ddpm():
    """Ho et al. 2020, eq. 6 and 7, at a step where no term is small."""
    schedule, time = make_schedule("linear", 10), 4
    (alpha, sigma), (alpha_before, sigma_before) = schedule.level(time), schedule.level(time - 1)
    beta = 1 - (alpha / alpha_before) ** 2
    x, clean = torch.full((20_000, 1, 1), 0.7), torch.full((20_000, 1, 1), -0.4)
    z = torch.randn(x.shape, generator=Generator().manual_seed(0))
    z = (z - z.mean()) / z.std(correction=0)
    found = earlier(x, clean, schedule.level(time), schedule.level(time - 1), 1.0, z)
    mean = alpha_before * beta / sigma**2 * -0.4
    mean += math.sqrt(1 - beta) * sigma_before**2 / sigma**2 * 0.7
    variance = sigma_before**2 / sigma**2 * beta
    assert found.mean().item() == pytest.approx(mean, rel=1e-4)
    assert found.var(correction=0).item() == pytest.approx(variance, rel=1e-4)


def test_the_last_step_is_the_clean_latents():
    schedule = make_schedule("cosine", 1000)
    x, clean = torch.randn(2, 3, 1, 2, generator=Generator().manual_seed(0))
    for eta in (0.0, 1.0):
        last = earlier(x, clean, schedule.level(20), schedule.level(0), eta, torch.ones(3, 1, 2))
        torch.testing.assert_close(last, clean)


def exact(schedule, centres, shares, spread):
    """E[x₀ | x_t] of a mixture of Gaussians: what a perfect network would say."""

    def clean_of(x, time):
        alpha, sigma = schedule.level(time)
        variance = alpha**2 * spread**2 + sigma**2
        apart = x - alpha * centres[:, None]  # mode × sample × feature
        log = shares.log()[:, None] - apart.square().sum(-1) / (2 * variance)
        each = centres[:, None] + alpha * spread**2 / variance * apart
        return (log.softmax(0)[..., None] * each).sum(0)[:, None]

    return lambda x, time: clean_of(x[:, 0], time)


@pytest.mark.parametrize(
    ("steps", "eta", "off"),
    [(50, 0.0, 0.03), (250, 0.0, 0.01), (250, 0.5, 0.02), (1000, 1.0, 0.01)],
)
def test_with_a_perfect_network_a_gaussian_keeps_its_moments(steps, eta, off):
    """To within what steps of finite size cost."""
    schedule, generator = make_schedule("cosine", 1000), Generator().manual_seed(0)
    centre, n = torch.tensor([[0.8, -0.5]], dtype=torch.float64), 20_000
    clean_of = exact(schedule, centre, torch.ones(1).double(), 0.6)
    start = torch.randn(n, 1, 2, generator=generator, dtype=torch.float64)
    found = sample(clean_of, start, schedule, steps, eta, generator)[:, 0]
    torch.testing.assert_close(found.mean(0), centre[0], rtol=0, atol=0.015)
    torch.testing.assert_close(found.std(0), torch.full((2,), 0.6).double(), rtol=off, atol=0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_with_a_perfect_network_samples_are_the_mixture(eta):
    schedule, generator = make_schedule("linear", 1000), Generator().manual_seed(0)
    start = torch.randn(500, 1, 2, generator=generator)
    samples = sample(exact(schedule, CENTRES, SHARES, SPREAD), start, schedule, 100, eta, generator)
    assert is_the_mixture(samples)


def test_a_learned_prior_draws_the_planted_mixture(prior):
    samples = prior.sample(500, generator=Generator().manual_seed(0))
    assert samples.shape == (500, 1, 2)
    assert is_the_mixture(samples)


def test_neither_an_untrained_prior_nor_a_lost_mode_passes_for_the_mixture(prior):
    """The untrained one knows mean and deviation of each feature, as a Gaussian would."""
    untrained = trained(steps=0)
    untrained.whiten.load_state_dict(prior.whiten.state_dict())
    assert not is_the_mixture(untrained.sample(500, generator=Generator().manual_seed(0)))
    samples = prior.sample(800, generator=Generator().manual_seed(0))
    assert not is_the_mixture(samples[nearest(samples) != 0][:500])


def test_conditional_samples_lie_in_their_mode_and_guidance_sharpens(prior):
    told = torch.eye(3).repeat_interleave(100, dim=0)
    found = {}
    for guidance in (0.0, 1.0, 4.0):
        samples = prior.sample(300, told, guidance=guidance, generator=Generator().manual_seed(0))
        right = (nearest(samples) == told.argmax(1)).float().mean().item()
        found[guidance] = right, samples.view(3, 100, 2).std(1).mean().item()
    assert found[0.0][0] < 0.6  # as without a condition
    assert found[1.0][0] > 0.97
    assert found[1.0][1] == pytest.approx(SPREAD, rel=0.2)
    assert found[4.0][0] == 1.0
    assert found[4.0][1] < 0.9 * found[1.0][1]


def test_guidance_is_what_the_condition_adds_times_its_weight(prior):
    told, x = torch.eye(3), torch.randn(3, 1, 2, generator=Generator().manual_seed(0))
    times = torch.tensor([100, 500, 900])
    within, without = prior._say(x, times, told, None), prior._say(x, times, None, None)
    guided = prior._guided(x, times, told, 3.0)
    torch.testing.assert_close(guided, without + 3 * (within - without))
    torch.testing.assert_close(prior._guided(x, times, told, 0.0), without)


def test_a_condition_that_is_not_known_cannot_be_seen(prior):
    noise = prior.draw(seeded(4))._replace(untold=torch.tensor([False] * 4))
    latents = mixture(4, Generator().manual_seed(1))[0]
    known = torch.tensor([True, False, True, False])
    garbage = torch.eye(3)[[0, 1, 2, 0]].masked_fill(~known[:, None], math.nan)
    said, _ = prior(latents, noise, garbage, known)
    said.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in prior.parameters())
    nothing, _ = prior(latents, noise)
    torch.testing.assert_close(said[~known], nothing[~known])
    assert not torch.isclose(said[known], nothing[known]).any()
    prior.zero_grad()


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_the_weights_of_min_snr_are_those_of_its_paper(target):
    torch.manual_seed(0)
    plain, weighted = (DiffusionPrior(2, 1, 8, 1, 1, target=target, min_snr=s) for s in (None, 5.0))
    latents, noise = torch.randn(6, 1, 2), plain.draw(seeded(6))
    (_, truth), (_, scaled) = plain.eval()(latents, noise), weighted.eval()(latents, noise)
    alpha, sigma = plain.schedule.alpha[noise.times], plain.schedule.sigma[noise.times]
    snr = alpha**2 / sigma**2
    weight = snr.clamp(max=5) / {"eps": snr, "x0": 1, "v": snr + 1}[target]
    torch.testing.assert_close((scaled / truth)[:, 0, 0].double() ** 2, weight, rtol=1e-4, atol=0)


def test_a_network_that_says_nothing_has_a_loss_of_1():
    torch.manual_seed(0)
    prior, generator = DiffusionPrior(8, 4, 16, 1, 2), Generator().manual_seed(0)
    latents = 100 + 7 * torch.randn(2000, 4, 8, generator=generator)
    assert prior.loss(latents, None, seeded(2000)).item() == pytest.approx(1, rel=0.02)


def test_no_gradient_reaches_the_latents():
    torch.manual_seed(0)
    prior, latents = DiffusionPrior(4, 3, 8, 1, 2), torch.randn(5, 3, 4, requires_grad=True)
    prior.loss(latents, None, seeded(5)).backward()
    assert latents.grad is None
    assert prior.net.leave.weight.grad.abs().sum() > 0


def test_whitening_over_batches_is_that_of_all_windows():
    generator = Generator().manual_seed(0)
    latents = 3 + 2 * torch.randn(60, 2, 3, generator=generator) * torch.tensor([1.0, 10, 0.1])
    whitening = Whitening(2, 3)
    for part in latents.split([1, 7, 30, 22]):
        whitening.observe(part)
    torch.testing.assert_close(whitening.mean, latents.mean(0))
    torch.testing.assert_close(whitening.scale, latents.std(0, correction=0))
    white = whitening(latents)
    torch.testing.assert_close(white.std(0, correction=0), torch.ones(2, 3))
    torch.testing.assert_close(whitening.undo(white), latents)


def test_whitening_follows_an_encoder_that_moves():
    whitening = Whitening(1, 1, memory=100)
    for mean in (0.0, 5.0):
        for _ in range(100):
            whitening.observe(torch.tensor([[[mean - 1]], [[mean + 1]]]))
    assert whitening.count == 100
    assert whitening.mean.item() == pytest.approx(5 * (1 - 0.98**100), rel=1e-3)


def test_only_training_moves_the_whitening():
    torch.manual_seed(0)
    prior = DiffusionPrior(2, 1, 8, 1, 1)
    prior.eval().loss(torch.ones(3, 1, 2), None, seeded(3))
    assert prior.whiten.count == 0
    prior.train().loss(torch.ones(3, 1, 2), None, seeded(3))
    assert prior.whiten.count == 3


def test_bfloat16_weights_give_finite_samples_and_keep_the_whitening(prior):
    half = trained(steps=0, condition_dim=3)
    half.load_state_dict(prior.state_dict())
    half = half.to(torch.bfloat16)
    assert half.whiten.mean.dtype == torch.float32
    assert torch.equal(half.whiten.mean, prior.whiten.mean)
    half.train().loss(
        mixture(8, Generator().manual_seed(0))[0].bfloat16(),
        torch.eye(3)[[0] * 8],
        seeded(8),
    ).backward()
    assert all(p.grad.isfinite().all() for p in half.parameters())
    told = torch.eye(3).repeat(20, 1)
    samples = half.sample(60, told, guidance=2.0, generator=Generator().manual_seed(0))
    assert samples.dtype == torch.bfloat16
    assert (nearest(samples.float()) == told.argmax(1)).float().mean() > 0.9


def test_the_same_generator_draws_the_same_and_the_state_dict_holds_all(prior):
    again = DiffusionPrior(2, 1, width=32, n_layers=2, n_heads=2, condition_dim=3).eval()
    again.load_state_dict(prior.state_dict())
    assert not any("schedule" in name for name in prior.state_dict())
    for eta in (0.0, 1.0):
        first, second = (
            p.sample(5, steps=10, eta=eta, generator=Generator().manual_seed(3))
            for p in (prior, again)
        )
        assert torch.equal(first, second)
    other = prior.sample(5, steps=10, generator=Generator().manual_seed(4))
    assert not torch.isclose(first, other).any()


def test_the_network_depends_on_time_place_and_neighbours():
    torch.manual_seed(0)
    net = Denoiser(4, 3, 16, 2, 2)
    for parameter in net.parameters():  # what starts at 0 would hide it all
        torch.nn.init.normal_(parameter, std=0.3)
    x, time = torch.randn(1, 3, 4), torch.tensor([100.0])
    said = net(x, time)
    assert not torch.isclose(net(x, time + 5), said).any()
    assert not torch.isclose(net(x.flip(1), time).flip(1), said).any()
    moved = x.clone()
    moved[:, 2] += 1
    assert not torch.isclose(net(moved, time)[:, 0], said[:, 0]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "1 to 1000 steps .* were 0"),
        ({"steps": 1001}, "1 to 1000 steps .* were 1001"),
        ({"eta": 1.5}, "eta from 0 to 1; they were 50 and 1.5"),
        ({"guidance": 2.0}, "guidance 2.0 needs a condition"),
        ({"condition": torch.eye(2)}, r"condition has shape \(2, 2\); 2 samples .* need \(2, 3\)"),
    ],
)
def test_wrong_arguments_are_named(prior, arguments, message):
    with pytest.raises(ValueError, match=message):
        prior.sample(2, **arguments, generator=Generator())


def test_a_prior_that_has_seen_nothing_draws_nothing():
    with pytest.raises(ValueError, match="has seen no latents"):
        DiffusionPrior(2, 1, 8, 1, 1).sample(2, generator=Generator())


def test_a_width_that_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="width 10 must be even and a multiple of n_heads = 4"):
        DiffusionPrior(2, 1, 10, 1, 4)


def test_conditions_worked_out_by_hand():
    def of(kind, values, mask, outputs):
        values = torch.tensor(values)[..., None]
        asked = Target(kind, values, torch.zeros(values.shape[:2]), torch.tensor(mask))
        found, known = condition_of(asked, outputs)
        assert found.shape[1] == condition_dim(kind, outputs)
        return found.tolist(), known.tolist()

    nan, all_seen = math.nan, [[True, True]]
    assert of("regression", [[1.0, 5.0]], all_seen, 1) == ([[3.0]], [True])
    assert of("regression", [[1.0, nan]], [[True, False]], 1) == ([[1.0]], [True])
    assert of("regression", [[nan, nan]], [[False, False]], 1) == ([[0.0]], [False])
    assert of("classification", [[2.0, 2.0]], all_seen, 3) == ([[0.0, 0.0, 1.0]], [True])
    assert of("ordinal", [[0.0, 1.0]], all_seen, 2) == ([[0.5, 0.5]], [True])
    assert of("classification", [[1.0, -1.0]], [[True, False]], 2) == ([[0.0, 1.0]], [True])
    (angle,), known = of("circular", [[math.pi / 2, nan]], [[True, False]], 1)
    assert angle == pytest.approx([0.0, 1.0], abs=1e-6)
    assert known == [True]
