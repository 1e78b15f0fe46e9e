"""Copies an experiment of a store into the loggers that people have: TensorBoard, MLflow, Weights & Biases, CSV."""
