"""The networks that there are: names, timm, LV-ViT, random weights, checkpoints."""
