"""Writing files atomically, model files, and export to ONNX."""
