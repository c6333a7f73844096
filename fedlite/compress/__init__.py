"""Pruning, quantizing, exporting, measuring and shipping a student; free of imports on purpose."""
