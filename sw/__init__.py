"""The network: models, data, training, quantization, compiler, runtime and gated inference."""
