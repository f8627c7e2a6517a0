"""The agent's always-on process: state, supervision, wiring. No numpy, no onnxruntime."""
