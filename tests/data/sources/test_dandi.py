import hashlib
import json

import pytest
from archive import DANDISET, PUBLISHED, Fault, serve

from neurofmx.data import manifests, network
from neurofmx.data.cards import Card
from neurofmx.data.sources.dandi import DandiSource
from neurofmx.errors import TransientError, UserError

BYTES = hashlib.shake_256(b"recording").digest(300_000)
PATHS = ("sub-b/sub-b.nwb", "sub-a/sub-a.nwb", "sub-a/sub-a_probe.nwb")


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch):
    monkeypatch.setattr(network, "BACKOFF", 0.001)


@pytest.fixture
def archive():
    with serve() as archive:
        for k, path in enumerate(PATHS):
            archive.add(path, BYTES[k:])
        archive.add("dandiset.yaml", b"not a recording")
        for path in PATHS[:2]:
            archive.add(path, BYTES[10:], "0.230101.0000")
        archive.add(PATHS[0], BYTES, PUBLISHED)
        yield archive


def source(archive, **more):
    return DandiSource(dandiset=DANDISET, url=archive.url, **{"version": "draft", **more})


@pytest.fixture
def one(archive):
    """An asset, its source, and nothing in the log yet."""
    found = source(archive)
    asset = next(a for a in found.resolve().assets if a.path == PATHS[0])
    archive.log.clear()
    return found, asset


def test_the_default_is_the_public_archive_that_the_client_knows():
    assert DandiSource(dandiset="000128").api == "https://api.dandiarchive.org/api"


def test_a_draft_is_pinned_by_asset_id_size_and_sha256_over_several_pages(archive):
    found = source(archive).resolve()

    assert found.version == "draft"
    assert [asset.path for asset in found.assets] == list(PATHS)
    for asset, file in zip(found.assets, archive.versions["draft"], strict=False):
        assert (asset.asset_id, asset.size) == (file.asset_id, len(file.bytes))
        assert asset.sha256 == hashlib.sha256(file.bytes).hexdigest()


@pytest.mark.parametrize(
    ("version", "number", "n"),
    [("0.230101.0000", "0.230101.0000", 2), (PUBLISHED, PUBLISHED, 1), ("newest", PUBLISHED, 1)],
)
def test_a_published_version_is_named_by_its_number(archive, version, number, n):
    found = source(archive, version=version).resolve()

    assert (found.version, len(found.assets)) == (number, n)


def test_two_resolves_give_the_same_manifest_bytes(archive, tmp_path):
    card = Card(
        name="set",
        title="",
        licence="",
        source=source(archive),
        signals={"spikes": {"path": "units", "modality": "spikes"}},
        tasks={},
    )
    paths = []
    for k in range(2):
        paths.append(manifests.save_manifest(manifests.resolve(card), tmp_path / str(k)))
        archive.versions["draft"].reverse()

    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert [a["path"] for a in json.loads(paths[0].read_text())["assets"]] == sorted(PATHS)


def test_patterns_choose_files(archive):
    found = source(archive, include=["sub-a/*"], exclude=["*_probe.nwb"]).resolve()

    assert [asset.path for asset in found.assets] == ["sub-a/sub-a.nwb"]


def test_the_archive_may_be_busy_while_resolving(archive):
    archive.api_faults = [503, 502]

    assert len(source(archive).resolve().assets) == 3


def test_an_archive_that_does_not_answer_is_transient(archive, monkeypatch):
    monkeypatch.setattr("dandi.dandiapi.REQUEST_RETRIES", 1)  # else a minute
    nowhere = source(archive).model_copy(update={"url": "http://127.0.0.1:9/api"})
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9/api cannot be reached"):
        nowhere.resolve()


def test_an_unknown_dandiset_version_or_pattern_is_named(archive):
    with pytest.raises(UserError, match="dandiset 000001: No such Dandiset"):
        DandiSource(dandiset="000001", url=archive.url).resolve()
    with pytest.raises(UserError, match=r"No such version: '0\.1'"):
        source(archive, version="0.1").resolve()
    with pytest.raises(UserError, match=r"no file that matches '\*\.mat'; it has dandiset\.yaml"):
        source(archive, include=["*.mat"]).resolve()


def test_a_dandiset_without_a_published_version(archive):
    archive.versions = {"draft": archive.versions["draft"]}
    with pytest.raises(UserError, match="no published version; say `version: draft`"):
        source(archive, version="newest").resolve()


def test_a_file_without_sha256_cannot_be_pinned(archive):
    archive.add("new.nwb", b"", sha256="")
    with pytest.raises(UserError, match=r"new\.nwb has no sha256 in the archive yet"):
        source(archive).resolve()


def test_zarr_is_refused_unless_left_out(archive):
    archive.add("big.nwb.zarr", b"", zarr=True)
    with pytest.raises(UserError, match=r"big\.nwb\.zarr is a Zarr folder"):
        source(archive).resolve()

    assert len(source(archive, exclude=["*.zarr"]).resolve().assets) == 3


