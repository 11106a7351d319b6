"""Extensions that the archive's files use and this environment does not have."""

from functools import cache
from pathlib import Path

from pynwb import load_namespaces
from pynwb.spec import NWBDatasetSpec, NWBGroupSpec, NWBNamespaceBuilder


@cache
def layouts(folder: Path) -> None:
    """Types of ndx-ellipse-eye-tracking, ndx-events and ndx-anatomical-localization."""
    builder = NWBNamespaceBuilder("types of the archive's files", "test-layouts", version="0.1.0")
    builder.include_namespace("core")
    ellipse = [
        NWBDatasetSpec(name, "float", shape=(None,), name=name)
        for name in ("area", "width", "height", "angle")
    ]
    builder.add_spec(
        "test.extensions.yaml",
        NWBGroupSpec(
            "an ellipse over time",
            neurodata_type_def="EllipseSeries",
            neurodata_type_inc="SpatialSeries",
            datasets=ellipse,
        ),
    )
    parts = ["eye_tracking", "pupil_tracking", "corneal_reflection_tracking"]
    groups = [NWBGroupSpec(n, name=n, neurodata_type_inc="EllipseSeries") for n in parts]
    groups.append(NWBGroupSpec("blinks", name="likely_blink", neurodata_type_inc="TimeSeries"))
    types = {
        ("EllipseEyeTracking", "EyeTracking"): {"groups": groups},
        ("Events", "NWBDataInterface"): {
            "datasets": [
                NWBDatasetSpec("s", "float64", name="timestamps", shape=(None,)),
                NWBDatasetSpec("what they are", "text", name="description"),
            ]
        },
        ("AtlasTable", "DynamicTable"): {},
        ("Localization", "LabMetaData"): {
            "groups": [NWBGroupSpec("places", neurodata_type_inc="AtlasTable", quantity="*")]
        },
    }
    for (name, base), more in types.items():
        spec = NWBGroupSpec(name, neurodata_type_def=name, neurodata_type_inc=base, **more)
        builder.add_spec("test.extensions.yaml", spec)
    builder.export("test.namespace.yaml", outdir=str(folder))
    load_namespaces(str(folder / "test.namespace.yaml"))
