"""Searching compression options, students and a federation's options, on public data only."""
