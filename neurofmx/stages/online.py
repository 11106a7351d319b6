"""online: each recording that pretraining never saw, learnt from as a stream."""

import dataclasses
import os
import shutil
from typing import Any

import pandas as pd
import torch
from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data.cards import load_card
from neurofmx.data.shards import Shards
from neurofmx.models import NeuroFMX, vocabulary_of
from neurofmx.stages import base
from neurofmx.training.online import WAYS, OnlineParams, Row, Stream
from neurofmx.training.pace import Pace

STAGE = "online"
OURS = "replay_ewc"  # whose model is kept; the other ways show what each part adds


class Params(StageParams):
    """Parameters of the stage.

    Attributes:
        stream: How a stream is learnt from.
        threads: Threads of the processor.
    """

    stream: OnlineParams = OnlineParams()
    threads: int = Field(1, ge=1)


def run(params: Params) -> None:
    """Let each recording of the card's `adapt` come as a stream to the pretrained model."""
    with base.measured(STAGE) as report:
        torch.set_num_threads(params.threads)
        card, folder = load_card(params.dataset), base.folder(STAGE)
        shards = Shards(base.STORAGE / "tokenize")
        adapted = base.read_manifest("adapt")["outputs"]
        old = base.read_manifest("pretrain")["recordings"]
        for path in folder.iterdir():
            if path.is_dir() and path.name not in adapted:
                shutil.rmtree(path)
        outputs, rows = {}, []
        for recording in (r for r in card.adapt if r in adapted):
            found = _learn(recording, old, shards, params)
            rows += [{"recording": recording} | dataclasses.asdict(row) for row in found]
            outputs[recording] = base.file_digest(folder / recording / "model.safetensors")
        columns = ["recording", *(f.name for f in dataclasses.fields(Row))]
        table = pd.DataFrame(rows, columns=columns)
        table.to_csv(folder / ".forgetting.tmp", index=False)
        os.replace(folder / ".forgetting.tmp", folder / "forgetting.csv")
        report.values |= {"recordings": len(outputs), "ways": summary(table)}
        reason = "" if outputs else "there is no adapted recording to let come"
        base.console.print(f"  {len(outputs)} recordings {reason}")
        base.write_manifest(STAGE, params.dataset, outputs, reason=reason)


def _learn(recording: str, old: list[str], shards: Shards, params: Params) -> list[Row]:
    """Go through one recording in every way, and keep the model of ours."""
    folder = base.folder(STAGE) / recording
    folder.mkdir(exist_ok=True)
    model = _new(recording, shards, params.seed)
    stream, rows = Stream(model, shards, old, recording, params.stream, params.seed), []
    for way in WAYS:
        learnt, found = stream.learn(way)
        rows += found
        last = found[-1]
        Pace.say(
            f"{STAGE} {recording}, {way}: unexplained of the new {found[0].new:.3f} → "
            f"{last.new:.3f}, of the old {found[0].old:.3f} → {last.old:.3f}"
        )
        if way == OURS:
            learnt.save_pretrained(folder)
    return rows


def _new(recording: str, shards: Shards, seed: int) -> NeuroFMX:
    """The pretrained model with room for the recording's units, of which it knows nothing yet.

    What was adapted has seen the windows that are to come.
    """
    model = NeuroFMX.from_pretrained(base.STORAGE / "pretrain")
    torch.manual_seed(seed)
    model.extend(vocabulary_of(shards, [recording]))
    return model


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Of each way, means over recordings of what came of the stream.

    Returns:
        `told`: What was unexplained of chunks before they were learnt from; `gained`: how much less
        is unexplained of the new recording's valid windows; `forgotten`: how much more of the old.
    """
    found = {}
    for way, rows in table.groupby("way", sort=False):
        ends = rows.sort_values("chunk").groupby("recording")
        first, last = ends.first(), ends.last()
        found[str(way)] = {
            "told": rows["told"].mean(),
            "gained": (first["new"] - last["new"]).mean(),
            "forgotten": (last["old"] - first["old"]).mean(),
        }
    return found
