"""From float to integers: calibration, quantization, quantization-aware training, noise."""
