"""All trials of a search, on disk as they come and go, so that a search that was killed goes on.

storage/search/<name>/
    trial-000/     params.yaml, log.txt, and storage/pretrain as the stage leaves it
    results.csv    a row per trial: state, valid, looks, seconds, reason, and each searched key
    best.yaml      the keys of the best one, in the shape of params.yaml
    search.json    hashes of what all trials share
"""

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

import yaml

from neurofmx.errors import UserError
from neurofmx.search.space import SearchParams, changed, text
from neurofmx.search.trial import Trial, read_rows
from neurofmx.stages import base


class Trials:
    """The trials of a search.

    Args:
        folder: `storage/search/<name>`.
        params: The search.
        shared: What all trials have in common, by name.

    Attributes:
        all: Trials by name.

    Raises:
        UserError: Those in the folder have something else in common.
    """

    def __init__(self, folder: Path, params: SearchParams, shared: dict[str, Any]):
        self.folder, self.params = folder, params
        folder.mkdir(parents=True, exist_ok=True)
        path, now = folder / "search.json", {k: base.digest(x) for k, x in shared.items()}
        then = json.loads(path.read_text()) if path.exists() else now
        if other := [name for name in now if then[name] != now[name]]:
            raise UserError(
                f"{folder} holds trials with other {' and '.join(other)}, to which new ones cannot "
                "be compared: give this search another --name, or remove the folder"
            )
        base.write_json(path, now)
        self.all: dict[str, Trial] = {}
        for row in read_rows(folder / "results.csv"):
            keys = {key: yaml.safe_load(row[key]) for key in params.keys}
            about: Any = (row["state"], float(row["seconds"]), row["reason"])
            self.all[row["trial"]] = Trial(folder / row["trial"], keys, *about)

    @property
    def settled(self) -> set[str]:
        """Names of those that need no more training."""
        return {name for name, t in self.all.items() if t.state in ("finished", "stopped")}

    @property
    def ranking(self) -> list[Trial]:
        """Those that are settled, the best first."""
        return sorted(
            (self.all[name] for name in self.settled), key=lambda t: (self.loss(t), t.folder)
        )

    def loss(self, trial: Trial) -> float:
        """On the valid split: the least of all looks, as the weights of that one are kept.

        Of pbt that of the last look, since earlier ones were reached with other keys.
        """
        losses = [valid for _, valid in trial.looks if math.isfinite(valid)] or [math.inf]
        return losses[-1] if self.params.algorithm == "pbt" else min(losses)

    def write(self) -> None:
        """`results.csv`, and `best.yaml` where there is one."""
        temporary = self.folder / ".results.csv.tmp"
        columns = ("trial", "state", "valid", "looks", "seconds", "reason", *self.params.keys)
        with temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for name, t in sorted(self.all.items()):
                loss = self.loss(t) if t.looks else ""
                about = (name, t.state, loss, len(t.looks), round(t.seconds, 1), t.reason)
                writer.writerow((*about, *map(text, t.keys.values())))
        os.replace(temporary, self.folder / "results.csv")
        for best in self.ranking[:1]:
            said = f"# {best.folder.name}: valid {self.loss(best)}\n"
            patch = yaml.safe_dump(changed({}, best.keys), sort_keys=False)
            (self.folder / "best.yaml").write_text(said + patch)
