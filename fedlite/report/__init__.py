"""Showing a run: words, charts, tables, TensorBoard, progress, the report and the model card."""
