"""What int8 costs in accuracy, and what fine-tuning with roundings gives back."""
