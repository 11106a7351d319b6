import shutil
import sys
from pathlib import Path

import alyx
import numpy as np
import pytest
import yaml
from alf import SESSION, SPIKES, real_trials, write_session
from one import params
from one.alf.cache import make_parquet_db

from neurofmx.cli import files
from neurofmx.data import store
from neurofmx.data.digests import file_digest
from neurofmx.data.sources.ibl import IblSource
from neurofmx.errors import TransientError, UserError
from neurofmx.stages import ingest

TRIALS = f"{SESSION}/alf/_ibl_trials.table.pqt"
CARD = {
    "name": "x",
    "title": "x",
    "licence": "CC BY 4.0",
    "dialect": "alf",
    "signals": {
        "spikes": {"path": "alf/probe*/spikes", "modality": "spikes"},
        "wheel": {"path": "alf/wheel.position", "modality": "behavior"},
        "trials": {"path": "alf/trials", "modality": "trials"},
    },
    "tasks": {},
}


@pytest.fixture
def cache(tmp_path, shared_data):
    """ONE's cache folder with one session and its tables."""
    root = tmp_path / "one"
    write_session(root, real_trials(shared_data))
    make_parquet_db(root)
    return root


@pytest.fixture
def database(tmp_path, shared_data, monkeypatch):
    """A database with one session; ONE keeps its own settings in a home of the test's."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_session(tmp_path / "server", real_trials(shared_data))
    with alyx.serve(tmp_path / "server") as served:
        log_in(served.url)
        yield served


def log_in(url):
    """What `ONE.setup` asks a user for."""
    settings = params.default().set("ALYX_URL", url).set("HTTP_DATA_SERVER", f"{url}/data")
    settings = settings.set("ALYX_LOGIN", "somebody").set("TOKEN", {"somebody": {"token": "open"}})
    params.save(settings, url)


def remote(database, tmp_path, **more):
    (tmp_path / "one").mkdir(exist_ok=True)
    return IblSource(mode="remote", path=tmp_path / "one", base_url=database.url, **more)


def test_the_files_of_local_sessions_are_pinned(cache):
    assets = {asset.path: asset for asset in IblSource(path=cache).resolve().assets}

    assert len(assets) == 13
    assert assets[TRIALS].size == (cache / TRIALS).stat().st_size
    assert assets[TRIALS].sha256 == file_digest(cache / TRIALS)


def test_filters_and_patterns_choose(cache):
    chosen = IblSource(path=cache, subject="CSHL046", datasets=["*trials.table*"]).resolve()

    assert [asset.path for asset in chosen.assets] == [TRIALS]
    with pytest.raises(UserError, match=r"0 sessions for \{'subject': 'NYU-11'\}"):
        IblSource(path=cache, subject="NYU-11").resolve()
    with pytest.raises(UserError, match="none with a file that matches 'raw/"):
        IblSource(path=cache, datasets=["raw/*"]).resolve()


def test_only_the_last_revision_is_pinned(cache):
    later = cache / SESSION / "alf/#2024-05-06#/_ibl_trials.table.pqt"
    later.parent.mkdir()
    (cache / TRIALS).rename(later)
    earlier = cache / SESSION / "alf/#2023-01-01#/_ibl_trials.table.pqt"
    earlier.parent.mkdir()
    earlier.write_bytes(b"")
    make_parquet_db(cache)
    (asset,) = IblSource(path=cache, datasets=["*trials*"]).resolve().assets

    assert asset.path == later.relative_to(cache).as_posix()


def test_what_is_gone_or_changed_is_named(cache, tmp_path):
    source = IblSource(path=cache)
    asset = next(a for a in source.resolve().assets if a.path == TRIALS)
    (cache / TRIALS).write_bytes(b"other")
    with pytest.raises(UserError, match=r"trials\.table\.pqt has changed since it was resolved"):
        source.fetch(asset, tmp_path)
    (cache / TRIALS).unlink()
    with pytest.raises(UserError, match=r"trials\.table\.pqt does not exist, but the manifest"):
        source.fetch(asset, tmp_path)
    with pytest.raises(UserError, match=r"trials\.table\.pqt does not exist, but ONE's tables"):
        source.resolve()


def test_a_folder_without_tables_and_a_session_that_is_not_there(cache, tmp_path):
    with pytest.raises(UserError, match=r"has no sessions\.pqt; .* make_parquet_db"):
        IblSource(path=tmp_path).resolve()
    with pytest.raises(UserError, match="is not in"):
        IblSource(path=cache, eids=["00000000-0000-4000-8000-000000000000"]).resolve()


def test_without_one_the_extra_is_named(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "one.api", None)
    with pytest.raises(UserError, match=r'pip install "neurofmx\[ibl\]"'):
        IblSource(path=cache).resolve()


def test_a_session_becomes_one_recording(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("dataset: x\n")
    Path("datasets").mkdir()
    source = {"kind": "ibl", "path": "one"}
    Path("datasets/x.yaml").write_text(yaml.safe_dump(CARD | {"source": source}))
    files.resolve("x")
    ingest.run(ingest.Params(dataset="x", workers=1))
    recording = store.read(Path("storage/ingest/CSHL046_2020-06-20_002.zarr"))

    assert recording.subject == "CSHL046"
    np.testing.assert_array_equal(recording.signals["spikes"].times, SPIKES)
    assert len(recording.signals["trials"]) == 50
    assert recording.signals["wheel"].rate == 2.0


def test_remote_sessions_are_downloaded_and_pinned(database, tmp_path):
    source = remote(database, tmp_path, datasets=["*trials*", "*spikes.times*"])
    assets = source.resolve().assets

    assert len(assets) == 2
    for asset in assets:
        assert file_digest(tmp_path / "server" / asset.path) == asset.sha256
    database.log.clear()
    assert source.fetch(assets[0], tmp_path).exists()
    assert database.log == []


def test_a_remote_file_that_was_lost_here_is_fetched_again(database, tmp_path):
    source = remote(database, tmp_path, subject="CSHL046", datasets=["*trials*"])
    (asset,) = source.resolve().assets
    (tmp_path / "one" / asset.path).unlink()

    assert file_digest(source.fetch(asset, tmp_path)) == asset.sha256


def test_a_remote_file_that_is_gone_is_named(database, tmp_path):
    source = remote(database, tmp_path, datasets=["*trials*"])
    (asset,) = source.resolve().assets
    (tmp_path / "one" / asset.path).unlink()
    (tmp_path / "server" / asset.path).unlink()
    shutil.rmtree(tmp_path / "one" / ".rest")  # answers of the database that ONE keeps for minutes
    with pytest.raises(UserError, match=r"trials\.table\.pqt does not exist, but the manifest"):
        source.fetch(asset, tmp_path)


def test_a_remote_download_that_was_cut_off_is_transient_and_not_kept(database, tmp_path):
    source = remote(database, tmp_path, datasets=["*trials*"])
    database.cut = 100
    with pytest.raises(TransientError, match="other bytes came than the database has"):
        source.resolve()
    database.cut = 0

    assert len(source.resolve().assets) == 1


def test_a_database_that_does_not_answer_is_transient(database, tmp_path):
    nowhere = "http://127.0.0.1:9"
    log_in(nowhere)
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9 cannot be reached"):
        remote(database, tmp_path).model_copy(update={"base_url": nowhere}).resolve()
