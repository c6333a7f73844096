"""Searching compression options and students: evolution by measurement, on public data only."""
