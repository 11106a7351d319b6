"""The nine stages. A stage has one name: here, in dvc.yaml, in params.yaml, as a command, on disk."""

STAGES = (
    "ingest",
    "validate",
    "align",
    "tokenize",
    "pretrain",
    "adapt",
    "evaluate",
    "interpret",
    "report",
)
