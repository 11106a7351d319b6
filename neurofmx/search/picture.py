"""A search drawn: what each key does to the valid loss, and every trial's way there."""

from pathlib import Path

from plotly.subplots import make_subplots

from neurofmx.interpretability.figures import COLOURS, LAYOUT
from neurofmx.search.space import text
from neurofmx.search.trials import Trials

STATES = {"finished": COLOURS["neurofmx"], "stopped": COLOURS["ridge"]}
COLUMNS, ROW = 3, 280  # panels in a row, and its height (pixels)


def draw(trials: Trials, path: Path) -> None:
    """Write a page that holds all it needs.

    Args:
        trials: At least one is settled.
    """
    keys, best = trials.params.keys, trials.ranking[0]
    columns = min(COLUMNS, len(keys))
    rows = -(-len(keys) // columns) + 1
    specs: list[list[dict | None]] = [[{} for _ in range(columns)] for _ in range(rows - 1)]
    specs.append([{"colspan": columns}, *[None] * (columns - 1)])
    figure = make_subplots(rows, columns, specs=specs, shared_yaxes=True)
    for place, (key, spec) in enumerate(keys.items()):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        for state, colour in STATES.items():
            shown = [trial for trial in trials.ranking if trial.state == state]
            figure.add_scatter(
                x=[t.keys[key] if spec.choice is None else text(t.keys[key]) for t in shown],
                y=[trials.loss(t) for t in shown],
                text=[t.folder.name for t in shown],
                mode="markers",
                marker={"color": colour, "size": 9, "opacity": 0.8},
                name=state,
                legendgroup=state,
                showlegend=place == 0,
                **at,
            )
        kind = "log" if spec.log else "linear" if spec.choice is None else "category"
        order = [text(value) for value in spec.choice or ()]
        title = key.removeprefix("pretrain.")
        figure.update_xaxes(title=title, type=kind, categoryarray=order or None, **at)
    for trial in reversed(trials.ranking):  # the best comes last, on top
        steps, losses = zip(*trial.looks, strict=True)
        colour = STATES["finished"] if trial is best else COLOURS["truth"]
        figure.add_scatter(
            x=steps,
            y=losses,
            name=f"{trial.folder.name}, the best" if trial is best else trial.folder.name,
            line={"color": colour, "width": 3 if trial is best else 1},
            showlegend=trial is best,
            row=rows,
            col=1,
        )
    figure.update_xaxes(title="step", row=rows, col=1)
    figure.update_yaxes(title="valid loss", col=1)
    figure.update_layout(LAYOUT, height=ROW * rows)
    figure.write_html(path)
