"""How well anything could predict noisy responses: a score is judged against what noise leaves.

With R the responses of a unit to N repeats of one course of events, R̄ their mean:

    split half = 2r / (1 + r),  r the correlation of the means of two halves of R
    SP = (Var(Σ R) − Σ Var(R)) / (N (N − 1))      the signal's power
    CC_norm = Cov(prediction, R̄) / √(Var(prediction) · SP)

Sources: Spearman 1910 and Brown 1910; Schoppe et al. 2016, doi:10.3389/fncom.2016.00010, equations
1 to 7.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def split_half(
    responses: Float[ndarray, "repeat time"], splits: int, rng: np.random.Generator
) -> float:
    """Reliability of the mean over repeats: its expected correlation with that of as many others.

    Args:
        splits: Random halves that are averaged over; of an odd number one repeat is left out.
        rng: Draws the halves.

    Raises:
        ValueError: Fewer than 2 repeats, or halves that never change.
    """
    half, found = len(responses) // 2, []
    if half == 0:
        raise ValueError(f"halves need 2 repeats; there is {len(responses)}")
    for _ in range(splits):
        order = rng.permutation(len(responses))
        one, other = (responses[order[k * half :][:half]].mean(axis=0) for k in (0, 1))
        if not (one.std() > 0 and other.std() > 0):
            raise ValueError(f"the mean of {half} repeats never changes: no correlation of halves")
        found.append(np.corrcoef(one, other)[0, 1])
    r = float(np.mean(found))
    return 2 * r / (1 + r)


def cc_norm(prediction: Float[ndarray, " time"], responses: Float[ndarray, "repeat time"]) -> float:
    """Correlation of a prediction with the noiseless response, 1 where it explains all of it.

    Sampling noise may take it above 1.

    Raises:
        ValueError: Fewer than 2 repeats, a prediction that never changes, or no signal power: the
            repeats agree no more than noise does.
    """
    n = len(responses)
    if n < 2:
        raise ValueError(f"signal power needs 2 repeats; there is {n}")
    power = (responses.sum(axis=0).var() - responses.var(axis=1).sum()) / (n * (n - 1))
    if not power > 0:
        raise ValueError(
            f"signal power is {power:.3g} over {n} repeats: they agree no more than noise does; "
            "record more repeats or leave the unit out"
        )
    spread = prediction.var()
    if not spread > 0:
        raise ValueError("the prediction never changes: its correlation is undefined")
    mean = responses.mean(axis=0)
    covariance = ((prediction - prediction.mean()) * (mean - mean.mean())).mean()
    return float(covariance / np.sqrt(spread * power))
