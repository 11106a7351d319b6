import pytest

from neurofmx.evaluation import LEVELS, Origin, level

MINE = Origin("day-2", "mouse-1", "Mus musculus", "here")
ITSELF = MINE
DAY_BEFORE = Origin("day-1", "mouse-1", "Mus musculus", "here")
COUSIN = Origin("day-3", "mouse-2", "Mus musculus", "here")
NAMESAKE = Origin("day-2", "mouse-1", "Mus musculus", "elsewhere")
MONKEY = Origin("day-2", "jenkins", "Macaca mulatta", "elsewhere")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([MONKEY, COUSIN, DAY_BEFORE, ITSELF], "trial"),
        ([MONKEY, COUSIN, DAY_BEFORE], "recording"),
        ([MONKEY, COUSIN], "animal"),
        ([NAMESAKE], "animal"),  # of another data set: another mouse, and another day-2
        ([MONKEY], "species"),
        ([], "species"),
    ],
)
def test_the_strongest_generalisation_that_holds(seen, expected):
    assert level(MINE, seen) == expected
    assert expected in LEVELS


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Origin("day-1", "unknown", "Mus musculus", "here"), "recording"),
        (Origin("day-1", "unknown", "unknown", "elsewhere"), "animal"),
        (Origin("day-1", "mouse-2", "unknown", "here"), "animal"),
    ],
)
def test_what_is_not_known_claims_no_more_than_is_sure(other, expected):
    assert level(MINE, [other]) == expected
