from itertools import islice

import av
import h5py
import numpy as np
import pytest
from dialects.base import new_file, save
from pynwb import NWBHDF5IO
from pynwb.image import ImageSeries
from reads import opened, read_one

from neurofmx.data.readers.video import Film, areas, frames_of, read_video
from neurofmx.data.signal_cards import SignalCard
from neurofmx.errors import DataError


def film(path, n=30, height=16, width=24, first=0):
    """A lossless grey video whose frame k holds k in its left half and k + 100 in its right."""
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.height, stream.width, stream.pix_fmt = height, width, "gray"
        for k in range(first, first + n):
            frame = np.full((height, width), k, np.uint8)
            frame[:, width // 2 :] += 100
            picture = av.VideoFrame.from_ndarray(frame, format="gray")
            picture.pts = k - first
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def external(folder, *names, **more):
    """An NWB file with a video beside it."""
    nwb, more = new_file(), {"starting_frame": [0], "unit": "n.a."} | more
    if "timestamps" not in more:
        more = {"rate": 30.0, "num_samples": 30} | more
    series = ImageSeries(name="camera", external_file=list(names), format="external", **more)
    nwb.add_acquisition(series)
    return save(nwb, folder / "a.nwb")


def seen(path, size=(2, 2)):
    return read_one(path, "acquisition/camera", "video", size=size)


# Frames in the file


def test_a_frame_is_the_mean_over_areas(tmp_path):
    frames = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    nwb = new_file()
    nwb.add_acquisition(ImageSeries(name="camera", data=frames, unit="n.a.", rate=10.0))
    signal = seen(save(nwb, tmp_path / "a.nwb"))

    # the means of 0 1 4 5, of 2 3 6 7, of 8 9 12 13 and of 10 11 14 15
    np.testing.assert_allclose(signal.values, [[2.5, 4.5, 10.5, 12.5]])
    assert signal.channels["row"].tolist() == [0, 0, 1, 1]
    assert signal.channels["column"].tolist() == [0, 1, 0, 1]
    assert (signal.rate, signal.unit) == (10.0, "1")


def test_pixels_that_two_cells_share_count_for_both():
    # 3 pixels over 2 cells: the middle one is halved.
    np.testing.assert_allclose(areas(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])


def test_small_frames_stay_as_they_are(tmp_path):
    frames = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    nwb = new_file()
    nwb.add_acquisition(ImageSeries(name="camera", data=frames, unit="n.a.", rate=10.0))
    signal = seen(save(nwb, tmp_path / "a.nwb"), size=(32, 32))

    np.testing.assert_array_equal(signal.values, frames.reshape(4, 6))
    assert signal.values.dtype == np.uint8


def test_colours_become_grey_as_the_eye_weighs_them(tmp_path):
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    for k in range(3):
        frames[k, ..., k] = 100  # red, green, blue
    nwb = new_file()
    nwb.add_acquisition(ImageSeries(name="camera", data=frames, unit="n.a.", rate=10.0))
    signal = seen(save(nwb, tmp_path / "a.nwb"), size=(1, 1))

    assert signal.values[:, 0].tolist() == [30, 59, 11]


def test_volumes_are_no_video(tmp_path):
    nwb = new_file()
    volumes = np.zeros((3, 2, 2, 5), np.uint8)
    nwb.add_acquisition(ImageSeries(name="camera", data=volumes, unit="n.a.", rate=10.0))
    with pytest.raises(DataError, match=r"shape \(3, 2, 2, 5\)"):
        seen(save(nwb, tmp_path / "a.nwb"))


# Frames in a file beside it


def test_frames_of_a_video_file_have_the_times_of_the_series(tmp_path):
    film(tmp_path / "a.avi")
    times = 5.0 + np.cumsum(np.tile([0.03, 0.04], 15))
    signal = seen(external(tmp_path, "a.avi", timestamps=times))

    k = np.arange(30)
    np.testing.assert_array_equal(signal.values, np.stack([k, k + 100, k, k + 100], axis=1))
    np.testing.assert_array_equal(signal.times, times)


def test_reading_back_and_forth_gives_what_reading_on_gives(tmp_path):
    film(tmp_path / "a.avi")
    with opened(
        external(tmp_path, "a.avi"), x={"path": "acquisition/camera", "modality": "video"}
    ) as recording:
        values = recording.signals["x"].values
        later, earlier = values[20:25], values[3:5]
        assert (later[0, 0], earlier[0, 0]) == (20, 3)
        np.testing.assert_array_equal(np.r_[values[:10], values[10:30]], values[:30])


def test_several_files_are_one_video(tmp_path):
    film(tmp_path / "a.avi", n=10)
    film(tmp_path / "b.avi", n=20, first=10)
    signal = seen(external(tmp_path, "a.avi", "b.avi", starting_frame=[0, 10]))

    assert signal.values[:, 0].tolist() == list(range(30))


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        (["a.avi", "b.avi"], {"starting_frame": [0, 12]}, r"\[0, 12\], .* have \[10, 20\] frames"),
        (["a.avi"], {"timestamps": np.arange(9.0)}, "10 samples but 9 timestamps"),
        (["a.avi"], {"num_samples": 12}, "num_samples is 12, but the video files have 10 frames"),
        (["none.avi"], {}, r"video none\.avi is not there; fetch it"),
        (["cut.avi"], {}, r"cut\.avi cannot be read as video"),
        (["a.avi", "small.avi"], {"starting_frame": [0, 10]}, "differ in size"),
    ],
)
def test_videos_that_are_not_what_the_series_says(tmp_path, names, more, message):
    film(tmp_path / "a.avi", n=10)
    film(tmp_path / "b.avi", n=20, first=10)
    film(tmp_path / "small.avi", n=5, width=8)
    (tmp_path / "cut.avi").write_bytes(b"RIFF....")
    with pytest.raises(DataError, match=message):
        seen(external(tmp_path, *names, **more))


def test_a_frame_that_cannot_be_decoded_is_named(tmp_path):
    path = film(tmp_path / "a.avi")
    whole = Film([path], (2, 2))
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])  # after its frames were counted
    with pytest.raises(DataError, match=r"a\.avi: frame \d+ of 30 cannot be decoded"):
        whole[:30]


def test_a_video_beside_a_streamed_file_has_to_be_downloaded(tmp_path):
    film(tmp_path / "a.avi")
    card = SignalCard(path="acquisition/camera", modality="video")
    with h5py.File(external(tmp_path, "a.avi")) as file:
        series = NWBHDF5IO(file=file, mode="r").read().acquisition["camera"]
        with pytest.raises(DataError, match=r"a\.avi, beside an NWB file that is streamed"):
            read_video(series, card.path, card, None)


def test_a_real_video_is_read_frame_for_frame(shared_data):
    path = shared_data / "other" / "pose_video" / "m3v1mp4.mp4"
    times, shape = frames_of(path)
    assert (len(times), shape) == (2330, (480, 640))
    assert np.diff(times) == pytest.approx(np.full(2329, 0.033333), abs=2e-6)

    values = Film([path], (4, 5))[100:103]
    with av.open(path) as container:
        frame = next(islice(container.decode(video=0), 101, None)).to_ndarray(format="gray")
    blocks = frame.reshape(4, 120, 5, 128).mean(axis=(1, 3))
    np.testing.assert_allclose(values[1], blocks.ravel(), atol=0.51)  # rounded
