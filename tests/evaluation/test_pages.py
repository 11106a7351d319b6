"""The pages and tables of results say what results.csv says."""

import html
import json
import re
from html.parser import HTMLParser
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from windows import card as made_card

from neurofmx import project
from neurofmx.evaluation import pages
from neurofmx.evaluation.pages import as_html, as_json, as_latex, best_other
from neurofmx.evaluation.table import COLUMNS

AWKWARD = "speed_of <b>&%$#{hand}~^\\"  # of a task, which a card names as it likes
COMMAND = "neurofmx run --dataset demo --until evaluate -S 'evaluate.methods=[gru]'"
FIGURES = {"neurofmx": 0.91234567, "probe": 0.99, "gru": 0.8, "ridge": 0.85, "shifted": 0.95}


def row(method, value, recording="a", metric="r2", task=AWKWARD, low=np.nan, high=np.nan):
    cells = ("demo", recording, task, metric, method, "trial", value, low, high, 1.5, 1234, COMMAND)
    return dict(zip(COLUMNS, cells, strict=True))


def one():
    """One recording: ours with an interval, one undefined figure, one of a dimension."""
    rows = [row(m, v) for m, v in FIGURES.items()]
    rows[0] |= {"low": 0.9, "high": 0.92}
    rows += [row("mean", np.nan), row("ridge", 0.1, metric="r2[0]"), row("ridge", 9, metric="mse")]
    return pd.DataFrame(rows)


def several():
    """Two recordings, their mean, and angles, of which less is better."""
    rows = [row(m, v + d, r) for r, d in (("a", 0), ("b_&_<c>", 0.02)) for m, v in FIGURES.items()]
    rows += [row(m, v + 0.01, "all") for m, v in FIGURES.items()]
    rows += [row(m, v, metric="circular_error", task="way") for m, v in FIGURES.items()]
    return pd.DataFrame(rows)


@pytest.fixture
def card():
    return made_card(synthetic=False)


class Rows(HTMLParser):
    """Text of every cell, row by row, with the class of the row."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.classes, self.inside = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
            self.classes.append(dict(attrs).get("class", ""))
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.inside = tag in ("td", "th") or (self.inside and tag in ("span", "code"))

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def test_json_holds_the_rows_of_the_csv(card):
    text = as_json(several().assign(low=0.123456789))
    csv = pd.read_csv(StringIO(several().assign(low=0.123456789).to_csv(float_format="%.6g")))
    pd.testing.assert_frame_equal(
        pd.DataFrame(json.loads(text)).astype({"high": float}), csv[list(COLUMNS)]
    )


def test_undefined_numbers_are_null_and_not_the_word_nan():
    found = json.loads(as_json(one()), parse_constant=pytest.fail)
    assert [r["value"] for r in found if r["method"] == "mean"] == [None]
    assert found[0] == one().iloc[0].to_dict() | {"value": 0.912346}


def test_the_page_shows_each_main_figure_with_what_it_cost(card):
    made = Rows(as_html(one(), card))
    header, *rows = made.rows
    assert header[2:] == [
        *("method", "value", "95 % interval", "seconds", "parameters", "made again by")
    ]
    assert [r[2].removesuffix("best other") for r in rows] == [*FIGURES, "mean"]
    assert rows[0] == [
        *("a", "trial", "neurofmx", "0.912", "[0.900, 0.920]", "1.5", "1,234", COMMAND)
    ]
    assert rows[-1][3] == "undefined"
    assert {row[2]: kind for row, kind in zip(rows, made.classes[1:], strict=True) if kind} == {
        "neurofmx": "ours",
        "ridgebest other": "best",
    }


def test_names_of_a_card_do_not_break_the_page(card):
    page = as_html(several(), card)
    assert f"{html.escape(AWKWARD)}: r2</h2>" in page.replace("&#34;", "&quot;")
    assert "<b>" not in page
    assert "b_&_<c>" in [row[0] for row in Rows(page).rows if row]


def test_a_mean_is_called_one_and_every_section_has_its_own_best(card):
    found = Rows(as_html(several(), card))
    places = list(dict.fromkeys(row[0] for row in found.rows if row[0] != "recording"))
    assert places == ["a", "b_&_<c>", "mean of 2"]
    best = [row[2] for row, kind in zip(found.rows, found.classes, strict=True) if kind == "best"]
    assert best == ["ridgebest other"] * 3 + ["grubest other"]  # of angles less is better


def test_synthetic_data_are_called_so(card):
    synthetic = made_card(synthetic=True)
    for make in (as_html, as_latex):
        assert "SYNTHETIC" in make(one(), synthetic)
        assert "SYNTHETIC" not in make(one(), card)


def test_the_tabular_of_one_recording_has_its_interval(card):
    text = as_latex(one(), card)
    assert r"\textbf{neurofmx} & trial & 1 & \textbf{0.912 [0.900, 0.920]} \\" in text
    assert r"\underline{ridge} & trial & 1 & \underline{0.850} \\" in text
    assert r"mean & trial & 1 & undefined \\" in text


def test_the_tabular_of_several_has_their_median_and_range(card):
    text = as_latex(several(), card)
    assert r"\textbf{neurofmx} & trial & 2 & \textbf{0.922 (0.912 to 0.932)} \\" in text
    assert r"\underline{gru} & trial & 1 & \underline{0.800} \\" in text  # of angles
    assert r"circular\_error \\" in text


def test_every_row_of_a_tabular_stands_under_its_command(card):
    lines = as_latex(several(), card).splitlines()
    rows = [i for i, line in enumerate(lines) if line.endswith(r"\\") and "held out" not in line]
    assert len(rows) == 2 * len(FIGURES)
    assert {lines[i - 1] for i in rows} == {f"% {COMMAND}"}
    assert lines.count(r"\begin{tabular}{llrr}") == lines.count(r"\end{tabular}") == 2


def test_latex_has_no_bare_special_character_but_its_own(card):
    rows = several().replace({"method": {"gru": AWKWARD}})
    lines = [line for line in as_latex(rows, card).splitlines() if not line.startswith("%")]
    cells = [line for line in lines if r"textless" in line]
    assert len(cells) == 2
    for line in cells:
        bare = (
            re.sub(r"\\[a-z]+(\{\})?|\\[&%$#_{}]|\\\\$", "", line).replace("}", "").replace("{", "")
        )
        assert bare.count("&") == 3
        assert not set("%$#_~^<>\\") & set(bare)
    assert r"speed\_of \textless{}b\textgreater{}\&\%\$\#\{hand\}\textasciitilde{}" in cells[0]


def test_best_is_of_the_methods_that_are_neither_ours_nor_controls():
    figures = pd.Series(FIGURES)
    assert best_other(figures, "r2") == "ridge"
    assert best_other(figures, "circular_error") == "gru"
    assert best_other(figures, "bits_per_spike") == "ridge"
    assert best_other(figures[["neurofmx", "probe"]], "r2") is None


def test_what_is_shown_after_a_run_follows_the_same_rules():
    assert pages.CONTROLS == project.CONTROLS
    assert set(pages.SHOWN) == set(project.MAIN)
