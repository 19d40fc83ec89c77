"""Networks from torch modules, by their operations: `import_network`, and `ImportedGraph` where the parameters go on changing."""

from sw.importing.walk import ImportedGraph, import_network, module_image_shape

__all__ = ["ImportedGraph", "import_network", "module_image_shape"]
