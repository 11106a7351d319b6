"""Clocks and sampling: arrays in, arrays out; no files, no torch."""
