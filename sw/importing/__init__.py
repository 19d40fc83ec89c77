"""Networks from torch modules, by their operations: `import_network`."""

from sw.importing.walk import import_network

__all__ = ["import_network"]
