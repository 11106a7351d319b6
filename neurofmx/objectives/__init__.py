"""What the model is trained for; each objective is a mean over what it may ask."""

from neurofmx.objectives.base import Objective
from neurofmx.objectives.behaviour import ContrastiveBehaviour
from neurofmx.objectives.codes import Codes
from neurofmx.objectives.contrastive import Contrastive, ContrastiveThree, ContrastiveTime
from neurofmx.objectives.crossing import Crossing, Decoding, Encoding
from neurofmx.objectives.decode import Decode
from neurofmx.objectives.diffusion import Diffusion
from neurofmx.objectives.distill import Distill
from neurofmx.objectives.domains import MMD, Adversarial, Confusion
from neurofmx.objectives.forecast import Forecast
from neurofmx.objectives.masked import Masked, MaskedForward, MaskedTime, MaskedUnit
from neurofmx.objectives.masked_channels import MaskedAdaptive, MaskedInRegion, MaskedRegion

OBJECTIVES: dict[str, type[Objective]] = {
    "decode": Decode,
    "masked": Masked,
    "masked_time": MaskedTime,
    "masked_unit": MaskedUnit,
    "masked_region": MaskedRegion,
    "masked_in_region": MaskedInRegion,
    "masked_forward": MaskedForward,
    "masked_adaptive": MaskedAdaptive,
    "encoding": Encoding,
    "decoding": Decoding,
    "crossing": Crossing,
    "codes": Codes,
    "forecast": Forecast,
    "contrastive": Contrastive,
    "contrastive_time": ContrastiveTime,
    "contrastive_behaviour": ContrastiveBehaviour,
    "contrastive_three": ContrastiveThree,
    "adversarial": Adversarial,
    "confusion": Confusion,
    "mmd": MMD,
    "distill": Distill,
    "diffusion": Diffusion,
}

__all__ = ["OBJECTIVES", "Objective"]
