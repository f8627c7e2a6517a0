"""From a model file to ONNX that is proven to answer as its source did."""
