"""The scan in chunks of matrix products, with a backward pass of its own.

Of a chunk, let X hold dt_t x_t in its rows, B and C the maps, S the state that it starts from and
a_t = Σ_{r≤t} dt_r A the log-decay since then. With W_ts = exp(a_t − a_s) (C_t · B_s) for s ≤ t,

    y = [W | exp(a) C] [X; S] + D x        S' = exp(a_end) S + (exp(a_end − a) B)ᵀ X

Reading and writing memory bounds this on a CPU, and not arithmetic: a few chunks are taken at a
time, which stay in the cache, and W is made again for the backward pass instead of kept. What is
kept is the state that each chunk starts from, so time and memory grow linearly with length.

Source: Dao & Gu 2024, "Transformers are SSMs", arXiv:2405.21060, section 6.
"""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurofmx.models.compiled import through
from neurofmx.models.spans import spans

FORGOTTEN = -30.0  # log-decay of one token after which nothing is left: e⁻³⁰ = 10⁻¹³


class Block:
    """The matrices of a span, axes (batch, chunk, head, token, …), as both directions need them."""

    def __init__(self, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunks: int):
        self.chunks, self.dtype = chunks, x.dtype
        self.dt = self.split(dt).contiguous()[..., None]
        self.B, self.C = (rearrange(v, "b (c q) n -> b c 1 q n", c=chunks) for v in (B, C))
        length, states = self.B.shape[-2:]
        # A longer sum of logarithms would cost the decays after it their digits.
        a = (self.dt * A[:, None, None]).clamp_(min=FORGOTTEN).cumsum(-2)
        self.since, self.until = a.exp(), (a[..., -1:, :] - a).exp_()
        self.over = self.since[..., -1:, :]
        # ∞ up to the diagonal and −∞ above it: the exponential lets only the past through.
        past = torch.full((length, length), -2.0, dtype=a.dtype, device=a.device).triu_(1).add_(1)
        self.between = torch.minimum(a - a.mT, past * torch.inf).exp_()
        self.products = (self.C @ self.B.mT).to(dt.dtype)
        self.inputs = x.new_empty(*a.shape[:3], length + states, x.shape[-1])
        self.X, self.S = self.inputs.split([length, states], dim=-2)
        multiply(self.split(x), self.dt.to(x.dtype), self.X)

    def split(self, v: Tensor) -> Tensor:
        """Tokens in chunks, behind the heads."""
        return rearrange(v, "b (c q) h ... -> b c h q ...", c=self.chunks)

    def leaving(self) -> Tensor:
        """exp(a_end − a) B."""
        return self.B * self.until.to(self.dtype)

    def weights(self) -> Tensor:
        """[W | exp(a) C]."""
        weights = self.inputs.new_empty(*self.between.shape[:-1], self.inputs.shape[-2])
        inside, carried = weights.split([self.X.shape[-2], self.S.shape[-2]], dim=-1)
        multiply(self.between, self.products, inside)
        multiply(self.C, self.since.to(self.dtype), carried)
        return weights


def multiply(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Put a · b into a part of a tensor, in one pass over it."""
    if torch.compiler.is_compiling():  # which stops at `out=` and joins the two by itself
        out.copy_(a * b)
    else:
        torch.mul(a, b, out=out)


def join(v: Tensor) -> Tensor:
    """Chunks one after the other, before the heads."""
    return rearrange(v, "b c h q ... -> b (c q) h ...")


def forward(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor, chunks: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs of a span, the states that its chunks start from, the state after it."""
    block = Block(x, dt, A, B, C, chunks)
    left = block.leaving().mT @ block.X
    for chunk in range(chunks):
        block.S[:, chunk] = state
        state = torch.addcmul(left[:, chunk].to(state.dtype), block.over[:, chunk], state)
    inside = join(block.weights() @ block.inputs)
    return torch.addcmul(inside, x, D[:, None]), block.S, state


def backward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    starts: Tensor,
    gy: Tensor,
    gstate: Tensor,
    chunks: int,
) -> tuple[Tensor, ...]:
    """Gradients by x, dt, A, B, C, D and the state before a span, from those behind it."""
    block = Block(x, dt, A, B, C, chunks)
    block.S.copy_(starts)
    gX, ga, gB, gC, gstate = _backward(block, block.split(gy).contiguous(), gstate)
    glog = ga.flip(-1).cumsum(-1).flip(-1)  # by dt A, of which a is the sum
    glog *= block.dt[..., 0] * A[:, None] > FORGOTTEN
    gdt = glog * A[:, None] + (gX * block.split(x)).sum(-1, dtype=A.dtype)
    gx = torch.addcmul(join(gX * block.dt.to(x.dtype)), gy, D[:, None])
    gA = (glog * block.dt[..., 0]).sum((0, 1, 3))
    return gx, join(gdt), gA, gB, gC, (gy * x).sum((0, 1, 3), dtype=A.dtype), gstate


