"""Networks for deployment: an ONNX graph, weights, and the source that they load into."""
