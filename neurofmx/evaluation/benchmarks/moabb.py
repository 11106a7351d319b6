"""MOABB: our classifier beside CSP and LDA, by MOABB's own evaluations.

Source: Jayaram & Barachant 2018, MOABB, doi:10.1088/1741-2552/aadea0; CSP, Blankertz et al. 2008,
doi:10.1109/MSP.2008.4408441.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import Pipeline, make_pipeline

from neurofmx.errors import UserError
from neurofmx.evaluation.benchmarks import extra
from neurofmx.evaluation.benchmarks.classifier import NeuroFMXClassifier

EVALUATIONS = {
    "within": "WithinSessionEvaluation",
    "sessions": "CrossSessionEvaluation",
    "subjects": "CrossSubjectEvaluation",
}


def csp_lda() -> Pipeline:
    """Common spatial patterns and a linear discriminant: the usual baseline of motor imagery.

    Source: Blankertz et al. 2008, doi:10.1109/MSP.2008.4408441; as in MOABB's pipelines.
    """
    covariances = extra("pyriemann.estimation").Covariances(estimator="oas")
    csp = extra("pyriemann.spatialfilters").CSP(nfilter=8)
    return make_pipeline(
        covariances, csp, LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    )


def evaluate(
    paradigm: Any,
    datasets: Sequence[Any],
    pipelines: dict[str, Any],
    evaluation: str = "within",
    folder: Path | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Scores of pipelines by MOABB's own evaluation: a row per data set, subject and session.

    Args:
        paradigm: Of `moabb.paradigms`.
        datasets: Of `moabb.datasets`; they load themselves.
        evaluation: Row of `EVALUATIONS`: what is held out.
        folder: Where MOABB keeps what it has scored; None: in its own.
    """
    kinds = extra("moabb.evaluations")
    made = getattr(kinds, EVALUATIONS[evaluation])(
        paradigm=paradigm,
        datasets=list(datasets),
        random_state=seed,
        overwrite=True,
        hdf5_path=None if folder is None else str(folder),
    )
    return made.process(pipelines)


def compare(
    datasets: Sequence[str],
    paradigm: str,
    rate: float,
    evaluation: str,
    model: Path | None,
    subjects: int | None,
    out: Path,
) -> pd.DataFrame:
    """Our classifier and CSP + LDA on data sets that MOABB loads; also written to `results.csv`.

    Args:
        datasets, paradigm: Their names in MOABB.
        rate: That trials are resampled to (Hz).
        evaluation: Row of `EVALUATIONS`.
        model: Folder of a pretrained model; None: from scratch.
        subjects: First so many of each; None: all.

    Raises:
        UserError: There is nothing of such a name.
    """
    if evaluation not in EVALUATIONS:
        raise UserError(f"evaluation {evaluation!r}: choose from {', '.join(EVALUATIONS)}")
    made = [named("datasets", name)() for name in datasets]
    for each in made:
        each.subject_list = each.subject_list[:subjects]
    ours = make_pipeline(NeuroFMXClassifier(rate, None if model is None else str(model)))
    out.mkdir(parents=True, exist_ok=True)
    table = evaluate(
        named("paradigms", paradigm)(resample=rate),
        made,
        {"neurofmx": ours, "csp+lda": csp_lda()},
        evaluation,
        out,
    )
    table.to_csv(out / "results.csv", index=False)
    return table


def named(module: str, name: str) -> Any:
    """Something that `moabb.paradigms` or `moabb.datasets` has by that name, to be called.

    Raises:
        UserError: It has nothing of that name.
    """
    found = extra(f"moabb.{module}")
    if not isinstance(getattr(found, name, None), type):
        near = [n for n in dir(found) if n.lower().startswith(name[:3].lower())]
        raise UserError(
            f"moabb.{module} has no {name!r}; "
            f"{'near are ' + ', '.join(near) if near else 'see moabb.neurotechx.com'}"
        )
    return getattr(found, name)
