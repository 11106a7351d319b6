"""Arguments of a scan, and all that comes out of it."""

import torch

from neurofmx.models.scan import scan

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 1e-2}


def arguments(time, dtype=torch.float64, batch=2, seed=0, sizes=(3, 4, 5)):
    """x, dt, A, B, C, D and state of so many heads, features and states; dt is 0 where masked."""
    heads, features, states = sizes
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    dt = torch.rand(batch, time, heads, generator=g, dtype=torch.float64)
    dt = dt * (torch.rand(batch, time, 1, generator=g) < 0.7)
    A = -torch.rand(heads, generator=g, dtype=torch.float64) - 0.1
    wide = torch.promote_types(dtype, torch.float32)
    x, B, C = (normal(batch, time, *n) for n in ((heads, features), (states,), (states,)))
    state = normal(batch, heads, features, states).to(wide)
    return [x, dt.to(wide), A.to(wide), B, C, normal(heads), state]


def with_gradients(given, backend, **options):
    """Outputs, last state and every gradient of a scan."""
    x, dt, A, B, C, D, state = (a.clone().requires_grad_() for a in given)
    y, last = scan(x, dt, A, B, C, state, backend, D, **options)
    weights = torch.linspace(-1, 1, y.numel()).bfloat16().to(y).view_as(y)
    ((y * weights).sum() + last.sum()).backward()
    return [y, last, *(a.grad for a in (x, dt, A, B, C, D, state))]


def close(ours, reference, tolerance):
    """To `tolerance` of each one's largest value."""
    for a, b in zip(ours, reference, strict=True):
        largest = b.abs().max().item() + 1e-30
        torch.testing.assert_close(a.to(b), b, rtol=0, atol=tolerance * largest)
