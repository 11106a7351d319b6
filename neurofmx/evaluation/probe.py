"""A linear readout of frozen features: what the architecture gives before it has learnt anything.

The untrained model's own heads know nothing, so that beating them proves little. Its features are
a random nonlinear expansion of the same windows; a ridge or logistic readout of them, tuned like
any baseline, is the harder control.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from neurofmx.evaluation import linear
from neurofmx.evaluation.baselines import BaselineParams, Prediction, Problem


def probe(
    features: dict[str, Float[ndarray, "_query width"]], problem: Problem, params: BaselineParams
) -> Prediction:
    """Answers to the test queries from features of the same queries.

    Args:
        features: Of the queries of train, valid and test, in their order.
    """
    if problem.n_classes:
        y = {split: queries.truth[:, 0] for split, queries in problem.queries.items()}
        p, chosen = linear.logistic(features, y, problem.n_classes, params.strengths)
        return Prediction(p, (features["train"].shape[1] + 1) * problem.n_classes, chosen)
    truth = {split: problem.code(queries.truth) for split, queries in problem.queries.items()}
    mean, scale = features["train"].mean(axis=0), features["train"].std(axis=0)
    x = {s: (f - mean) / np.where(scale > 0, scale, 1.0) for s, f in features.items()}
    width = x["train"].shape[1]
    lines = linear.ridge_paths(x["train"], truth["train"], params.alphas, [width])
    score = {a: linear.mean_r2(truth["valid"], lines[a, width](x["valid"])) for a in params.alphas}
    best = max(score, key=score.__getitem__)
    line = linear.ridge_paths(linear.joined(x), linear.joined(truth), [best], [width])[best, width]
    chosen = {"alpha": best, "valid_r2": score[best]}
    values = problem.decoded(line(x["test"]))
    return Prediction(values, line.weight.size + line.intercept.size, chosen)
