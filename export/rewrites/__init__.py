"""Rules that rewrite subgraphs of ONNX exactly: what they compute stays, but for the order of sums."""
