"""Audits of a finished run: attacks that measure what epsilon only promises.

Read one_run (the statistics), then dirac, membership and inversion (the attacks), then stage.
"""
