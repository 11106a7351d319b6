import re
import shutil

import numpy as np
import pandas as pd
import pytest
from stored import LEFT_OUT, make_storage

from neurofmx.evaluation.baselines import BASELINES
from neurofmx.interpretability import StudyParams, figures
from neurofmx.interpretability.sae import SAEParams
from neurofmx.stages import evaluate, interpret, report


def told(path):
    """Add what is told of inputs, as evaluate leaves it of cards in the suite."""
    results = pd.read_csv(path)
    rows = results[results["metric"] == "r2"].assign(task="forecasting spikes")
    pd.concat([results, rows.assign(metric="bits_per_spike")]).to_csv(path, index=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_storage(folder, synthetic=True)
        evaluate.run(evaluate.Params(dataset="made", workers=1))
        told(folder / "storage/evaluate/results.csv")
        study = StudyParams(sae=SAEParams(steps=20, k=4))
        interpret.run(interpret.Params(dataset="made", study=study))
    return folder


@pytest.fixture(scope="module")
def page(project):
    return drawn(project)


def drawn(project):
    """The page of a project whose other stages have run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        report.run(report.Params(dataset="made"))
    return (project / "storage/report/index.html").read_text()


@pytest.fixture(scope="module")
def body(page):
    """The page without plotly's own code."""
    return page[page.index("<body>") :]


def test_the_page_needs_nothing_from_elsewhere(page, body):
    assert len(page.encode()) < 8e6
    assert page.count("plotly.js v") == 1
    assert not re.search(r"""(src|href)=["']?https?:""", body)


def test_made_up_data_is_called_so(body):
    assert "SYNTHETIC data" in body


@pytest.mark.parametrize(
    "text",
    [
        "made in a test",  # title
        "CC0",  # licence
        "bad-1",  # in quarantine, with its reason
        "no usable signal",
        f"{LEFT_OUT}: kept out of pretraining",
        "Planted truth",
        "video: stamps about the recovered frames",
        "frozen dictionary",
        "ridge_centred",
        "not under git",
        "neurofmx run --dataset made",
        "1 kind of warning",
        "in bits per spike",
        "What training moved",
    ],
)
def test_the_page_says(body, text):
    assert text in body


def test_each_figure_is_there_once(page, body):
    for figure in re.findall(r'id="(figure-[^"]+)"', page):
        assert body.count(f'id="{figure}"') == 1
    assert {
        "figure-scores-velocity",
        "figure-scores-forecasting-spikes",
        "figure-window",
        "figure-clock-camera",
        "figure-training",
    } <= set(re.findall(r'id="(figure-[^"]+)"', body))


def test_the_band_is_closed_around_each_stretch():
    """By hand: two queries, a gap, one query."""
    nothing = float("nan")
    part = pd.DataFrame(
        {
            "time": [0.0, 1.0, 2.0, 5.0],
            "neurofmx": [1.0, 2.0, nothing, 3.0],
            "deviation": [0.5, 1.0, nothing, 0.25],
        }
    )
    outline = figures.band(part).to_numpy()
    expected = [[0, 2], [1, 4], [1, 0], [0, 0], [nothing] * 2, [5, 3.5], [5, 2.5], [nothing] * 2]
    np.testing.assert_array_equal(outline, expected)


def test_traces_break_where_nothing_was_asked():
    part = pd.DataFrame({"time": [0.0, 0.1, 0.2, 5.0, 5.1], "truth": [1.0] * 5})
    shown = figures.with_gaps(part)
    assert len(shown) == 6
    assert shown["truth"].isna().tolist() == [False] * 3 + [True] + [False] * 2


@pytest.mark.parametrize(("dims", "kind"), [(6, "scatter"), (7, "heatmap")])
def test_many_dimensions_are_a_picture_and_few_are_traces(dims, kind):
    times = np.arange(50) * 0.1
    rows = [{"time": t, "dim": d, "truth": t + d} for t in times for d in range(dims)]
    table = pd.DataFrame(rows).assign(recording="a", task="song", deviation=1.0)
    for method in ("neurofmx", "ridge"):
        table[method] = table["truth"] + (method == "ridge")
    figure, _, _ = figures.decoded(table, "a", "song", ["neurofmx", "ridge"])
    assert {trace.type for trace in figure.data} == {kind}
    if kind == "heatmap":
        truth, _, ridge = (trace.z for trace in figure.data)
        np.testing.assert_allclose(truth, times + np.arange(dims)[:, None])
        np.testing.assert_allclose(ridge, truth + 1)


@pytest.mark.parametrize("others", [{"kalman", "mdm"}, set()])
def test_the_best_of_the_other_methods_that_were_asked_is_drawn(project, tmp_path, others):
    shutil.copytree(project, folder := tmp_path / "project")
    results = pd.read_csv(path := folder / "storage/evaluate/results.csv")
    left = set(results["method"]) & set(BASELINES) - others - {"mean"}
    results[~results["method"].isin(left)].to_csv(path, index=False)
    answers = pd.read_parquet(path := folder / "storage/evaluate/predictions.parquet")
    answers.drop(columns=[*left]).to_parquet(path)
    figure = drawn(folder).split('id="figure-traces_velocity_trial"')[1].split("</script>")[0]
    assert {n for n in set(answers) & set(BASELINES) if f'"name":"{n}"' in figure} <= others
    assert ('"name":"kalman"' in figure) == bool(others)
    assert '"name":"neurofmx"' in figure
