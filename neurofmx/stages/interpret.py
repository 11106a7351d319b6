"""interpret: what the pretrained model has learnt, each analysis beside its controls.

<table>.parquet    what each analysis found (storage/README.md lists them)
failed.json        checks that failed, and what could not be done
"""

import time

import torch
from threadpoolctl import threadpool_limits

from neurofmx.config import StageParams
from neurofmx.data.cards import load_card
from neurofmx.data.shards import Shards
from neurofmx.interpretability import ANALYSES, Study, StudyParams
from neurofmx.models import NeuroFMX, untrained
from neurofmx.stages import base

STAGE = "interpret"


class Params(StageParams):
    """Parameters of the stage.

    Attributes:
        study: Of the analyses.
        threads: Threads of the processor; small matrices are fastest on one.
    """

    study: StudyParams = StudyParams()
    threads: int = 1


def run(params: Params) -> None:
    """Run every analysis of the pretrained model on the recordings that it was trained on."""
    with base.measured(STAGE) as report, threadpool_limits(params.threads):
        torch.set_num_threads(params.threads)
        folder = base.folder(STAGE)
        for old in [folder / "manifest.json", *folder.glob("*.parquet")]:
            old.unlink(missing_ok=True)
        study, failed, outputs = _study(params), [], {}
        if not study.models["neurofmx"].sampled:
            failed.append("every signal is tokenized per event; the analyses need a sampled one")
        for name, analyse in ANALYSES.items() if not failed else ():
            started = time.perf_counter()
            result = analyse(study)
            for table, content in result.tables.items():
                base.write_table(folder / f"{table}.parquet", content)
                outputs[f"{table}.parquet"] = base.file_digest(folder / f"{table}.parquet")
            report.values |= result.values
            failed += result.failed
            base.console.print(f"  {name}  {time.perf_counter() - started:.1f} s")
        for line in failed:
            base.console.print(f"  [yellow]failed[/] {line}")
        base.write_json(folder / "failed.json", failed)
        outputs["failed.json"] = base.file_digest(folder / "failed.json")
        base.write_manifest(STAGE, params.dataset, outputs)


def _study(params: Params) -> Study:
    model = NeuroFMX.from_pretrained(base.STORAGE / "pretrain")
    return Study(
        card=load_card(params.dataset),
        shards=Shards(base.STORAGE / "tokenize"),
        recordings=base.read_manifest("pretrain")["recordings"],
        models={
            "neurofmx": model,
            "untrained": untrained(model.config, model.vocabulary, params.seed),
        },
        storage=base.STORAGE,
        params=params.study,
        seed=params.seed,
    )