def _backward(block: Block, gy: Tensor, gstate: Tensor) -> tuple[Tensor, ...]:
    """Gradients by X, a, B, C and the state before a block, whose S is filled in."""
    sizes = [block.X.shape[-2], block.S.shape[-2]]
    gX, gS = (block.weights().mT @ gy).split(sizes, dim=-2)
    gleft, ga_end, gstate = _states_backward(block, gS, gstate)
    gX += block.leaving() @ gleft

    gW, gcarried = (gy @ block.inputs.mT).split(sizes, dim=-1)
    through = block.between.mul_(gW)
    gproducts = through.sum(2, keepdim=True).to(block.dtype)
    through *= block.products
    ga = through.sum(-1) - through.sum(-2)

    gcarried = gcarried * block.since.to(block.dtype)
    gleaving = (block.X @ gleft.mT) * block.until.to(block.dtype)
    gC = gcarried.sum(2, keepdim=True) + gproducts @ block.B
    gB = gleaving.sum(2, keepdim=True) + gproducts.mT @ block.C
    leaving = (gleaving * block.B).sum(-1, dtype=ga.dtype)
    ga += (gcarried * block.C).sum(-1, dtype=ga.dtype) - leaving
    ga[..., -1] += leaving.sum(-1) + ga_end
    return gX, ga, gB.flatten(1, 3), gC.flatten(1, 3), gstate


def _states_backward(block: Block, gS: Tensor, gstate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by what each chunk leaves, by a_end through exp(a_end) S, by the first state."""
    gleft, ga_end = torch.empty_like(gS), block.over.new_empty(block.over.shape[:3])
    for chunk in reversed(range(block.chunks)):
        gleft[:, chunk] = gstate
        gstate = block.over[:, chunk] * gstate
        ga_end[:, chunk] = (gstate * block.S[:, chunk]).sum((-1, -2))
        gstate = gstate + gS[:, chunk]
    return gleft, ga_end, gstate


class ChunkedScan(torch.autograd.Function):
    """(x, dt, A, B, C, D, state, chunk, compiled) → (y, state); state [batch head state feature].

    x, B, C and D are of one type, dt, A and state of another that is as wide or wider.
    """

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor]:
        """Outputs and the last state; keeps its arguments and the states that chunks start from."""
        x, dt, A, B, C, D, state, ctx.chunk, ctx.compiled = given
        batch, time, heads, features = x.shape
        y, last = x.new_empty(x.shape), torch.empty_like(state)
        starts = x.new_empty(batch, -(-time // ctx.chunk), heads, B.shape[-1], features)
        for windows, found in spans(x, ctx.chunk):
            now = state[windows]
            for tokens, chunks, many, usual in found:
                run = through(forward, ctx.compiled and usual)
                at, these = (windows, tokens), (windows, chunks)
                y[at], starts[these], now = run(x[at], dt[at], A, B[at], C[at], D, now, many)
            last[windows] = now
        ctx.save_for_backward(x, dt, A, B, C, D, starts)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every tensor given."""
        x, dt, A, B, C, D, starts = ctx.saved_tensors
        gy, gstate = given[0], torch.empty_like(given[1])
        gx, gdt, gB, gC = (v.new_empty(v.shape) for v in (x, dt, B, C))
        gA, gD = torch.zeros_like(A), torch.zeros_like(A)
        with torch.autocast(x.device.type, enabled=False):
            for windows, found in spans(x, ctx.chunk):
                now = given[1][windows]
                for tokens, chunks, many, usual in reversed(found):
                    run = through(backward, ctx.compiled and usual)
                    at, these = (windows, tokens), (windows, chunks)
                    gx[at], gdt[at], by_A, gB[at], gC[at], by_D, now = run(
                        *(x[at], dt[at], A, B[at], C[at], D),
                        *(starts[these], gy[at], now, many),
                    )
                    gA += by_A
                    gD += by_D
                gstate[windows] = now
        return gx, gdt, gA, gB, gC, gD.to(D.dtype), gstate, None, None
