"""The machine: configuration, number formats, descriptors, components, boards and build."""
