"""Tests of pruning, quantizing, exporting, measuring and shipping."""
