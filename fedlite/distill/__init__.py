"""Distillation: its losses, the teacher, and training on public data."""
