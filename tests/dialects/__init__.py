"""Small NWB files that are laid out as the data sets of the archive are, with real values in them.

Spikes, behaviour, trials and LFP are taken from the recordings that tests share; what a layout adds
(ids, regions, flags) is made up. Each function writes into a folder and returns the files.
"""
