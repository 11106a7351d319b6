"""The state-space recurrence of Mamba-2, as a slow loop and as chunked matrix products.

Each head keeps a state h (head × state) and reads it out:

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_tᵀ        y_t = h_t C_t

Within a chunk the same y is a lower-triangular matrix product, which is fast; between chunks only
the state is handed on. dt_t = 0 leaves the state as it is and adds nothing: that is how masked
tokens are passed over.

Source: Dao & Gu 2024, "Transformers are SSMs", arXiv:2405.21060, listing 1.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def scan_reference(
    x: Float[Tensor, "batch time head feature"],
    dt: Float[Tensor, "batch time head"],
    A: Float[Tensor, " head"],
    B: Float[Tensor, "batch time state"],
    C: Float[Tensor, "batch time state"],
) -> Float[Tensor, "batch time head feature"]:
    """The recurrence as it is written above, one step after the other.

    Args:
        x: Inputs.
        dt: Step sizes, 0 where a token is masked.
        A: Decay rates, negative.
        B: Input maps, shared by the heads.
        C: Output maps, shared by the heads.
    """
    batch, time, heads, features = x.shape
    h = x.new_zeros(batch, heads, features, B.shape[-1])
    outputs = []
    for t in range(time):
        decay = torch.exp(dt[:, t] * A)[..., None, None]
        update = torch.einsum("bhp,bn->bhpn", x[:, t] * dt[:, t, :, None], B[:, t])
        h = decay * h + update
        outputs.append(torch.einsum("bhpn,bn->bhp", h, C[:, t]))
    return torch.stack(outputs, dim=1)


def scan(
    x: Float[Tensor, "batch time head feature"],
    dt: Float[Tensor, "batch time head"],
    A: Float[Tensor, " head"],
    B: Float[Tensor, "batch time state"],
    C: Float[Tensor, "batch time state"],
    chunk: int = 64,
) -> Float[Tensor, "batch time head feature"]:
    """The same as `scan_reference`, in chunks of matrix products; cost grows linearly with time."""
    time = x.shape[1]
    chunk = min(chunk, time)
    missing = -time % chunk
    x, dt = F.pad(x, (0, 0, 0, 0, 0, missing)), F.pad(dt, (0, 0, 0, missing))
    B, C = F.pad(B, (0, 0, 0, missing)), F.pad(C, (0, 0, 0, missing))
    x, B, C = (rearrange(v, "b (c l) ... -> b c l ...", l=chunk) for v in (x * dt[..., None], B, C))
    log_decay = rearrange(dt * A, "b (c l) h -> b h c l", l=chunk)
    cumulative = log_decay.cumsum(-1)

    # Inside a chunk: y_t gets x_s for s ≤ t, decayed by what lies between.
    weights = torch.einsum("bcln,bcsn->bcls", C, B)[:, None] * torch.exp(_between(log_decay))
    inside = torch.einsum("bhcls,bcshp->bclhp", weights, x)

    # What each chunk leaves behind, and what each chunk therefore starts from.
    to_end = torch.exp(cumulative[..., -1:] - cumulative)
    left = torch.einsum("bcln,bhcl,bclhp->bchpn", B, to_end, x)
    over = torch.exp(_between(F.pad(cumulative[..., -1], (1, 0))))[..., :-1, 1:]
    start = torch.einsum("bhzc,bchpn->bzhpn", over, left)
    carried = torch.einsum("bcln,bchpn,bhcl->bclhp", C, start, torch.exp(cumulative))
    return rearrange(inside + carried, "b c l h p -> b (c l) h p")[:, :time]


def _between(log_decay: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch time time"]:
    """Entry (t, s): sum of `log_decay` over (s, t], −∞ above the diagonal."""
    time = log_decay.shape[-1]
    total = log_decay.cumsum(-1)
    difference = total[..., :, None] - total[..., None, :]
    below = torch.ones(time, time, dtype=torch.bool, device=log_decay.device).tril()
    return difference.masked_fill(~below, -torch.inf)
