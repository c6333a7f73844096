"""Audits of a finished run: attacks that measure what epsilon only promises.

Read scratch (the federation that is attacked), one_run, checks and least_epsilon (the statistics),
canaries, membership and inversion (the attacks), then attacks, which runs them.
"""
