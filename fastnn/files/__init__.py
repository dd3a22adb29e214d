"""Files: written aside and renamed; models; ONNX."""
