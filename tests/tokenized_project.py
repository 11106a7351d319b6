"""A project in which tokenize has just run, and the smallest training that does anything."""

import yaml
from windows import card, recording, shards

from neurofmx.models import ModelParams
from neurofmx.stages import base
from neurofmx.training.recipe import FitParams

MODEL = ModelParams(
    d_model=32, n_blocks=1, d_state=8, headdim=16, n_latents=4, latent_dim=32, n_heads=2
)
FIT = FitParams(epochs=1, batch_size=4, valid_every=2)


def project(folder, monkeypatch, seeds, **changes):
    """A project in which tokenize has just run; recording b is kept for adapt."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "datasets").mkdir()
    content = card(adapt=["b"], **changes).model_dump(mode="json", exclude_none=True)
    (folder / "datasets" / "made.yaml").write_text(yaml.safe_dump(content))
    made = [recording("a"), recording("b", seed=seeds, units=4)]
    shards(base.folder("tokenize"), made, card(adapt=["b"], **changes))
    base.write_manifest("tokenize", "made", {"a": "a", "b": "b"})
