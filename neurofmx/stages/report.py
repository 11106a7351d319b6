"""report: one HTML page, made only from what the other stages wrote."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd

from neurofmx.config import StageParams
from neurofmx.data import store
from neurofmx.data.align import fitted, recovered
from neurofmx.data.cards import FOLDER, Card, load_card
from neurofmx.data.slices import Slices
from neurofmx.evaluation import LEVELS, METRICS
from neurofmx.evaluation.pages import OURS, SPIKES, best_other, variant
from neurofmx.interpretability import figures, signals
from neurofmx.interpretability.report import (
    compared,
    main_figures,
    render,
    results_tables,
    tuning_rows,
    warning_rows,
)
from neurofmx.stages import STAGES, base
from neurofmx.types import Samples

STAGE = "report"
BEFORE = STAGES[: STAGES.index(STAGE)]
TITLES = {"regression": "Regression", "classification": "Classification", "circular": "Angles"}
INPUTS = "Spikes ahead, or hidden"
CAVEATS = (
    "Our model answers from its whole window, what follows the instant included; ridge has lags of "
    "the present and the past only, ridge_centred of both sides; smoothing, where valid chose it, "
    "looks to both sides too.",
    "Intervals are of one trained model on one split: those of a recording hold the spread over "
    "time in its test split, those of a mean also that over recordings and animals, none that over "
    "seeds.",
    "Simple methods and the untrained model's readout are tuned on valid and then fitted again on "
    "train and valid; our weights are fitted on train alone, and valid chooses the step.",
    "Not yet measured: loss recovered and ablations of the dictionary's directions, several "
    "training seeds, other animals.",
)


class Params(StageParams):
    """Parameters of the stage: those that all stages share."""


def run(params: Params) -> None:
    """Write `storage/report/index.html`."""
    with base.measured(STAGE) as report:
        card, folder = load_card(params.dataset), base.folder(STAGE)
        manifests = {stage: base.read_manifest(stage) for stage in BEFORE}
        metrics = {stage: json.loads(_path(stage, "metrics.json").read_text()) for stage in BEFORE}
        content = _content(card, params, manifests, metrics)
        page = render(**content)
        temporary = folder / ".index.html.tmp"
        temporary.write_text(page)
        os.replace(temporary, folder / "index.html")
        report.values |= {"megabytes": round(len(page.encode()) / 1e6, 2)}
        # The page shows seconds, so its bytes differ between equal runs; what it shows does not.
        shown = {stage: base.digest(manifest) for stage, manifest in manifests.items()}
        base.write_manifest(STAGE, params.dataset, {"index.html": base.digest(shown)})
        base.console.print(f"  {folder / 'index.html'}")


def _content(
    card: Card, params: Params, manifests: dict[str, Any], metrics: dict[str, Any]
) -> dict[str, Any]:
    results = pd.read_csv(_path("evaluate", "results.csv"))
    predictions = pd.read_parquet(_path("evaluate", "predictions.parquet"))
    tables = {p.stem: pd.read_parquet(p) for p in sorted(_path("interpret", "").glob("*.parquet"))}
    tables.pop("status", None)
    drawn, score_figures, decoded_figures = _figures(card, results, predictions, tables)
    failed = json.loads(_path("interpret", "failed.json").read_text())
    errors = [name for name, metric in METRICS.items() if metric.is_error]
    titles = {name: TITLES[metric.kinds[0]] for name, metric in METRICS.items()}
    titles[SPIKES] = INPUTS
    left_out = [f"{name}: {why}." for name, why in manifests["evaluate"]["left_out"].items()]
    return {
        "card": card,
        "figures": drawn,
        "score_figures": score_figures,
        "decoded_figures": decoded_figures,
        "results": results_tables(results, titles),
        "levels": {name: LEVELS[name] for name in results["level"].unique()},
        "variants": {m: variant(m) for m in main_figures(results)["metric"].unique()},
        "sections": _sections(tables, metrics),
        "model": _model(metrics, manifests["pretrain"]["recordings"]),
        "streams": _streams(metrics),
        "recordings": _recordings(manifests),
        "quarantine": json.loads(_path("validate", "quarantine.json").read_text()),
        "warnings": warning_rows(json.loads(_path("validate", "warnings.json").read_text())),
        "clocks": _clocks(metrics),
        "caveats": [*failed, *compared(results, errors), *left_out, *CAVEATS],
        "run_card": _run_card(card, params, manifests, metrics),
        "costs": [
            [s, f"{m['seconds']:.1f}", f"{m['peak_memory_mb']:.0f}"] for s, m in metrics.items()
        ],
        **_inside(tables),
    }


def _path(stage: str, name: str) -> Path:
    return base.STORAGE / stage / name


def _figures(
    card: Card, results: pd.DataFrame, predictions: pd.DataFrame, tables: dict[str, pd.DataFrame]
) -> tuple[dict[str, str], list, list]:
    """Every figure by name, and the names and captions of those that the tasks decide."""
    drawn, scores, decoded = {}, [], []
    asked = json.loads(_path("tokenize", "tasks.json").read_text())
    for task in results["task"].unique():
        rows = main_figures(results)[lambda r, t=task: r["task"] == t]
        metric, level = rows["metric"].iloc[0], rows.groupby("level")["recording"].first()
        mark = task.replace(" ", "-")
        drawn[f"scores_{mark}"] = figures.html(
            figures.scores(rows, task, metric), f"scores-{mark}", 380
        )
        scores.append((f"scores_{mark}", f"{task}: {metric} of each recording, with intervals."))
        if task not in asked:  # what is told of the inputs themselves has no answers to draw
            continue
        if not (classes := asked[task].get("classes", [])):
            for kind, recording in level.items():
                name, told = f"traces_{task}_{kind}", rows[rows["recording"] == recording]
                methods = _drawn_methods(told, metric)
                figure, height, how = figures.decoded(predictions, recording, task, methods)
                drawn[name] = figures.html(figure, name, height)
                what = f"{task} in {recording} (held out: {kind}), start of the test split"
                decoded.append((name, f"{what}; {how}."))
        else:
            name = f"confusion_{task}"
            methods = _drawn_methods(rows, metric)
            figure = figures.confusion(predictions, task, classes, methods)
            drawn[name] = figures.html(figure, name, 420)
            decoded.append((name, f"{task}: test queries of all recordings, counted."))
    drawn |= _signals(card)
    drawn["training"] = figures.html(
        figures.training(pd.read_csv(_path("pretrain", "history.csv"))), "training", 360
    )
    forgetting = pd.read_csv(_path("online", "forgetting.csv"))
    for recording in forgetting["recording"].unique():
        figure = figures.stream(forgetting, recording)
        drawn[f"stream_{recording}"] = figures.html(figure, f"stream-{recording}", 380)
    if "tuning" in tables:
        for kind in tables["tuning"]["kind"].unique():
            figure = figures.tuning(tables["tuning"], tables["tuning_curves"], kind)
            drawn[f"tuning_{kind}"] = figures.html(figure, f"tuning-{kind}", 560)
    if "planted" in tables:
        drawn["planted"] = figures.html(figures.planted(tables["planted"]), "planted", 360)
    return drawn, scores, decoded


def _drawn_methods(rows: pd.DataFrame, metric: str) -> list[str]:
    """Ours and the best other method, by the median over recordings, if there is another."""
    chosen = rows[rows["metric"] == metric]
    best = best_other(chosen.groupby("method")["value"].median(), metric)
    return [OURS] if best is None else [OURS, best]


def _signals(card: Card) -> dict[str, str]:
    """One stretch of a recording after align, and how the clocks of that recording were fitted."""
    index = pd.read_parquet(_path("tokenize", "index.parquet"))
    test = index[index["split"] == "test"]
    longest = test.loc[(test["stop"] - test["start"]).idxmax()]
    name, span = longest["recording"], (longest["start"], longest["stop"])
    stretch = Slices(_path("align", f"{name}.zarr")).read(*span)
    height = 90 + 110 * sum(1 for signal in stretch.signals.values() if len(signal))
    drawn = {"window": figures.html(signals.window(stretch, span), "window", height)}
    recording = store.read(_path("ingest", f"{name}.zarr"))
    for device, clock in card.clocks.items():
        frames = {
            key: (signal.times, recovered(signal, card.signals[key]))
            for key, signal in recording.signals.items()
            if key in clock.signals and card.signals[key].frames
            if isinstance(signal, Samples) and signal.times is not None
        }
        picture = signals.clock(fitted(recording, device, clock), frames)
        drawn[f"clock_{device}"] = figures.html(picture, f"clock-{device}", 400 + 160 * len(frames))
    return drawn


def _streams(metrics: dict[str, Any]) -> list[list[str]]:
    """What came of each way of learning from a stream; none where nothing came."""
    ways = metrics["online"]["ways"]
    return [
        [way, *(f"{ways[way][name]:.3f}" for name in ("told", "gained", "forgotten"))]
        for way in figures.WAYS
        if way in ways
    ]


def _sections(tables: dict[str, Any], metrics: dict[str, Any]) -> list[tuple[str, str]]:
    truth = [("planted", "Planted truth")] if "planted" in tables else []
    stream = [("online", "As a stream")] if metrics["online"]["ways"] else []
    return [
        ("results", "Results"),
        ("decoded", "Decoded behaviour"),
        ("model", "Model"),
        *stream,
        ("inside", "Inside the model"),
        *truth,
        ("signals", "Signals on one clock"),
        ("data", "Data"),
        ("caveats", "Caveats"),
        ("run", "This run"),
    ]


def _model(metrics: dict[str, Any], recordings: list[str]) -> list[list[str]]:
    config = json.loads(_path("pretrain", "config.json").read_text())
    chosen = {k: v for k, v in config["model"].items() if v not in (None, {})}
    table = pd.read_parquet(_path("tokenize", "channels.parquet"))
    channels = table[table["recording"].isin(recordings)].groupby("signal").size()
    return [
        ["parameters", f"{metrics['pretrain']['parameters']:,}"],
        ["steps", str(metrics["pretrain"]["steps"])],
        ["pretrained on", f"{metrics['pretrain']['recordings']} recordings"],
        ["adapted to", f"{metrics['adapt']['recordings']} recordings"],
        ["choices", ", ".join(f"{k} {v}" for k, v in chosen.items())],
        *(
            [
                f"signal {name}",
                f"{s['tokenizer']}, a token per {s['patch'] * s['dt']:.3g} s, "
                f"{channels.get(name, 0)} channels",
            ]
            for name, s in config["signals"].items()
        ),
    ]


def _recordings(manifests: dict[str, Any]) -> list[list[str]]:
    """What each recording is and what became of it."""
    table = pd.read_parquet(_path("validate", "recordings.parquet"))
    index = pd.read_parquet(_path("tokenize", "index.parquet"))
    windows = index.groupby(["recording", "split"]).size()
    uses = dict.fromkeys(manifests["adapt"]["outputs"], "adapt")
    uses |= dict.fromkeys(manifests["pretrain"]["recordings"], "pretrain")
    rows = []
    for row in table.itertuples():
        counts = [str(windows.get((row.recording, s), 0)) for s in ("train", "valid", "test")]
        units = "–" if pd.isna(row.n_units) else f"{row.n_units:.0f}"
        use = uses.get(row.recording, "left out")
        about = [row.recording, row.subject, row.species, f"{row.stop - row.start:.0f}", units]
        rows.append([*about, *counts, use])
    return rows


def _clocks(metrics: dict[str, Any]) -> list[list[str]]:
    return [
        [name, device, f"{c['drift']:.3f}", f"{1e6 * c['residual']:.1f}", str(c["n_events"])]
        for name, clocks in metrics["align"]["clocks"].items()
        for device, c in clocks.items()
    ]


def _inside(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Tables of the analyses, empty where an analysis could not be done."""
    named = ("sae", "sae_columns", "cka", "tuning", "planted")
    content: dict[str, Any] = {name: [] for name in named}
    if "sae" in tables:
        found = tables["sae"]
        content["sae"] = [[_shown(value) for value in row] for row in found.to_numpy()]
        content["sae_columns"] = [c.replace("_", " ") for c in found]
    if "cka" in tables:
        content["cka"] = [[_shown(value) for value in row] for row in tables["cka"].to_numpy()]
    if "tuning" in tables:
        content["tuning"] = tuning_rows(tables["tuning"])
    if "planted" in tables:
        of = tables["planted"].groupby("source", sort=False)["r2"]
        content["planted"] = [
            [source, *(f"{v:.3f}" for v in (r2.mean(), r2.min(), r2.max()))] for source, r2 in of
        ]
        content["planted_clocks"] = [
            [r.recording, r.device, f"{r.planted:.2f}", f"{r.fitted:.3f}", f"{r.error_ppm:+.3f}",
             f"{1e6 * r.offset_error:+.2f}", str(r.events)]
            for r in tables["planted_clocks"].itertuples()
        ]  # fmt: skip
    return content


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.3f}"
    return str(value)


def _run_card(
    card: Card, params: Params, manifests: dict[str, Any], metrics: dict[str, Any]
) -> list[list[str]]:
    card_file = FOLDER / f"{card.name}.yaml"
    return [
        ["data set", f"{card.name}{' (SYNTHETIC)' if card.synthetic else ''}"],
        ["licence", card.licence],
        ["citation", card.citation or "none given"],
        ["card (sha256)", base.file_digest(card_file)],
        ["windows (sha256)", base.digest(manifests["tokenize"])],
        ["weights (sha256)", manifests["pretrain"]["outputs"]["model.safetensors"]],
        ["split", f"by {card.split.by}, train {card.split.train}, valid {card.split.valid}, "
         f"guard {card.split.guard} s"],
        ["seed", str(params.seed)],
        ["git revision", _revision()],
        ["reproduce", f"neurofmx run --dataset {card.name}"],
    ]  # fmt: skip


def _revision() -> str:
    """Commit of the project and whether files differ from it."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain"], capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "not under git"
    return commit.stdout.strip() + (" with uncommitted changes" if changed.stdout.strip() else "")
