"""Images: Fashion-MNIST, image folders, pixels."""
