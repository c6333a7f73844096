"""From a student to a smaller one, in torch: norms folded, channels pruned, weights trained."""
