"""Models of wavslm as ONNX graphs: `export` writes them, `runner` runs them without torch."""
