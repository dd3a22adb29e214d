"""Writes files atomically, saves and loads model files, and exports models to ONNX."""
