"""ONNX file of a generator that was trained elsewhere -> Source of a bundle that draws what the file draws."""
