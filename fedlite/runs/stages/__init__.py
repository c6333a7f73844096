"""The stages of a run, one file each; :mod:`fedlite.runs.stages.table` puts them in order."""
