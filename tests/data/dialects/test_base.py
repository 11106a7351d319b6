"""Which files are one recording."""

import pytest
from dialects.ibl import EID
from reads import card_of

from neurofmx.data.dialects import DIALECTS
from neurofmx.data.reading import by_recording
from neurofmx.data.sources.base import Asset

IBL_FILES = [
    f"sub-A/sub-A_ses-{EID}_desc-processed_behavior+ecephys.nwb",
    f"sub-A/sub-A_ses-{EID}_desc-raw_ecephys.nwb",
    f"sub-A/sub-A_ses-{EID}-processed-only_behavior.nwb",
    f"sub-A/sub-A_ses-{EID}_behavior+ecephys+image.nwb",
]


@pytest.mark.parametrize(
    ("there", "kept"), [([0, 1, 2, 3], [0, 1]), ([2, 3], [3]), ([2], [2]), ([1, 3], [1])]
)
def test_of_two_layouts_of_an_ibl_session_the_newer_is_read(there, kept):
    files = by_recording(card_of("ibl"), [Asset(path=IBL_FILES[k]) for k in there])

    assert {name: [a.path for a in found] for name, found in files.items()} == {
        EID: [IBL_FILES[k] for k in kept]
    }


def test_probes_of_an_allen_session_belong_to_it():
    paths = [
        "sub-1/sub-1_ses-2.nwb",
        "sub-1/sub-1_ses-2_probe-3_ecephys.nwb",
        "sub-1/sub-1_ses-20.nwb",
    ]
    files = by_recording(card_of("allen"), [Asset(path=path) for path in paths])

    assert {name: len(found) for name, found in files.items()} == {
        "sub-1_ses-2": 2,
        "sub-1_ses-20": 1,
    }


def test_a_name_that_is_not_the_archives_stands_for_itself():
    assert DIALECTS["allen"].recording("folder/mouse 7.nwb") == "mouse_7"
