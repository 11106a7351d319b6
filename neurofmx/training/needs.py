"""What objectives need of a model, and of a teacher."""

from collections.abc import Collection

from neurofmx.errors import UserError
from neurofmx.models import NeuroFMX


def checked(
    teacher: NeuroFMX | None, model: NeuroFMX, objectives: Collection[str]
) -> NeuroFMX | None:
    """The teacher, if there is one, held still.

    Raises:
        UserError: The model or the teacher lacks what an objective needs.
    """
    needs = {
        "diffusion": (model.prior is not None, "model.prior ({} takes its defaults)"),
        "codes": (bool(model.config.model.codes), "model.codes (64, say)"),
    }
    domains = (len(model.config.domains) > 1, "two domains or more (pretrain.domain)")
    needs |= dict.fromkeys(("adversarial", "confusion", "mmd"), domains)
    for name in set(objectives) & set(needs):
        there, what = needs[name]
        if not there:
            raise UserError(
                f"the objective {name} needs {what}, which the model has not: give it, or give "
                "the objective the weight 0"
            )
    if (teacher is not None) != ("distill" in objectives):
        raise UserError(
            "the objective 'distill' and a teacher (pretrain.teacher) go together; give both "
            f"or neither: objectives were {', '.join(objectives)}"
        )
    if teacher is None:
        return None
    if teacher.vocabulary != model.vocabulary or teacher.tasks != model.tasks:
        raise UserError(
            "the teacher knows other channels or tasks than the model that it is to teach: "
            "pretrain it on the same windows (storage/tokenize) and recordings"
        )
    return teacher.eval().requires_grad_(False)
