"""Watching a run: TensorBoard, terminal progress, pictures and the final report."""
