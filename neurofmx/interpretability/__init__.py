"""What the model has learnt, each analysis beside a control and, where there is one, the truth."""

from neurofmx.interpretability.analyses import ANALYSES
from neurofmx.interpretability.study import Result, Study, StudyParams

__all__ = ["ANALYSES", "Result", "Study", "StudyParams"]
