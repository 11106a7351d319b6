"""A session in ALF, as IBL's rigs and pipelines write one, from the real trials of a fixture."""

from pathlib import Path

import numpy as np
import pandas as pd

SESSION = "churchlandlab/Subjects/CSHL046/2020-06-20/002"
COLUMNS = ["stimOn_times", "goCue_times", "feedback_times", "probabilityLeft", "choice"]
SPIKES = np.array([0.5, 1.25, 1.5, 2.0, 3.75])  # s
CLUSTERS = np.array([2, 0, 2, 2, 0])  # cluster 1 is silent


def real_trials(shared_data: Path, n: int = 50) -> pd.DataFrame:
    """Trials with the start and stop that ALF needs: from stimulus to a second after feedback."""
    table = pd.read_csv(shared_data / "other/ibl_fixtures/trials_df_test.csv")[COLUMNS].iloc[:n]
    stop = table["feedback_times"] + 1.0
    return table.assign(intervals_0=table["stimOn_times"], intervals_1=stop)


def write_session(root: Path, trials: pd.DataFrame) -> Path:
    """Trials, wheel, licks, pose and sorted spikes of one probe under `root`."""
    folder = root / SESSION / "alf"
    probe = folder / "probe00" / "pykilosort"
    probe.mkdir(parents=True)
    trials.to_parquet(folder / "_ibl_trials.table.pqt")
    np.save(folder / "_ibl_wheel.timestamps.npy", np.array([[0, 1.0], [4, 3.0]]))
    np.save(folder / "_ibl_wheel.position.npy", np.array([0.0, 0.1, 0.2, 0.3, 0.4]))
    np.save(folder / "licks.times.npy", np.array([1.0, 2.0, 4.0]))
    np.save(folder / "_ibl_leftCamera.times.npy", np.array([0.0, 0.02, 0.05]))
    pose = {"paw_l_x": [1.0, 2.0, 3.0], "paw_l_y": [4.0, 5.0, 6.0]}
    pd.DataFrame(pose | {"paw_l_likelihood": [1.0, 0.5, 0.95]}).to_parquet(
        folder / "_ibl_leftCamera.dlc.pqt"
    )
    np.save(probe / "spikes.times.npy", SPIKES)
    np.save(probe / "spikes.clusters.npy", CLUSTERS)
    np.save(probe / "spikes.amps.npy", np.full(5, 1e-4))
    np.save(probe / "clusters.channels.npy", np.array([1, 0, 1, 1]))
    np.save(probe / "channels.brainLocationIds_ccf_2017.npy", np.array([385, 672]))
    np.save(probe / "channels.localCoordinates.npy", np.zeros((2, 2)))
    metrics = {"cluster_id": [0, 2, 3], "label": [1.0, 0.5, 0.0]}
    pd.DataFrame(metrics).to_parquet(probe / "clusters.metrics.pqt")
    return folder.parent
