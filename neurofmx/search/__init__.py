"""Search for parameters of pretraining: `space` says of which, each `trial` is a real training.

`run` lets Ray Tune choose and stop, `trials` keeps what came of each, `picture` draws it.
"""
