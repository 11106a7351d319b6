import pytest
from archive import serve
from pydantic import ValidationError

from neurofmx.data import manifests
from neurofmx.data.cards import Card
from neurofmx.data.sources.allen import AllenSource

SESSION = "sub-699733573/sub-699733573_ses-715093703.nwb"
PROBES = [
    f"sub-699733573/sub-699733573_ses-715093703_probe-{probe}_ecephys.nwb"
    for probe in (810755797, 810755799)
]


@pytest.fixture
def archive(monkeypatch):
    monkeypatch.setattr("archive.DANDISET", "000021")
    with serve() as archive:
        for path in (*PROBES, SESSION):
            archive.add(path, path.encode())
        yield archive


def resolved(archive, **more):
    source = AllenSource(dandiset="000021", version="draft", url=archive.url, **more)
    signals = {"spikes": {"path": "units", "modality": "spikes"}}
    card = Card(name="x", title="", licence="", source=source, signals=signals, tasks={})
    return [asset.path for asset in manifests.resolve(card).assets]


def test_the_session_comes_before_its_probes(archive):
    assert resolved(archive, lfp=True) == [SESSION, *PROBES]


def test_without_lfp_the_probes_stay_away(archive):
    assert resolved(archive) == [SESSION]


def test_only_the_institute_s_dandisets():
    with pytest.raises(ValidationError, match="'000021', '000022' or '000713'"):
        AllenSource(dandiset="000128")
