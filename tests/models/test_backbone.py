"""The backbone: each stream by a loop, the same numbers however time is cut, and no later token."""

import pytest
import torch

from neurofmx.models import MambaBackbone

LENGTHS = [1, 3, 4, 5, 15, 16, 17, 37]


def made(rates=(1, 4, 16), fusion="concat", n_blocks=1, seed=0):
    torch.manual_seed(seed)
    backbone = MambaBackbone(
        16, n_blocks, d_state=8, headdim=8, rates=rates, fusion=fusion, backend="reference"
    )
    for parameter in backbone.parameters():  # so that no weight is one or zero
        parameter.data += 0.1 * torch.randn_like(parameter)
    return backbone.eval()


def tokens(time, batch=2, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(batch, time, 16, generator=g), torch.rand(batch, time, generator=g) < 0.6


def close(a, b, tolerance=1e-4):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def by_loops(backbone, rates, x, mask):
    """What each stream holds at each token, block after block and token after token."""
    streams = []
    for stack, rate in zip(backbone.streams, rates, strict=True):
        held = torch.zeros(*x.shape)
        for b in range(len(x)):
            means, shown = [], []
            for t in range(x.shape[1]):
                if (t + 1) % rate:
                    if means:
                        held[b, t] = held[b, t - 1]
                    continue
                valid = [x[b, s] for s in range(t + 1 - rate, t + 1) if mask[b, s]]
                means.append(sum(valid) / len(valid) if valid else torch.zeros(16))
                shown.append(bool(valid))
                y = torch.stack(means)[None]
                for block in stack.blocks:
                    y = block(y, torch.tensor([shown]))
                held[b, t] = stack.norm(y)[0, -1]
        streams.append(held)
    return streams


@pytest.mark.parametrize("time", LENGTHS)
@torch.no_grad()
def test_each_stream_is_what_the_loop_gives(time):
    backbone, (x, mask) = made(), tokens(time)
    mask[0, 4:9] = False  # a block of four without a valid token
    joined = torch.cat(by_loops(backbone, (1, 4, 16), x, mask), dim=-1)
    close(backbone(x, mask), backbone.fuse.join(joined))


@torch.no_grad()
def test_fusions_are_their_equations():
    x, mask = tokens(37)
    for fusion in ("add", "attention"):
        backbone = made(fusion=fusion)
        streams = torch.stack(by_loops(backbone, (1, 4, 16), x, mask))
        weight = backbone.fuse.scale[:, None, None] if fusion == "add" else None
        if fusion == "attention":
            asked = backbone.fuse.query(x * mask[..., None])
            weight = ((asked * streams).sum(-1) / 4).softmax(0)
        close(backbone(x, mask), (weight.reshape(3, *weight.shape[1:3], 1) * streams).sum(0))


@torch.no_grad()
def test_one_rate_is_a_plain_stack():
    backbone, (x, _) = made(rates=(1,), n_blocks=2), tokens(9)
    stack, y = backbone.streams[0], x
    for block in stack.blocks:
        y = block(y)
    assert torch.equal(backbone(x), stack.norm(y))
    size = sum(p.numel() for block in stack.blocks for p in block.parameters())
    assert sum(p.numel() for p in backbone.parameters()) == size + 16


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("fusion", ["concat", "add", "attention"])
@pytest.mark.parametrize("cuts", [[1] * 37, [5, 1, 16, 2, 13], [3, 34], [17, 0, 20], [37]])
@torch.no_grad()
def test_pieces_are_the_whole(cuts, fusion, masked):
    backbone, (x, mask) = made(fusion=fusion), tokens(37)
    mask[0, 4:9] = False
    mask = mask if masked else None
    state, pieces, start = None, [], 0
    for size in cuts:
        part = None if mask is None else mask[:, start : start + size]
        y, state = backbone.run(x[:, start : start + size], state, part)
        pieces.append(y)
        start += size
    close(torch.cat(pieces, dim=1), backbone(x, mask))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rates", [(1,), (1, 4, 16), (2, 3)])
@torch.no_grad()
def test_steps_are_the_whole(rates, masked):
    """And a run can go on where steps have stopped."""
    backbone, (x, mask) = made(rates=rates, n_blocks=2), tokens(37)
    mask[0, 4:9], mask[:, 20] = False, False
    mask = mask if masked else None
    whole, state = backbone(x, mask), backbone.initial(2)
    for t in range(30):
        y, state = backbone.step(x[:, t], state, None if mask is None else mask[:, t])
        close(y, whole[:, t])
    rest, _ = backbone.run(x[:, 30:], state, None if mask is None else mask[:, 30:])
    close(rest, whole[:, 30:])


@torch.no_grad()
def test_the_state_does_not_grow():
    backbone, state = made(), None
    sizes = []
    for time in (1, 7, 500):
        _, state = backbone.run(tokens(time)[0], state)
        leaves, _ = torch.utils._pytree.tree_flatten(state)
        sizes.append([tuple(leaf.shape) for leaf in leaves])
    assert sizes[0] == sizes[1] == sizes[2]
    leaves = torch.utils._pytree.tree_leaves(backbone.initial(2))
    assert [tuple(leaf.shape) for leaf in leaves] == sizes[0]


@torch.no_grad()
def test_a_state_keeps_nothing_else_alive():
    """No part is a view of a piece or of another part, so that each can be saved by itself."""
    backbone, (x, _) = made(), tokens(37)
    _, state = backbone.run(x[:, :21])
    for t in range(21, 37):
        for leaf in torch.utils._pytree.tree_leaves(state[1:]):
            assert leaf.untyped_storage().nbytes() <= 2 * leaf.nbytes, (t, leaf.shape)
        _, state = backbone.step(x[:, t], state)
    for fresh in (state, backbone.initial(2)):
        leaves = torch.utils._pytree.tree_leaves(fresh)
        assert len({leaf.untyped_storage().data_ptr() for leaf in leaves}) == len(leaves)


@pytest.mark.parametrize("fusion", ["concat", "add", "attention"])
@torch.no_grad()
def test_no_token_sees_a_later_one(fusion):
    backbone, (x, mask) = made(fusion=fusion), tokens(37)
    whole = backbone(x, mask)
    for t in (0, 3, 4, 15, 16, 31, 36):
        changed, other = x.clone(), mask.clone()
        changed[:, t:], other[:, t:] = torch.randn(2, 37 - t, 16), True
        y = backbone(changed, other)
        close(y[:, :t], whole[:, :t], 1e-6)
        assert not torch.allclose(y[:, t], whole[:, t], atol=1e-3)


@torch.no_grad()
def test_what_a_masked_token_holds_plays_no_part():
    backbone, (x, mask) = made(), tokens(37)
    nonsense = x.masked_fill(~mask[..., None], torch.nan)
    assert torch.equal(backbone(nonsense, mask), backbone(x, mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("time", [1, 17])
def test_gradients_are_finite(time, dtype):
    backbone, (x, mask) = made().to(dtype), tokens(time)
    mask[0] = False
    x = x.to(dtype).requires_grad_()
    backbone(x, mask).float().square().mean().backward()
    assert x.grad.isfinite().all()
    assert not x.grad[0].any()
    assert all(p.grad.isfinite().all() for p in backbone.parameters())  # and none is missing


def test_a_slow_stream_reaches_the_loss():
    """A run in pieces has the gradient of the whole, across the cut."""
    backbone, (x, mask) = made(), tokens(37)
    grads = []
    for cut in (37, 13):
        y, state = backbone.run(x[:, :cut], None, mask[:, :cut])
        parts = [y]
        if cut < 37:
            parts.append(backbone.run(x[:, cut:], state, mask[:, cut:])[0])
        loss = torch.cat(parts, dim=1).square().mean()
        grads.append(torch.autograd.grad(loss, list(backbone.parameters())))
    for a, b in zip(*grads, strict=True):
        assert a.any()
        close(b, a)


def test_wrong_arguments_are_refused():
    for rates in ((), (0, 1), (4, 4)):
        with pytest.raises(ValueError, match="give different positive numbers of tokens"):
            made(rates=rates)
    with pytest.raises(ValueError, match="fusion 'mean' is unknown; choose from concat, add, att"):
        made(fusion="mean")


class Step(torch.nn.Module):
    """One token and the state, flat in and flat out."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        _, self.spec = torch.utils._pytree.tree_flatten(backbone.initial(2))

    def forward(self, x, *leaves):
        y, state = self.backbone.step(x, torch.utils._pytree.tree_unflatten(leaves, self.spec))
        return y, *torch.utils._pytree.tree_leaves(state)


@torch.no_grad()
def test_an_exported_step_is_the_step():
    """Its graph has no branch, so that one graph serves every phase of the slower streams."""
    backbone, (x, _) = made(), tokens(37)
    leaves = torch.utils._pytree.tree_leaves(backbone.initial(2))
    step = torch.export.export(Step(backbone), (x[:, 0], *leaves)).module()
    whole = backbone(x)
    for t in range(37):
        y, *leaves = step(x[:, t], *leaves)
        close(y, whole[:, t])
