"""Fitting the model: engines, the loop, and running what was fitted over windows."""
