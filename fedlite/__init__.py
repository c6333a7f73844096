"""fedlite: private federated distillation of a shared teacher into a small student that ships."""

__version__ = "0.1.0"
