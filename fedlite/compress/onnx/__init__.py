"""ONNX files: export from torch, quantization, and graphs that the runtime is fast with."""
