"""What needs PyTorch or TensorFlow: run in an environment of its own, which has both."""
