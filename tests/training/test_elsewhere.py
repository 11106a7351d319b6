"""What is trained on the processor is trained on another device too, with the same numbers.

Each in a process of its own: torch would take the device for an accelerator in other tests too.
"""

from itertools import islice
from pathlib import Path

import pytest
import torch
from unchecked import in_own_process
from wholes import SIGNALS, objectives, prepared, reached, whole, windows
from windows import recording, shards, tiny_model

from neurofmx.training import engines
from neurofmx.training.fit import Fit
from neurofmx.training.recipe import FitParams


def refuses():
    from elsewhere import DEVICE, There

    with There() as there:
        here, away = torch.ones(2), torch.ones(2, device=DEVICE)
        assert (away + torch.tensor(1.0)).device == away.device
        for mixed in (lambda: away + here, lambda: torch.stack([away[0], here[0]])):
            with pytest.raises(RuntimeError, match=f"on {DEVICE} and on the processor"):
                mixed()
        assert there.fetched == 0
        torch.tensor([1.0], device=DEVICE)
        assert there.fetched == 1


def test_it_refuses_what_a_gpu_refuses():
    in_own_process(__file__, "refuses()")


def trains(folder):
    from elsewhere import DEVICE, There

    made = shards(Path(folder) / "made", [recording("a", trials=80)])
    params = FitParams(epochs=2, batch_size=8, objectives={"decode": 1.0, "masked": 0.1})

    def steps(name):
        own = Path(folder) / name
        own.mkdir()
        run = Fit(tiny_model(made, ["a"]), made, ["a"], params, 0, own)
        found = [run._step(k, [b], False).losses for k, b in enumerate(islice(run.loader, 3))]
        run.progress.step = 3
        run._look({})
        return run.engine.device.type, [*found, {"valid": run.progress.best}]

    _, expected = steps("here")
    with There():
        engines.device = lambda rank: torch.device(DEVICE)
        kind, found = steps("there")
    assert kind == torch.device(DEVICE).type
    assert found == [pytest.approx(step) for step in expected]


def test_a_run_takes_the_same_steps_and_looks_there(tmp_path):
    in_own_process(__file__, f"trains({str(tmp_path)!r})")


def asks():
    from elsewhere import DEVICE, There

    with There():
        model, plain = whole().to(DEVICE), windows(SIGNALS).to(DEVICE)
        asked = {name: o.to(DEVICE) for name, o in objectives(model).items() if name != "distill"}
        batch = prepared(model, plain, asked)
        output = model(batch, heads=list({head for o in asked.values() for head in o.heads}))
        for name, objective in asked.items():
            loss = sum(objective.total(output, batch).values())
            assert loss.device == torch.device(DEVICE), name
            model.zero_grad()
            loss.backward(retain_graph=True)
            assert reached(model), name


def test_every_objective_is_asked_there():
    in_own_process(__file__, "asks()")


def fetches(causal):
    from elsewhere import DEVICE, There

    with There() as there, torch.no_grad():
        model, batch = whole(causal).eval().to(DEVICE), windows(SIGNALS).to(DEVICE)
        model(batch, heads=["decode"])
        there.fetched = 0
        model(batch, heads=["decode"])
        assert there.fetched == 0


@pytest.mark.parametrize("causal", [False, True])
def test_once_run_a_model_fetches_nothing_from_the_processor(causal):
    """Without which no graph of it can be captured, and every fetch stops a GPU."""
    in_own_process(__file__, f"fetches({causal})")
