import numpy as np
from sklearn.linear_model import Ridge

from neurofmx.evaluation import linear


def test_one_factorisation_gives_the_ridge_of_every_penalty_and_width():
    rng = np.random.default_rng(0)
    a, y = rng.normal(1.0, 1.0, (200, 30)), rng.normal(size=(200, 2))
    for (alpha, d), line in linear.ridge_paths(a, y, [0.1, 100.0], [5, 20, 30]).items():
        slow = Ridge(alpha).fit(a[:, :d], y)
        np.testing.assert_allclose(line(a), slow.predict(a[:, :d]), atol=1e-9)


def test_logistic_gives_a_class_that_train_lacks_no_chance():
    rng = np.random.default_rng(1)
    y = {"train": np.repeat([0.0, 2.0], 30), "valid": np.repeat([0.0, 2.0], 10)}
    y["test"] = y["valid"]
    x = {s: rng.normal(size=(len(v), 4)) + v[:, None] for s, v in y.items()}
    p, chosen = linear.logistic(x, y, 3, [1e-3, 1.0])

    assert (p[:, 1] == 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert (p.argmax(axis=1) == y["test"]).mean() > 0.9
    assert chosen["C"] in (1e-3, 1.0)
