"""NeuroFM-X: from a lab's recordings to a foundation model, versioned end to end."""

__version__ = "0.1.0"
