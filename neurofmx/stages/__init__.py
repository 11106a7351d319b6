"""The ten stages; each has one name: here, in dvc.yaml and params.yaml, as command, on disk."""

STAGES = (
    "ingest",
    "validate",
    "align",
    "tokenize",
    "pretrain",
    "adapt",
    "online",
    "evaluate",
    "interpret",
    "report",
)