def test_a_download_lies_under_its_path_and_is_not_repeated(archive, one, tmp_path):
    found, asset = one
    path = found.fetch(asset, tmp_path)

    assert path == tmp_path / PATHS[0]
    assert path.read_bytes() == BYTES
    assert archive.ranges() == [""]
    assert found.fetch(asset, tmp_path) == path
    assert archive.ranges() == [""]


def test_a_dropped_connection_goes_on_where_it_broke(archive, one, tmp_path):
    found, asset = one
    archive.faults = [Fault("drop", 100_000)]

    assert found.fetch(asset, tmp_path).read_bytes() == BYTES
    assert archive.ranges() == ["", "bytes=100000-"]


def test_a_later_call_goes_on_with_what_an_earlier_one_left(archive, one, tmp_path, monkeypatch):
    found, asset = one
    monkeypatch.setattr(network, "ATTEMPTS", 1)
    archive.faults = [Fault("drop", 100_000), Fault("drop", 0)]
    with pytest.raises(TransientError, match=r"broke 1 times after 100000 of 300000 bytes"):
        found.fetch(asset, tmp_path)
    archive.log.clear()

    assert found.fetch(asset, tmp_path).read_bytes() == BYTES
    assert archive.ranges() == ["bytes=100000-"]
    assert not list(tmp_path.rglob("*.part"))


def test_a_busy_server_is_asked_again(archive, one, tmp_path):
    found, asset = one
    archive.faults = [Fault("status", 503, times=3)]

    assert found.fetch(asset, tmp_path).read_bytes() == BYTES
    assert len(archive.ranges()) == 4


def test_a_server_that_stays_busy_is_transient(archive, one, tmp_path):
    found, asset = one
    archive.faults = [Fault("status", 503, times=100)]
    with pytest.raises(TransientError, match=r"sub-b/sub-b\.nwb: .* cannot be reached"):
        found.fetch(asset, tmp_path)


def test_many_short_bodies_are_put_together(archive, one, tmp_path):
    found, asset = one
    archive.faults = [Fault("short", 40_000, times=7)]

    assert found.fetch(asset, tmp_path).read_bytes() == BYTES
    assert archive.ranges()[1:] == [f"bytes={k * 40_000}-" for k in range(1, 8)]


def test_a_flipped_bit_is_fetched_again(archive, one, tmp_path):
    found, asset = one
    archive.faults = [Fault("flip", 1000)]

    assert found.fetch(asset, tmp_path).read_bytes() == BYTES
    assert archive.ranges() == ["", ""]


def test_bytes_that_stay_wrong_are_refused_and_not_kept(archive, one, tmp_path):
    found, asset = one
    archive.faults = [Fault("flip", 1000, times=100)]
    wrong = bytearray(BYTES)
    wrong[1000] ^= 1
    got = hashlib.sha256(wrong).hexdigest()
    with pytest.raises(UserError, match=rf"sub-b\.nwb: .* {got}, .* manifest has {asset.sha256}"):
        found.fetch(asset, tmp_path)

    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_that_was_changed_here_is_fetched_again(archive, one, tmp_path):
    found, asset = one
    path = found.fetch(asset, tmp_path)
    path.write_bytes(bytes(len(BYTES)))

    assert found.fetch(asset, tmp_path).read_bytes() == BYTES


def test_a_vanished_asset_is_named(archive, one, tmp_path):
    found, asset = one
    archive.remove(archive.file(asset.asset_id))
    with pytest.raises(UserError, match=rf"sub-b\.nwb has vanished .*{asset.asset_id}.* resolve"):
        found.fetch(asset, tmp_path)
    with pytest.raises(UserError, match=r"sub-b\.nwb has vanished"):
        found.fetch(asset, tmp_path, "remfile").open()


def test_an_asset_with_other_bytes_is_named(archive, one, tmp_path):
    found, asset = one
    archive.file(asset.asset_id).bytes = BYTES + b"more"
    with pytest.raises(UserError, match=r"sub-b\.nwb has changed .* has 300004 bytes.* 300000"):
        found.fetch(asset, tmp_path)
    with pytest.raises(UserError, match=r"sub-b\.nwb has changed"):
        found.fetch(asset, tmp_path, "fsspec").open()


def test_a_shorter_asset_is_named_when_a_download_goes_on(archive, one, tmp_path):
    found, asset = one
    (tmp_path / "sub-b").mkdir()
    (tmp_path / f"{PATHS[0]}.part").write_bytes(BYTES[:2000])
    archive.file(asset.asset_id).bytes = BYTES[:1000]
    with pytest.raises(UserError, match=r"sub-b\.nwb has changed .* no byte 2000"):
        found.fetch(asset, tmp_path)


def test_a_refusal_is_not_repeated(archive, one, tmp_path):
    found, asset = one
    archive.faults = [Fault("status", 403, times=100)]
    with pytest.raises(UserError, match="answers 403"):
        found.fetch(asset, tmp_path)

    assert len(archive.ranges()) == 1
